"""Databases in tau-bench's JSON form, and views of them that take changes.

A `Base` is loaded once and never changed. An `Overlay` is a view of one that copies a record when it is first edited,
so that a further episode costs only the records it changes.

The hash of a database is tau-bench's: the SHA-256 of the text of nested tuples in which an object is the sorted tuple
of its (key, value) pairs. So 100 and 100.0 differ, as do 1 and true; the order of a list counts, that of keys does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from userrl.data.home import folder_of
from userrl.errors import DataError, UnknownName
from userrl.gyms.tau import source

OFFICIAL = "official/"
"""Begins the names of the databases that are imported (`userrl data import tau-bench`), never built in."""

Record = dict[str, Any]
Tables = Mapping[str, Mapping[str, Record]]


@dataclass(frozen=True, eq=False)
class Base:
    """A database that nobody changes."""

    name: str
    """As in `load`."""
    domain: str
    tables: Tables
    """Table -> id -> record, in the order of the file. Only to be read."""

    @cached_property
    def texts(self) -> Mapping[str, Mapping[str, str]]:
        """Table -> id -> the record's part of the text that is hashed. About as large as the database: for `digest` alone."""
        return {table: {key: _entry(key, record) for key, record in rows.items()} for table, rows in self.tables.items()}


class Overlay:
    """A view of a base that takes changes. Forks share what neither has edited since."""

    __slots__ = ("_own", "_records", "base")

    def __init__(self, base: Base) -> None:
        self.base = base
        self._records: dict[tuple[str, str], Record] = {}
        self._own: set[tuple[str, str]] = set()

    def get(self, table: str, key: str) -> Record | None:
        """The record as it is now, only to be read; None where there is none. A key that is no text has none, either."""
        return self._records.get((table, key)) or self.base.tables[table].get(key)

    def edit(self, table: str, key: str) -> Record:
        """The record, to be changed in place. Raises KeyError where there is none."""
        if (table, key) not in self._own:
            record = self.get(table, key)
            if record is None:
                raise KeyError(key)
            self.put(table, key, copied(record))
        return self._records[table, key]

    def put(self, table: str, key: str, record: Record) -> None:
        """Add a record, or replace it."""
        self._records[table, key] = record
        self._own.add((table, key))

    def rows(self, table: str) -> Iterator[tuple[str, Record]]:
        """(id, record) of a table as it is now, in the order of the file, new ones last. Only to be read."""
        changed = {key: record for (of, key), record in self._records.items() if of == table}
        for key, record in self.base.tables[table].items():
            yield key, changed.pop(key, record)
        yield from changed.items()

    def changed(self) -> Mapping[tuple[str, str], Record]:
        """(table, id) -> record of all that were edited or added, also where an edit was undone. Only to be read."""
        return self._records

    def fork(self) -> Self:
        """A view with the same content, whose changes do not come back here."""
        new = type(self)(self.base)
        new._records = dict(self._records)
        return new

    def adopt(self, other: Overlay) -> None:
        """Take over the content of a fork, which must not be edited afterwards."""
        self._records, self._own = other._records, set()


def copied(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


# --- comparing and hashing -----------------------------------------------------------------------------------


def equal(one: Overlay, other: Overlay) -> bool:
    """Whether two views of the same base have the same hash; only the records that either has changed are looked at.

    Raises ValueError for views of different bases.
    """
    if one.base is not other.base:
        raise ValueError(f"Views of {one.base.name!r} and {other.base.name!r} cannot be compared; expected one base.")
    return all(text(one.get(*key)) == text(other.get(*key)) for key in one.changed().keys() | other.changed().keys())


def digest(db: Overlay) -> str:
    """The hash of the whole database, in tau-bench's exact form. Takes tens of milliseconds; `equal` tells the same sooner."""
    changed = {(table, key): _entry(key, record) for (table, key), record in db.changed().items()}
    tables = []
    for table, rows in sorted(db.base.texts.items()):
        rows = {**rows, **{key: entry for (of, key), entry in changed.items() if of == table}}
        tables.append(f"({table!r}, {_tuple([rows[key] for key in sorted(rows)])})")
    return hashlib.sha256(_tuple(tables).encode()).hexdigest()


def text(value: Any) -> str:
    """What of a JSON value is hashed. Two values have the same text just when they count as the same.

    >>> text({"b": 1, "a": [True, 1.0]})
    "(('a', (True, 1.0)), ('b', 1))"
    """
    if isinstance(value, dict):
        return _tuple([_entry(key, item) for key, item in sorted(value.items())])
    if isinstance(value, list):
        return _tuple([text(item) for item in value])
    return repr(value)


def _entry(key: str, value: Any) -> str:
    return f"({key!r}, {text(value)})"


def _tuple(items: list[str]) -> str:
    """As Python writes a tuple of these."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


# --- loading -------------------------------------------------------------------------------------------------


def load(name: str, data: str = "") -> Base:
    """The database of that name: "retail" and "airline" are built in, "official/retail" and "official/airline" imported.

    Each is made or read once in a process.

    Args:
        data: a folder with tau-bench's data that is read in the place of what was imported.

    Raises:
        UnknownName: there is no such database.
        DataError: an official one was not imported, or is not what was imported.
    """
    domain = name.removeprefix(OFFICIAL)
    if domain not in source.TABLES:
        raise UnknownName("database", name, [*source.TABLES, *(OFFICIAL + domain for domain in source.TABLES)])
    return _official(domain, imported(data)) if name.startswith(OFFICIAL) else _built_in(domain)


@cache
def _built_in(domain: str) -> Base:
    return Base(domain, domain, import_module("userrl.gyms.tau.generate").database(domain))


def imported(data: str = "") -> Path:
    """The folder that official databases and texts are read from. Raises DataError when nothing was imported."""
    if data:
        return Path(data)
    folder = folder_of("tau") / "bench"
    if not (folder / source.HASHES).is_file():
        raise DataError(
            f"The official databases are not here: there is no {folder / source.HASHES}. "
            f"Import them: `userrl data import tau-bench PATH`."
        )
    return folder


@cache
def _official(domain: str, folder: Path) -> Base:
    if (folder / source.HASHES).is_file():
        source.verify(folder)
    return Base(OFFICIAL + domain, domain, source.tables(folder, domain))


def forget_imported() -> None:
    """Read imported databases anew."""
    _official.cache_clear()
