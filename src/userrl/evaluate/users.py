"""Users as a factor: agents played with several users (and judged by several judges), and what the choice of the user decides."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

import numpy as np

from userrl.core import Episode
from userrl.errors import ConfigError, DataError
from userrl.evaluate.outlines import METRICS, Outline, TaskKey, check_metric, widest
from userrl.evaluate.run import EvalJob
from userrl.evaluate.statistics import (
    ALIKE,
    NOTHING,
    Bounds,
    Interval,
    Part,
    combined_interval,
    drawn_interval,
    drawn_tasks,
    mean_interval,
    parts,
)

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


# --- what is played ----------------------------------------------------------------------------------------------


def listed(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; a URL alone belongs to the pool of the name before it.

    Raises ConfigError for a list that is empty or names one twice.

    >>> listed("scripted:terse,qwen3@http://a:8000/v1,http://b:8000/v1")
    ('scripted:terse', 'qwen3@http://a:8000/v1,http://b:8000/v1')
    """
    names: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if names and part.startswith(("http://", "https://")):
            names[-1] += f",{part}"
        else:
            names.append(part)
    if not all(names):
        raise ConfigError(f"The list {text!r:.80} has an empty place; expected names with a comma in between.")
    if len(set(names)) < len(names):
        raise ConfigError(f"The list {text!r:.80} names one twice; name each once.")
    return tuple(names)


def folder_name(spec: str) -> str:
    """The name of a folder for an agent, user or judge: its own where that can be, else shortened, with a hash of the whole."""
    plain = _NOT_IN_NAMES.sub("-", spec).strip("-.")
    if len(plain) == len(spec) <= 40 and "/" not in spec:
        return plain
    kept = _NOT_IN_NAMES.sub("-", spec.split("@")[0].rstrip("/").split("/")[-1]).strip("-.")
    return f"{kept[:40]}-{hashlib.sha256(spec.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


@dataclass(frozen=True)
class Cell:
    """One agent with one user and one judge."""

    job: EvalJob
    folder: Path
    """Folder of its run, which can be resumed, compared and replayed like any other."""

    @property
    def condition(self) -> tuple[str, str]:
        """(user, judge)"""
        return (self.job.user, self.job.judge)


def cells(job: EvalJob, agents: Sequence[str], users: Sequence[str], judges: Sequence[str], folder: Path) -> list[Cell]:
    """Every agent with every user and every judge, each with a folder below `folder`; an empty list stands for the job's own."""
    found = []
    for agent, user, judge in product(agents or [job.agent], users or [job.user], judges or [job.judge]):
        path = folder / folder_name(agent) / folder_name(user) / folder_name(judge)
        found.append(Cell(replace(job, agent=agent, user=user, judge=judge), path))
    return found


# --- what came of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One agent with one user and one judge."""

    agent: str
    user: str
    judge: str
    mean: Interval
    """Over its scored tasks, each counting the same (the micro average)."""
    tasks: int
    errors: int
    """Episodes that a failure ended."""
    gyms: Mapping[str, Interval]
    """Gym -> mean over its scored tasks."""
    macro: Interval
    """Average of the gyms, each counting the same. NaN where one of them has no scored task."""


@dataclass(frozen=True)
class Spread:
    """One agent over all users (and judges), on the tasks that all cells of the grid scored."""

    agent: str
    mean: Interval
    """Mean over the users; the tasks are drawn anew, the users are not: it says nothing of users that were not played."""
    worst: str
    """The user (and judge) with the lowest mean; with the highest one, of a metric of which less is better."""
    worst_mean: Interval
    worst_share: float
    """Share of the resamples in which it is the worst, too; ties count in part."""
    between: float
    """Variance between users, see `between_variance`; NaN for one user or task."""
    within: float
    """Variance of the episodes with the same user, averaged over users. NaN for one episode."""

    @property
    def differs(self) -> bool:
        """Whether the worst user's mean is another one than the others', so that there is a worst one."""
        return abs(self.worst_mean.mean - self.mean.mean) > ALIKE


