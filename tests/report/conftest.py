"""Runs to report on, played once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from userrl.core import Action, Episode, Turn
from userrl.evaluate.results import document, write
from userrl.evaluate.run import EvalJob, evaluate, recorded_job
from userrl.evaluate.users import Cell, Factor, factor
from userrl.gyms.base import find, make
from userrl.pipeline.seats import PerGym
from userrl.store import dump, read

NASTY = "<script>alert(1)</script> \" ' onload=x --></style></title><img src=x onerror=alert(1)> {{7*7}} $x^2$ \x00\u202e"


def play(folder: Path, skill: float, trait: str = "plain", gyms: Sequence[str] = ("intention", "turtle")) -> Path:
    job = EvalJob(agent=f"expert:{skill}", gyms=tuple(gyms), tasks=5, attempts=2, user=f"scripted:{trait}")
    asyncio.run(evaluate(job, PerGym(lambda gym: find(gym).expert(skill)), lambda gym: find(gym).cast(trait), folder))
    return folder


@pytest.fixture(scope="session")
def strong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("runs") / "strong", 1.0)


@pytest.fixture(scope="session")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("runs") / "weak", 0.3, "terse")


@pytest.fixture
def grid(tmp_path: Path) -> tuple[Path, Factor]:
    """Two agents with two users, each under two judges that mark alike; and what its `results.json` says."""
    runs: list[tuple[Cell, list[Episode]]] = []
    for agent, skill in (("able", 1.0), ("weak", 0.3)):
        for user in ("plain", "terse"):
            folder = tmp_path / "grid" / agent / user / "scripted"
            play(folder, skill, user)
            job = replace(recorded_job(folder), agent=agent, user=user)
            runs += [(Cell(replace(job, judge=judge), folder), list(read(folder / "episodes.jsonl"))) for judge in ("j", "k")]
    found = factor(runs, "solved")
    write(tmp_path / "grid", document("users", {"factor": found}))
    return tmp_path / "grid", found


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A training run of two steps, of two episodes each, with validation after the second."""
    folder, gym = tmp_path / "trained", make("intention")
    task = gym.tasks("train")[0]
    episodes = [
        Episode(
            task,
            (Turn(Action("action", f"step {step}"), "I see.", 0.5 * step, label="relevant"),),
            "turn_limit",
            seed=step,
            attempt=a,
        )
        for step in (1, 2)
        for a in (0, 1)
    ]
    folder.mkdir()
    dump(folder / "episodes.jsonl", episodes)
    config = {"kind": "rl", "gyms": ["intention"], "model": "m", "grpo": {"groups": 1, "group_size": 2}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    line = {"step": 1, "share": 0.25, "reward": 0.5, "loss": 0.1, "mix": {"relevant": 1.0, "repeated": 0.0}}
    tested = {"share": {"mean": 0.375, "low": 0.25, "high": 0.5, "n": 64}}
    lines = [line, {**line, "step": 2, "share": 0.5, "validation": tested}]
    (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    return folder


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """A run in which everything that a model or a file may say attacks the page; one of its episodes failed."""
    folder = tmp_path / "a<b>&\"c' $x$"
    task = make("turtle").tasks("test")[0]
    bad = type(task)(f"id{NASTY}", "turtle", NASTY, task.hidden)
    turn = Turn(Action("action", NASTY), NASTY, label=NASTY)
    invalid = Turn(Action("invalid", "", raw=NASTY, problem=NASTY), NASTY, label="invalid")
    played = Episode(bad, (turn, invalid), "turn_limit")
    folder.mkdir()
    dump(folder / "episodes.jsonl", [played, Episode(bad, (turn,), "error", f"judge: {NASTY}", attempt=1)])
    config = {"kind": "eval", "agent": NASTY, "gyms": ["turtle"], "user": NASTY, "judge": "scripted", "split": NASTY}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    cost = {
        "role": "agent",
        "gym": "turtle",
        "model": NASTY,
        "calls": 3,
        "failed": 1,
        "read": 10,
        "written": 5,
        "usd": 0.5,
        "unpriced": 0,
    }
    (folder / "cost.json").write_text(json.dumps([cost]), "utf-8")
    return folder
