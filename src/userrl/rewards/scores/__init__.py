"""Trajectory scores: one number for an episode, by which it is compared with the others of its group.

A scheme is one small function in a file of its own, from turn rewards (..., T) in the gym's units to scores (...), and
one line in `schemes.SCORES`. The last axis is the turns of one episode, with 0 behind its end. All are called alike, so
each passes over the options that it has no use for; before one that needs an episode's success stands `@reads(success=True)`.
Source: UserRL, arXiv 2509.19736, section 3. Its text says "Sum" where its code takes the mean; here `sum` adds and
`mean` averages, under compat too.
"""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from userrl.core import DEFAULT_MAX_TURNS
from userrl.rewards.base import GAMMA, TURN_COST, Array


class Score(Protocol):
    """A scoring scheme."""

    def __call__(
        self,
        rewards: ArrayLike,
        /,
        *,
        turns: ArrayLike | None = None,
        gamma: float = GAMMA,
        success: ArrayLike | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        turn_cost: float = TURN_COST,
        compat: str | None = None,
    ) -> Array:
        """The scores (...) of episodes from their turn rewards (..., T), of which the first `turns` (...) were played."""
        ...
