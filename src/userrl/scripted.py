"""Seats filled by functions and lists: users and judges that answer from facts, agents that follow a script.

Deterministic and offline. The gyms' scripted users, judges, experts and baselines are made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from userrl.core import Action, Episode, Query
from userrl.errors import ReplyError, SeatError

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
        return reply


class Acting:
    """Acts by a function of the episode."""

    def __init__(self, act: Callable[[Episode], Action]) -> None:
        self._act = act

    async def act(self, episode: Episode) -> Action:
        return self._act(episode)


class Listed:
    """Plays a list of actions; after its end it fails."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = actions

    async def act(self, episode: Episode) -> Action:
        if len(episode.turns) >= len(self.actions):
            raise SeatError(f"The list of {len(self.actions)} actions is used up.")
        return self.actions[len(episode.turns)]
