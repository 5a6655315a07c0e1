"""What the schemes share: arrays of turn values, padded with 0 behind each episode's last turn."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

GAMMA = 0.8
"""Discount per turn, of credits and of scores alike."""
DIGITS = 4
"""Decimals to which the original rounds."""


def padded(rows: Sequence[Sequence[float] | Array]) -> tuple[Array, Indices]:
    """(N, T) values of N episodes with 0 behind the last turn of each, and their numbers of turns (N,)."""
    turns = np.fromiter(map(len, rows), np.int64, len(rows))
    values = np.zeros((len(rows), int(turns.max(initial=0))))
    values[np.arange(values.shape[1]) < turns[:, None]] = np.fromiter(chain.from_iterable(rows), np.float64, int(turns.sum()))
    return values, turns


def numbered(keys: Sequence[Hashable]) -> Indices:
    """(N,) the number of each key, counted from 0 in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def rounded(values: ArrayLike) -> Array:
    """Rounded to `DIGITS` decimals as Python rounds; numpy's own rounding differs where a value lies halfway."""
    array = np.asarray(values, dtype=np.float64)
    return np.array([round(value, DIGITS) for value in array.ravel().tolist()], dtype=np.float64).reshape(array.shape)


def to_go(rewards: ArrayLike, gamma: float) -> Array:
    """(..., T) the discounted rewards from each turn on, from rewards (..., T)."""
    ahead = np.array(rewards, dtype=np.float64)
    for turn in reversed(range(ahead.shape[-1] - 1)):
        ahead[..., turn] += gamma * ahead[..., turn + 1]
    return ahead
