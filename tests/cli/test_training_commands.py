"""`userrl sft`, `userrl rl` and what `userrl demo` shows at its end: each command names the next one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.cli import collecting, show, training
from userrl.collect import Left, Selection
from userrl.collect.select import Why
from userrl.core import Episode
from userrl.evaluate.metrics import summarize
from userrl.evaluate.statistics import Interval
from userrl.gyms.base import make
from userrl.pipeline.demo import GRPO, RANDOM, SFT, SHUFFLED, Cost, Result
from userrl.rollout import run, starts
from userrl.store import read

SFT_JOB = """
[shape]
hidden = 32
layers = 1
heads = 2
feed_forward = 32
vocabulary = 400
[sft]
batch_size = 2
"""
RL_JOB = """
[grpo]
groups = 1
group_size = 2
updates = 1
"""


@pytest.mark.filterwarnings("default")  # torch's and transformers' own
def test_each_command_names_the_next_until_there_is_a_policy(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "sft.toml").write_text(SFT_JOB, "utf-8")
    (tmp_path / "rl.toml").write_text(RL_JOB, "utf-8")

    done = cli("sft", "collect", "intention", "--tasks", 12, "--max-turns", 2, "--agent", "expert:0.7", "--top-k", 6)
    assert done.code == 0
    assert "Kept 6; left out 6 beaten by better ones, 0 with an invalid action, 0 failed" in done.out
    assert "collect expert:0.7  12/12  mean reward " in done.err
    assert len(list(read(tmp_path / "runs" / "experts" / "selected.jsonl"))) == 6
    assert done.out.splitlines()[-1] == "Next: userrl sft train --data runs/experts"

    done = cli(*done.out.splitlines()[-1].split()[2:], "--steps", 2, "--config", "sft.toml")
    assert done.code == 0
    assert "Policy: runs/sft/model" in done.out
    assert "SFT  2/2  loss " in done.err
    next_eval, next_rl = (line.removeprefix("Next: userrl ").split() for line in done.out.splitlines()[-2:])

    done = cli(*next_eval, "--tasks", 1, "--max-turns", 1)
    assert done.code == 0
    assert "sft/model: 1 test task of intention" in done.out

    short = ("--steps", 1, "--max-turns", 1, "--max-new", 2, "--config", "rl.toml")
    done = cli(*next_rl, *short)
    assert done.code == 0
    assert "Policy: runs/rl/model" in done.out
    assert "GRPO  1/1  share " in done.err
    assert (tmp_path / "runs" / "rl" / "model" / "config.json").is_file()
    settings = json.loads((tmp_path / "runs" / "rl" / "config.json").read_text("utf-8"))
    assert settings["endpoints"] == {} and settings["grpo"]["max_new"] == 2

    assert cli(*next_rl, *short, "--resume").code == 0
    assert "is not valid" not in done.err


def test_nothing_kept_is_told_without_a_table(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def collect(*args: Any, **options: Any) -> Selection:
        whys: tuple[Why, ...] = ("failed", "invalid", "invalid", "held-out id", "held-out prompt")
        return Selection([], [Left("intention", "t", i, why) for i, why in enumerate(whys)])

    monkeypatch.setattr(collecting, "run_collect", collect)
    done = cli("sft", "collect", "intention", "--tasks", 3)
    expected = "Kept 0; left out 0 beaten by better ones, 2 with an invalid action, 1 failed, 2 on held-out tasks"
    assert done.out.splitlines()[0] == expected


def played(agent: str, tasks: int = 8) -> list[Episode]:
    gym = make("intention")
    who = gym.expert(1.0) if agent == "expert" else gym.baselines()[agent]
    return run(starts(gym.tasks("test")[:tasks], max_turns=4), who, gym.cast())


def test_the_end_of_the_demo_fits_80_columns_and_names_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show.out, "width", 80)
    bad, good = played("random"), played("expert")
    names = {RANDOM: bad, "random": bad, "fixed_list": bad, SFT: bad, GRPO: good, SHUFFLED: bad, "expert": good}
    gain, lead = Interval(0.0972, 0.066, 0.131, 8), Interval(-0.05, -0.1, -0.01, 8)
    result = Result(
        summaries={name: summarize(episodes)[0] for name, episodes in names.items()},
        gain=gain,
        greedy_gain=Interval(0.031, 0.01, 0.05, 8),
        lead=("fixed_list", lead),
        samples=[(bad[0], good[0])],
        plot=Path("curve.png"),
        folder=Path("runs/demo"),
        cost=Cost(wall_s=90.0, cpu_s=60.0, peak_mb=512.0, resumed=True),
    )
    training.show_demo(result)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out.split("Sample 1")[0]
    assert "8 test tasks whose texts were never seen in training" in out
    assert "  after SFT                               0.097 [0.066, 0.131]" in out
    assert "  fixed_list, the best without skill      -0.050 [-0.100, -0.010]" in out
    assert "  the same, both decoding greedily        0.031 [0.010, 0.050]" in out
    for name in names:
        assert name.split(",")[0] in out
    assert "irrelevant" in out
    assert out.count("earned") == 2 + 1
    for file in ("curve.png", "runs/demo/results.json", "runs/demo/episodes", "runs/demo/sft, runs/demo/grpo"):
        assert f" {file}\n" in out
    assert "1.5 minutes, 1.0 CPU-minutes, at most 512 MB of memory (only the part since" in " ".join(out.split())


def test_max_new_reaches_the_settings_of_the_job(cli: Callable[..., Any], tmp_path: Path) -> None:
    for command in (("eval",), ("sft", "collect")):
        out = tmp_path / command[-1]
        assert cli(*command, "intention", "--tasks", 1, "--max-turns", 1, "--max-new", 7, "--out", out).code == 0
        assert json.loads((out / "config.json").read_text("utf-8"))["max_new"] == 7
