"""A run that is interrupted or killed keeps what has ended and goes on with --resume; nothing is played or written twice."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.llm.fake import Request, Response, completion
from userrl.store import read

TASKS = 8
MOVE = completion(calls=[("interact_with_env", {"choice": "action", "content": "What is your budget?"})])


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_evaluation_goes_on_where_it_stood(
    started: Callable[..., subprocess.Popen[str]], serve: Callable[..., str], tmp_path: Path, stop: signal.Signals
) -> None:
    asked: list[int] = []

    def handler(request: Request) -> Response:
        asked.append(request.number)
        return Response(MOVE, delay_s=0.3 if len(asked) <= TASKS else 0.0)

    agent = f"m@{serve(handler)}"
    command = ["eval", "intention", "--agent", agent, "--tasks", TASKS, "--max-turns", 1, "--at-once", 2, "--out", "run"]
    file = tmp_path / "run" / "episodes.jsonl"
    process = started(*command)
    while lines(file) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(stop)
    _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    if stop is signal.SIGINT:
        assert process.returncode == 130
        assert "Interrupted. What was written is kept; go on with the same command and --resume." in err
    kept = file.read_bytes()
    ended = [episode.key for episode in read(file)]
    assert 2 <= len(ended) < TASKS

    asked_before = len(asked)
    again = started(*command, "--resume")
    out, err = again.communicate(timeout=60)
    assert (again.returncode, "Traceback" in err) == (0, False)
    assert f"m: {TASKS} test tasks of intention" in out
    assert file.read_bytes().startswith(kept)
    keys = [episode.key for episode in read(file)]
    assert keys[: len(ended)] == ended
    assert len(keys) == len(set(keys)) == TASKS
    assert len(asked) - asked_before == TASKS - len(ended)


def test_ctrl_c_where_nothing_can_be_resumed_does_not_speak_of_resuming(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(names: Any, every: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("userrl.cli.checking.gyms", interrupt)
    done = cli("check", "gyms")
    assert (done.code, done.err) == (130, "\nInterrupted.\n")
