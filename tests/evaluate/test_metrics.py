"""What an episode is worth, and what was done in it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from userrl.core import INVALID, Action, Episode, Task, Turn
from userrl.evaluate.metrics import action_mix, effective_turns, share, summarize, total
from userrl.gyms.base import make
from userrl.gyms.intention import detail

DETAILS = [detail("a", "a", 3, "x"), detail("b", "b", 2, "y"), detail("c", "c", 1, "z")]
TASK = Task("t", "intention", "Help.", {"details": DETAILS})
FUNCTION = make("function").tasks("train")[0]


def episode(*turns: tuple[float, str], task: Task = TASK, stop: Any = "turn_limit", **fields: Any) -> Episode:
    made = tuple(Turn(Action("action", "?"), "ok", reward=reward, label=label) for reward, label in turns)
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
