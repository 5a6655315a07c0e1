"""The runs of a report: each gone through once, and measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from userrl.core import Episode
from userrl.evaluate import results
from userrl.evaluate.cautions import cautions
from userrl.evaluate.metrics import WITHIN, Figures, figures
from userrl.evaluate.outlines import Outline, Ranges
from userrl.evaluate.statistics import RATE, Bounds, Interval, ratio_intervals
from userrl.gyms.base import find
from userrl.report.frames import Builder, Run

if TYPE_CHECKING:
    import pyarrow as pa

BINS = 20
"""Bars of a distribution of shares."""

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Told:
    """A run and what was found in it."""

    letter: str
    color: int
    name: str
    run: Run
    records: Sequence[Episode]
    """Those that the report is about: all, or of a training run those of its last step."""
    found: Figures
    outline: Outline
    """For comparisons, by `COMPARED`; empty where there is no other run."""
    reachable: Mapping[str, Bounds | None]
    """Gym -> bounds of the sum of an episode's rewards."""
    episodes: pa.Table
    turns: pa.Table

    @cached_property
    def cautions(self) -> list[str]:
        """What must be said above its figures."""
        return cautions(self.found, self.run.unfinished)

    @property
    def training(self) -> bool:
        return is_training(self.run)

    @cached_property
    def measured(self) -> Mapping[str, Measured]:
        """By gym, of those with a scored episode."""
        return measure(self.episodes, self.turns, self.reachable)


@dataclass(frozen=True)
class Measured:
    """What `Summary` has no interval for, of one gym in one run."""

    means: Mapping[str, Interval]
    """Per episode, by the name of the column of episodes; "user_rate", "invalid_rate" per turn; "within_k" (pass@U-k)."""
    mix: Mapping[str, Interval]
    """Label -> its share of all turns."""
    by_turn: Sequence[Interval]
    """Reward of the turn, over the episodes that reached it."""
    so_far: Sequence[Interval]
    """Reward up to the turn, over all episodes."""
    shares: Sequence[Interval]
    """Part of the episodes in each of `BINS` bars of the share."""
    turns: Sequence[Interval]
    """Part of the episodes that took 1, 2, ... turns."""


MEANS = ("weighted_reward", "effective_turns", "turns", "user_turns", "questions", "read_tokens", "typed_tokens", "repeats")


def is_training(run: Run) -> bool:
    return run.config.get("kind") in ("rl", "sft")


COMPARED = ("score", "solved", "user-turns")
"""Of `outlines.METRICS`, those that runs are compared by."""


def read(run: Run, name: str, letter: str, color: int, held_out: Collection[str] = (), *, compared: bool = False) -> Told:
    """Go through a run's episodes once.

    Args:
        held_out: as in `report`; where it is empty, what the run's `results.json` says.
        compared: with another run.
    """
    records: Sequence[Episode] = run.records
    if is_training(run):
        step = run.config.get("grpo", {})
        records = records[max(0, len(records) - step.get("groups", 0) * step.get("group_size", 0)) :]
    builder, ranges, outline = Builder(), Ranges(["weighted"]), Outline(run.folder, run.config, COMPARED, run.unfinished)
    watched = ranges.watch(builder.watch(records))
    held = held_out or results.read(run.folder).get("held_out", ())
    found = figures(outline.watch(watched) if compared else watched, held_out=held)
    reachable = {gym: bounds for (gym, _), bounds in ranges.of.items()}
    return Told(letter, color, name, run, records, found, outline, reachable, *builder.tables())


