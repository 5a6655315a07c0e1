"""Runs as data frames: Arrow tables of episodes, turns, model calls and training steps.

    import userrl

    run = userrl.load("runs/eval")
    run.episodes.to_pandas().groupby("gym").score.mean()

`polars.from_arrow(run.turns)` gives the same to polars. Columns are named with their units; `columns` says what each holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json

from userrl.calls import FILE as REPLIES
from userrl.core import INVALID, Episode
from userrl.errors import DataError, needs
from userrl.evaluate.lines import step_line
from userrl.evaluate.metrics import CHARACTERS_A_TOKEN, asks, effective_turns, needs_user, share, time_weighted, total
from userrl.evaluate.played import Unfinished, in_order, unfinished
from userrl.gyms.base import gym_of
from userrl.llm.record import GAVE_UP
from userrl.llm.record import SCHEMA as CALL_SCHEMA
from userrl.store import MIGRATIONS, SCHEMA, Record, Records, migrated, read_as, scan, settings

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

FILE = "episodes.jsonl"
STEPS = "train.jsonl"

_KEY = {
    "gym": ("string", "name of the gym"),
    "task": ("string", "id of the task"),
    "attempt": ("int32", "which of the episodes of the task, from 0"),
    "seed": ("int64", "seed of the run; in RL, of the step"),
}
_EPISODES = {
    "episode": ("int32", "number of the episode in this table, from 0"),
    **_KEY,
    "stop": (
        "string",
        "done, turn_limit, window (the agent's own is full), running (left before the end) or error (failed: it has no score)",
    ),
    "error": ("string", "why it failed; null where it did not"),
    "max_turns": ("int32", "turn limit"),
    "turns": ("int32", "turns played"),
    "score": ("float64", "what the gym counts; null where the episode failed, as are all figures below"),
    "share": ("float64", "score as a share of the best one within reach"),
    "solved": ("bool", "whether the goal was reached"),
    "reward": ("float64", "sum of the turns' rewards"),
    "weighted_reward": ("float64", "sum of reward / number of the turn"),
    "effective_turns": ("int32", "number of the last turn that earned something; 0 where none did"),
    "user_turns": ("int32", "turns that need a person"),
    "questions": ("int32", "turns that say something to the user"),
    "read_tokens": ("float64", "what the user reads, in tokens of 4 characters"),
    "typed_tokens": ("float64", "what the user types, in tokens of 4 characters"),
    "repeats": ("int32", "turns that need a person and repeat an earlier one"),
    "invalid_turns": ("int32", "turns whose action was no valid call"),
}
_TURNS = {
    "episode": ("int32", "number of the episode in the table of episodes"),
    **_KEY,
    "turn": ("int32", "number of the turn, from 1"),
    "kind": ("string", "what the agent chose: action, answer, search, ... or invalid"),
    "text": ("string", "the text that went with it"),
    "raw": ("string", "the reply as the agent wrote it; null where it does not write text"),
    "problem": ("string", "what was wrong with an invalid reply"),
    "feedback": ("string", "what the agent read next"),
    "reward": ("float64", "of the turn, in the gym's units"),
    "reward_so_far": ("float64", "sum of the rewards up to this turn"),
    "done": ("bool", "whether the rules ended the episode here"),
    "label": ("string", "what sort of move it was"),
    "asks": ("bool", "whether it says something to the user, who has to reply"),
    "needs_user": ("bool", "whether it needs a person: a question, or an answer that somebody has to judge"),
    "reveals": ("texts", "hidden texts that the feedback shows"),
    "facts": ("string", "what the rules remember, as JSON"),
    "context_tokens": ("int32", "tokens that a local policy was fed; null for other agents"),
    "sampled_tokens": ("int32", "tokens that it sampled"),
}
_CALLS = {
    "sitting": ("int32", "number of the sitting (a resumed run has several), from 0"),
    **_KEY,
    "turn": ("int32", "number of the turn, from 1"),
    "role": ("string", "who was asked: agent, user or judge; null in a line that only says that a turn failed"),
    "model": ("string", "name of the model"),
    "content": ("string", "what it replied; null where it failed"),
    "reasoning": ("string", "what it thought, where the endpoint tells"),
    "error": ("string", "why the call or the turn failed"),
    "read_tokens": ("int64", "tokens of the prompt, as the endpoint counts them"),
    "written_tokens": ("int64", "tokens of the reply, thinking included"),
    "thought_tokens": ("int64", "of them, those of thinking"),
    "shared": ("bool", "whether another call's reply was taken, which is counted there"),
    "seconds": ("float64", "how long it took"),
}
_TABLES = {"episodes": _EPISODES, "turns": _TURNS, "calls": _CALLS}
_SCORED = tuple(_EPISODES)[tuple(_EPISODES).index("score") :]


def _arrow() -> Any:
    with needs("frames", "A data frame"):
        import pyarrow
    return pyarrow


def schema(table: str) -> pa.Schema:
    """The Arrow schema of the table "episodes", "turns" or "calls". It only grows: columns keep their names and types."""
    pa = _arrow()
    kinds = {"texts": pa.list_(pa.string())}
    fields = ((name, kinds.get(kind) or pa.type_for_alias(kind), about) for name, (kind, about) in _TABLES[table].items())
    return pa.schema([pa.field(name, kind, metadata={"about": about}) for name, kind, about in fields])


def columns(table: str) -> dict[str, str]:
    """Name -> meaning of the columns of the table "episodes", "turns" or "calls"."""
    return {name: about for name, (_, about) in _TABLES[table].items()}


@dataclass(frozen=True)
class Run:
    """A run's records. Each table is read when it is first asked for."""

    folder: Path
    """Or the file, where there is only one of episodes."""
    file: Path
    """Of the episodes."""
    config: Mapping[str, Any]
    """The settings that it was made with; empty where they were not kept."""

    @cached_property
    def records(self) -> Records:
        """Its episodes, each read when it is looked at; of an episode that was played anew, the last record.

        They are in the order of the run's job; a training run's in that of its steps.
        """
        if not self.file.exists():
            return Records(self.file, [])
        last = {_told(_identity, record, self.file, offset): offset for offset, record in scan(self.file)}
        return Records(self.file, [last[key] for key in in_order(self.folder, last)])

    @cached_property
    def unfinished(self) -> Unfinished | None:
        """How much is played of an evaluation that was stopped, or is still going on; None for a whole run."""
        return unfinished(self.folder, len(self.records))

    @property
    def episodes(self) -> pa.Table:
        """A row for each episode."""
        return self._played[0]

    @property
    def turns(self) -> pa.Table:
        """A row for each turn."""
        return self._played[1]

    @cached_property
    def calls(self) -> pa.Table:
        """A row for each reply of a model; none where no chair was a model's."""
        file = self.folder / REPLIES
        rows = list(read_as(file, _call, "a record of a reply")) if file.exists() else []
        return _table([[row[name] for row in rows] for name in _CALLS], schema("calls"))

    @cached_property
    def steps(self) -> pa.Table:
        """A row for each step of training: the keys of `train.jsonl`, those of tables within joined by a point.

        Raises DataError where a line does not fit, also beside the others: a column holds values of one kind.
        """
        file = self.folder / STEPS
        found = list(read_as(file, step_line, "a line of training figures")) if file.exists() else []
        rows = [flat(line) for _, line in sorted({line["step"]: line for line in found}.items())]
        names = dict.fromkeys(name for row in rows for name in row)
        return _arrow().table({name: _column(name, rows, file) for name in names})

    @cached_property
    def _played(self) -> tuple[pa.Table, pa.Table]:
        builder = Builder()
        for _ in builder.watch(self.records):
            pass
        return builder.tables()


