"""The credit `em`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from userrl.rewards.base import EM_K, Array, rounded


def em(rewards: ArrayLike, /, *, em_k: float = EM_K, compat: str | None = None, **_: object) -> Array:
    """Exponential mapping: 0.5 for a reward of 0 up to 1 for a reward of 1, rising fast at first.

    Negative rewards map below 0.5 and, from about -0.3 on, below 0.

    Args:
        em_k: how fast it rises, above 0.
        compat: "userrl" rounds to 4 decimals, as the original does.
    """
    credits: Array = 0.5 + 0.5 * np.expm1(-em_k * np.asarray(rewards, dtype=np.float64)) / np.expm1(-em_k)
    return rounded(credits) if compat else credits
