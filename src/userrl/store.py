"""Episodes on disk: JSON lines that a crash cannot spoil, and the folder that holds a run.

A record is one line, written by one system call, so a killed process leaves at most a torn last line. Opening
for append moves the torn bytes to `<file>.torn`; everything before them is kept as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, overload

from pydantic_core import from_json, to_json

from userrl.core import INVALID, Action, Episode, Task, Tokens, Turn
from userrl.errors import DataError, ResumeError, RunBusy, StoreError

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")

Record = dict[str, Any]
Migrations = Mapping[int, Callable[[Record], Record]]
"""Version -> what makes a record of that version one of the next."""

SCHEMA = 1
"""Version of an episode's record. Readers accept every version up to this one."""
MIGRATIONS: Migrations = {}
"""Of episode records; a change of their format raises `SCHEMA` and adds an entry."""
SETTINGS_SCHEMA = 2
"""Version of `config.json`; without one it is 1."""
SETTINGS_MIGRATIONS: Migrations = {1: lambda old: {"max_new": 512, **old} if old.get("kind") == "eval" else old}
"""Of settings. The first evaluations kept no `max_new`, which was 512."""
Key = tuple[str, str, int]
"""(gym, task id, attempt), as `Episode.key`."""
TAIL = 2**20
"""Bytes that are read at once, from the end, to find a torn line."""


def to_record(episode: Episode, *, tokens: bool = True) -> Record:
    """An episode as JSON values. `tokens=False` leaves out a local policy's token ids and log-probabilities."""
    task = episode.task
    return {
        "schema": SCHEMA,
        "task": {"id": task.id, "gym": task.gym, "prompt": task.prompt, "hidden": task.hidden},
        "turns": [_turn_record(turn, tokens) for turn in episode.turns],
        "stop": episode.stop,
        "error": episode.error,
        "seed": episode.seed,
        "attempt": episode.attempt,
        "max_turns": episode.max_turns,
        "rules": episode.rules,
    }


def _turn_record(turn: Turn, tokens: bool) -> Record:
    action: Record = {"kind": turn.action.kind, "text": turn.action.text}
    for name in ("raw", "problem", "note"):
        if value := getattr(turn.action, name):
            action[name] = value
    if tokens and (t := turn.action.tokens):
        action["tokens"] = {"context": t.context, "ids": t.ids, "logprobs": [round(x, 7) for x in t.logprobs]}
    record: Record = {"action": action, "feedback": turn.feedback, "reward": turn.reward, "done": turn.done}
    if turn.label:
        record["label"] = turn.label
    if turn.reveals:
        record["reveals"] = turn.reveals
    if turn.facts:
        record["facts"] = turn.facts
    return record


def from_record(record: Record) -> Episode:
    """The episode of a record of any version. Raises KeyError, TypeError or ValueError for one that does not fit."""
    record = migrated(record, SCHEMA, MIGRATIONS)
    turns = []
    for row in record["turns"]:
        action = dict(row["action"])
        if t := action.pop("tokens", None):
            action["tokens"] = Tokens(tuple(t["context"]), tuple(t["ids"]), tuple(t["logprobs"]))
        turns.append(Turn(**{**row, "action": Action(**action), "reveals": tuple(row.get("reveals", ()))}))
    fields = {name: record[name] for name in ("stop", "error", "seed", "attempt", "max_turns", "rules")}
    return Episode(Task(**record["task"]), tuple(turns), **fields)


def migrated(record: Record, newest: int, migrations: Migrations) -> Record:
    """A record of an earlier version as one of the newest. Raises ValueError for a version that is none of these."""
    version = record["schema"]
    if not isinstance(version, int) or not 1 <= version <= newest:
        raise ValueError(f"schema is {version!r:.20}; this version of userrl reads up to {newest}. Update userrl.")
    for earlier in range(version, newest):
        record = {**migrations[earlier](record), "schema": earlier + 1}
    return record


def read(path: Path) -> Iterator[Episode]:
    """The episodes of a file. A torn last line (a crash) is passed over; any other broken line raises DataError."""
    return read_as(path, from_record, "an episode record")


