"""`userrl eval`: what it prints, what it writes, and how models are reached."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.evaluate.metrics import figures, summarize
from userrl.llm.fake import Request, Response, completion
from userrl.render import call_text
from userrl.store import read

CALL = ("interact_with_env", {"choice": "action", "content": "What is your budget?"})


def test_an_evaluation_prints_its_figures_and_keeps_its_episodes(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("eval", "intention", "function", "--agent", "expert:0.6", "--tasks", 6, "--attempts", 2, "--out", "run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].rstrip() == "expert:0.6: 6 test tasks of each gym, 2 episodes of each"
    assert max(map(len, lines)) <= 80
    assert "…" not in done.out
    episodes = list(read(tmp_path / "run" / "episodes.jsonl"))
    assert len(episodes) == 24
    for s in summarize(sorted(episodes, key=lambda e: e.key)):
        line, passes = [line for line in lines if line.startswith(f"{s.gym} ") and "[" in line]
        assert f" {s.passes[0].any.mean:.0%} [" in passes
        assert f" {s.score.mean:.2f} [" in line
        assert f" {s.share.mean:.3f} [" in line
        assert f" {s.solved.mean:.0%} [" in line
        label, part = next(iter(s.mix.items()))
        assert f"{s.gym} {label} {part:.1%}" in " ".join(done.out.split())
        assert s.effort is not None
        [effort] = [line.split() for line in lines if line.startswith(f"{s.gym} ") and line.count("%") == 4 and "," not in line]
        assert effort[1:3] == [f"{s.time_weighted:.2f}", f"{s.effort.questions:.1f}"]
    for average in figures(sorted(episodes, key=lambda e: e.key)).averages:
        [line] = [line for line in lines if line.startswith(f"{average.gym} ")]
        assert f" {average.score.mean:.2f} [" in line
        assert f" {average.solved.mean:.0%} [" in line
    assert "Fewer than 20 tasks: too few for an interval to be relied on." in " ".join(done.out.split())
    assert done.err.splitlines()[-1].startswith("eval expert:0.6  24/24  mean reward ")


def test_without_arguments_the_expert_plays_the_default_gym(cli: Callable[..., Any], tmp_path: Path) -> None:
    assert cli("eval", "--tasks", 1).code == 0
    saved = json.loads((tmp_path / "runs" / "eval" / "config.json").read_text("utf-8"))
    assert (saved["agent"], saved["gyms"], saved["split"]) == ("expert", ["intention"], "test")


def test_flags_win_over_the_file(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("agent = 'random'\ngyms = ['function']\ntasks = 2\nseed = 3\n", "utf-8")
    cli("eval", "--config", "job.toml", "--agent", "blind_answer", "--max-turns", 2, "--compat", "--out", "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert [saved[name] for name in ("agent", "gyms", "tasks", "seed", "max_turns")] == ["blind_answer", ["function"], 2, 3, 2]
    assert saved["rules"] == {"compat": "userrl"}


def test_a_finished_run_is_reported_again_by_resume(cli: Callable[..., Any], tmp_path: Path) -> None:
    command = ("eval", "function", "--tasks", 2, "--out", "run")
    first = cli(*command).out
    written = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    assert cli(*command, "--resume").out == first
    assert (tmp_path / "run" / "episodes.jsonl").read_bytes() == written


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "function", "--tasks", 2),
        ("eval", "function", "--tasks", 2, "--agents", "expert,random"),
        ("sft", "collect", "function", "--tasks", 2),
        ("rescore", "run", "--judge", "scripted"),
    ],
)
def test_resume_where_there_is_no_run_says_so_and_begins_one(
    cli: Callable[..., Any], tmp_path: Path, command: tuple[object, ...]
) -> None:
    assert cli("eval", "function", "--tasks", 2, "--out", "run").code == 0
    done = cli(*command, "--out", "runn", "--resume")
    assert done.code == 0 and "There is no run in runn to go on with (did you mean run?): beginning one." in done.err
    assert (tmp_path / "runn").exists()
    assert "There is no run" not in cli(*command, "--out", "runn", "--resume").err


def test_progress_of_a_resumed_run_begins_where_it_stood(cli: Callable[..., Any], tmp_path: Path) -> None:
    command = ("eval", "function", "--tasks", 5, "--out", "run")
    cli(*command)
    file = tmp_path / "run" / "episodes.jsonl"
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[:3]), "utf-8")
    lines = cli(*command, "--resume").err.splitlines()
    assert lines[0].startswith("eval expert  3/5")
    assert lines[-1].startswith("eval expert  5/5  mean reward 1.000")


ROLES = """
user = "u@{url}"
judge = "j@{url}"
[endpoints.agent]
tools = false
max_retries = 0
temperature = 0.5
extra = {{ reasoning_effort = "low" }}
[endpoints.user]
structured = "json_object"
max_tokens = 64
[endpoints.judge]
structured = "none"
"""


def test_the_settings_of_each_endpoint_come_from_the_file(
    cli: Callable[..., Any], serve: Callable[..., str], tmp_path: Path
) -> None:
    bodies: dict[str, Any] = {}

    def handler(request: Request) -> str:
        bodies[request.body["model"]] = request.body
        return {"a": call_text(CALL[1]["choice"], CALL[1]["content"]), "u": '{"words": "Ten."}'}.get(
            request.body["model"], '{"addressed": [0], "on_task": true}'
        )

    url = serve(handler)
    (tmp_path / "job.toml").write_text(ROLES.format(url=url), "utf-8")
    command = ("eval", "intention", "--agent", f"a@{url}", "--tasks", 1, "--max-turns", 1, "--config", "job.toml", "--out", "run")
    assert cli(*command).code == 0
    assert "tools" not in bodies["a"]
    assert (bodies["a"]["temperature"], bodies["a"]["reasoning_effort"]) == (0.5, "low")
    assert (bodies["u"]["response_format"], bodies["u"]["max_tokens"]) == ({"type": "json_object"}, 64)
    assert "response_format" not in bodies["j"]
    saved = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["endpoints"]
    assert saved["agent"] == {"tools": False, "temperature": 0.5, "extra": {"reasoning_effort": "low"}}
    cli(*command, "--resume", "--temperature", 0.25)
    assert bodies["a"]["temperature"] == 0.5
    cli(*command[:-1], "other", "--temperature", 0.25)
    assert bodies["a"]["temperature"] == 0.25


def test_a_resumed_run_may_have_other_patience_but_no_other_questions(
    cli: Callable[..., Any], refused: Callable[..., str], serve: Callable[..., str], tmp_path: Path
) -> None:
    url = serve(lambda request: Response(completion(calls=[CALL])))
    command = ("eval", "intention", "--agent", f"a@{url}", "--tasks", 1, "--max-turns", 1, "--config", "job.toml", "--out", "run")

    def settings(text: str) -> None:
        (tmp_path / "job.toml").write_text(f"[endpoints.agent]\n{text}", "utf-8")

    settings("timeout_s = 5\nmax_retries = 0")
    assert cli(*command).code == 0
    settings("timeout_s = 50\nmax_retries = 3")
    assert cli(*command, "--resume").code == 0
    settings("timeout_s = 5\nmax_tokens = 10")
    assert "endpoints.agent was None, now {'max_tokens': 10}" in refused(*command, "--resume")


def test_each_role_sends_its_own_key(cli: Callable[..., Any], serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def handler(request: Request) -> Response:
        seen[request.body["model"]] = request.headers.get("Authorization")
        if request.body["model"] == "a":
            return Response(completion(calls=[CALL]))
        return Response(completion('{"words": "Ten."}' if request.body["model"] == "u" else '{"addressed": [], "on_task": true}'))

    url = serve(handler)
    monkeypatch.setenv("USERRL_API_KEY", "k-common")
    monkeypatch.setenv("USERRL_JUDGE_API_KEY", "k-judge")
    monkeypatch.setenv("OPENAI_API_KEY", "k-openai")
    roles = ("--agent", f"a@{url}", "--user", f"u@{url}", "--judge", f"j@{url}")
    assert cli("eval", "intention", *roles, "--tasks", 1, "--max-turns", 1).code == 0
    assert seen == {"a": "Bearer k-common", "u": "Bearer k-common", "j": "Bearer k-judge"}


def test_episodes_that_failed_are_counted_apart_and_played_anew_by_resume(
    cli: Callable[..., Any], serve: Callable[..., str], tmp_path: Path
) -> None:
    broken = {"yes": True}

    def handler(request: Request) -> Response:
        if broken["yes"] and request.number == 1:
            return Response("no completion")
        return Response(completion(calls=[CALL]))

    url = serve(handler)
    command = ("eval", "intention", "--agent", f"vendor/m@{url}", "--tasks", 4, "--max-turns", 1, "--at-once", 1, "--out", "run")
    done = cli(*command)
    assert done.code == 0
    assert "failed" in done.out
    assert "1/4" in done.out
    assert "1 of 4 episodes ended by a failure and have no score. The first: agent: " in done.err
    assert "The same command with --resume plays them anew." in done.err
    assert "eval vendor/m  4/4  mean reward " in done.err
    assert ", 1 failed" in done.err
    broken["yes"] = False
    done = cli(*command, "--resume")
    assert "/4" not in done.out
    assert "failure" not in done.err
    assert len({e.key for e in read(tmp_path / "run" / "episodes.jsonl") if e.stop != "error"}) == 4
