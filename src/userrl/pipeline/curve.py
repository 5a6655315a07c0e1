"""The demo's learning curve: measured on validation tasks while it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from userrl.core import Agent, Episode, Task
from userrl.evaluate.metrics import share, share_bounds
from userrl.evaluate.statistics import mean_interval
from userrl.gyms.base import Gym
from userrl.pipeline.jobs import figures
from userrl.pipeline.plot import CURVE, Levels, draw
from userrl.rollout import play_many, starts
from userrl.store import RunFolder
from userrl.train.grpo import Step


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
            shares, tasks = [share(e) for e in episodes], [e.task.id for e in episodes]
            point["validation"] = asdict(mean_interval(shares, tasks, within=share_bounds(self.gym.name)))
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

    def draw(self, levels: Levels) -> Path:
        """`curve.png`: reward on the left, action mix on the right."""
        lines = [{**p, "validation": {"share": p["validation"]}} if "validation" in p else p for p in self.points()]
        return draw(self.run.path / CURVE, lines, {self.gym.name: levels}, start="after SFT")
