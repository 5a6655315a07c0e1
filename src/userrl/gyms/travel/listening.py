"""What the scripted user and judge make of what an agent says. They go by words, listed here and in `words/`.

A question is concrete when it names a category ("layovers", "breakfast") of one aspect of the trip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from userrl.gyms.travel.preferences import categories

ASPECT_WORDS: Mapping[str, tuple[str, ...]] = {
    "flight": ("flight", "fly", "flying", "plane", "airline"),
    "hotel": ("hotel", "accommodation", "place to stay"),
    "apartment": ("apartment", "flat", "accommodation", "place to stay"),
    "restaurant": ("restaurant", "dinner", "dining", "eat", "eating"),
    "rental_car": ("rental car", "car", "car rental", "rental", "vehicle", "drive", "driving"),
}
"""Words by which an aspect is named."""

OPENERS = (
    "what", "which", "how", "when", "where", "any", "do", "does", "is", "are", "should", "would", "could", "can", "shall",
    "must", "will", "tell", "please tell", "describe",
)  # fmt: skip
"""A sentence asks when it begins with one of these, ..."""

ASKING = ("do you", "prefer", "preference", "wish", "requirement", "tell me", "let me know", "want to know", "need to know")
"""... holds one of these, or ends with a question mark."""

WISHING = (
    "like", "prefer", "preference", "need", "want", "wish", "requirement", "care", "matter", "important", "expect",
    "looking for", "have in mind", "anything",
)  # fmt: skip
"""A question without a category is about wishes, and so too general, when it holds one of these or names an aspect."""

MAX_TOPICS = 2
"""Categories in one question, of which the first one counts; more is asking for everything at once."""

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

Lexicon = Mapping[tuple[str, str], tuple[str, ...]]
"""(aspect, category) -> the words that name it, as `plain` gives them."""


def plain(text: str) -> str:
    """Lower-case words in the singular, more or less, each with a blank before and after.

    >>> plain("Two late check-outs: dishes, movies, allergies!")
    ' two late check out dish movie allergie '
    """
    words = re.findall(r"[^\W_]+", text.lower().replace("'", ""))
    return f" {' '.join(_singular(word) if len(word) > 3 else word for word in words)} "


def _singular(word: str) -> str:
    """A word as `plain` writes it, singular and plural alike."""
    if word.endswith(("shes", "ches", "xes", "sses")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return f"{word[:-1]}ie" if word.endswith("y") and len(word) > 3 else word


@lru_cache(maxsize=4_096)
def _phrase(word: str) -> str:
    """`plain`, for the words that are looked for: few, and often the same."""
    return plain(word)


def names(text: str, words: Iterable[str]) -> int:
    """Where a `plain` text first holds one of the words; -1 where it holds none."""
    return min((at for word in words if (at := text.find(_phrase(word))) >= 0), default=-1)


# --- questions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """What a text of the agent is about."""

    asks: bool
    aspects: tuple[str, ...]
    """Those that it names, in that order, whether they are part of the trip or not."""
    topics: tuple[tuple[str, str], ...]
    """(aspect, category) of the trip that its asking sentences name, in that order."""


def hear(text: str, aspects: Sequence[str], said: Sequence[str] = (), own: Sequence[tuple[str, str]] = ()) -> Heard:
    """What a text is about.

    Args:
        aspects: those of the trip.
        said: what the agent said before: where the text names no aspect, the one named last is meant.
        own: (aspect, category) of the task's preferences, for tasks whose categories are not ours.
    """
    words = plain(text)
    named = aspects_in(words)
    meant: Sequence[str] = [aspect for aspect in named if aspect in aspects]
    if not named:
        earlier = (tuple(a for a in aspects_in(plain(before)) if a in aspects) for before in reversed(said))
        meant = next((found[:1] for found in earlier if found), tuple(aspects))
    asking = "".join(filter(_asks, _SENTENCE.findall(text)))
    found = sorted((at, topic) for topic, at in _topics(plain(asking), meant, tuple(own)))
    return Heard(bool(asking), named, tuple(topic for _, topic in found))


_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def _asks(sentence: str) -> bool:
    words = plain(sentence)
    return sentence.endswith("?") or names(words, ASKING) >= 0 or words.startswith(tuple(map(_phrase, OPENERS)))


def aspects_in(words: str) -> tuple[str, ...]:
    found = {aspect: names(words, known) for aspect, known in ASPECT_WORDS.items()}
    return tuple(sorted((aspect for aspect, at in found.items() if at >= 0), key=lambda aspect: found[aspect]))


def _topics(words: str, aspects: Sequence[str], own: tuple[tuple[str, str], ...]) -> Iterator[tuple[tuple[str, str], int]]:
    known = dict(lexicon())
    known.update({topic: words_of(*topic) for topic in own if topic not in known})
    for topic, phrases in known.items():
        if topic[0] in aspects and (at := min((at for p in phrases if (at := words.find(p)) >= 0), default=-1)) >= 0:
            yield topic, at


def is_general(text: str, heard: Heard) -> bool:
    """Whether a question that names no category is about wishes at all."""
    return bool(heard.aspects) or names(plain(text), WISHING) >= 0


@cache
def lexicon() -> Lexicon:
    """The built-in categories."""
    return {
        (aspect, name): tuple(plain(word) for word in category.words)
        for aspect in ASPECT_WORDS
        for name, category in categories(aspect).items()
    }


@lru_cache(maxsize=4_096)
def words_of(aspect: str, category: str) -> tuple[str, ...]:
    """Words for a category: the built-in ones; for an official one its own name, and those of ours that share a word with it."""
    if (aspect, category) in lexicon():
        return lexicon()[aspect, category]
    parts = {plain(part) for part in plain(category).split()}
    like = [
        words for (of, name), words in lexicon().items() if of == aspect and parts & {*words, *map(plain, plain(name).split())}
    ]
    return tuple(sorted(parts.union(*like)))


# --- searches ------------------------------------------------------------------------------------------------------


def matching(request: str, requests: Mapping[str, Mapping[str, Any]]) -> tuple[bool, str | None]:
    """Whether a request says every argument of one aspect, and which aspect it is about.

    That is the first one it names of which it says all, else the first one it names. A request that names none is about
    the only aspect all of whose arguments it says.
    """
    text = _spelled(request)
    words = plain(text)
    days = set(dates(text))
    rest = plain(_DAY.sub(" ", _ISO.sub(" ", text)))

    def complete(aspect: str) -> bool:
        return not turned_round(words, requests[aspect]) and all(_says(words, rest, days, v) for v in requests[aspect].values())

    named = [aspect for aspect in aspects_in(words) if aspect in requests]
    if aspects_in(words):
        full = next((aspect for aspect in named if complete(aspect)), None)
        return full is not None, full or (named[0] if named else None)
    fitting = [aspect for aspect in requests if requests[aspect] and complete(aspect)]
    return len(fitting) == 1, fitting[0] if len(fitting) == 1 else None


def _spelled(request: str) -> str:
    """A JSON object as its keys and values, other text as it is."""
    if not request.lstrip().startswith("{"):
        return request
    try:
        value = json.loads(request)
    except (ValueError, RecursionError):
        return request
    return ", ".join(f"{key} {json.dumps(item, ensure_ascii=False)}" for key, item in value.items())


def turned_round(words: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a request goes from the destination."""
    goal, start = (str(arguments.get(name, "")) for name in ("destination", "origin"))
    return bool(goal) and names(words, [f"from {goal}"]) >= 0 > names(words, [f"from {start}"])


