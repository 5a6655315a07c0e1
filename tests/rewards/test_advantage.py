"""Advantages within a group and their spread over turns, each rule with the case that it is for."""

from collections.abc import Hashable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from userrl.errors import ConfigError, DataError, UnknownName
from userrl.rewards import CREDITS, advantages, group_advantages, per_token, turn_advantages
from userrl.rewards.advantage import Compat, CreditSign

Batch = tuple[list[float], list[int]]
Spread = tuple[list[float], list[int]]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Scores and groups, at least two episodes in each group, in any order."""
    sizes = draw(st.lists(st.integers(2, 6), min_size=1, max_size=4))
    groups = draw(st.permutations([group for group, size in enumerate(sizes) for _ in range(size)]))
    scores = draw(st.lists(st.integers(-100, 100).map(lambda n: n / 100), min_size=len(groups), max_size=len(groups)))
    return scores, list(groups)


@st.composite
def spreads(draw: st.DrawFn) -> Spread:
    """Credits and policy tokens of an episode's turns, with at least one token."""
    turns = draw(st.integers(1, 12))
    credits = draw(st.lists(st.integers(-20, 20).map(lambda n: n / 10), min_size=turns, max_size=turns))
    tokens = draw(st.lists(st.integers(0, 30), min_size=turns, max_size=turns))
    assume(any(tokens))
    return credits, tokens


# --- within a group ----------------------------------------------------------------------------------------


def test_an_advantage_is_the_distance_from_the_group_mean_over_the_sample_deviation() -> None:
    got = group_advantages([0.0, 1.0, 2.0, 5.0, 7.0], ["a", "a", "a", "b", "b"])
    assert_allclose(got, [-1.0, 0.0, 1.0, -(2**-0.5), 2**-0.5], atol=2e-6)


def test_without_scaling_scores_are_only_centered() -> None:
    assert group_advantages([0.0, 1.0, 5.0, 9.0], ["a", "a", "b", "b"], scale=False).tolist() == [-0.5, 0.5, -2.0, 2.0]


@pytest.mark.parametrize("scale", [True, False])
@given(batch=batches())
def test_advantages_of_a_group_sum_to_zero(scale: bool, batch: Batch) -> None:
    scores, groups = batch
    got = group_advantages(scores, groups, scale=scale)
    for group in set(groups):
        assert got[np.array(groups) == group].sum() == pytest.approx(0.0, abs=1e-9)


@given(batch=batches(), by=st.integers(-5, 5))
def test_adding_a_constant_to_all_scores_changes_no_advantage(batch: Batch, by: int) -> None:
    scores, groups = batch
    assert_allclose(group_advantages(np.array(scores) + by, groups), group_advantages(scores, groups), atol=1e-7)


@given(batch=batches(), by=st.integers(2, 50))
def test_multiplying_all_scores_matters_only_without_scaling(batch: Batch, by: int) -> None:
    scores, groups = batch
    plain, large = group_advantages(scores, groups), group_advantages(np.array(scores) * by, groups)
    assert_allclose(large, plain, rtol=1e-3, atol=1e-12)
    centered = group_advantages(scores, groups, scale=False)
    assert_allclose(group_advantages(np.array(scores) * by, groups, scale=False), centered * by, atol=1e-9)


@given(batch=batches())
def test_the_order_of_episodes_and_the_names_of_groups_do_not_matter(batch: Batch) -> None:
    scores, groups = batch
    order = np.argsort(scores, kind="stable")
    names: list[Hashable] = [("task", groups[i]) for i in order]
    assert_allclose(group_advantages(np.array(scores)[order], names), group_advantages(scores, groups)[order], atol=1e-12)


@pytest.mark.parametrize("scores", [[0.1 + 0.2, 0.3, 0.3], [0.7] * 7, [0.0, 0.0], [1e6, 1e6 + 1e-3]])
@pytest.mark.parametrize("compat", [None, "userrl"])
def test_equal_scores_give_exactly_zero_and_no_rounding_noise(scores: list[float], compat: Compat | None) -> None:
    assert group_advantages(scores, ["a"] * len(scores), compat=compat).tolist() == [0.0] * len(scores)


