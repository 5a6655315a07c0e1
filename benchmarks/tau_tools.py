"""CPU of a tool call and of the verdict in the gym tau, and memory of a further episode, as shares of their limits.

    python benchmarks/tau_tools.py [FOLDER]

Plays the ground truths of all tasks through `Tau.step`, reading each record it touches before, and searches for flights.
A call's time is that of the whole step: what was done before is worked out, the call read and made, its result put into
words. FOLDER names tau-bench's data, whose databases and tasks are then used in the place of the built-in ones. Exits
with 1 when a limit is broken.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

from userrl.core import Action, Cast, Episode, Task
from userrl.gyms.base import make
from userrl.gyms.tau import Hidden, Tau, database, official, rules, source
from userrl.scripted import Scripted

LIMITS = {"tool call, p99": 1.0, "one-stop search, p99": 5.0, "verdict, p99": 10.0, "a further episode": 2.0}
"""Milliseconds of CPU, and megabytes."""
TURNS = 30
NOBODY = Cast(Scripted({}), Scripted({}))
LOOKS = {"order_id": "get_order_details", "reservation_id": "get_reservation_details", "user_id": "get_user_details"}
"""Argument of a call -> the tool that reads what it names."""


def tasks_of(folder: str) -> list[Task]:
    if not folder:
        return [task for split in Tau.built_in_sets() for task in Tau.tasks(split)]
    rows = [row for domain in source.TABLES for split in source.tasks(Path(folder), domain).values() for row in split]
    return [official.bench_task(row, folder, Hidden) for row in rows]


def calls_of(task: Task) -> Iterator[Mapping[str, Any]]:
    for call in task.hidden["actions"]:
        for name, look in LOOKS.items():
            if name in call["arguments"]:
                yield {"name": look, "arguments": {name: call["arguments"][name]}}
        yield call


def p99(seconds: list[float]) -> float:
    """In milliseconds."""
    return 1000 * sorted(seconds)[int(0.99 * len(seconds))]


async def timed(gym: Tau, episode: Episode, call: Mapping[str, Any], times: list[float]) -> Episode:
    action = Action("answer", json.dumps(call))
    start = time.process_time()
    turn = await gym.step(episode, action, NOBODY)
    times.append(time.process_time() - start)
    return episode.play(turn)


async def measure(folder: str) -> dict[str, float]:
    gym = make("tau", data=folder)
    assert isinstance(gym, Tau)
    tasks = tasks_of(folder)
    bases = {task.hidden["database"]: database.load(task.hidden["database"], folder) for task in tasks}
    calls, verdicts, searches = list[float](), list[float](), list[float]()
    for task in tasks:
        episode = Episode(task, max_turns=1000)
        for call in calls_of(task):
            if call["name"] != "transfer_to_human_agents":
                episode = await timed(gym, episode, call, calls)
        start = time.process_time()
        rules.judge(episode, bases[task.hidden["database"]])
        verdicts.append(time.process_time() - start)
    flying = Episode(next(task for task in tasks if task.hidden["domain"] == "airline"), max_turns=10**6)
    airports = {flight["origin"] for _, flight in database.Overlay(bases[flying.task.hidden["database"]]).rows("flights")}
    for origin, destination in permutations(sorted(airports), 2):
        where = {"origin": origin, "destination": destination, "date": "2024-05-20"}
        await timed(gym, flying, {"name": "search_onestop_flight", "arguments": where}, searches)
    gc.collect()
    tracemalloc.start()
    kept = [await long_episode(gym, task) for task in tasks[:200]]
    memory = tracemalloc.get_traced_memory()[0] / len(kept) / 2**20
    tracemalloc.stop()
    return dict(zip(LIMITS, (p99(calls), p99(searches), p99(verdicts), memory), strict=True))


async def long_episode(gym: Tau, task: Task) -> Episode:
    """The ground truth of a task, again and again."""
    episode, unused = Episode(task, max_turns=1000), list[float]()
    moves = [call for call in calls_of(task) if call["name"] != "transfer_to_human_agents"] or [
        {"name": "think", "arguments": {"thought": "?"}}
    ]
    while len(episode.turns) < TURNS:
        episode = await timed(gym, episode, moves[len(episode.turns) % len(moves)], unused)
    return episode


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else ""
    found = asyncio.run(measure(folder))
    for name, value in found.items():
        unit = "MB" if name == "a further episode" else "ms"
        sys.stdout.write(f"{name:<22} {value:8.3f} {unit}   {value / LIMITS[name]:6.1%} of {LIMITS[name]:g} {unit}\n")
    if any(value > LIMITS[name] for name, value in found.items()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
