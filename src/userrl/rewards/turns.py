"""Turn credits: how much of an episode's advantage each of its turns gets.

A scheme is one small function from the turn rewards, (T,) in the gym's units, to the turn credits, (T,), and one
line in `CREDITS`. All are called alike, so each passes over the options that it has no use for.
Source: UserRL, arXiv 2509.19736, section 3; the numbers agree with its released code under `compat="userrl"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rewards = Sequence[float] | Array

GAMMA = 0.8
"""Discount per turn, of credits and of scores alike."""
DIGITS = 4
"""Decimals to which the original rounds."""


class Credit(Protocol):
    """A credit scheme."""

    def __call__(self, rewards: Rewards, /, *, gamma: float = GAMMA, compat: str | None = None) -> Array:
        """The credits (T,) of an episode's turns from their rewards (T,)."""
        ...


def naive(rewards: Rewards, /, **_: object) -> Array:
    """The turn's own reward. The paper finds that it collapses training; it is here to show that."""
    return np.array(rewards, dtype=np.float64)


def equalized(rewards: Rewards, /, **_: object) -> Array:
    """1 for every turn: plain GRPO over trajectories, and the paper's best."""
    return np.ones(len(rewards))


def r2g(rewards: Rewards, /, *, gamma: float = GAMMA, **_: object) -> Array:
    """Reward-to-go: the discounted rewards from the turn on.

    >>> r2g([0.0, 1.0], gamma=0.5).tolist()
    [0.5, 1.0]
    """
    credits, ahead = np.empty(len(rewards)), 0.0
    for turn in reversed(range(len(rewards))):
        credits[turn] = ahead = rewards[turn] + gamma * ahead
    return credits


def em(rewards: Rewards, /, *, k: float = 2.0, compat: str | None = None, **_: object) -> Array:
    """Exponential mapping: 0.5 for a reward of 0 up to 1 for a reward of 1, rising fast at first.

    Negative rewards map below 0.5 and, from about -0.3 on, below 0.

    Args:
        k: how fast it rises.
        compat: "userrl" rounds to 4 decimals, as the original does.
    """
    credits: Array = 0.5 + 0.5 * np.expm1(-k * np.asarray(rewards, dtype=np.float64)) / np.expm1(-k)
    return np.array([round(float(c), DIGITS) for c in credits]) if compat else credits


CREDITS: Mapping[str, Credit] = {"naive": naive, "equalized": equalized, "r2g": r2g, "em": em}
"""Credit schemes by the name that `--credit` takes."""
