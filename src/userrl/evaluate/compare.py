"""Two runs on the same tasks: how they differ, how sure that is, and where their episodes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from userrl.core import INVALID, Action, Episode
from userrl.errors import DataError, UnknownName
from userrl.evaluate.metrics import effective_turns, share, time_weighted, total, user_turns
from userrl.evaluate.statistics import (
    Interval,
    attempts_needed,
    combined_detectable,
    combined_interval,
    holm,
    sign_flip_p,
    tasks_needed,
)
from userrl.gyms.base import gym_of
from userrl.store import Key, Records, index, settings

METRICS: Mapping[str, Callable[[Episode], float]] = {
    "score": total,
    "share": share,
    "solved": lambda episode: float(gym_of(episode).solved(episode)),
    "weighted": time_weighted,
    "turns": effective_turns,
    "user-turns": user_turns,
}
"""What runs can be compared by."""
COSTS = ("turns", "user-turns")
"""Those of which less is better."""
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


def compare(before: Path, after: Path, metric: str = "score", seed: int = 0) -> Comparison:
    """Compare two run folders on the tasks that both have. Reads episodes one by one and keeps numbers only.

    Raises:
        UnknownName: there is no such metric.
        DataError: a folder holds no episodes, or the two have no scored task in common.
    """
    check_metric(metric)
    values = _Values(METRICS[metric])
    for first, second in _pairs(before, after):
        values.add(first, second)
    gyms = values.gyms()
    if not gyms:
        raise DataError(f"{before} and {after} have no task with a score in common. Compare runs on the same gyms and split.")
    single = [values.difference(gym, tasks, seed) for gym, tasks in gyms.items()]
    differences = tuple(replace(d, adjusted=p) for d, p in zip(single, holm([d.p for d in single]), strict=True))
    failed = (values.failed[0], values.failed[1])
    left_out = len(values.seen - values.changed) - sum(map(len, gyms.values()))
    averages = _averages(gyms, differences, seed)
    return Comparison(metric, differences, averages, _settings(before, after), failed, left_out, len(values.changed))


def check_metric(name: str) -> None:
    """Raises UnknownName for what runs cannot be compared by."""
    if name not in METRICS:
        raise UnknownName("figure to compare by", name, METRICS)


def divergence(before: Episode, after: Episode) -> Divergence | None:
    """The first turn in which two episodes differ in what was done, what came back or what it earned; None if there is none."""
    for number, (first, second) in enumerate(zip(before.turns, after.turns, strict=False), start=1):
        if _said(first.action) != _said(second.action):
            return Divergence(number, "action")
        if (first.feedback, first.reward, first.done) != (second.feedback, second.reward, second.done):
            return Divergence(number, "answer")
    if len(before.turns) != len(after.turns) or before.stop != after.stop:
        return Divergence(min(len(before.turns), len(after.turns)) + 1, "end")
    return None


def _said(action: Action) -> tuple[str, str]:
    return action.kind, action.raw if action.kind == INVALID else action.text


def task_pairs(before: Path, after: Path, task: str) -> list[tuple[Episode, Episode]]:
    """The pairs of episodes of a task, by attempt. Raises UnknownName where the runs have none."""
    first, second = _index(before), _index(after)
    keys = [key for key in first if key in second and key[1] == task]
    if not keys:
        raise UnknownName("task of both runs", task, {key[1] for key in first if key in second})
    chosen = (
        Records(_file(run), [found[key].offset for key in sorted(keys)]) for run, found in ((before, first), (after, second))
    )
    return list(zip(*chosen, strict=True))


# --- reading -----------------------------------------------------------------------------------------------------


def _file(run: Path) -> Path:
    return run / "episodes.jsonl"


def _index(run: Path) -> dict[Key, Any]:
    if not _file(run).is_file():
        raise DataError(f"{run} holds no episodes.jsonl. Name the folder of a run, as --out named it.")
    return dict(index(_file(run)))


def _pairs(before: Path, after: Path) -> Iterator[tuple[Episode | None, Episode | None]]:
    """Each episode once, beside that of the same attempt in the other run, where there is one."""
    first, second = _index(before), _index(after)
    both = [key for key in first if key in second]
    yield from zip(_records(before, first, both), _records(after, second, both), strict=True)
    for episode in _records(before, first, (key for key in first if key not in second)):
        yield episode, None
    for episode in _records(after, second, (key for key in second if key not in first)):
        yield None, episode


def _records(run: Path, found: Mapping[Key, Any], keys: Iterable[Key]) -> Records:
    return Records(_file(run), [found[key].offset for key in keys])


def _settings(before: Path, after: Path) -> dict[str, tuple[Any, Any]]:
    first, second = settings(before), settings(after)
    names = dict.fromkeys([*first, *second])
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


# --- counting ----------------------------------------------------------------------------------------------------

_Task = tuple[str, str]
"""(gym, task id)"""
_Attempts = tuple[list[float], list[float]]
"""The values of a task's attempts in the run before, and in the one after."""


class _Values:
    """What is kept of the episodes of two runs."""

    def __init__(self, metric: Callable[[Episode], float]) -> None:
        self.metric = metric
        self.of: dict[_Task, _Attempts] = {}
        self.failed = [0, 0]
        self.seen: set[_Task] = set()
        self.changed: set[_Task] = set()
        self.pairs: Counter[str] = Counter()
        self.parted: dict[str, Counter[Divergence]] = {}

    def add(self, before: Episode | None, after: Episode | None) -> None:
        for run, episode in enumerate((before, after)):
            if episode is None:
                continue
            task = (episode.task.gym, episode.task.id)
            self.seen.add(task)
            if episode.stop == "error":
                self.failed[run] += 1
            else:
                self.of.setdefault(task, ([], []))[run].append(self.metric(episode))
        if before is None or after is None:
            return
        gym = before.task.gym
        if before.task != after.task:
            self.changed.add((gym, before.task.id))
            return
        self.pairs[gym] += 1
        if (parted := divergence(before, after)) is not None:
            self.parted.setdefault(gym, Counter())[parted] += 1

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
        result = _difference(gym, [tasks], [1.0], seed)
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
    return [float(np.mean(after)) - float(np.mean(before)) for before, after in tasks.values()]


def _difference(name: str, gyms: Sequence[Mapping[str, _Attempts]], weights: Sequence[float], seed: int) -> Difference:
    """The weighted sum of gyms' differences."""
    groups = [_mean_differences(tasks) for tasks in gyms]
    ids = [list(tasks) for tasks in gyms]
    before = sum(w * float(np.mean([np.mean(a) for a, _ in tasks.values()])) for w, tasks in zip(weights, gyms, strict=True))
    interval = combined_interval(list(zip(groups, ids, strict=True)), weights, seed)
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
    gyms: Mapping[str, Mapping[str, _Attempts]], differences: Sequence[Difference], seed: int
) -> tuple[Difference, ...]:
    if len(gyms) < 2:
        return ()
    tasks = sum(d.tasks for d in differences)
    micro, macro = [d.tasks / tasks for d in differences], [1 / len(gyms)] * len(gyms)
    return tuple(_difference(name, list(gyms.values()), weights, seed) for name, weights in (("micro", micro), ("macro", macro)))
