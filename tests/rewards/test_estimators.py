"""Estimators: what each compares, worked out by hand, and what all of them keep to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from userrl.core import Action, Episode, Task, Turn
from userrl.errors import ConfigError, DataError, UnknownName
from userrl.rewards import CREDITS, ESTIMATORS, SCORES, advantages, comparable
from userrl.rewards.base import read_by
from userrl.rewards.estimators.batch import Worth
from userrl.rewards.estimators.gigpo import gym_states

Episodes = tuple[list[list[float]], list[int]]
EPISODE_LEVEL = ("grpo", "dr_grpo", "rloo")
SCALED = ("grpo", "mt_grpo", "gigpo")


@st.composite
def batches(draw: st.DrawFn) -> Episodes:
    """Rewards of episodes of 1 to 4 turns, and their groups of at least two, in any order."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    groups = draw(st.permutations([group for group, size in enumerate(sizes) for _ in range(size)]))
    reward = st.integers(-10, 10).map(lambda n: n / 10)
    rewards = draw(st.lists(st.lists(reward, min_size=1, max_size=4), min_size=len(groups), max_size=len(groups)))
    return rewards, list(groups)


def worth(rewards: list[list[float]], groups: list[int], estimator: str, scale: bool = True, **more: str) -> list[np.ndarray]:
    """Every turn has one token; the state is the turn's number, so that states are met again."""
    states = [list(range(len(r))) for r in rewards]
    ones = [[1] * len(r) for r in rewards]
    return advantages(rewards, groups, ones, estimator=estimator, gamma=1.0, scale=scale, states=states, **more)  # type: ignore[arg-type]


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    got = worth([[1.0], [0.0], [0.5]], [0, 0, 0], "rloo")
    assert_allclose([row[0] for row in got], [1 - 0.25, 0 - 0.75, 0.5 - 0.5])


