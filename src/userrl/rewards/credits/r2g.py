"""The credit `r2g`."""

from __future__ import annotations

from numpy.typing import ArrayLike

from userrl.rewards.base import GAMMA, Array, to_go


def r2g(rewards: ArrayLike, /, *, gamma: float = GAMMA, **_: object) -> Array:
    """Reward-to-go: the discounted rewards from the turn on.

    >>> r2g([0.0, 1.0], gamma=0.5).tolist()
    [0.5, 1.0]
    """
    return to_go(rewards, gamma)
