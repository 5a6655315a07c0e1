"""Learning curves: what a run's lines of figures show, drawn with the agents without skill."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from userrl.core import INVALID, Cast, Episode, Task
from userrl.errors import DataError, needs
from userrl.evaluate.metrics import share
from userrl.gyms.base import find
from userrl.rollout import play_many
from userrl.store import settings
from userrl.train.logs import BASELINES, FIGURES, read_lines
from userrl.train.monitors import KINDS, Line, share_of

with needs("local", "The learning curve"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

COLORS = ("#3b7dd8", "#2c9c69", "#d98324", "#b5483a", "#8a8a8a", "#8659b5", "#c2559d")
COLUMNS = 3
CURVE = "curve.png"
SEEDS = 1_000_000
"""Between the seeds of two agents: more than a run has steps."""

Levels = Mapping[str, float]
"""Agent -> its mean share of the reachable reward."""


async def baselines(
    episodes: Sequence[Episode],
    fit: Mapping[str, Sequence[Task]],
    cast: Cast | Callable[[str], Cast],
    on_end: Callable[[Episode], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Gym -> agent without skill, or expert -> its mean share in these episodes, none of them begun.

    Args:
        fit: gym -> training tasks, to which baselines may fit themselves.

    Raises RunStopped when more than a quarter of an agent's episodes fail.
    """
    found: dict[str, dict[str, float]] = {}
    for gym in dict.fromkeys(e.task.gym for e in episodes):
        agents = {**find(gym).baselines(fit.get(gym, ())), "expert": find(gym).expert(1.0)}
        found[gym] = {}
        for number, (name, agent) in enumerate(agents.items(), start=1):
            # replies of models are recorded by the episode's seed
            fresh = [replace(e, seed=e.seed + number * SEEDS) for e in episodes if e.task.gym == gym]
            played = await play_many(fresh, agent, cast, on_end=on_end, at_once=128, max_errors=len(fresh) // 4)
            shares = [share(e) for e in played if e.stop != "error"]
            found[gym][name] = sum(shares) / len(shares)
    return found


def redraw(folder: Path) -> Path:
    """`curve.png` of a training run, from what it has written so far. Raises DataError for a folder without figures."""
    if not (lines := read_lines(folder / FIGURES)) or not any("share" in line or "validation" in line for line in lines):
        raise DataError(f"{folder} holds no figures of `userrl rl train` in {FIGURES}. Give the --out of such a run.")
    job = settings(folder)
    levels = json.loads((folder / BASELINES).read_text("utf-8")) if (folder / BASELINES).exists() else {}
    temperature = job["grpo"]["temperature"]
    return draw(folder / CURVE, lines, {gym: levels.get(gym, {}) for gym in job["gyms"]}, temperature=temperature)


def draw(
    path: Path, lines: Sequence[Line], levels: Mapping[str, Levels], *, start: str = "start", temperature: float = 1.0
) -> Path:
    """Draw a run: the share of the reachable reward for each gym, with its levels; then what the policy does.

    Args:
        lines: as `train.jsonl` holds them.
        levels: gym -> horizontal lines of its panel.
        start: what the policy is at step 0.
    """
    count = len(levels) + 1
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.5 * columns, 4.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    alone = len(levels) == 1
    for axes, gym in zip(panels, levels, strict=False):
        _share(axes, lines if alone else [of_gym(line, gym) for line in lines], gym, levels[gym], temperature)
        axes.set(xlabel=f"GRPO step (0 = {start})")
    _mix(panels[count - 1], [line for line in lines if "mix" in line], find(next(iter(levels))).labels if alone else None)
    for axes in panels[count:]:
        axes.remove()
    figure.savefig(path, dpi=130)
    return path


def of_gym(line: Line, gym: str) -> Line:
    """What a line says of one of several gyms."""
    held, tested = line.get("gyms", {}).get(gym), line.get("validation", {}).get("gyms", {}).get(gym)
    return {"step": line["step"], **(held or {}), **({"validation": tested} if tested else {})}


def _share(axes: Axes, lines: Sequence[Line], gym: str, levels: Levels, temperature: float) -> None:
    train = [line for line in lines if "share" in line]
    label = f"training tasks (T = {temperature:g})"
    axes.plot([line["step"] for line in train], [line["share"] for line in train], color=COLORS[4], lw=1, label=label)
    tested = [line for line in lines if "validation" in line]
    if tested:
        steps, shares = [line["step"] for line in tested], [line["validation"]["share"] for line in tested]
        axes.fill_between(steps, [x["low"] for x in shares], [x["high"] for x in shares], color=COLORS[0], alpha=0.2, lw=0)
        label = "validation tasks, 95% interval"
        axes.plot(steps, [x["mean"] for x in shares], color=COLORS[0], marker="o", ms=4, label=label)
    for names, level in merged(levels):
        axes.axhline(level, color="black", lw=0.8, ls="--" if "expert" in names else ":")
        axes.annotate(", ".join(names), (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    end = max([1, *(line["step"] for line in (*train, *tested))])
    axes.set(ylabel="share of the reachable reward", ylim=(0, 1), xlim=(0, end))
    axes.set_title(f"{gym}: {'held-out tasks while training' if tested else 'training tasks'}", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)


def _mix(axes: Axes, lines: Sequence[Line], labels: Sequence[str] | None) -> None:
    """The most frequent labels of one gym; of several gyms, the sorts of wasted actions."""
    mixes = [line["mix"] for line in lines]
    if labels is None:
        shares = {kind: [share_of(kind, mix) for mix in mixes] for kind in KINDS}
        shares[INVALID] = [mix.get(INVALID, 0.0) for mix in mixes]
    else:
        shares = {label: [mix.get(label, 0.0) for mix in mixes] for label in dict.fromkeys((*labels, INVALID))}
        often = sorted(shares, key=lambda label: -max(shares[label], default=0.0))[: len(COLORS)]
        shares = {label: values for label, values in shares.items() if label in often}
    for color, (label, values) in zip(COLORS, shares.items(), strict=False):
        axes.plot([line["step"] for line in lines], values, color=color, label=label.replace("_", "-"))
    axes.set(xlabel="GRPO step", ylabel="share of all actions", ylim=(0, 1))
    axes.set_title("what the policy does (training episodes)", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, fontsize=8, frameon=False)


def merged(levels: Mapping[str, float], apart: float = 0.045) -> list[tuple[list[str], float]]:
    """Names that share a line because their levels are too close for two labels, and the mean level."""
    groups: list[list[str]] = []
    for name in sorted(levels, key=lambda n: levels[n]):
        if groups and levels[name] - levels[groups[-1][0]] < apart:
            groups[-1].append(name)
        else:
            groups.append([name])
    return [([n.replace("_", " ") for n in group], sum(levels[n] for n in group) / len(group)) for group in groups]
