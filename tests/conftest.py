"""A tiny policy for the tests that play or train one. It is made once; each test gets a copy of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from userrl.core import Episode, Tokens
from userrl.gyms.base import make
from userrl.rollout import run, starts

if TYPE_CHECKING:
    from userrl.agents.policy import Policy


@pytest.fixture(scope="session", autouse=True)
def _nothing_imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No official data that this machine's user may have imported, and no tasks that it has made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USERRL_DATA", str(tmp_path_factory.mktemp("userrl-data")))
        patch.setenv("USERRL_CACHE", str(tmp_path_factory.mktemp("userrl-cache")))
        yield


@pytest.fixture(scope="session")
def experts() -> list[Episode]:
    """60 scripted episodes of 4 turns, from the intention gym's training tasks."""
    gym = make("intention")
    return run(starts(gym.tasks("train")[:60], max_turns=4), gym.expert(0.8), gym.cast())


@pytest.fixture(scope="session")
def _untrained(experts: list[Episode]) -> Policy:
    from userrl.agents.policy import set_threads
    from userrl.agents.tiny import Shape, new_policy

    set_threads(1)
    shape = Shape(hidden=48, layers=2, heads=4, kv_heads=2, feed_forward=96, window=640, vocabulary=500)
    policy = new_policy(experts, shape, seed=0)
    policy.model.eval()
    return policy


@pytest.fixture(scope="session")
def corpus(_untrained: Policy, experts: list[Episode]) -> Sequence[Sequence[Tokens]]:
    """The experts' tokens, as the tiny policy writes them."""
    return [_untrained.tokens(episode, make("intention")) for episode in experts]


@pytest.fixture(scope="session")
def _trained(_untrained: Policy, corpus: Sequence[Sequence[Tokens]]) -> Policy:
    from userrl.train.sft import SFTConfig, train

    policy = copied(_untrained)
    train(policy, corpus, SFTConfig(steps=60, lr=1e-2, warmup=5))
    return policy


@pytest.fixture
def untrained(_untrained: Policy) -> Policy:
    """A policy with random weights."""
    return copied(_untrained)


@pytest.fixture
def policy(_trained: Policy) -> Policy:
    """A policy that mostly writes valid calls: what it says is poor, so its replies vary in length and some are cut."""
    return copied(_trained)


@pytest.fixture(scope="session")
def two_gyms(tmp_path_factory: pytest.TempPathFactory, experts: list[Episode]) -> Path:
    """Folder of a policy that mostly writes valid calls in two gyms, intention and telepathy."""
    from userrl.agents.policy import set_threads
    from userrl.agents.tiny import Shape, new_policy
    from userrl.gyms.base import gym_of
    from userrl.train.sft import SFTConfig, train

    set_threads(1)
    gym = make("telepathy")
    both = [*experts, *run(starts(gym.tasks("train")[:60], max_turns=3), gym.expert(0.8), gym.cast())]
    policy = new_policy(both, Shape(hidden=32, layers=1, heads=2, feed_forward=32, vocabulary=500), seed=0)
    train(policy, [policy.tokens(e, gym_of(e)) for e in both], SFTConfig(steps=80, lr=2e-2, warmup=5))
    folder = tmp_path_factory.mktemp("two-gyms")
    policy.save(folder)
    return folder


def copied(policy: Policy) -> Policy:
    from userrl.agents.policy import Policy

    return Policy(copy.deepcopy(policy.model), policy.tokenizer)
