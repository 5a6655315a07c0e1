from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.cli.reporting import read_rules
from userrl.errors import ConfigError
from userrl.llm.fake import Answer, Request, Response, completion

Cli = Callable[..., Any]
Handler = Callable[[Request], Answer]


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Path:
    assert cli("eval", "telepathy", "--agent", "expert:0.5", "--tasks", "3", "--out", "run").code == 0
    return tmp_path / "run"


def test_a_report_is_one_file(cli: Cli, run: Path, tmp_path: Path) -> None:
    done = cli("report", run, "--out", "page.html", "--title", "Mine & yours")
    assert done.code == 0
    assert done.out.startswith("Report: page.html (0.")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "<h1>Mine &amp; yours</h1>" in text


def test_exports_are_named(cli: Cli, run: Path, tmp_path: Path) -> None:
    done = cli("export", run, "--format", "csv", "--out", "tables")
    assert done.code == 0
    assert "tables/scores.csv" in done.out
    assert (tmp_path / "tables" / "scores.csv").exists()


def test_mistakes_are_named(refused: Callable[..., str], run: Path) -> None:
    assert "holds no run" in refused("report", "nowhere")
    assert "expected .html" in refused("report", run, "--out", run / "episodes.jsonl")
    assert "No gym named 'turtel'" in refused("report", run, "--held-out", "turtel")
    assert "Did you mean 'latex'" in refused("export", run, "--format", "latexx")
    assert "expected NAME=VALUE or GYM.NAME=VALUE" in refused("rescore", run, "--rule", "x")
    assert "No setting of gym 'telepathy' named 'speed'" in refused("rescore", run, "--rule", "telepathy.speed=1")
    assert "holds no episodes of an evaluation" in refused("rescore", "nowhere")


def test_a_run_is_marked_anew_by_a_model_which_is_asked_once(
    cli: Cli, run: Path, tmp_path: Path, serve: Callable[[Handler], str]
) -> None:
    asked: list[Request] = []

    def judge(request: Request) -> Response:
        asked.append(request)
        return Response(completion(json.dumps({"same": False})))

    url = serve(judge)
    done = cli("rescore", run, "--judge", f"grader@{url}", "--out", "new")
    assert done.code == 0, done
    assert "3 episodes were marked anew" in done.out
    assert "same talk" in done.out
    assert "grader" in done.out, "what it cost"
    assert asked
    count = len(asked)
    lines = (tmp_path / "new" / "replies.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["role"] for line in lines} == {"judge"}
    (tmp_path / "new" / "episodes.jsonl").unlink()
    again = cli("rescore", run, "--judge", f"grader@{url}", "--out", "new", "--resume")
    assert again.code == 0, again
    assert len(asked) == count, "replies on record are not paid for again"
    assert cli("report", run, "new", "--out", "both.html").code == 0
    text = (tmp_path / "both.html").read_text("utf-8")
    assert "Marked anew" in text
    assert "rescored from" in text


def test_the_users_replies_come_from_the_record(cli: Cli, tmp_path: Path, serve: Callable[[Handler], str]) -> None:
    asked: list[Request] = []

    def user(request: Request) -> Response:
        asked.append(request)
        return Response(completion(json.dumps({"word": "No"})))

    out = ("eval", "telepathy", "--agent", "expert:0.5", "--user", f"u@{serve(user)}", "--tasks", "2", "--out", "run")
    assert cli(*out).code == 0
    count = len(asked)
    assert count > 2
    done = cli("rescore", "run", "--judge", "scripted", "--out", "new")
    assert done.code == 0, done
    assert "In 0 of them" in " ".join(done.out.split())
    assert len(asked) == count
    before, after = ((tmp_path / name / "episodes.jsonl").read_text("utf-8") for name in ("run", "new"))
    assert sorted(before.splitlines()) == sorted(after.splitlines())


@pytest.mark.parametrize(
    ("texts", "rules"),
    [
        (["a=1", "b=x"], {"a": 1, "b": "x"}),
        (["turtle.success_threshold=0.5", "compat=userrl"], {"turtle": {"success_threshold": 0.5}, "compat": "userrl"}),
        (["x=a=b"], {"x": "a=b"}),
    ],
)
def test_rules_are_read_from_the_command_line(texts: list[str], rules: dict[str, object]) -> None:
    assert read_rules(texts) == rules


@pytest.mark.parametrize("text", ["x", "=1", "a.b.c=1", ""])
def test_a_rule_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        read_rules([text])
