"""The reward of tau-bench: is the database as the ground truth leaves it, and was everything said that had to be?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from userrl.core import Episode, Task
from userrl.gyms.tau import database, state
from userrl.gyms.tau.database import Base, Overlay

TALK = "action"
"""The choice by which the agent talks to the user."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an episode came to."""

    database: bool
    """Whether it is as the ground truth leaves it."""
    outputs: tuple[bool, ...]
    """For each text that had to be said: whether it was."""

    @property
    def reward(self) -> float:
        """1 for all of it, else 0."""
        return float(self.database and all(self.outputs))


def judge(episode: Episode, base: Base) -> Verdict:
    """The verdict on what was done and said so far, however it ended."""
    said = [turn.action.text for turn in episode.turns if turn.action.kind == TALK]
    outputs = tuple(mentioned(output, said) for output in episode.task.hidden["outputs"])
    return Verdict(database.equal(state.replay(base, calls(episode)), truth(episode.task, base)), outputs)


def calls(episode: Episode) -> Iterator[state.Call]:
    """The tool calls made so far."""
    for turn in episode.turns:
        if call := turn.facts.get("call"):
            yield call["name"], call["arguments"]


def truth(task: Task, base: Base) -> Overlay:
    """The database after the ground truth, whose own failing calls fail here, too."""
    return state.replay(base, [(action["name"], action["arguments"]) for action in task.hidden["actions"]])


def mentioned(output: str, said: list[str]) -> bool:
    """Whether a message holds the text, in any case and without the commas of the message.

    As in the original there are no word borders.

    >>> mentioned("1786", ["That is $1,786."]), mentioned("10", ["9107"]), mentioned("1,786", ["1,786"])
    (True, True, False)
    """
    return any(output.lower() in message.lower().replace(",", "") for message in said)


def leaves_database(task: Task, base: Base) -> bool:
    """Whether the ground truth changes nothing, so that an agent that does nothing has the database right."""
    return database.equal(truth(task, base), Overlay(base))
