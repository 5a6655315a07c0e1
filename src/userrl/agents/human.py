"""A person as the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from userrl.core import Action, Episode
from userrl.gyms.base import gym_of


class HumanAgent:
    """Asks a person for each move.

    Args:
        ask: given what to ask for and the texts allowed (none: free text), returns what was typed.
        show: shows one line of the game.
    """

    def __init__(self, ask: Callable[[str, tuple[str, ...]], str], show: Callable[[str, str], None]) -> None:
        self.ask, self.show = ask, show

    async def act(self, episode: Episode) -> Action:
        return await asyncio.to_thread(self._act, episode)

    def _act(self, episode: Episode) -> Action:
        choices = tuple(gym_of(episode).actions)
        self.show("user", episode.turns[-1].feedback if episode.turns else episode.task.prompt)
        kind = choices[0] if len(choices) == 1 else self.ask(f"turn {len(episode.turns) + 1}/{episode.max_turns}, choice", choices)
        return Action(kind, self.ask(f"turn {len(episode.turns) + 1}/{episode.max_turns}, {kind}", ()))
