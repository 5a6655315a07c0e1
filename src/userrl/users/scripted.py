"""A user or judge that answers from a query's facts by a function: deterministic, offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from userrl.core import Query
from userrl.errors import ReplyError

R = TypeVar("R")


class Scripted:
    """Answers each query by the function registered for its name."""

    def __init__(self, answers: Mapping[str, Callable[[Query[Any]], Any]]) -> None:
        self.answers = answers

    async def answer(self, query: Query[R]) -> R:
        if query.name not in self.answers:
            raise ReplyError(f"The script has no answer to {query.name!r}; it knows {', '.join(self.answers) or 'none'}.")
        reply = self.answers[query.name](query)
        if not isinstance(reply, query.reply):
            raise ReplyError(f"The script answered {query.name!r} with {reply!r}; expected a {query.reply.__name__}.")
        return cast(R, reply)
