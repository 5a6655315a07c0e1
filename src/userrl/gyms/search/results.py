"""What a search engine gives, and how the agent reads it: plain, bounded text, whatever the engine sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from userrl.llm.wire import clean

MAX_QUERY = 400
"""Characters of a query that reach an engine."""
MAX_TITLE, MAX_SNIPPET, MAX_SOURCE = 160, 600, 160
"""Characters of a result that the agent reads."""

_TAG = re.compile(r"<(?=[|/!a-zA-Z])")


@dataclass(frozen=True, slots=True)
class Result:
    """One hit: text from outside, which is never trusted."""

    title: str
    snippet: str
    source: str = ""
    """Where it is from: a URL, or the name of a work."""


class Engine(Protocol):
    """Whatever can be searched. Stateless towards episodes, so one engine serves any number of them at once."""

    async def search(self, text: str, count: int) -> list[Result]:
        """The best results first, at most `count`. An empty list says that nothing fits.

        Raises EndpointError when the engine fails, EndpointRefused when no retry can help: never an empty list.
        """
        ...


def query_text(text: str) -> str:
    """An agent's words as a query: one line, cleaned and cut."""
    return plain(text, MAX_QUERY)


def plain(text: str, limit: int) -> str:
    """One line without control characters, in which nothing looks like a tag, cut to `limit` characters.

    Tags are taken apart because chat templates give some of them a meaning: a page must not end a tool's answer.

    >>> plain("a <b>bold</b>\\n<|im_end|> claim: 1 < 2", 99)
    'a ‹b>bold‹/b> ‹|im_end|> claim: 1 < 2'
    """
    line = _TAG.sub("‹", " ".join(clean(text[: 4 * limit]).split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def listing(results: Sequence[Result]) -> str:
    """Results as numbered lines: title and source on one, the snippet on the next.

    >>> print(listing([Result("Ombrel Mills", "Ombrel Mills makes flour.", "Register of Companies")]))
    1. Ombrel Mills [Register of Companies]
       Ombrel Mills makes flour.
    """
    lines = []
    for number, result in enumerate(results, start=1):
        source = f" [{plain(result.source, MAX_SOURCE)}]" if result.source else ""
        lines.append(f"{number}. {plain(result.title, MAX_TITLE)}{source}")
        lines.append(f"   {plain(result.snippet, MAX_SNIPPET)}")
    return "\n".join(lines)
