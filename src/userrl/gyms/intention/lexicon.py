"""How the scripted judge and user recognize what a question is about: phrases at word boundaries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)


def mentions(text: str, phrases: Sequence[str]) -> bool:
    """Whether any of the phrases occurs in the text, at word boundaries, whatever the case."""
    return bool(phrases) and _pattern(tuple(phrases)).search(text) is not None


def mentioned(text: str, lexicons: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys whose phrases occur in the text, in the order of their first occurrence."""
    found = {key: m.start() for key, phrases in lexicons.items() if phrases and (m := _pattern(tuple(phrases)).search(text))}
    return sorted(found, key=lambda key: found[key])
