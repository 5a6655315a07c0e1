"""The front of success against turns: who is on it, and how sure that is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from userrl.core import Action, Episode, Task, Turn
from userrl.errors import ConfigError, DataError, UnknownName
from userrl.evaluate.front import draw, front, fronts, undominated
from userrl.evaluate.outlines import outline
from userrl.gyms.intention import detail
from userrl.store import dump, read

TASKS = [Task(f"t{i}", "intention", "Help.", {"details": [detail("a", "a", 3, "x")]}) for i in range(30)]


def run(folder: Path, turns: list[int], rewards: list[float], agent: str = "x") -> Path:
    """A run whose tasks earn these rewards in these turns."""
    folder.mkdir()
    episodes = []
    for task, number, reward in zip(TASKS, turns, rewards, strict=False):
        made = [Turn(Action("action", "?"), "ok", reward=reward if i == number - 1 else 0.0) for i in range(number)]
        episodes.append(Episode(task, tuple(made), "turn_limit"))
    dump(folder / "episodes.jsonl", episodes)
    (folder / "config.json").write_text(json.dumps({"agent": agent}), "utf-8")
    return folder


def test_a_point_is_on_the_front_unless_another_is_as_good_in_both_and_better_in_one() -> None:
    points = np.array([[0.9, 5.0], [0.5, 2.0], [0.5, 3.0], [0.9, 5.0], [0.4, 1.9], [0.8, 6.0]])
    assert undominated(points).tolist() == [True, True, False, True, True, False]


def test_runs_are_compared_on_their_common_tasks_with_intervals(tmp_path: Path) -> None:
    quick = run(tmp_path / "quick", [2] * 30, [0.5] * 30, "quick")
    good = run(tmp_path / "good", [6] * 20, [0.8] * 20, "good")
    slow = run(tmp_path / "slow", [7] * 30, [0.7 if i % 2 else 0.9 for i in range(30)], "slow")
    found = front([slow, good, quick])
    assert [(p.agent, p.on_front) for p in found.points] == [("quick", True), ("good", True), ("slow", False)]
    assert (found.tasks, found.left_out) == (20, 10)
    assert (found.points[0].turns.mean, found.points[0].success.mean) == (2.0, 0.5)
    spread = found.points[2]
    assert spread.success.mean == pytest.approx(0.8)
    assert spread.success.low < 0.8 < spread.success.high
    # equal on average, slower: off the front, but for the draws of tasks in which it is better
    assert 0.3 < spread.on_front_share < 0.7 and found.points[0].on_front_share == 1.0


def test_tasks_that_changed_and_episodes_that_failed_are_left_out_and_counted(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [2] * 4, [0.5] * 4), run(tmp_path / "b", [3] * 4, [0.5] * 4)
    episodes = list(read(b / "episodes.jsonl"))
    episodes[0] = replace(episodes[0], task=replace(episodes[0].task, prompt="Another."))
    episodes[1] = replace(episodes[1], turns=(), stop="running").fail("user: gone")
    dump(b / "episodes.jsonl", episodes)
    found = front([a, b])
    assert (found.tasks, found.left_out, found.changed) == (2, 1, 1)
    assert [p.errors for p in found.points] == [0, 1]


def test_runs_that_are_equal_but_for_rounding_are_both_on_the_front(tmp_path: Path) -> None:
    rewards = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7]
    mixed = [0.3, 0.1, 0.2, 0.7, 0.4, 0.6]
    found = front([run(tmp_path / "a", [2] * 6, rewards), run(tmp_path / "b", [2] * 6, mixed)])
    assert [p.on_front for p in found.points] == [True, True]


def test_a_picture_is_drawn_with_a_number_for_each_run(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, [turns] * 5, [0.5] * 5) for name, turns in (("a", 2), ("b", 2), ("c", 3))]
    path = draw(front(runs), ["a", "b", "c"], tmp_path / "new" / "front.svg")
    text = path.read_text("utf-8")
    assert "<svg" in text and "effective turns" in text
    assert draw(front(runs), ["a", "b", "c"], tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_named(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [2], [0.5]), tmp_path / "b"
    for runs, options, error, said in (
        ([a, b], {}, DataError, "b holds no episodes.jsonl"),
        ([a, a], {}, ConfigError, "A run is named twice"),
        ([a], {"by": "shares"}, UnknownName, "No figure to compare by named 'shares'"),
        ([a], {"against": "time"}, UnknownName, "No figure to compare by named 'time'"),
        ([a], {"by": "turns"}, ConfigError, "A front of turns against turns: expected one of score, share, solved, weighted"),
        ([a], {"against": "share"}, ConfigError, "against share: .* against one of turns, user-turns"),
        ([a], {"gym": "function"}, DataError, "no task of gym 'function' with a score in common"),
    ):
        with pytest.raises(error, match=said):
            front(runs, **cast(dict[str, Any], options))


def test_the_fronts_of_all_gyms_are_those_of_each_alone(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", [3, 4, 5], [1.0, 0.0, 1.0]), run(tmp_path / "b", [2, 2, 2], [1.0, 1.0, 0.0])
    read = [outline(folder, ["share", "solved", "turns"]) for folder in (first, second)]
    assert fronts(read) == {"intention": front([first, second], gym="intention")}
    assert fronts(read[:1]) == {}
    with pytest.raises(ConfigError, match="named twice"):
        fronts([read[0], read[0]])


def test_a_point_whose_tasks_are_all_alike_has_the_interval_that_they_leave_open(tmp_path: Path) -> None:
    point = front([run(tmp_path / "a", [2] * 20, [1.0] * 20)]).points[0]
    assert (point.success.low, point.success.high) == pytest.approx((0.83157, 1.0), abs=1e-5)
    # turns are within 0 and the limit of 16
    assert (point.turns.low, point.turns.high) == pytest.approx((2 * 0.83157, 2 + 14 * 0.16843), abs=1e-4)