def load(run: str | Path) -> Run:
    """The run in a folder (`--out`), or the episodes of one JSONL file, as data frames.

    Raises:
        DataError: there is no run, or its settings cannot be read; broken records raise it when they are looked at.
    """
    path = Path(run)
    if path.is_file():
        return Run(path, path, {})
    if not (path / "config.json").exists() and not (path / FILE).exists():
        raise DataError(f"{path} holds no run: neither config.json nor {FILE}. Name the folder of a run (--out).")
    return Run(path, path / FILE, settings(path))


def runs_in(path: Path) -> list[Path]:
    """The run itself, or of a folder that holds none, all below it by name: of a grid its cells, of an experiment its arms.

    Raises:
        DataError: there is no run.
    """
    if path.is_file() or _played_in(path):
        return [path]
    below = {file.parent for name in (FILE, STEPS) for file in path.rglob(name)}
    found = sorted(run for run in below if below.isdisjoint(run.parents))
    return found or [load(path).folder]


def _played_in(folder: Path) -> bool:
    return any((folder / name).exists() for name in (FILE, STEPS))


def run_names(runs: Sequence[Path]) -> list[str]:
    """Names that tell runs apart: those of their folders, with as many of the folders above as it takes.

    Parts that all of them end with are left out: the cells of a grid are called AGENT/USER. Of a run that is named twice,
    the second is called NAME-2.
    """
    paths = [run.resolve().parts[1:] for run in runs]
    if len(set(paths)) > 1:
        alike = 0
        while len({parts[len(parts) - 1 - alike :] for parts in paths}) == 1 and alike < min(map(len, paths)) - 1:
            alike += 1
        paths = [parts[: len(parts) - alike] for parts in paths]
    several, depth = set(paths), 1
    while len({parts[-depth:] for parts in several}) < len(several):
        depth += 1
    names: list[str] = []
    for parts in paths:
        first, number = "/".join(parts[-depth:]) or "run", 2
        name = first
        while name in names:
            name, number = f"{first}-{number}", number + 1
        names.append(name)
    return names


