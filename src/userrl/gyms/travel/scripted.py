"""Travel without a model: user, judge, expert and the agents without skill.

User and judge go by the words of `listening`. The expert knows the bank of preferences and how tasks are made; what it
knows of the task at hand it has read in the request and in the feedback.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.errors import DataError
from userrl.gyms.travel import (
    ANSWER,
    NOTHING_LEFT,
    SEARCH,
    SEARCH_DOWN,
    TALK,
    TOO_VAGUE,
    VOLUNTEERED,
    Match,
    Talk,
    Words,
    spoken,
)
from userrl.gyms.travel.hidden import ASPECTS
from userrl.gyms.travel.listening import ASPECT_WORDS, MAX_TOPICS, NUMBERS, aspects_in, hear, is_general, matching, plain
from userrl.gyms.travel.options import LETTERS, check_option, cost
from userrl.gyms.travel.preferences import Preference, bank, categories, recognize
from userrl.gyms.travel.stories import content
from userrl.scripted import Acting, Scripted

UNSURE = "Hmm, I am not sure. Let me think; please ask me again."
SMALL_TALK = "I am looking forward to this trip. Please go on."
LEADS = ("Good that you ask.", "Well, how shall I put it?", "Let me tell you.", "There is something, yes.")
BY_THE_WAY = "By the way, before I forget it:"


# --- user and judge --------------------------------------------------------------------------------------------------


def cast(trait: str) -> Cast:
    user = Scripted({"travel.reveal": lambda query: reveal(query, trait), "travel.chat": lambda query: chat(query, trait)})
    judge = Scripted({"travel.search": match, "travel.talk": lambda query: talk(query, trait)})
    return Cast(user, judge)


def match(query: Query[Match]) -> Match:
    matches, aspect = matching(query.facts["request"], query.facts["requests"])
    return Match(matches=matches, aspect=aspect)  # type: ignore[arg-type]


def talk(query: Query[Talk], trait: str) -> Talk:
    """What sort of thing the agent said.

    A hesitant user is not ready for the first concrete question, so that this one does not count as asking.
    """
    facts = query.facts
    own = [(aspect, category) for aspect, category in facts["topics"]]
    verdict = sort_of(facts["question"], facts["aspects"], facts["preferences"], facts["said"])
    if trait == "hesitant" and verdict.kind == "asks" and not asked_before(facts["said"], facts["aspects"], own):
        return Talk(kind="other")
    return verdict


def sort_of(question: str, aspects: Sequence[str], open_ones: Sequence[Mapping[str, str]], said: Sequence[str]) -> Talk:
    """Asks: names a category of one aspect; of two, the first counts."""
    heard = hear(question, aspects, said, [(p["aspect"], p["category"]) for p in open_ones])
    if not heard.asks:
        return Talk(kind="other")
    if len(heard.topics) > MAX_TOPICS or len({aspect for aspect, _ in heard.topics}) > 1:
        return Talk(kind="vague")
    if heard.topics:
        of_it = [p["id"] for p in open_ones if (p["aspect"], p["category"]) == heard.topics[0]]
        return Talk(kind="asks", preference=of_it[0]) if of_it else Talk(kind="nothing_left")
    if heard.aspects and not set(heard.aspects) & set(aspects):
        return Talk(kind="nothing_left")
    return Talk(kind="vague" if is_general(question, heard) else "other")


def asked_before(said: Sequence[str], aspects: Sequence[str], own: Sequence[tuple[str, str]]) -> bool:
    """Whether there was a concrete question."""
    heard = (hear(text, aspects, said[:number], own) for number, text in enumerate(said))
    return any(h.asks and h.topics for h in heard)


def reveal(query: Query[Words], trait: str) -> Words:
    """The first of the phrasings that it is given; only a terse user says nothing beside it."""
    [hint, *_] = query.facts["examples"]
    if trait == "terse":
        return Words(words=hint)
    volunteered = query.facts["why"] == VOLUNTEERED
    lead = BY_THE_WAY if volunteered else LEADS[len(query.facts["said"]) % len(LEADS)]
    return Words(words=f"{lead} {hint}")


def chat(query: Query[Words], trait: str) -> Words:
    """Small talk. A hesitant user that was asked for something concrete says here that it is unsure."""
    own = [(aspect, category) for aspect, category in query.facts["topics"]]
    aspects = list(dict.fromkeys(aspect for aspect, _ in own))
    if trait == "hesitant" and asked_before([*query.facts["said"], query.facts["question"]], aspects, own):
        return Words(words=UNSURE)
    return Words(words="All right." if trait == "terse" else SMALL_TALK)


# --- what an agent can know ------------------------------------------------------------------------------------------

CORRECT = 4
"""Options of an aspect that are for the place and date of the trip and satisfy all preferences."""
PLACE_AND_DATE = ("city", "date", "check_in", "check_out", "pick_up", "drop_off")
SIZES = (2, 3, 4)
"""Numbers of preferences of an aspect."""


@dataclass
class Part:
    """What an agent has learnt about one aspect of the trip."""

    listed: str = ""
    """The feedback that listed its options; "" before."""
    told: frozenset[str] = frozenset()
    """Keys of the preferences that the user told of, as far as it was understood."""
    asked: frozenset[str] = frozenset()
    """Categories about which the user has no more to tell."""
    failed: int = 0
    """Searches that found nothing."""
    chosen: bool = False
    """Nothing more is to be done: an option was taken, or the trip does not have this aspect."""


def notes(episode: Episode) -> dict[str, Part]:
    """Aspect of the trip -> what the request and the feedback so far tell about it."""
    parts = {aspect: Part() for aspect in aspects_in(plain(episode.task.prompt))}
    said: list[str] = []
    for turn in episode.turns:
        kind, text, feedback = turn.action.kind, turn.action.text, turn.feedback
        if kind == SEARCH and (listed := listed_in(feedback)):
            parts.setdefault(listed[0], Part()).listed = feedback
        elif kind == SEARCH and feedback != SEARCH_DOWN:
            for aspect in aspects_in(plain(text))[:1]:
                parts.setdefault(aspect, Part()).failed += 1
        elif kind == ANSWER and (feedback.startswith(f"I take {text}.") or "do not need" in feedback):
            parts.setdefault(ASPECTS[text[0]], Part()).chosen = True
        elif kind == TALK:
            topics = hear(text, list(parts), said).topics[:1] if feedback not in (TOO_VAGUE, UNSURE) else ()
            told = recognize(feedback)
            if not told and feedback != NOTHING_LEFT:
                told = next((closest(feedback, *topic) for topic in topics), None)
            if told:
                parts.setdefault(told.aspect, Part()).told |= {told.key}
            for aspect, category in topics:
                parts[aspect].asked |= {category}
            said.append(text)
    return parts


def closest(words: str, aspect: str, category: str) -> Preference | None:
    """The preference of a category that shares most words with what the user said, of those that the others do not have."""
    own = [p for p in bank().values() if (p.aspect, p.category) == (aspect, category)]
    known = [set(plain(" ".join((p.text, *p.hints))).split()) for p in own]
    shared = [len(set(plain(words).split()).intersection(k.difference(*(o for o in known if o is not k)))) for k in known]
    best = max(shared, default=0)
    return own[shared.index(best)] if best and shared.count(best) == 1 else None


@lru_cache(maxsize=256)
def listed_in(feedback: str) -> tuple[str, tuple[Mapping[str, Any], ...]] | None:
    """The aspect and the options that a feedback lists; None where it lists none."""
    heading, *lines = feedback.split("\n")
    options = tuple(json.loads(line) for line in lines if line.startswith("{"))
    named = [aspect for aspect in ASPECTS.values() if f" {spoken(aspect)}s (" in heading]
    return (named[0], options) if named and options else None


def price(option: Mapping[str, Any]) -> float:
    """What an option costs; where that cannot be read, the length of its price class."""
    try:
        return cost(option)
    except (DataError, KeyError, TypeError, ValueError):
        return float(len(str(option.get("expectation", ""))))


@dataclass(frozen=True)
class Beliefs:
    """What the list and the talk leave possible for one aspect."""

    worth: Mapping[str, float]
    """Option id -> expected reward of answering with it."""
    gain: Mapping[str, float]
    """Category -> by how much asking for it would raise the best expected reward."""
    open: Mapping[str, float]
    """Category -> chance that the user has something to tell about it."""


@lru_cache(maxsize=256)
def beliefs(listed: str, told: frozenset[str], asked: frozenset[str]) -> Beliefs:
    """Beliefs over all sets of preferences, at most one of each category, that leave as many options as those of a task do."""
    found = listed_in(listed)
    assert found is not None
    aspect, options = found
    ids = [option["id"] for option in options]
    by_price = sorted(fitting(options), key=lambda i: price(options[i]))
    in_question = sum(1 << i for i in by_price)
    masks = {key: mask & in_question for key, mask in held_by(aspect, options).items()}
    fixed = tuple(key for key in told if key in masks)
    closed = {bank()[key].category for key in fixed} | asked
    free = {name: [key for key in masks if bank()[key].category == name] for name in categories(aspect) if name not in closed}
    possible: list[tuple[float, list[int], frozenset[str]]] = []
    for more in (size - len(fixed) for size in SIZES if size >= len(fixed)):
        sets = [keys for names in combinations(free, more) for keys in product(*(free[name] for name in names))]
        for keys in sets:
            if satisfying := as_made([masks[key] for key in (*fixed, *keys)], by_price):
                possible.append((1 / len(sets), satisfying, frozenset(keys)))
    if not possible:
        possible = [(1.0, [i for i in by_price if all(masks[key] >> i & 1 for key in fixed)] or by_price, frozenset())]
    total = sum(weight for weight, _, _ in possible)

    def worths(some: Sequence[tuple[float, list[int], frozenset[str]]]) -> list[float]:
        expected = [0.0] * len(options)
        for weight, satisfying, _ in some:
            for i in satisfying:
                expected[i] += weight / total * (1.0 if i == satisfying[0] else 0.8)
        return expected

    now = worths(possible)
    gain, chance = {}, {}
    for name, own in free.items():
        groups = [[entry for entry in possible if key in entry[2]] for key in own]
        rest = [entry for entry in possible if not entry[2] & set(own)]
        gain[name] = sum(max(worths(group)) for group in (*groups, rest) if group) - max(now)
        chance[name] = sum(weight for group in groups for weight, _, _ in group) / total
    return Beliefs(dict(zip(ids, now, strict=True)), gain, chance)


def as_made(masks: Sequence[int], by_price: Sequence[int]) -> list[int]:
    """The options that have it all, if these are so many, and one that lacks just this is cheaper for each of the masks.

    by_price: the options in question, cheapest first; masks have no bits of others.
    """
    common = -1
    for mask in masks:
        common &= mask
    if common.bit_count() != CORRECT:
        return []
    both = [i for i in by_price if common >> i & 1]
    cheaper = by_price[: by_price.index(both[0])]
    lacking = {lacks[0] for i in cheaper if len(lacks := [n for n, mask in enumerate(masks) if not mask >> i & 1]) == 1}
    return both if len(lacking) == len(masks) else []


def fitting(options: Sequence[Mapping[str, Any]]) -> list[int]:
    """Those for the place and date of the trip: most are, and the others differ from these."""
    ends = [(option["path"][0], option["path"][-1]) if option.get("path") else () for option in options]
    said = [(*end, *(option.get(name) for name in PLACE_AND_DATE)) for end, option in zip(ends, options, strict=True)]
    [(usual, _)] = Counter(said).most_common(1)
    return [i for i, one in enumerate(said) if one == usual]


def held_by(aspect: str, options: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Preference -> the options that satisfy it, a bit each; nothing where the options are not of our form."""
    try:
        for option in options:
            check_option(aspect, option)
        return {
            key: sum(preference.holds(option) << i for i, option in enumerate(options))
            for key, preference in bank().items()
            if preference.aspect == aspect
        }
    except (DataError, ValueError):
        return {}


