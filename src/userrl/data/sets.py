"""Task sets: what a gym's `tasks/manifest.json` lists.

A set is either a JSONL file beside the manifest, or a recipe for the gym's seeded generator. Both carry the
SHA-256 of their canonical text, so that a result names exactly the tasks it was measured on.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from userrl.core import Task
from userrl.errors import DataError

FIELDS = {"id": str, "prompt": str, "hidden": dict}
OFFICIAL = "official-"
"""Begins the names of the splits that are imported, never built in."""


def split_of(task_id: str) -> Literal["train", "validation", "test"]:
    """The split of a built-in task, fixed by the hash of its id: 70% train, 10% validation, 20% test."""
    bucket = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:4], "big") % 10
    return "test" if bucket < 2 else "validation" if bucket == 2 else "train"


def line(task: Task) -> str:
    """A task as one canonical JSON line (sorted keys, ASCII, no spaces), without its gym."""
    record = {"id": task.id, "prompt": task.prompt, "hidden": task.hidden}
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def digest(tasks: Iterable[Task]) -> str:
    """SHA-256 over the canonical lines, each ended by a newline."""
    sha = hashlib.sha256()
    for task in tasks:
        sha.update(line(task).encode() + b"\n")
    return sha.hexdigest()


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    path.write_text("".join(line(task) + "\n" for task in tasks), "utf-8")


def read_tasks(path: Traversable, gym: str) -> list[Task]:
    """Tasks of a JSONL file. Raises DataError with file, line and field."""
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected a UTF-8 file with one JSON task per line.") from error
    for number, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        tasks.append(_task(row, f"{path}, line {number}", gym))
        if seen.setdefault(tasks[-1].id, number) != number:
            first = seen[tasks[-1].id]
            raise DataError(f"{path}, line {number}: field 'id' repeats {tasks[-1].id!r} of line {first}; ids must differ.")
    return tasks


def _task(row: str, where: str, gym: str) -> Task:
    try:
        record = json.loads(row)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}). Expected an object with {', '.join(FIELDS)}.") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: holds a JSON {type(record).__name__}; expected an object with {', '.join(FIELDS)}.")
    for field, kind in FIELDS.items():
        if not isinstance(record.get(field), kind):
            state = f"is {record[field]!r:.60}" if field in record else "is missing"
            raise DataError(f"{where}: field {field!r} {state}; expected a JSON {'object' if kind is dict else 'string'}.")
    extra = set(record) - set(FIELDS)
    if extra:
        raise DataError(f"{where}: unknown field {sorted(extra)[0]!r}; expected only {', '.join(FIELDS)}.")
    return Task(record["id"], gym, record["prompt"], record["hidden"])


@dataclass(frozen=True)
class TaskSet:
    """One split of a gym's tasks."""

    gym: str
    split: str
    count: int
    sha256: str
    license: str
    source: str
    folder: Traversable
    module: str
    """The gym's package; its `generate.tasks(**recipe)` makes the set when `recipe` is given."""
    recipe: Mapping[str, Any] | None = None

    def load(self) -> Sequence[Task]:
        """The tasks. Raises DataError when they are not the ones that the manifest names."""
        return _load(self.gym, self.split, self.folder, self.module, self.sha256)  # type: ignore[arg-type]  # paths and zip paths can be hashed

    def read(self) -> list[Task]:
        """The tasks as they are now, unchecked."""
        if self.recipe is None:
            return read_tasks(self.folder / f"{self.split}.jsonl", self.gym)
        made: list[Task] = importlib.import_module(f"{self.module}.generate").tasks(**self.recipe)
        return made

    def check(self) -> list[Task]:
        tasks = self.read()
        if len(tasks) != self.count or digest(tasks) != self.sha256:
            mend = f"Restore the file, or record the change with `userrl data record {self.gym}` if it is meant."
            if self.split.startswith(OFFICIAL):
                mend = "Import the official data again (`userrl data import userrl PATH`)."
            raise DataError(
                f"Tasks {self.gym}/{self.split}: {len(tasks)} tasks with SHA-256 {digest(tasks)[:12]}…, but the manifest "
                f"names {self.count} with {self.sha256[:12]}…. {mend}"
            )
        return tasks

    @staticmethod
    def read_manifest(gym: str, folder: Traversable, module: str) -> dict[str, TaskSet]:
        try:
            entries = json.loads((folder / "manifest.json").read_text("utf-8"))["sets"]
            return {
                split: TaskSet(gym, split, e["count"], e["sha256"], e["license"], e["source"], folder, module, e.get("recipe"))
                for split, e in entries.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder}/manifest.json: {type(error).__name__}: {error}. "
                f"Expected {{'sets': {{split: {{count, sha256, license, source}}}}}}."
            ) from error


@cache
def _load(gym: str, split: str, folder: Traversable, module: str, sha256: str) -> Sequence[Task]:
    """`sha256` is here so that a set that was imported anew is read anew."""
    return tuple(TaskSet.read_manifest(gym, folder, module)[split].check())
