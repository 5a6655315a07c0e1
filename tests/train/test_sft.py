"""Fine-tuning: the loss is the mean over the agent's tokens, falls, and depends on the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from userrl.agents.policy import Policy
from userrl.core import Tokens
from userrl.errors import ConfigError
from userrl.train.batch import batch, logprobs
from userrl.train.sft import SFTConfig, schedule, train

Corpus = Sequence[Sequence[Tokens]]


def losses(policy: Policy, data: Corpus, config: SFTConfig) -> list[float]:
    seen: list[tuple[int, float]] = []
    train(policy, data, config, on_step=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == list(range(1, config.steps + 1))
    return [loss for _, loss in seen]


def mean_loss(policy: Policy, data: Corpus) -> float:
    with torch.no_grad():
        chosen, _ = logprobs(policy, batch(data, policy.eos))
    return -chosen.mean().item()


def test_the_loss_of_a_step_is_the_mean_over_the_tokens_of_its_episodes(untrained: Policy, corpus: Corpus) -> None:
    expected = mean_loss(untrained, random.Random("sft|3|0").sample(corpus, 4))
    [loss] = losses(untrained, corpus, SFTConfig(steps=1, batch_size=4, seed=3))
    assert loss == pytest.approx(expected, abs=1e-6)


def test_fine_tuning_lowers_the_loss_on_what_the_agent_writes(untrained: Policy, corpus: Corpus) -> None:
    before = mean_loss(untrained, corpus)
    seen = losses(untrained, corpus, SFTConfig(steps=30, lr=1e-2, warmup=5))
    assert mean_loss(untrained, corpus) < 0.6 * before
    assert sum(seen[-5:]) < sum(seen[:5])
    assert not untrained.model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(untrained: Policy, corpus: Corpus) -> None:
    start = {name: value.clone() for name, value in untrained.model.state_dict().items()}
    weights = []
    for seed in (0, 0, 1):
        untrained.model.load_state_dict(start)
        train(untrained, corpus, SFTConfig(steps=3, seed=seed))
        weights.append({name: value.clone() for name, value in untrained.model.state_dict().items()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in start)
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in start)


def test_a_batch_larger_than_the_data_takes_all_of_it(untrained: Policy, corpus: Corpus) -> None:
    expected = mean_loss(untrained, corpus[:3])
    [loss] = losses(untrained, corpus[:3], SFTConfig(steps=1, batch_size=64))
    assert loss == pytest.approx(expected, abs=1e-6)


def test_episodes_longer_than_the_models_window_are_counted_and_refused(untrained: Policy, corpus: Corpus) -> None:
    long = [[*turns] * 9 for turns in corpus[:2]]
    most = max(sum(len(t.context) + len(t.ids) for t in turns) for turns in long)
    said = rf"2 of 5 episodes are longer than the model's window of 640 tokens \(the longest has {most}\)\. .*--max-turns"
    with pytest.raises(ConfigError, match=said):
        train(untrained, [*corpus[2:5], *long], SFTConfig(steps=1))


def test_without_episodes_there_is_nothing_to_train_on(untrained: Policy) -> None:
    with pytest.raises(ConfigError, match="no episodes to train on; collect some with `userrl sft collect`"):
        train(untrained, [], SFTConfig())


def test_the_learning_rate_rises_linearly_then_falls_along_a_cosine() -> None:
    rates = [schedule(step, warmup=4, steps=12) for step in range(12)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[8] == pytest.approx(0.1 + 0.9 * 0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True) and 0.1 < rates[-1] < 0.2
    assert [schedule(step, 0, 10, floor=1.0) for step in range(10)] == [1.0] * 10
