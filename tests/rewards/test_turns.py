"""Turn credits and trajectory scores: their values by hand, their bounds, and what compat changes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from userrl.errors import ConfigError
from userrl.rewards import CREDITS, SCORES
from userrl.rewards.credits.em import em
from userrl.rewards.credits.equalized import equalized
from userrl.rewards.credits.naive import naive
from userrl.rewards.credits.r2g import r2g

shares = st.lists(st.floats(0, 1), max_size=20)
signed = st.lists(st.floats(-1, 1), max_size=20)
gammas = st.floats(0, 1)


def test_credits_of_a_short_episode_are_those_worked_out_by_hand() -> None:
    rewards = [0.0, 0.5, 1.0]
    assert naive(rewards).tolist() == rewards
    assert equalized(rewards).tolist() == [1.0, 1.0, 1.0]
    assert r2g(rewards, gamma=0.5).tolist() == [0.5, 1.0, 1.0]
    assert em(rewards).tolist() == pytest.approx([0.5, 0.5 + 0.5 * (1 - math.exp(-1)) / (1 - math.exp(-2)), 1.0])


def test_scores_of_a_short_episode_are_those_worked_out_by_hand() -> None:
    rewards = [0.0, 0.5, 1.0]
    assert SCORES["sum"](rewards) == 1.5
    assert SCORES["mean"](rewards) == 0.5
    assert SCORES["r2g"](rewards, gamma=0.5) == 0.5
    assert SCORES["composite"](rewards, success=1.0, max_turns=10, turn_cost=0.2) == pytest.approx(0.94)


def test_gamma_is_0_8_unless_told() -> None:
    assert r2g([0.0, 1.0]).tolist() == [0.8, 1.0]
    assert SCORES["r2g"]([0.0, 1.0]) == 0.8


def test_compat_rounds_em_and_mean_to_four_decimals_and_leaves_the_sum_a_sum() -> None:
    assert em([0.2], compat="userrl").tolist() == [0.6906]
    assert em([0.2]).tolist() != [0.6906]
    assert SCORES["mean"]([0.0, 0.0, 1.0], compat="userrl") == 0.3333
    assert SCORES["sum"]([0.25, 0.25], compat="userrl") == 0.5


def test_a_composite_score_without_success_is_refused_because_rewards_do_not_say() -> None:
    with pytest.raises(ConfigError, match="needs `success`"):
        SCORES["composite"]([1.0])


@pytest.mark.parametrize("name", CREDITS)
@given(rewards=signed, gamma=gammas)
def test_every_credit_scheme_gives_one_finite_credit_per_turn(name: str, rewards: list[float], gamma: float) -> None:
    credits = CREDITS[name](rewards, gamma=gamma)
    assert credits.shape == (len(rewards),)
    assert np.isfinite(credits).all()


@pytest.mark.parametrize("name", CREDITS)
@given(rewards=signed)
def test_a_credit_scheme_leaves_the_rewards_it_was_given_alone(name: str, rewards: list[float]) -> None:
    given_rewards = np.array(rewards)
    CREDITS[name](given_rewards)[...] = 7.0
    assert given_rewards.tolist() == rewards


@given(rewards=signed, gamma=gammas)
def test_reward_to_go_of_the_first_turn_is_the_r2g_score(rewards: list[float], gamma: float) -> None:
    expected = r2g(rewards, gamma=gamma)[0] if rewards else 0.0
    assert SCORES["r2g"](rewards, gamma=gamma) == pytest.approx(expected)


@given(rewards=signed)
def test_without_discount_the_r2g_score_is_the_sum_and_the_mean_is_its_share(rewards: list[float]) -> None:
    assert SCORES["r2g"](rewards, gamma=1.0) == pytest.approx(SCORES["sum"](rewards), abs=1e-12)
    assert SCORES["mean"](rewards) * len(rewards) == pytest.approx(SCORES["sum"](rewards), abs=1e-12)


@given(rewards=shares)
def test_em_keeps_half_the_credit_of_a_zero_reward_and_never_passes_one(rewards: list[float]) -> None:
    credits = em(rewards)
    assert ((credits >= 0.5) & (credits <= 1.0)).all()
    assert (np.diff(em(sorted(rewards))) >= 0).all()
