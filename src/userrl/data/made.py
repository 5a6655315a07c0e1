"""Tasks that are made when they are looked at.

A set of some thousand large tasks is slow to make and large to keep. A generator that offers, beside `tasks`,

    ids(**recipe) -> Sequence[str]      the ids of the set, in order
    task(task_id) -> Task               the task of an id, whatever the set

lets it be a sequence that makes single tasks. They are vouched for one by one: `<split>.index`, beside the manifest, holds
the digest of each task with its keys in order, and the manifest the SHA-256 of the index. So a task that is played was
checked, and only `userrl data check` makes the whole set. What was made once is kept on disk (see `cache`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources.abc import Traversable
from typing import overload

from userrl.core import Task
from userrl.errors import DataError

KEPT = 2
"""Tasks of a set that are kept in memory, those looked at last: attempts at a task follow each other, and Python's garbage
collector goes through all that is kept."""
DIGITS = 16
"""Hexadecimal digits of a task's digest in an index: enough to notice a change. The manifest holds the whole of the set's."""


class Made(Sequence[Task]):
    """Tasks by their ids, made when looked at. A slice is one, too, and makes nothing."""

    def __init__(self, ids: Iterable[str], make: Callable[[str], Task]) -> None:
        self.ids = dict.fromkeys(ids)
        self._order = tuple(self.ids)
        self.task = make if hasattr(make, "cache_info") else lru_cache(KEPT)(make)
        """The task of an id."""

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Task: ...
    @overload
    def __getitem__(self, place: slice) -> Made: ...
    def __getitem__(self, place: int | slice) -> Task | Made:
        if isinstance(place, slice):
            return Made(self._order[place], self.task)
        return self.task(self._order[place])


def index_of(digests: Mapping[str, str]) -> str:
    """The text of an index: id and digest of a task a line."""
    return "".join(f"{task_id} {value[:DIGITS]}\n" for task_id, value in digests.items())


def read_index(path: Traversable, sha256: str) -> dict[str, str]:
    """Id -> digest. Raises DataError for an index that is not the one of that SHA-256."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected an index of tasks; restore the file.") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path}: its SHA-256 is {found[:12]}…, but the manifest names {sha256[:12]}…. Restore the file, or record the "
            f"change with `userrl data record` if it is meant."
        )
    return dict(row.rsplit(" ", 1) for row in raw.decode().splitlines())
