"""The settings credit, score and estimator reach the trainer's advantages."""

from collections.abc import Sequence
from typing import Any

import pytest

import userrl.train.grpo as grpo
from userrl.agents.policy import Policy
from userrl.core import Action, Episode, Task, Tokens, Turn
from userrl.rewards import ESTIMATORS, SCORES
from userrl.rewards.base import Array
from userrl.train.grpo import GRPOConfig


def played(attempt: int, *rewards: float, done: bool) -> Episode:
    turns = [
        Turn(Action("ask", tokens=Tokens((1,), (2, 3), (-0.5, -0.5))), "", reward, facts={"covered": [i]})
        for i, reward in enumerate(rewards)
    ]
    return Episode(Task("t", "turtle", "p"), tuple(turns), "done" if done else "turn_limit", attempt=attempt)


def advantages_of(policy: Policy, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[Array]:
    found: list[list[Array]] = []

    def watched(*args: Any, **options: Any) -> list[Array]:
        found.append(plain(*args, **options))
        return found[-1]

    plain = grpo.advantages
    monkeypatch.setattr(grpo, "advantages", watched)
    episodes: Sequence[Episode] = [played(0, 0.0, 1.0, done=True), played(1, 0.5, done=False), played(2, 0.0, 0.0, done=False)]
    config = GRPOConfig(updates=1, lr=0.0001, **fields)
    optimizer = grpo.torch.optim.AdamW(policy.model.parameters(), lr=config.lr)
    grpo.update(policy, optimizer, [*episodes, played(3, 9.0, done=True).fail("user: gone")], config, 0)
    [rows] = found
    monkeypatch.setattr(grpo, "advantages", plain)
    return rows


def test_every_estimator_and_score_trains_and_each_estimator_differs(untrained: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: advantages_of(untrained, monkeypatch, estimator=name) for name in ESTIMATORS}
    assert all([len(row) for row in rows] == [2, 1, 2] for rows in found.values()), "the failed episode is left out"
    assert len({str(rows) for rows in found.values()}) == len(ESTIMATORS)
    for score in SCORES:
        assert len(advantages_of(untrained, monkeypatch, score=score)) == 3


def test_the_composite_score_prefers_what_the_gym_calls_solved(untrained: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    solved, *others = advantages_of(untrained, monkeypatch, score="composite", estimator="dr_grpo")
    assert (solved > 0.6).all() and all((row < 0).all() for row in others)
