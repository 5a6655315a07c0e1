"""Two runs on the same tasks: how they differ, how sure that is, and where their episodes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from userrl.core import Episode
from userrl.errors import DataError, UnknownName
from userrl.evaluate.outlines import Kept, Outline, TaskKey, Trace, file_of, outline, trace, widest
from userrl.evaluate.played import ABOUT, Unfinished
from userrl.evaluate.statistics import (
    Bounds,
    Interval,
    attempts_needed,
    change,
    combined_detectable,
    combined_interval,
    difference_bounds,
    holm,
    sign_flip_p,
    tasks_needed,
)
from userrl.store import Key, Records, index

Cause = Literal["action", "answer", "end"]
"""Why two episodes part: the agents did different things, the same action was answered differently, or one ended earlier."""


@dataclass(frozen=True)
class Divergence:
    """The first turn in which two episodes of a task differ."""

    turn: int
    """Counted from 1."""
    cause: Cause


@dataclass(frozen=True)
class Difference:
    """One gym, or an average over gyms, in two runs. Each task counts the same, however many attempts there were."""

    gym: str
    tasks: int
    """Tasks with a scored episode in both runs; all else is left out."""
    before: float
    after: float
    difference: Interval
    """after - before, clustered by task."""
    p: float
    """Of the paired test, two-sided (`statistics.sign_flip_p`)."""
    adjusted: float
    """p after Holm's correction for the number of gyms; NaN for averages, which are no further tests."""
    detectable: float
    """The smallest true difference that so many tasks would show in four of five such comparisons; NaN where unknown."""
    tasks_needed: int | None = None
    """Tasks that would show a difference as large as the one found."""
    attempts: float = 1.0
    """Attempts at a task, on average over both runs."""
    attempts_needed: int | None = None
    """Attempts at each of the tasks that would do so."""
    attempts_known: bool = False
    """Whether tasks have several attempts, without which nothing is known of what more of them would help."""
    moved: tuple[tuple[str, float], ...] = ()
    """(task, difference) of the tasks that differ, from the largest loss to the largest gain."""
    parted: Mapping[Divergence, int] = field(default_factory=dict)
    """Where pairs of episodes part -> how many do."""
    pairs: int = 0
    """Pairs of episodes: same task, same attempt."""


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common, and in what they differ."""

    metric: str
    gyms: tuple[Difference, ...]
    averages: tuple[Difference, ...]
    """Micro (each task counts the same) and macro (each gym does), for two gyms and more."""
    settings: Mapping[str, tuple[Any, Any]]
    """Settings that differ -> (before, after)."""
    failed: tuple[int, int]
    """Episodes of each run that a failure ended."""
    left_out: int
    """Tasks that only one run has, or that have a score in one run only."""
    changed: int
    """Tasks of the same id that are not the same; left out, too."""
    unfinished: tuple[Unfinished | None, Unfinished | None] = (None, None)
    """How much is played of each run, where that is not all of it."""


def compare(before: Path, after: Path, metric: str = "score", seed: int = 0, *, unfinished: bool = False) -> Comparison:
    """Compare two runs on the tasks that both have. Reads episodes one by one and keeps numbers only.

    Args:
        unfinished: also where one of them is not played to its end.

    Raises:
        UnknownName: there is no such metric.
        DataError: a folder holds no episodes, or the two have no scored task in common; or a run is unfinished.
    """
    first, second = outline(before, [metric]), outline(after, [metric])
    check_whole(first, second, unfinished=unfinished)
    return compare_outlines(first, second, metric, seed)


def check_whole(*runs: Outline, unfinished: bool = False) -> None:
    """Raises DataError for a run that is not played to its end, unless such ones are wanted."""
    for run in runs:
        if run.unfinished and not unfinished:
            raise DataError(f"The run in {run.run} is {run.unfinished}. {ABOUT} Or add --unfinished to compare what there is.")


def compare_outlines(before: Outline, after: Outline, metric: str = "score", seed: int = 0) -> Comparison:
    """The same of two runs that are read already, with that metric among others."""
    values = _Values(before, after, metric)
    for first, second, key in _pairs(before, after):
        values.add(first, second, key[:2])
    gyms = values.gyms()
    if not gyms:
        raise DataError(
            f"{before.run} and {after.run} have no task with a score in common. Compare runs on the same gyms and split."
        )
    single = [values.difference(gym, tasks, seed) for gym, tasks in gyms.items()]
    differences = tuple(replace(d, adjusted=p) for d, p in zip(single, holm([d.p for d in single]), strict=True))
    failed = (before.failed(), after.failed())
    left_out = len(values.seen - values.changed) - sum(map(len, gyms.values()))
    averages = _averages(gyms, differences, [values.within(gym) for gym in gyms], seed)
    told, runs = _settings(before, after), (before.unfinished, after.unfinished)
    return Comparison(metric, differences, averages, told, failed, left_out, len(values.changed), runs)


def divergence(before: Episode, after: Episode) -> Divergence | None:
    """The first turn in which two episodes differ in what was done, what came back or what it earned; None if there is none."""
    return _parting(trace(before), trace(after))


def _parting(before: Trace, after: Trace) -> Divergence | None:
    for number, (first, second) in enumerate(zip(before.turns, after.turns, strict=False), start=1):
        if first != second:
            return Divergence(number, "action" if first[0] != second[0] else "answer")
    if len(before.turns) != len(after.turns) or before.stop != after.stop:
        return Divergence(min(len(before.turns), len(after.turns)) + 1, "end")
    return None


def task_pairs(before: Path, after: Path, task: str) -> list[tuple[Episode, Episode]]:
    """The pairs of episodes of a task, by attempt. Raises UnknownName where the runs have none."""
    first, second = (index(file_of(run)) for run in (before, after))
    keys = [key for key in first if key in second and key[1] == task]
    if not keys:
        raise UnknownName("task of both runs", task, {key[1] for key in first if key in second})
    chosen = (
        Records(file_of(run), [found[key].offset for key in sorted(keys)]) for run, found in ((before, first), (after, second))
    )
    return list(zip(*chosen, strict=True))


def _pairs(before: Outline, after: Outline) -> Iterator[tuple[Kept | None, Kept | None, Key]]:
    """Each episode once, beside that of the same attempt in the other run, where there is one."""
    first, second = before.episodes, after.episodes
    yield from ((kept, second[key], key) for key, kept in first.items() if key in second)
    yield from ((kept, None, key) for key, kept in first.items() if key not in second)
    yield from ((None, kept, key) for key, kept in second.items() if key not in first)


def _settings(before: Outline, after: Outline) -> dict[str, tuple[Any, Any]]:
    first, second = before.settings, after.settings
    names = dict.fromkeys([*first, *second])
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


# --- counting ----------------------------------------------------------------------------------------------------

_Attempts = tuple[list[float], list[float]]
"""The values of a task's attempts in the run before, and in the one after."""