class Builder:
    """The tables of episodes and of turns, built while somebody goes through the episodes."""

    def __init__(self) -> None:
        self._episodes: list[list[Any]] = [[] for _ in _EPISODES]
        self._turns: list[list[Any]] = [[] for _ in _TURNS]

    def watch(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The episodes, each of which is added."""
        for number, episode in enumerate(episodes):
            gym = episode.task.gym
            user = [(asks(gym, turn), needs_user(gym, turn)) for turn in episode.turns]
            for values, value in zip(self._episodes, _row(number, episode, user).values(), strict=True):
                values.append(value)
            for values, column in zip(self._turns, zip(*_turn_rows(number, episode, user), strict=True), strict=False):
                values.extend(column)
            yield episode

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """(episodes, turns) of those added so far."""
        return _table(self._episodes, schema("episodes")), _table(self._turns, schema("turns"))


def _table(columns: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """A table in which "?" stands for what Arrow's UTF-8 cannot hold: lone surrogates, which a model may write."""
    pa = _arrow()
    try:
        return pa.table(columns, schema=schema)
    except UnicodeEncodeError:
        return pa.table([_whole(column) for column in columns], schema=schema)


def _column(name: str, rows: Sequence[Mapping[str, Any]], file: Path) -> pa.Array:
    """A column of the steps of training. Raises DataError for values of several kinds."""
    values = [_whole(row.get(name)) for row in rows]
    try:
        return _arrow().array(values)
    except (ValueError, TypeError, OverflowError) as error:  # those of Arrow are among them
        odd = next(i for i in range(len(values)) if not _one_kind(values[: i + 1]))
        raise DataError(
            f"{file}, line of step {rows[odd]['step']}: {name} is {values[odd]!r:.60}, which does not go into a column with "
            f"those of the steps before. Nothing was changed; mend or remove the line."
        ) from error


def _one_kind(values: Sequence[Any]) -> bool:
    try:
        _arrow().array(values)
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _whole(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _row(number: int, episode: Episode, user: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """user: of each turn, whether it asks and needs the user."""
    row: dict[str, Any] = {
        "episode": number,
        "gym": episode.task.gym,
        "task": episode.task.id,
        "attempt": episode.attempt,
        "seed": episode.seed,
        "stop": episode.stop,
        "error": episode.error,
        "max_turns": episode.max_turns,
        "turns": len(episode.turns),
    }
    if episode.stop == "error":
        return row | dict.fromkeys(_SCORED)
    needing = [turn for turn, (_, needs) in zip(episode.turns, user, strict=True) if needs]
    asking = [turn for turn, (asks, _) in zip(episode.turns, user, strict=True) if asks]
    return row | {
        "score": total(episode),
        "share": share(episode),
        "solved": gym_of(episode).solved(episode),
        "reward": math.fsum(episode.rewards),
        "weighted_reward": time_weighted(episode),
        "effective_turns": effective_turns(episode),
        "user_turns": len(needing),
        "questions": len(asking),
        "read_tokens": sum(len(turn.action.text) for turn in needing) / CHARACTERS_A_TOKEN,
        "typed_tokens": sum(len(turn.feedback) for turn in asking) / CHARACTERS_A_TOKEN,
        "repeats": sum(turn.label == "repeated" for turn in needing),
        "invalid_turns": sum(turn.label == INVALID for turn in episode.turns),
    }


def _turn_rows(number: int, episode: Episode, user: Sequence[tuple[bool, bool]]) -> Iterator[tuple[Any, ...]]:
    """In the order of `_TURNS`."""
    so_far = 0.0
    key = (number, *episode.key, episode.seed)
    for i, (turn, about) in enumerate(zip(episode.turns, user, strict=True), start=1):
        action, tokens = turn.action, turn.action.tokens
        so_far += turn.reward
        yield (
            *key, i, action.kind, action.text, action.raw or None, action.problem or None,
            turn.feedback, turn.reward, so_far, turn.done, turn.label, *about,
            turn.reveals, _json(turn.facts),
            len(tokens.context) if tokens else None, len(tokens.ids) if tokens else None,
        )  # fmt: skip


def _json(facts: Mapping[str, Any]) -> str:
    try:
        return to_json(facts).decode()  # four times as fast
    except ValueError:  # lone surrogates
        return json.dumps(facts)


def _call(line: Record) -> dict[str, Any]:
    line = migrated(line, CALL_SCHEMA, {})
    gym, task, attempt, seed, turn = line["place"]
    read, written, thought = line.get("usage", (None, None, None))
    return {
        "sitting": line["sitting"],
        "gym": gym,
        "task": task,
        "attempt": attempt,
        "seed": seed,
        "turn": turn + 1,
        **{name: line.get(name) for name in ("role", "model", "content", "reasoning")},
        "error": line.get("error", line.get(GAVE_UP)),
        "read_tokens": read,
        "written_tokens": written,
        "thought_tokens": thought,
        "shared": line.get("shared", False),
        "seconds": line.get("s"),
    }


def _identity(record: Record) -> tuple[Any, ...]:
    record = migrated(record, SCHEMA, MIGRATIONS)
    return record["task"]["gym"], record["task"]["id"], record["attempt"], record["seed"]


def _told(read: Callable[[Record], T], record: Record, file: Path, offset: int) -> T:
    """What `read` finds in a record. Raises DataError where it does not fit."""
    try:
        return read(record)
    except (KeyError, TypeError, ValueError) as error:
        detail = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{file}, byte {offset}: not a record of this file: {detail} Nothing was changed.") from error


def flat(line: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """A JSON object without objects within: {"a": {"b": 1}} becomes {"a.b": 1}."""
    found: dict[str, Any] = {}
    for key, value in line.items():
        found |= flat(value, f"{name}{key}.") if isinstance(value, Mapping) else {f"{name}{key}": value}
    return found