# --- expert ----------------------------------------------------------------------------------------------------------

QUESTIONS = (
    "Do you have any wishes for the {aspect} regarding {label}?",
    "As to the {aspect}: what matters to you about {label}?",
    "What should I know about {label} when I look for the {aspect}?",
    "For the {aspect}, do you care about {label}?",
)
"""Concrete questions, into which a category's label is put."""
ENOUGH = 0.03
"""A question that is worth less than this is not asked."""
MOST_FAILED = 3
"""Searches for an aspect that find nothing, after which it is not searched any more."""
TELLING = 0.1
"""What it is worth to hear a preference, beside what it does for the choice."""


def expert(skill: float) -> Agent:
    """Searches every part, asks what is worth asking, and then recommends what most likely suits at least cost.

    It keeps turns for its answers. With probability 1 - skill a turn is a slip: small talk, a question that is too general
    or that was asked before, half a search, an option at random, or an answer before it has asked.
    """

    def act(episode: Episode) -> Action:
        rng = episode.rng("expert")
        parts = notes(episode)
        return play_well(episode, parts, rng) if rng.random() < skill else slip(episode, parts, rng)

    return Acting(act)


def play_well(episode: Episode, parts: Mapping[str, Part], rng: random.Random) -> Action:
    waiting = [aspect for aspect, part in parts.items() if not part.chosen]
    spare = episode.max_turns - len(episode.turns) - len(waiting)
    if spare > 0 and (unlisted := to_search(parts)):
        return Action(SEARCH, request(episode, unlisted[0]))
    questions = {
        (aspect, category): gain + TELLING * believed.open[category]
        for aspect in waiting
        if parts[aspect].listed
        for believed in [beliefs(parts[aspect].listed, parts[aspect].told, parts[aspect].asked)]
        for category, gain in believed.gain.items()
    }
    if spare > 0 and questions and max(questions.values()) > ENOUGH:
        return ask(*max(questions, key=lambda topic: questions[topic]), rng)
    return choose(waiting, parts)


