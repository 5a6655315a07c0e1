"""Import of the official UserRL data: read, convert by each gym's own converter, check all, then write.

A gym takes official tasks by a module `official` in its package: a pydantic model `Entry` (what its file holds) and a
function `convert(entry: Entry) -> Task`. What it makes must fit the gym's `hidden_model`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from userrl.core import Task
from userrl.data import digest, split_of
from userrl.data.hidden import check_hidden
from userrl.data.home import VARIABLE, folder_of, home
from userrl.data.official import Entry, Official, read
from userrl.data.official_sources import LICENSE, REPOSITORY, SOURCES
from userrl.data.sets import line
from userrl.errors import DataError, StoreError
from userrl.gyms.base import find, known
from userrl.store import write_whole


@dataclass(frozen=True)
class Imported:
    """What became of one gym's official data."""

    gym: str
    counts: Mapping[str, int]
    """Official split -> its number of tasks, whether imported or not."""
    written: Mapping[str, int]
    """Split -> tasks written; empty where none were."""
    reason: str = ""
    """Why none were written, or not all."""
    indexed: int = 0
    """Tasks that the gym's index lists, of which all its official splits consist; 0 where there is none."""


def import_userrl(root: Path) -> list[Imported]:
    """Import what a folder holds of the official data into the data home, replacing what was imported before.

    Everything is read and checked before the first file is written. Gyms whose files are missing, or that this version
    does not have, are counted and named, not written. Where the files of a gym stand alone, those that are there are
    imported; a split that lacks tasks then gets a name that ends in "-part".

    Raises:
        DataError: a file is broken or an entry does not fit; it names file, entry and field, and nothing was written.
        StoreError: the data home cannot be written.
    """
    official = read(root)
    reasons = {gym: _reason(gym, official) for gym in SOURCES}
    sets = {gym: _sets(gym, official) for gym in SOURCES if not reasons[gym] or (_takes_tasks(gym) and _some(gym, official))}
    try:
        for gym, of_gym in sets.items():
            _write(gym, of_gym, _source(gym, official))
    except StoreError as error:
        raise StoreError(
            f"Cannot write the data home {home()}: {error.__cause__}. Free some space, or name another folder with {VARIABLE}."
        ) from error
    return [
        Imported(
            gym,
            {split: len(keys) for split, keys in official.splits.get(gym, {}).items()},
            {split: len(tasks) for split, tasks in sets.get(gym, {}).items()},
            reasons[gym],
            official.indexed.get(gym, 0),
        )
        for gym in SOURCES
    ]


def _reason(gym: str, official: Official) -> str:
    """Why the tasks of a gym cannot be imported; "" if they can."""
    reasons = []
    if gym not in known():
        reasons.append("not playable yet: this version of userrl does not have the gym")
    elif not _takes_tasks(gym):
        reasons.append("not playable yet: the gym of this version does not take official tasks")
    if lacking := official.missing[gym]:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        reasons.append(f"data missing: {lacking[0]}{more} (absent, or not fetched by Git LFS)")
    elif not official.splits.get(gym):
        reasons.append("splits missing: splits.json does not name the gym")
    return "; ".join(reasons)


def _takes_tasks(gym: str) -> bool:
    return gym in known() and find_spec(f"{known()[gym].partition(':')[0]}.official") is not None


def _some(gym: str, official: Official) -> bool:
    return gym in official.entries or gym in official.examples


def _sets(gym: str, official: Official) -> dict[str, list[Task]]:
    """Split -> tasks of a gym. Every entry is converted, also those in no split, so that a broken file is noticed."""
    entries, examples = official.entries.get(gym, {}), official.examples.get(gym, {})
    tasks = {key: _convert(gym, entry) for key, entry in {**entries, **examples}.items()}
    first: dict[str, str] = {}
    for key, task in tasks.items():
        if first.setdefault(task.id, key) != key:
            where = {**entries, **examples}[key].where
            raise DataError(f"{where}: its id {task.id!r} is that of {first[task.id]!r}, too; expected each once.")
    named: dict[str, list[Task]] = {"official-example": [tasks[key] for key in examples]}
    for split, keys in official.splits.get(gym, {}).items():
        there = [tasks[key] for key in keys if key in entries]
        named[split if len(there) == len(keys) else f"{split}-part"] = there
    train = named.get("official-train", [])
    sets = {
        "official-train": train,
        "official-validation": [task for task in train if split_of(task.id) == "validation"],
        "official-train-rest": [task for task in train if split_of(task.id) != "validation"],
        **named,
    }
    return {split: chosen for split, chosen in sets.items() if chosen}


def _convert(gym: str, entry: Entry) -> Task:
    module = import_module(f"{known()[gym].partition(':')[0]}.official")
    try:
        task: Task = module.convert(module.Entry.model_validate(entry.record))
        check_hidden(task, find(gym).hidden_model, "converted")
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "entry"
        problem = f"field {field!r}: {fault['msg']}, but it is {_shown(fault.get('input'))}"
        raise DataError(f"{entry.where} ({entry.key!r}): {problem}. Nothing was imported.") from error
    except DataError as error:
        raise DataError(f"{entry.where} ({entry.key!r}): {error} Nothing was imported.") from error
    return task


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _source(gym: str, official: Official) -> str:
    commit = f"commit {official.commit}" if official.commit else "commit not known"
    there = [name for name in official.files[gym] if name not in official.missing[gym]]
    return f"{REPOSITORY}, {commit}: {', '.join(there) or 'examples only'}"


def _write(gym: str, sets: Mapping[str, Sequence[Task]], source: str) -> None:
    """The files, then the manifest that names them: a crash in between is noticed by their hashes."""
    entries = {}
    for split, tasks in sets.items():
        write_whole(folder_of(gym) / f"{split}.jsonl", "".join(f"{line(task)}\n" for task in tasks).encode())
        entries[split] = {"count": len(tasks), "sha256": digest(tasks), "license": LICENSE, "source": source}
    write_whole(folder_of(gym) / "manifest.json", json.dumps({"sets": entries}, indent=2).encode() + b"\n")