def test_a_small_true_difference_is_kept() -> None:
    assert group_advantages([0.0, 1e-3], ["a", "a"])[1] > 0.7


def test_a_group_of_one_gets_zero_and_a_warning() -> None:
    with pytest.warns(UserWarning, match="1 of 2 groups have one episode"):
        got = group_advantages([0.7, 0.0, 1.0], ["alone", "a", "a"])
    assert got[0] == 0.0 and got[2] > 0.7


def test_under_compat_a_group_of_one_keeps_its_score() -> None:
    assert_allclose(group_advantages([0.7], ["alone"], compat="userrl"), [0.7], atol=1e-6)
    assert group_advantages([0.7], ["alone"], scale=False, compat="userrl").tolist() == [0.7]


# --- over turns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["plain", "directional"])
@given(spread=spreads(), advantage=st.integers(-30, 30).map(lambda n: n / 10))
def test_the_mean_over_policy_tokens_with_credit_is_the_advantage(sign: CreditSign, spread: Spread, advantage: float) -> None:
    credits, tokens = spread
    [got] = turn_advantages([advantage], [credits], [tokens], credit_sign=sign)
    credited = np.array(tokens)[got != 0].sum()
    assert got @ tokens == pytest.approx(advantage * credited, abs=1e-9)
    assert credited > 0 or advantage == 0


@given(spread=spreads(), advantage=st.integers(1, 30))
def test_no_turn_is_pushed_against_the_sign_of_its_episode(spread: Spread, advantage: int) -> None:
    credits, tokens = spread
    up, down = turn_advantages([advantage, -advantage], [credits] * 2, [tokens] * 2)
    assert (up >= 0).all() and (down <= 0).all()


@given(spread=spreads(), by=st.integers(2, 9))
def test_only_the_proportions_of_the_credits_count(spread: Spread, by: int) -> None:
    credits, tokens = spread
    once, scaled = turn_advantages([1.0, 1.0], [credits, np.array(credits) * by], [tokens] * 2)
    assert_allclose(scaled, once, atol=1e-9)


@given(spread=spreads())
def test_equalized_credit_gives_every_turn_the_advantage_of_its_episode(spread: Spread) -> None:
    _, tokens = spread
    [got] = turn_advantages([1.5], [CREDITS["equalized"](tokens)], [tokens])
    assert got.tolist() == [1.5 if n else 0.0 for n in tokens]


def test_turns_share_the_advantage_by_credit_and_by_tokens() -> None:
    [got] = turn_advantages([2.0], [[1.0, 3.0, 0.0]], [[10, 10, 80]])
    assert got.tolist() == [1.0, 3.0, 0.0]
    [got] = turn_advantages([2.0], [[1.0, 3.0, 0.0]], [[30, 10, 80]])
    assert_allclose(got, [2 * 40 / 60, 2 * 120 / 60, 0.0])


@pytest.mark.parametrize("advantage", [-1.2, 0.4])
def test_an_episode_without_any_credit_spreads_its_advantage_evenly(advantage: float) -> None:
    [got] = turn_advantages([advantage], [[0.0, 0.0, 0.0]], [[3, 0, 9]])
    assert got.tolist() == [advantage, 0.0, advantage]


def test_under_compat_an_episode_without_any_credit_is_never_pushed_down() -> None:
    [got] = turn_advantages([-1.2], [[0.0, 0.0]], [[3, 9]], compat="userrl")
    assert got.tolist() == [0.0, 0.0]


def test_credit_on_turns_without_policy_tokens_counts_as_none() -> None:
    [got] = turn_advantages([-1.0], [[0.0, 5.0]], [[4, 0]])
    assert got.tolist() == [-1.0, 0.0]


def test_negative_credits_are_shifted_so_that_the_worst_turn_gets_none() -> None:
    [got] = turn_advantages([1.0], [[-0.5, 0.0, 1.0]], [[10, 10, 10]])
    assert got.tolist() == [0.0, 0.5, 1.5]


