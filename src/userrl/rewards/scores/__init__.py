"""Trajectory scores: one number for an episode, by which it is compared with the others of its group.

A scheme is one small function in a file of its own, from turn rewards (..., T) in the gym's units to scores (...), and
one line in `SCORES`. The last axis is the turns of one episode, with 0 behind its end. All are called alike, so each
passes over the options that it has no use for.
Source: UserRL, arXiv 2509.19736, section 3. Its text says "Sum" where its code takes the mean; here `sum` adds and
`mean` averages, under compat too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from numpy.typing import ArrayLike

from userrl.core import DEFAULT_MAX_TURNS
from userrl.rewards.base import GAMMA, Array
from userrl.rewards.scores.composite import TURN_COST, composite
from userrl.rewards.scores.mean import mean
from userrl.rewards.scores.r2g import r2g
from userrl.rewards.scores.total import total


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


SCORES: Mapping[str, Score] = {
    "sum": total,
    "mean": mean,
    "r2g": r2g,
    "composite": composite,
}
"""Scores by the name that `--score` takes."""
