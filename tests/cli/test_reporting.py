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


def test_an_export_leaves_no_files_of_an_earlier_one_beside_its_own(
    cli: Cli, refused: Callable[..., str], run: Path, tmp_path: Path
) -> None:
    assert cli("export", run, run, "--format", "csv", "--out", "tables").code == 0
    assert (tmp_path / "tables" / "front-telepathy.csv").exists() or (tmp_path / "tables" / "difference-score-a-b.csv").exists()
    before = {file: file.read_bytes() for file in (tmp_path / "tables").iterdir()}
    assert "files that this export would leave beside its own" in refused("export", run, "--format", "csv", "--out", "tables")
    assert {file: file.read_bytes() for file in (tmp_path / "tables").iterdir()} == before
    assert cli("export", run, run, "--format", "csv", "--out", "tables").code == 0, "the same once more"
    assert cli("export", run, "--format", "latex", "--out", "tables").code == 0, "another format stays apart by its ending"


def test_an_unfinished_run_is_named_by_every_command_that_shows_its_figures(
    cli: Cli, refused: Callable[..., str], run: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_bytes((run / "config.json").read_bytes())
    (part / "episodes.jsonl").write_bytes((run / "episodes.jsonl").read_bytes().splitlines(keepends=True)[0])

    def words(*command: object) -> str:
        done = cli(*command)
        assert done.code == 0, done
        return " ".join(done.out.split())

    for command in (
        ("report", part, "--out", "page.html"),
        ("export", part, "--format", "csv", "--out", "csv"),
        ("export", part, "--format", "messages", "--out", "chat"),
        ("front", run, part),
        ("compare", run, part, "--unfinished"),
        ("rescore", part, "--out", "new"),
        ("export", "new", "--format", "csv", "--out", "csv-new"),
    ):
        assert "nfinished: 1 of 3 episodes" in words(*command), command
    assert "unfinished: 1 of 3 episodes" in refused("compare", run, part)
    assert "Unfinished: 1 of 3 episodes" in (tmp_path / "csv" / "cautions.csv").read_text("utf-8")
    assert "Unfinished: 1 of 3 episodes" in (tmp_path / "page.html").read_text("utf-8")


def test_mistakes_are_named(refused: Callable[..., str], run: Path) -> None:
    assert "holds no run" in refused("report", "nowhere")
    assert "expected .html" in refused("report", run, "--out", run / "episodes.jsonl")
    assert "No gym named 'turtel'" in refused("report", run, "--held-out", "turtel")
    assert "Did you mean 'latex'" in refused("export", run, "--format", "latexx")
    assert "expected NAME=VALUE or GYM.NAME=VALUE" in refused("rescore", run, "--rule", "x")
    assert "No setting of gym 'telepathy' named 'speed'" in refused("rescore", run, "--rule", "telepathy.speed=1")
    assert "holds no episodes of an evaluation" in refused("rescore", "nowhere")
    wrong = refused("rescore", run, "--rule", "turtle.success_threshold=0.9")
    assert "The rules are for turtle, which" in wrong and "did not play (gyms: telepathy)" in wrong
    assert "held_out names 'search', which none of the runs played" in refused("report", run, "--held-out", "search")


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


def test_the_new_judges_price_and_settings_come_from_a_file(
    cli: Cli, refused: Callable[..., str], run: Path, tmp_path: Path, serve: Callable[[Handler], str]
) -> None:
    asked: list[Request] = []

    def judge(request: Request) -> Response:
        asked.append(request)
        return Response(completion(json.dumps({"same": False})))

    command = ("rescore", run, "--judge", f"grader@{serve(judge)}", "--out", "new", "--max-usd", 2)
    assert "Set usd_read and usd_written (dollars a million tokens) in [endpoints.judge]" in refused(*command)
    settings = "usd_read = 1.0\nusd_written = 4.0\ntemperature = 0.25\nstructured = 'json_object'\n"
    (tmp_path / "price.toml").write_text(f"[endpoints.agent]\nusd_read = 9.0\n[endpoints.judge]\n{settings}", "utf-8")
    done = cli(*command, "--config", "price.toml")
    assert done.code == 0, done
    assert {(request.body["temperature"], request.body["response_format"]["type"]) for request in asked} == {
        (0.25, "json_object")
    }
    [row] = json.loads((tmp_path / "new" / "cost.json").read_text("utf-8"))
    assert row["usd"] == pytest.approx(len(asked) * (10 * 1.0 + 5 * 4.0) / 1e6)
    saved = json.loads((tmp_path / "new" / "config.json").read_text("utf-8"))["endpoints"]
    assert saved == {"judge": {"temperature": 0.25, "structured": "json_object"}}
    (tmp_path / "slip.toml").write_text("[endpoints.juge]\nusd_read = 1.0\n", "utf-8")
    assert "named 'juge'. Did you mean 'judge'" in refused(*command, "--config", "slip.toml")


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


@pytest.mark.parametrize(
    ("texts", "both"),
    [
        (["a=1", "a=2"], "'a': a=1 and a=2"),
        (["turtle.a=1", "turtle.a=2"], "'turtle.a': turtle.a=1 and turtle.a=2"),
        (['turtle={"a": 1}', "turtle.a=2"], "'turtle': turtle={\"a\": 1} and turtle.a=2"),
        (["turtle.a=2", "turtle=1"], "'turtle': turtle=1 and turtle.a=2"),
    ],
)
def test_a_rule_that_is_given_twice_is_refused_and_both_are_named(texts: list[str], both: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_rules(texts)
    assert f"--rule is given twice for {both}. Give one of the two." in str(error.value)


@pytest.mark.parametrize("text", ["x", "=1", "a.b.c=1", "", ".b=1"])
def test_a_rule_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        read_rules([text])
