"""What the user is told, and what it replies."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from userrl.core import Action, Episode, Turn
from userrl.gyms.tau.rules import TALK

STOP = "###STOP###"
"""Compat: the original's user ends the talk by saying this."""


class Talk(BaseModel):
    """What the user says, and whether the talk is over. The end is a field of its own, so that no words can forge it."""

    model_config: ClassVar = ConfigDict(extra="ignore", frozen=True)
    text: str = Field(description="What you say to the assistant.")
    ends: bool = Field(strict=True, description="Whether the talk is over for you with these words.")


def transcript(episode: Episode, action: Action) -> list[dict[str, Any]]:
    """What agent and user have said after the opening, the agent's new message last. Of tool calls the user knows nothing."""
    lines = []
    for turn in episode.turns:
        if turn.action.kind == TALK:
            lines += [{"who": "agent", "text": turn.action.text}, {"who": "user", "text": _reply(turn)}]
    return [*lines, {"who": "agent", "text": action.text}]


def _reply(turn: Turn) -> str:
    """What the user said, without the loop's note to the agent."""
    return turn.feedback.removesuffix(f"\n({turn.action.note})") if turn.action.note else turn.feedback
