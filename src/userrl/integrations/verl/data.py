"""Task sets as the parquet files that verl reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from userrl.config import Count, as_dict
from userrl.core import Task
from userrl.errors import ConfigError, DataError, StoreError, needs
from userrl.evaluate.run import chosen_tasks
from userrl.gyms.base import find
from userrl.integrations.verl.settings import LOOP
from userrl.render import opening

TRAINING, VALIDATION = "train", "val"
FILES = {TRAINING: "train.parquet", VALIDATION: "val.parquet"}
MANIFEST = "manifest.json"
"""Which tasks the files hold."""


@dataclass(frozen=True)
class DataJob:
    """Which tasks to train on, and which to validate on."""

    gyms: tuple[str, ...] = ("intention",)
    train: str = "train"
    """A split that each of the gyms has: built in (train) or imported (official-alltrain). Tasks of the split `val` are left
    out of it."""
    val: str = "validation"
    """Never a test split: what is chosen by a task's score is no longer a test of it."""
    train_tasks: Count | None = None
    """The first so many tasks of each gym; None: all."""
    val_tasks: Count | None = None


def export(job: DataJob, folder: Path) -> dict[str, dict[str, int]]:
    """Write `train.parquet`, `val.parquet` and `manifest.json` to a folder; returns purpose -> gym -> rows.

    A task is in its row as a whole, so no other machine need have the task set; what it hides is in there, too.

    No training task is in the validation split, also where that is a part of the training split (official-alltrain).

    Raises ConfigError for a test split, or one split for both, UnknownName for a gym or split that is not
    there, StoreError when the folder cannot be written.
    """
    from userrl.train.validation import of_tests

    for option, split in (("--train", job.train), ("--val", job.val)):
        if of_tests(split):
            raise ConfigError(f"{option} is {split!r}, but test tasks are for evaluation alone. Choose another split.")
    if job.val == job.train:
        raise ConfigError(
            f"--train and --val are both {job.val!r}; expected two splits, as training tasks show no progress on others."
        )
    val = chosen_tasks(job.gyms, job.val, job.val_tasks)
    held_out = {(gym, name) for gym in job.gyms for name in find(gym).sets()[job.val].ids()}
    train = [task for task in chosen_tasks(job.gyms, job.train, job.train_tasks) if (task.gym, task.id) not in held_out]
    if not train:
        raise ConfigError(f"All tasks of --train {job.train!r} are among those of --val {job.val!r}. Choose another split.")
    counts: dict[str, dict[str, int]] = {}
    for purpose, split, tasks in ((TRAINING, job.train, train), (VALIDATION, job.val, val)):
        counts[purpose] = {gym: sum(task.gym == gym for task in tasks) for gym in job.gyms}
        write(folder / FILES[purpose], tasks, purpose=purpose, split=split)
    hashes = {gym: {split: find(gym).sets()[split].sha256 for split in (job.train, job.val)} for gym in job.gyms}
    (folder / MANIFEST).write_text(json.dumps({**as_dict(job), "rows": counts, "sha256": hashes}, indent=2) + "\n", "utf-8")
    return counts


def write(path: Path, tasks: Iterable[Task], *, purpose: str, split: str) -> None:
    """Write tasks to a parquet file. Raises StoreError."""
    with needs("verl", "Writing data for verl"):
        import pyarrow
        from pyarrow import parquet
    rows = [row(task, index, purpose=purpose, split=split) for index, task in enumerate(tasks)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error}. Free some space or choose a writable folder with --out.") from error


def row(task: Task, index: int, *, purpose: str, split: str) -> dict[str, Any]:
    """A task as a row.

    The task is one text of JSON: parquet would give all gyms' hidden parts one schema, and fill what a gym lacks. Each gym
    is a `data_source` of its own, for which verl then reports validation scores. `prompt` is for people and for verl's own
    filters: the agent loop writes the prompt anew, with the tool.
    """
    record = {"id": task.id, "gym": task.gym, "prompt": task.prompt, "hidden": task.hidden}
    return {
        "data_source": f"userrl/{task.gym}",
        "agent_name": LOOP,
        "prompt": opening(find(task.gym)().system(task), task.prompt),
        "ability": task.gym,
        "reward_model": {"style": "rule", "ground_truth": ""},
        "extra_info": {"index": index, "split": split, "purpose": purpose, "task": json.dumps(record)},
    }


def task_of(text: str) -> Task:
    """The task in a row's `extra_info.task`. Raises DataError."""
    try:
        record = json.loads(text)
        return Task(record["id"], record["gym"], record["prompt"], record["hidden"])
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(
            f"A row's `extra_info.task` cannot be read ({error!r}); make the files anew with `userrl verl data`."
        ) from error


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a file. Raises DataError."""
    with needs("verl", "Reading data for verl"):
        import pyarrow
        from pyarrow import parquet
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read ({error}). Make it with `userrl verl data`.") from error
    yield from rows