class _Values:
    """What is kept of the episodes of two runs."""

    def __init__(self, before: Outline, after: Outline, metric: str) -> None:
        self.before, self.after, self.metric = before, after, metric
        self.of: dict[TaskKey, _Attempts] = {}
        self.seen: set[TaskKey] = set()
        self.changed: set[TaskKey] = set()
        self.pairs: Counter[str] = Counter()
        self.parted: dict[str, Counter[Divergence]] = {}

    def add(self, before: Kept | None, after: Kept | None, task: TaskKey) -> None:
        self.seen.add(task)
        for run, kept in enumerate((before, after)):
            if kept is not None and kept.values:
                self.of.setdefault(task, ([], []))[run].append(kept.values[self.metric])
        if before is None or after is None:
            return
        if self.before.tasks[task] != self.after.tasks[task]:
            self.changed.add(task)
            return
        self.pairs[task[0]] += 1
        if (parted := _parting(before.trace, after.trace)) is not None:
            self.parted.setdefault(task[0], Counter())[parted] += 1

    def within(self, gym: str) -> Bounds | None:
        """Bounds of a value of either run."""
        first, second = (run.within.get((gym, self.metric)) for run in (self.before, self.after))
        return widest(first, second)

    def gyms(self) -> dict[str, dict[str, _Attempts]]:
        """Gym -> its tasks with scores in both runs."""
        found: dict[str, dict[str, _Attempts]] = {}
        for (gym, task), attempts in self.of.items():
            if all(attempts) and (gym, task) not in self.changed:
                found.setdefault(gym, {})[task] = attempts
        return found

    def difference(self, gym: str, tasks: Mapping[str, _Attempts], seed: int) -> Difference:
        """Of one gym; `adjusted` is left to the one who knows the other gyms."""
        found = _mean_differences(tasks)
        result = _difference(gym, [tasks], [1.0], [self.within(gym)], seed)
        several = [(a, b) for a, b in tasks.values() if len(a) > 1 and len(b) > 1]
        attempts = float(np.mean([(len(a) + len(b)) / 2 for a, b in tasks.values()]))
        moved = sorted(((task, d) for task, d in zip(tasks, found, strict=True) if d), key=lambda item: item[1])
        result = replace(
            result,
            tasks_needed=tasks_needed(found, result.difference.mean),
            attempts=attempts,
            attempts_known=2 * len(several) > len(tasks),
            moved=tuple(moved),
            parted=dict(self.parted.get(gym, {})),
            pairs=self.pairs[gym],
        )
        if not result.attempts_known:
            return result
        noise = float(np.mean([np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b) for a, b in several]))
        return replace(result, attempts_needed=attempts_needed(found, noise, attempts, result.difference.mean))


def _mean_differences(tasks: Mapping[str, _Attempts]) -> list[float]:
    return [change(float(np.mean(after)), float(np.mean(before))) for before, after in tasks.values()]


def _difference(
    name: str, gyms: Sequence[Mapping[str, _Attempts]], weights: Sequence[float], within: Sequence[Bounds | None], seed: int
) -> Difference:
    """The weighted sum of gyms' differences. within: bounds of the values of each."""
    groups = [_mean_differences(tasks) for tasks in gyms]
    ids = [list(tasks) for tasks in gyms]
    before = sum(w * float(np.mean([np.mean(a) for a, _ in tasks.values()])) for w, tasks in zip(weights, gyms, strict=True))
    interval = combined_interval(list(zip(groups, ids, strict=True)), weights, seed, list(map(difference_bounds, within)))
    parts = [w * d / len(group) for w, group in zip(weights, groups, strict=True) for d in group]
    return Difference(
        name,
        sum(map(len, groups)),
        before,
        before + interval.mean,
        interval,
        sign_flip_p(parts, seed),
        float("nan"),
        combined_detectable(groups, weights),
    )


def _averages(
    gyms: Mapping[str, Mapping[str, _Attempts]], differences: Sequence[Difference], within: Sequence[Bounds | None], seed: int
) -> tuple[Difference, ...]:
    if len(gyms) < 2:
        return ()
    tasks = sum(d.tasks for d in differences)
    both = {"micro": [d.tasks / tasks for d in differences], "macro": [1 / len(gyms)] * len(gyms)}
    return tuple(_difference(name, list(gyms.values()), weights, within, seed) for name, weights in both.items())