def to_search(parts: Mapping[str, Part]) -> list[str]:
    return [a for a, part in parts.items() if not (part.chosen or part.listed or part.failed >= MOST_FAILED)]


def choose(waiting: Sequence[str], parts: Mapping[str, Part]) -> Action:
    """The option of the first waiting aspect that is worth most; the cheapest one among equals."""
    if not waiting or not parts[waiting[0]].listed:
        return Action(ANSWER, f"{LETTERS[waiting[0]] if waiting else 'F'}1")
    part = parts[waiting[0]]
    worth = beliefs(part.listed, part.told, part.asked).worth
    [_, options] = listed_in(part.listed) or ("", ())
    return Action(ANSWER, max(options, key=lambda option: (worth[option["id"]], -price(option)))["id"])


def ask(aspect: str, category: str, rng: random.Random) -> Action:
    label = categories(aspect)[category].label
    return Action(TALK, rng.choice(QUESTIONS).format(label=label, aspect=spoken(aspect)))


def slip(episode: Episode, parts: Mapping[str, Part], rng: random.Random) -> Action:
    waiting = [aspect for aspect, part in parts.items() if not part.chosen] or list(parts)
    aspect = rng.choice(waiting)
    listed = [option["id"] for _, options in [listed_in(parts[aspect].listed) or ("", ())] for option in options]
    slips = [
        Action(TALK, "What a nice plan! Have you been there before?"),
        Action(TALK, f"What kind of {spoken(aspect)} would you like?"),
        Action(SEARCH, f"a cheap {spoken(aspect)}, please"),
        *[ask(aspect, category, rng) for category in sorted(parts[aspect].asked)[:1] if category in categories(aspect)],
        *[Action(ANSWER, rng.choice(listed)) for _ in listed[:1]],
    ]
    return rng.choice(slips)


