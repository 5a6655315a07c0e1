"""The estimator `mt_grpo`."""

from __future__ import annotations

import numpy as np

from userrl.rewards.base import reads, to_go
from userrl.rewards.estimators.batch import Batch, Worth, compare


@reads(credit=False, score=False)
def mt_grpo(batch: Batch, /, *, scale: bool = True) -> Worth:
    """Each reward's distance from the mean at the same turn of the group's episodes, summed from the turn on.

    Uses neither credit nor score. An outcome's reward is that of the last turn; a turn that one episode alone reached
    adds 0. Source: MT-GRPO, arXiv 2505.11821, which has every episode play the same number of turns. Where the policy
    decides when to stop it is biased: going on is charged the mean of turns that stopping is not.
    """
    turns = batch.rewards.shape[1]
    at = (batch.group[:, None] * turns + np.arange(turns))[batch.played]
    own = np.zeros_like(batch.rewards)
    own[batch.played], _ = compare(batch.rewards[batch.played], at, scale=scale)
    return Worth(np.zeros(len(batch.scores)), to_go(own, batch.gamma) * batch.played)
