"""Estimators: what an episode, or a turn of it, is compared with.

A scheme is one small function in a file of its own, from a `Batch` to a `Worth`, and one line in `ESTIMATORS`.
`userrl check bias` measures how far each is from the true policy gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from userrl.rewards.estimators.batch import Batch, Worth
from userrl.rewards.estimators.dr_grpo import dr_grpo
from userrl.rewards.estimators.gigpo import gigpo
from userrl.rewards.estimators.grpo import grpo
from userrl.rewards.estimators.mt_grpo import mt_grpo
from userrl.rewards.estimators.rloo import rloo


class Estimator(Protocol):
    """What an estimator is."""

    def __call__(self, batch: Batch, /, *, scale: bool = True) -> Worth:
        """The advantages of a batch; `scale=False` only centers where a scheme would divide by a deviation."""
        ...


ESTIMATORS: Mapping[str, Estimator] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "mt_grpo": mt_grpo,
    "gigpo": gigpo,
}
"""Estimators by the name that `advantages(estimator=...)` takes."""
