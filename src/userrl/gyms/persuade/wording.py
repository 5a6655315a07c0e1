"""What the words of a text are about: forms of a word are one term, and terms of one family are kin (`content/words.toml`)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

SHORTEST_STEM = 3
_ENDINGS = (
    *("ingly", "edly", "ations", "ation", "ings", "ness", "ment", "ing", "ies", "ied", "ion", "est", "ers"),
    *("ed", "es", "ly", "er", "al", "s", "e", "y"),
)
"""Of which the first that fits is cut off: enough to bring forms of a word together, not to find its root."""


def terms(text: str) -> frozenset[str]:
    """What the words of a text come down to, without the common ones.

    >>> sorted(terms("They are drying the DRIED socks."))
    ['dr', 'sock']
    """
    words = re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", ""))
    return frozenset(stem(word) for word in words if len(word) >= SHORTEST_STEM and word not in _common())


def stem(word: str) -> str:
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= SHORTEST_STEM), "")
    word = word.removesuffix(ending)
    return word[:-1] if len(word) > SHORTEST_STEM and word[-1] == word[-2] else word


def with_kin(term: str) -> Sequence[str]:
    """A term and the families that it is in."""
    return (term, *_kin().get(term, ()))


def all_with_kin(some: Iterable[str]) -> set[str]:
    return {name for term in some for name in with_kin(term)}


@cache
def families() -> Sequence[frozenset[str]]:
    """Families of word stems that make an argument in each other's place."""
    return [frozenset(family) for family in _content()["families"]]


@cache
def _kin() -> Mapping[str, Sequence[str]]:
    """Term -> names of its families, which begin with # as no term does."""
    found: dict[str, list[str]] = {}
    for number, family in enumerate(_content()["kin"]):
        for term in dict.fromkeys(map(stem, family.split())):
            found.setdefault(term, []).append(f"#{number}")
    return found


@cache
def _common() -> frozenset[str]:
    return frozenset(_content()["common"].split())


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("content", "words.toml").read_text("utf-8"))
