"""`userrl experiment`: what it refuses, what it shows, and that it goes on where it was killed."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = """
max_turns = 2
expert_episodes = 30
top_k = 15
patience = 4
test_tasks = 4
curve_tasks = 4
curve_every = 2
shape = { hidden = 32, layers = 1, heads = 2, feed_forward = 32, vocabulary = 400 }
sft = { steps = 20, lr = 1e-2, warmup = 5, save_every = 10 }
grpo = { steps = 2, groups = 2, group_size = 4, updates = 1, max_new = 16, save_every = 1 }
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shaping", "--arms", "equalized/r2g", "--scores", "mean"], "Both --arms and a grid are given"),
        (["shaping", "--arms", "equalised/r2g"], "No turn credit named 'equalised'. Did you mean 'equalized'?"),
        (["shaping", "--credits", "r2g", "--scores", "r2g,total"], "No trajectory score named 'total'"),
        (["shaping", "--arms", "r2g/r2g,r2g/r2g"], "expected at least one, and none twice"),
        (["shaping", "--arms", "r2g/r2g,r2g/r2g/grpo"], "expected at least one, and none twice"),
        (["shaping", "--arms", "naive/mean/mt_grpo"], "of which the estimator 'mt_grpo' makes no use"),
        (["shaping", "--arms", "r2g/r2g", "--contrasts", "r2g/r2g"], "is no pair of arms"),
        (["shaping", "--arms", "r2g/r2g", "--contrasts", "r2g/r2g:em/r2g"], "No arm of this experiment named 'em/r2g'"),
        (["shaping", "--arms", ","], "--arms names none"),
        (["cold-start", "--seeds", "0,x"], "The seeds are '0,x'; expected whole numbers"),
        (["cold-start", "--seeds", "1,1"], "The seeds are [1, 1]; expected at least one, and none twice."),
        (["cold-start", "--gym", "intentoin"], "No gym named 'intentoin'"),
        (["cold-start", "--model", "policy"], "no settings for it: the learning rates of the tiny policy would ruin it"),
    ],
)
def test_what_cannot_be_an_experiment_is_refused_before_anything_is_written(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in " ".join(refused("experiment", *arguments).split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_experiment_that_was_killed_goes_on_and_a_second_one_adds_to_it(
    cli: Callable[..., Any], started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY, "utf-8")
    command = ["experiment", "cold-start", "--config", "tiny.toml", "--seeds", "0,1", "--out", "run"]
    process = started(*command)
    while not (tmp_path / "run" / "seed-0" / "sft" / "model").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert "Add --resume" in cli(*command).err

    done = cli(*command, "--resume")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80 + len(str(tmp_path))
    for part in ("SFT only", "SFT + GRPO minus GRPO only", "the best without skill", "imitated expert"):
        assert part in done.out
    held = json.loads((tmp_path / "run" / "cold-start.json").read_text("utf-8"))
    assert held["seeds"] == [0, 1] and set(held["arms"]) == {"SFT only", "SFT + GRPO", "GRPO only"}

    before = (tmp_path / "run" / "seed-1" / "sft-equalized-r2g" / "result.json").stat().st_mtime_ns
    arms = ["--arms", "equalized/r2g,naive/r2g", "--seeds", "1", "--jobs", "2"]
    second = cli("experiment", "shaping", *command[2:4], *arms, "--out", "run", "--resume")
    assert second.code == 0 and "equalized/r2g minus naive/r2g" in second.out
    assert (tmp_path / "run" / "seed-1" / "sft-equalized-r2g" / "result.json").stat().st_mtime_ns == before
    assert (tmp_path / "run" / "shaping.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run" / "cold-start.json").exists()
