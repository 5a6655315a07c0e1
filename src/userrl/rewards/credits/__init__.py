"""Turn credits: how much of an episode's advantage each of its turns gets.

A scheme is one small function in a file of its own, from turn rewards (..., T) in the gym's units to turn credits of the
same shape, and one line in `CREDITS`. The last axis is the turns of one episode, with 0 behind its end; what a scheme
says there does not count. All are called alike, so each passes over the options that it has no use for.
Source: UserRL, arXiv 2509.19736, section 3; the numbers agree with its released code under `compat="userrl"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from numpy.typing import ArrayLike

from userrl.rewards.base import GAMMA, Array
from userrl.rewards.credits.em import em
from userrl.rewards.credits.equalized import equalized
from userrl.rewards.credits.naive import naive
from userrl.rewards.credits.r2g import r2g


class Credit(Protocol):
    """A credit scheme."""

    def __call__(self, rewards: ArrayLike, /, *, gamma: float = GAMMA, compat: str | None = None) -> Array:
        """The credits (..., T) of turns from their rewards (..., T)."""
        ...


CREDITS: Mapping[str, Credit] = {
    "naive": naive,
    "equalized": equalized,
    "r2g": r2g,
    "em": em,
}
"""Credit schemes by the name that `--credit` takes."""
