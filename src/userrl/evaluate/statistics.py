"""Means and differences with 95% intervals, and tests of differences. The unit is the task, never the episode."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
ROWS_AT_ONCE = 250
"""Resamples that `ratio_intervals` holds in memory at once."""
FLIPS = 4_999
"""Random changes of sign in a test; the least p is one in so many and one."""
LEVEL, POWER = 0.05, 0.8
"""A difference counts as shown below this p; a detectable one is shown with this probability."""
SERIES_FROM = 30
"""Degrees of freedom from which on Student's t is computed by a series."""
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
    return drawn_interval(float(np.mean(values)), _resampled(values, tasks, seed), len(values))


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
    return drawn_interval(mean, draws, sum(len(values) for values, _ in groups))


def ratio_intervals(above: np.ndarray, below: np.ndarray, tasks: Sequence[Hashable], seed: int = 0) -> list[Interval]:
    """Many ratios of sums at once, each with a 95% interval clustered by task; they draw the same tasks.

    With ones below, the means that `mean_interval` gives. With the turns of the episodes below, rates of turns.

    Args:
        above, below: (N, K) what each of N episodes adds to the two sums of each of K ratios.

    Returns:
        (K,) Their `n` is how many episodes add to the sum below; without any, NaNs.
    """
    if above.shape != below.shape or len(above) != len(tasks):
        raise ValueError(f"{above.shape} above, {below.shape} below, {len(tasks)} task names; expected as many episodes each.")
    index = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    if not index:
        return [NOTHING] * above.shape[1]
    rows = [index[t] for t in tasks]
    sums = np.zeros((2, len(index), above.shape[1]))
    np.add.at(sums[0], rows, above)
    np.add.at(sums[1], rows, below)
    picks = np.random.default_rng(seed).integers(len(index), size=(RESAMPLES, len(index)))
    draws = np.empty((RESAMPLES, above.shape[1]))
    with np.errstate(invalid="ignore"):
        for at in range(0, RESAMPLES, ROWS_AT_ONCE):
            part = picks[at : at + ROWS_AT_ONCE] + np.arange(len(picks[at : at + ROWS_AT_ONCE]))[:, None] * len(index)
            times = np.bincount(part.ravel(), minlength=len(part) * len(index)).reshape(len(part), -1).astype(float)
            draws[at : at + ROWS_AT_ONCE] = (times @ sums[0]) / (times @ sums[1])
        means = sums[0].sum(0) / sums[1].sum(0)
    return [
        drawn_interval(float(m), d[~np.isnan(d)], int(n)) if n else NOTHING
        for m, d, n in zip(means, draws.T, (below != 0).sum(0), strict=True)
    ]


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


def drawn_tasks(gyms: Sequence[Hashable], seed: int = 0) -> np.ndarray:
    """(RESAMPLES, N) places of N tasks, drawn with replacement; those of each gym among themselves.

    Args:
        gyms: (N,) the gym of each task.
    """
    rng, picks = np.random.default_rng(seed), np.empty((RESAMPLES, len(gyms)), dtype=int)
    for gym in dict.fromkeys(gyms):
        places = np.array([i for i, of in enumerate(gyms) if of == gym])
        picks[:, places] = places[rng.integers(len(places), size=(RESAMPLES, len(places)))]
    return picks


def drawn_interval(mean: float, draws: np.ndarray, n: int) -> Interval:
    """The percentile interval of a mean's draws."""
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
    """A quantile of Student's t: exact below `SERIES_FROM` degrees of freedom, by its series in 1 / freedom from there on."""
    if freedom < SERIES_FROM:
        low, high = 0.0, 1e6  # of the same distance from the middle, on the upper side
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if student_p(middle, freedom) > 2 * min(level, 1 - level) else (low, middle)
        return math.copysign(low, level - 0.5)
    z = NormalDist().inv_cdf(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def student_p(t: float, freedom: int) -> float:
    """Probability that a value of Student's t is further from 0 than t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    odd, square = freedom % 2, math.cos(angle) ** 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * square
    within = (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
    return max(0.0, 1 - within)


# --- a few runs ------------------------------------------------------------------------------------------------


def runs_interval(values: Sequence[float]) -> Interval:
    """Mean over runs (seeds) with a 95% interval by Student's t: a bootstrap of so few is too narrow.

    Args:
        values: (n,) one for each run; for a difference, each run's own. Taken to spread normally.

    Returns:
        NaNs for the bounds of one run alone, and for all of none.
    """
    if len(values) < 2:
        return Interval(values[0], float("nan"), float("nan"), 1) if values else NOTHING
    mean, reach = float(np.mean(values)), student(1 - LEVEL / 2, len(values) - 1) * _standard_error(values)
    return Interval(mean, mean - reach, mean + reach, len(values))


def runs_p(differences: Sequence[float]) -> float:
    """Two-sided p of a mean difference over runs, by the paired t test; NaN for fewer than two.

    Tossing signs will not do for a few: of five runs the least p is .03, which no correction for several tests survives.
    """
    if len(differences) < 2:
        return float("nan")
    error = _standard_error(differences)
    if not error:
        return 0.0 if any(differences) else 1.0
    return student_p(float(np.mean(differences)) / error, len(differences) - 1)


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


# --- several attempts ------------------------------------------------------------------------------------------


def pass_at(k: int, attempts: int, solved: int) -> float:
    """Probability that at least one of k attempts, drawn from those made at a task, solved it (pass@k)."""
    return 1.0 - math.comb(attempts - solved, k) / math.comb(attempts, k)


def pass_all(k: int, attempts: int, solved: int) -> float:
    """Probability that all of k attempts, drawn from those made at a task, solved it (pass^k)."""
    return math.comb(solved, k) / math.comb(attempts, k)
