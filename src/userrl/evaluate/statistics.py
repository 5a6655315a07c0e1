"""Means and differences with 95% intervals, and tests of differences. The unit is the task, never the episode."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
FLIPS = 4_999
"""Random changes of sign in a test; the least p is one in so many and one."""
LEVEL, POWER = 0.05, 0.8
"""A difference counts as shown below this p; a detectable one is shown with this probability."""
COVERAGE_AT_40 = (0.935, 0.952)
"""Least and greatest share of simulated evaluations of 40 tasks whose interval held the truth (`benchmarks/coverage.py`)."""
Groups = Sequence[tuple[Sequence[float], Sequence[Hashable]]]
"""Of each gym: (N,) values, and which task each belongs to."""


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


NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


def mean_interval(values: Sequence[float], tasks: Sequence[Hashable], seed: int = 0) -> Interval:
    """Mean of the values with a percentile bootstrap interval clustered by task.

    Args:
        values: (N,) one value per episode.
        tasks: (N,) which task each value belongs to; all values of a task are resampled together.

    Returns:
        NaNs when there are no values; a degenerate interval when there is one task only.
    """
    _same_length(values, tasks)
    if not values:
        return NOTHING
    return _interval(float(np.mean(values)), _resampled(values, tasks, seed), len(values))


def combined_interval(groups: Groups, weights: Sequence[float], seed: int = 0) -> Interval:
    """The weighted sum of several gyms' means, with an interval that draws the tasks of each gym anew.

    Args:
        groups: one for each gym, none of them empty.
        weights: one for each gym; they add up to 1 for an average.
    """
    if len(groups) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(groups)} groups; expected one each.")
    if not groups:
        return NOTHING
    mean, draws = 0.0, np.zeros(RESAMPLES)
    for i, ((values, tasks), weight) in enumerate(zip(groups, weights, strict=True)):
        _same_length(values, tasks)
        mean += weight * float(np.mean(values))
        draws += weight * _resampled(values, tasks, [seed, i])
    return _interval(mean, draws, sum(len(values) for values, _ in groups))


def _resampled(values: Sequence[float], tasks: Sequence[Hashable], seed: int | Sequence[int]) -> np.ndarray:
    """(RESAMPLES,) means over as many tasks as there are, drawn with replacement."""
    index = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    sums, counts = np.zeros(len(index)), np.zeros(len(index))
    rows = [index[t] for t in tasks]
    np.add.at(sums, rows, values)
    np.add.at(counts, rows, 1.0)
    picks = np.random.default_rng(seed).integers(len(index), size=(RESAMPLES, len(index)))
    means: np.ndarray = sums[picks].sum(1) / counts[picks].sum(1)
    return means


def _interval(mean: float, draws: np.ndarray, n: int) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(mean, float(low), float(high), n)


def _same_length(values: Sequence[float], tasks: Sequence[Hashable]) -> None:
    if len(values) != len(tasks):
        raise ValueError(f"{len(values)} values for {len(tasks)} task names; expected one each.")


def paired_interval(after: Sequence[float], before: Sequence[float], tasks: Sequence[Hashable], seed: int = 0) -> Interval:
    """Mean of after - before over the same episodes, with an interval clustered by task."""
    if len(after) != len(before):
        raise ValueError(f"{len(after)} values after, {len(before)} before; a paired difference needs the same episodes.")
    return mean_interval([a - b for a, b in zip(after, before, strict=True)], tasks, seed)


# --- is there a difference -------------------------------------------------------------------------------------


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of a paired difference: how often a larger sum comes out when each task's sign is tossed.

    Sums of the same size count half (mid-p): counted whole, they make the test of solved or not solved too careful.
    Exact where all tosses can be gone through, else over `FLIPS` of them. Holds for any values of which each is as likely
    to be the other way round when there is no difference. 1 where no task differs, NaN where there are none.

    Args:
        differences: (n,) one for each task; for a weighted sum of gyms, each times its weight.
    """
    if not differences:
        return float("nan")
    values = np.array([d for d in differences if d])
    if not values.size:
        return 1.0
    if exact := 2**values.size <= FLIPS:
        kept = (np.arange(2**values.size)[:, None] >> np.arange(values.size)) & 1
    else:
        bits = np.random.default_rng(seed).integers(256, size=(FLIPS, -(-values.size // 8)), dtype=np.uint8)
        kept = np.unpackbits(bits, axis=1, count=values.size).astype(np.int64)
    sums = np.abs(2.0 * (kept @ values) - values.sum())
    reached, slack = abs(values.sum()), 1e-9 * np.abs(values).sum()  # equal sums may differ by rounding
    as_large, larger = int(np.sum(sums >= reached - slack)), int(np.sum(sums > reached + slack))
    if exact:
        return (as_large + larger) / 2 / len(kept)
    return ((as_large + larger) / 2 + 1) / (FLIPS + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p adjusted for all tests of the family, so that one false alarm among them stays as rare as in one test."""
    adjusted, largest = [float("nan")] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


# --- what so many tasks can show -------------------------------------------------------------------------------


def detectable(differences: Sequence[float]) -> float:
    """The smallest true difference that a run of so many tasks shows (p below `LEVEL`) with a probability of `POWER`.

    From the spread of the differences between tasks, by Student's t. NaN where there is none to go by.

    Args:
        differences: (n,) one for each task.
    """
    return combined_detectable([differences], [1.0])


def combined_detectable(groups: Sequence[Sequence[float]], weights: Sequence[float]) -> float:
    """The same for the weighted sum of several gyms' mean differences."""
    if not groups or any(len(group) < 2 for group in groups):
        return float("nan")
    variance = sum(w**2 * float(np.var(group, ddof=1)) / len(group) for w, group in zip(weights, groups, strict=True))
    return _reach(sum(len(group) - 1 for group in groups)) * math.sqrt(variance) if variance else float("nan")


def tasks_needed(differences: Sequence[float], difference: float) -> int | None:
    """How many such tasks show a true difference of that size with a probability of `POWER`; None where that is unknown."""
    smallest = detectable(differences)
    if math.isnan(smallest) or not difference:
        return None
    return max(2, math.ceil(len(differences) * (smallest / difference) ** 2))


def attempts_needed(differences: Sequence[float], noise: float, attempts: float, difference: float) -> int | None:
    """How many attempts at each of these tasks by each run would do so; None where no number of attempts would.

    Args:
        differences: (n,) one for each task.
        noise: variance that the chance of the attempts adds to a task's difference, as it is now.
        attempts: attempts at each task by each run now.
        difference: the size to show.
    """
    if len(differences) < 2:
        return None
    allowed = len(differences) * (difference / _reach(len(differences) - 1)) ** 2
    spread = float(np.var(differences, ddof=1))
    noise = min(noise, spread)  # both are estimates, and a part is no more than the whole
    room = allowed - (spread - noise)
    return max(1, math.ceil(noise * attempts / room)) if room > 0 else None


def _reach(freedom: int) -> float:
    """Standard errors between no difference and a detectable one."""
    return student(1 - LEVEL / 2, freedom) + student(POWER, freedom)


def student(level: float, freedom: int) -> float:
    """A quantile of Student's t, from a normal one by its series in 1 / freedom; within 0.01 from 5 degrees of freedom on."""
    z = NormalDist().inv_cdf(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


# --- several attempts ------------------------------------------------------------------------------------------


def pass_at(k: int, attempts: int, solved: int) -> float:
    """Probability that at least one of k attempts, drawn from those made at a task, solved it (pass@k)."""
    return 1.0 - math.comb(attempts - solved, k) / math.comb(attempts, k)


def pass_all(k: int, attempts: int, solved: int) -> float:
    """Probability that all of k attempts, drawn from those made at a task, solved it (pass^k)."""
    return math.comb(solved, k) / math.comb(attempts, k)
