"""What comparisons of runs keep of them: numbers and no texts, so that each run is read once, whatever it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from userrl.core import INVALID, Action, Episode
from userrl.data.sets import digest
from userrl.errors import DataError, UnknownName
from userrl.evaluate.metrics import effective_turns, score_bounds, share, share_bounds, time_weighted, total, user_turns
from userrl.evaluate.played import Unfinished, in_order, unfinished
from userrl.evaluate.statistics import RATE, Bounds
from userrl.gyms.base import gym_of
from userrl.store import Key, Records, index, settings

EPISODES = "episodes.jsonl"
TaskKey = tuple[str, str]
"""(gym, task id)"""


@dataclass(frozen=True)
class Metric:
    """What runs can be compared by."""

    of: Callable[[Episode], float]
    within: Callable[[Episode], Bounds | None]
    """Bounds that an episode of the task has; None where nobody knows them."""
    is_cost: bool = False
    """Less of it is better."""


def _score(episode: Episode) -> Bounds | None:
    return score_bounds(episode.task.gym, gym_of(episode).best_score(episode.task, episode.max_turns))


def _rewards(episode: Episode) -> Bounds | None:
    return score_bounds(episode.task.gym, gym_of(episode).reachable(episode.task, episode.max_turns))


def _turns(episode: Episode) -> Bounds:
    return 0.0, float(episode.max_turns)


METRICS: Mapping[str, Metric] = {
    "score": Metric(total, _score),
    "share": Metric(share, lambda episode: share_bounds(episode.task.gym)),
    "solved": Metric(lambda episode: float(gym_of(episode).solved(episode)), lambda _: RATE),
    "weighted": Metric(time_weighted, _rewards),
    "turns": Metric(effective_turns, _turns, is_cost=True),
    "user-turns": Metric(user_turns, _turns, is_cost=True),
}


def check_metric(name: str) -> None:
    """Raises UnknownName for what runs cannot be compared by."""
    if name not in METRICS:
        raise UnknownName("figure to compare by", name, METRICS)


def widest(first: Bounds | None, second: Bounds | None) -> Bounds | None:
    """Bounds that hold both; None where one of them is not known."""
    return None if first is None or second is None else (min(first[0], second[0]), max(first[1], second[1]))


class Ranges:
    """Bounds of metrics in each gym, over the tasks of episodes, taken while somebody goes through these."""

    def __init__(self, metrics: Iterable[str]) -> None:
        self.metrics = tuple(metrics)
        self.of: dict[tuple[str, str], Bounds | None] = {}
        """(gym, metric) -> bounds."""
        self._seen: set[tuple[str, str, int]] = set()

    def watch(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The episodes, each of whose tasks is looked at once."""
        for episode in episodes:
            gym = episode.task.gym
            if (seen := (gym, episode.task.id, episode.max_turns)) not in self._seen:
                self._seen.add(seen)
                for name in self.metrics:
                    bounds = METRICS[name].within(episode)
                    self.of[gym, name] = widest(self.of.get((gym, name), bounds), bounds)
            yield episode


# --- a run -------------------------------------------------------------------------------------------------------


class Trace(NamedTuple):
    """What happened in an episode, as far as it takes to tell two apart."""

    stop: str
    turns: tuple[tuple[int, int, float], ...]
    """Of each turn, hashes of what was done and of what came back, and its reward."""


class Kept(NamedTuple):
    """What is kept of an episode."""

    trace: Trace
    values: Mapping[str, float]
    """Metric -> value; empty for a failed one."""


class Outline:
    """What comparisons keep of a run, taken while somebody goes through its episodes."""

    def __init__(
        self, run: Path, settings: Mapping[str, Any], metrics: Iterable[str], unfinished: Unfinished | None = None
    ) -> None:
        self.run, self.settings, self.metrics, self.unfinished = run, settings, tuple(metrics), unfinished
        self._ranges = Ranges(self.metrics)
        self.episodes: dict[Key, Kept] = {}
        self.tasks: dict[TaskKey, str] = {}
        """Digests."""
        self.within = self._ranges.of
        """(gym, metric) -> bounds, over all episodes."""

    def watch(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The episodes, each of which is kept."""
        for episode in self._ranges.watch(episodes):
            gym, task, _ = episode.key
            if (gym, task) not in self.tasks:
                self.tasks[gym, task] = digest([episode.task])
            values = {} if episode.stop == "error" else {name: float(METRICS[name].of(episode)) for name in self.metrics}
            self.episodes[episode.key] = Kept(trace(episode), values)
            yield episode

    def failed(self, gym: str | None = None) -> int:
        """Episodes that a failure ended; of one gym, or of all."""
        return sum(not kept.values for key, kept in self.episodes.items() if gym in (None, key[0]))


def file_of(run: Path) -> Path:
    """The file of a run's episodes, which may be named itself. Raises DataError where there is none."""
    file = run if run.is_file() else run / EPISODES
    if not file.is_file():
        raise DataError(f"{run} holds no {EPISODES}. Name the folder of a run, as --out named it.")
    return file


def outline(run: Path, metrics: Iterable[str], gym: str | None = None) -> Outline:
    """The outline of a run, or of the episodes of one JSONL file; of an episode that was played anew, the last record.

    Args:
        gym: the only gym to look at; all by default.

    Raises:
        UnknownName: there is no such metric.
        DataError: there are no episodes, or they cannot be read.
    """
    metrics = list(metrics)
    for name in metrics:
        check_metric(name)
    file = file_of(run)
    entries = index(file)
    found = Outline(run, settings(run), metrics, unfinished(run, len(entries)))
    for _ in found.watch(Records(file, [entries[key].offset for key in in_order(run, entries) if gym in (None, key[0])])):
        pass
    return found


def trace(episode: Episode) -> Trace:
    """What happened in an episode."""
    return Trace(episode.stop, tuple((hash(_said(t.action)), hash((t.feedback, t.done)), t.reward) for t in episode.turns))


def _said(action: Action) -> tuple[str, str]:
    return action.kind, action.raw if action.kind == INVALID else action.text
