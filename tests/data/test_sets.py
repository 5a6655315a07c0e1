"""Task files: a broken line is named, and a set that is not the recorded one is refused."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Task
from userrl.data import TaskSet, digest, read_tasks, split_of, write_tasks
from userrl.errors import DataError

TASKS = [Task("a", "toy", "One.", {"word": "ä", "n": [1, None]}), Task("b", "toy", "Line \u2028 break\n", {})]


def row(**fields: Any) -> str:
    return json.dumps({"id": "a", "prompt": "p", "hidden": {}, **fields})


def saved(folder: Path, **change: Any) -> TaskSet:
    """The set of TASKS, recorded in a manifest, with a change."""
    write_tasks(folder / "test.jsonl", TASKS)
    entry = {"count": 2, "sha256": digest(TASKS), "license": "Apache-2.0", "source": "ours", **change}
    (folder / "manifest.json").write_text(json.dumps({"sets": {"test": entry}}), "utf-8")
    return TaskSet.read_manifest("toy", folder, "toy_gym")["test"]


def test_tasks_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", TASKS)
    assert read_tasks(tmp_path / "tasks.jsonl", "toy") == TASKS


def test_a_hand_written_file_may_hold_blank_lines_and_any_unicode_within_a_line(tmp_path: Path) -> None:
    lines = [json.dumps({"id": t.id, "prompt": t.prompt, "hidden": t.hidden}, ensure_ascii=False) for t in TASKS]
    (tmp_path / "tasks.jsonl").write_text("\n".join([lines[0], "", lines[1]]), "utf-8")
    assert read_tasks(tmp_path / "tasks.jsonl", "toy") == TASKS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{oops", "not valid JSON"),
        ("[]", "holds a JSON list; expected an object with id, prompt, hidden"),
        ('{"id": "x", "prompt": "p"}', "field 'hidden' is missing; expected a JSON object"),
        (row(id=7), "field 'id' is 7; expected a JSON string"),
        (row(id="x", prompt=None), "field 'prompt' is None; expected a JSON string"),
        (row(id="x", hidden="no"), "field 'hidden' is 'no'; expected a JSON object"),
        (row(id="x", answer=1), "unknown field 'answer'; expected only id, prompt, hidden"),
        (row(id="first"), "field 'id' repeats 'first' of line 1; ids must differ"),
    ],
)
def test_a_broken_line_is_named_with_file_line_and_field(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(f"{row(id='first')}\n{line}\n{row(id='last')}\n", "utf-8")
    with pytest.raises(DataError) as caught:
        read_tasks(path, "toy")
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tasks.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"tasks\.jsonl: cannot be read"):
        read_tasks(path, "toy")


def test_the_digest_is_the_sha256_of_the_file_as_written_and_depends_on_the_order(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", TASKS)
    assert digest(TASKS) == hashlib.sha256((tmp_path / "tasks.jsonl").read_bytes()).hexdigest()
    assert digest(TASKS[::-1]) != digest(TASKS)


def test_a_recorded_set_is_loaded(tmp_path: Path) -> None:
    assert list(saved(tmp_path).load()) == TASKS


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"count": 3}])
def test_a_set_that_is_not_the_recorded_one_is_refused_with_what_to_do(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"Tasks toy/test: 2 tasks with SHA-256 .*Restore the file, or record the change"):
        saved(tmp_path, **change).load()


def test_a_changed_task_is_noticed(tmp_path: Path) -> None:
    tasks = saved(tmp_path)
    path = tmp_path / "test.jsonl"
    path.write_text(path.read_text("utf-8").replace("One.", "Two."), "utf-8")
    with pytest.raises(DataError, match="2 tasks with SHA-256"):
        tasks.check()


def test_a_set_with_a_recipe_is_made_by_the_generator_and_checked_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "toy_gym_for_sets"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "generate.py").write_text(
        "from userrl.core import Task\n\ndef tasks(count, seed):\n"
        "    return [Task(f'{seed}-{i}', 'toy', 'p', {}) for i in range(count)]\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = [Task(f"5-{i}", "toy", "p", {}) for i in range(3)]
    fields = ("toy", "train", 3, digest(made), "Apache-2.0", "ours", tmp_path, "toy_gym_for_sets")
    assert TaskSet(*fields, recipe={"count": 3, "seed": 5}).check() == made
    with pytest.raises(DataError, match="Tasks toy/train"):
        TaskSet(*fields, recipe={"count": 3, "seed": 6}).check()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sets": []}', '{"sets": {"test": {}}}', '{"sets": {"test": 1}}'])
def test_a_broken_manifest_is_named_with_what_was_expected(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"manifest\.json: .*Expected \{'sets': \{split: \{count, sha256, license, source\}\}\}"):
        TaskSet.read_manifest("toy", tmp_path, "toy_gym")


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json: FileNotFoundError"):
        TaskSet.read_manifest("toy", tmp_path, "toy_gym")


def test_the_split_of_a_task_is_fixed_by_its_id_in_about_the_stated_shares() -> None:
    counts = Counter(split_of(f"task-{i}") for i in range(2000))
    assert counts["train"] == pytest.approx(1400, abs=80)
    assert counts["validation"] == pytest.approx(200, abs=60)
    assert counts["test"] == pytest.approx(400, abs=70)
    assert [split_of(name) for name in ("task-0", "task-1")] == ["train", "test"]
