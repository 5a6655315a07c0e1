"""The picture of an experiment: how the arms learn, what they reach, and what they do on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from userrl.errors import needs
from userrl.evaluate.statistics import Interval
from userrl.gyms.base import find
from userrl.pipeline.experiment import EXPERT, IMITATED, Arm
from userrl.pipeline.experiment_table import Report, during, estimators, learning
from userrl.pipeline.plot import merged

with needs("local", "The picture of an experiment"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

COLORS = ("#3b7dd8", "#d98324", "#2c9c69", "#b5483a", "#8659b5", "#6b6b6b", "#c2559d", "#7a9a01")
GREY = "#555555"
WATCHED = ("repeated", "invalid")
"""Sorts of action drawn over the training episodes, where the gym has them."""


def draw(report: Report, path: Path) -> Path:
    """Write a PNG: validation share by step, test share by arm with each seed, and the sorts of action to watch."""
    found = report.findings
    colors = dict(zip((arm.name for arm in found.arms), COLORS * 9, strict=False))
    labels = [label for label in WATCHED if label in (*find(found.job.gym).labels, "invalid")]
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1.1, 1))
    _learning(left, report, colors)
    _reached(middle, report, colors)
    _watched(right, report, colors, labels)
    seeds = f"{len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''}"
    about = f"{found.job.gym}, {found.job.max_turns} turns, {seeds}, {estimators(report)}"
    figure.suptitle(f"{about}; bands and bars: 95% over seeds, not adjusted", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _trained(report: Report, arm: Arm) -> list:  # type: ignore[type-arg]
    return [report.findings.trained[arm.folder, seed] for seed in report.findings.seeds]


def _learning(axes: Axes, report: Report, colors: dict[str, str]) -> None:
    found, end = report.findings, 1
    levels = found.baselines.levels
    low = levels[report.best_without_skill]
    for arm in found.arms:
        points = learning(_trained(report, arm))
        if len(points) < 2:
            continue
        steps, means = list(points), list(points.values())
        axes.fill_between(steps, [m.low for m in means], [m.high for m in means], color=colors[arm.name], alpha=0.12, lw=0)
        axes.plot(steps, [m.mean for m in means], color=colors[arm.name], marker="o", ms=3.5, label=arm.name)
        end, low = max(end, *steps), min([low, *(m.mean for m in means)])
    low = max(-0.02, low - 0.15)
    for names, level in merged({name: level for name, level in levels.items() if level > low}):
        axes.axhline(level, color="black", lw=0.7, ls="--" if EXPERT in names else ":")
        axes.annotate(", ".join(names), (0.01, level), xycoords=("axes fraction", "data"), xytext=(0, 2),
                      textcoords="offset points", fontsize=6.5, color=GREY)  # fmt: skip
    axes.set(xlabel="GRPO step (0 = where it starts)", ylabel="share of the reachable reward", ylim=(low, 1), xlim=(0, end))
    axes.set_title("validation tasks, T = 1", fontsize=10)
    _legend(axes, 3)


def _reached(axes: Axes, report: Report, colors: dict[str, str]) -> None:
    names = [row.name for row in report.rows]
    for at, row in enumerate(report.rows):
        for offset, how, marker, interval in ((-0.14, "sampled", "o", row.sampled), (0.14, "greedy", "s", row.greedy)):
            color = colors[row.name]
            axes.scatter(row.seeds[how], [at + offset] * len(row.seeds[how]), s=9, color=color, alpha=0.4, marker=marker)
            axes.errorbar(interval.mean, at + offset, xerr=_reach(interval), fmt=marker, color=color, ms=5, capsize=2,
                          mfc=color if how == "sampled" else "white")  # fmt: skip
    baselines = report.findings.baselines.test
    for name, style in ((report.best_without_skill, ":"), (IMITATED, "-."), (EXPERT, "--")):
        axes.axvline(baselines[name].share.mean, color="black", lw=0.8, ls=style, label=name.replace("_", " "))
    for how, marker, fill in (("sampled (T = 1)", "o", GREY), ("greedy", "s", "white")):
        axes.plot([], [], marker, color=GREY, mfc=fill, label=how)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of the reachable reward")
    axes.set_title("test tasks", fontsize=10)
    _legend(axes, 3)


def _watched(axes: Axes, report: Report, colors: dict[str, str], labels: Sequence[str]) -> None:
    top = 0.1
    for arm in report.findings.arms:
        for label, style in zip(labels, ("-", ":"), strict=False):
            points = during(_trained(report, arm), label)
            axes.plot(list(points), list(points.values()), style, color=colors[arm.name], lw=1.2)
            top = max([top, *points.values()])
    for label, style in zip(labels, ("-", ":"), strict=False):
        axes.plot([], [], style, color=GREY, label=label)
    axes.set(xlabel="GRPO step", ylabel="share of all actions", ylim=(0, 1.1 * top))
    axes.set_title("training episodes, mean over seeds", fontsize=10)
    _legend(axes, 2)


def _reach(interval: Interval) -> list[list[float]] | None:
    return [[interval.mean - interval.low], [interval.high - interval.mean]] if interval.n > 1 else None


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, fontsize=7.5, frameon=False)