def test_under_compat_negative_credits_flip_the_sign_as_in_the_original() -> None:
    [got] = turn_advantages([1.0], [[-2.0, 1.0]], [[10, 10]], compat="userrl")
    assert got.tolist() == [4.0, -2.0]


def test_under_compat_credits_that_cancel_up_to_rounding_give_zero() -> None:
    [got] = turn_advantages([1.0], [[0.1 + 0.2, -0.3]], [[10, 10]], compat="userrl")
    assert got.tolist() == [0.0, 0.0]


def test_directional_credit_punishes_the_worst_turn_of_a_bad_episode_most() -> None:
    credits, tokens = [[0.2, 1.0]] * 2, [[5, 5]] * 2
    plain = turn_advantages([-1.0, 1.0], credits, tokens)
    turned = turn_advantages([-1.0, 1.0], credits, tokens, credit_sign="directional")
    assert plain[0][1] < plain[0][0] < 0
    assert_allclose(turned[0], plain[0][::-1])
    assert turned[1].tolist() == plain[1].tolist()


def test_an_unknown_credit_sign_is_refused() -> None:
    with pytest.raises(ConfigError, match="'up'; expected 'plain' or 'directional'"):
        turn_advantages([1.0], [[1.0]], [[1]], credit_sign="up")  # type: ignore[arg-type]


def test_directional_credit_under_compat_is_refused_instead_of_passed_over() -> None:
    with pytest.raises(ConfigError, match="leave out either"):
        turn_advantages([1.0], [[1.0]], [[1]], credit_sign="directional", compat="userrl")


# --- the front door ----------------------------------------------------------------------------------------


def test_the_front_door_scores_compares_and_spreads() -> None:
    rewards, tokens = [[0.0, 1.0], [0.0], [0.5, 0.0]], [[4, 4], [7], [2, 6]]
    got = advantages(rewards, ["t"] * 3, tokens, credit="r2g", score="sum", gamma=0.5, scale=False)
    assert_allclose(got[0], [0.5 * 2 / 3, 0.5 * 4 / 3])
    assert_allclose(got[1], [-0.5])
    assert_allclose(got[2], [0.0, 0.0])


def test_the_front_door_takes_success_for_the_composite_score() -> None:
    got = advantages([[0.0], [0.0]], ["t", "t"], [[1], [1]], score="composite", success=[1.0, 0.0], scale=False)
    assert [row.tolist() for row in got] == [[0.5], [-0.5]]
    with pytest.raises(DataError, match="2 episodes but 1 entries of `success`"):
        advantages([[0.0], [0.0]], ["t", "t"], [[1], [1]], score="composite", success=[1.0])


def test_an_empty_batch_has_no_advantages() -> None:
    assert advantages([], [], []) == []


def test_a_turn_without_tokens_counts_in_the_score_and_gets_no_advantage() -> None:
    got = advantages([[1.0, 0.0], [0.0, 0.0]], ["t", "t"], [[3, 0], [0, 3]], score="mean", scale=False)
    assert [row.tolist() for row in got] == [[0.25, 0.0], [0.0, -0.25]]


@pytest.mark.parametrize(("what", "name"), [("credit", "equalised"), ("score", "means")])
def test_a_misspelt_scheme_is_answered_with_its_near_miss(what: str, name: str) -> None:
    with pytest.raises(UnknownName, match=r"Did you mean '(equalized|mean)'"):
        advantages([[1.0]], ["t"], [[1]], **{what: name})  # type: ignore[arg-type]


def test_an_unknown_compat_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="'verl'; expected 'userrl'"):
        advantages([[1.0], [1.0]], ["t", "t"], [[1], [1]], compat="verl")  # type: ignore[arg-type]


def test_rewards_that_do_not_fit_the_turns_are_refused_by_default_and_padded_under_compat() -> None:
    with pytest.raises(DataError, match="Episode 0 has 1 rewards but token counts for 2 turns"):
        advantages([[1.0], [0.0]], ["t", "t"], [[1, 1], [1]])
    got = advantages([[1.0], [0.0, 0.0]], ["t", "t"], [[1, 1], [1]], scale=False, compat="userrl")
    assert [row.tolist() for row in got] == [[0.5, 0.0], [-0.5]]


