"""Intention without a model: user, judge, expert and the agents without skill.

The user and the judge recognize a detail by its lexicon (phrases at word boundaries; data sheet), nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache

import numpy as np

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.gyms.intention import WORTH, Addressed, Answer, generate
from userrl.gyms.intention.generate import details, domains, lexicons
from userrl.gyms.intention.lexicon import mentioned, own_words
from userrl.scripted import Acting, Scripted

NOT_UNDERSTOOD = "I do not understand."
NO_PREFERENCE = "I have no preference."
UNSURE = "Hmm, I am not sure."
LONGEST_KEPT = 500
"""Characters of a text up to which what it is about is kept in memory: an agent repeats itself, and every step reads all."""

_COMMON_WORDS = (
    "what which when where who why how is are do does can could would should will the a an this that you your it we they there "
    "some any all many more most other another good bad big small long short old new first last right left same different thing "
    "person people man woman child day week year time way place house room door hand head eye word name number part point side "
    "water food tree road car book picture world country night morning make take give get go come see look find know think say "
    "tell ask want need like help work play move turn put keep and or but if so of in on at by for from to with about after "
    "before over under again also even only very too now here always never often yes no not"
)
COMMON_WORDS = _COMMON_WORDS.split()
"""What the random agent says: some of the most common words of English, picked without a look at the lexicon."""


def cast(trait: str) -> Cast:
    user = Scripted({"intention.answer": lambda query: Answer(words=reply(query, trait))})
    judge = Scripted({"intention.addressed": addressed})
    return Cast(user, judge)


def kinds_in(text: str) -> tuple[str, ...]:
    """The details that a text is about, in the order in which it names them."""
    return (_kinds_in if len(text) <= LONGEST_KEPT else _kinds_in.__wrapped__)(text)


@lru_cache(maxsize=8192)
def _kinds_in(text: str) -> tuple[str, ...]:
    return tuple(mentioned(text, lexicons()))


def addressed(query: Query[Addressed]) -> Addressed:
    """The details whose lexicon the question hits."""
    question = query.facts["question"]
    hits = sorted(mentioned(question, dict(enumerate(query.facts["lexicons"]))))
    return Addressed(addressed=hits, on_task=bool(hits or kinds_in(question)))


def reply(query: Query[Answer], trait: str) -> str:
    """What the user says: its wish about each thing asked, in the order asked.

    A hesitant user is unsure the first time something is asked, and answers when it is asked again.
    """
    question, said = query.facts["question"], query.facts["said"]
    wishes = {wish["about"]: wish for wish in query.facts["wishes"]}
    own = foreign(query)
    asked = topics(question, own)
    if not asked:
        return NOT_UNDERSTOOD
    if trait == "hesitant" and not any(about in topics(earlier, own) for earlier in said for about in asked):
        return UNSURE
    known = [wishes[about] for about in asked if about in wishes]
    if not known:
        return "None." if trait == "terse" else NO_PREFERENCE
    if trait == "terse":
        return " ".join(f"{wish['wish'][0].upper()}{wish['wish'][1:]}." for wish in known)
    return " ".join(wish["sentence"] or f"{wish['wish']}." for wish in known)


def foreign(query: Query[Answer]) -> Mapping[str, Sequence[str]]:
    """What the wishes are about -> words for it, in a task that does not go by our details; else nothing."""
    abouts = [wish["about"] for wish in query.facts["wishes"]]
    if names().issuperset(abouts):
        return {}
    return dict(zip(abouts, own_words(abouts, query.facts["task"]), strict=True))


def topics(text: str, own: Mapping[str, Sequence[str]]) -> list[str]:
    """What a text is about, in the order in which it names it. Of our details only that they were named, if `own` is given."""
    return mentioned(text, own) or [details()[kind]["name"] for kind in kinds_in(text)]


@cache
def names() -> frozenset[str]:
    return frozenset(kind["name"] for kind in details().values())


# --- agents ------------------------------------------------------------------------------------------------------


def ask(kind: str, rng: random.Random) -> Action:
    return Action("action", rng.choice(details()[kind]["questions"]))


def asked_kinds(episode: Episode) -> list[str]:
    return [kind for turn in episode.turns for kind in kinds_in(turn.action.text)]


@cache
def order(domain: str) -> tuple[str, ...]:
    """The details of a domain, most worth in expectation first."""
    specs = sorted(domains()[domain]["detail"], key=lambda d: -d["likely"] * WORTH[d["importance"]])
    return tuple(spec["type"] for spec in specs)


@lru_cache(maxsize=8192)
def recognize(prompt: str) -> str | None:
    """The domain whose subject the opening names; the longest match wins."""
    text = prompt.lower()
    found = [(len(s), key) for key, d in domains().items() for s in d["subjects"] if s.lower() in text]
    return max(found)[1] if found else None


def expert(skill: float) -> Agent:
    """Reads the domain and what is stated from the opening, then asks for the rest, most valuable first.

    With probability 1 - skill a turn is a slip: it repeats itself, asks two things at once, or asks in no order -
    with probability `skill` something that fits the domain, else anything. It sees the opening and the turns,
    never the hidden part.
    """

    def act(episode: Episode) -> Action:
        rng = episode.rng("expert")
        asked, domain = asked_kinds(episode), recognize(episode.task.prompt)
        known = {*asked, *kinds_in(episode.task.prompt)}
        wanted = [kind for kind in (order(domain) if domain else fixed_order()) if kind not in known]
        wanted = wanted or [kind for kind in details() if kind not in asked] or list(details())
        if rng.random() < skill:
            return ask(wanted[0], rng)
        slip, other = rng.random(), rng.choice(wanted if rng.random() < skill else list(details()))
        if slip < 0.2 and asked:
            return ask(rng.choice(asked), rng)
        if slip < 0.35:
            return Action("action", f"{ask(wanted[0], rng).text} {ask(other, rng).text}")
        return ask(other, rng)

    return Acting(act)


@cache
def fixed_order() -> tuple[str, ...]:
    """The best list of details that ignores the task: by worth expected over all domains."""
    worth = dict.fromkeys(details(), 0.0)
    for domain in domains().values():
        for spec in domain["detail"]:
            worth[spec["type"]] += spec["likely"] * WORTH[spec["importance"]]
    return _by(worth)


def fitted_order(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The best list of details for these tasks that ignores which of them it is: by their mean worth."""
    worth: dict[str, float] = {}
    for task in tasks:
        for d in task.hidden["details"]:
            worth[d["type"]] = worth.get(d["type"], 0.0) + WORTH[d["importance"]]
    return _by(worth)


