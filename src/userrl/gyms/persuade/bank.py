"""What can be said against each claim, and what can matter to a user: the tables under `content/`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

LONGEST_TEXT = 2_000
"""Characters of a message that are read; what is beyond makes no argument (and is not kept in memory)."""
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
        """The arguments that a text makes, strongest first, as listed among equals."""
        return sorted((a for a in self.arguments if a.is_in(text)), key=lambda a: -a.strength)

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


def mentions(text: str, stems: tuple[str, ...]) -> bool:
    """Whether a word of the text begins with one of the stems, whatever the case. Reads the first 2,000 characters."""
    return _mentions(text[:LONGEST_TEXT], stems)


@lru_cache(maxsize=65_536)
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
        )
        for a in row["argument"]
    )
    return Claim(row["key"], row["claim"], reasons, arguments)


def _widened(stems: Sequence[str]) -> tuple[str, ...]:
    """The stems and all members of their families."""
    families = [family for family in _families() if not family.isdisjoint(stems)]
    return tuple(sorted(set(stems).union(*families)))


@cache
def _families() -> Sequence[frozenset[str]]:
    return [frozenset(family) for family in _content("words")["families"]]


def _content(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("content", f"{name}.toml").read_text("utf-8"))
