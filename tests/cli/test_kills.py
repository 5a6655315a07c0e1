"""A run that is killed at random moments and gone on with ends as an undisturbed one, and pays for nothing twice."""

import hashlib
import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Place
from userrl.llm.client import sampling_seed
from userrl.llm.endpoint import Endpoint
from userrl.llm.fake import Request, Response, completion
from userrl.render import TOOL_NAME
from userrl.store import read, to_record

AT_ONCE = 4
MODELS = {"agent": "a", "user": "u", "judge": "j"}
QUESTIONS = ("Where do you want to go?", "On what date?", "How many people are you?", "What is your budget?", "Any allergies?")

Question = tuple[str, int]
"""Model and seed, which each turn of each episode has its own of."""


def reply(request: Request) -> Response:
    """Depends on what is asked alone."""
    drawn = hashlib.blake2b(json.dumps(request.body, sort_keys=True).encode(), digest_size=2).digest()
    question = {"choice": "action", "content": QUESTIONS[drawn[0] % len(QUESTIONS)]}
    body = {
        "a": completion(calls=[(TOOL_NAME, question)]) if drawn[1] % 9 else completion("Hm, let me think."),
        "u": completion(json.dumps({"words": f"Number {drawn[0]}."})),
        "j": completion(json.dumps({"addressed": [0, 1, 2] if drawn[0] % 2 else [1], "on_task": True})),
    }[request.body["model"]]
    return Response(body, delay_s=0.004)


def recorded(folder: Path) -> set[Question]:
    """Questions whose replies are on disk."""
    file = folder / "replies.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    found = set()
    for line in lines:
        if line.endswith(b"\n"):
            reply = json.loads(line)
            model, place = MODELS[reply["role"]], Place(*reply["place"])
            seed = sampling_seed(Endpoint(model, seeds=True), reply["role"], place)
            assert seed is not None
            found.add((model, seed))
    return found


def ended(folder: Path) -> dict[Any, Any]:
    """(gym, task, attempt) -> record of each episode, none of which may be there twice."""
    records = [(e.key, to_record(e)) for e in read(folder / "episodes.jsonl")]
    assert len(dict(records)) == len(records)
    return dict(records)


@pytest.mark.parametrize(("kills", "tasks"), [(6, 10), pytest.param(50, 60, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one_and_pays_for_nothing_twice(
    started: Callable[..., subprocess.Popen[str]], serve: Callable[..., str], tmp_path: Path, kills: int, tasks: int
) -> None:
    asked: list[Question] = []

    def handler(request: Request) -> Response:
        asked.append((request.body["model"], request.body["seed"]))
        return reply(request)

    url = serve(handler)
    (tmp_path / "job.toml").write_text("\n".join(f"[endpoints.{role}]\nseeds = true" for role in MODELS), "utf-8")
    chairs = [text for role, model in MODELS.items() for text in (f"--{role}", f"{model}@{url}")]
    command = ["eval", "intention", *chairs, "--tasks", tasks, "--attempts", 2, "--max-turns", 3, "--at-once", AT_ONCE]
    command += ["--config", "job.toml", "--resume", "--out"]

    whole = started(*command, "whole")
    _, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    questions = set(asked)
    assert len(questions) == len(asked) == len(recorded(tmp_path / "whole"))

    asked.clear()
    rng = random.Random(kills)
    share = len(questions) // kills
    survived: list[tuple[int, set[Question]]] = []
    while len(survived) < kills:
        process = started(*command, "run")
        waited = rng.randrange(share)
        until, began = len(asked) + waited, time.monotonic()
        while len(asked) < until and process.poll() is None and time.monotonic() < began + 60:
            time.sleep(0.001)
        # A moment later, or where no request was waited for, at any moment of the start.
        time.sleep(rng.uniform(0.0, 0.01 if waited else 1.0))
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.communicate()
        survived.append((len(asked), recorded(tmp_path / "run")))
    last = started(*command, "run")
    _, err = last.communicate(timeout=120)
    assert last.returncode == 0, err

    assert ended(tmp_path / "run") == ended(tmp_path / "whole")
    assert len(ended(tmp_path / "run")) == 2 * tasks
    assert recorded(tmp_path / "run") == questions == set(asked)
    for before, paid in survived:
        assert not paid & set(asked[before:])
    again = {question: times - 1 for question, times in Counter(asked).items() if times > 1}
    assert sum(again.values()) <= AT_ONCE * kills
    assert len(survived[-1][1]) > len(questions) // 4  # the kills met a run under way
