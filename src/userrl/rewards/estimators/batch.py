"""What an estimator reads and gives, and the comparison that all are made of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from userrl.rewards.base import Array, Indices, Mask

EPS = 1e-6
"""Added to a group's standard deviation."""
FLAT = 1e-6
"""A group whose standard deviation is below this share of its largest value counts as equal."""


@dataclass(frozen=True)
class Batch:
    """N episodes of at most T turns."""

    scores: Array
    """(N,) in the gym's units."""
    rewards: Array
    """(N, T) in the gym's units, 0 behind an episode's end."""
    played: Mask
    """(N, T) whether the episode has the turn."""
    group: Indices
    """(N,) what an episode is compared within, numbered from 0."""
    gamma: float
    """Discount per turn."""
    state: Indices | None = None
    """(N, T) number of the gym state in which the turn's action was chosen."""
    original: bool = False
    """Whether to give what the original code gives (`compat`)."""


@dataclass(frozen=True)
class Worth:
    """Advantages: an episode's, which its credits spread over its turns, and a turn's own, which is added."""

    of_episode: Array
    """(N,)"""
    of_turn: Array | None = None
    """(N, T)"""


def compare(values: Array, index: Indices, *, scale: bool, eps: float = EPS) -> tuple[Array, Indices]:
    """How far each value is from the mean of its group, over the group's deviation, and how many the group has.

    Args:
        values: (M,)
        index: (M,) number of each value's group, from 0.
        scale: divide by the standard deviation over n - 1, plus `eps`; False only centers.

    Returns:
        (M,) distances, which sum to 0 within a group and are exactly 0 where its values are equal (deviation below
        1e-6 of the largest) or there is only one; (M,) sizes.
    """
    size = np.bincount(index)
    mean = np.bincount(index, values) / np.maximum(size, 1)
    centered = values - mean[index]
    std = np.sqrt(np.bincount(index, centered**2) / np.maximum(size - 1, 1))
    largest = np.zeros(len(size))
    np.maximum.at(largest, index, np.abs(values))
    flat = std <= FLAT * largest
    out: Array = np.where(flat[index], 0.0, centered / (std + eps)[index] if scale else centered)
    return out, size[index]


def warn_of_lone(size: Indices, stacklevel: int) -> None:
    """Warn of groups of one; `size` (N,) is that of each episode's group."""
    lone = int((size == 1).sum())
    if lone:
        groups = round(float((1 / size).sum()))
        warnings.warn(
            f"{lone} of {groups} groups have one episode, which has nothing to be compared with and gets "
            f"advantage 0. Play at least 2 episodes of a task, or drop such groups.",
            stacklevel=stacklevel + 1,
        )
