"""Search without a model: a judge that compares spellings, an expert that goes step by step, agents without skill.

Nobody is asked anything as the user. Every agent sees what a model sees: the question, its actions, the feedback.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.gyms.base import find
from userrl.gyms.search import Same, bare
from userrl.gyms.search.generate import query
from userrl.gyms.search.language import KINDS, RELATIONS, facts_in, read_question
from userrl.gyms.search.results import Result
from userrl.scripted import Acting, Scripted

_LEAD = re.compile(r"^\s*(?:(?:the )?(?:right |correct |final )?answer(?: is|:)|it(?: is| was|'s)|i think)[\s:]+", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_IN = re.compile(r"^in\s+(?=\d+\W*$)", re.IGNORECASE)
_UNIT = re.compile(
    r"(?<=\d)\s*(?:(?:km|kms|kilomet(?:er|re)s?|m|met(?:er|re)s?)(?:\s+(?:long|high|tall))?|people|inhabitants)\s*\.?$",
    re.IGNORECASE,
)
_HIT = re.compile(r"^\d+\. (?P<title>.+?)(?: \[(?P<source>[^\]]*)\])?\n   (?P<snippet>.+)$", re.MULTILINE)
_NAME = re.compile(r"(?:The )?[A-Z]\w+(?: (?:of )?[A-Z]\w+)*|\d[\d,]*")


def cast(trait: str) -> Cast:
    """The user is asked nothing, so every trait gives the same cast."""
    return Cast(Scripted({}), Scripted({"search.same": same}))


def same(query: Query[Same]) -> Same:
    """Right when it is a spelling of the answer, but for case, punctuation, accents, articles, units and a lead-in."""
    return Same(same=_core(query.facts["given"]) in {_core(right) for right in query.facts["right"]})


def _core(text: str) -> str:
    """
    >>> _core("The answer is: the Zhörn River."), _core("10² km")
    ('zhornriver', '10²')
    """
    text = "".join(_plain(c) for c in unicodedata.normalize("NFC", text[:500]))
    text = _UNIT.sub("", _IN.sub("", _ARTICLE.sub("", _LEAD.sub("", text).strip()).strip()))
    return bare(text) or text


def _plain(character: str) -> str:
    """A character without its accents and in its usual width. A raised or lowered digit and a fraction stay what they are."""
    if unicodedata.decomposition(character).startswith(("<super>", "<sub>", "<fraction>")):
        return character
    return "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))


# --- agents ------------------------------------------------------------------------------------------------------


def expert(skill: float) -> Agent:
    """Reads the steps off the question, looks each up, and answers with what the last one tells.

    With probability 1 - skill a turn is a slip: it searches for the whole question or without the name, repeats a
    search, or answers with something on the way. When no search is left, it answers with what it has. It is
    deterministic given the episode's seed.
    """

    def act(episode: Episode) -> Action:
        rng = episode.rng("expert")
        way = _Way.of(episode)
        if rng.random() >= skill:
            return _slip(episode, way, rng)
        if way is None or not way.left or _used_up(episode):
            return Action("answer", way.name if way else "unknown")
        return Action("search", query(way.left[0], way.name))

    return Acting(act)


def _slip(episode: Episode, way: _Way | None, rng: random.Random) -> Action:
    searched = [turn.action for turn in episode.turns if turn.action.kind == "search"]
    slips = [Action("search", episode.task.prompt), Action("answer", way.name if way and way.left else "unknown"), *searched[-1:]]
    if way and way.left:
        slips.append(Action("search", way.left[0].replace("_", " ")))
    return rng.choice(slips)


def _used_up(episode: Episode) -> bool:
    """Whether the last that was said about searches is that none is left."""
    said = [turn.feedback for turn in episode.turns if turn.action.kind == "search"]
    return bool(said) and said[-1].endswith(("Searches left: 0.", "Answer now."))


@dataclass(frozen=True)
class _Way:
    """How far the feedback so far leads."""

    name: str
    """The last thing known on the way; the answer when nothing is left."""
    left: Sequence[str]
    """Relations not yet followed."""

    @staticmethod
    def of(episode: Episode) -> _Way | None:
        way = read_question(episode.task.prompt)
        if way is None:
            return None
        hits = [hit for turn in episode.turns for hit in hits_in(turn.feedback)]
        name, left = way
        while left and (value := _told(hits, name, left[0])):
            name, left = value, left[1:]
        return _Way(name, left)


def _told(hits: Sequence[Result], name: str, relation: str) -> str | None:
    """What the results say that a relation of a thing is, if they do."""
    spec = RELATIONS[relation]
    for hit in hits:
        facts = facts_in(hit.snippet)
        if spec.backward and facts.get(spec.backward) == name and hit.source == KINDS[spec.value].source:
            return hit.title
        if not spec.backward and relation in facts and hit.title.lower() == name.lower():
            return facts[relation]
    return None


def hits_in(feedback: str) -> list[Result]:
    """The results in a feedback."""
    return [Result(hit["title"], hit["snippet"], hit["source"] or "") for hit in _HIT.finditer(feedback)]


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents without skill. None of them follows the steps of a question.

    `random` searches and answers with any of the answers to `tasks` (the training tasks by default); `blind_answer`
    never searches and gives the most frequent of them of the kind that is asked for, the next one after each miss;
    `one_search` searches for the question and answers with the names in the first result, one after the other.
    """
    frequent = _frequent(_answers(tasks) if tasks else _trained())
    everything = [answer for answers in frequent.values() for answer in answers]

    def random_move(episode: Episode) -> Action:
        rng = episode.rng("random")
        return Action(rng.choice(("search", "answer")), rng.choice(everything))

    def blind_answer(episode: Episode) -> Action:
        answers = frequent.get(_kind(episode.task.prompt), everything)
        return Action("answer", answers[len(episode.turns) % len(answers)])

    def one_search(episode: Episode) -> Action:
        if not episode.turns:
            return Action("search", episode.task.prompt)
        hits = hits_in(episode.turns[0].feedback)
        names = list(dict.fromkeys(_NAME.findall(f"{hits[0].title}. {hits[0].snippet}"))) if hits else []
        return Action("answer", names[(len(episode.turns) - 1) % len(names)] if names else "unknown")

    return {"random": Acting(random_move), "blind_answer": Acting(blind_answer), "one_search": Acting(one_search)}


def _kind(prompt: str) -> str:
    """The kind of answer that a question asks for, as far as its last step tells."""
    way = read_question(prompt)
    return RELATIONS[way[1][-1]].value if way else ""


def _answers(tasks: Sequence[Task]) -> tuple[tuple[str, str], ...]:
    return tuple((_kind(task.prompt), task.hidden["answer"]) for task in tasks)


@cache
def _trained() -> tuple[tuple[str, str], ...]:
    return _answers(find("search").tasks("train"))


@lru_cache(maxsize=8)
def _frequent(answers: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Kind -> answers, most frequent first."""
    counts = Counter(answers)
    found: dict[str, list[str]] = {}
    for (kind, answer), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        found.setdefault(kind, []).append(answer)
    return found