@dataclass(frozen=True)
class Ranks:
    """Whether two users put the agents in the same order."""

    first: str
    second: str
    tau: Interval
    """Kendall's tau-b over the agents, from -1 (reversed) to 1 (the same); n: agents. NaN where a user cannot tell them apart."""

    @property
    def open(self) -> bool:
        """Whether the interval has a width; else all draws gave the same, which is no certainty. True where tau is NaN."""
        return not self.tau.high - self.tau.low <= ALIKE


@dataclass(frozen=True)
class Factor:
    """What the choice of the user (and judge) decides."""

    metric: str
    figures: tuple[Figure, ...]
    spreads: tuple[Spread, ...]
    """One for each agent, where there are several users or judges."""
    ranks: tuple[Ranks, ...]
    """One for each pair of users, where there are several agents."""
    tasks: int
    """Tasks that all cells scored, each of which counts the same in `spreads` and `ranks`."""


def factor(played: Iterable[tuple[Cell, Iterable[Episode]]], metric: str = "share", seed: int = 0) -> Factor:
    """What the cells of a grid show. Goes through each one's episodes once, and keeps numbers only.

    Raises:
        UnknownName: there is no such metric.
        DataError: no task has a score in all cells.
    """
    check_metric(metric)
    found: dict[tuple[str, tuple[str, str]], dict[TaskKey, list[float]]] = {}
    within: dict[str, Bounds | None] = {}
    figures = []
    for cell, episodes in played:
        kept = Outline(cell.folder, {}, [metric])
        for _ in kept.watch(episodes):
            pass
        found[cell.job.agent, cell.condition] = values = _values(kept, metric)
        flat = {gym: _flat(values, gym) for gym in dict.fromkeys(gym for gym, _ in values)}
        own = {gym: kept.within.get((gym, metric)) for gym in flat}
        within |= {gym: widest(within.get(gym, bounds), bounds) for gym, bounds in own.items()}
        gyms = {gym: mean_interval(*of, seed, own[gym]) for gym, of in flat.items()}
        mean, macro = _averages(gyms, flat, own, seed)
        who = (cell.job.agent, cell.job.user, cell.job.judge)
        whole = len(flat) == len(cell.job.gyms)
        figures.append(Figure(*who, mean, len(values), kept.failed(), gyms, macro if whole else NOTHING))
    agents = list(dict.fromkeys(agent for agent, _ in found))
    conditions = list(dict.fromkeys(condition for _, condition in found))
    shared = [task for task in next(iter(found.values()), {}) if all(task in values for values in found.values())]
    if not shared:
        raise DataError("No task has a score in all cells of the grid. Play the failed episodes anew with --resume.")
    attempts = [[[found[agent, condition][task] for task in shared] for condition in conditions] for agent in agents]
    means = np.array([[[np.mean(a) for a in tasks] for tasks in row] for row in attempts])
    of = [gym for gym, _ in shared]
    picks = drawn_tasks(of, seed)
    drawn = np.stack([means[:, :, pick].mean(2) for pick in picks]).round(12)  # what is equal but for rounding is a tie
    names = _names(conditions)
    spreads = [
        _spread(
            agent,
            names,
            means[i],
            drawn[:, i],
            [[v for a in tasks for v in a] for tasks in attempts[i]],
            METRICS[metric].is_cost,
            lambda values: parts(values, of, within),
        )
        for i, agent in enumerate(agents)
    ]
    return Factor(
        metric,
        tuple(figures),
        tuple(spreads) if len(conditions) > 1 else (),
        tuple(_ranks(names, means.mean(2).round(12), drawn)) if len(agents) > 1 else (),
        len(shared),
    )


def _averages(
    gyms: Mapping[str, Interval],
    flat: Mapping[str, tuple[list[float], list[TaskKey]]],
    own: Mapping[str, Bounds | None],
    seed: int,
) -> tuple[Interval, Interval]:
    """Micro and macro, as `metrics.figures` draws them; of a single gym, its mean."""
    if len(gyms) == 1:
        [only] = gyms.values()
        return only, only
    counts = [len(set(tasks)) for _, tasks in flat.values()]
    weights = [[n / sum(counts) for n in counts], [1 / len(counts) for _ in counts]]
    mean, macro = (combined_interval(list(flat.values()), of, seed, list(own.values())) for of in weights)
    return mean, macro