# --- search requests -------------------------------------------------------------------------------------------------


def request(episode: Episode, aspect: str) -> str:
    """What the user's request says about an aspect; all that it says, when this was not enough before."""
    said, where = about(episode.task.prompt, aspect), city(episode.task.prompt)
    there = f", {where}" if where and where not in said else ""
    short = f"{spoken(aspect)}: {said}{there}{party(episode.task.prompt)}"
    tried = [turn for turn in episode.turns if turn.action.kind == SEARCH and turn.action.text == short]
    failed = any(turn.feedback != SEARCH_DOWN for turn in tried)
    return f"{spoken(aspect)}: {' '.join(episode.task.prompt.split())}" if failed else short


def about(prompt: str, aspect: str) -> str:
    """The sentence that names an aspect, or the part of it up to the next aspect.

    >>> about("We need a hotel in Porto from May 3rd to May 6th and a restaurant in Porto on May 4th.", "restaurant")
    'restaurant in Porto on May 4th'
    """
    for sentence in re.split(r"(?<=[.!?])\s+|\n", prompt):
        others = [name for name in aspects_in(plain(sentence)) if name != aspect]
        if aspect not in aspects_in(plain(sentence)):
            continue
        if not others:
            return sentence.strip(" .-*")
        places = [(at, name) for name in (aspect, *others) if (at := _at(sentence, name)) >= 0]
        [start] = [at for at, name in places if name == aspect]
        end = min((at for at, _ in places if at > start), default=len(sentence))
        return re.sub(r"[,;\s]*(?:\b(?:and|an?|the|table|dinner|room|at)\b\s*)*$", "", sentence[start:end].rstrip(" .,!?"))
    return ""


