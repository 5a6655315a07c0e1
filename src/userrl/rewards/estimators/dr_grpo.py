"""The estimator `dr_grpo`."""

from __future__ import annotations

from userrl.rewards.estimators.batch import Batch, Worth
from userrl.rewards.estimators.grpo import grpo


def dr_grpo(batch: Batch, /, **_: object) -> Worth:
    """The score's distance from the group's mean, not scaled (Dr. GRPO, arXiv 2503.20783)."""
    return grpo(batch, scale=False)
