"""Real pretrained weights through the same commands: SFT, GRPO and evaluation of SmolLM2-135M on a CPU, within 6 GB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from userrl.core import INVALID
from userrl.store import read

MOST_GB = 6.0
SETTINGS = """
[grpo]
updates = 1
warmup = 0
"""
LORA = ("--lora", "16", "--dtype", "bfloat16", "--device", "cpu", "--micro-batch", "1024")
PLAY = ("--max-turns", "3", "--max-new", "64")


def userrl(folder: Path, *words: str) -> float:
    """Run a command in a process of its own; returns its peak memory in GB."""
    with (folder / "said.txt").open("w") as said:
        program = [sys.executable, "-c", "from userrl.cli import main; main()"]
        process = subprocess.Popen([*program, *words], cwd=folder, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "said.txt").read_text("utf-8")
    return usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def invalid(run: Path) -> float:
    turns = [turn for episode in read(run / "episodes.jsonl") for turn in episode.turns]
    return sum(turn.label == INVALID for turn in turns) / len(turns)


@pytest.mark.slow
def test_smollm2_learns_the_format_of_the_game_by_lora_on_a_cpu_within_6_gb(tmp_path: Path) -> None:
    (tmp_path / "rl.toml").write_text(SETTINGS, "utf-8")
    userrl(tmp_path, "models", "get", "smollm2", "--out", "smollm2")
    evaluation = ("eval", "intention", "--tasks", "4", "--temperature", "0", *PLAY)
    peaks = {"play": userrl(tmp_path, *evaluation, "--agent", "smollm2", "--out", "before")}
    assert invalid(tmp_path / "before") > 0.9

    userrl(tmp_path, "sft", "collect", "intention", "--tasks", "120", "--max-turns", "3", "--out", "experts")
    tune = ("--steps", "16", "--batch-size", "2", "--lr", "1e-3")
    peaks["SFT"] = userrl(tmp_path, "sft", "train", "--data", "experts", "--model", "smollm2", *tune, *LORA, "--out", "sft")
    losses = [line["loss"] for line in lines(tmp_path / "sft" / "train.jsonl")]
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])

    steps = ("--config", "rl.toml", "--steps", "2", "--groups", "2", "--group-size", "4", "--lr", "2e-4")
    train = ("rl", "train", "intention", "--model", "sft/model", *steps, *PLAY, *LORA, "--out", "rl")
    peaks["GRPO"] = userrl(tmp_path, *train)
    figures = lines(tmp_path / "rl" / "train.jsonl")
    assert [line["step"] for line in figures] == [1, 2]
    assert any(line["grad_norm"] > 0 for line in figures)
    assert all(line["errors"] == 0 for line in figures)
    userrl(tmp_path, *evaluation, "--agent", "rl/model", "--out", "trained")
    assert invalid(tmp_path / "trained") < 0.5
    assert max(peaks.values()) < MOST_GB, peaks