def read_as(path: Path, of: Callable[[Record], T], what: str) -> Iterator[T]:
    """The lines of a file of any records, each as `of` takes it; what is broken as in `read`.

    Args:
        of: raises KeyError, TypeError or ValueError for a record that does not fit.
        what: it is, for the message.
    """
    for number, _, line, whole in _lines(path):
        try:
            found = of(_parsed(line))
        except (KeyError, TypeError, ValueError) as error:
            if not whole:
                return
            detail = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{path}, line {number}: not {what}: {detail}. Nothing was changed; mend or remove the line."
            ) from error
        yield found


def scan(path: Path) -> Iterator[tuple[int, Record]]:
    """(offset, record) of each whole line of a file of any records; a torn last line is passed over. Raises DataError."""
    for number, offset, line, whole in _lines(path):
        try:
            yield offset, _parsed(line)
        except ValueError as error:
            if not whole:
                return
            raise DataError(
                f"{path}, line {number}: not JSON ({error}). Nothing was changed; mend or remove the line."
            ) from error


class Records(Sequence[Episode]):
    """Episodes of a file, read when they are looked at, so that any number of them takes hardly any memory."""

    def __init__(self, path: Path, offsets: Iterable[int]) -> None:
        self.path, self._offsets = path, array("q", offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, at: int) -> Episode: ...

    @overload
    def __getitem__(self, at: slice) -> Records: ...

    def __getitem__(self, at: int | slice) -> Episode | Records:
        if isinstance(at, slice):
            return Records(self.path, self._offsets[at])
        return next(iter(Records(self.path, [self._offsets[at]])))

    def __iter__(self) -> Iterator[Episode]:
        for offset, line in zip(self._offsets, lines_at(self.path, self._offsets), strict=True):
            try:
                yield from_record(line)
            except (KeyError, TypeError, ValueError) as error:
                detail = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
                raise DataError(
                    f"{self.path}, byte {offset}: not an episode record: {detail}. Nothing was changed; mend or remove the line."
                ) from error


def lines_at(path: Path, offsets: Iterable[int]) -> Iterator[Record]:
    """The records that begin at offsets of a file. Raises StoreError."""
    offsets = list(offsets)
    if not offsets:
        return
    try:
        with path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield _parsed(file.readline())
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}. Check the path and its permissions.") from error


def _parsed(line: bytes) -> Any:
    try:
        return from_json(line, cache_strings="keys")  # twice as fast
    except ValueError:  # lone surrogates, or no JSON, of which the other tells more
        return json.loads(line)


