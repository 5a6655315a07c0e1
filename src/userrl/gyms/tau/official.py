"""Official tau tasks and databases as ours.

Two sources. UserRL's files (`userrl data import userrl`) hold tasks with the user's first message. tau-bench itself
(`userrl data import tau-bench`) holds the databases and the texts, without which no official task can be played, and
the tasks without a first message; they open with `OPENING`.

The scripted user cannot play official tasks: they have no script. Let a model be the user.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from userrl.core import Task
from userrl.data import digest
from userrl.data.hidden import HiddenModel, check_hidden
from userrl.data.home import folder_of
from userrl.data.sets import TaskSet, line
from userrl.errors import DataError
from userrl.gyms.tau import source, texts
from userrl.gyms.tau.database import OFFICIAL, forget_imported
from userrl.gyms.tau.tools import NAMES
from userrl.store import write_whole

LICENSE = "MIT (tau-bench)"
REPOSITORY = "github.com/sierra-research/tau-bench"
OPENING = "Hello, I need some help, please."
"""First message of tasks that come without one."""

Text = Annotated[str, Field(min_length=1)]


class Action(BaseModel):
    """A call of the ground truth."""

    name: Text
    kwargs: dict[str, Any]


class Row(BaseModel):
    """A task as tau-bench has it."""

    user_id: Text
    instruction: Text
    actions: list[Action]
    outputs: list[Text]


class Info(BaseModel):
    """Where UserRL keeps it."""

    task: Row


class Entry(BaseModel):
    """One entry of UserRL's `tau_train.json` or `tau_test.json`."""

    id: Text
    obs: Text
    info: Info


def convert(entry: Entry) -> Task:
    """The task. The agent reads the official first message, which the user knows to have said."""
    return _task(entry.id, entry.obs, entry.info.task)


def _task(key: str, opening: str, row: Row) -> Task:
    domain = "retail" if "retail" in key else "airline"
    hidden = {
        "domain": domain,
        "database": f"{OFFICIAL}{domain}",
        "user_id": row.user_id,
        "instruction": row.instruction,
        "actions": [{"name": action.name, "arguments": action.kwargs} for action in row.actions],
        "outputs": row.outputs,
    }
    return Task(key, "tau", opening, hidden)


# --- tau-bench ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """What was imported from tau-bench."""

    records: Mapping[str, int]
    """Database -> number of its records."""
    tasks: Mapping[str, int]
    """Split -> number of its tasks."""


def bench_folder() -> Path:
    """Where the databases, texts and tasks of tau-bench are imported to."""
    return folder_of("tau") / "bench"


def bench_sets(module: str, model: type[HiddenModel] | None) -> Mapping[str, TaskSet]:
    """Split -> task set that was imported from tau-bench; none where nothing was."""
    folder = bench_folder()
    return TaskSet.read_manifest("tau", folder, module, model) if (folder / "manifest.json").is_file() else {}


def import_bench(root: Path, model: type[HiddenModel]) -> Bench:
    """Import tau-bench's data, extracted or from a checkout, replacing what was imported before.

    Everything is read and checked before the first file is written.

    Raises:
        DataError: a file is missing or broken; nothing was written.
        StoreError: the data home cannot be written.
    """
    files: dict[str, bytes] = {}
    records: dict[str, int] = {}
    sets: dict[str, list[Task]] = {}
    words: dict[str, Any] = {}
    for domain in source.TABLES:
        tables, read = source.tables(root, domain), source.texts(root, domain)
        if unknown := {tool["function"]["name"] for tool in read.tools} ^ set(NAMES[domain]):
            raise DataError(f"{root}: the list of tools of {domain} differs from ours in {sorted(unknown)[0]!r}.")
        records[f"{OFFICIAL}{domain}"] = sum(map(len, tables.values()))
        files |= {f"{domain}/{table}.json": json.dumps(rows).encode() for table, rows in tables.items()}
        files[f"{domain}/policy.md"] = read.policy.encode()
        files[f"{domain}/tools.json"] = json.dumps(read.tools).encode()
        if read.messages:
            words[domain] = {code: {"template": template} for code, template in read.messages.items()}
        for split, rows in source.tasks(root, domain).items():
            sets[f"official-{domain}-{split}"] = [bench_task(row, f"{root}, {domain}, {split}", model) for row in rows]
    if words:
        files["messages.json"] = json.dumps(words).encode()
    for split, tasks in sets.items():
        files[f"{split}.jsonl"] = "".join(f"{line(task)}\n" for task in tasks).encode()
    _write(files, sets)
    return Bench(records, {split: len(tasks) for split, tasks in sets.items()})


def bench_task(row: source.Row, where: str, model: type[HiddenModel]) -> Task:
    """A row of tau-bench's tasks as a task. Raises DataError, naming `where`, for one that does not fit."""
    try:
        task = _task(row["id"], OPENING, Row.model_validate(row))
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{where}: {row!r:.80} is not a task as tau-bench has it ({error!s:.200}). Nothing was imported."
        ) from error
    check_hidden(task, model, where)
    return task


def _write(files: Mapping[str, bytes], sets: Mapping[str, list[Task]]) -> None:
    """The files, then what names them, the hashes last: an import that breaks off is noticed."""
    folder = bench_folder()
    if "messages.json" not in files:
        (folder / "messages.json").unlink(missing_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
    about = {"license": LICENSE, "source": REPOSITORY}
    entries = {split: {"count": len(tasks), "sha256": digest(tasks), **about} for split, tasks in sets.items()}
    write_whole(folder / "manifest.json", json.dumps({"sets": entries}, indent=2).encode() + b"\n")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_whole(folder / source.HASHES, json.dumps(hashes, indent=2).encode() + b"\n")
    forget_imported()
    texts.forget_imported()
