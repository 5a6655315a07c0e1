"""Turn credits: how much of an episode's advantage each of its turns gets.

A scheme is one small function in a file of its own, from turn rewards (..., T) in the gym's units to turn credits of the
same shape, and one line in `schemes.CREDITS`. The last axis is the turns of one episode, with 0 behind its end; what a
scheme says there does not count. All are called alike, so each passes over the options that it has no use for.
Source: UserRL, arXiv 2509.19736, section 3; the numbers agree with its released code under `compat="userrl"`.
"""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from userrl.rewards.base import EM_K, GAMMA, Array


class Credit(Protocol):
    """A credit scheme."""

    def __call__(self, rewards: ArrayLike, /, *, gamma: float = GAMMA, em_k: float = EM_K, compat: str | None = None) -> Array:
        """The credits (..., T) of turns from their rewards (..., T)."""
        ...
