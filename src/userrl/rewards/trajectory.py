"""Trajectory scores: one number for an episode, by which it is compared with the others of its group.

A scheme is one small function from the turn rewards, (T,) in the gym's units, to a float, and one line in `SCORES`.
All are called alike, so each passes over the options that it has no use for.
Source: UserRL, arXiv 2509.19736, section 3. Its text says "Sum" where its code takes the mean; here `sum` adds and
`mean` averages, under compat too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from userrl.core import DEFAULT_MAX_TURNS
from userrl.errors import ConfigError
from userrl.rewards.turns import DIGITS, GAMMA, Rewards

TURN_COST = 0.1
"""What playing all turns up to the limit costs a `composite` score, where a success is worth 1."""


class Score(Protocol):
    """A scoring scheme."""

    def __call__(
        self,
        rewards: Rewards,
        /,
        *,
        gamma: float = GAMMA,
        success: float | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        turn_cost: float = TURN_COST,
        compat: str | None = None,
    ) -> float:
        """The score of an episode from its turn rewards (T,)."""
        ...


def total(rewards: Rewards, /, **_: object) -> float:
    """The sum of the rewards: the paper's formula, which its code never ran. 0 without turns."""
    return math.fsum(rewards)


def mean(rewards: Rewards, /, *, compat: str | None = None, **_: object) -> float:
    """The mean reward of a turn; 0 without turns. `compat="userrl"` rounds to 4 decimals: the original's "Sum"."""
    score = math.fsum(rewards) / len(rewards) if len(rewards) else 0.0
    return round(score, DIGITS) if compat else score


def r2g(rewards: Rewards, /, *, gamma: float = GAMMA, **_: object) -> float:
    """The discounted sum of the rewards, the first one in full: early success counts more. The paper's best."""
    score = 0.0
    for reward in reversed(rewards):
        score = float(reward) + gamma * score
    return score


def composite(
    rewards: Rewards,
    /,
    *,
    success: float | None = None,
    max_turns: int = DEFAULT_MAX_TURNS,
    turn_cost: float = TURN_COST,
    **_: object,
) -> float:
    """Success less the cost of the turns it took: success - turn_cost * T / max_turns.

    Args:
        success: 1.0 or 0.0 as the gym's `solved` says, or a share of success. Required: rewards alone do not say.
        max_turns: the episode's turn limit.
        turn_cost: the cost of playing up to the limit.
    """
    if success is None:
        raise ConfigError("Score 'composite' needs `success`, which is missing; pass 1.0 or 0.0 per episode (see `Gym.solved`).")
    return float(success) - turn_cost * len(rewards) / max_turns


SCORES: Mapping[str, Score] = {"sum": total, "mean": mean, "r2g": r2g, "composite": composite}
"""Scores by the name that `--score` takes."""
