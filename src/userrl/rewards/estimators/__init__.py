"""Estimators: what an episode, or a turn of it, is compared with.

A scheme is one small function in a file of its own, from a `Batch` to a `Worth`, and one line in `schemes.ESTIMATORS`.
Before it stands `@reads(...)` where it reads other things than the credit and the score. `userrl check bias` measures how
far each is from the true policy gradient.
"""

from __future__ import annotations

from typing import Protocol

from userrl.rewards.estimators.batch import Batch, Worth


class Estimator(Protocol):
    """What an estimator is."""

    def __call__(self, batch: Batch, /, *, scale: bool = True) -> Worth:
        """The advantages of a batch; `scale=False` only centers where a scheme would divide by a deviation."""
        ...