def test_dr_grpo_is_grpo_that_only_centers() -> None:
    rewards, groups = [[1.0], [0.0, 0.5], [0.25]], [0, 0, 0]
    for ours, theirs in zip(worth(rewards, groups, "dr_grpo"), worth(rewards, groups, "grpo", scale=False), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_mt_grpo_compares_each_turn_with_the_same_turn_of_the_others_and_sums_what_is_to_come() -> None:
    got = worth([[0.0, 1.0], [1.0, 0.0], [0.5]], [0, 0, 0], "mt_grpo", scale=False)
    assert [row.tolist() for row in got] == [[0.0, 0.5], [0.0, -0.5], [0.0]]
    got = worth([[0.0, 1.0], [1.0]], [0, 0], "mt_grpo", scale=False)
    assert [row.tolist() for row in got] == [[-0.5, 0.0], [0.5]], "a turn that one episode alone reached adds nothing"


def test_gigpo_adds_the_comparison_of_turns_taken_in_the_same_state() -> None:
    rewards, ones = [[0.0, 1.0], [0.0, 0.0], [0.5]], [[1, 1], [1, 1], [1]]
    states = [["start", "door"], ["start", "hall"], ["start"]]
    got = advantages(rewards, ["t"] * 3, ones, estimator="gigpo", score="sum", gamma=1.0, scale=False, states=states)
    assert [row.tolist() for row in got] == [[0.5 + 0.5, 0.5], [-0.5 - 0.5, -0.5], [0.0]]


def test_gigpo_does_not_compare_the_same_state_of_two_tasks() -> None:
    got = advantages([[1.0], [1.0], [0.0], [0.0]], [0, 0, 1, 1], [[1]] * 4, estimator="gigpo", states=[["start"]] * 4)
    assert [row.tolist() for row in got] == [[0.0]] * 4


def test_gigpo_without_states_or_with_states_that_do_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs `states`"):
        advantages([[1.0], [0.0]], [0, 0], [[1], [1]], estimator="gigpo")
    with pytest.raises(DataError, match="one state for each turn"):
        advantages([[1.0], [0.0]], [0, 0], [[1], [1]], estimator="gigpo", states=[["a"], ["a", "b"]])


def test_the_state_of_a_gym_is_what_it_noted_and_showed_before_the_turn_whatever_the_order() -> None:
    task = Task("t", "g", "")
    a = Turn(Action("x"), "", facts={"covered": [0]})
    b = Turn(Action("x"), "", reveals=("secret",))
    nothing = Turn(Action("x"), "tell me more")
    one, other = (gym_states(Episode(task, turns)) for turns in ((a, b, nothing, a), (b, nothing, a, a)))
    assert one[0] == other[0] and one[1] != other[1]
    assert one[2] == one[3] == other[3]
    assert gym_states(Episode(task)) == []


def test_a_misspelt_estimator_is_answered_with_its_near_miss() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'rloo'"):
        advantages([[1.0], [0.0]], [0, 0], [[1], [1]], estimator="rlo")


def test_an_estimator_that_the_original_lacks_is_refused_under_compat() -> None:
    with pytest.raises(ConfigError, match="which the original does not have"):
        advantages([[1.0], [0.0]], [0, 0], [[1], [1]], estimator="rloo", compat="userrl")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"credit": "naive"}, "`credit` is 'naive', but the estimator 'mt_grpo' makes no use of it"),
        ({"score": "mean"}, "`score` is 'mean', but the estimator 'mt_grpo' makes no use of it"),
        ({"credit_sign": "directional"}, "`credit_sign` is 'directional', but"),
        ({"credit_norm": "episode"}, "`credit_norm` is 'episode', but"),
    ],
)
def test_a_setting_that_the_estimator_makes_no_use_of_is_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        worth([[1.0], [0.0]], [0, 0], "mt_grpo", **settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Worth(np.zeros(3)), r"estimator 'own' gives the shape \(3,\); expected \(2,\)"),
        (Worth(np.array([0.0, np.nan])), "estimator 'own' gives nan; expected finite numbers"),
        (Worth(np.zeros(2), np.zeros((2, 5))), r"gives the shape \(2, 5\); expected \(2, 1\)"),
    ],
)
def test_what_an_own_estimator_gets_wrong_is_named(given: Worth, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "own", lambda batch, /, **_: given)
    with pytest.raises(ConfigError, match=said):
        worth([[1.0], [0.0]], [0, 0], "own")


@pytest.mark.parametrize("estimator", EPISODE_LEVEL)
@given(batch=batches())
def test_advantages_of_a_groups_episodes_sum_to_zero(estimator: str, batch: Episodes) -> None:
    rewards, groups = batch
    got = worth(rewards, groups, estimator)
    for group in set(groups):
        assert sum(row.mean() for row, g in zip(got, groups, strict=True) if g == group) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("scale", [True, False])
@given(batch=batches())
def test_mt_grpo_advantages_sum_to_zero_over_the_last_turn_of_a_group(scale: bool, batch: Episodes) -> None:
    rewards, groups = batch
    got = worth(rewards, groups, "mt_grpo", scale)
    for group in set(groups):
        mine = [row for row, g in zip(got, groups, strict=True) if g == group]
        last = max(map(len, mine)) - 1
        assert sum(row[last] for row in mine if len(row) > last) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("estimator", EPISODE_LEVEL)
@given(batch=batches(), by=st.integers(-5, 5))
def test_a_bonus_that_every_episode_gets_at_its_first_turn_changes_nothing(estimator: str, batch: Episodes, by: int) -> None:
    rewards, groups = batch
    shifted = [[r[0] + by, *r[1:]] for r in rewards]
    for a, b in zip(worth(rewards, groups, estimator), worth(shifted, groups, estimator), strict=True):
        assert_allclose(b, a, atol=1e-7)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(batch=batches(), by=st.integers(2, 50))