def _says(words: str, rest: str, days: set[tuple[int, int]], value: Any) -> bool:
    """Whether a request says a value: a date in any form, a number in digits or as a word, else the very words."""
    if isinstance(value, Mapping | list | tuple):
        items = value.values() if isinstance(value, Mapping) else value
        return all(_says(words, rest, days, item) for item in items)
    if isinstance(value, int | float) and not isinstance(value, bool):
        forms = [f"{value:g}", *(NUMBERS[int(value) : int(value) + 1] if 0 <= value == int(value) else ())]
        return names(rest, forms) >= 0
    day = set(dates(str(value)))
    return day <= days if day else plain(str(value)) in words


_MONTH = rf"(?:{'|'.join(rf'{name[:3]}t?(?:{name[3:]})?' for name in MONTHS)})\b\.?"
_NUMBER = r"[0-9]{1,2}(?:st|nd|rd|th)?"
_UNTIL = rf"\s*(?:-|–|to|until|till|through|and)\s*(?:the\s+)?(?P<until>{_NUMBER})\b(?!:|\s*(?:of\s+)?{_MONTH})"
_DAY = re.compile(
    rf"\b(?P<m1>{_MONTH})\s+(?:the\s+)?(?P<d1>{_NUMBER})\b(?:{_UNTIL})?|\b(?P<d2>{_NUMBER})\s+(?:of\s+)?(?P<m2>{_MONTH})",
    re.IGNORECASE,
)
_ISO = re.compile(r"\b(?:[0-9]{4}-)?(?P<m>[01]?[0-9])[-/](?P<d>[0-3]?[0-9])\b(?:/[0-9]{4}\b)?")


def dates(text: str) -> Iterator[tuple[int, int]]:
    """(month, day) of the dates in a text.

    >>> sorted(dates("May 3rd to 6th, 7 June, 2025-08-09"))
    [(5, 3), (5, 6), (6, 7), (8, 9)]
    """
    for found in _DAY.finditer(text):
        month = [name[:3] for name in MONTHS].index((found["m1"] or found["m2"])[:3].lower()) + 1
        for day in (found["d1"] or found["d2"], found["until"]):
            if day:
                yield month, int(day.rstrip("stndrhSTNDRH"))
    for found in _ISO.finditer(text):
        if 1 <= int(found["m"]) <= 12:
            yield int(found["m"]), int(found["d"])
