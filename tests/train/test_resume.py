"""A run that was broken off and gone on with ends in the very weights of a run that was not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from userrl.agents.policy import LoRA, Policy
from userrl.core import Episode, Tokens
from userrl.errors import BudgetSpent
from userrl.gyms.base import make
from userrl.train import checkpoint, grpo, sft

GYM = make("intention")
TASKS = GYM.tasks("train")[:7]
SFT = sft.SFTConfig(steps=8, batch_size=4, warmup=2, save_every=3)
GRPO = grpo.GRPOConfig(steps=5, groups=3, group_size=4, updates=2, warmup=2, max_turns=3, max_new=16, save_every=2)

Corpus = Sequence[Sequence[Tokens]]


class Died(Exception):
    """Stands for a crash."""


def run_sft(policy: Policy, folder: Path, die_after: int | None, data: Corpus) -> list[int]:
    done: list[int] = []

    def note(step: int, loss: float) -> None:
        done.append(step)
        if step == die_after:
            raise Died

    try:
        sft.train(policy, data, SFT, folder=folder, on_step=note)
    except Died:
        assert done[-1] == die_after
    return done


def run_grpo(policy: Policy, folder: Path, die_after: int | None, data: Corpus) -> list[int]:
    done: list[int] = []

    async def note(step: grpo.Step) -> None:
        done.append(step.number)
        if step.number == die_after:
            raise Died

    try:
        asyncio.run(grpo.train(policy, TASKS, GYM.cast(), GRPO, folder=folder, on_step=note))
    except Died:
        assert done[-1] == die_after
    return done


def same(one: Policy, other: Policy) -> bool:
    weights, others = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_run_that_is_cancelled_or_gives_up_in_play_leaves_a_checkpoint_and_goes_on_to_the_same_weights(
    policy: Policy, tmp_path: Path
) -> None:
    policy.save(tmp_path / "start")
    config, whole = replace(GRPO, save_every=10), Policy.load(tmp_path / "start")
    run_grpo(whole, tmp_path / "whole", None, ())

    async def cancel(step: grpo.Step) -> None:
        task = asyncio.current_task()
        if step.number == 2 and task is not None:
            task.cancel()

    def spent(episode: Episode) -> None:
        raise BudgetSpent("no dollars are left")

    broken = Policy.load(tmp_path / "start")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(grpo.train(broken, TASKS, GYM.cast(), config, folder=tmp_path / "run", on_step=cancel))
    assert checkpoint.steps_done(tmp_path / "run") == 2
    with pytest.raises(BudgetSpent):
        asyncio.run(grpo.train(broken, TASKS, GYM.cast(), config, folder=tmp_path / "run", on_end=spent))
    assert checkpoint.steps_done(tmp_path / "run") == 2, "nothing was done since"
    resumed = Policy.load(tmp_path / "start")
    asyncio.run(grpo.train(resumed, TASKS, GYM.cast(), config, folder=tmp_path / "run"))
    assert same(resumed, whole)


def test_short_runs_leave_their_warm_up_and_save_on_the_way_and_long_ones_are_as_they_were() -> None:
    def of(config: grpo.GRPOConfig | sft.SFTConfig) -> tuple[int, int]:
        return config.warm_steps, config.steps_between_saves

    assert [of(grpo.GRPOConfig(steps=n)) for n in (1, 2, 6, 40, 120)] == [(0, 1), (0, 1), (1, 1), (10, 10), (10, 10)]
    assert [of(sft.SFTConfig(steps=n)) for n in (1, 20, 120, 1000, 1200)] == [(0, 1), (5, 10), (30, 60), (30, 500), (30, 500)]
    assert of(grpo.GRPOConfig(steps=6, warmup=10, save_every=5)) == (10, 5)


@pytest.mark.parametrize(
    ("train", "steps", "die_after", "gone_on"),
    [(run_sft, 8, 5, [4, 5, 6, 7, 8]), (run_grpo, 5, 3, [3, 4, 5]), (run_sft, 8, 2, list(range(1, 9)))],
)
def test_a_broken_run_goes_on_to_the_weights_of_an_undisturbed_one(
    train: Callable[[Policy, Path, int | None, Corpus], list[int]],
    steps: int,
    die_after: int,
    gone_on: list[int],
    policy: Policy,
    corpus: Corpus,
    tmp_path: Path,
) -> None:
    """`policy` is what every run starts from, saved in a folder as a real run's is."""
    policy.save(tmp_path / "start")
    whole, broken = Policy.load(tmp_path / "start"), Policy.load(tmp_path / "start")
    assert train(whole, tmp_path / "whole", None, corpus) == list(range(1, steps + 1))
    assert not same(whole, policy)

    assert train(broken, tmp_path / "broken", die_after, corpus) == list(range(1, die_after + 1))
    resumed = Policy.load(tmp_path / "start")
    assert train(resumed, tmp_path / "broken", None, corpus) == gone_on
    assert same(resumed, whole)


