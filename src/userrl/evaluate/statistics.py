"""Means and differences with 95% intervals. The unit that is resampled is the task, never the episode."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float
    n: int
    """Values behind the mean."""

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: Sequence[float], tasks: Sequence[Hashable], seed: int = 0) -> Interval:
    """Mean of the values with a percentile bootstrap interval clustered by task.

    Args:
        values: (N,) one value per episode.
        tasks: (N,) which task each value belongs to; all values of a task are resampled together.

    Returns:
        NaNs when there are no values; a degenerate interval when there is one task only.
    """
    if len(values) != len(tasks):
        raise ValueError(f"{len(values)} values for {len(tasks)} task names; expected one each.")
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    index = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    sums, counts = np.zeros(len(index)), np.zeros(len(index))
    np.add.at(sums, [index[t] for t in tasks], values)
    np.add.at(counts, [index[t] for t in tasks], 1.0)
    picks = np.random.default_rng(seed).integers(len(index), size=(RESAMPLES, len(index)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(np.mean(values)), float(low), float(high), len(values))


def paired_interval(after: Sequence[float], before: Sequence[float], tasks: Sequence[Hashable], seed: int = 0) -> Interval:
    """Mean of after - before over the same episodes, with an interval clustered by task."""
    if len(after) != len(before):
        raise ValueError(f"{len(after)} values after, {len(before)} before; a paired difference needs the same episodes.")
    return mean_interval([a - b for a, b in zip(after, before, strict=True)], tasks, seed)
