"""Two runs: paired differences, what they can show, and where their episodes part."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from userrl.core import INVALID, Action, Episode, Task, Turn
from userrl.errors import DataError, UnknownName
from userrl.evaluate.compare import Divergence, compare, divergence, task_pairs
from userrl.gyms.base import make
from userrl.gyms.intention import detail
from userrl.store import dump

TASKS = [Task(f"t{i}", "intention", "Help.", {"details": [detail("a", "a", 3, "x")]}) for i in range(40)]
FUNCTION = make("function").tasks("train")[:20]


def episode(task: Task, *rewards: float, text: str = "?", **fields: Any) -> Episode:
    facts = {"new": [0]} if fields.get("stop") == "done" else {}
    turns = tuple(Turn(Action("action", text), "ok", reward=reward, facts=facts) for reward in rewards)
    return Episode(task, turns, **{"stop": "turn_limit", **fields})


def run(folder: Path, episodes: Iterable[Episode], **config: Any) -> Path:
    folder.mkdir()
    dump(folder / "episodes.jsonl", episodes)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def test_a_difference_is_paired_by_task_and_so_surer_than_the_runs(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(task, i / 40) for i, task in enumerate(TASKS)])
    after = run(tmp_path / "b", [episode(task, i / 40 + 0.1 + 0.05 * (i % 2)) for i, task in reversed(list(enumerate(TASKS)))])
    [found] = compare(before, after).gyms
    assert (found.tasks, found.pairs) == (40, 40)
    assert found.difference.mean == pytest.approx(0.125) == found.after - found.before
    assert 0.11 < found.difference.low < found.difference.high < 0.14
    assert found.p == found.adjusted == pytest.approx(1 / 5000)
    assert found.detectable == pytest.approx(0.0253 * (2.023 + 0.851) / math.sqrt(40), abs=0.0005)
    assert (found.moved[0][1], found.moved[-1][1]) == pytest.approx((0.1, 0.15))
    assert found.parted == {Divergence(1, "answer"): 40}


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    same = run(tmp_path / "a", [episode(task, 0.5) for task in TASKS])
    result = compare(same, same)
    [found] = result.gyms
    assert (found.difference.mean, found.p, found.moved, found.parted) == (0.0, 1.0, (), {})
    assert math.isnan(found.detectable) and found.tasks_needed is None
    # tasks that were not played may differ: each by the best score, 1, and up to 8.8% of them
    assert (found.difference.low, found.difference.high) == pytest.approx((-0.0881, 0.0881), abs=1e-4)
    assert (result.settings, result.averages, result.left_out, result.failed) == ({}, (), 0, (0, 0))


def test_each_task_counts_the_same_however_many_attempts_there_are(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(task, 0.0) for task in TASKS[:2]])
    after = [episode(TASKS[0], 1.0, attempt=i) for i in range(3)] + [episode(TASKS[1], 0.0)]
    [found] = compare(before, run(tmp_path / "b", after)).gyms
    assert found.difference.mean == 0.5
    assert (found.pairs, found.attempts, found.attempts_known) == (2, 1.5, False)


def test_failed_missing_and_changed_tasks_are_left_out_and_counted(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(task, 0.0) for task in TASKS[:5]])
    failed = episode(TASKS[1], stop="error", error="judge: gone")
    changed = episode(replace(TASKS[2], prompt="Another."), 1.0)
    after = run(tmp_path / "b", [episode(TASKS[0], 1.0), failed, changed, episode(TASKS[3], 0.5), episode(TASKS[7], 1.0)])
    result = compare(before, after)
    [found] = result.gyms
    assert (found.tasks, found.difference.mean) == (2, 0.75)
    assert (result.failed, result.left_out, result.changed) == ((0, 1), 3, 1)


def test_the_last_record_of_an_episode_counts(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(TASKS[0], 0.0)])
    after = run(tmp_path / "b", [episode(TASKS[0], stop="error", error="user: gone"), episode(TASKS[0], 1.0)])
    result = compare(before, after)
    assert (result.gyms[0].difference.mean, result.failed) == (1.0, (0, 0))


def test_p_values_are_corrected_over_gyms_and_averages_stand_beside_them(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(task, 0.0) for task in [*TASKS, *FUNCTION]])
    better = [episode(task, 1.0 if i % 2 else -0.5) for i, task in enumerate(TASKS)]
    after = run(tmp_path / "b", [*better, *(episode(task, 1.0 if i < 11 else -1.0) for i, task in enumerate(FUNCTION))])
    result = compare(before, after)
    first, second = result.gyms
    assert first.p < second.p
    assert (first.adjusted, second.adjusted) == pytest.approx((2 * first.p, second.p))
    micro, macro = result.averages
    assert (micro.gym, macro.gym) == ("micro", "macro")
    assert micro.difference.mean == pytest.approx((40 * 0.25 + 20 * 0.1) / 60)
    assert macro.difference.mean == pytest.approx((0.25 + 0.1) / 2)
    assert 0 < micro.p < 1 and math.isnan(micro.adjusted) and 0 < micro.detectable < macro.detectable


def test_runs_can_be_compared_by_other_figures(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(task, 0.0, 0.5) for task in TASKS])
    after = run(tmp_path / "b", [episode(task, 0.5, stop="done") for task in TASKS])
    found = {
        name: compare(before, after, name).gyms[0].difference.mean
        for name in ("score", "solved", "weighted", "turns", "user-turns")
    }
    assert found == pytest.approx({"score": 0.0, "solved": 1.0, "weighted": 0.25, "turns": -1.0, "user-turns": -1.0})
    with pytest.raises(UnknownName, match="Did you mean 'score'"):
        compare(before, after, "scor")


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(TASKS[0], 0.0)], agent="x", seed=0, user="scripted")
    after = run(tmp_path / "b", [episode(TASKS[0], 0.0)], agent="y", seed=0, judge="j")
    assert compare(before, after).settings == {"agent": ("x", "y"), "user": ("scripted", None), "judge": (None, "j")}


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    before, after = run(tmp_path / "a", [episode(TASKS[0], 0.0)]), run(tmp_path / "b", [episode(TASKS[1], 0.0)])
    with pytest.raises(DataError, match="have no task with a score in common"):
        compare(before, after)
    with pytest.raises(DataError, match=r"holds no episodes\.jsonl"):
        compare(before, tmp_path)
    (before / "config.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"Cannot read .*config\.json"):
        compare(before, before)


BASE = episode(TASKS[0], 0.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("other", "parted"),
    [
        (BASE, None),
        (replace(BASE, seed=7, attempt=2), None),
        (episode(TASKS[0], 0.0, 0.7, 0.0), Divergence(2, "answer")),
        (episode(TASKS[0], 0.0, 0.5, 0.0, text="!"), Divergence(1, "action")),
        (episode(TASKS[0], 0.0, 0.5), Divergence(3, "end")),
        (replace(BASE, stop="done"), Divergence(4, "end")),
    ],
)
def test_episodes_part_at_the_first_turn_that_is_not_the_same(other: Episode, parted: Divergence | None) -> None:
    assert divergence(BASE, other) == divergence(other, BASE) == parted


def test_two_replies_that_are_no_calls_are_told_apart_by_what_was_written() -> None:
    first, second = (Episode(TASKS[0], (Turn(Action(INVALID, raw=raw), "No.", label=INVALID),)) for raw in "ab")
    assert divergence(first, second) == Divergence(1, "action")


def test_the_episodes_of_a_task_are_laid_side_by_side_by_attempt(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(TASKS[0], 0.1 * i, attempt=i) for i in (2, 0, 1)])
    after = run(tmp_path / "b", [episode(TASKS[0], 0.3, attempt=i) for i in (0, 2)])
    pairs = task_pairs(before, after, "t0")
    assert [(a.attempt, b.attempt, a.rewards) for a, b in pairs] == [(0, 0, [0.0]), (2, 2, [0.2])]
    with pytest.raises(UnknownName, match="No task of both runs named 't1'"):
        task_pairs(before, after, "t1")


def test_the_same_rewards_in_another_order_are_no_difference(tmp_path: Path) -> None:
    rewards = [0.1, 0.2, 0.3, 0.1, 0.7, 0.05]
    orders = [rewards[i:] + rewards[:i] for i in range(6)]
    assert len({reduce(operator.add, order) for order in orders}) > 1, "else nothing is tested"
    before = run(tmp_path / "a", [episode(task, *rewards) for task in TASKS])
    after = run(tmp_path / "b", [episode(task, *orders[i % 6]) for i, task in enumerate(TASKS)])
    [found] = compare(before, after).gyms
    assert (found.difference.mean, found.p, found.moved, found.tasks_needed) == (0.0, 1.0, (), None)
    assert math.isnan(found.detectable)


def test_what_differs_by_rounding_alone_is_a_tie(tmp_path: Path) -> None:
    before = run(tmp_path / "a", [episode(task, 0.3) for task in TASKS])
    after = run(tmp_path / "b", [episode(task, 0.1 + 0.2) for task in TASKS])
    [found] = compare(before, after).gyms
    assert (found.difference.mean, found.p, found.moved) == (0.0, 1.0, ())
