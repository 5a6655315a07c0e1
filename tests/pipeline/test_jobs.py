"""The jobs behind `userrl sft train` and `userrl rl train`: what they write, and that a broken one goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from userrl.agents.policy import Policy
from userrl.agents.tiny import Shape
from userrl.core import Episode
from userrl.errors import ConfigError, DataError, ResumeError, RunStopped, StoreError
from userrl.gyms.base import find, make
from userrl.pipeline.jobs import RLJob, SFTJob, figures, fine_tune, reinforce
from userrl.store import dump, read
from userrl.train.grpo import GRPOConfig, Step
from userrl.train.sft import SFTConfig

SHAPE = Shape(hidden=32, layers=1, heads=2, feed_forward=32, vocabulary=400)


@pytest.fixture
def data(experts: list[Episode], tmp_path: Path) -> str:
    return str(dump(tmp_path / "experts" / "selected.jsonl", experts[:20]).parent)


@pytest.fixture
def model(policy: Policy, tmp_path: Path) -> str:
    policy.save(tmp_path / "start")
    return str(tmp_path / "start")


def sft_job(data: str, **fields: Any) -> SFTJob:
    return SFTJob(data, shape=SHAPE, sft=SFTConfig(**{"steps": 6, "batch_size": 4, "save_every": 2, **fields}))


def rl_job(model: str, **fields: Any) -> RLJob:
    settings = {"steps": 3, "groups": 4, "group_size": 4, "updates": 1, "max_turns": 3, "max_new": 16, "save_every": 1}
    return RLJob(model, grpo=GRPOConfig(**{**settings, **fields}))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def same(one: Path, other: Path) -> bool:
    weights, others = Policy.load(one).model.state_dict(), Policy.load(other).model.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def test_fine_tuning_leaves_settings_losses_checkpoints_and_a_policy(data: str, tmp_path: Path) -> None:
    seen: list[int] = []
    out = fine_tune(sft_job(data), tmp_path / "run", on_step=lambda step, loss: seen.append(step))
    assert out == tmp_path / "run" / "model" and seen == [1, 2, 3, 4, 5, 6]
    log = lines(tmp_path / "run" / "train.jsonl")
    assert [line["step"] for line in log] == seen and all(line["loss"] > 0 for line in log)
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert (config["kind"], config["data"], config["sft"]["steps"], config["shape"]["hidden"]) == ("sft", data, 6, 32)
    assert same(out, tmp_path / "run" / "checkpoints" / "step-000006")
    assert Policy.load(out).model.config.hidden_size == 32


def test_fine_tuning_goes_on_from_a_given_policy(data: str, model: str, tmp_path: Path) -> None:
    out = fine_tune(replace(sft_job(data, steps=1, lr=1e-9), model=model), tmp_path / "run")
    start, end = Policy.load(Path(model)).model, Policy.load(out).model
    assert end.config.hidden_size == 48
    for one, other in zip(start.parameters(), end.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_run_that_cannot_begin_leaves_no_folder_to_resume(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Cannot read"):
        fine_tune(SFTJob(str(tmp_path / "nowhere.jsonl")), tmp_path / "run")
    empty = dump(tmp_path / "empty.jsonl", [])
    with pytest.raises(ConfigError, match=r"holds no episodes; collect some with `userrl sft collect`"):
        fine_tune(SFTJob(str(empty)), tmp_path / "run")
    (tmp_path / "odd.jsonl").write_text('{"schema": 1}\n', "utf-8")
    with pytest.raises(DataError, match=r"odd\.jsonl, line 1"):
        fine_tune(SFTJob(str(tmp_path / "odd.jsonl")), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        asyncio.run(reinforce(RLJob(str(tmp_path / "nowhere")), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_reinforcing_leaves_figures_episodes_checkpoints_and_a_policy(model: str, tmp_path: Path) -> None:
    seen: list[tuple[Step, dict[str, Any]]] = []
    out = asyncio.run(reinforce(rl_job(model), tmp_path / "run", on_step=lambda step, line: seen.append((step, line))))
    log = lines(tmp_path / "run" / "train.jsonl")
    assert log == [line for _, line in seen] and [line["step"] for line in log] == [1, 2, 3]
    episodes = list(read(tmp_path / "run" / "episodes.jsonl"))
    assert len(episodes) == 3 * 4 * 4
    assert [e.key for e in episodes] == [e.key for step, _ in seen for e in step.episodes]
    assert not any(turn.action.tokens for e in episodes for turn in e.turns)
    assert same(out, tmp_path / "run" / "checkpoints" / "step-000003")
    assert not same(out, Path(model))


def test_failed_episodes_have_no_part_in_a_steps_figures(experts: list[Episode]) -> None:
    good = experts[:3]
    step = Step(7, [*good, experts[3].fail("user: gone")], skipped=2, loss=0.5, entropy=1.5, clipped=0.1, grad_norm=3.0, cut=0.25)
    line = figures(step)
    assert line["reward"] == pytest.approx(sum(sum(e.rewards) for e in good) / 3)
    assert (line["step"], line["errors"], line["skipped_groups"]) == (7, 1, 2)
    assert [line[name] for name in ("loss", "entropy", "clipped", "grad_norm", "cut")] == [0.5, 1.5, 0.1, 3.0, 0.25]
    assert list(line["mix"]) == list(make("intention").labels)
    assert sum(line["mix"].values()) == pytest.approx(1.0)


def test_a_resumed_job_logs_each_step_and_ends_in_the_same_policy(data: str, model: str, tmp_path: Path) -> None:
    def die(*seen: Any) -> None:
        if seen[0] == 3 or getattr(seen[0], "number", 0) == 2:
            raise RunStopped("died")

    whole = fine_tune(sft_job(data), tmp_path / "whole")
    with pytest.raises(RunStopped):
        fine_tune(sft_job(data), tmp_path / "sft", on_step=die)
    assert same(fine_tune(sft_job(data), tmp_path / "sft", resume=True), whole)
    assert [line["step"] for line in lines(tmp_path / "sft" / "train.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines(tmp_path / "sft" / "train.jsonl.redone")] == [3]

    whole = asyncio.run(reinforce(rl_job(model), tmp_path / "whole-rl"))
    assert not same(whole, Path(model))
    with pytest.raises(RunStopped):
        asyncio.run(reinforce(rl_job(model), tmp_path / "rl", on_step=die))
    assert same(asyncio.run(reinforce(rl_job(model), tmp_path / "rl", resume=True)), whole)
    assert lines(tmp_path / "rl" / "train.jsonl") == lines(tmp_path / "whole-rl" / "train.jsonl")
    assert list(read(tmp_path / "rl" / "episodes.jsonl")) == list(read(tmp_path / "whole-rl" / "episodes.jsonl"))
    assert [line["step"] for line in lines(tmp_path / "rl" / "train.jsonl.redone")] == [2]
    assert len(list(read(tmp_path / "rl" / "episodes.jsonl.redone"))) == 16


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed_with_the_same_settings(data: str, tmp_path: Path) -> None:
    fine_tune(sft_job(data), tmp_path / "run")
    with pytest.raises(StoreError, match="already holds a run"):
        fine_tune(sft_job(data), tmp_path / "run")
    with pytest.raises(ResumeError, match=r"sft\.lr was 0\.0015, now 0\.1"):
        fine_tune(sft_job(data, lr=0.1), tmp_path / "run", resume=True)


def test_a_fine_tuning_whose_episodes_or_policy_have_changed_is_not_gone_on_with(data: str, model: str, tmp_path: Path) -> None:
    job = replace(sft_job(data), model=model)
    fine_tune(job, tmp_path / "run")
    chosen = Path(data) / "selected.jsonl"
    (Path(data) / "episodes.jsonl").write_text("not read by training\n", "utf-8")
    fine_tune(job, tmp_path / "run", resume=True)
    whole = chosen.read_bytes()
    dump(chosen, list(read(chosen))[1:])
    with pytest.raises(ResumeError, match=r"contents\.data was '\w{64}', now '\w{64}'"):
        fine_tune(job, tmp_path / "run", resume=True)
    chosen.write_bytes(whole)
    changed(model)
    with pytest.raises(ResumeError, match=r"contents\.model was '\w{64}', now '\w{64}'"):
        fine_tune(job, tmp_path / "run", resume=True)


def test_a_reinforcement_whose_policy_was_replaced_is_not_gone_on_with(model: str, tmp_path: Path) -> None:
    job = rl_job(model, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    asyncio.run(reinforce(job, tmp_path / "run", resume=True))
    changed(model)
    with pytest.raises(ResumeError, match=r"contents\.model was '\w{64}', now '\w{64}'"):
        asyncio.run(reinforce(job, tmp_path / "run", resume=True))


def test_a_reinforcement_whose_tasks_have_changed_is_not_gone_on_with(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rl_job(model, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    sets = find("intention").sets()
    other = {**sets, "train": replace(sets["train"], sha256="0" * 64)}
    monkeypatch.setattr(find("intention"), "sets", lambda: other)
    with pytest.raises(ResumeError, match=r"contents\.tasks\.intention was '\w{64}', now '0{64}'"):
        asyncio.run(reinforce(job, tmp_path / "run", resume=True))


def changed(model: str) -> None:
    policy = Policy.load(Path(model))
    with torch.no_grad():
        next(policy.model.parameters()).add_(0.5)
    policy.save(Path(model))


def test_fine_tuning_on_episodes_played_under_compat_is_warned_of(experts: list[Episode], tmp_path: Path) -> None:
    bent = [replace(e, rules={"compat": "userrl"}) for e in experts[:4]]
    path = dump(tmp_path / "bent.jsonl", [*experts[4:8], *bent])
    with pytest.warns(UserWarning, match="Training under compat"):
        fine_tune(sft_job(str(path), steps=1), tmp_path / "run")


# --- killed ----------------------------------------------------------------------------------------------------


def killed_and_gone_on_with(arguments: list[str], folder: Path, *, at: str) -> None:
    """Run a command, kill it as soon as the checkpoint `at` is there, then run it to its end with --resume."""
    command = [sys.executable, "-c", "from userrl.cli import main; main()", *arguments, "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "checkpoints" / at).exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert process.returncode == -9 and not (folder / "model").exists(), "it ended before it could be killed"
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    steps = [line["step"] for line in lines(folder / "train.jsonl")]
    assert steps == list(range(1, len(steps) + 1)), "a step stands there twice, or is missing"


@pytest.mark.slow
def test_a_killed_fine_tuning_goes_on_to_the_same_policy(data: str, tmp_path: Path) -> None:
    settings = tmp_path / "sft.toml"
    shape = "shape = { hidden = 32, layers = 1, heads = 2, feed_forward = 32, vocabulary = 400 }"
    settings.write_text(f'data = "{data}"\n{shape}\n[sft]\nsteps = 400\nbatch_size = 4\nsave_every = 20\n', "utf-8")
    killed_and_gone_on_with(["sft", "train", "--config", str(settings)], tmp_path / "killed", at="step-000040")
    whole = fine_tune(sft_job(data, steps=400, save_every=20), tmp_path / "whole")
    assert same(tmp_path / "killed" / "model", whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Nothing was learned")
def test_a_killed_reinforcement_goes_on_to_the_same_policy(model: str, tmp_path: Path) -> None:
    settings = tmp_path / "rl.toml"
    settings.write_text(
        f'model = "{model}"\n[grpo]\nsteps = 30\ngroups = 4\ngroup_size = 4\nupdates = 1\n'
        "max_turns = 3\nmax_new = 16\nsave_every = 2\n",
        "utf-8",
    )
    killed_and_gone_on_with(["rl", "train", "--config", str(settings)], tmp_path / "killed", at="step-000004")
    whole = asyncio.run(reinforce(rl_job(model, steps=30, save_every=2), tmp_path / "whole"))
    assert same(tmp_path / "killed" / "model", whole) and not same(whole, Path(model))
