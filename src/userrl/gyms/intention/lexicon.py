"""How the scripted judge and user recognize what a question is about: phrases at word boundaries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

K = TypeVar("K")


@lru_cache(maxsize=4096)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def _needed(phrases: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    """The words that a text must hold to hold one of the phrases, for each of them."""
    return tuple(map(_words, phrases))


@lru_cache(maxsize=8)
def _words(text: str) -> frozenset[str]:
    """The words of a text, alike where `re.IGNORECASE` takes them for the same. User and judge look at the same one in turn."""
    return frozenset(" ".join(_WORD.findall(text)).replace("İ", "i").replace("ı", "i").casefold().split())


_WORD = re.compile(r"\w+")


def mentioned(text: str, lexicons: Mapping[K, Sequence[str]]) -> list[K]:
    """The keys whose phrases occur in the text, at word boundaries, whatever the case, in the order of their first occurrence.

    Of most keys the text does not even hold the words, which is seen much faster.
    """
    words, found = _words(text), {}
    for key, several in lexicons.items():
        phrases = tuple(several)
        if any(map(words.issuperset, _needed(phrases))) and (match := _pattern(phrases).search(text)):
            found[key] = match.start()
    return sorted(found, key=lambda key: found[key])


_COMMON_WORDS = (
    "about above after also and any anything are area aspect aspects been before being below between both but can certain could "
    "currently did does doing each exact find for from give going had has have her here him his how important include included "
    "including information interested into involved its just kind kinds know like look looking make may mention might more most "
    "much must need needed needs not off one only other our out over own particular particularly planning please prefer "
    "preference preferences preferred provide regarding related require requirements same she should some something specific "
    "specifically such task tell than that the their them then there these they thing this those through try type types under "
    "use used user very want was well were what when where whether which while who whom whose why will with would you your "
    "yours"
)
_COMMON = frozenset(_COMMON_WORDS.split())
"""Words that say nothing about what a question is about, in English."""


def own_words(texts: Sequence[str], told: str = "") -> list[tuple[str, ...]]:
    """For each text the words by which it differs from the others: a lexicon where nobody wrote one.

    Words of three letters or more that are not common, in no other of the texts and not in `told`, each also with and
    without a final s. There may be none.
    """
    stems = [{_stem(word) for word in re.findall(r"\w{3,}", text.lower()) if word not in _COMMON} for text in (*texts, told)]
    found = []
    for i in range(len(texts)):
        own = stems[i].difference(*(others for j, others in enumerate(stems) if j != i))
        found.append(tuple(sorted({form for stem in own for form in (stem, f"{stem}s")})))
    return found


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
