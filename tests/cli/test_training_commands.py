"""`userrl sft`, `userrl rl` and what `userrl demo` shows at its end: each command names the next one."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl import __version__
from userrl.cli import collecting, show, training
from userrl.cli.live import Plain
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
[validation]
tasks = 2
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

    short = ("--steps", 1, "--max-turns", 1, "--max-new", 2, "--validate-every", 1, "--config", "rl.toml")
    done = cli(*next_rl, *short)
    assert done.code == 0
    assert "Policy: runs/rl/model" in done.out
    assert "GRPO  1/1  share " in done.err
    assert (tmp_path / "runs" / "rl" / "model" / "config.json").is_file()
    settings = json.loads((tmp_path / "runs" / "rl" / "config.json").read_text("utf-8"))
    assert settings["endpoints"] == {} and settings["grpo"]["max_new"] == 2

    [best] = (line for line in done.out.splitlines() if line.startswith("Best by validation: step 0, share 0.000 ["))
    assert best.endswith(": runs/sft/model"), "an untrained policy earns nothing before training and after it"
    assert json.loads((tmp_path / "runs" / "rl" / "results.json").read_text("utf-8"))["kept"] == "last"

    done = cli(*next_rl, *short, "--resume", "--keep", "best")
    assert done.code == 0 and "Policy: runs/rl/model (of step 0, the best)" in done.out
    assert "is not valid" not in done.err
    done = cli(
        "eval", "intention", "--agent", "runs/rl/checkpoints/step-000001", "--tasks", 1, "--max-turns", 1, "--out", "runs/e"
    )
    assert done.code == 0


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


@pytest.fixture
def sft_model(cli: Callable[..., Any], tmp_path: Path) -> str:
    """Folder of a tiny policy, trained on episodes of function."""
    (tmp_path / "sft.toml").write_text(SFT_JOB, "utf-8")
    (tmp_path / "rl.toml").write_text(RL_JOB, "utf-8")
    collect = ("sft", "collect", "function", "--tasks", 4, "--max-turns", 2, "--near", 0, "--out", "runs/experts")
    assert cli(*collect).code == 0
    done = cli("sft", "train", "--data", "runs/experts", "--steps", 2, "--config", "sft.toml", "--out", "runs/sft")
    assert done.code == 0
    nexts = [line.removeprefix("Next: userrl ") for line in done.out.splitlines() if line.startswith("Next")]
    assert nexts == ["eval function --agent runs/sft/model", "rl train function --model runs/sft/model"]
    return "runs/sft/model"


SHORT_RL = ("--max-turns", 1, "--max-new", 2, "--config", "rl.toml")


@pytest.mark.filterwarnings("default")
def test_an_interrupted_reinforcement_says_after_which_step_it_goes_on(
    cli: Callable[..., Any], sft_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("rl", "train", "function", "--model", sft_model, "--steps", 3, "--save-every", 3, *SHORT_RL)
    plain = Plain.line

    def interrupt(self: Plain, line: Any) -> None:
        plain(self, line)
        if line["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Plain, "line", interrupt)
    # a test run in the background of a shell inherits an ignored SIGINT, which a person's terminal never has
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = cli(*command)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.code == 130 and "go on with the same command and --resume" in done.err
    assert [path.name for path in (tmp_path / "runs" / "rl" / "checkpoints").iterdir()] == ["step-000002"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    done = cli(*command, "--resume")
    assert done.code == 0 and "Going on after step 2 of 3." in done.err
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs" / "rl" / "train.jsonl").read_text("utf-8").splitlines()]
    assert steps == [1, 2, 3]


@pytest.mark.filterwarnings("default")
def test_a_run_that_is_refused_shows_no_progress_and_one_that_never_leaves_its_warm_up_is_told_so(
    cli: Callable[..., Any], sft_model: str
) -> None:
    command = ("rl", "train", "function", "--model", sft_model, "--steps", 4, *SHORT_RL)
    done = cli(*command, "--group-size", 1)
    assert done.code == 1 and "group_size is 1" in done.err and "GRPO  0/4" not in done.err
    done = cli(*command, "--group-size", 1, "--warmup", 10)
    assert "the warm-up takes 10 of 4 steps, so the learning rate ends at 0.00016 of 0.0004. Lower --warmup." in done.err
    done = cli("sft", "train", "--data", "runs/nowhere", "--steps", 3)
    assert done.code == 1 and "SFT  0/3" not in done.err
    assert cli("eval", "intention", "--tasks", 1, "--max-turns", 1).code == 0
    done = cli("eval", "intention", "--tasks", 1, "--max-turns", 1)
    assert done.code == 1 and "already holds a run" in done.err and "0/1" not in done.err


@pytest.mark.filterwarnings("default")
def test_the_folder_of_a_run_in_the_place_of_another_is_told_which_one_was_meant(cli: Callable[..., Any], sft_model: str) -> None:
    for command in (
        ("rl", "train", "function", "--model", "runs/sft"),
        ("eval", "function", "--agent", "runs/sft", "--out", "runs/e"),
    ):
        done = cli(*command)
        assert done.code == 1
        assert "runs/sft is the folder of a run, not of a model. Did you mean runs/sft/model?" in " ".join(done.err.split())
    assert cli("eval", "function", "--tasks", 1, "--max-turns", 1, "--out", "runs/e").code == 0
    done = cli("sft", "train", "--data", "runs/e", "--out", "runs/other")
    said = " ".join(done.err.split())
    assert done.code == 1 and "runs/e is the folder of a run of another command (kind 'eval')" in said
    assert "userrl sft select runs/e --out runs/selected" in said


@pytest.mark.filterwarnings("default")
def test_episodes_that_fill_the_window_of_the_model_count_and_are_told(
    cli: Callable[..., Any], sft_model: str, tmp_path: Path
) -> None:
    file = tmp_path / sft_model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "max_position_embeddings": 600}), "utf-8")
    done = cli("eval", "function", "--agent", sft_model, "--tasks", 2, "--out", "runs/e")
    said = " ".join(done.err.split())
    assert done.code == 0 and "2 of 2 episodes filled the model's own window before their end" in said
    assert "ended by a failure" not in said
    assert json.loads((tmp_path / "runs" / "e" / "config.json").read_text("utf-8"))["max_new"] == 150
    assert {e.stop for e in read(tmp_path / "runs" / "e" / "episodes.jsonl")} == {"window"}


def test_more_tasks_than_there_are_is_told(cli: Callable[..., Any]) -> None:
    many = len(make("telepathy").tasks("validation"))
    done = cli("eval", "telepathy", "--split", "validation", "--tasks", many + 1, "--max-turns", 1, "--agent", "random")
    assert done.code == 0
    assert (
        f"--tasks is {many + 1}, but the split 'validation' holds fewer, which are all played: {many} of telepathy."
        in " ".join(done.err.split())
    )


def test_the_command_line_is_a_module_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "userrl"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__
    done = subprocess.run([*command, "check", "gyms", "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "No gym named 'nowhere'" in done.stderr


@pytest.mark.parametrize("command", ["sft train --data m", "rl train intention --model m"])
def test_resume_where_there_is_no_run_says_so(cli: Callable[..., Any], command: str) -> None:
    done = cli(*command.split(), "--resume", "--out", "runs/new")
    assert done.code == 1 and "There is no run in runs/new to go on with: beginning one." in done.err


def test_a_settings_file_without_an_agent_leaves_the_expert_and_names_its_own_mistakes(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    for number, (text, code, said) in enumerate(
        [("[rules]\n", 0, ""), ('gyms = "x"\n', 1, "gyms is 'x'"), ("max_turns = 2\n[rules]\nx = 1\n", 1, "'x'")]
    ):
        (tmp_path / "run.toml").write_text(text, "utf-8")
        gyms = [] if "gyms" in text else ["intention"]
        done = cli("eval", *gyms, "--tasks", 1, "--config", "run.toml", "--out", f"runs/{number}")
        assert done.code == code and said in done.err and "'agent' is missing" not in done.err


def test_max_new_reaches_the_settings_of_the_job(cli: Callable[..., Any], tmp_path: Path) -> None:
    for command in (("eval",), ("sft", "collect")):
        out = tmp_path / command[-1]
        assert cli(*command, "intention", "--tasks", 1, "--max-turns", 1, "--max-new", 7, "--out", out).code == 0
        assert json.loads((out / "config.json").read_text("utf-8"))["max_new"] == 7
