"""Agents that follow a list or a function: experts, baselines, tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from userrl.core import Action, Episode
from userrl.errors import SeatError


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
