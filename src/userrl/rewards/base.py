"""What the schemes share: arrays of turn values, padded with 0 behind each episode's last turn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
F = TypeVar("F", bound=Callable[..., Any])

GAMMA = 0.8
"""Discount per turn, of credits and of scores alike."""
EM_K = 2.0
"""How fast the credit `em` rises."""
TURN_COST = 0.1
"""What playing all turns up to the limit costs a `composite` score, where a success is worth 1."""
DIGITS = 4
"""Decimals to which the original rounds."""


@dataclass(frozen=True)
class Reads:
    """What a scheme makes use of, beside the rewards."""

    credit: bool = True
    """An estimator: the turn credit spreads what it says of an episode. False where it speaks of turns alone."""
    score: bool = True
    """An estimator: `Batch.scores`."""
    states: bool = False
    """An estimator: `Batch.state`, which only a gym's episodes have."""
    success: bool = False
    """A score: whether the episode reached its goal, which rewards alone do not say."""


def reads(*, credit: bool = True, score: bool = True, states: bool = False, success: bool = False) -> Callable[[F], F]:
    """Says of a scheme what it makes use of; one without it reads credit and score, and no more."""

    def mark(scheme: F) -> F:
        scheme.reads = Reads(credit, score, states, success)  # type: ignore[attr-defined]
        return scheme

    return mark


def read_by(scheme: Callable[..., Any]) -> Reads:
    """What a scheme says that it reads."""
    found: Reads = getattr(scheme, "reads", Reads())
    return found


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
