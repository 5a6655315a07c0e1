"""Numbers that are not finite: what was learned before them is kept, is what a resumed run begins with, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from userrl.agents.policy import LoRA, Policy
from userrl.core import Episode, Tokens
from userrl.errors import ResumeError, RunStopped
from userrl.gyms.base import make
from userrl.pipeline.jobs import RLJob, SFTJob, fine_tune, reinforce
from userrl.store import dump
from userrl.train import checkpoint, grpo, sft
from userrl.train.grpo import GRPOConfig
from userrl.train.monitors import MonitorConfig
from userrl.train.rollouts import rollout

SMALL = GRPOConfig(groups=4, group_size=4, updates=3, max_turns=3, max_new=16, warmup=0, save_every=10)
GOOD, ABSURD = 1e-3, 1e15
"""Learning rates: of a run that learns, and one after which the weights are finite, and no probability that they tell."""


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def played(policy: Policy, number: int) -> list[Episode]:
    gym = make("intention")
    return asyncio.run(rollout(policy, gym.tasks("train")[:4], gym.cast(), SMALL, number))


@pytest.mark.parametrize("updates", [3, 1])
@pytest.mark.parametrize("lora", [LoRA(), LoRA(r=2)])
def test_a_step_whose_updates_end_in_no_numbers_is_undone_as_a_whole(policy: Policy, lora: LoRA, updates: int) -> None:
    """With one update its own figures are fine: that the weights are too large for any probability shows afterwards."""
    policy.prepare("float32", lora)
    optimizer = sft.adamw(policy, 1e-3)
    assert not grpo.update(policy, optimizer, played(policy, 0), SMALL, 0).undone
    before, state = weights(policy), [dict(of) for of in optimizer.state_dict()["state"].values()]
    state = [{name: value.clone() for name, value in of.items()} for of in state]
    episodes = played(policy, 1)
    step = grpo.update(policy, optimizer, episodes, replace(SMALL, lr=ABSURD, updates=updates), 1)
    assert step.undone and math.isfinite(step.loss) is (updates == 1)
    assert same(weights(policy), before)
    for was, now in zip(state, optimizer.state_dict()["state"].values(), strict=True):
        assert same(was, now)
    again = grpo.update(policy, optimizer, episodes, replace(SMALL, lr=1e-3), 1)
    assert not again.undone and not same(weights(policy), before)


def rl_job(model: Path, **fields: Any) -> RLJob:
    settings = {"steps": 8, "lr": GOOD, "lr_floor": 1.0, "save_every": 4, **fields}
    return RLJob(str(model), grpo=replace(SMALL, **settings), baselines=False)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def model(policy: Policy, tmp_path: Path) -> Path:
    policy.save(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def spoiled_step(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The sixth step of a run overflows under its first learning rate. Holds the weights before it."""
    before: list[dict[str, torch.Tensor]] = []
    update = grpo.update

    def overflowing(policy: Policy, optimizer: Any, episodes: Any, config: GRPOConfig, number: int, *rest: Any) -> grpo.Step:
        if number == 5 and config.lr == GOOD:
            before.append(weights(policy))
            config = replace(config, lr=ABSURD)
        return update(policy, optimizer, episodes, config, number, *rest)

    monkeypatch.setattr(grpo, "update", overflowing)
    return before


@pytest.mark.filterwarnings("ignore:Nothing was learned", "ignore:Step .*monitor")
def test_what_was_learned_before_is_on_disk_and_gone_on_with_under_the_same_rate_or_a_lower_one(
    model: Path, tmp_path: Path, spoiled_step: list[dict[str, torch.Tensor]]
) -> None:
    run, job = tmp_path / "run", rl_job(model)
    with pytest.raises(RunStopped, match=r"'nonfinite' stopped the run\. .* at step 6\. Its updates were undone\."):
        asyncio.run(reinforce(job, run))
    assert [line["undone"] for line in lines(run / "train.jsonl")] == [False] * 5 + [True]
    saved = checkpoint.latest(run / "checkpoints")
    assert saved is not None and saved.name == "step-000006"
    assert same(weights(Policy.load(saved)), spoiled_step[0]) and not same(spoiled_step[0], weights(Policy.load(model)))
    for name in ("lower", "broken", "higher"):
        shutil.copytree(run, tmp_path / name)

    one = asyncio.run(reinforce(job, run, resume=True))
    assert [line["step"] for line in lines(run / "train.jsonl")] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not (run / "train.jsonl.redone").exists(), "nothing is done, or paid for, twice"
    warned = replace(job, monitors=MonitorConfig(nonfinite="warn"))
    assert same(weights(Policy.load(asyncio.run(reinforce(warned, tmp_path / "warned")))), weights(Policy.load(one)))

    lower = replace(job, grpo=replace(job.grpo, lr=GOOD / 2))
    two = asyncio.run(reinforce(lower, tmp_path / "lower", resume=True))
    assert [line["lr"] for line in lines(tmp_path / "lower" / "train.jsonl")] == [GOOD] * 5 + [ABSURD] + [GOOD / 2] * 2
    config = json.loads((tmp_path / "lower" / "config.json").read_text("utf-8"))
    assert config["grpo"]["lr"] == GOOD / 2 and config["earlier_lr"] == [{"until_step": 6, "lr": GOOD}]
    assert not same(weights(Policy.load(two)), weights(Policy.load(one)))

    def die(step: Any, line: dict[str, Any]) -> None:
        if line["step"] == 7:
            raise RunStopped("died")

    with pytest.raises(RunStopped, match="died"):
        asyncio.run(reinforce(lower, tmp_path / "broken", resume=True, on_step=die))
    again = asyncio.run(reinforce(lower, tmp_path / "broken", resume=True))
    assert same(weights(Policy.load(again)), weights(Policy.load(two)))
    with pytest.raises(ResumeError, match=r"grpo\.lr was 0\.001, now 0\.002"):
        asyncio.run(reinforce(replace(job, grpo=replace(job.grpo, lr=2 * GOOD)), tmp_path / "higher", resume=True))
    with pytest.raises(ResumeError, match=r"grpo\.lr was 0\.0005, now 0\.001"):
        asyncio.run(reinforce(job, tmp_path / "lower", resume=True))