def test_a_run_that_has_ended_is_not_trained_on(policy: Policy, untrained: Policy, corpus: Corpus, tmp_path: Path) -> None:
    run_sft(policy, tmp_path / "sft", None, corpus)
    assert run_sft(untrained, tmp_path / "sft", None, corpus) == []
    assert same(untrained, policy) and not untrained.model.training
    run_grpo(policy, tmp_path / "grpo", None, corpus)
    assert run_grpo(untrained, tmp_path / "grpo", None, corpus) == []
    assert same(untrained, policy)


def test_checkpoints_come_as_often_as_asked_for_and_at_the_end(policy: Policy, corpus: Corpus, tmp_path: Path) -> None:
    run_sft(policy, tmp_path, None, corpus)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000006", "step-000008"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-000008"
    assert same(Policy.load(tmp_path / "step-000008"), policy)


LOW_RANK = LoRA(r=2, dropout=0.2)
CASTS = {gym: make(gym).cast() for gym in ("intention", "telepathy")}
MIXED = [task for gym in CASTS for task in make(gym).tasks("train")[:5]]


def adapted(folder: Path, lora: LoRA) -> Policy:
    policy = Policy.load(folder)
    policy.prepare("float32", lora, seed=3)
    return policy


@pytest.mark.parametrize("fields", [{}, {"micro_batch": 200}])
def test_a_broken_fine_tuning_of_an_adapter_goes_on_bit_for_bit_dropout_included(
    fields: dict[str, int], policy: Policy, corpus: Corpus, tmp_path: Path
) -> None:
    policy.save(tmp_path / "start")
    config = replace(SFT, lr=1e-2, **fields)

    def train(folder: str, die_after: int | None = None) -> Policy:
        def note(step: int, loss: float) -> None:
            if step == die_after:
                raise Died

        policy = adapted(tmp_path / "start", LOW_RANK)
        try:
            sft.train(policy, corpus, config, folder=tmp_path / folder, on_step=note)
        except Died:
            torch.rand(3)  # another process would draw otherwise, too
        return policy

    whole = train("whole")
    train("broken", 5)
    resumed = train("broken")
    assert same(resumed, whole) and not same(adapted(tmp_path / "start", LOW_RANK), whole)
    files = {file.name for file in checkpoint.latest(tmp_path / "whole").iterdir()}  # type: ignore[union-attr]
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files


@pytest.mark.parametrize(
    ("fields", "lora"),
    [
        ({"kl": 0.1}, LoRA()),
        ({"kl": 0.1}, LOW_RANK),
        ({"turns": ((0, 1), (2, 3)), "weights": {"intention": 2.0}, "rules": {"intention": {"show_reward": True}}}, LoRA()),
        ({"micro_batch": 150, "entropy": 0.01, "estimator": "rloo"}, LOW_RANK),
    ],
)
@pytest.mark.filterwarnings("ignore:Nothing was learned")
def test_a_broken_reinforcement_goes_on_bit_for_bit(
    fields: dict[str, object], lora: LoRA, two_gyms: Path, tmp_path: Path
) -> None:
    config = replace(GRPO, groups=4, lr=1e-2, **fields)  # type: ignore[arg-type]

    def train(folder: str, die_after: int | None = None) -> tuple[Policy, list[grpo.Step]]:
        steps: list[grpo.Step] = []

        async def note(step: grpo.Step) -> None:
            steps.append(step)
            if step.number == die_after:
                raise Died

        policy = adapted(two_gyms, lora)
        with suppress(Died):
            asyncio.run(grpo.train(policy, MIXED, CASTS.__getitem__, config, folder=tmp_path / folder, on_step=note))
        return policy, steps

    whole, steps = train("whole")
    train("broken", 3)
    resumed, again = train("broken")
    assert same(resumed, whole) and not same(adapted(two_gyms, lora), whole)
    assert again == steps[2:], "the same episodes and figures"
