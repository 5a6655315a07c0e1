"""The official UserRL data: reading it, and what a folder holds of it.

Two layouts are read: a checkout of the repository (github.com/SalesforceAIResearch/UserRL), and a folder with `data/`
and `splits.json` that was extracted from one. Nothing here knows how a gym wants its tasks; the gyms' `official`
modules do (see `pipeline.official`).

An extracted folder lists its splits; those of a checkout are drawn again (see `official_splits`).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from userrl.data.official_sources import REPOSITORY, SOURCES
from userrl.data.official_splits import derived_splits, listed_splits
from userrl.errors import DataError

_LFS = b"version https://git-lfs"
"""What a file begins with that Git LFS has not fetched."""


@dataclass(frozen=True)
class Entry:
    """One official task as its file has it."""

    key: str
    where: str
    """File and place in it, for messages."""
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Official:
    """What a folder holds of the official data."""

    commit: str
    """Of the repository; "" where it is not known."""
    entries: Mapping[str, Mapping[str, Entry]]
    """Gym -> key -> entry, of the files that are there; none of a gym that needs all its files and lacks some."""
    examples: Mapping[str, Mapping[str, Entry]]
    """Gym -> key -> entry of whole tasks that are in no split."""
    splits: Mapping[str, Mapping[str, Sequence[str]]]
    """Gym -> split -> keys in official order. A key is "" where neither the task's file nor `splits.json` is there."""
    files: Mapping[str, Sequence[str]]
    """Gym -> paths of its files, relative to the folder."""
    missing: Mapping[str, Sequence[str]]
    """Gym -> paths of the files that are not there, or that are only Git LFS pointers."""
    indexed: Mapping[str, int]
    """Gym -> how many tasks its index lists, for gyms that have one."""


def read(root: Path) -> Official:
    """The official data in a folder, checked.

    Raises DataError, naming file and place, for a folder without any of it, a broken file, an entry without its key or
    with that of another, and splits that name a task which is not there.
    """
    checkout = (root / "gyms").is_dir()
    entries: dict[str, dict[str, Entry]] = {}
    examples: dict[str, dict[str, Entry]] = {}
    files: dict[str, list[str]] = {}
    missing: dict[str, list[str]] = {}
    pools: dict[str, list[list[Entry] | None]] = {}
    for gym, source in SOURCES.items():
        files[gym] = [pair[checkout] for pair in source.files]
        missing[gym] = [name for name in files[gym] if not _is_there(root / name)]
        readable = set(files[gym]) - set(missing[gym]) if source.stand_alone or not missing[gym] else set()
        pools[gym] = [_entries(root / name, gym, source.key) if name in readable else None for name in files[gym]]
        if readable:
            entries[gym] = _by_key(chain.from_iterable(pool for pool in pools[gym] if pool is not None))
        shown = [_entries(root / name, gym, source.key) for name in source.examples if _is_there(root / name)]
        if shown:
            examples[gym] = _by_key(entry for pool in shown for entry in pool if entry.key not in entries.get(gym, {}))
    listed = root / "splits.json"
    if not entries and not listed.is_file():
        raise DataError(
            f"{root} holds none of the official data: expected a checkout of {REPOSITORY} (with "
            f"{SOURCES['function'].files[0][1]}), or a folder with {SOURCES['function'].files[0][0]} and splits.json."
        )
    if listed.is_file():
        commit, splits = listed_splits(load_json(listed), str(listed))
    else:
        commit, splits = _head(root), derived_splits(_sized(root, files, pools))
    for gym, known in entries.items():
        for split, keys in splits.get(gym, {}).items():
            if unknown := [key for key in keys if key not in known and not missing[gym]]:
                raise DataError(
                    f"{listed}: {split} of {gym} names {unknown[0]!r}, which is not in {', '.join(files[gym])}. "
                    f"Expected files and splits of the same commit."
                )
    indexed = {
        gym: _check_index(root / source.index, entries.get(gym, {}), splits.get(gym, {}))
        for gym, source in SOURCES.items()
        if source.index and _is_there(root / source.index)
    }
    return Official(commit, entries, examples, splits, files, missing, indexed)


