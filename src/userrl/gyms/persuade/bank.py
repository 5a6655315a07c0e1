"""What can be said against each claim, and what can matter to a user: the tables under `content/`."""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import chain
from typing import Any

from userrl.gyms.persuade import LONGEST_TEXT, wording
from userrl.gyms.persuade.wording import all_with_kin, terms, with_kin

FEWEST_WORDS = 3
"""Of a text that can hint at an argument."""
ENOUGH, LEAD, SHARE = 2.7, 0.5, 0.4
"""What a text must tell of an argument to hint at it: so much, so much more than of any other, and of all it tells this share."""
MOST_TELLING = 3.0
"""As what a word counts at most that no argument has."""
SAID = 0.7
"""How far a word stands for an argument that is in its wordings and none of its concepts."""
REASON = "reason"
"""In `Argument.needs`: the user's deeper reason must have been acknowledged."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the user holds its claim."""

    text: str
    stems: tuple[str, ...]
    """Any of these shows that the reason is spoken of."""


@dataclass(frozen=True, slots=True)
class Argument:
    """Something that speaks against a claim."""

    key: str
    theme: str
    """What it appeals to; it moves users who care about that."""
    strength: int
    """Levels by which it moves the user: 1 or 2."""
    needs: tuple[str, ...]
    """What must come first: REASON, or the key of another argument of the claim."""
    concepts: tuple[tuple[str, ...], ...]
    """Groups of word stems; a text makes this argument when a stem of each group begins a word in it."""
    says: tuple[str, ...]
    """Two wordings."""
    also: str = ""
    """Further words that hint at it."""

    @property
    def hints(self) -> Mapping[str, float]:
        """Term -> how far it stands for the argument, from 0 to 1."""
        stems = " ".join(stem for group in self.concepts for stem in group if " " not in stem)
        return dict.fromkeys(terms(" ".join(self.says)), SAID) | dict.fromkeys(terms(f"{stems} {self.also}"), 1.0)

    def is_in(self, text: str) -> bool:
        return all(mentions(text, stems) for stems in self.concepts)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a user holds, why, and what speaks against it."""

    key: str
    text: str
    reasons: tuple[Reason, ...]
    arguments: tuple[Argument, ...]

    def found_in(self, text: str) -> Sequence[Argument]:
        """The arguments that a text makes, strongest first, as listed among equals; else the one that it hints at, if any."""
        return _found(self.text, text[:LONGEST_TEXT])

    def accepted(self, cares: Sequence[str]) -> list[Argument]:
        """The arguments that move a user who cares about these themes, in the order in which it can take them in."""
        found: list[Argument] = []
        for _ in self.arguments:
            keys = {a.key for a in found} | {REASON}
            found += [a for a in self.arguments if a.theme in cares and a not in found and keys.issuperset(a.needs)]
        return found


@dataclass(frozen=True, slots=True)
class Theme:
    """What can matter to a user, and how the user says so."""

    word: str
    hints: tuple[str, ...]


@lru_cache(maxsize=8192)
def _found(claim: str, text: str) -> Sequence[Argument]:
    made = sorted((a for a in claims()[claim].arguments if a.is_in(text)), key=lambda a: -a.strength)
    return made or [*filter(None, [_hinted_at(claim, text)])]


def _hinted_at(claim: str, text: str) -> Argument | None:
    """The argument of which the words of a text tell most, if they tell enough of it, and less of every other.

    A word tells of an argument when it, or a kin of it, is among the argument's hints and not in the claim or a reason.
    It counts by how few claims have it among their arguments' hints. A question hints at nothing: to ask must be safe.
    """
    heard = sorted(terms(text) - _told(claim))
    if len(text.split()) < FEWEST_WORDS or text.rstrip().endswith("?"):
        return None
    all_of_it = sum(min(MOST_TELLING, _telling(term)) for term in heard)
    told = sorted(((_evidence(heard, words), n) for n, words in enumerate(_wordings(claim))), reverse=True)
    (most, number), (next_most, _) = told[:2]
    clear = most >= ENOUGH and most >= next_most + LEAD and most >= SHARE * all_of_it
    return claims()[claim].arguments[number] if clear else None


def _evidence(heard: Iterable[str], words: Mapping[str, float]) -> float:
    """Sum over the terms of a text, each by what it tells most, and nothing counted twice."""
    best: dict[str, float] = {}
    for term in heard:
        if like := [name for name in with_kin(term) if name in words]:
            name = max(like, key=lambda name: words[name] * _telling(name))
            best[name] = words[name] * _telling(name)
    return sum(best.values())


@cache
def _told(claim: str) -> frozenset[str]:
    """The terms of a claim and of its reasons."""
    return terms(" ".join([claim, *(reason.text for reason in claims()[claim].reasons)]))


@cache
def _wordings(claim: str) -> Sequence[Mapping[str, float]]:
    """For each argument of a claim: term or family -> how far it stands for the argument, from 0 to 1."""
    found = []
    for argument in claims()[claim].arguments:
        words: dict[str, float] = {}
        for term, weight in argument.hints.items():
            for name in with_kin(term) if term not in _told(claim) else ():
                words[name] = max(weight, words.get(name, 0.0))
        found.append(words)
    return found


@cache
def _telling(name: str) -> float:
    """How much a term or family tells: 0 when every claim has it among its arguments' words, 4.1 when none has."""
    return math.log((1 + len(claims())) / (1 + _claims_with().get(name, 0)))


@cache
def _claims_with() -> Mapping[str, int]:
    """Term or family -> number of claims that have it among their arguments' words."""
    return Counter(name for claim in claims().values() for name in all_with_kin(chain(*(a.hints for a in claim.arguments))))


def mentions(text: str, stems: tuple[str, ...]) -> bool:
    """Whether a word of the text begins with one of the stems, whatever the case. Reads the first 2,000 characters."""
    return _mentions(text[:LONGEST_TEXT], stems)


@lru_cache(maxsize=8192)
def _mentions(text: str, stems: tuple[str, ...]) -> bool:
    return _pattern(stems).search(text) is not None


@cache
def _pattern(stems: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(map(re.escape, stems)) + ")", re.IGNORECASE)


@cache
def claims() -> Mapping[str, Claim]:
    """Text of a claim -> the claim."""
    return {row["claim"]: _claim(row) for row in _content("claims")["claim"]}


@cache
def themes() -> Mapping[str, Theme]:
    """Name of a theme -> the theme."""
    return {name: Theme(row["word"], tuple(row["hints"])) for name, row in _content("themes").items()}


def _claim(row: Mapping[str, Any]) -> Claim:
    reasons = tuple(Reason(r["text"], tuple(r["stems"])) for r in row["reasons"])
    arguments = tuple(
        Argument(
            a["key"],
            a["theme"],
            a["strength"],
            tuple(a.get("needs", ())),
            tuple(_widened(group) for group in a["concepts"]),
            tuple(a["says"]),
            _content("also")[row["key"]][a["key"]],
        )
        for a in row["argument"]
    )
    return Claim(row["key"], row["claim"], reasons, arguments)


def _widened(stems: Sequence[str]) -> tuple[str, ...]:
    """The stems and all members of their families."""
    families = [family for family in wording.families() if not family.isdisjoint(stems)]
    return tuple(sorted(set(stems).union(*families)))


@cache
def _content(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("content", f"{name}.toml").read_text("utf-8"))
