"""The demo's learning curve: measured on validation tasks while it trains, drawn with the agents without skill."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from userrl.core import Agent, Episode, Task
from userrl.errors import needs
from userrl.evaluate.metrics import share
from userrl.evaluate.statistics import mean_interval
from userrl.gyms.base import Gym
from userrl.pipeline.jobs import figures
from userrl.rollout import play_many, starts
from userrl.store import RunFolder
from userrl.train.grpo import Step

with needs("local", "The learning curve"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

COLORS = ("#3b7dd8", "#2c9c69", "#d98324", "#b5483a", "#8a8a8a")


class Curve:
    """Points of a learning curve, kept in `curve.jsonl` so that a resumed run goes on with it."""

    def __init__(self, run: RunFolder, gym: Gym, tasks: Sequence[Task], *, max_turns: int, seed: int) -> None:
        self.run, self.gym, self.tasks, self.max_turns, self.seed = run, gym, tasks, max_turns, seed

    async def play(self, agent: Agent) -> list[Episode]:
        plan = starts(self.tasks, seed=self.seed, max_turns=self.max_turns)
        return await play_many(plan, agent, self.gym.cast(), at_once=128)

    async def add(self, step: Step | None, agent: Agent | None) -> None:
        """One step's point: its training figures and, with an agent, its figures on the validation tasks."""
        point: dict[str, Any] = figures(step) if step else {"step": 0}
        if agent:
            episodes = await self.play(agent)
            point["validation"] = asdict(mean_interval([share(e) for e in episodes], [e.task.id for e in episodes]))
        with self.run.store("curve.jsonl") as store:
            store.write(point)

    def points(self) -> list[dict[str, Any]]:
        """The points in order of step; of a step done twice (a crash between checkpoints) the later one."""
        lines = (self.run.path / "curve.jsonl").read_text("utf-8").splitlines()
        return [p for _, p in sorted({p["step"]: p for p in map(json.loads, lines)}.items())]

    async def levels(self, agents: Mapping[str, Agent]) -> dict[str, float]:
        """Mean share of each agent on the validation tasks, for horizontal lines."""
        out: dict[str, float] = {}
        for name, agent in agents.items():
            episodes = await self.play(agent)
            out[name] = sum(map(share, episodes)) / len(episodes)
        return out

    def draw(self, levels: Mapping[str, float]) -> Path:
        """`curve.png`: reward on the left, action mix on the right."""
        points = self.points()
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        self._reward(left, points, levels)
        self._mix(right, [p for p in points if "mix" in p])
        path = self.run.path / "curve.png"
        figure.savefig(path, dpi=130)
        return path

    def _reward(self, axes: Axes, points: Sequence[Mapping[str, Any]], levels: Mapping[str, float]) -> None:
        train = [p for p in points if "share" in p]
        axes.plot([p["step"] for p in train], [p["share"] for p in train], color=COLORS[4], lw=1, label="training tasks (T = 1)")
        tested = [p for p in points if "validation" in p]
        steps, v = [p["step"] for p in tested], [p["validation"] for p in tested]
        axes.fill_between(steps, [x["low"] for x in v], [x["high"] for x in v], color=COLORS[0], alpha=0.2, lw=0)
        axes.plot(steps, [x["mean"] for x in v], color=COLORS[0], marker="o", ms=4, label="validation tasks, 95% interval")
        end = max([1, *steps])
        for names, level in merged(levels):
            axes.axhline(level, color="black", lw=0.8, ls="--" if "expert" in names else ":")
            axes.annotate(", ".join(names), (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=8)  # fmt: skip
        axes.set(xlabel="GRPO step (0 = after SFT)", ylabel="share of the reachable reward", ylim=(0, 1), xlim=(0, end))
        axes.set_title(f"{self.gym.name}: held-out tasks while training", fontsize=10)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)

    def _mix(self, axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
        for color, label in zip(COLORS, self.gym.labels, strict=False):
            axes.plot(
                [p["step"] for p in points],
                [p["mix"].get(label, 0.0) for p in points],
                color=color,
                label=label.replace("_", "-"),
            )
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
