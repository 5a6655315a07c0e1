"""Tasks that are made one by one: what is looked at is made and vouched for, and nothing else."""

import hashlib
import importlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Task
from userrl.data import TaskSet, digest
from userrl.data.made import KEPT, Made, index_of, read_index
from userrl.data.sets import recorded
from userrl.errors import DataError

GENERATOR = """
from userrl.core import Task

MADE = []

def ids(count, seed):
    return [f"{seed}-{i}" for i in range(count)]

def task(task_id):
    MADE.append(task_id)
    return Task(task_id, "toy", f"Say {task_id}.", {"word": task_id, "also": ("\u00e9", 0.1)})
"""


class Counted:
    """Makes tasks and remembers which."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, task_id: str) -> Task:
        self.made.append(task_id)
        return Task(task_id, "toy", "p")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a gym whose generator makes single tasks."""
    package = tmp_path / f"toy_gym_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "generate.py").write_text(GENERATOR, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("USERRL_CACHE", str(tmp_path / "cache"))
    return package


def made_by(folder: Path) -> list[str]:
    """The ids that the generator was asked for."""
    ids: list[str] = importlib.import_module(f"{folder.name}.generate").MADE
    return ids


def saved(folder: Path, **change: Any) -> TaskSet:
    """The set of 5 tasks, as `userrl data record` writes it, with a change."""
    recipe = {"count": 5, "seed": 3}
    now = recorded(TaskSet("toy", "train", 0, "", "", "", folder, folder.name, recipe).read())
    (folder / "train.index").write_text(now.index, "utf-8")
    entry = {**now.entry(), "license": "Apache-2.0", "source": "ours", "recipe": recipe, **change}
    (folder / "manifest.json").write_text(json.dumps({"sets": {"train": entry}}), "utf-8")
    return TaskSet.read_manifest("toy", folder, folder.name)["train"]


def test_a_task_is_made_when_it_is_looked_at_and_not_before() -> None:
    make = Counted()
    tasks = Made((f"t{i}" for i in range(1000)), make)
    some = tasks[10:20]
    assert (len(tasks), len(some), make.made) == (1000, 10, [])
    assert [task.id for task in some[:2]] == ["t10", "t11"] and tasks[-1].id == "t999"
    assert make.made == ["t10", "t11", "t999"]


def test_the_tasks_looked_at_last_are_kept_and_no_others() -> None:
    make = Counted()
    tasks = Made((f"t{i}" for i in range(KEPT + 1)), make)
    assert tasks[1] is tasks[:5][1]
    assert make.made == ["t1"]
    assert len(list(tasks)) == KEPT + 1
    assert tasks[0].id == "t0" and make.made.count("t0") == 2


def test_a_sequence_of_made_tasks_can_be_drawn_from_and_reversed() -> None:
    tasks = Made((f"t{i}" for i in range(9)), Counted())
    assert random.Random(1).choice(tasks) in list(tasks)
    assert [task.id for task in reversed(tasks[:3])] == ["t2", "t1", "t0"]
    with pytest.raises(IndexError):
        tasks[9]


def test_an_index_is_read_back_and_refused_when_it_is_another(tmp_path: Path) -> None:
    text = index_of({"a b": "f" * 64, "c": "0" * 64})
    (tmp_path / "x.index").write_text(text, "utf-8")
    assert read_index(tmp_path / "x.index", hashlib.sha256(text.encode()).hexdigest()) == {"a b": "f" * 16, "c": "0" * 16}
    with pytest.raises(DataError, match=r"x\.index: its SHA-256 is .*but the manifest names 000000000000"):
        read_index(tmp_path / "x.index", "0" * 64)
    with pytest.raises(DataError, match=r"y\.index: cannot be read"):
        read_index(tmp_path / "y.index", "0" * 64)


def test_a_recorded_set_is_loaded_without_making_it_and_checked_by_making_all(folder: Path) -> None:
    tasks = saved(folder)
    made = made_by(folder)
    made.clear()
    assert [task.prompt for task in tasks.load()[1:3]] == ["Say 3-1.", "Say 3-2."]
    found = tasks.find("3-4")
    assert found is not None and found.prompt == "Say 3-4." and tasks.find("3-5") is None
    assert list(tasks.ids()) == [f"3-{i}" for i in range(5)]
    assert made == ["3-1", "3-2", "3-4"]
    checked = tasks.check()
    assert digest(checked) == tasks.sha256 and len(checked) == tasks.count == 5


