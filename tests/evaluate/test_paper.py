"""The paper's protocol and its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Episode
from userrl.errors import ConfigError, UnknownName
from userrl.evaluate import paper
from userrl.evaluate.metrics import figures
from userrl.evaluate.run import EvalJob, check, plan, resolve_job
from userrl.gyms.base import find, gym_of, rules_for

MICRO = {
    "Qwen3-8B equalized/r2g": 0.5652, "Qwen3-8B em/r2g": 0.5343, "Qwen3-8B r2g/r2g": 0.5539, "Qwen3-8B equalized/mean": 0.5076,
    "Qwen3-4B equalized/r2g": 0.5269, "Qwen3-4B em/r2g": 0.5154, "Qwen3-4B r2g/r2g": 0.4895, "Qwen3-4B equalized/mean": 0.4656,
    "Qwen3-4B raw": 0.2929, "Qwen3-32B raw": 0.3128, "Gemini-2.5-Pro": 0.4702, "GPT-4o": 0.4449,
}  # fmt: skip
"""The averages that the paper prints."""


def test_the_stored_rows_give_the_averages_that_the_paper_prints() -> None:
    assert {row.name for row in paper.TABLE} == set(MICRO)
    for row in paper.TABLE:
        assert row.micro == pytest.approx(MICRO[row.name], abs=1.1e-4)
    best = paper.TABLE[0]
    assert best.macro == pytest.approx(0.645, abs=5e-4)
    assert best.part(held_out=False) == pytest.approx((0.5730 + 0.1854 + 0.4231 + 0.1818 + 0.5317) / 5)
    assert best.part(held_out=True) == pytest.approx((1.8175 + 0.5610 + 0.8880) / 3)


def test_the_preset_is_the_papers_protocol_and_flags_win_over_it() -> None:
    job = resolve_job(None, {"agent": "expert", "preset": "paper"})
    assert (job.max_turns, job.temperature, job.attempts, job.held_out) == (16, 0.0, 1, paper.HELD_OUT)
    assert job.gyms == tuple(paper.TASKS)
    flags: dict[str, Any] = {"gyms": ["travel", "function"], "max_turns": 4, "tasks": 1}
    job = resolve_job(None, {"agent": "expert", "preset": "paper", **flags})
    travel, function = plan(job)
    assert (travel.max_turns, function.max_turns) == (4, 4)
    assert gym_of(travel).compat and gym_of(travel).config["rewards"] == "evaluation"
    assert function.rules == {"compat": "userrl"}


def test_imported_test_tasks_are_taken_and_a_split_that_is_asked_for_holds_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    function = find("function")
    own = function.sets()
    monkeypatch.setattr(function, "sets", classmethod(lambda cls: {**own, paper.OFFICIAL: own["test"]}))
    job = resolve_job(None, {"agent": "expert", "preset": "paper"})
    assert (job.split_of("function"), job.split_of("turtle")) == (paper.OFFICIAL, "test")
    assert not any("function" in line for line in paper.differences(job) if line.startswith("Other tasks"))
    for split in ("validation", "test"):
        assert resolve_job(None, {"agent": "expert", "preset": "paper", "split": split}).split_of("function") == split
    few = replace(own["test"], count=2)
    monkeypatch.setattr(function, "sets", classmethod(lambda cls: {**own, paper.OFFICIAL: few}))
    assert "Not all of the paper's tasks are imported: 2 of 78 in function." in paper.differences(job)


def test_what_differs_from_the_paper_is_said_and_what_does_not_is_not() -> None:
    job = resolve_job(None, {"agent": "expert", "preset": "paper", "user": "gpt-4o@", "judge": "gpt-4o@"})
    assert [line.split(" than ")[0] for line in paper.differences(job)] == ["Other tasks"]
    flags = {"gyms": ["function"], "tasks": 3, "user": "m@http://a/v1", "max_turns": 8, "temperature": 1.0, "attempts": 2}
    told = " ".join(
        paper.differences(resolve_job(None, {"agent": "expert", "preset": "paper", "rules": {"compat": None}, **flags}))
    )
    for words in (
        "first 3 tasks",
        "not played: travel",
        "user than the paper's gpt-4o: m@",
        "judge than",
        "Turns: 8; the paper: 16",
    ):
        assert words in told
    assert (
        "Temperature: 1.0; the paper: 0." in told and "Attempts at each task: 2; the paper: 1." in told and "Other rules" in told
    )


def test_held_in_and_held_out_gyms_are_averaged_apart() -> None:
    jobs = EvalJob("x", gyms=("intention", "function", "search"), tasks=4, held_out=("search",))
    episodes = [Episode(e.task, (), "turn_limit") for e in plan(jobs)]
    found = figures(episodes, held_out=jobs.held_out)
    assert [s.gym for s in found.of("held-in")] == ["intention", "function"]
    assert [s.gym for s in found.of("held-out")] == ["search"]
    assert [s.gym for s in found.parts["held-in"]] == ["micro", "macro"] and found.parts["held-in"][0].tasks == 8
    assert found.parts["held-out"] == ()
    assert figures(episodes, held_out=("tau",)).parts == {}


def test_a_gym_that_failed_takes_only_the_averages_that_it_is_part_of() -> None:
    job = EvalJob("x", gyms=tuple(paper.TASKS), tasks=1, held_out=paper.HELD_OUT)
    episodes = [Episode(e.task, (), "turn_limit") for e in plan(job)]
    failed = [replace(e, stop="error", error="gone") if e.task.gym == "travel" else e for e in episodes]
    assert None not in paper.beside(figures(episodes, held_out=job.held_out))
    *scores, in_, out, micro, macro = paper.beside(figures(failed, held_out=job.held_out))
    assert [gym for gym, score in zip(paper.TASKS, scores, strict=True) if score is None] == ["travel"]
    assert (in_, micro, macro) == (None, None, None) and out is not None


def test_rules_of_a_gym_win_over_those_of_all_and_reach_its_episodes_alone() -> None:
    rules = {"compat": "userrl", "travel": {"rewards": "training", "compat": None}}
    job = EvalJob("x", gyms=("function", "travel"), tasks=1, rules=rules)
    function, travel = plan(job)
    assert function.rules == {"compat": "userrl"}
    assert travel.rules == {"compat": None, "rewards": "training"}
    with pytest.raises(UnknownName, match=r"No gym in the table \[rules\] named 'travle'. Did you mean 'travel'"):
        rules_for({"travle": {}}, "function")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rules": {"travel": {"reward": "x"}}, "gyms": ("travel",)}, "No setting of gym 'travel' named 'reward'"),
        ({"held_out": ("serch",)}, "No gym named 'serch'"),
        ({"splits": {"functon": "test"}}, "No gym named 'functon'"),
        ({"splits": {"intention": "tset"}}, "No split of gym 'intention' named 'tset'"),
    ],
)
def test_what_cannot_be_played_is_found_before_anything_is_written(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=said):
        check(EvalJob("expert", **settings))


def test_a_gym_that_is_not_played_cannot_be_held_out_but_by_the_preset() -> None:
    with pytest.raises(ConfigError, match="held_out names 'search', which is not played"):
        check(EvalJob("expert", held_out=("search",)))
    check(EvalJob("expert", held_out=("search",), preset="paper"))
