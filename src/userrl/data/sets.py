"""Task sets: what a gym's `tasks/manifest.json` lists.

A set is either a JSONL file beside the manifest, or a recipe for the gym's seeded generator, which makes all of it or, where
it can, the single tasks that are looked at (`made`). All carry the SHA-256 of their canonical text, so that a result names
exactly the tasks it was measured on. What the hidden part of a task must hold says the gym's model (`hidden.HiddenModel`).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources.abc import Traversable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from userrl.core import Task
from userrl.data.cache import cached, keep
from userrl.data.home import folder_of
from userrl.data.made import DIGITS, Made, index_of, read_index
from userrl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from userrl.data.hidden import HiddenModel

FIELDS = {"id": str, "prompt": str, "hidden": dict}
OFFICIAL = "official-"
"""Begins the names of the splits that are imported, never built in."""
_AGAIN = "Import the official data again (`userrl data import userrl PATH`)."


def split_of(task_id: str) -> Literal["train", "validation", "test"]:
    """The split of a built-in task, fixed by the hash of its id: 70% train, 10% validation, 20% test."""
    bucket = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:4], "big") % 10
    return "test" if bucket < 2 else "validation" if bucket == 2 else "train"


def line(task: Task, *, sort_keys: bool = True) -> str:
    """A task as one JSON line (ASCII, no spaces), without its gym: canonical, or with its keys in the order that they have."""
    record = {"id": task.id, "prompt": task.prompt, "hidden": task.hidden}
    return json.dumps(record, sort_keys=sort_keys, separators=(",", ":"))


def digest(tasks: Iterable[Task]) -> str:
    """SHA-256 over the canonical lines, each ended by a newline."""
    sha = hashlib.sha256()
    for task in tasks:
        sha.update(line(task).encode() + b"\n")
    return sha.hexdigest()


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    path.write_text("".join(line(task) + "\n" for task in tasks), "utf-8")


def read_tasks(path: Traversable, gym: str, model: type[HiddenModel] | None = None) -> list[Task]:
    """Tasks of a JSONL file, their hidden parts checked where a model is given (`Gym.hidden_model`).

    Raises DataError with file, line, task and field.
    """
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
        _fits(tasks[-1], model, f"{path}, line {number}")
        if seen.setdefault(tasks[-1].id, number) != number:
            first = seen[tasks[-1].id]
            raise DataError(f"{path}, line {number}: field 'id' repeats {tasks[-1].id!r} of line {first}; ids must differ.")
    return tasks


def _fits(task: Task, model: type[HiddenModel] | None, where: str) -> None:
    if model is not None:
        from userrl.data.hidden import check_hidden  # pydantic, which a gym without a schema does not need

        check_hidden(task, model, where)


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
class Recorded:
    """What a manifest says of the tasks of a set."""

    count: int
    sha256: str
    index: str
    """Text of the index; empty where the tasks are not made one by one."""

    def entry(self) -> dict[str, Any]:
        index = {"index": hashlib.sha256(self.index.encode()).hexdigest()} if self.index else {}
        return {"count": self.count, "sha256": self.sha256, **index}


def recorded(tasks: Sequence[Task]) -> Recorded:
    """Goes through the tasks once."""
    whole, digests = hashlib.sha256(), {}
    for task in tasks:
        whole.update(line(task).encode() + b"\n")
        if isinstance(tasks, Made):
            digests[task.id] = hashlib.sha256(line(task, sort_keys=False).encode()).hexdigest()
    return Recorded(len(tasks), whole.hexdigest(), index_of(digests))


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
    model: type[HiddenModel] | None = None
    """What the hidden parts must hold."""
    index: str = ""
    """SHA-256 of the set's index, where its tasks are made one by one."""
    overlaps: tuple[str, ...] = ()
    """Splits with which it shares tasks on purpose."""

    def load(self) -> Sequence[Task]:
        """The tasks. Raises DataError when they are not the ones that the manifest names, or imported and not as `model` says.

        The hash vouches for the built-in ones. Those made one by one are checked, each, when they are looked at.
        """
        model = self.model if self.split.startswith(OFFICIAL) else None
        return _load(self.gym, self.split, self.folder, self.module, self.index or self.sha256, model)  # type: ignore[arg-type]  # paths and zip paths can be hashed

    def ids(self) -> Collection[str]:
        """The ids of the tasks, in order."""
        tasks = self.load()
        return tasks.ids if isinstance(tasks, Made) else [task.id for task in tasks]

    def find(self, task_id: str) -> Task | None:
        """The task of that id; None where the set does not hold it."""
        tasks = self.load()
        if isinstance(tasks, Made):
            return tasks.task(task_id) if task_id in tasks.ids else None
        return next((task for task in tasks if task.id == task_id), None)

    def read(self) -> Sequence[Task]:
        """The tasks as they are now, whatever the manifest says of them. Raises DataError for one that `model` does not fit."""
        if self.recipe is None:
            return read_tasks(self.folder / f"{self.split}.jsonl", self.gym, self.model)
        generator = importlib.import_module(f"{self.module}.generate")

        def fitting(task: Task) -> Task:
            _fits(task, self.model, f"{self.gym}/{self.split}")
            return task

        if hasattr(generator, "ids"):
            return Made(generator.ids(**self.recipe), lambda task_id: fitting(generator.task(task_id)))
        return [fitting(task) for task in generator.tasks(**self.recipe)]

    def made(self) -> Made:
        """The tasks of a set with an index, each checked against it when it is made, or found in the cache."""
        index = read_index(self.folder / f"{self.split}.index", self.index)
        generator = importlib.import_module(f"{self.module}.generate")

        def vouched(task_id: str) -> Task:
            text = cached(index[task_id])
            if text is None:
                text = line(generator.task(task_id), sort_keys=False)
                if (found := hashlib.sha256(text.encode()).hexdigest()[:DIGITS]) != index[task_id]:
                    raise DataError(
                        f"Task {self.gym}/{self.split} {task_id!r}: made with SHA-256 {found}…, but the index names "
                        f"{index[task_id]}…. {self._mend()}"
                    )
                keep(index[task_id], text)
            return _task(text, f"{self.gym}/{self.split}", self.gym)

        return Made(index, vouched)

    def check(self) -> Sequence[Task]:
        """The tasks, checked against hash, index and `model`. Raises DataError."""
        try:
            tasks = self.read()
            now = recorded(tasks)
        except DataError as error:
            raise DataError(f"{error} {_AGAIN}" if self.split.startswith(OFFICIAL) else str(error)) from error
        if (now.count, now.sha256) != (self.count, self.sha256):
            raise DataError(
                f"Tasks {self.gym}/{self.split}: {now.count} tasks with SHA-256 {now.sha256[:12]}…, but the manifest "
                f"names {self.count} with {self.sha256[:12]}…. {self._mend()}"
            )
        if now.index:
            read_index(self.folder / f"{self.split}.index", hashlib.sha256(now.index.encode()).hexdigest())
            self.made()  # whose index the manifest must name
        return tasks

    def _mend(self) -> str:
        if self.split.startswith(OFFICIAL):
            return _AGAIN
        return f"Restore the file, or record the change with `userrl data record {self.gym}` if it is meant."

    @staticmethod
    def read_manifest(gym: str, folder: Traversable, module: str, model: type[HiddenModel] | None = None) -> dict[str, TaskSet]:
        """Split -> task set, of the manifest in a folder. Raises DataError."""
        try:
            document = json.loads((folder / "manifest.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise _no_manifest(folder, error) from error
        return TaskSet.parse(document, gym, folder, module, model)

    @staticmethod
    def parse(
        document: Any, gym: str, folder: Traversable, module: str, model: type[HiddenModel] | None = None
    ) -> dict[str, TaskSet]:
        """Split -> task set, of a manifest's document. Raises DataError."""

        def read(split: str, e: Mapping[str, Any]) -> TaskSet:
            told = (e["count"], e["sha256"], e["license"], e["source"])
            return TaskSet(
                gym, split, *told, folder, module, e.get("recipe"), model, e.get("index", ""), tuple(e.get("overlaps", ()))
            )

        try:
            return {split: read(split, entry) for split, entry in document["sets"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise _no_manifest(folder, error) from error


def _no_manifest(folder: Traversable, error: Exception) -> DataError:
    return DataError(
        f"{folder}/manifest.json: {type(error).__name__}: {error}. "
        f"Expected {{'sets': {{split: {{count, sha256, license, source}}}}}}."
    )


def shared(sets: Mapping[str, TaskSet], tasks: Mapping[str, Sequence[Task]]) -> Iterator[tuple[str, str]]:
    """(split, what is wrong) where two splits share a task that has the same id, or another and else is the same.

    Of tasks that are made one by one only the ids are compared. Splits whose manifest entry names the other in `overlaps`
    may share tasks.

    Args:
        tasks: split -> its tasks, as far as they are to be compared.
    """
    contents = {split: _contents(of) for split, of in tasks.items()}
    for first, second in combinations(tasks, 2):
        common = [key for key in contents[second] if key in contents[first]]
        if not common or first in sets[second].overlaps or second in sets[first].overlaps:
            continue
        here, there = contents[second][common[0]], contents[first][common[0]]
        what = f"task {here!r} is" if here == there else f"task {here!r} has another id, but else is {there!r}, which is"
        more = f" (and {len({contents[second][key] for key in common}) - 1} more)" if len(common) > 2 else ""
        yield (
            second,
            (
                f"{what} in the split {first!r}, too{more}. Who trains on one split must not be tested on it: remove it from one "
                f'of them, or if it is meant, give the entry of {second!r} in the manifest "overlaps": ["{first}"].'
            ),
        )


def _contents(tasks: Sequence[Task]) -> dict[str, str]:
    """What tells tasks of two splits apart -> the task's id: the id, and a digest of all else."""
    if isinstance(tasks, Made):
        return {task_id: task_id for task_id in tasks.ids}
    ids = {task.id: task.id for task in tasks}
    return ids | {digest([replace(task, id="")]): task.id for task in tasks}


def unlisted(gym: str, folder: Traversable, sets: Collection[str]) -> dict[str, str]:
    """Split -> what to do about it, for files of tasks that the manifest does not name."""
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".jsonl"))
    mend = f"so no command sees it. Add it with `userrl data record {gym}`."
    found = {name.removesuffix(".jsonl"): f"{folder / name} is not in the manifest, {mend}" for name in names}
    return {split: said for split, said in found.items() if split not in sets}


@cache
def _load(gym: str, split: str, folder: Traversable, module: str, sha256: str, model: type[HiddenModel] | None) -> Sequence[Task]:
    """`sha256` is here so that a set that was imported anew is read anew."""
    tasks = TaskSet.read_manifest(gym, folder, module, model)[split]
    return tasks.made() if tasks.index else tuple(tasks.check())


def imported_sets(gym: str, module: str, model: type[HiddenModel] | None = None) -> Mapping[str, TaskSet]:
    """Split name -> imported task set of a gym; none where nothing was imported. Raises DataError for a broken manifest."""
    try:
        folder = folder_of(gym)
    except ConfigError:
        return {}
    if not (folder / "manifest.json").exists():
        return {}
    try:
        return TaskSet.read_manifest(gym, folder, module, model)
    except DataError as error:
        mend = f"Import the official data again (`userrl data import userrl PATH`), or delete the folder {folder}."
        raise DataError(f"{error} {mend}") from error