def test_a_task_that_is_not_the_recorded_one_is_refused_when_it_is_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, generator = saved(folder).load(), importlib.import_module(f"{folder.name}.generate")
    right = generator.task("3-1")
    monkeypatch.setattr(generator, "task", lambda task_id: right)
    assert tasks[1].id == "3-1"
    with pytest.raises(
        DataError, match=r"Task toy/train '3-2': made with SHA-256 .*but the index names .*userrl data record toy"
    ):
        tasks[2]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sha256": "0" * 64}, "5 tasks with SHA-256"),
        ({"count": 4}, "5 tasks with SHA-256"),
        ({"recipe": {"count": 5, "seed": 4}}, "5 tasks with SHA-256"),
        ({"index": "0" * 64}, "but the manifest names 000000000000"),
        ({"index": ""}, "but the manifest names"),
    ],
)
def test_a_set_that_is_not_the_recorded_one_does_not_pass_the_check(folder: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        saved(folder, **change).check()


def test_an_index_that_was_changed_is_refused_at_once(folder: Path) -> None:
    tasks = saved(folder)
    index = folder / "train.index"
    index.write_text(index.read_text("utf-8").replace("3-1 ", "3-7 "), "utf-8")
    for use in (tasks.load, tasks.check):
        with pytest.raises(DataError, match=r"train\.index: its SHA-256 is"):
            use()


# --- on disk ---------------------------------------------------------------------------------------------------------


def test_a_task_is_made_once_and_then_read_from_the_cache_as_it_was(folder: Path) -> None:
    tasks, made = saved(folder), made_by(folder)
    first = tasks.made()[2]
    made.clear()
    again = tasks.made()[2]
    assert again is not first and repr(again) == repr(first) and made == []
    assert list(first.hidden) == ["word", "also"] and first.hidden["also"] == ["\u00e9", 0.1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept, other: kept.write_bytes(kept.read_bytes()[:-1]),
        lambda kept, other: kept.write_bytes(b""),
        lambda kept, other: kept.write_bytes(kept.read_bytes().replace(b"Say", b"Tell")),
        lambda kept, other: kept.write_bytes(other.read_bytes()),
        lambda kept, other: kept.write_bytes(b"\xff" * 40),
        lambda kept, other: kept.unlink(),
    ],
    ids=["torn", "empty", "changed", "another", "not text", "gone"],
)
def test_a_file_of_the_cache_that_is_not_the_task_is_made_and_written_anew(
    folder: Path, tmp_path: Path, spoil: Callable[[Path, Path], object]
) -> None:
    tasks, made = saved(folder), made_by(folder)
    index = read_index(folder / "train.index", tasks.index)
    first = [tasks.made()[i] for i in (0, 1)]
    kept, other = (tmp_path / "cache" / "tasks" / index[task.id] for task in first)
    whole = kept.read_bytes()
    spoil(kept, other)
    made.clear()
    assert tasks.made()[0] == first[0] and made == [first[0].id]
    assert kept.read_bytes() == whole


def test_a_change_that_is_recorded_is_seen_in_spite_of_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert saved(folder).made()[0].prompt == "Say 3-0."
    generator = importlib.import_module(f"{folder.name}.generate")
    monkeypatch.setattr(generator, "task", lambda task_id: Task(task_id, "toy", f"Tell {task_id}."))
    assert saved(folder).made()[0].prompt == "Tell 3-0."


def test_the_index_tells_the_order_of_keys_which_an_agent_may_be_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, generator = saved(folder), importlib.import_module(f"{folder.name}.generate")
    right = tasks.made()[0]
    turned = Task("3-0", "toy", right.prompt, dict(list(right.hidden.items())[::-1]))
    assert digest([turned]) == digest([right])
    monkeypatch.setenv("USERRL_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(generator, "task", lambda task_id: turned)
    with pytest.raises(DataError, match="made with SHA-256"):
        tasks.made()[0]


@pytest.mark.parametrize("place", ["a file", "no home"])
def test_without_a_place_for_the_cache_tasks_are_made_each_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    if place == "a file":
        (tmp_path / "cache").write_text("", "utf-8")
    else:
        monkeypatch.setenv("USERRL_CACHE", "")
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setattr(Path, "home", homeless)
    tasks, made = saved(folder), made_by(folder)
    made.clear()
    assert [tasks.made()[1].id for _ in range(2)] == ["3-1", "3-1"] == made
