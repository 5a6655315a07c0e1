"""Means and differences with 95% intervals, and tests of differences. The unit is the task, never the episode."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

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
FEW = 20
"""Tasks below which an interval is not to be relied on."""
Groups = Sequence[tuple[Sequence[float], Sequence[Hashable]]]
"""Of each gym: (N,) values, and which task each belongs to."""
Bounds = tuple[float, float]
"""The least and the greatest value that there can be."""
RATE: Bounds = (0.0, 1.0)
ALIKE = 1e-9
"""Draws that differ by no more, beside a mean of 1, are the same but for rounding; so are two values that do."""


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


class Part(NamedTuple):
    """What one gym adds to a mean of tasks, for when all its tasks have the same value."""

    value: float
    tasks: int
    weight: float
    within: Bounds | None
    """None where they are not known."""


def few(tasks: int) -> str:
    """What to know of intervals over so few tasks; nothing from 100 on."""
    if tasks >= 100:
        return ""
    if tasks < FEW:
        return f"Fewer than {FEW} tasks: too few for an interval to be relied on."
    low, high = COVERAGE_AT_40
    return (
        f"Fewer than 100 tasks: of 2,000 simulated evaluations of 40 tasks, such intervals held the truth in {low:.1%} to "
        f"{high:.1%}, and in fewer where nearly all or hardly any tasks are solved."
    )


def mean_interval(values: Sequence[float], tasks: Sequence[Hashable], seed: int = 0, within: Bounds | None = None) -> Interval:
    """Mean of the values with a percentile bootstrap interval clustered by task.

    Args:
        values: (N,) one value per episode.
        tasks: (N,) which task each value belongs to; all values of a task are resampled together.
        within: bounds of a value. Where all tasks have the same one, the interval is as wide as they leave open (`unseen`);
            without them it then has no width.

    Returns:
        NaNs when there are no values.
    """
    _same_length(values, tasks)
    if not values:
        return NOTHING
    mean = float(np.mean(values))
    return drawn_interval(mean, _resampled(values, tasks, seed), len(values), [Part(mean, len(set(tasks)), 1.0, within)])


def combined_interval(groups: Groups, weights: Sequence[float], seed: int = 0, within: Sequence[Bounds | None] = ()) -> Interval:
    """The weighted sum of several gyms' means, with an interval that draws the tasks of each gym anew.

    Args:
        groups: one for each gym, none of them empty.
        weights: one for each gym; they add up to 1 for an average.
        within: bounds of each gym's values, as in `mean_interval`.
    """
    if len(groups) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(groups)} groups; expected one each.")
    if not groups:
        return NOTHING
    parts, draws = [], np.zeros(RESAMPLES)
    for i, ((values, tasks), weight, bounds) in enumerate(zip(groups, weights, within or [None] * len(groups), strict=True)):
        _same_length(values, tasks)
        parts.append(Part(float(np.mean(values)), len(set(tasks)), weight, bounds))
        draws += weight * _resampled(values, tasks, [seed, i])
    mean = sum(part.weight * part.value for part in parts)
    return drawn_interval(mean, draws, sum(len(values) for values, _ in groups), parts)


def ratio_intervals(
    above: np.ndarray, below: np.ndarray, tasks: Sequence[Hashable], seed: int = 0, within: Sequence[Bounds | None] = ()
) -> list[Interval]:
    """Many ratios of sums at once, each with a 95% interval clustered by task; they draw the same tasks.

    With ones below, the means that `mean_interval` gives. With the turns of the episodes below, rates of turns.

    Args:
        above, below: (N, K) what each of N episodes adds to the two sums of each of K ratios.
        within: (K,) bounds of each ratio, as in `mean_interval`.

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
    counts = zip((below != 0).sum(0).tolist(), (sums[1] != 0).sum(0).tolist(), strict=True)
    return [
        drawn_interval(float(m), d[~np.isnan(d)], n, [Part(float(m), many, 1.0, bounds)]) if n else NOTHING
        for m, d, (n, many), bounds in zip(means, draws.T, counts, within or [None] * len(means), strict=True)
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


def drawn_interval(mean: float, draws: np.ndarray, n: int, parts: Sequence[Part] = ()) -> Interval:
    """The percentile interval of a mean's draws; where these are all the same, what so many tasks leave open (`unseen`).

    Args:
        parts: of the mean, one for each gym; without them, or without the bounds of one, draws that are the same stay so.
    """
    low, high = (float(end) for end in np.quantile(draws, [0.025, 0.975]))
    known = [(part, part.within) for part in parts if part.within is not None]
    if parts and len(known) == len(parts) and high - low <= ALIKE * max(1.0, abs(mean)):
        tasks = [part.tasks for part in parts]
        low = mean - unseen([part.weight * (part.value - least) for part, (least, _) in known], tasks)
        high = mean + unseen([part.weight * (most - part.value) for part, (_, most) in known], tasks)
    return Interval(mean, low, high, n)


def parts(values: np.ndarray, gyms: Sequence[Hashable], within: Mapping[Any, Bounds | None]) -> list[Part]:
    """What each gym adds to the mean of tasks that all count the same.

    Args:
        values: (N,) one for each task.
        gyms: (N,) the gym of each.
        within: gym -> bounds of its values.
    """
    places = {gym: [i for i, of in enumerate(gyms) if of == gym] for gym in dict.fromkeys(gyms)}
    return [Part(float(values[at].mean()), len(at), len(at) / len(gyms), within.get(gym)) for gym, at in places.items()]


def unseen(rooms: Sequence[float], tasks: Sequence[int]) -> float:
    """How far the true mean may be to one side of the one found, where the tasks of each gym all have the same value.

    A bootstrap of equal values has no width, and says nothing of tasks that were not drawn. Had more than a part
    p = 1 - .025 ** (1 / tasks) of all tasks another value, so many equal ones would come in fewer than 2.5% of samples; and
    those tasks may be anywhere within the bounds. For a rate of 0 or 1 this is the interval of Clopper and Pearson (about
    3.7 / tasks; the "rule of three" is its one-sided kin); it holds for any values within bounds, by Markov's inequality, and is
    what Gaffke's bound for their mean gives. Attempts do not count: they may have come out alike because the task is the same.

    Args:
        rooms: from each gym's value to the bound, times its weight in the mean.
        tasks: of each gym. An average of several counts as many as its weakest gym would in a single one: a micro average
            as many as all have, a macro average of G gyms as G times the fewest.
    """
    whole = sum(max(0.0, room) for room in rooms)
    if not whole:
        return 0.0
    exponent = max(room / whole / many for room, many in zip(rooms, tasks, strict=True))
    return whole * (1.0 - math.pow(LEVEL / 2, exponent))


def _same_length(values: Sequence[float], tasks: Sequence[Hashable]) -> None:
    if len(values) != len(tasks):
        raise ValueError(f"{len(values)} values for {len(tasks)} task names; expected one each.")


def paired_interval(
    after: Sequence[float],
    before: Sequence[float],
    tasks: Sequence[Hashable],
    seed: int = 0,
    within: Bounds | None = None,
) -> Interval:
    """Mean of after - before over the same episodes, with an interval clustered by task. within: bounds of either value."""
    if len(after) != len(before):
        raise ValueError(f"{len(after)} values after, {len(before)} before; a paired difference needs the same episodes.")
    return mean_interval([change(a, b) for a, b in zip(after, before, strict=True)], tasks, seed, difference_bounds(within))


def change(after: float, before: float) -> float:
    """after - before; 0 where they are the same but for rounding (`ALIKE`), which mostly has one sign and no meaning."""
    difference = after - before
    return 0.0 if abs(difference) < ALIKE * max(1.0, abs(after), abs(before)) else difference


def difference_bounds(within: Bounds | None) -> Bounds | None:
    """Bounds of the difference of two values that are within the same ones."""
    return None if within is None else (within[0] - within[1], within[1] - within[0])


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

    Runs that all came to the same have one without width, which says nothing of other seeds.

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
    """Two-sided p of a mean difference over runs, by the paired t test; NaN for fewer than two, and where all differ by the same:
    then there is no spread to go by. 1 where none differs.

    Tossing signs will not do for a few: of five runs the least p is .03, which no correction for several tests survives.
    """
    if len(differences) < 2:
        return float("nan")
    if max(differences) - min(differences) <= ALIKE * max(map(abs, differences)):
        return float("nan") if any(differences) else 1.0
    return student_p(float(np.mean(differences)) / _standard_error(differences), len(differences) - 1)


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


# --- several attempts ------------------------------------------------------------------------------------------


def pass_at(k: int, attempts: int, solved: int) -> float:
    """Probability that at least one of k attempts, drawn from those made at a task, solved it (pass@k)."""
    return 1.0 - math.comb(attempts - solved, k) / math.comb(attempts, k)


def pass_all(k: int, attempts: int, solved: int) -> float:
    """Probability that all of k attempts, drawn from those made at a task, solved it (pass^k)."""
    return math.comb(solved, k) / math.comb(attempts, k)
