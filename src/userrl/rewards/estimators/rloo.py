"""The estimator `rloo`."""

from __future__ import annotations

import numpy as np

from userrl.rewards.estimators.batch import Batch, Worth, compare, warn_of_lone


def rloo(batch: Batch, /, **_: object) -> Worth:
    """The score's distance from the mean of the group's others (leave one out, arXiv 2402.14740), not scaled."""
    out, size = compare(batch.scores, batch.group, scale=False)
    warn_of_lone(size, stacklevel=2)
    return Worth(out * size / np.maximum(size - 1, 1))