def _lines(path: Path) -> Iterator[tuple[int, int, bytes, bool]]:
    """(number, offset, line, whether it is whole) of the lines that are not blank."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, offset, line, line.endswith(b"\n")
                offset += len(line)
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}. Check the path and its permissions.") from error


class Store:
    """An append-only file of records."""

    def __init__(self, path: Path, *, tokens: bool = True) -> None:
        self.path, self.tokens = path, tokens
        self._file: int | None = None
        self._size = 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._mend()
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise self._error(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.fsync(file)
        except OSError as failed:
            if error is None:
                raise self._error(failed) from failed
        finally:
            os.close(file)

    def append(self, episode: Episode) -> int:
        """Write one episode; returns its offset. Raises StoreError, with all earlier records intact."""
        return self.write(to_record(episode, tokens=self.tokens))

    def write(self, record: Mapping[str, Any]) -> int:
        """Write one record as a line; returns its offset."""
        if self._file is None:
            raise StoreError(f"{self.path} is not open; use `with Store(path) as store`.")
        data = _line(record)
        before = self._size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            with suppress(OSError):  # what cannot be cut off here is mended when the file is next opened
                os.ftruncate(self._file, before)
            raise self._error(error) from error
        self._size += len(data)
        return before

    def _mend(self) -> None:
        assert self._file is not None
        size = keep = os.fstat(self._file).st_size
        tail = b""
        while keep and b"\n" not in tail:  # from the end, as the file may be larger than memory
            step = min(keep, TAIL)
            keep -= step
            tail = os.pread(self._file, step, keep) + tail
        tail = tail[tail.rfind(b"\n") + 1 :]
        if tail and _is_json(tail):
            os.write(self._file, b"\n")
        elif tail:
            with self.path.with_name(self.path.name + ".torn").open("ab") as torn:
                torn.write(tail + b"\n")
            os.ftruncate(self._file, size - len(tail))

    def _error(self, error: OSError) -> StoreError:
        return StoreError(
            f"Cannot write {self.path}: {error.strerror}. Records written so far are intact. "
            f"Free some space or choose a writable folder with --out, then go on with --resume."
        )


def dump(path: Path, episodes: Iterable[Episode]) -> Path:
    """Write a whole file of episodes, or leave the old one."""
    return write_whole(path, b"".join(_line(to_record(e)) for e in episodes))


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return bytes(to_json(record)) + b"\n"
    except ValueError:  # lone surrogates, which only ASCII escapes can write
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


class Entry(NamedTuple):
    """Where a recorded episode is, and how it ended."""

    offset: int
    stop: str
    turns: int
    invalid: int
    """Actions in it that were no valid calls."""


def index(path: Path) -> dict[Key, Entry]:
    """Key of an episode -> its last record, without what was said in it. Raises DataError."""
    found = {}
    for offset, record in scan(path):
        try:
            record = migrated(record, SCHEMA, MIGRATIONS)
            key = (record["task"]["gym"], record["task"]["id"], record["attempt"])
            invalid = sum(turn.get("label") == INVALID for turn in record["turns"])
            found[key] = Entry(offset, record["stop"], len(record["turns"]), invalid)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}, byte {offset}: not an episode record ({error!r}). Mend or remove the line.") from error
        except ValueError as error:
            raise DataError(f"{path}, byte {offset}: {error} Nothing was changed.") from error
    return found


def settings(folder: Path) -> dict[str, Any]:
    """What a run's `config.json` says, as this version would have written it; empty where it was not kept. Raises DataError."""
    file = folder / "config.json"
    try:
        saved = json.loads(file.read_text("utf-8")) if file.exists() else {}
        if not isinstance(saved, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {file}: {error}. Mend the file.") from error
    try:
        found = migrated({"schema": 1, **saved}, SETTINGS_SCHEMA, SETTINGS_MIGRATIONS)
    except ValueError as error:
        raise DataError(f"{file}: {error} Nothing was changed.") from error
    return {name: value for name, value in found.items() if name != "schema"} if saved else {}


class RunFolder:
    """A folder of one run: `config.json` (resolved settings), records, results.

    It is this process's own for as long as the object lives: two processes at once would pay for everything twice.

    Raises:
        StoreError: the folder holds a run already and `resume` is not set, or it cannot be written.
        RunBusy: another process is at work in it.
        ResumeError: `resume` is set and the run there was made with other settings, or its settings cannot be read.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], *, resume: bool, defaults: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._lock = _lock(path)
        saved = path / "config.json"
        if saved.exists():
            check_free(path, resume=resume)
            try:
                before = settings(path)
            except DataError as error:
                raise ResumeError(f"{error} You may also choose another folder with --out.") from error
            if "contents" in config and "contents" not in before:
                raise ResumeError(
                    f"The run in {path} was made by an earlier version of userrl, which did not keep what the files that it read "
                    f"held, so it cannot be gone on with. It can be read as before; play anew into another folder with --out."
                )
            if changed := list(_differences(_filled(before, defaults or {}), json.loads(json.dumps(config)))):
                raise ResumeError(
                    f"The run in {path} was made with other settings: {'; '.join(changed)}. "
                    f"Use the same settings to resume it, or choose another folder with --out."
                )
        else:
            self.write_json("config.json", {"schema": SETTINGS_SCHEMA, **config})

    def store(self, name: str = "episodes.jsonl", *, tokens: bool = True) -> Store:
        return Store(self.path / name, tokens=tokens)

    def episodes(self, name: str = "episodes.jsonl") -> list[Episode]:
        """What is recorded so far; none when nothing is."""
        path = self.path / name
        return list(read(path)) if path.exists() else []

    def index(self, name: str = "episodes.jsonl") -> dict[Key, Entry]:
        """Of a file of the folder; empty where there is none."""
        return index(self.path / name) if (self.path / name).exists() else {}

    def write_json(self, name: str, value: Any) -> Path:
        """Write a file whole or not at all."""
        return write_whole(self.path / name, json.dumps(value, indent=2).encode() + b"\n")


def check_free(folder: Path, *, resume: bool) -> None:
    """Raises StoreError where a folder holds a run that is not to be gone on with."""
    if not resume and (folder / "config.json").exists():
        raise StoreError(f"{folder} already holds a run. Add --resume to go on with it, or choose another folder with --out.")


class _Lock:
    """An open folder that is locked until nobody holds this object, or the process ends."""

    def __init__(self, file: int) -> None:
        weakref.finalize(self, os.close, file)


_LOCKS: weakref.WeakValueDictionary[tuple[int, int], _Lock] = weakref.WeakValueDictionary()
"""(device, inode) of a folder -> this process's lock of it, which all its `RunFolder`s share."""


def _lock(folder: Path) -> _Lock | None:
    """Keep other processes out of a folder, which is made if need be. None where folders cannot be locked.

    The folder itself is locked (`flock`), so no file is left behind. Raises RunBusy while another process has it.
    """
    if sys.platform == "win32":
        return None  # two processes in one folder are not noticed there
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder, os.O_RDONLY)
    except OSError:
        return None  # what is wrong is told by whoever writes there next
    about = os.fstat(file)
    if held := _LOCKS.get((about.st_dev, about.st_ino)):
        os.close(file)
        return held
    lock = _Lock(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunBusy(
            f"Another process is at work on the run in {folder}. Wait for its end, or stop it; then go on with --resume. "
            f"Or choose another folder with --out."
        ) from None
    except OSError:
        return None  # some network file systems have no locks
    _LOCKS[about.st_dev, about.st_ino] = lock
    return lock


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file so that a crash leaves the old one or the new one, never a part. Raises StoreError."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror}. Free some space or choose a writable folder with --out."
        ) from error
    return path


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) of a file's content, or of the names and contents of all files in a folder but hidden ones.

    A run saves those of what it reads, so that it is not gone on with once they have changed. Raises StoreError.
    """
    total = hashlib.sha256()
    try:
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            name = file.relative_to(path)
            if not any(part.startswith(".") for part in name.parts):
                with file.open("rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
                total.update(f"{name.as_posix()}\0{digest}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise StoreError(f"Cannot read {error.filename or path}: {error.strerror}. Check its permissions.") from error
    return total.hexdigest()


def is_folder(name: str) -> bool:
    """Whether a text names a folder that is there."""
    with suppress(OSError):  # a name too long for a path names none
        return bool(name) and Path(name).is_dir()
    return False


def set_aside(path: Path, keep: int) -> None:
    """Move the lines after the first `keep` to `<file>.redone`: what they tell of will be done again.

    A crash in between may leave lines in both files, and loses none. Raises StoreError.
    """
    if not path.exists():
        return
    try:
        with path.open("rb+") as file:
            for _ in range(keep):
                file.readline()
            end = file.tell()
            if end == path.stat().st_size:
                return
            with path.with_name(path.name + ".redone").open("ab") as redone:
                redone.writelines(line if line.endswith(b"\n") else line + b"\n" for line in file)
                redone.flush()
                os.fsync(redone.fileno())
            file.truncate(end)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}. Free some space, then go on with --resume.") from error


def _filled(settings: Any, defaults: Any) -> Any:
    """Settings with the defaults of those that are not there."""
    if not (isinstance(settings, dict) and isinstance(defaults, dict)):
        return settings
    return settings | {name: _filled(settings.get(name, value), value) for name, value in defaults.items()}


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {before!r:.80}, now {now!r:.80}"
