"""Telepathy without a model: user, judge, expert and the agents without skill.

The user and the judge read by the rules of `language`; the expert knows the whole table, but not which thing it is.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.errors import ReplyError
from userrl.gyms.telepathy import ANSWER, QUESTION, Reply, Verdict
from userrl.gyms.telepathy.language import PARTICIPLES, Meaning, holds, named, names_it, plain, understand, words
from userrl.gyms.telepathy.table import Thing, kinds, of_category, statements, things
from userrl.scripted import Acting, Scripted

WORDS = {True: "Yes", False: "No", None: "Maybe"}
FRAMES = ("Is it true that it {}?", "Would you say that it {}?", "Am I right that it {}?")
"""Questions that fit any statement."""
TURNED = {"is": "Is it {}?", "was": "Was it {}?", "has": "Does it have {}?", "can": "Can it {}?"}
"""First word of a statement -> the question that the rest of it makes."""
TALES = {"mythical", "mythology", "legendary", "fictional", "movie", "book", "novel"}
"""Words of a category whose things are not those of the table, even where they share a name."""
VOCABULARY = (
    "Is it alive?", "Is it made by people?", "Is it bigger than a person?", "Is it in Europe?", "Is it made of metal?",
    "Is it a woman?", "a house", "the sun", "a tree", "my friend", "a cloud", "water",
)  # fmt: skip
"""What the random baseline says: questions that anybody asks, and names of nothing in the table."""


# --- user and judge --------------------------------------------------------------------------------------------


def cast(trait: str) -> Cast:
    user = Scripted({"telepathy.question": lambda query: Reply(word=answer(query, trait))})  # type: ignore[arg-type]
    return Cast(user, Scripted({"telepathy.guess": judge}))


def answer(query: Query[Reply], trait: str) -> str:
    """The user's word. A hesitant user says Maybe the first time something is asked about; a terse one is as a plain one.

    Raises ReplyError for a thing that is not in the table, such as most official ones.
    """
    facts, meaning = query.facts, understand(query.facts["question"])
    thing = known(facts["title"], facts["category"])
    if thing is None:
        raise ReplyError("This thing is not in the table for the scripted user to answer from; let a model be the user.")
    if meaning is None:
        return "Maybe"
    if trait == "hesitant" and all((m := understand(said)) is None or m.topic != meaning.topic for said in facts["said"]):
        return "Maybe"
    return WORDS[holds(meaning, thing)]


def judge(query: Query[Verdict]) -> Verdict:
    thing = known(query.facts["title"], query.facts["category"])
    names = (query.facts["title"], *query.facts["aliases"], *((thing.title, *thing.aliases) if thing else ()))
    return Verdict(same=names_it(query.facts["guess"], names))


def known(title: str, category: str) -> Thing | None:
    """The thing of the table that bears a name, however it is written ("Fridge", "River Nile"), if there is just one.

    None where the category is one of tales: the Sphinx of the myth is not the one of Giza.
    """
    titles = () if TALES & set(words(plain(category))) else named(title)
    return things()[titles[0]] if len(titles) == 1 else None


# --- expert ----------------------------------------------------------------------------------------------------


def expert(skill: float) -> Agent:
    """Asks what best splits the things that still fit, and guesses when asking on cannot be quicker.

    It knows the table and reads the category and the answers, never what is hidden. With probability 1 - skill a turn is
    a slip: a question or a guess at random, which fits the category only with probability `skill`.
    """

    def act(episode: Episode) -> Action:
        rng = episode.rng("expert")
        if rng.random() >= skill:
            return slip(episode, skill, rng)
        fitting = still_fitting(episode)
        attribute = best_question(fitting, episode, rng) if len(fitting) > 2 else None
        if attribute is None:
            return Action(ANSWER, rng.choice(fitting).title)
        return ask(attribute, rng)

    return Acting(act)


def slip(episode: Episode, skill: float, rng: random.Random) -> Action:
    apt = rng.random() < skill
    if rng.random() < 0.5:
        return Action(ANSWER, rng.choice(candidates(episode.task.prompt) if apt else tuple(things().values())).title)
    category = category_in(episode.task.prompt)
    return ask(rng.choice(telling(category) if apt and category else tuple(statements())), rng)


def ask(attribute: str, rng: random.Random) -> Action:
    return Action(QUESTION, rng.choice(questions(attribute)))


@cache
def questions(attribute: str) -> Sequence[str]:
    """Ways to ask for an attribute: each of its statements turned into a question, and the first one in every frame."""
    said = statements()[attribute]
    return tuple(dict.fromkeys([*map(question, said), *(frame.format(said[0]) for frame in FRAMES)]))


def question(statement: str) -> str:
    """
    >>> question("has four legs"), question("has won a prize"), question("lays eggs")
    ('Does it have four legs?', 'Has it won a prize?', 'Is it true that it lays eggs?')
    """
    first, _, rest = statement.partition(" ")
    if first == "has" and rest.split()[0] in PARTICIPLES:
        return f"Has it {rest}?"
    return TURNED[first].format(rest) if first in TURNED else FRAMES[0].format(statement)


@cache
def category_in(prompt: str) -> str | None:
    """The category that a prompt names; the longest match wins."""
    found = [(len(kind), category) for category, kind in kinds().items() if f"thinking of {kind}." in prompt]
    return max(found)[1] if found else None


def candidates(prompt: str) -> Sequence[Thing]:
    category = category_in(prompt)
    return of_category(category) if category else tuple(things().values())


@cache
def telling(category: str) -> Sequence[str]:
    """The attributes in which things of a category differ."""
    return tuple(key for key in statements() if len({thing.has(key) for thing in of_category(category)}) > 1)


def heard(episode: Episode) -> list[tuple[Meaning, str]]:
    """What the answers so far say. A Maybe counts only where the same was asked before: the user may have hesitated."""
    counted: list[tuple[Meaning, str]] = []
    doubts: Counter[Meaning] = Counter()
    for turn in episode.turns:
        meaning = understand(turn.action.text) if turn.action.kind == QUESTION else None
        word = turn.feedback.split()[0]
        if meaning is None:
            continue
        doubts[meaning] += word == "Maybe"
        if word in ("Yes", "No") or doubts[meaning] > 1:
            counted.append((meaning, word))
    return counted


def still_fitting(episode: Episode) -> list[Thing]:
    """The things of the category, not yet guessed, that fit the answers best: perfectly, if the user goes by the table."""
    guesses = [turn.action.text for turn in episode.turns if turn.action.kind == ANSWER]
    wrong = {title for guess in guesses for title in named(guess)}
    left = [thing for thing in candidates(episode.task.prompt) if thing.title not in wrong]
    said = heard(episode)
    misfits = {thing.title: sum(misfit(holds(m, thing), word) for m, word in said) for thing in left}
    fewest = min(misfits.values(), default=0.0)
    return [thing for thing in left if misfits[thing.title] == fewest] or list(candidates(episode.task.prompt))


def misfit(value: bool | None, word: str) -> float:
    """0 when a thing with this value gets this answer, 1 for the opposite, 0.5 where one of the two is Maybe."""
    return 0.0 if WORDS[value] == word else 0.5 if "Maybe" in (WORDS[value], word) else 1.0


def best_question(fitting: Sequence[Thing], episode: Episode, rng: random.Random) -> str | None:
    """The attribute that tells most about which of the things it is, in bits a turn; None when none tells anything.

    Whether it cannot be said takes two turns to learn (see `heard`). Among equals, one that was asked for is asked again.
    """
    known = {key for meaning, _ in heard(episode) if len(meaning.parts) == 1 for key in meaning.topic}
    asked = {key for turn in episode.turns if (meaning := understand(turn.action.text)) for key in meaning.topic}
    gains = {key: gain(fitting, key) for key in telling(fitting[0].category) if key not in known}
    most = max(gains.values(), default=0.0)
    best = [key for key, bits in gains.items() if bits == most]
    return rng.choice([key for key in best if key in asked] or best) if most else None


def gain(fitting: Sequence[Thing], attribute: str) -> float:
    counts = Counter(thing.has(attribute) for thing in fitting)
    total = len(fitting)
    bits = -sum(n / total * math.log2(n / total) for n in counts.values())
    return bits / (1 + counts[None] / total)


# --- agents without skill --------------------------------------------------------------------------------------


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents that never listen: none has anything to fit to `tasks`, since no thing is in two splits.

    `random` says anything of a fixed vocabulary; `blind_answer` goes through the things of the category in random order;
    `repeat_one` makes the same guess again and again; `repeat_question` asks the same question.
    """

    def random_move(episode: Episode) -> Action:
        rng = episode.rng("random")
        return Action(rng.choice((QUESTION, ANSWER)), rng.choice(VOCABULARY))

    def blind_answer(episode: Episode) -> Action:
        order = list(candidates(episode.task.prompt))
        random.Random(f"blind|{episode.seed}|{episode.key}").shuffle(order)
        return Action(ANSWER, order[len(episode.turns) % len(order)].title)

    def repeat_one(episode: Episode) -> Action:
        return Action(ANSWER, candidates(episode.task.prompt)[0].title)

    def repeat_question(episode: Episode) -> Action:
        return Action(QUESTION, VOCABULARY[0])

    plays: dict[str, Callable[[Episode], Action]] = {
        "random": random_move,
        "blind_answer": blind_answer,
        "repeat_one": repeat_one,
        "repeat_question": repeat_question,
    }
    return {name: Acting(act) for name, act in plays.items()}
