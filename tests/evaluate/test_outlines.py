"""What comparisons keep of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from userrl.core import Action, Episode, Task, Turn
from userrl.errors import DataError, UnknownName
from userrl.evaluate.metrics import score_bounds, share_bounds
from userrl.evaluate.outlines import METRICS, Outline, outline, trace, widest
from userrl.gyms.base import make
from userrl.gyms.intention import Intention, detail
from userrl.store import dump

TASKS = [Task(f"t{i}", "intention", "Help.", {"details": [detail("a", "a", 3, "x")] * (i + 1)}) for i in range(3)]


def played(task: Task, *rewards: float, **fields: object) -> Episode:
    turns = tuple(Turn(Action("action", "?"), "ok", reward=reward) for reward in rewards)
    return replace(Episode(task, turns, "turn_limit"), **fields)  # type: ignore[arg-type]


def test_an_outline_holds_numbers_of_each_episode_and_bounds_of_each_gym(tmp_path: Path) -> None:
    episodes = [played(TASKS[0], 0.5), played(TASKS[2], 0.0, 1.0, max_turns=2), played(TASKS[1], 0.5).fail("user: gone")]
    dump(tmp_path / "episodes.jsonl", episodes)
    found = outline(tmp_path, METRICS)
    assert found.episodes[episodes[1].key].values == {
        "score": 1.0, "share": 0.5, "solved": 0.0, "weighted": 0.5, "turns": 2.0, "user-turns": 2.0,
    }  # fmt: skip
    assert found.episodes[episodes[2].key].values == {}
    assert (found.failed(), found.failed("turtle")) == (1, 0)
    assert {name: found.within["intention", name] for name in METRICS} == {
        "score": (0.0, 2.0), "share": (0.0, 1.0), "solved": (0.0, 1.0), "weighted": (0.0, 2.0), "turns": (0.0, 16.0),
        "user-turns": (0.0, 16.0),
    }  # fmt: skip
    assert len(set(found.tasks.values())) == 3


def test_a_file_of_episodes_is_a_run_too(tmp_path: Path) -> None:
    dump(tmp_path / "some.jsonl", [played(TASKS[0], 0.5)])
    assert outline(tmp_path / "some.jsonl", ["score"]).settings == {}
    with pytest.raises(DataError, match=r"holds no episodes\.jsonl"):
        outline(tmp_path, ["score"])
    with pytest.raises(UnknownName, match="No figure to compare by named 'scroe'"):
        outline(tmp_path / "some.jsonl", ["scroe"])


def test_one_gym_can_be_looked_at_alone(tmp_path: Path) -> None:
    dump(tmp_path / "episodes.jsonl", [played(TASKS[0], 0.5), Episode(make("turtle").tasks("test")[0], (), "turn_limit")])
    assert [key[0] for key in outline(tmp_path, ["score"], "turtle").episodes] == ["turtle"]


def test_what_is_watched_passes_unchanged(tmp_path: Path) -> None:
    episodes = [played(task, 0.5) for task in TASKS]
    assert list(Outline(tmp_path, {}, ["score"]).watch(episodes)) == episodes


def test_traces_are_equal_where_the_same_was_done_answered_and_earned() -> None:
    one = played(TASKS[0], 0.5, 0.0)
    assert trace(one) == trace(replace(one, seed=9))
    for other in (played(TASKS[0], 0.5, 0.1), played(TASKS[0], 0.5), replace(one, stop="done"), played(TASKS[0], -1.0, 0.0)):
        assert trace(one) != trace(other)
    assert trace(played(TASKS[0], -1.0)) != trace(played(TASKS[0], -2.0)), "whose hashes are the same"


def test_where_rewards_may_be_negative_nobody_knows_how_little_can_be_earned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (share_bounds("intention"), score_bounds("intention", 3.0)) == ((0.0, 1.0), (0.0, 3.0))
    monkeypatch.setattr(Intention, "reward_range", (-0.5, 1.0))
    assert (share_bounds("intention"), score_bounds("intention", 3.0)) == (None, None)
    assert widest(None, (0.0, 1.0)) is widest((0.0, 1.0), None) is None
    assert widest((0.0, 1.0), (-2.0, 0.5)) == (-2.0, 1.0)
