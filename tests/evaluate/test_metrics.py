"""What an episode is worth, and what was done in it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from userrl.core import INVALID, Action, Episode, Task, Turn
from userrl.evaluate.metrics import (
    action_mix,
    effective_turns,
    figures,
    needs_user,
    share,
    summarize,
    time_weighted,
    total,
    user_turns,
)
from userrl.gyms.base import make
from userrl.gyms.intention import detail

DETAILS = [detail("a", "a", 3, "x"), detail("b", "b", 2, "y"), detail("c", "c", 1, "z")]
TASK = Task("t", "intention", "Help.", {"details": DETAILS})
FUNCTION = make("function").tasks("train")[0]


def episode(*turns: tuple[float, str], task: Task = TASK, stop: Any = "turn_limit", **fields: Any) -> Episode:
    facts = {"new": list(range(len(task.hidden["details"])))} if stop == "done" and "details" in task.hidden else {}
    made = tuple(Turn(Action("action", "?"), "ok", reward=reward, label=label, facts=facts) for reward, label in turns)
    return Episode(task, made, stop, "user: gone" if stop == "error" else None, **fields)


def test_a_share_is_of_what_the_task_can_yield_within_the_turn_limit() -> None:
    played = episode((1.0, "relevant"), (0.05, "multi_part"))
    assert total(played) == pytest.approx(1.05)
    assert share(played) == pytest.approx(1.05 / 2.1)
    assert share(episode((1.0, "relevant"), max_turns=1)) == pytest.approx(1.0)
    assert share(episode((0.0, ""), task=Task("b", "intention", "", {"details": []}))) == 0.0


def test_effective_turns_end_with_the_last_one_that_earned_something() -> None:
    assert effective_turns(episode((0.0, ""), (0.4, ""), (0.0, ""), (0.7, ""), (0.0, ""))) == 4
    assert effective_turns(episode((0.0, ""), (-0.1, ""))) == 2
    assert effective_turns(episode((0.0, ""))) == effective_turns(episode()) == 0


def test_the_action_mix_is_the_share_of_turns_in_the_order_of_the_gyms_labels() -> None:
    mix = action_mix([episode((0, "repeated"), (0, "relevant")), episode((0, "relevant"), (0, INVALID), (0, "odd"))])
    assert mix == pytest.approx({"relevant": 0.4, "multi_part": 0, "repeated": 0.2, "irrelevant": 0, INVALID: 0.2, "odd": 0.2})
    assert list(mix) == [*make("intention").labels, "odd"]
    assert action_mix([]) == {}


def test_a_summary_leaves_failed_episodes_out_and_counts_them() -> None:
    episodes = [
        episode((1.0, "relevant"), (0.7, "relevant"), (0.4, "relevant"), stop="done"),
        episode((0.7, "relevant"), (0.0, INVALID), attempt=1),
        episode((1.0, "relevant"), stop="error", attempt=2),
        episode(stop="error", task=Task("u", "intention", "", TASK.hidden)),
    ]
    [summary] = summarize(episodes)
    assert (summary.gym, summary.tasks, summary.episodes, summary.errors) == ("intention", 2, 2, 2)
    assert summary.score.mean == pytest.approx((2.1 + 0.7) / 2) and summary.score.n == 2
    assert summary.share.mean == pytest.approx((1.0 + 0.7 / 2.1) / 2)
    assert summary.solved.mean == 0.5
    assert summary.effective_turns == 2.0
    assert summary.mix == pytest.approx({"relevant": 0.8, "multi_part": 0, "repeated": 0, "irrelevant": 0, INVALID: 0.2})


def test_an_agent_whose_every_episode_failed_has_no_score() -> None:
    [summary] = summarize([episode((1.0, "relevant"), stop="error")])
    assert (summary.episodes, summary.errors, summary.mix) == (0, 1, {})
    assert math.isnan(summary.score.mean) and math.isnan(summary.effective_turns)


def test_there_is_one_summary_for_each_gym_in_their_order() -> None:
    solved, not_solved = episode((1.0, "correct"), task=FUNCTION, stop="done"), episode((0.0, ""), task=FUNCTION)
    episodes = [solved, episode((1.0, "")), not_solved]
    function, intention = summarize(episodes)
    assert (function.gym, intention.gym) == ("function", "intention")
    assert (function.share.mean, function.solved.mean, function.tasks) == (0.5, 0.5, 1)


def test_intervals_are_clustered_by_task() -> None:
    tasks = [Task(str(i), "intention", "", TASK.hidden) for i in range(10)]
    [once] = summarize([episode((float(i % 2), ""), task=task) for i, task in enumerate(tasks)])
    [fivefold] = summarize([episode((float(i % 2), ""), task=t, attempt=n) for i, t in enumerate(tasks) for n in range(5)])
    assert (fivefold.score.low, fivefold.score.high) == pytest.approx((once.score.low, once.score.high))
    assert fivefold.score.n == 50


def test_what_all_tasks_have_in_common_has_the_interval_that_so_many_leave_open() -> None:
    tasks = [replace(TASK, id=f"t{i}") for i in range(20)]
    [none] = summarize(episode((0.0, "irrelevant"), task=task, attempt=a) for task in tasks for a in (0, 1))
    up_to = 1 - 0.025 ** (1 / 20)
    for found, best in ((none.solved, 1.0), (none.share, 1.0), (none.score, 2.1)):
        assert (found.low, found.high, found.n) == pytest.approx((0.0, up_to * best, 40))
    assert none.passes[1].any.high == pytest.approx(up_to)
    [half] = summarize(episode((1.05, "relevant"), task=task) for task in tasks)
    assert (half.share.low, half.share.high) == pytest.approx((0.5 - up_to / 2, 0.5 + up_to / 2))


def said(kind: str, text: str, feedback: str, label: str = "", reward: float = 0.0) -> Turn:
    return Turn(Action(kind, text), feedback, reward, label=label)


def test_time_weighted_rewards_count_less_the_later_they_come() -> None:
    assert time_weighted(episode((1.0, ""), (0.0, ""), (0.6, ""))) == pytest.approx(1.2)
    assert time_weighted(episode()) == 0.0
    [summary] = summarize([episode((1.0, "")), episode((0.0, ""), (1.0, ""), attempt=1)])
    assert summary.time_weighted == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("gym", "kind", "label", "needed"),
    [
        ("turtle", "action", "yes", True),
        ("turtle", "answer", "better_answer", True),
        ("travel", "search", "searched", False),
        ("tau", "action", "talk", True),
        ("tau", "answer", "read", False),
        ("function", "action", "probe", False),
        ("function", "answer", "correct", True),
        ("search", "search", "found", False),
        ("turtle", "finish", "finish", False),
        ("turtle", INVALID, INVALID, False),
        ("intention", "answer", INVALID, False),
    ],
)
def test_a_turn_needs_a_person_for_a_reply_or_a_verdict(gym: str, kind: str, label: str, needed: bool) -> None:
    assert needs_user(gym, said(kind, "x", "y", label)) is needed


def test_effort_counts_what_the_user_reads_and_types() -> None:
    task = Task("t", "turtle", "Why?", {"story": "s", "rubric": []})
    turns = (
        said("action", "a" * 40, "y" * 4, "yes"),
        said("action", "a" * 20, "n" * 8, "repeated"),
        said("answer", "b" * 60, "That is what you got right.", "better_answer", 1.0),
        said(INVALID, "c" * 99, "Nothing was done.", INVALID),
    )
    [summary] = summarize([Episode(task, turns, "done"), Episode(task, turns[:1], "turn_limit", attempt=1)])
    effort = summary.effort
    assert effort is not None
    assert (effort.questions, effort.read, effort.typed, effort.repeats) == (1.5, 160 / 8, 16 / 8, 0.5)
    assert effort.rate == pytest.approx(4 / 5)
    assert user_turns(Episode(task, turns)) == 3


def test_solved_within_some_user_turns_leaves_out_what_took_more() -> None:
    episodes = [episode(*[(0.1, "")] * n, stop="done", attempt=n) for n in (1, 3, 4)] + [episode((0.0, ""), attempt=9)]
    effort = summarize(episodes)[0].effort
    assert effort is not None
    assert effort.within == {1: 0.25, 2: 0.25, 4: 0.75, 8: 0.75, 16: 0.75}


def test_several_attempts_give_pass_at_k_and_pass_all_k() -> None:
    other = Task("u", "intention", "", TASK.hidden)
    episodes = [
        episode((0.1, ""), task=task, stop="done" if one else "turn_limit", attempt=i)
        for task, all_ in ((TASK, [True, False, True, False]), (other, [True, True]))
        for i, one in enumerate(all_)
    ]
    [summary] = summarize(episodes)
    assert [p.k for p in summary.passes] == [1, 2, 4]
    one, two, four = summary.passes
    assert (one.any.mean, one.all.mean, one.any.n) == (0.75, 0.75, 2)
    assert (two.any.mean, two.all.mean) == pytest.approx(((5 / 6 + 1) / 2, (1 / 6 + 1) / 2))
    assert (four.any.mean, four.all.mean, four.any.n) == (1.0, 0.0, 1)
    assert summarize([episode((0.1, ""))])[0].passes == ()


def test_the_micro_average_counts_tasks_and_the_macro_average_gyms() -> None:
    tasks = [Task(str(i), "intention", "", TASK.hidden) for i in range(3)]
    episodes = [episode((0.3, ""), task=task) for task in tasks] + [episode((1.0, "correct"), task=FUNCTION, stop="done")]
    micro, macro = figures(episodes).averages
    assert (micro.gym, macro.gym) == ("micro", "macro")
    assert micro.score.mean == pytest.approx((3 * 0.3 + 1.0) / 4)
    assert macro.score.mean == pytest.approx((0.3 + 1.0) / 2)
    assert (macro.solved.mean, micro.solved.mean) == (0.5, 0.25)
    assert (micro.tasks, micro.episodes, micro.errors) == (4, 4, 0)


def test_there_is_no_average_of_one_gym_nor_of_one_without_scores() -> None:
    assert figures([episode((0.3, ""))]).averages == ()
    assert figures([episode((0.3, "")), episode(task=FUNCTION, stop="error")]).averages == ()


def test_the_rate_of_failures_is_of_all_episodes() -> None:
    [summary] = summarize([episode((0.3, "")), *(episode(stop="error", attempt=i) for i in (1, 2, 3))])
    assert summary.invalid_rate == 0.75
