"""How the scripted user and judge read: words without their endings, and concepts as lists of synonyms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import TypeAlias

Concept: TypeAlias = tuple[str, ...]
"""Stemmed synonyms, each with a space on either side; any one of them will do."""

_WORD = re.compile(r"[^\W_]{1,40}(?:'[^\W_]{1,40})?")
_VOWEL = re.compile(r"[aeiouy]")
_SHORT = re.compile(r"[^aeiou][aeiou][^aeiouwxy]")
"""What is left of bak-ing: the three letters of a four-letter word on e. Others double the last letter (stop-ping)."""

FUNCTION_WORDS = frozenset(resources.files(__package__).joinpath("content", "function_words.txt").read_text("utf-8").split())
"""Words that any story is made of; they say nothing about whether a telling is about this one."""


def words(text: str, most: int | None = None) -> list[str]:
    """The words of a text in lower case, without the 's of a genitive; at most so many."""
    found = _WORD.finditer(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return [match[0].removesuffix("'s") for match in islice(found, most)]


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A word without its ending, so that its regular forms are one: rings, ringing, ringed -> ring; baking -> bak.

    Crude on purpose and the same on both sides of a comparison. At least three letters with a vowel are left.
    """
    word = word.replace("'", "")
    if word.endswith(("ies", "ied")) and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us")):
        word = _without(word, "s")
    if (rest := _without(_without(word, "ing"), "ed")) != word:
        word = rest + "e" if _SHORT.fullmatch(rest) else rest
    word = _without(word, "ly")
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    if len(word) > 4 and word[-1] == "e":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 2 and word[-1] == "y" else word


def _without(word: str, ending: str) -> str:
    """A word without an ending, if enough is left of it."""
    rest = word.removesuffix(ending)
    return rest if len(rest) >= 3 and _VOWEL.search(rest) else word


def stems(text: Sequence[str]) -> str:
    """Words as stems with a space on either side of each, to look for concepts in."""
    return f" {' '.join(map(stem, text))} "


@cache
def concepts(text: str) -> tuple[Concept, ...]:
    """The concepts of a content file's text: "fire / flame; stage" is two, the first with two synonyms."""
    return tuple(tuple(stems(words(synonym)) for synonym in part.split("/")) for part in text.split(";"))


def mentioned(text: str, concept: Concept) -> bool:
    """Whether a text (as `stems` gives it) holds any of the concept's synonyms."""
    return any(synonym in text for synonym in concept)
