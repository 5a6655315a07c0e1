"""A run that was broken off and gone on with ends in the very weights of a run that was not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from userrl.agents.policy import Policy
from userrl.core import Tokens
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
