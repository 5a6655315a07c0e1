"""Mistakes at the command line end with one message that says what happened and what to do, and exit with 1."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.llm.fake import Request, Response
from userrl.store import read

Refused = Callable[..., str]
SHORT = ("--agent", "expert", "--tasks", "2", "--max-turns", "2")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("eval intentoin", "No gym named 'intentoin'. Did you mean 'intention'"),
        ("play nowhere", "`userrl gyms` lists them."),
        ("play functoin", "Did you mean 'function'"),
        ("check gyms intentio", "Did you mean 'intention'"),
        ("sft collect functio", "Did you mean 'function'"),
        ("play intention --task intention-trip-11", "named 'intention-trip-11'. Did you mean 'intention-trip-11-"),
        ("eval intention --split tset", "No split of gym 'intention' named 'tset'. Did you mean 'test'?"),
        ("eval intention --agent expertt", "No agent for gym 'intention' named 'expertt'. Did you mean 'expert'? An agent is "),
        ("eval function intention --agent fixed_lst", "No agent for gym 'function' named 'fixed_lst'"),
        ("eval intention --agent gpt-4o", "MODEL@URL[,URL...] (at OpenAI: MODEL@), or MODULE:NAME, an agent in Python."),
        ("eval intention --agent m@localhost:8000/v1", "must begin with http:// or https://"),
        ("eval intention --agent ./nowhere", "There is no folder './nowhere'. An agent is "),
        ("eval intention --agent expert:1.5", "Expert skill is '1.5'; expected a number from 0 to 1, as in expert:0.8."),
        ("eval intention --user scripted:ters", "No user named 'scripted:ters'. Did you mean 'scripted:terse'"),
        ("eval intention --user expert", "A user is scripted[:plain|terse|hesitant] or MODEL@URL."),
        ("eval intention --judge scripted:terse", "No judge named 'scripted:terse'. Did you mean 'scripted'?"),
        ("eval intention --tasks -1", "tasks is -1: Input should be greater than or equal to 1."),
        ("eval intention --attempts 0", "attempts is 0"),
        ("eval intention --max-turns -3", "max_turns is -3"),
        ("eval intention --temperature -1", "temperature is -1.0"),
        ("eval intention --tasks 2 --at-once 0", "at_once is 0; expected at least 1 episode in flight."),
        ("play intention --max-turns 0", "max_turns is 0; expected at least 1."),
        ("sft collect intention --top-k 0", "top_k is 0"),
        ("sft train --steps -5", "sft.steps is -5"),
        ("sft train --batch-size 0", "sft.batch_size is 0"),
        ("sft train --data nowhere", "Cannot read nowhere: No such file or directory."),
        ("rl train", "The setting 'model' is missing"),
        ("rl train --model nowhere", "nowhere holds no config.json; expected the folder of a Hugging Face causal LM."),
        ("rl train --model x --lr 0", "grpo.lr is 0.0"),
        ("rl train --model x --gamma 1.5", "grpo.gamma is 1.5"),
        ("rl train --model x --credit naiv", "No turn credit named 'naiv'. Did you mean 'naive'?"),
        ("eval --config nowhere.toml", "Cannot read nowhere.toml: No such file or directory. Check the path"),
        ("data record nogym", "No gym named 'nogym'"),
    ],
)
def test_a_mistake_is_named_and_leaves_nothing_behind(refused: Refused, tmp_path: Path, command: str, said: str) -> None:
    assert said in refused(*command.split())
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent = ", "job.toml is not valid TOML: Invalid value"),
        ("agnet = 'expert'", "No setting in job.toml named 'agnet'. Did you mean 'agent'"),
        ("agent = 'expert'\ntasks = -2", "job.toml: tasks is -2: Input should be greater than or equal to 1."),
        ("agent = 'expert'\ngyms = 'intention'", "job.toml: gyms is 'intention'"),
        ("tasks = '2'", "job.toml: tasks is '2': Input should be a valid integer."),
        ("agent = 'expert'\n[endpoints.agent]\ntols = false", "[endpoints.agent] named 'tols'. Did you mean 'tools'?"),
        ("agent = 'expert'\n[endpoints.agnet]\ntools = false", "in the table [endpoints] named 'agnet'. Did you mean 'agent'"),
        ("agent = 'm@http://127.0.0.1:9/v1'\n[endpoints.agent]\nmax_retries = -1", "max_retries of endpoint 'm' is -1"),
        ("agent = 'expert'\n[endpoints.user]\nkey = 'sk-secret'", "USERRL_USER_API_KEY"),
        ("agent = 'expert'\n[endpoints.user]\nkey_env = 'HOME'", "[endpoints.user] sets 'key_env', but a job holds no keys"),
        ("agent = 'expert'\nendpoints = 3", "endpoints is 3"),
    ],
)
def test_a_mistake_in_a_settings_file_is_named(refused: Refused, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "job.toml").write_text(text, "utf-8")
    message = refused("eval", "--config", "job.toml")
    assert said in message
    assert "sk-secret" not in message
    assert not list(tmp_path.rglob("config.json"))


def test_after_a_mistake_the_corrected_command_runs_in_the_same_folder(cli: Callable[..., Any], refused: Refused) -> None:
    refused("eval", "intention", "--agent", "m@http://127.0.0.1:9/v1", "--user", "scripted:x", "--tasks", "2", "--out", "run")
    assert cli("eval", "intention", *SHORT, "--out", "run").code == 0


# --- endpoints -----------------------------------------------------------------------------------------------


def job(tmp_path: Path, **settings: Any) -> Path:
    """A settings file for an agent behind an endpoint that is not tried twice."""
    table = {"max_retries": 0, "timeout_s": 10, **settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    path = tmp_path / "job.toml"
    path.write_text("\n".join(["[endpoints.agent]", *lines]), "utf-8")
    return path


def test_an_unreachable_endpoint_is_named_with_what_was_tried_and_how_to_set_it(refused: Refused, tmp_path: Path) -> None:
    said = refused("eval", "intention", "--agent", "m@http://127.0.0.1:9/v1", "--tasks", 2, "--config", job(tmp_path))
    assert said.startswith("Error: agent: Cannot reach http://127.0.0.1:9/v1 (model 'm'): Connect")
    assert "ssl" not in said
    assert "tried once in" in said
    assert "name another endpoint as MODEL@URL" in said
    assert not list(tmp_path.rglob("config.json"))


def test_a_wrong_key_is_told_with_where_it_came_from_and_never_shown(
    refused: Refused, serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(request: Request) -> Response:
        return Response({"error": {"message": f"bad key {request.headers.get('Authorization')}"}}, status=401)

    url = serve(handler)
    monkeypatch.setenv("USERRL_AGENT_API_KEY", "sk-very-secret")
    said = refused("eval", "intention", "--agent", f"m@{url}", "--tasks", 2, "--config", job(tmp_path))
    assert f"{url} (model 'm') refused access (HTTP 401: bad key Bearer [key])" in said
    assert "USERRL_AGENT_API_KEY" in said
    assert "sk-very-secret" not in said
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"sk-very-secret" not in file.read_bytes()


def test_the_key_of_openai_is_sent_to_no_other_endpoint(
    refused: Refused, serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def handler(request: Request) -> Response:
        seen.append(request.headers.get("Authorization"))
        return Response({"error": {"message": "who are you?"}}, status=401)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    said = refused("eval", "intention", "--agent", f"m@{serve(handler)}", "--tasks", 2, "--config", job(tmp_path))
    assert set(seen) == {None}
    assert "holds no USERRL_AGENT_API_KEY or USERRL_API_KEY; put the key there." in said
    assert "(OPENAI_API_KEY is sent to https://api.openai.com/v1 alone.)" in said


def test_too_many_failures_stop_the_run_and_say_what_is_kept(refused: Refused, serve: Callable[..., str], tmp_path: Path) -> None:
    url = serve(lambda request: Response("no completion"))
    said = refused("eval", "intention", "--agent", f"m@{url}", "--tasks", 20, "--config", job(tmp_path), "--out", "run")
    assert re.match(r"Error: Stopped: \d+ episodes ended by a failure \(at most 8 are allowed\)", said)
    assert "What was played is kept in run; go on with the same command and --resume." in said
    assert len(list(read(tmp_path / "run" / "episodes.jsonl"))) >= 9


def test_a_run_without_a_single_score_is_an_error(refused: Refused, serve: Callable[..., str], tmp_path: Path) -> None:
    url = serve(lambda request: Response("no completion"))
    said = refused("eval", "intention", "--agent", f"m@{url}", "--tasks", 3, "--config", job(tmp_path))
    assert "3 of 3 episodes ended by a failure and have no score. The first: agent: " in said


# --- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": "a", "prompt": "p", "hidden": []}', "line 2: field 'hidden' is []; expected a JSON object."),
        ('{"id": "a", "prompt": "p"', "line 2: not valid JSON"),
        ('{"id": "a", "hidden": {}}', "line 2: field 'prompt' is missing; expected a JSON string."),
    ],
)
def test_a_broken_line_of_a_task_file_is_named(refused: Refused, own_gym: Callable[..., Path], row: str, said: str) -> None:
    tasks = own_gym('{"id": "first", "prompt": "p", "hidden": {}}', row)
    assert f"{tasks}/test.jsonl, {said}" in refused("eval", "own")


def test_a_broken_line_of_an_episode_file_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"schema": 1}\n{"schema": 1}\n', "utf-8")
    said = refused("sft", "train", "--data", "mine.jsonl")
    assert "mine.jsonl, line 1: not an episode record: field 'turns' is missing" in said


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    blocked = "import sys; sys.modules.update(torch=None, transformers=None)\nfrom userrl.cli import main\nmain(sys.argv[1:])"
    for command in ("demo", "sft train", "rl train --model model", "eval intention --agent model"):
        done = subprocess.run(
            [sys.executable, "-c", blocked, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "needs the package 'torch', which is not installed." in done.stderr
        assert "pip install 'userrl[local]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_folder_with_a_run_is_not_written_over(cli: Callable[..., Any], refused: Refused, tmp_path: Path) -> None:
    cli("eval", "intention", *SHORT, "--out", "run")
    before = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    said = refused("eval", "intention", *SHORT, "--out", "run")
    assert "run already holds a run. Add --resume to go on with it, or choose another folder with --out." in said
    assert (tmp_path / "run" / "episodes.jsonl").read_bytes() == before


def test_a_run_resumed_with_other_settings_is_told_what_differs(cli: Callable[..., Any], refused: Refused) -> None:
    cli("eval", "intention", *SHORT, "--out", "run")
    said = refused("eval", "intention", "--agent", "expert:0.5", "--tasks", 2, "--max-turns", 3, "--out", "run", "--resume")
    assert "agent was 'expert', now 'expert:0.5'" in said
    assert "max_turns was 2, now 3" in said


def test_a_place_that_cannot_be_written_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    assert "Cannot write file/run/config.json: Not a directory." in refused("eval", "intention", *SHORT, "--out", "file/run")
    assert (tmp_path / "file").read_text("utf-8") == "mine"
    assert "Cannot write /dev/full: No space left on device" in refused(
        "play", "intention", "--max-turns", 1, "--out", "/dev/full", stdin="When?\n"
    )


def test_a_full_disk_stops_the_run_with_its_records_intact_and_it_goes_on_later(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    command = ["eval", "intention", "--agent", "expert", "--tasks", "20", "--at-once", "4", "--out", "run"]
    code = "from userrl.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Cannot write run/episodes.jsonl: " in done.stderr
    assert "Records written so far are intact." in done.stderr
    assert "go on with --resume" in done.stderr
    written = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    whole = list(read(tmp_path / "run" / "episodes.jsonl"))
    assert 0 < len(whole) < 20
    assert written.endswith(b"\n")
    assert cli(*command, "--resume").code == 0
    after = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    assert after.startswith(written)
    assert len({episode.key for episode in read(tmp_path / "run" / "episodes.jsonl")}) == after.count(b"\n") == 20