def test_a_reward_that_is_no_number_is_refused_with_its_episode() -> None:
    with pytest.raises(DataError, match="Episode 1 has a reward that is not finite"):
        advantages([[1.0], [float("nan")]], ["t", "t"], [[1], [1]])


def test_batches_of_unequal_length_are_refused() -> None:
    with pytest.raises(DataError, match="1 episodes, 2 groups"):
        advantages([[1.0]], ["t", "t"], [[1]])


# --- over tokens -------------------------------------------------------------------------------------------


def test_per_token_values_follow_the_turn_of_each_token() -> None:
    got = per_token([[1.0, 2.0], [3.0]], [[-1, 0, 0, -1, 1], [0, -1, -1, -1, -1]])
    assert got.tolist() == [[0.0, 1.0, 1.0, 0.0, 2.0], [3.0, 0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("turns", [[[0, 1]], [[-2, 0]]])
def test_per_token_refuses_a_turn_that_the_episode_does_not_have(turns: list[list[int]]) -> None:
    with pytest.raises(DataError, match="a turn that its episode does not have"):
        per_token([[1.0]], turns)


@given(data=st.data(), counts=st.lists(st.integers(0, 3), max_size=4), length=st.integers(0, 6))
def test_per_token_looks_up_each_token_also_where_rows_meet(data: st.DataObject, counts: list[int], length: int) -> None:
    values = [[float(10 * i + t + 1) for t in range(n)] for i, n in enumerate(counts)]
    index = [[data.draw(st.integers(-1, n - 1)) for _ in range(length)] for n in counts]
    got = per_token(values, np.array(index, dtype=np.int8).reshape(len(counts), length), np.float32)
    assert got.dtype == np.float32
    assert got.tolist() == [[v[t] if t >= 0 else 0.0 for t in row] for v, row in zip(values, index, strict=True)]


def test_per_token_refuses_turns_that_are_no_integers() -> None:
    with pytest.raises(DataError, match="holds float64; expected integers"):
        per_token([[1.0]], [[0.5]])


def test_the_sum_over_an_episode_counts_the_tokens_of_credited_turns_or_all() -> None:
    """Tokens 20 and 8, of which the last turn alone has credit."""
    tokens, of_episode = [[20, 8]], [1.0]
    [credited] = turn_advantages(of_episode, [[0.0, 1.0]], tokens)
    [whole] = turn_advantages(of_episode, [[0.0, 1.0]], tokens, credit_norm="episode")
    assert credited.tolist() == [0.0, 1.0]
    assert whole.tolist() == [0.0, 28 / 8]
    [near] = turn_advantages(of_episode, [[1e-9, 1.0]], tokens)
    assert near.tolist() == pytest.approx(whole.tolist(), abs=1e-7), "without a jump where a credit becomes 0"


def test_the_norm_of_an_episode_is_that_of_credited_turns_where_all_turns_have_credit() -> None:
    given = ([0.5], [[0.2, 0.7, 0.1]], [[3, 4, 5]])
    assert turn_advantages(*given, credit_norm="episode")[0].tolist() == turn_advantages(*given)[0].tolist() != [0.5] * 3


def test_numbers_out_of_range_are_refused() -> None:
    given = ([[1.0], [0.0]], [0, 0])
    for gamma in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"`gamma` is .*; expected a discount from 0 to 1"):
            advantages(*given, [[1], [1]], gamma=gamma)
    with pytest.raises(ConfigError, match="`em_k` is 0"):
        advantages(*given, [[1], [1]], credit="em", em_k=0)
    with pytest.raises(DataError, match="Episode 1 has a turn of -2 policy tokens"):
        advantages(*given, [[1], [-2]])
    with pytest.raises(ConfigError, match="`credit_norm` is 'all'; expected 'credited' or 'episode'"):
        advantages(*given, [[1], [1]], credit_norm="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`credit_norm` is 'episode', which the original does not have"):
        advantages(*given, [[1], [1]], credit_norm="episode", compat="userrl")
