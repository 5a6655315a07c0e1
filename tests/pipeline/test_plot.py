"""The picture of a run: what it is drawn from, and that every run of RL leaves one, with the agents without skill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.agents.policy import Policy
from userrl.core import Episode
from userrl.errors import DataError
from userrl.gyms.base import find
from userrl.pipeline.jobs import RLJob, reinforce
from userrl.pipeline.plot import baselines, draw, of_gym, redraw
from userrl.rollout import starts
from userrl.train.grpo import GRPOConfig
from userrl.train.validation import Validation

SHARE = {"mean": 0.5, "low": 0.4, "high": 0.6}


def line(step: int, *gyms: str, **fields: Any) -> dict[str, Any]:
    held = {gym: {"share": 0.3, "reward": 1.0, "episodes": 4} for gym in gyms}
    return {"step": step, "share": 0.3, "mix": {"repeated": 0.5, "invalid": 0.5}, "gyms": held, **fields}


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("gyms", [("intention",), ("tau",), ("intention", "travel"), ("intention", "travel", "turtle", "tau")])
def test_a_run_of_one_gym_or_several_is_drawn(gyms: tuple[str, ...], tmp_path: Path) -> None:
    tested = {"share": SHARE, "gyms": {gym: {"share": SHARE} for gym in gyms}}
    lines = [{"step": 0, "validation": tested}, line(1, *gyms), line(2, *gyms[:1], validation=tested)]
    levels = {gym: {"random": 0.1, "expert": 0.9} for gym in gyms}
    assert is_picture(draw(tmp_path / "a.png", lines, levels))
    assert is_picture(draw(tmp_path / "b.png", [line(1, *gyms)], {gym: {} for gym in gyms}))


def test_of_several_gyms_each_panel_has_its_own_figures() -> None:
    whole = line(3, "intention", "tau", validation={"share": SHARE, "gyms": {"intention": {"share": SHARE}}})
    assert of_gym(whole, "intention") == {
        "step": 3,
        "share": 0.3,
        "reward": 1.0,
        "episodes": 4,
        "validation": {"share": SHARE},
    }
    assert of_gym(whole, "tau") == {"step": 3, "share": 0.3, "reward": 1.0, "episodes": 4}
    assert of_gym(whole, "travel") == {"step": 3}


def test_agents_without_skill_and_the_expert_play_each_gym() -> None:
    ended: list[Episode] = []
    plan = [e for gym in ("intention", "telepathy") for e in starts(find(gym).tasks("validation")[:3], max_turns=4)]
    fit = {"intention": find("intention").tasks("train")[:50]}
    found = asyncio.run(baselines(plan, fit, lambda gym: find(gym).cast(), on_end=ended.append))
    assert set(found) == {"intention", "telepathy"}
    assert set(found["intention"]) == {*find("intention").baselines(), "expert"}
    assert found["intention"]["expert"] > 0.5 > found["intention"]["random"]
    agents = len(found["intention"]) + len(found["telepathy"])
    assert len(ended) == 3 * agents
    assert len({(e.task.gym, e.seed) for e in ended}) == agents, "no two agents may share the replies of a model"


Run = Callable[..., Path]


@pytest.fixture
def trained(policy: Policy, tmp_path: Path) -> Run:
    policy.save(tmp_path / "start")

    def trained(**fields: Any) -> Path:
        config = GRPOConfig(steps=2, groups=2, group_size=2, updates=1, max_turns=2, max_new=12)
        asyncio.run(reinforce(RLJob(model=str(tmp_path / "start"), grpo=config, **fields), tmp_path / "run"))
        return tmp_path / "run"

    return trained


def test_a_run_leaves_its_curve_and_the_levels_of_agents_without_skill(trained: Run) -> None:
    run = trained(validation=Validation(every=1, tasks=3))
    assert is_picture(run / "curve.png")
    levels = json.loads((run / "baselines.json").read_text("utf-8"))
    assert set(levels["intention"]) == {*find("intention").baselines(), "expert"}
    (run / "curve.png").unlink()
    assert redraw(run) == run / "curve.png" and is_picture(run / "curve.png")


def test_baselines_need_not_be_played(trained: Run) -> None:
    run = trained(baselines=False)
    assert is_picture(run / "curve.png") and not (run / "baselines.json").exists()


def test_a_folder_without_a_run_of_rl_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no figures of `userrl rl train` in train\.jsonl"):
        redraw(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"step":1,"loss":0.5}\n', "utf-8")
    with pytest.raises(DataError, match="holds no figures"):
        redraw(tmp_path)
