"""Replay of the golden cases of tau: tool calls, ground truths of tasks, and the rewards of whole episodes.

Calls are made on the tools directly. Episodes are played through `rollout.advance`, as all are, under `compat="userrl"`.
Both need tau-bench's data, since the golden cases hold digests of what it says.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from userrl.core import Action, Cast, Episode, Query, Task
from userrl.errors import DataError, ReplyError, SeatError
from userrl.gyms.base import make
from userrl.gyms.tau import database, source, state, texts, tools
from userrl.rollout import advance

Row = Mapping[str, Any]
R = TypeVar("R")

STOP = "###STOP###"
"""In the words of the original's user: the talk ends."""


def check(file: Row, folder: Path) -> list[str]:
    """What is wrong with each case of a golden file; "" for one that agrees.

    Raises DataError where the data in the folder cannot be read, or is not the data that the cases were made with.
    """
    name = f"{database.OFFICIAL}{file['domain']}"
    base = database.load(name, str(folder))
    start = file.get("initial_db_hash")
    if start and database.digest(database.Overlay(base)) != start:
        raise DataError(f"{folder}: the hash of the {file['domain']} database is not {start[:12]}…; restore tau-bench's data.")
    if "tasks" in file:
        return [_task(task, base, folder) for task in file["tasks"]]
    if "script" in file["cases"][0]:
        tasks = {row["id"]: row for rows in source.tasks(folder, base.domain).values() for row in rows}
        return [asyncio.run(_episode(case, tasks.get(case["task"]), name, folder)) for case in file["cases"]]
    return [_calls(case, base, folder) for case in file["cases"]]


# --- calls -------------------------------------------------------------------------------------------------------


def _calls(case: Row, base: database.Base, folder: Path) -> str:
    """The first difference in a case of single calls."""
    db = database.Overlay(base)
    for call in case["setup"]:
        tools.call(base.domain, db, call["name"], call["kwargs"])
    if database.digest(db) != case["db_hash_before"]:
        return f"{case['id']}: after the setup the database has another hash"
    for number, call in enumerate(case["calls"]):
        for problem in _call(call, db, folder):
            return f"{case['id']}, call {number} ({call['name']}): {problem}"
    return "" if database.digest(db) == case["db_hash_after"] else f"{case['id']}: at the end the database has another hash"


def _task(task: Row, base: database.Base, folder: Path) -> str:
    """The first difference in the ground truth of a task, step by step and as a whole."""
    db = database.Overlay(base)
    for number, step in enumerate(task["steps"]):
        for problem in _call(step, db, folder):
            return f"{task['id']}, step {number} ({step['name']}): {problem}"
    whole = state.replay(base, [(step["name"], step["kwargs"]) for step in task["steps"]])
    if not database.equal(db, whole) or database.digest(whole) != task["final_db_hash"]:
        return f"{task['id']}: the final database has another hash"
    if database.equal(whole, database.Overlay(base)) != task["db_unchanged"]:
        return f"{task['id']}: db_unchanged should be {task['db_unchanged']}"
    return ""


def _call(call: Row, db: database.Overlay, folder: Path) -> Iterator[str]:
    """What differs in a call, which is made."""
    before = db.fork()
    result = tools.call(db.base.domain, db, call["name"], call["kwargs"])
    said = texts.render(result, texts.load(db.base.name, str(folder)).messages)
    raised = bool(call.get("raises"))
    expected = "" if raised else call.get("error_code", "")
    if raised or call.get("obs_kind") in ("error", "unknown_action"):
        if result.ok or (expected and expected != result.code):
            yield f"code {result.code!r}, expected {repr(expected) if expected else 'a refusal'}"
    elif not result.ok:
        yield f"refused with {result.code!r}, expected a result"
    if not raised and not call.get("python_dependent") and not result.code.startswith("py_"):
        if (digest := _sha(said)) != call["obs_sha256"]:
            yield f"the digest of {said!r:.60} is {digest[:12]}…, expected {call['obs_sha256'][:12]}…"
        if "obs_canon_sha256" in call and _sha(_canonical(said)) != call["obs_canon_sha256"]:
            yield f"the canonical digest of {said!r:.60} differs"
    if call.get("changed", False) == database.equal(before, db):
        yield f"changed is {not call.get('changed', False)}, expected {call.get('changed', False)}"
    if "db_hash_after" in call and database.digest(db) != call["db_hash_after"]:
        yield "the database has another hash afterwards"


def _sha(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()


def _canonical(said: str) -> str:
    return json.dumps(json.loads(said), sort_keys=True, separators=(",", ":"))


# --- episodes ----------------------------------------------------------------------------------------------------


async def _episode(case: Row, row: Row | None, name: str, folder: Path) -> str:
    """What differs in an episode."""
    if row is None:
        return f"{case['id']}: {folder} holds no task {case['task']!r}"
    actions = [{"name": action["name"], "arguments": action["kwargs"]} for action in row["actions"]]
    hidden = {"domain": name.removeprefix(database.OFFICIAL), "database": name, **row, "actions": actions}
    settings = {"compat": "userrl", "data": str(folder)}
    gym = make("tau", **settings)
    episode = Episode(Task(row["id"], "tau", "", hidden), max_turns=len(case["script"]) + 1, rules=settings)
    for number, move in enumerate(case["script"]):
        where = f"{case['id']}, step {number}"
        if episode.stop != "running":
            return f"{where}: ours had ended before ({episode.stop}), the original goes on"
        said = move[2] if move[0] == "say" else ""
        call = {"name": move[1], "arguments": move[2]}
        action = Action("action", move[1]) if move[0] == "say" else Action("answer", json.dumps(call))
        try:
            episode = await advance(episode, action, Cast(_User(said), _User("")), gym)
        except SeatError as error:
            return f"{where}: {error}"
    if len(episode.turns) != case["steps_used"]:
        return f"{case['id']}: {len(episode.turns)} turns, expected {case['steps_used']}"
    if (episode.stop == "done") != case["done"]:
        return f"{case['id']}: done is {episode.stop == 'done'}, expected {case['done']}"
    reward = sum(episode.rewards)
    return "" if reward == case["final_reward"] else f"{case['id']}: reward {reward:g}, expected {case['final_reward']:g}"


class _User:
    """Says what the original's user said."""

    def __init__(self, said: str) -> None:
        self.said = said

    async def answer(self, query: Query[R]) -> R:
        if query.name != "tau.talk":
            raise ReplyError(f"our rules ask {query.name!r}, to which the original has no reply here")
        return query.reply.model_validate({"text": self.said, "ends": STOP in self.said})  # type: ignore[attr-defined,no-any-return]
