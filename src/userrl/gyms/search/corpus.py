"""Engines that search a file of passages on this machine: SQLite's full-text index, and tantivy for large files.

A file holds one JSON object a line with `title`, `text` and, if known, `source`. It is indexed on the first search
and the index is shared by all gyms of the process that name the same file.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from userrl.errors import ConfigError, DataError, needs
from userrl.gyms.search.results import Result

MAX_TERMS = 32
_STOP = """
    a about after all also an and are as at be been before by can could did do does during each for from had has have he her
    him his how i if in into is it its kind many me much named of on or our she so some such tell than that the their them
    then there these they this those to up us was we were what when where which while who whom whose why will with would
    you your
"""
STOP_WORDS = frozenset(_STOP.split())
TITLE_WEIGHT = 4.0
"""How much more a word in the title counts than one in the text."""
_WORD = re.compile(r"[^\W_]+")


def terms(text: str) -> list[str]:
    """The words of a query that are looked for: lower case, once each, without stop words, at most MAX_TERMS.

    >>> terms("Who was the founder of Ombrel Mills?")
    ['founder', 'ombrel', 'mills']
    """
    return [word for word in dict.fromkeys(_WORD.findall(text.lower())) if word not in STOP_WORDS][:MAX_TERMS]


@dataclass(frozen=True)
class Corpus:
    """SQLite's FTS5, in memory: words by their stems, ranked by BM25, titles first. No word of a query is syntax."""

    path: str | None = None
    """A file of passages; the gym's own by default."""

    async def search(self, text: str, count: int) -> list[Result]:
        return _index(self.path).search(text, count)


class Index:
    """Passages in a full-text table. Safe to use from several threads."""

    def __init__(self, passages: Sequence[Result]) -> None:
        # One connection behind a lock: whether SQLite itself was built for threads differs between machines.
        self._lock = threading.Lock()
        self._table = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._table.close)
        try:
            self._table.execute(
                "CREATE VIRTUAL TABLE passages USING fts5(title, text, source UNINDEXED, tokenize='porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            raise ConfigError(
                f"This Python's SQLite {sqlite3.sqlite_version} has no full-text search ({error}). "
                f"Choose the engine 'tantivy', or a Python whose SQLite has FTS5."
            ) from error
        self._table.executemany("INSERT INTO passages VALUES (?, ?, ?)", ((p.title, p.snippet, p.source) for p in passages))

    def search(self, text: str, count: int) -> list[Result]:
        if not (words := terms(text)):
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            return [Result(*row) for row in self._table.execute(_BEST, (match, TITLE_WEIGHT, count))]


_BEST = "SELECT title, text, source FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, ?), rowid LIMIT ?"


@dataclass(frozen=True)
class Tantivy:
    """The package tantivy (`userrl[search]`), for files too large for SQLite in memory. Ranks much as `Corpus` does."""

    path: str | None = None
    """A file of passages; the gym's own by default."""

    async def search(self, text: str, count: int) -> list[Result]:
        if not (words := terms(text)):
            return []
        index = _tantivy_index(self.path)
        quoted = " ".join(f'"{word}"' for word in words)
        query = index.parse_query(quoted, ["title", "text"], field_boosts={"title": TITLE_WEIGHT})
        searcher = index.searcher()
        hits = (searcher.doc(address) for _, address in searcher.search(query, count).hits)
        return [Result(hit["title"][0], hit["text"][0], hit["source"][0]) for hit in hits]


def passages(path: str | None = None) -> list[Result]:
    """The passages of a file, or the gym's own, checked against their recorded hash.

    Raises DataError with file, line and field when it does not fit.
    """
    if path is not None:
        return _read(Path(path))
    room = resources.files("userrl.gyms.search")
    found, expected = _read(room / "content" / "corpus.jsonl"), recorded(room)
    if len(found) != expected["count"] or digest(found) != expected["sha256"]:
        raise DataError(
            f"The passages of the search gym: {len(found)} with SHA-256 {digest(found)[:12]}…, but the manifest names "
            f"{expected['count']} with {expected['sha256'][:12]}…. Restore content/corpus.jsonl, or make corpus and tasks "
            f"anew with userrl.gyms.search.generate.write."
        )
    return found


def recorded(room: Traversable) -> dict[str, Any]:
    """What the manifest says of the gym's corpus: count, sha256, license, source."""
    entry: dict[str, Any] = json.loads((room / "tasks" / "manifest.json").read_text("utf-8"))["corpus"]
    return entry


def line(passage: Result) -> str:
    """A passage as one canonical JSON line."""
    record = {"title": passage.title, "text": passage.snippet, "source": passage.source}
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def digest(found: Sequence[Result]) -> str:
    """SHA-256 over the canonical lines, each ended by a newline."""
    return hashlib.sha256("".join(line(passage) + "\n" for passage in found).encode()).hexdigest()


def _read(path: Traversable) -> list[Result]:
    try:
        rows = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected a UTF-8 file with one JSON passage per line.") from error
    return [_passage(row, f"{path}, line {number}") for number, row in enumerate(rows, start=1) if row.strip()]


def _passage(row: str, where: str) -> Result:
    expected = "Expected an object with the texts title and text, and source if known."
    try:
        record = json.loads(row)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}). {expected}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: holds a JSON {type(record).__name__}. {expected}")
    values = [record.get("title"), record.get("text"), record.get("source", "")]
    for name, value in zip(("title", "text", "source"), values, strict=True):
        if not isinstance(value, str):
            raise DataError(f"{where}: field {name!r} is {value!r:.40}. {expected}")
    return Result(*values)


@cache
def _index(path: str | None) -> Index:
    return Index(passages(path))


@cache
def _tantivy_index(path: str | None) -> Any:
    with needs("search", "The search engine 'tantivy'"):
        tantivy = importlib.import_module("tantivy")
    schema = tantivy.SchemaBuilder()
    for name in ("title", "text"):
        schema.add_text_field(name, stored=True, tokenizer_name="en_stem")
    schema.add_text_field("source", stored=True, tokenizer_name="raw")
    index = tantivy.Index(schema.build())
    writer = index.writer(num_threads=1)  # with several, equal hits would come in another order each time
    for p in passages(path):
        writer.add_document(tantivy.Document(title=p.title, text=p.snippet, source=p.source))
    writer.commit()
    index.reload()
    return index
