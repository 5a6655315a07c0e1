"""Success against turns over any set of runs: which of them no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from userrl.errors import ConfigError, DataError, needs
from userrl.evaluate.outlines import METRICS, Outline, TaskKey, check_metric, outline, widest
from userrl.evaluate.played import Unfinished
from userrl.evaluate.statistics import Interval, drawn_interval, drawn_tasks, parts

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
    unfinished: Unfinished | None = None
    """How much is played of the run, where that is not all of it."""


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
        by: what more of is better, of `outlines.METRICS`.
        against: what less of is better.
        gym: the only gym to look at; all by default.

    Raises:
        UnknownName: there is no such metric.
        ConfigError: a run is named twice; or `by` is a cost, or `against` none.
        DataError: a folder holds no episodes, or the runs have no scored task in common.
    """
    _check(runs, by, against)
    return _front([outline(run, (by, against), gym) for run in runs], by, against, gym, seed)


def fronts(runs: Sequence[Outline], by: str = "share", against: str = "turns", seed: int = 0) -> dict[str, Front]:
    """Gym -> the front of those of the runs that played it, where these are two and more and have a scored task in common.

    Args:
        runs: with these two metrics among others.

    Raises as `front` does, but for tasks in common.
    """
    _check([run.run for run in runs], by, against)
    found = {}
    for gym in dict.fromkeys(gym for run in runs for gym, _, _ in run.episodes):
        own = [run for run in runs if any(kept.values for key, kept in run.episodes.items() if key[0] == gym)]
        values = [_means(run, by, against, gym) for run in own]
        if len(own) > 1 and any(_shared(own, values).values()):
            found[gym] = _front(own, by, against, gym, seed)
    return found


def _front(runs: Sequence[Outline], by: str, against: str, gym: str | None, seed: int) -> Front:
    values = [_means(run, by, against, gym) for run in runs]
    same = _shared(runs, values)
    shared = [task for task, alike in same.items() if alike]
    if not shared:
        where = f" of gym {gym!r}" if gym else ""
        raise DataError(f"The {len(runs)} runs have no task{where} with a score in common. Name runs on the same gyms and split.")
    gyms = [of for of, _ in shared]
    table = np.array([[of[task] for task in shared] for of in values])
    picks = drawn_tasks(gyms, seed)
    # rounded, since sums that are equal but for rounding are ties
    drawn = np.stack([table[:, pick].mean(1) for pick in picks]).round(12)
    means, share = table.mean(1).round(12), np.mean([undominated(one) for one in drawn], axis=0)
    within = [{of: reduce(widest, (run.within.get((of, metric)) for run in runs)) for of in gyms} for metric in (by, against)]

    def interval(i: int, metric: int) -> Interval:
        open_ = parts(table[i, :, metric], gyms, within[metric])
        return drawn_interval(float(means[i, metric]), drawn[:, i, metric], len(shared), open_)

    points = [
        Point(
            str(run.run),
            str(run.settings.get("agent", "")),
            interval(i, 0),
            interval(i, 1),
            bool(on),
            float(share[i]),
            run.failed(gym),
            run.unfinished,
        )
        for i, (run, on) in enumerate(zip(runs, undominated(means), strict=True))
    ]
    points.sort(key=lambda point: (point.turns.mean, -point.success.mean))
    left_out = len({task for of in values for task in of}) - len(same)
    return Front(by, against, len(shared), left_out, len(same) - len(shared), tuple(points))


_Means = Mapping[TaskKey, tuple[float, float]]
"""Task -> what a run reaches and what it takes, over its scored attempts."""


def _means(run: Outline, by: str, against: str, gym: str | None) -> _Means:
    attempts: dict[TaskKey, list[tuple[float, float]]] = {}
    for key, kept in run.episodes.items():
        if kept.values and gym in (None, key[0]):
            attempts.setdefault(key[:2], []).append((kept.values[by], kept.values[against]))
    return {task: (float(np.mean([p[0] for p in of])), float(np.mean([p[1] for p in of]))) for task, of in attempts.items()}


def _shared(runs: Sequence[Outline], values: Sequence[_Means]) -> dict[TaskKey, bool]:
    """Tasks that all runs scored -> whether they are the same in all."""
    scored = (task for task in values[0] if all(task in of for of in values))
    return {task: len({run.tasks[task] for run in runs}) == 1 for task in scored}


def check_axes(by: str, against: str) -> None:
    """Raises UnknownName for what is no metric, ConfigError where less is better of the first or more of the second."""
    check_metric(by)
    check_metric(against)
    if METRICS[by].is_cost or not METRICS[against].is_cost:
        gains, costs = (", ".join(name for name, m in METRICS.items() if m.is_cost is of) for of in (False, True))
        raise ConfigError(f"A front of {by} against {against}: expected one of {gains} against one of {costs}.")


def _check(runs: Sequence[Path], by: str, against: str) -> None:
    check_axes(by, against)
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