def city(prompt: str) -> str:
    """The city of the trip, if it is one that we know: the one from which nobody comes."""
    named = [name for name in content("places") if re.search(rf"\b{re.escape(name)}\b", prompt)]
    homes = [name for name in named if re.search(rf"(?:[Ff]rom|[Oo]ut of|leaves?) {re.escape(name)}\b", prompt)]
    return next((name for name in named if name not in homes), "")


def _at(sentence: str, aspect: str) -> int:
    found = [re.search(rf"\b{word}", sentence, re.IGNORECASE) for word in ASPECT_WORDS[aspect]]
    return min((match.start() for match in found if match), default=-1)


def party(prompt: str) -> str:
    """How many people there are, as the request says it.

    >>> party("There are three of us.")
    ', three people'
    """
    found = re.findall(r"\b(\w+) (?:people|persons?|of us|guests|adults)\b|\bwe are (\w+)", prompt, re.IGNORECASE)
    numbers = [word.lower() for pair in found for word in pair if word.isdigit() or word.lower() in NUMBERS]
    return f", {numbers[0]} {'person' if numbers[0] in ('one', '1') else 'people'}" if numbers else ""


# --- agents without skill --------------------------------------------------------------------------------------------

VOCABULARY = (
    "Hello.", "What would you like?", "Tell me more.", "Is there anything else?", "hotel", "flight", "a nice restaurant",
    "F1", "F7", "H3", "H12", "A5", "R2", "R16", "C9", "C4", "cheapest", "yes",
)  # fmt: skip
"""What the random baseline says."""


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents that never ask; none has anything to fit to `tasks`.

    `random` says anything of a fixed vocabulary with any choice. The others search as the expert does:
    `random_after_search` then recommends any listed option, `ask_nothing` the cheapest one, and `infer_only` what the
    expert would recommend without having asked: as far as lists alone betray what suits.
    """

    def random_move(episode: Episode) -> Action:
        rng = episode.rng("random")
        return Action(rng.choice((SEARCH, TALK, ANSWER)), rng.choice(VOCABULARY))

    def after_search(pick: Callable[[Episode, Sequence[Mapping[str, Any]]], str]) -> Agent:
        def act(episode: Episode) -> Action:
            parts = notes(episode)
            waiting = [aspect for aspect, part in parts.items() if not part.chosen]
            spare = episode.max_turns - len(episode.turns) - len(waiting)
            if spare > 0 and (unlisted := to_search(parts)):
                return Action(SEARCH, request(episode, unlisted[0]))
            listed = listed_in(parts[waiting[0]].listed) if waiting else None
            return Action(ANSWER, pick(episode, listed[1])) if listed else choose(waiting, parts)

        return Acting(act)

    def infer(episode: Episode, options: Sequence[Mapping[str, Any]]) -> str:
        parts = notes(episode)
        return choose([aspect for aspect, part in parts.items() if not part.chosen], parts).text

    return {
        "random": Acting(random_move),
        "random_after_search": after_search(lambda episode, options: str(episode.rng("random").choice(options)["id"])),
        "ask_nothing": after_search(lambda episode, options: str(min(options, key=price)["id"])),
        "infer_only": after_search(infer),
    }
