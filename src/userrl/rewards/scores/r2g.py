"""The score `r2g`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from userrl.rewards.base import GAMMA, Array


def r2g(rewards: ArrayLike, /, *, gamma: float = GAMMA, **_: object) -> Array:
    """The discounted sum of the rewards, the first one in full: early success counts more. The paper's best."""
    values = np.asarray(rewards, dtype=np.float64)
    score = np.zeros(values.shape[:-1])
    for turn in reversed(range(values.shape[-1])):
        score = values[..., turn] + gamma * score
    return np.asarray(score)