def fitted_bundles(tasks: Sequence[Task], penalty: float = 0.2) -> list[list[str]]:
    """The best list of questions that each ask several things and ignore the task: details of a bundle, in order.

    Greedy: a question takes up the detail that adds most to its mean reward over the tasks until none adds, then
    the next question begins. Details of different domains rarely meet in one task, so asking for many at once costs
    little here: the strongest agent that never reads.
    """
    kinds = fitted_order(tasks)
    worth = np.zeros((len(tasks), len(kinds)))
    for row, task in enumerate(tasks):
        for d in task.hidden["details"]:
            worth[row, kinds.index(d["type"])] = WORTH[d["importance"]]
    bundles: list[list[str]] = []
    while worth.any():
        bundle: list[int] = []
        best, most, count = 0.0, np.zeros(len(tasks)), np.zeros(len(tasks))
        while True:
            top, many = np.maximum(most[:, None], worth), count[:, None] + (worth > 0)
            mean = np.where(many > 0, np.maximum(0.0, top - penalty * (many - 1)), 0.0).mean(0)
            mean[bundle] = -1.0
            pick = int(mean.argmax())
            if mean[pick] <= best + 1e-9:
                break
            bundle.append(pick)
            best, most, count = float(mean[pick]), top[:, pick], many[:, pick]
        bundles.append([kinds[k] for k in bundle])
        worth[:, bundle] = 0.0
    return bundles


@cache
def bundles() -> list[list[str]]:
    """The bundles for all domains."""
    return fitted_bundles(generate.tasks(FITTED, seed=0))


FITTED = 1000
"""Tasks that bundles are fitted to, at most: more change nothing."""


def _by(worth: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(sorted(worth, key=lambda kind: -worth[kind]))


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents without skill: none of them reads the task.

    `random` asks three to eight common words with a question mark; `random_question` is random only in which of the
    lexicon's questions it asks, so it knows what may matter in some task; `fixed_list` goes down the best list for `tasks` (for
    all domains when there are none), one thing at a time; `fixed_bundles` goes down the best list of questions that
    ask several things at once; `repeat_one` asks for the first entry again and again; `all_at_once` puts the whole
    list into one question; `blind_answer` asks nothing.
    """
    kinds = fitted_order(tasks) if tasks else fixed_order()
    sample = tasks[:FITTED]
    fitted: list[list[list[str]]] = []  # made when first needed

    def random_words(episode: Episode) -> Action:
        rng = episode.rng("words")
        return Action("action", " ".join(rng.choices(COMMON_WORDS, k=rng.randint(3, 8))) + "?")

    def random_question(episode: Episode) -> Action:
        rng = episode.rng("random")
        return ask(rng.choice(kinds), rng)

    def fixed_list(episode: Episode) -> Action:
        return ask(kinds[len(episode.turns) % len(kinds)], episode.rng("fixed"))

    def fixed_bundles(episode: Episode) -> Action:
        if not fitted:
            fitted.append(fitted_bundles(sample) if sample else bundles())
        bundle = fitted[0][len(episode.turns) % len(fitted[0])]
        return Action("action", " ".join(details()[kind]["questions"][0] for kind in bundle))

    def repeat_one(episode: Episode) -> Action:
        return ask(kinds[0], random.Random(0))

    def all_at_once(episode: Episode) -> Action:
        return Action("action", " ".join(details()[kind]["questions"][0] for kind in kinds))

    def blind_answer(episode: Episode) -> Action:
        return Action("action", "I have all I need, thank you.")

    plays: dict[str, Callable[[Episode], Action]] = {
        "random": random_words,
        "random_question": random_question,
        "fixed_list": fixed_list,
        "fixed_bundles": fixed_bundles,
        "repeat_one": repeat_one,
        "all_at_once": all_at_once,
        "blind_answer": blind_answer,
    }
    return {name: Acting(act) for name, act in plays.items()}