# --- files ---------------------------------------------------------------------------------------------------


def _is_there(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_LFS)) != _LFS


def load_json(path: Path) -> Any:
    """The value of a JSON file, which may be compressed. Raises DataError with the line of the first fault."""
    try:
        content = path.read_bytes()
        return json.loads((gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8"))
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Nothing was imported; restore the file.") from error


def _entries(path: Path, gym: str, key_field: str) -> list[Entry]:
    """The entries of a file: a list of objects, or an object of objects, whose keys become their field "id"."""
    value = load_json(path)
    if isinstance(value, dict):
        rows = [(f"{path}, entry {key!r}", {**row, "id": key} if isinstance(row, dict) else row) for key, row in value.items()]
    elif isinstance(value, list):
        rows = [(f"{path}, entry {number}", row) for number, row in enumerate(value, start=1)]
    else:
        raise DataError(f"{path}: holds a JSON {type(value).__name__}; expected a list or an object of tasks.")
    entries = []
    for where, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{where}: is {row!r:.60}; expected a JSON object.")
        key = row.get(key_field)
        if not isinstance(key, str) or not key:
            state = f"is {key!r:.60}" if key_field in row else "is missing"
            raise DataError(f"{where}: field {key_field!r} {state}; expected a JSON string.")
        # Only these questions of the repository's search file are in its splits.
        if gym != "search" or "Bamboogle" in key:
            entries.append(Entry(key, where, row))
    return entries


def _by_key(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.key in found:
            raise DataError(f"{entry.where}: its key {entry.key!r} is that of {found[entry.key].where}; expected each once.")
        found[entry.key] = entry
    return found


def _check_index(path: Path, entries: Mapping[str, Entry], splits: Mapping[str, Sequence[str]]) -> int:
    """How many tasks an index lists. Raises DataError for tasks of the files or the splits that are not as it says."""
    try:
        openings = {row["id"]: row["initial_description"] for row in load_json(path)["tasks"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: {type(error).__name__}: {error}. Expected {{tasks: [{{id, initial_description, ...}}]}}."
        ) from error
    for split, keys in splits.items():
        if unknown := [key for key in keys if key and key not in openings]:
            raise DataError(f"{path}: does not list {unknown[0]!r} of {split}. Expected index and splits of the same commit.")
    for key, entry in entries.items():
        if openings.get(key) != entry.record.get("initial_description"):
            state = "lists another opening of it" if key in openings else "does not list it"
            raise DataError(f"{entry.where}: {path.name} {state}. Expected index and files of the same commit.")
    return len(openings)


def _head(root: Path) -> str:
    """The commit of a checkout, as far as plain files tell; "" if they do not."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text("utf-8").strip()
        packed = (git / "packed-refs").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line.split()[0] for line in packed.splitlines() if line.endswith(f" {name}")), "")


def _sized(
    root: Path, files: Mapping[str, Sequence[str]], pools: Mapping[str, Sequence[Sequence[Entry] | None]]
) -> dict[str, list[list[str]]]:
    """The keys of each gym's files, each of the official size: others would give other splits than the released ones."""
    sized: dict[str, list[list[str]]] = {}
    for gym, source in SOURCES.items():
        drawn = source.train + source.test
        sized[gym] = []
        for name, size, pool in zip(files[gym], source.sizes, pools[gym], strict=True):
            keys = [""] * (size or drawn) if pool is None else [entry.key for entry in pool]
            sized[gym].append(keys)
            if (len(keys) != size) if size else (len(keys) < drawn):
                raise DataError(
                    f"{root / name}: holds {len(keys)} tasks; expected {size or f'at least {drawn}'}, since the official "
                    f"splits follow from the official file. Restore it, or put a splits.json into {root}."
                )
    return sized
