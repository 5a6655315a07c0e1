"""Which episodes are worth imitating."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from userrl.collect import Left, rank, select
from userrl.collect.contamination import HeldOut
from userrl.collect.select import quality
from userrl.core import INVALID, Action, Episode, Task, Turn
from userrl.errors import ConfigError
from userrl.gyms.base import make

INTENTION = make("intention").tasks("train")
FUNCTION = make("function").tasks("train")


def episode(task: Task, *rewards: float, attempt: int = 0, stop: Any = "done", invalid: bool = False) -> Episode:
    turns = [Turn(Action("action", "x"), "ok", reward=reward) for reward in rewards]
    if invalid:
        turns[0] = replace(turns[0], action=Action(INVALID, raw="?"))
    return Episode(task, tuple(turns), stop, "user: gone" if stop == "error" else None, attempt=attempt)


def ids(episodes: Any) -> list[tuple[str, int]]:
    return [(e.task.id, e.attempt) for e in episodes]


def test_episodes_rank_by_their_share_of_what_was_reachable_then_by_fewer_turns() -> None:
    by_worth = sorted(INTENTION[:40], key=lambda t: make("intention").reachable(t, 16))
    poor, rich = by_worth[0], by_worth[-1]
    most = make("intention").reachable(poor, 16)
    assert make("intention").reachable(rich, 16) > most
    whole, half, slow = episode(poor, most), episode(rich, most), episode(poor, 0.0, most)
    assert rank([half, slow, whole]) == [whole, slow, half]
    assert quality(whole) == (1.0, -1) and quality(slow) == (1.0, -2)


def test_equals_stay_in_the_order_in_which_they_came() -> None:
    same = [episode(FUNCTION[i], 0.0, 1.0) for i in (3, 1, 2)]
    assert rank(same) == same and rank(same[::-1]) == same[::-1]


def test_the_best_of_each_gym_are_kept() -> None:
    talks = [episode(INTENTION[i], 0.1 * i) for i in range(4)]
    sums = [episode(FUNCTION[i], *[0.0] * i, 1.0) for i in range(4)]
    selection = select([*talks, *sums], top_k=2)
    assert ids(e for e in selection.kept if e.task.gym == "function") == ids(sums[:2])
    assert {e.task.id for e in selection.kept if e.task.gym == "intention"} <= {t.task.id for t in talks}
    assert len(selection.kept) == 4 and selection.count("beaten") == 4 == len(selection.left)
    assert list(selection.kept) == rank(selection.kept)


def test_at_most_so_many_of_one_task_are_kept() -> None:
    episodes = [episode(FUNCTION[i], *[0.0] * n, 1.0, attempt=n) for n in range(3) for i in range(2)]
    selection = select(episodes, per_task=1)
    assert ids(selection.kept) == [(FUNCTION[0].id, 0), (FUNCTION[1].id, 0)]
    assert select(episodes, top_k=3, per_task=2).count("beaten") == 3
    assert len(select(episodes).kept) == 6


def test_failed_unfinished_and_invalid_episodes_are_never_kept_and_are_counted() -> None:
    good = episode(FUNCTION[0], 0.0, stop="turn_limit")
    failed = [episode(FUNCTION[1], 1.0, stop="error"), episode(FUNCTION[2], 1.0, stop="running")]
    invalid = episode(FUNCTION[3], 1.0, invalid=True)
    selection = select([*failed, invalid, good], top_k=3)
    assert list(selection.kept) == [good]
    assert (selection.count("failed"), selection.count("invalid"), selection.count("beaten")) == (2, 1, 0)


def test_nothing_gives_an_empty_selection() -> None:
    assert select([]).kept == []


def test_a_task_that_can_yield_nothing_ranks_last() -> None:
    barren = Task("b", "intention", "Hm.", {"details": []})
    assert quality(episode(barren, 0.0)) == (0.0, -1)
    assert rank([episode(barren, 0.0), episode(INTENTION[0], 0.1)])[-1].task == barren


@pytest.mark.parametrize("top_k", [1, 5, 50])
def test_no_more_are_kept_than_asked_for(top_k: int) -> None:
    assert len(select([episode(t, 0.1) for t in INTENTION[:20]], top_k).kept) == min(20, top_k)


def test_the_best_of_n_attempts_is_kept_then_the_shortest() -> None:
    worse, best, longer = (
        episode(FUNCTION[0], 0.0),
        episode(FUNCTION[0], 1.0, attempt=1),
        episode(FUNCTION[0], 0.0, 1.0, attempt=2),
    )
    selection = select([worse, longer, best], per_task=1)
    assert list(selection.kept) == [best] and selection.count("beaten") == 2


def test_episodes_below_a_least_share_are_left_out() -> None:
    selection = select([episode(FUNCTION[0], 0.0), episode(FUNCTION[1], 1.0)], min_share=0.5)
    assert [e.task for e in selection.kept] == [FUNCTION[1]]
    assert selection.left == [Left("function", FUNCTION[0].id, 0, "below")]


def test_of_duplicates_the_best_stays_and_the_other_says_which_it_is_like() -> None:
    good, copy = episode(FUNCTION[0], 1.0), episode(FUNCTION[0], 0.0, attempt=1)
    other = replace(copy, task=replace(copy.task, id="twin"), attempt=0)
    selection = select([other, copy, good], near=1.0)
    assert list(selection.kept) == [good]
    assert set(selection.left) == {
        Left("function", "twin", 0, "duplicate", FUNCTION[0].id),
        Left("function", FUNCTION[0].id, 1, "duplicate", FUNCTION[0].id),
    }
    assert len(select([copy, good]).kept) == 2


def test_a_duplicate_does_not_take_the_place_of_another_episode() -> None:
    same = [episode(FUNCTION[0], 1.0, attempt=n) for n in range(3)]
    assert ids(select([*same, episode(FUNCTION[1], 0.0, 1.0)], top_k=2, near=1.0).kept) == [
        (FUNCTION[0].id, 0),
        (FUNCTION[1].id, 0),
    ]


def test_held_out_tasks_are_left_out_gym_by_gym() -> None:
    asked: list[str] = []

    def held(gym: str) -> HeldOut:
        asked.append(gym)
        return HeldOut([FUNCTION[0], *FUNCTION[5:7]] if gym == "function" else [])

    episodes = [episode(task, 0.5, attempt=n) for n in range(2) for task in (FUNCTION[0], FUNCTION[1], INTENTION[0])]
    selection = select(episodes, held_out=held)
    assert selection.count("held-out id") == 2 and len(selection.kept) == 4 and asked == ["function", "intention"]
    assert selection.left[0] == Left("function", FUNCTION[0].id, 0, "held-out id", FUNCTION[0].id)


def test_a_mixture_keeps_the_best_of_each_gym_in_proportion() -> None:
    talks = [episode(INTENTION[i], 0.1 * (i + 1)) for i in range(9)]
    sums = [episode(FUNCTION[i], *[0.0] * i, 1.0) for i in range(4)]
    selection = select([*talks, *sums], mix={"intention": 1, "function": 2})
    assert ids(e for e in selection.kept if e.task.gym == "function") == ids(sums)
    assert [e for e in selection.kept if e.task.gym == "intention"] == rank(talks)[:2]
    assert selection.count("mix") == 7
    assert {e.task.gym for e in select([*talks, *sums], mix={"intention": 1}).kept} == {"intention"}


def test_a_mixture_of_a_gym_without_episodes_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="The mixture names 'turtle', of which no episode can be kept"):
        select([episode(FUNCTION[0], 1.0)], mix={"function": 1, "turtle": 1})
