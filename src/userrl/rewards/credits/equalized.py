"""The credit `equalized`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from userrl.rewards.base import Array


def equalized(rewards: ArrayLike, /, **_: object) -> Array:
    """1 for every turn: plain GRPO over trajectories, and the paper's best."""
    return np.ones(np.shape(rewards))