def test_multiplying_all_rewards_matters_only_without_scaling(estimator: str, batch: Episodes, by: int) -> None:
    rewards, groups = batch
    more = [[r * by for r in row] for row in rewards]
    factor = {True: 1 if estimator in SCALED else by, False: by}
    for scale in (True, False):
        for a, b in zip(worth(rewards, groups, estimator, scale), worth(more, groups, estimator, scale), strict=True):
            assert_allclose(b, a * factor[scale], rtol=1e-3, atol=1e-3 if scale else 1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(batch=batches())
def test_the_order_of_the_episodes_does_not_matter(estimator: str, batch: Episodes) -> None:
    rewards, groups = batch
    back = worth(rewards[::-1], groups[::-1], estimator)
    for a, b in zip(worth(rewards, groups, estimator), back[::-1], strict=True):
        assert_allclose(b, a, atol=1e-9)


@pytest.mark.parametrize(
    ("estimator", "credit"),
    [(e, c) for e in ESTIMATORS for c in CREDITS if c == "equalized" or read_by(ESTIMATORS[e]).credit],
)
@given(batch=batches())
def test_an_episode_gets_the_same_alone_with_its_group_as_in_a_batch_with_longer_ones(
    credit: str, estimator: str, batch: Episodes
) -> None:
    """So nothing depends on what rows are padded with."""
    rewards, groups = batch
    whole = worth([*rewards, [0.5] * 9, [0.0] * 9], [*groups, 99, 99], estimator, credit=credit)
    for group in set(groups):
        mine = [i for i, g in enumerate(groups) if g == group]
        alone = worth([rewards[i] for i in mine], [group] * len(mine), estimator, credit=credit)
        for i, row in zip(mine, alone, strict=True):
            assert_allclose(whole[i], row, atol=1e-9)


@given(batch=batches(), data=st.data())
def test_an_errored_episode_counts_as_if_it_had_not_been_played(batch: Episodes, data: st.DataObject) -> None:
    rewards, groups = batch
    failed = data.draw(st.lists(st.booleans(), min_size=len(groups), max_size=len(groups)))
    kept = comparable(groups, failed)
    assert not any(failed[i] for i in kept)
    left = [g for g, failure in zip(groups, failed, strict=True) if not failure]
    assert {groups[i] for i in kept} == {g for g in left if left.count(g) > 1}
    assert len(kept) == sum(left.count(g) for g in set(left) if left.count(g) > 1)
    worth([rewards[i] for i in kept], [groups[i] for i in kept], "grpo")  # a group of one would warn, which is an error here


@pytest.mark.parametrize("score", SCORES)
@given(batch=batches())
def test_a_score_of_padded_rows_is_that_of_each_row(score: str, batch: Episodes) -> None:
    rewards, _ = batch
    table = np.array([[*row, *[0.0] * (4 - len(row))] for row in rewards])
    together = SCORES[score](table, turns=[len(r) for r in rewards], success=[1.0] * len(rewards))
    assert_allclose(together, [SCORES[score](row, success=1.0) for row in rewards], atol=1e-12)
    assert np.shape(together) == (len(rewards),)


@pytest.mark.parametrize("credit", CREDITS)
@given(batch=batches())
def test_a_credit_of_padded_rows_is_that_of_each_row(credit: str, batch: Episodes) -> None:
    rewards, _ = batch
    table = CREDITS[credit](np.array([[*row, *[0.0] * (4 - len(row))] for row in rewards]))
    for row, credits in zip(rewards, table, strict=True):
        assert_allclose(credits[: len(row)], CREDITS[credit](row), atol=1e-12)


@pytest.mark.parametrize("estimator", ["rloo", "grpo", "dr_grpo"])
def test_a_group_of_one_gets_zero_and_a_warning_from_every_estimator_of_episodes(estimator: str) -> None:
    with pytest.warns(UserWarning, match="1 of 2 groups have one episode"):
        got = worth([[1.0], [1.0], [0.0]], [7, 8, 8], estimator)
    assert got[0].tolist() == [0.0]
