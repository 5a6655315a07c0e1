"""A person as the agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from userrl.core import Action, Episode
from userrl.gyms.base import gym_of

HELP = ("?", "/help")
"""Lines that are no move, but ask for the rules."""


class HumanAgent:
    """Asks a person for each move, a line at a time. Waits without letting other episodes go on.

    Args:
        ask: given a prompt, returns the line that was typed.
        show: shows what came back from the gym.
        hint: shows how to type a move, after a line that is none.
    """

    def __init__(self, ask: Callable[[str], str], show: Callable[[str], None], hint: Callable[[str], None]) -> None:
        self.ask, self.show, self.hint = ask, show, hint

    async def act(self, episode: Episode) -> Action:
        """The person's move: the line, or where the gym has several choices, a choice and its text."""
        gym = gym_of(episode)
        choices = tuple(gym.actions)
        self.show(episode.turns[-1].feedback if episode.turns else episode.task.prompt)
        while True:
            typed = self.ask(f"{len(episode.turns) + 1}/{episode.max_turns}").strip()
            if typed in HELP:
                self.hint("\n".join(["What a model is told:", gym.system(episode.task), *map(": ".join, gym.actions.items())]))
            elif action := read_line(typed, choices):
                return action
            elif (alone := typed.lower().removesuffix(":")) in choices:
                self.hint(f"Go on in the same line: {alone}, and then what you want to say with it.")
            elif typed:
                self.hint(f"Begin with a choice ({', '.join(choices)}), then its text, as in: {choices[0]} {typed}")


def read_line(typed: str, choices: Sequence[str]) -> Action | None:
    """What a line says, or None when it is empty, begins with no choice, though there are several, or is a choice alone.

    >>> read_line("Answer: 24", ("action", "answer")).text
    '24'
    """
    if len(choices) == 1:
        return Action(choices[0], typed) if typed else None
    for kind in choices:
        rest = typed[len(kind) :]
        text = rest.strip().removeprefix(":").strip()
        if typed.lower().startswith(kind) and rest[:1] in (" ", ":") and text:
            return Action(kind, text)
    return None
