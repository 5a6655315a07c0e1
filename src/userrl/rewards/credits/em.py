"""The credit `em`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from userrl.rewards.base import Array, rounded


def em(rewards: ArrayLike, /, *, k: float = 2.0, compat: str | None = None, **_: object) -> Array:
    """Exponential mapping: 0.5 for a reward of 0 up to 1 for a reward of 1, rising fast at first.

    Negative rewards map below 0.5 and, from about -0.3 on, below 0.

    Args:
        k: how fast it rises.
        compat: "userrl" rounds to 4 decimals, as the original does.
    """
    credits: Array = 0.5 + 0.5 * np.expm1(-k * np.asarray(rewards, dtype=np.float64)) / np.expm1(-k)
    return rounded(credits) if compat else credits
