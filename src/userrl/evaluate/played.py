"""A run's folder as it lies: its episodes in the order of its job, and how many of these are played.

Episodes are recorded as they end, the short ones first. Whoever reads them in that order gets other draws of the tasks
for the same run, and whoever takes a run that was stopped for a whole one has a biased sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from userrl.data import TaskSet
from userrl.errors import ConfigError, DataError, UnknownName
from userrl.evaluate.run import recorded_job
from userrl.gyms.base import find
from userrl.store import settings

K = TypeVar("K", bound=tuple[Any, ...])

_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Unfinished:
    """A run that was stopped, or is still going on."""

    ended: int
    """Episodes that are recorded, failed ones included."""
    planned: int
    """Episodes that its job has."""

    def __str__(self) -> str:
        return f"unfinished: {self.ended:,} of {self.planned:,} episodes"


ABOUT = (
    "Those that are short end first, so the figures are of no fair sample. Go on with the run, by its own command and --resume."
)
"""What is to be said of an unfinished run."""


def in_order(run: Path, keys: Iterable[K]) -> list[K]:
    """Keys of a run's episodes, (gym, task id, attempt, ...), in the order of its job, in which `eval` takes them, too.

    Tasks that the splits no longer hold come last in their gym, by name. The order is as given where the folder holds no
    evaluation: a training run's episodes are in the order of its steps.

    Raises DataError where `config.json` cannot be read.
    """
    keys = list(keys)
    kept = settings(run)
    if kept.get("kind") != "eval" or not keys:
        return keys
    gyms = {gym: place for place, gym in enumerate(kept.get("gyms", ()))}
    places = {gym: _places(run, gym) for gym in dict.fromkeys(key[0] for key in keys)}

    def place(key: K) -> tuple[Any, ...]:
        gym, task, attempt = key[:3]
        of = places[gym]
        return gyms.get(gym, len(gyms)), gym, of.get(task, len(of)), _natural(task), attempt

    return sorted(keys, key=place)


def unfinished(run: Path, ended: int) -> Unfinished | None:
    """How much of a run is played; None for a whole one, and where its folder does not say how many it should have.

    That follows from its settings and from the tasks, as long as these are the ones that it was begun with.

    Args:
        ended: episodes that are recorded.

    Raises DataError where `config.json` cannot be read.
    """
    kept = settings(run)
    # an expert's collection leaves out the tasks that are like held-out ones
    if kept.get("kind") != "eval" or "top_k" in kept or "tasks" not in kept.get("contents", {}):
        return None
    try:
        job = recorded_job(run)
        sets = {gym: _set(gym, job.split_of(gym)) for gym in job.gyms}
    except (ConfigError, DataError, UnknownName):  # a gym or a split that is not here
        return None
    if {gym: tasks.sha256 for gym, tasks in sets.items()} != kept["contents"]["tasks"]:
        return None
    planned = job.attempts * sum(min(tasks.count, job.tasks or tasks.count) for tasks in sets.values())
    return Unfinished(ended, planned) if ended < planned else None


def _places(run: Path, gym: str) -> Mapping[str, int]:
    """Task id -> its place in the split that a run played; empty where that is not known."""
    try:
        return {task: place for place, task in enumerate(_set(gym, recorded_job(run).split_of(gym)).ids())}
    except (ConfigError, DataError, UnknownName):
        return {}


def _set(gym: str, split: str) -> TaskSet:
    sets = find(gym).sets()
    if split not in sets:
        raise UnknownName(f"split of gym {gym!r}", split, sets)
    return sets[split]


def _natural(task: str) -> list[tuple[int, int, str]]:
    """task-9 before task-10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in _NUMBERS.split(task)]
