"""`userrl compare`: what it prints of two runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.evaluate.compare import compare

Cli = Callable[..., Any]


@pytest.fixture
def runs(cli: Cli) -> Cli:
    for name, agent in (("a", "expert:0.8"), ("b", "expert:0.4")):
        played = ("--tasks", 12, "--attempts", 2, "--agent", agent, "--out", name)
        assert cli("eval", "intention", "function", *played).code == 0
    return cli


def test_a_comparison_prints_the_differences_within_80_columns(runs: Cli, tmp_path: Path) -> None:
    done = runs("compare", "a", "b")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[:3] == ["A: a", "B: b", "   agent: expert:0.8 | expert:0.4"]
    assert max(map(len, lines)) <= 80
    assert "…" not in done.out
    result = compare(tmp_path / "a", tmp_path / "b")
    for d in (*result.gyms, *result.averages):
        [line] = [line for line in lines if line.startswith(f"{d.gym} ") and "[" in line]
        assert f"{d.difference.mean:.3f} [{d.difference.low:.3f}, {d.difference.high:.3f}]" in line
        assert f" {d.detectable:.3f}" in line
    words = " ".join(done.out.split())
    assert words.count("To show a true difference of ") == 2
    assert "the others part at turn 1 (" in words
    assert f"Fewer than {20 if min(d.tasks for d in result.gyms) < 20 else 100} tasks" in words
    assert "Largest losses: " in words


def test_a_task_is_shown_as_both_runs_played_it(runs: Cli, tmp_path: Path) -> None:
    task = compare(tmp_path / "a", tmp_path / "b").gyms[0].moved[0][0]
    out = runs("compare", "a", "b", "--task", task).out
    assert f"A: a, attempt 1 (task {task})" in out or f"A: a, attempt 2 (task {task})" in out
    assert "B: b, attempt " in out
    assert "differ from " in out


def test_a_run_beside_itself_is_the_same(runs: Cli, tmp_path: Path) -> None:
    done = runs("compare", "a", "a")
    assert "Episodes: 24 of 24 pairs are the same throughout." in done.out
    assert "No difference on average." in done.out and "No task differs." in done.out
    task = compare(tmp_path / "a", tmp_path / "b").gyms[0].moved[0][0]
    assert "The two are the same." in runs("compare", "a", "a", "--task", task).out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["a", "nowhere"], "nowhere holds no run: neither config.json nor episodes.jsonl. Name the folder of a run"),
        (["a", "b", "--by", "scroe"], "No figure to compare by named 'scroe'. Did you mean 'score'"),
        (["a", "b", "--task", "t"], "No task of both runs named 't'"),
    ],
)
def test_a_mistake_is_named(runs: Cli, refused: Callable[..., str], args: list[str], said: str) -> None:
    assert said in refused("compare", *args)
