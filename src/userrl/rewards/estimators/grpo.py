"""The estimator `grpo`."""

from __future__ import annotations

import numpy as np

from userrl.rewards.estimators.batch import EPS, Batch, Worth, compare, warn_of_lone


def grpo(batch: Batch, /, *, scale: bool = True, eps: float = EPS) -> Worth:
    """The score's distance from the group's mean, over the group's standard deviation (arXiv 2402.03300).

    Under compat the only episode of a group keeps its score (scaled by 1 + eps) in place of 0.
    """
    out, size = compare(batch.scores, batch.group, scale=scale, eps=eps)
    if batch.original:
        return Worth(np.where(size == 1, batch.scores / (1.0 + eps) if scale else batch.scores, out))
    warn_of_lone(size, stacklevel=2)
    return Worth(out)