def _values(run: Outline, metric: str) -> dict[TaskKey, list[float]]:
    """The values of each task's scored attempts."""
    found = dict[TaskKey, list[float]]()
    for key, kept in run.episodes.items():
        if kept.values:
            found.setdefault(key[:2], []).append(kept.values[metric])
    return found


def _flat(values: Mapping[TaskKey, Sequence[float]], gym: str) -> tuple[list[float], list[TaskKey]]:
    """A gym's values, one after the other, and the task of each."""
    flat = [(value, task) for task, attempts in values.items() for value in attempts if task[0] == gym]
    return [value for value, _ in flat], [task for _, task in flat]


def _names(conditions: Sequence[tuple[str, str]]) -> list[str]:
    """The users, with the judge where there are several."""
    several = len({judge for _, judge in conditions}) > 1
    return [f"{user} / {judge}" if several else user for user, judge in conditions]


def _spread(
    agent: str,
    names: Sequence[str],
    means: np.ndarray,
    drawn: np.ndarray,
    episodes: Sequence[Sequence[float]],
    is_cost: bool,
    parts_of: Callable[[np.ndarray], Sequence[Part]],
) -> Spread:
    """means: (users, tasks); drawn: (RESAMPLES, users); episodes: those of each user; is_cost: whether less is better."""
    over_users, by_user = drawn.mean(1), means.mean(1).round(12)
    gains = -drawn if is_cost else drawn
    worst, lowest = int((-by_user if is_cost else by_user).argmin()), gains == gains.min(1, keepdims=True)
    variances = [float(np.var(values, ddof=1)) for values in episodes if len(values) > 1]
    return Spread(
        agent,
        drawn_interval(float(means.mean()), over_users, means.shape[1], parts_of(means.mean(0))),
        names[worst],
        drawn_interval(float(by_user[worst]), drawn[:, worst], means.shape[1], parts_of(means[worst])),
        float(np.mean(lowest[:, worst] / lowest.sum(1))),
        between_variance(means),
        float(np.mean(variances)) if variances else float("nan"),
    )


def between_variance(means: np.ndarray) -> float:
    """Variance between users, less what chance and the users' taste in tasks add to it; not below 0.

    Args:
        means: (users, tasks) mean value of each task with each user.

    Returns:
        (mean square of users - mean square of residuals) / tasks of the two-way table; NaN for one user or one task.
    """
    users, tasks = means.shape
    if users < 2 or tasks < 2:
        return float("nan")
    by_user, by_task = means.mean(1, keepdims=True), means.mean(0, keepdims=True)
    residuals = means - by_user - by_task + means.mean()
    noise: float = (residuals**2).sum() / ((users - 1) * (tasks - 1))
    between: float = np.var(by_user, ddof=1) - noise / tasks
    return max(0.0, float(between))


def _ranks(names: Sequence[str], means: np.ndarray, drawn: np.ndarray) -> Iterator[Ranks]:
    """means: (agents, users); drawn: (RESAMPLES, agents, users)."""
    for i, j in combinations(range(len(names)), 2):
        tau = kendall(means[:, i], means[:, j])
        draws = np.array([kendall(one[:, i], one[:, j]) for one in drawn])
        known = draws[~np.isnan(draws)]
        found = drawn_interval(tau, known, len(means)) if known.size else Interval(tau, tau, tau, len(means))
        yield Ranks(names[i], names[j], found)


def kendall(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau-b: agreement of two orders, with ties allowed for. NaN where one of them is all ties.

    >>> kendall([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    pairs = list(combinations(range(len(first)), 2))
    a, b = (np.sign([values[i] - values[j] for i, j in pairs]) for values in (first, second))
    untied = float((a != 0).sum()) * float((b != 0).sum())
    return float(np.dot(a, b)) / math.sqrt(untied) if untied else float("nan")