def measure(episodes: pa.Table, turns: pa.Table, reachable: Mapping[str, Bounds | None] | None = None) -> dict[str, Measured]:
    """The figures of each gym, all from the same draws of its tasks.

    Args:
        reachable: gym -> bounds of the sum of an episode's rewards, where they are known.
    """
    table = {name: np.array(episodes[name].to_pylist(), dtype=object) for name in episodes.column_names if name != "error"}
    scored = table["stop"] != "error"
    at, turn = np.array(turns["episode"]), np.array(turns["turn"])
    reward, label = np.array(turns["reward"]), np.array(turns["label"].to_pylist(), dtype=object)
    found = {}
    for gym in dict.fromkeys(table["gym"][scored]):
        chosen = np.flatnonzero(scored & (table["gym"] == gym))
        row = np.full(len(scored), -1)
        row[chosen] = np.arange(len(chosen))
        of_gym = row[at] >= 0 if len(at) else np.zeros(0, bool)
        columns = {name: table[name][chosen] for name in table}
        rewards = (reachable or {}).get(gym)
        found[gym] = _measured(columns, row[at[of_gym]], turn[of_gym], reward[of_gym], label[of_gym], gym, rewards)
    return found


def _measured(
    e: Mapping[str, Any], rows: Any, turn: Any, reward: Any, label: Any, gym: str, reachable: Bounds | None
) -> Measured:
    """rows: of each turn, which of the episodes in `e` it belongs to."""
    n, longest = len(e["task"]), int(max(e["max_turns"]))
    ones, played = np.ones((n, 1)), e["turns"].astype(float)[:, None]
    labels = dict.fromkeys([*(name for name in find(gym).labels if name in set(label)), *sorted(set(label))])
    earned, reached = np.zeros((n, longest)), np.zeros((n, longest))
    np.add.at(earned, (rows, turn - 1), reward)
    np.add.at(reached, (rows, turn - 1), 1.0)
    user_turns, solved = e["user_turns"].astype(float), e["solved"].astype(float)
    ks = [k for k in WITHIN if k <= max(e["max_turns"])]
    bars = np.clip((e["share"].astype(float) * BINS).astype(int), 0, BINS - 1)
    used = np.zeros((n, len(labels)))
    for i, name in enumerate(labels):
        np.add.at(used[:, i], rows[label == name], 1.0)
    of_means = {"weighted_reward": reachable, "read_tokens": None, "typed_tokens": None}
    parts: list[tuple[Matrix, Matrix, Sequence[Bounds | None]]] = [
        (
            np.stack([e[name].astype(float) for name in MEANS], 1),
            np.repeat(ones, len(MEANS), 1),
            [of_means.get(name, (0.0, float(longest))) for name in MEANS],
        ),
        (np.stack([user_turns, e["invalid_turns"].astype(float)], 1), np.repeat(played, 2, 1), [RATE] * 2),
        (np.stack([solved * (user_turns <= k) for k in ks], 1), np.repeat(ones, len(ks), 1), [RATE] * len(ks)),
        (used, np.repeat(played, len(labels), 1), [RATE] * len(labels)),
        (earned, reached, [find(gym).reward_range] * longest),
        (np.cumsum(earned, 1), np.ones((n, longest)), [reachable] * longest),
        (np.eye(BINS)[bars], np.ones((n, BINS)), [RATE] * BINS),
        (np.eye(longest + 1)[e["turns"].astype(int)][:, 1:], np.ones((n, longest)), [RATE] * longest),
    ]
    above, below = (np.concatenate([part[i] for part in parts], 1) for i in (0, 1))
    within = [bounds for _, _, of in parts for bounds in of]
    cells = iter(ratio_intervals(above, below, list(e["task"]), within=within))
    groups = [[next(cells) for _ in of] for _, _, of in parts]
    names = [*MEANS, "user_rate", "invalid_rate", *(f"within_{k}" for k in ks)]
    means = dict(zip(names, [*groups[0], *groups[1], *groups[2]], strict=True))
    return Measured(means, dict(zip(labels, groups[3], strict=True)), *groups[4:])


def gyms(runs: Sequence[Told]) -> list[str]:
    return list(dict.fromkeys(gym for told in runs for gym in told.measured))
