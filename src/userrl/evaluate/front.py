"""Success against turns over any set of runs: which of them no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from userrl.data.sets import digest
from userrl.errors import ConfigError, DataError, needs
from userrl.evaluate.compare import COSTS, METRICS, check_metric
from userrl.evaluate.statistics import Interval, drawn_interval, drawn_tasks
from userrl.store import Records, index, settings

COLORS = ("#3b7dd8", "#8a8a8a")
"""Of runs on the front, and of the others."""


@dataclass(frozen=True)
class Point:
    """One run."""

    run: str
    agent: str
    """Empty where the run does not say."""
    success: Interval
    turns: Interval
    on_front: bool
    """No other run has as much success in fewer turns, or more in as many."""
    on_front_share: float
    """Share of the resamples in which that holds."""
    errors: int
    """Episodes that a failure ended, which have no score."""


@dataclass(frozen=True)
class Front:
    """Runs by what they reach and what it takes, on the tasks that all of them scored."""

    by: str
    against: str
    tasks: int
    left_out: int
    """Tasks that only some of the runs scored."""
    changed: int
    """Tasks of the same id that are not the same in all runs; left out, too."""
    points: tuple[Point, ...]
    """From the fewest turns to the most."""


def front(runs: Sequence[Path], by: str = "share", against: str = "turns", gym: str | None = None, seed: int = 0) -> Front:
    """The front of runs. Each task counts the same, whatever the attempts; intervals draw the tasks
    of each gym anew, the same for all runs.

    Args:
        by: what more of is better, of `compare.METRICS`.
        against: what less of is better.
        gym: the only gym to look at; all by default.

    Raises:
        UnknownName: there is no such metric.
        ConfigError: a run is named twice; or `by` is a cost, or `against` none (`compare.COSTS`).
        DataError: a folder holds no episodes, or the runs have no scored task in common.
    """
    _check(runs, by, against)
    return _front([_read(run, by, against, gym) for run in runs], by, against, gym, seed)


def fronts(runs: Sequence[Path], by: str = "share", against: str = "turns", seed: int = 0) -> dict[str, Front]:
    """Gym -> the front of those of the runs that played it, where these are two and more and have a scored task in common.

    Reads each run once. Raises as `front` does, but for tasks in common.
    """
    _check(runs, by, against)
    read = [_read(run, by, against, None) for run in runs]
    found = {}
    for gym in dict.fromkeys(gym for run in read for gym, _ in run.means):
        own = [run.of(gym) for run in read if run.of(gym).means]
        if len(own) > 1 and _shared(own):
            found[gym] = _front(own, by, against, gym, seed)
    return found


def _front(read: Sequence[_Run], by: str, against: str, gym: str | None, seed: int) -> Front:
    values = [found.means for found in read]
    scored = [task for task in values[0] if all(task in of for of in values)]
    shared = _shared(read)
    if not shared:
        where = f" of gym {gym!r}" if gym else ""
        raise DataError(f"The {len(read)} runs have no task{where} with a score in common. Name runs on the same gyms and split.")
    table = np.array([[of[task] for task in shared] for of in values])
    picks = drawn_tasks([of for of, _ in shared], seed)
    # rounded, since sums that are equal but for rounding are ties
    drawn = np.stack([table[:, pick].mean(1) for pick in picks]).round(12)
    means, share = table.mean(1).round(12), np.mean([undominated(one) for one in drawn], axis=0)
    points = [
        Point(
            str(found.run),
            str(settings(found.run).get("agent", "")),
            drawn_interval(float(means[i, 0]), drawn[:, i, 0], len(shared)),
            drawn_interval(float(means[i, 1]), drawn[:, i, 1], len(shared)),
            bool(on),
            float(share[i]),
            found.errors,
        )
        for i, (found, on) in enumerate(zip(read, undominated(means), strict=True))
    ]
    points.sort(key=lambda point: (point.turns.mean, -point.success.mean))
    left_out = len({task for of in values for task in of}) - len(scored)
    return Front(by, against, len(shared), left_out, len(scored) - len(shared), tuple(points))


def _shared(read: Sequence[_Run]) -> list[_Key]:
    """The tasks that all runs scored, and that are the same in all."""
    first, *others = read
    return [task for task, digest in first.tasks.items() if all(other.tasks.get(task) == digest for other in others)]


def _check(runs: Sequence[Path], by: str, against: str) -> None:
    check_metric(by)
    check_metric(against)
    if by in COSTS or against not in COSTS:
        gains = ", ".join(name for name in METRICS if name not in COSTS)
        raise ConfigError(f"A front of {by} against {against}: expected one of {gains} against one of {', '.join(COSTS)}.")
    if len(set(runs)) < len(runs):
        raise ConfigError(f"A run is named twice: {', '.join(map(str, runs))}. Name each once.")


def undominated(means: np.ndarray) -> np.ndarray:
    """(N,) which of N points no other is at least as good as in both, and better in one.

    Args:
        means: (N, 2) what more of is better, and what less of is.
    """
    gain, cost = means[:, 0], means[:, 1]
    as_good = (gain[:, None] >= gain) & (cost[:, None] <= cost)
    better = (gain[:, None] > gain) | (cost[:, None] < cost)
    alone: np.ndarray = np.logical_not(np.any(as_good & better, axis=0))
    return alone


_Key = tuple[str, str]
"""(gym, task id)"""


@dataclass(frozen=True)
class _Run:
    """What is kept of a run."""

    run: Path
    means: Mapping[_Key, tuple[float, float]]
    """Task -> what it reaches and what it takes, over its scored attempts."""
    tasks: Mapping[_Key, str]
    """Digests of those tasks."""
    errors: int

    def of(self, gym: str) -> _Run:
        """What is kept of one of its gyms, without the failures, which are not counted apart."""
        means = {key: value for key, value in self.means.items() if key[0] == gym}
        return replace(self, means=means, tasks={key: self.tasks[key] for key in means}, errors=0)


def _read(run: Path, by: str, against: str, gym: str | None) -> _Run:
    file = run / "episodes.jsonl"
    if not file.is_file():
        raise DataError(f"{run} holds no episodes.jsonl. Name the folder of a run, as --out named it.")
    pairs: dict[_Key, list[tuple[float, float]]] = {}
    tasks: dict[_Key, str] = {}
    entries = [entry for key, entry in index(file).items() if gym in (None, key[0])]
    scored = [entry.offset for entry in entries if entry.stop != "error"]
    for episode in Records(file, scored):
        key = (episode.task.gym, episode.task.id)
        pairs.setdefault(key, []).append((METRICS[by](episode), METRICS[against](episode)))
        if key not in tasks:
            tasks[key] = digest([episode.task])
    means = {task: (float(np.mean([p[0] for p in of])), float(np.mean([p[1] for p in of]))) for task, of in pairs.items()}
    return _Run(run, means, tasks, len(entries) - len(scored))


def draw(found: Front, names: Sequence[str], path: Path) -> Path:
    """The picture of a front, as PNG, SVG or PDF by the file's ending.

    Args:
        names: of the points, in their order.
    """
    with needs("report", "The picture of a front"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    best = [point for point in found.points if point.on_front]
    steps = [p.turns.mean for p in best], [p.success.mean for p in best]
    axes.step(*steps, where="post", color=COLORS[0], lw=1, ls="--", zorder=1)
    numbers: dict[tuple[float, float], list[str]] = {}
    for number, (point, name) in enumerate(zip(found.points, names, strict=True), start=1):
        x, y, color = point.turns, point.success, COLORS[0 if point.on_front else 1]
        spans = ([[x.mean - x.low], [x.high - x.mean]], [[y.mean - y.low], [y.high - y.mean]])
        label = f"{number}  {name}"
        axes.errorbar(
            x.mean, y.mean, xerr=spans[0], yerr=spans[1], fmt="o", color=color, ms=5, lw=1, capsize=2, zorder=2, label=label
        )
        numbers.setdefault((x.mean, y.mean), []).append(str(number))
    for place, same in numbers.items():
        axes.annotate(", ".join(same), place, xytext=(5, 5), textcoords="offset points", fontsize=9)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    axes.set(xlabel=LABELS.get(found.against, found.against), ylabel=LABELS.get(found.by, found.by))
    axes.set_title(f"{found.tasks} tasks; crosses: 95% intervals; dashed: the front", fontsize=9)
    axes.margins(0.12)
    axes.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


LABELS = {
    "share": "share of the best score within reach",
    "score": "score",
    "solved": "share of tasks solved",
    "weighted": "time-weighted performance",
    "turns": "effective turns",
    "user-turns": "turns that need a person",
}
"""Name of a figure -> what an axis says."""
