"""The score `mean`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from userrl.rewards.base import Array, rounded


def mean(rewards: ArrayLike, /, *, turns: ArrayLike | None = None, compat: str | None = None, **_: object) -> Array:
    """The mean reward of a turn; 0 without turns. `compat="userrl"` rounds to 4 decimals: the original's "Sum"."""
    values = np.asarray(rewards, dtype=np.float64)
    played = np.maximum(values.shape[-1] if turns is None else np.asarray(turns), 1)
    if not compat:
        return np.asarray(values.sum(-1) / played)
    # the last bit of a sum decides where a mean lies halfway between two roundings
    sums = [math.fsum(row) for row in values.reshape(math.prod(values.shape[:-1]), -1).tolist()]
    return rounded(np.array(sums).reshape(values.shape[:-1]) / played)
