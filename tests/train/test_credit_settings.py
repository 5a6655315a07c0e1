"""The settings credit, score and estimator reach the trainer's advantages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import userrl.train.grpo as grpo
from userrl.agents.policy import Policy
from userrl.config import resolve
from userrl.core import Action, Episode, Task, Tokens, Turn
from userrl.errors import ConfigError, UnknownName
from userrl.rewards import ESTIMATORS, SCORES
from userrl.rewards.base import Array
from userrl.train.grpo import GRPOConfig, Push, check


def played(attempt: int, *rewards: float, done: bool) -> Episode:
    turns = [
        Turn(Action("ask", tokens=Tokens((1,), (2, 3), (-0.5, -0.5))), "", reward, facts={"covered": [i]})
        for i, reward in enumerate(rewards)
    ]
    return Episode(Task("t", "turtle", "p"), tuple(turns), "done" if done else "turn_limit", attempt=attempt)


PLAYED: Sequence[Episode] = [played(0, 0.0, 1.0, done=True), played(1, 0.5, done=False), played(2, 0.0, 0.0, done=False)]
UNEVEN = [played(0, 0.2, 1.0, done=True), played(1, 0.1, 0.4, done=False), played(2, 0.0, done=False)]


def advantages_of(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, episodes: Sequence[Episode] = PLAYED, **fields: Any
) -> list[Array]:
    found: list[list[Array]] = []

    def watched(*args: Any, **options: Any) -> list[Array]:
        found.append(plain(*args, **options))
        return found[-1]

    plain = grpo.advantages
    monkeypatch.setattr(grpo, "advantages", watched)
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


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({"credit_sign": "directional"}, {}),
        ({"credit": "em", "em_k": 8.0}, {"credit": "em"}),
        ({"compat": "userrl"}, {}),
        ({"score": "composite", "estimator": "dr_grpo", "turn_cost": 0.9}, {"score": "composite", "estimator": "dr_grpo"}),
    ],
)
def test_the_settings_that_verl_has_reach_the_local_trainer(
    untrained: Policy, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], plain: dict[str, Any]
) -> None:
    config = resolve(GRPOConfig, None, {"credit": "naive", **settings})
    given = {name: getattr(config, name) for name in ("credit", *settings)}
    found = advantages_of(untrained, monkeypatch, UNEVEN, **given)
    assert str(found) != str(advantages_of(untrained, monkeypatch, UNEVEN, **{"credit": "naive", **plain}))


def test_under_compat_an_episode_without_reward_is_not_pushed_down_and_one_left_alone_keeps_its_score(
    untrained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, unrewarded = advantages_of(untrained, monkeypatch, credit="naive", compat="userrl")
    assert unrewarded.tolist() == [0.0, 0.0]
    optimizer = grpo.torch.optim.AdamW(untrained.model.parameters(), lr=1e-4)
    episodes = [played(0, 0.5, done=False), played(1, 0.0, done=False).fail("user: gone")]
    config = {"updates": 1, "lr": 0.0001}
    assert grpo.update(untrained, optimizer, episodes, GRPOConfig(**config), 0).push == Push(1.0, 0.0, 0.0)
    alone = grpo.update(untrained, optimizer, episodes, GRPOConfig(**config, compat="userrl"), 0).push
    assert alone == Push(0.0, pytest.approx(0.5, abs=1e-5), 0.0)


def test_what_is_refused_names_the_near_miss_or_what_is_passed_over() -> None:
    with pytest.raises(UnknownName, match=r"No turn credit named 'equalised'. Did you mean 'equalized'"):
        resolve(GRPOConfig, None, {"credit": "equalised"})
    for settings in ({"credit": "naive"}, {"score": "mean"}):
        with pytest.raises(ConfigError, match="the estimator 'mt_grpo' makes no use of it"):
            check(resolve(GRPOConfig, None, {"estimator": "mt_grpo", **settings}))
    check(GRPOConfig(estimator="mt_grpo"))


def test_the_push_counts_the_tokens_of_all_episodes_that_could_be_compared() -> None:
    worth, tokens = [np.array([0.0, 2.0]), np.array([-1.0]), np.array([0.0])], [[5, 1], [2], [2]]
    assert Push.of(worth, tokens) == Push(zero=0.7, up=0.2, down=-0.2)
    assert Push.of([], []) == Push(1.0, 0.0, 0.0)


def test_the_norm_over_a_whole_episode_reaches_the_local_trainer(untrained: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    credited, whole = (advantages_of(untrained, monkeypatch, credit="naive", credit_norm=n) for n in ("credited", "episode"))
    assert whole[0].tolist() == pytest.approx([0.0, 2 * credited[0][1]])
