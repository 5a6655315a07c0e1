"""Users as a factor: the figures against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from userrl.core import Action, Episode, Task, Turn
from userrl.errors import ConfigError, DataError, UnknownName
from userrl.evaluate.run import EvalJob
from userrl.evaluate.users import Cell, between_variance, cells, factor, folder_name, kendall, listed
from userrl.gyms.base import find
from userrl.gyms.intention import detail

TASKS = [Task(f"t{i}", "intention", "Help.", {"details": [detail("a", "a", 3, "x")]}) for i in range(8)]


def played(
    agent: str, user: str, *scores: float | None, judge: str = "scripted", attempts: int = 1
) -> tuple[Cell, list[Episode]]:
    """A cell whose tasks have these scores; None: failed."""
    job = EvalJob(agent, user=user, judge=judge)
    made = []
    for task, score in zip(TASKS, scores, strict=False):
        for attempt in range(attempts):
            turns = (Turn(Action("action", "?"), "ok", reward=score or 0.0),)
            stop = "error" if score is None else "turn_limit"
            made.append(Episode(task, turns, stop, "user: gone" if score is None else None, attempt=attempt))  # type: ignore[arg-type]
    return Cell(job, Path(agent) / user), made


def test_kendalls_tau_counts_pairs_in_the_same_order() -> None:
    assert kendall([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert kendall([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert kendall([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx((4 - 2) / 6)
    # ties in one of the two: 3 pairs in order, 3 tied in the first; tau-b = 2 / sqrt(2 * 3) for three values
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    assert np.isnan(kendall([1, 1, 1], [1, 2, 3]))


def test_the_variance_between_users_is_that_of_the_two_way_table() -> None:
    # users' means .25, .5, .75: variance 1/16; no residuals, as each user adds the same to every task
    means = np.array([[0.0, 0.5], [0.25, 0.75], [0.5, 1.0]])
    assert between_variance(means) == pytest.approx(1 / 16)
    # residuals alone: users' means are equal, and what chance would add is taken off, not below 0
    assert between_variance(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.0
    # users' means .5 and .75 (variance 1/32); residuals +-.125, mean square 4/64; 1/32 - 1/16/2 = 0
    assert between_variance(np.array([[0.5, 0.5], [0.5, 1.0]])) == pytest.approx(0.0)
    assert np.isnan(between_variance(np.ones((1, 4)))) and np.isnan(between_variance(np.ones((4, 1))))


def test_the_variance_between_users_is_unbiased_where_users_differ_by_chance_alone() -> None:
    rng, true = np.random.default_rng(0), 0.3
    found = [
        between_variance(rng.normal(0, true, (6, 1)) + rng.normal(0, 1, (1, 20)) + rng.normal(0, 0.5, (6, 20)))
        for _ in range(800)
    ]
    assert np.mean(found) == pytest.approx(true**2, rel=0.1)


def test_a_grid_has_each_agents_worst_user_and_the_users_agreement_on_the_agents() -> None:
    grid = [
        played("good", "kind", 1.0, 1.0, 0.8, 0.8),
        played("good", "cross", 0.6, 0.6, 0.4, 0.4),
        played("bad", "kind", 0.2, 0.2, 0.0, 0.0),
        played("bad", "cross", 0.7, 0.7, 0.5, 0.5),
    ]
    found = factor(grid)
    first = found.figures[0]
    assert (first.agent, first.user, round(first.mean.mean, 9)) == ("good", "kind", 0.9)
    good, bad = found.spreads
    assert (good.worst, round(good.worst_mean.mean, 9), good.worst_share) == ("cross", 0.5, 1.0)
    assert (bad.worst, round(bad.mean.mean, 9), found.tasks) == ("kind", 0.35, 4)
    assert good.between == pytest.approx(0.08)  # variance of .9 and .5, with no residuals
    assert good.within == pytest.approx(0.04 / 3)  # of 1, 1, .8, .8 about .9
    [ranks] = found.ranks
    assert (ranks.first, ranks.second, ranks.tau.mean, ranks.tau.n) == ("kind", "cross", -1.0, 2)
    assert ranks.tau.low == ranks.tau.high == -1.0


def test_the_worst_user_by_turns_is_the_one_that_takes_the_most() -> None:
    quick, slow = played("a", "quick", 1.0, 1.0), played("a", "slow", 1.0, 1.0)
    later = [replace(e, turns=(Turn(Action("action", "?"), "no"), *e.turns)) for e in slow[1]]
    [spread] = factor([quick, (slow[0], later)], "turns").spreads
    assert (spread.worst, spread.worst_mean.mean, spread.worst_share) == ("slow", 2.0, 1.0)


def test_means_that_are_equal_but_for_rounding_are_ties() -> None:
    one, other = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7), (0.3, 0.1, 0.2, 0.7, 0.4, 0.6)
    assert np.mean(one) != np.mean(other), "or this shows nothing"
    [ranks] = factor([played(agent, user, *of) for agent, of in (("a", one), ("b", other)) for user in "uv"]).ranks
    assert np.isnan(ranks.tau.mean)


def test_gyms_count_the_same_in_the_macro_average_and_are_drawn_apart_in_both() -> None:
    job = EvalJob("a", gyms=("intention", "telepathy"))
    one = [Episode(task, (Turn(Action("action", "?"), "ok", reward=1.0),), "turn_limit") for task in TASKS[:6]]
    other = [Episode(task, (), "turn_limit") for task in find("telepathy").tasks("test")[:2]]
    [figure] = factor([(Cell(job, Path("a")), [*one, *other])]).figures
    assert (figure.mean.mean, figure.macro.mean) == (0.75, 0.5)
    # each gym's tasks are all alike: what 6 tasks at 1 and 2 tasks at 0 leave open, weighted
    assert figure.mean.low == pytest.approx(0.75 * 0.025 ** (1 / 6))
    assert figure.mean.high == pytest.approx(1 - 0.25 * 0.025 ** (1 / 2))
    [alone] = factor([(Cell(job, Path("a")), one)]).figures
    assert np.isnan(alone.macro.mean)


def test_users_that_do_not_differ_share_the_worst_place() -> None:
    found = factor([played("a", user, 0.5, 0.7) for user in ("u", "v", "w")])
    assert found.spreads[0].worst_share == pytest.approx(1 / 3)
    assert found.spreads[0].between == 0.0 and found.ranks == ()


def test_what_a_failure_ended_is_left_out_of_all_comparisons_and_counted() -> None:
    found = factor([played("a", "u", 0.5, None, 0.7), played("a", "v", 0.5, 0.9, 0.1)])
    assert found.tasks == 2
    assert [(f.tasks, f.errors) for f in found.figures] == [(2, 1), (3, 0)]
    with pytest.raises(DataError, match="No task has a score in all cells"):
        factor([played("a", "u", None), played("a", "v", 0.5)])
    with pytest.raises(UnknownName, match="No figure to compare by named 'shares'"):
        factor([], "shares")


def test_judges_are_crossed_with_users() -> None:
    found = factor([played("a", "u", 0.9, 0.7, judge=judge) for judge in ("scripted", "j")])
    assert found.spreads[0].worst == "u / scripted"


def test_every_agent_meets_every_user_and_judge_in_a_folder_of_its_own() -> None:
    grid = cells(EvalJob("x", user="scripted"), ["a", "b"], ["scripted", "m@http://h:1/v1"], [], Path("out"))
    assert [(c.job.agent, c.job.user, c.job.judge) for c in grid][1] == ("a", "m@http://h:1/v1", "scripted")
    assert len({c.folder for c in grid}) == 4
    assert grid[0].folder == Path("out/a/scripted/scripted")


def test_names_of_folders_are_plain_and_differ_where_the_names_do() -> None:
    assert folder_name("expert:0.8") == "expert-0.8"
    names = [folder_name(n) for n in ("m@http://a/v1", "m@http://b/v1", "runs/x/model", "runs/y/model", "..", "a" * 90, "\ud800")]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").replace(".", "").isalnum() and not name.startswith(".") and len(name) < 60 for name in names)


def test_a_list_splits_at_commas_but_not_within_a_pool() -> None:
    assert listed("a, b") == ("a", "b")
    assert listed("m@http://a/v1,http://b/v1*2,k@http://c/v1") == ("m@http://a/v1,http://b/v1*2", "k@http://c/v1")
    for text, said in (("a,,b", "empty place"), ("a,a", "names one twice"), ("", "empty place")):
        with pytest.raises(ConfigError, match=said):
            listed(text)