def test_without_an_alarm_the_rate_of_a_run_stays(model: Path, tmp_path: Path) -> None:
    job = rl_job(model, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    with pytest.raises(ResumeError, match=r"grpo\.lr was 0\.001, now 0\.0001"):
        asyncio.run(reinforce(replace(job, grpo=replace(job.grpo, lr=1e-4)), tmp_path / "run", resume=True))


@pytest.mark.filterwarnings("ignore:Nothing was learned", "ignore:Step .*monitor")
@pytest.mark.parametrize("reaction", ["warn", "off"])
def test_whatever_the_monitor_does_no_checkpoint_holds_what_is_no_number(model: Path, tmp_path: Path, reaction: Any) -> None:
    job = replace(rl_job(model, steps=3, lr=ABSURD, save_every=1), monitors=MonitorConfig(nonfinite=reaction))
    out = asyncio.run(reinforce(job, tmp_path / "run"))
    assert any(line["undone"] for line in lines(tmp_path / "run" / "train.jsonl"))
    assert same(weights(Policy.load(out)), weights(Policy.load(model))), "no step could be learned from"


def test_a_checkpoint_of_what_is_no_number_is_refused_and_leaves_the_earlier_one(policy: Policy, tmp_path: Path) -> None:
    optimizer = sft.adamw(policy, 1e-3)
    with pytest.raises(RunStopped, match=r"no finite numbers any more at step 1, so .* There is none yet"):
        checkpoint.save(tmp_path, 1, spoiled(policy), optimizer, {})
    assert not list(tmp_path.iterdir())
    with torch.no_grad():
        next(policy.model.parameters())[0, 0] = 0.0
    whole = checkpoint.save(tmp_path, 1, policy, optimizer, {})
    with pytest.raises(RunStopped, match=r"at step 2, so .* The newest checkpoint is .*step-000001: give .* a lower --lr"):
        checkpoint.save(tmp_path, 2, spoiled(policy), optimizer, {})
    assert list(tmp_path.iterdir()) == [whole]


def spoiled(policy: Policy) -> Policy:
    with torch.no_grad():
        next(policy.model.parameters())[0, 0] = math.inf
    return policy


def test_a_gradient_that_overflows_in_fine_tuning_changes_nothing_and_is_warned_of(
    policy: Policy, corpus: Sequence[Sequence[Tokens]]
) -> None:
    before = weights(policy)
    for parameter in policy.model.parameters():
        parameter.register_hook(lambda gradient: gradient * math.inf)
    with pytest.warns(UserWarning, match=r"The gradient's norm is (inf|nan) at step 1; the step changes nothing"):
        sft.train(policy, corpus, sft.SFTConfig(steps=1, batch_size=4))
    assert same(weights(policy), before)


@pytest.mark.filterwarnings("ignore:The gradient's norm")
def test_a_fine_tuning_that_went_astray_goes_on_from_its_newest_checkpoint_under_a_lower_rate(
    model: Path, experts: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run, descend = str(dump(tmp_path / "experts.jsonl", experts[:20])), tmp_path / "run", sft.descend
    monkeypatch.setattr(sft, "descend", lambda p, o, lr, clip: descend(p, o, ABSURD if lr == GOOD else lr, clip))
    job = SFTJob(data, str(model), sft=sft.SFTConfig(steps=8, batch_size=4, lr=GOOD, warmup=6, save_every=2))
    with pytest.raises(RunStopped, match=r"'nonfinite' stopped the run\. The loss is nan at step 6\. Go on from the newest"):
        fine_tune(job, run)  # the sixth step is the first with the whole rate, and a checkpoint is due after it
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-000002", "step-000004"] and not (run / "model").exists()
    out = fine_tune(replace(job, sft=replace(job.sft, lr=GOOD / 2)), run, resume=True)
    assert all(value.isfinite().all() for value in weights(Policy.load(out)).values())
    assert [line["step"] for line in lines(run / "train.jsonl")] == list(range(1, 9))
