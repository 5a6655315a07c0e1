"""What a report tells of one run or several: sections of tables, plots and sample episodes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from userrl.core import INVALID, Episode
from userrl.errors import DataError
from userrl.evaluate import paper, results
from userrl.evaluate.compare import Comparison, compare
from userrl.evaluate.front import fronts
from userrl.evaluate.hacks import ABOUT, CHECKS
from userrl.evaluate.metrics import WITHIN, Figures, Summary, figures, share, total
from userrl.evaluate.rescore import MARKS, rescored
from userrl.evaluate.run import recorded_job
from userrl.evaluate.statistics import COVERAGE_AT_40, Interval, ratio_intervals
from userrl.evaluate.talk import answerer, counterpart, ending, readable, spoken
from userrl.gyms.base import find
from userrl.report.frames import Builder, Run, load, run_names, runs_in
from userrl.report.plots import Line, Plot
from userrl.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    import pyarrow as pa

BINS = 20
"""Bars of a distribution of shares."""
LONGEST = 2_000
"""Characters of a text in a sample episode; the rest is left out, and so told."""
QUANTILES = {"worst": 0.0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "best": 1.0}
FAILED_SHOWN = 3
"""Failed episodes among the samples of a gym."""
COMPARED = ("score", "solved", "user-turns")
"""Of `compare.METRICS`, those that two runs are compared by."""

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class SampleTurn:
    """A turn as people read it."""

    number: int
    said: str
    label: str
    reward: float
    by: str
    """Who answered."""
    answer: str


@dataclass(frozen=True)
class Sample:
    """An episode that stands for others."""

    title: str
    task: str
    other: str
    """Who opens the talk: user or gym."""
    opening: str
    turns: tuple[SampleTurn, ...]
    end: str


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    name: str
    title: str
    about: str = ""
    """How to read it."""
    tables: tuple[Table, ...] = ()
    plots: tuple[tuple[Plot, Table | None], ...] = ()
    """With the table of the numbers drawn."""
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Report:
    """All of it."""

    title: str
    runs: tuple[tuple[str, str, int], ...]
    """(letter, name, color) of each run."""
    sections: tuple[Section, ...]

    @property
    def tables(self) -> Iterator[Table]:
        for section in self.sections:
            yield from section.tables
            yield from (table for _, table in section.plots if table is not None)

    @property
    def plots(self) -> Iterator[Plot]:
        for section in self.sections:
            yield from (plot for plot, _ in section.plots)


# --- reading -----------------------------------------------------------------------------------------------------


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
    episodes: pa.Table
    turns: pa.Table

    @property
    def training(self) -> bool:
        return is_training(self.run)

    @cached_property
    def measured(self) -> Mapping[str, Measured]:
        """By gym, of those with a scored episode."""
        return measure(self.episodes, self.turns)


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


def read(run: Run, name: str, letter: str, color: int, held_out: Collection[str] = ()) -> Told:
    """Go through a run's episodes once.

    Args:
        held_out: as in `report`; where it is empty, what the run's `results.json` says.
    """
    records: Sequence[Episode] = run.records
    if is_training(run):
        step = run.config.get("grpo", {})
        records = records[max(0, len(records) - step.get("groups", 0) * step.get("group_size", 0)) :]
    builder = Builder()
    found = figures(builder.watch(records), held_out=held_out or results.read(run.folder).get("held_out", ()))
    return Told(letter, color, name, run, records, found, *builder.tables())


def measure(episodes: pa.Table, turns: pa.Table) -> dict[str, Measured]:
    """The figures of each gym, all from the same draws of its tasks."""
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
        found[gym] = _measured(columns, row[at[of_gym]], turn[of_gym], reward[of_gym], label[of_gym], gym)
    return found


def _measured(e: Mapping[str, Any], rows: Any, turn: Any, reward: Any, label: Any, gym: str) -> Measured:
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
    parts: list[tuple[Matrix, Matrix]] = [
        (np.stack([e[name].astype(float) for name in MEANS], 1), np.repeat(ones, len(MEANS), 1)),
        (np.stack([user_turns, e["invalid_turns"].astype(float)], 1), np.repeat(played, 2, 1)),
        (np.stack([solved * (user_turns <= k) for k in ks], 1), np.repeat(ones, len(ks), 1)),
        (used, np.repeat(played, len(labels), 1)),
        (earned, reached),
        (np.cumsum(earned, 1), np.ones((n, longest))),
        (np.eye(BINS)[bars], np.ones((n, BINS))),
        (np.eye(longest + 1)[e["turns"].astype(int)][:, 1:], np.ones((n, longest))),
    ]
    above, below = (np.concatenate([part[i] for part in parts], 1) for i in (0, 1))
    cells = iter(ratio_intervals(above, below, list(e["task"])))
    groups = [[next(cells) for _ in range(part.shape[1])] for part, _ in parts]
    names = [*MEANS, "user_rate", "invalid_rate", *(f"within_{k}" for k in ks)]
    means = dict(zip(names, [*groups[0], *groups[1], *groups[2]], strict=True))
    return Measured(means, dict(zip(labels, groups[3], strict=True)), *groups[4:])


# --- the sections ------------------------------------------------------------------------------------------------


def report(folders: Sequence[Path], *, title: str = "", held_out: Collection[str] = ()) -> Report:
    """Read runs and tell what is in them; with two and more, how the others differ from the first.

    Args:
        folders: of runs; a folder that holds none stands for all below it (`frames.runs_in`).
        held_out: gyms that the agents were not trained on; they and the others are averaged apart, too.

    Raises:
        DataError: a folder holds no run that can be read, or none of them any episode or step of training.
    """
    for gym in held_out:
        find(gym)
    found = [run for folder in folders for run in runs_in(folder)]
    named = zip(found, run_names(found), strict=True)
    runs = [read(load(run), name, _letter(i), i, held_out) for i, (run, name) in enumerate(named)]
    if not any(told.records or told.run.steps.num_rows for told in runs):
        raise DataError(f"{', '.join(map(str, folders))}: no episode and no step of training is recorded. Play first.")
    played = [told for told in runs if told.found.gyms]
    made: list[Section | None] = [_runs(runs)]
    if played:
        made += [
            _scores(played),
            *map(_beside_the_paper, played),
            _compared([told for told in played if not told.training]),
            _fronts(played),
            _attempts(played),
            _effort(played),
        ]
        made += [_mix(played), _by_turn(played), _distributions(played), _hacks(played)]
    made += [_learning(runs), _marked_anew(runs), _cost(runs), _samples(played)]
    named_after = [told.name for told in runs] if len(runs) < 3 or len(folders) > 1 else run_names(folders)
    name = title or " and ".join(named_after)
    letters = tuple((told.letter, told.name, told.color) for told in runs)
    return Report(name, letters, tuple(section for section in made if section is not None))


def _letter(number: int) -> str:
    """A to Z, then AA, AB, ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def _beside_the_paper(told: Told) -> Section | None:
    """A run of the paper's protocol below the paper's table."""
    if told.run.config.get("preset") != "paper":
        return None
    ours = paper.beside(told.found)
    heads = [*paper.TASKS, "trained on", "held out", "micro", "macro"]
    rows: list[tuple[Cell, ...]] = [
        (row.name, *row.scores, row.part(held_out=False), row.part(held_out=True), row.micro, row.macro) for row in paper.TABLE
    ]
    rows.append((f"{told.letter}: {_text(told.run.config.get('agent'))}", *ours))
    columns = (Column("model"), *(Column(head, "number", 3) for head in heads))
    about = (
        "Scores of UserRL, arXiv 2509.19736, table 3 (turn credit/trajectory score in training): one greedy run each, no "
        "intervals; intention: sums above 1. Trained on, held out: averages over the gyms that the paper trains on and holds out."
    )
    differences = ["Not as in the paper:", *paper.differences(recorded_job(told.run.folder))]
    table = Table(
        f"paper-{told.letter.lower()}",
        f"{told.letter} beside the paper",
        columns,
        tuple(rows),
        " ".join(differences if differences[1:] else ()),
    )
    return Section(f"paper-{told.letter.lower()}", f"{told.letter} beside the paper", about, (table,))


SETTINGS = {
    "kind": "kind", "agent": "agent", "model": "model", "user": "user", "judge": "judge", "split": "split",
    "attempts": "attempts", "max_turns": "turn limit", "temperature": "temperature", "seed": "seed", "preset": "preset",
    "rescore_of": "rescored from", "replay_of": "replayed from",
}  # fmt: skip
"""Settings that the table of runs shows, and what it calls them."""


def _runs(runs: Sequence[Told]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for told in runs:
        config, stops = told.run.config, told.episodes["stop"].to_pylist()
        setting = [_text(config.get(name)) for name in SETTINGS]
        tasks = len({*zip(told.episodes["gym"].to_pylist(), told.episodes["task"].to_pylist(), strict=True)})
        rows.append((told.letter, told.name, *setting, tasks, len(stops), stops.count("error")))
    heads = [Column("run"), Column("folder"), *(Column(head) for head in SETTINGS.values())]
    counts = [Column(head, "number") for head in ("tasks", "episodes", "failed")]
    used = [i for i in range(len(heads)) if i < 2 or any(row[i] for row in rows)]
    kept = [*used, *range(len(heads), len(heads) + len(counts))]
    columns = [*heads, *counts]
    table = Table(
        "runs",
        "The runs",
        tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        "failed: ended by a failing agent, user or judge; such an episode has no score and is in no other figure.",
    )
    about = "Of a training run, the figures are of the episodes of its last step." if any(t.training for t in runs) else ""
    return Section("runs", "Runs", about, (table,))


def _text(value: Any) -> str:
    if value is None or value == {} or value == []:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


SCORES = (
    Column("run"), Column("gym"), Column("score", "number", 2), Column("share", "number", 3), Column("solved", "percent"),
    Column("tasks", "number"), Column("episodes", "number"), Column("failed", "number"),
)  # fmt: skip


def _score_row(letter: str, name: str, s: Summary) -> tuple[Cell, ...]:
    return letter, name, s.score, s.share, s.solved, s.tasks, s.episodes, s.errors


def _scores(runs: Sequence[Told]) -> Section:
    rows, parts = [], []
    for told in runs:
        rows += [_score_row(told.letter, s.gym, s) for s in told.found.gyms]
        rows += [_score_row(told.letter, f"{s.gym} average", s) for s in told.found.averages]
        for part, averages in told.found.parts.items():
            rows += [_score_row(told.letter, f"{s.gym} average, {part}", s) for s in averages]
        for s in told.found.gyms:
            parts += [_score_row(told.letter, part.gym, part) for part in s.parts]
            if s.idle is not None and told is runs[0]:
                parts.append(_score_row("", f"{s.gym}: an agent that does nothing", s.idle))
    small = any(s.tasks < 100 for told in runs for s in told.found.gyms)
    about = (
        "Score: what the gym counts. Share: of the best score within reach of the task and the turn limit. Solved: episodes that "
        "reached the goal. In brackets: 95% intervals, clustered by task; n: episodes. Micro: average in which each task counts "
        "the same; macro: in which each gym does."
    )
    if small:
        low, high = COVERAGE_AT_40
        about += f" Of simulated evaluations of 40 tasks, such intervals held the truth in {low:.1%} to {high:.1%}."
    tables = [Table("scores", "Scores of each gym", SCORES, tuple(rows))]
    if parts:
        tables.append(Table("parts", "Parts of the tasks, and the least that can be had", SCORES, tuple(parts)))
    gyms = list(dict.fromkeys(s.gym for told in runs for s in told.found.gyms))
    lines = []
    for told in runs:
        own = {s.gym: s.share for s in told.found.gyms if s.episodes}
        at = [float(gyms.index(gym)) for gym in own]
        values = list(own.values())
        lines.append(_dots(told, [v.mean for v in values], at, [v.low for v in values], [v.high for v in values]))
    alt = "; ".join(f"{told.letter}: " + ", ".join(f"{s.gym} {s.share}" for s in told.found.gyms if s.episodes) for told in runs)
    plot = Plot(
        "share", "Share of the best score, 95% intervals", alt, "share", "", tuple(lines), "dots", (-0.02, 1.02), rows=tuple(gyms)
    )
    return Section("scores", "Scores", about, tuple(tables), ((plot, None),))


def _dots(told: Told, x: Sequence[float], y: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Line:
    return Line(told.letter, told.color, x, y, low, high)


def _compared(runs: Sequence[Told]) -> Section | None:
    if len(runs) < 2:
        return None
    first, tables, apart = runs[0], [], []
    for told in runs[1:]:
        try:
            found = [compare(first.run.folder, told.run.folder, metric) for metric in COMPARED]
        except DataError as error:
            apart.append(f"{told.letter}: {error}")
            continue
        tables += [_difference_table(first, told, one) for one in found]
    about = (
        "Each task counts the same. p: how often tossing each task's sign gives as much; Holm: the same, corrected for the "
        "number of gyms; least: the smallest true difference that so many tasks show in four of five such comparisons. n: tasks."
    )
    about = " ".join([about, *apart])
    return Section("comparison", f"Compared with {first.letter}", about, tuple(tables))


_DIGITS: Mapping[str, tuple[Any, int]] = {"score": ("number", 3), "solved": ("percent", 1), "user-turns": ("number", 2)}


def _difference_table(first: Told, told: Told, found: Comparison) -> Table:
    kind, digits = _DIGITS[found.metric]
    columns = (
        Column("gym"), Column("tasks", "number"), Column(first.letter, kind, digits), Column(told.letter, kind, digits),
        Column(f"{told.letter} − {first.letter}", kind, digits), Column("p", "p"), Column("Holm", "p"),
        Column("least", kind, digits),
    )  # fmt: skip
    rows = [
        (d.gym, d.tasks, d.before, d.after, d.difference, d.p, d.adjusted, d.detectable) for d in (*found.gyms, *found.averages)
    ]
    notes = []
    if found.settings:
        notes.append("Settings that differ: " + ", ".join(name.replace("_", " ") for name in found.settings) + ".")
    if any(found.failed):
        notes.append(f"Failed episodes: {found.failed[0]} of {first.letter}, {found.failed[1]} of {told.letter}.")
    if left := found.left_out + found.changed:
        notes.append(f"Tasks left out, as only one run has a score of them or they are not the same: {left}.")
    name = f"difference-{found.metric}-{first.letter}-{told.letter}".lower()
    return Table(name, f"{told.letter} − {first.letter}: {found.metric}", columns, tuple(rows), " ".join(notes))


def _fronts(runs: Sequence[Told]) -> Section | None:
    """Success against the turns that it took of the user, for each gym that several runs played."""
    of = {str(told.run.folder): told for told in runs if told.run.folder.is_dir()}
    found = fronts([Path(folder) for folder in of], by="solved", against="user-turns") if len(of) > 1 else {}
    plots = []
    for gym, front in found.items():
        lines, rows = [], []
        for told, p in ((of[p.run], p) for p in front.points):
            low, high = [p.turns.low], [p.turns.high]
            lines.append(
                Line(told.letter, told.color, [p.turns.mean], [p.success.mean], [p.success.low], [p.success.high], low, high)
            )
            rows.append((told.letter, p.turns, p.success, "yes" if p.on_front else "no", p.on_front_share))
        columns = (
            Column("run"), Column("user turns", "number", 2), Column("solved", "percent", 1), Column("front"),
            Column("in", "percent"),
        )  # fmt: skip
        missing = front.left_out + front.changed
        note = f"Tasks left out, as not all runs have a score of them or they are not the same: {missing}." if missing else ""
        table = Table(f"front-{gym}", f"{gym}: success against user turns", columns, tuple(rows), note)
        alt = "; ".join(f"{letter}: solved {solved}, user turns {took}" for letter, took, solved, *_ in rows)
        title, lines = f"{gym}: success against turns", sorted(lines, key=lambda line: line.color)
        axes = ("turns that need a person", "solved")
        plots.append((Plot(f"front-{gym}", title, alt, *axes, tuple(lines), "points", y_range=(-0.03, 1.03)), table))
    about = (
        "Over the tasks that all runs scored, each counting the same. Front: no other run solves as many in fewer turns, or "
        "more in as many; in: how often that holds when the tasks are drawn anew."
    )
    return Section("front", "Success against turns", about, plots=tuple(plots)) if plots else None


def _gyms(runs: Sequence[Told]) -> list[str]:
    return list(dict.fromkeys(gym for told in runs for gym in told.measured))


def _attempts(runs: Sequence[Told]) -> Section | None:
    rows = [
        (told.letter, s.gym, p.k, p.any, p.all) for told in runs if not told.training for s in told.found.gyms for p in s.passes
    ]
    if not rows:
        return None
    columns = (Column("run"), Column("gym"), Column("k", "number"), Column("pass@k", "percent"), Column("pass^k", "percent"))
    about = "pass@k: at least one of k attempts at a task solves it; pass^k: all k do. n: tasks."
    return Section(
        "attempts", "Several attempts", about, (Table("attempts", "Several attempts at a task", columns, tuple(rows)),)
    )


_EFFORT = {
    "weighted_reward": Column("weighted", "number", 2), "effective_turns": Column("effective turns", "number", 1),
    "turns": Column("turns", "number", 1), "user_turns": Column("user turns", "number", 1),
    "questions": Column("questions", "number", 1), "read_tokens": Column("tokens read", "number"),
    "typed_tokens": Column("tokens typed", "number"), "repeats": Column("repeats", "number", 1),
    "user_rate": Column("user rate", "percent"), "invalid_rate": Column("invalid", "percent", 1),
}  # fmt: skip


def _effort(runs: Sequence[Told]) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (told.letter, gym, *(m.means[name] for name in _EFFORT)) for told in runs for gym, m in told.measured.items()
    ]
    columns = (Column("run"), Column("gym"), *_EFFORT.values())
    ks = sorted(
        {int(name.removeprefix("within_")) for t in runs for m in t.measured.values() for name in m.means if "within" in name}
    )
    within: list[tuple[Cell, ...]] = [
        (told.letter, gym, *(m.means.get(f"within_{k}") for k in ks)) for told in runs for gym, m in told.measured.items()
    ]
    about = (
        "An episode, on average. Weighted: rewards, of which that of turn i counts 1/i. User turns: those that need a person, "
        "for a reply or to judge an answer; user rate: their part of all turns. Tokens are counted as 4 characters. Invalid: "
        "part of the turns that were no valid calls. U-k: episodes solved with at most k user turns."
    )
    tables = (
        Table("effort", "What it took of the user", columns, tuple(rows)),
        Table(
            "within",
            "Solved within k user turns (pass@U-k)",
            (Column("run"), Column("gym"), *(Column(f"U-{k}", "percent") for k in ks)),
            tuple(within),
        ),
    )
    return Section("effort", "User effort", about, tables)


def _mix(runs: Sequence[Told]) -> Section | None:
    tables = []
    for gym in _gyms(runs):
        own = [told for told in runs if gym in told.measured]
        labels = dict.fromkeys(label for told in own for label in told.measured[gym].mix if label)
        rows = [(spoken(label), *(told.measured[gym].mix.get(label) for told in own)) for label in labels]
        if rows:
            columns = (Column("action"), *(Column(told.letter, "percent", 1) for told in own))
            tables.append(Table(f"actions-{gym}", gym, columns, tuple(rows)))
    about = "Share of each sort of action among all turns. n: episodes."
    return Section("actions", "Actions", about, tuple(tables)) if tables else None


def _by_turn(runs: Sequence[Told]) -> Section:
    plots = []
    for gym in _gyms(runs):
        own = [told for told in runs if gym in told.measured]
        lines, rows = [], []
        for told in own:
            m = told.measured[gym]
            x = list(range(1, len(m.so_far) + 1))
            so_far = m.so_far
            lines.append(
                Line(told.letter, told.color, x, [v.mean for v in so_far], [v.low for v in so_far], [v.high for v in so_far])
            )
            rows += [(told.letter, turn, m.by_turn[turn - 1], so_far[turn - 1]) for turn in x]
        columns = (Column("run"), Column("turn", "number"), Column("reward of it", "number", 3), Column("so far", "number", 3))
        note = "reward of it: over the episodes that reached the turn; so far: over all, those that ended earlier as they ended."
        table = Table(f"by-turn-{gym}", f"{gym}: reward by turn", columns, tuple(rows), note)
        ends = ", ".join(f"{line.name} ends at {line.y[-1]:.2f}" for line in lines if line.y)
        plots.append(
            (
                Plot(
                    f"by-turn-{gym}",
                    f"{gym}: reward so far",
                    f"Rises with the turns: {ends}",
                    "turn",
                    "reward",
                    tuple(lines),
                    whole=True,
                ),
                table,
            )
        )
    about = "Mean reward earned up to each turn, with 95% intervals; episodes that have ended keep what they have."
    return Section("by-turn", "Reward by turn", about, plots=tuple(plots))


def _distributions(runs: Sequence[Told]) -> Section:
    plots = []
    edges = [i / BINS for i in range(BINS + 1)]
    for gym in _gyms(runs):
        own = [told for told in runs if gym in told.measured]
        bars = [(told, told.measured[gym].shares) for told in own]
        lines = tuple(Line(told.letter, told.color, edges, [v.mean for v in values]) for told, values in bars)
        rows: list[tuple[Cell, ...]] = []
        for told, values in bars:
            rows += [(told.letter, f"{edges[i]:.2f} to {edges[i + 1]:.2f}", v) for i, v in enumerate(values) if v.mean]
        columns = (Column("run"), Column("share"), Column("episodes", "percent", 1))
        table = Table(
            f"shares-{gym}", f"{gym}: distribution of the share", columns, tuple(rows), "bars without episodes left out"
        )
        alt = "; ".join(
            f"{told.letter}: {values[0].mean:.0%} in the lowest bar, {values[-1].mean:.0%} in the highest"
            for told, values in bars
        )
        plots.append((Plot(f"shares-{gym}", f"{gym}: shares", alt, "share", "episodes", lines, "steps", (0, 1)), table))
        lengths = [(told, told.measured[gym].turns) for told in own]
        most = max(len(values) for _, values in lengths)
        lines = tuple(
            Line(told.letter, told.color, [i + 0.5 for i in range(len(values) + 1)], [v.mean for v in values])
            for told, values in lengths
        )
        rows = [(told.letter, i, v) for told, values in lengths for i, v in enumerate(values, start=1) if v.mean]
        columns = (Column("run"), Column("turns", "number"), Column("episodes", "percent", 1))
        table = Table(f"turns-{gym}", f"{gym}: turns of an episode", columns, tuple(rows))
        alt = "; ".join(f"{told.letter}: {told.measured[gym].means['turns'].mean:.1f} turns on average" for told, _ in lengths)
        plots.append(
            (
                Plot(f"turns-{gym}", f"{gym}: turns", alt, "turns", "episodes", lines, "steps", (0.5, most + 0.5), whole=True),
                table,
            )
        )
    return Section("distributions", "Distributions", "Part of the episodes.", plots=tuple(plots))


def _hacks(runs: Sequence[Told]) -> Section | None:
    """What the evaluation found of an agent that plays the judge or the user."""
    found = [(told, rates) for told in runs for rates in results.read_hacks(told.run.folder)]
    if not found:
        return None
    checks = [check for check in CHECKS if any(check in rates.rates for _, rates in found)]
    columns = (Column("run"), Column("gym"), *(Column(check, "percent", 1) for check in checks))
    rows = [(told.letter, rates.gym, *map(rates.rates.get, checks)) for told, rates in found]
    tables = [Table("hacks", "Signs of playing the judge or the user", columns, tuple(rows))]
    seen = [
        (told.letter, rates.gym, e.finding.check, e.task, e.attempt + 1, e.finding.turn, e.finding.quote)
        for told, rates in found
        for e in rates.examples
    ]
    if seen:
        columns = (
            *map(Column, ("run", "gym", "check", "task")), Column("attempt", "number"), Column("turn", "number"), Column("text"),
        )  # fmt: skip
        tables.append(Table("findings", "The first findings", columns, tuple(seen)))
    told = "; ".join(f"{check}: {ABOUT[check]}" for check in checks)
    about = f"Part of the episodes with {told}. Signs to read an episode, no verdicts; from the run's results.json."
    return Section("hacks", "Hack checks", about, tuple(tables))


# --- training ----------------------------------------------------------------------------------------------------

_TABLED = 40
"""Steps that a table of training shows at most, evenly spaced."""


def _learning(runs: Sequence[Told]) -> Section | None:
    trained = [(told, told.run.steps.to_pydict()) for told in runs if told.run.steps.num_rows]
    if not trained:
        return None
    plots = []
    if any("share" in steps or "validation.share.mean" in steps for _, steps in trained):
        plots.append(_curve(trained))
    names = dict.fromkeys(name for _, steps in trained for name, values in steps.items() if _drawn_apart(name, values))
    plots += [_trace(name, trained) for name in names]
    plots += [_mix_curve(told, steps) for told, steps in trained if any(name.startswith("mix.") for name in steps)]
    about = (
        "Share: of the best score within reach. Validation tasks with 95% intervals; training episodes are those of one step, "
        "sampled, and no interval was kept for them."
    )
    return Section("learning", "Learning curves", about, plots=tuple(plots))


def _drawn_apart(name: str, values: Sequence[Any]) -> bool:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return bool(numbers) and name not in ("step", "share") and "." not in name


def _curve(trained: Sequence[tuple[Told, Mapping[str, Sequence[Any]]]]) -> tuple[Plot, Table]:
    lines, rows = [], []
    for told, steps in trained:
        at = [i for i, v in enumerate(steps.get("share", ())) if v is not None]
        if at:
            name = f"{told.letter} training"
            lines.append(Line(name, told.color, [steps["step"][i] for i in at], [steps["share"][i] for i in at], dashed=True))
        own = {part: steps.get(f"validation.share.{part}", [None] * len(steps["step"])) for part in ("mean", "low", "high", "n")}
        tested = [i for i, v in enumerate(own["mean"]) if v is not None]
        if tested:
            low, mean, high = ([own[part][i] for i in tested] for part in ("low", "mean", "high"))
            lines.append(
                Line(f"{told.letter} validation", told.color, [steps["step"][i] for i in tested], mean, low, high, dashed=False)
            )
        for i in sorted({*_some(at), *tested}):
            value = Interval(own["mean"][i], own["low"][i], own["high"][i], own["n"][i] or 1) if i in set(tested) else None
            rows.append((told.letter, steps["step"][i], steps["share"][i] if i in set(at) else None, value))
    columns = (Column("run"), Column("step", "number"), Column("training", "number", 3), Column("validation", "number", 3))
    table = Table("learning", "Share while training", columns, tuple(rows))
    alt = "; ".join(f"{line.name}: from {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines)
    return Plot("learning", "Share while training", alt, "step", "share", tuple(lines), y_range=(0, 1), whole=True), table


def _trace(name: str, trained: Sequence[tuple[Told, Mapping[str, Sequence[Any]]]]) -> tuple[Plot, Table]:
    lines, rows = [], []
    for told, steps in trained:
        at = [i for i, v in enumerate(steps.get(name, ())) if v is not None]
        if at:
            lines.append(Line(told.letter, told.color, [steps["step"][i] for i in at], [float(steps[name][i]) for i in at]))
            rows += [(told.letter, steps["step"][i], float(steps[name][i])) for i in _some(at)]
    said = name.replace("_", " ").replace(".", " ")
    table = Table(
        f"training-{_file(name)}", said, (Column("run"), Column("step", "number"), Column(said, "number", 4)), tuple(rows)
    )
    alt = "; ".join(f"{line.name}: from {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines)
    return Plot(f"training-{_file(name)}", said, alt, "step", "", tuple(lines), whole=True), table


def _mix_curve(told: Told, steps: Mapping[str, Sequence[Any]]) -> tuple[Plot, Table]:
    labels = [name for name in steps if name.startswith("mix.") and any(steps[name])]
    lines = tuple(
        Line(spoken(name.removeprefix("mix.")), i, list(steps["step"]), [v or 0.0 for v in steps[name]])
        for i, name in enumerate(labels)
    )
    rows = [(steps["step"][i], *(steps[name][i] for name in labels)) for i in _some(list(range(len(steps["step"]))))]
    columns = (Column("step", "number"), *(Column(line.name, "percent", 1) for line in lines))
    title = f"{told.letter}: actions while training"
    table = Table(f"training-actions-{told.letter.lower()}", title, columns, tuple(rows))
    alt = "; ".join(f"{line.name}: from {line.y[0]:.0%} to {line.y[-1]:.0%}" for line in lines)
    return Plot(table.name, title, alt, "step", "share of turns", lines, y_range=(0, 1), whole=True), table


def _some(at: Sequence[int]) -> list[int]:
    """At most `_TABLED` of the places, first and last among them."""
    if len(at) <= _TABLED:
        return list(at)
    return sorted({at[round(i * (len(at) - 1) / (_TABLED - 1))] for i in range(_TABLED)})


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").lower()


# --- cost, new marks, samples ------------------------------------------------------------------------------------


def _cost(runs: Sequence[Told]) -> Section | None:
    rows: list[tuple[Cell, ...]] = []
    for told in runs:
        for line in _costs(told.run.folder / "cost.json"):
            unknown = line["unpriced"] >= line["calls"]
            usd = None if unknown else float(line["usd"])
            counts = tuple(line[name] for name in ("calls", "failed", "read", "written"))
            each = None if usd is None or not told.records else usd / len(told.records)
            rows.append((told.letter, line["role"], line["gym"], line["model"], *counts, usd, each, line["unpriced"]))
    if not rows:
        return None
    columns = (
        *map(Column, ("run", "chair", "gym", "model")),
        *(Column(head, "number") for head in ("calls", "failed", "tokens read", "tokens written")),
        Column("dollars", "number", 4), Column("an episode", "number", 5), Column("calls without a price", "number"),
    )  # fmt: skip
    about = "What the models took, failed calls included; counts as the endpoints gave them, so there is no interval."
    return Section("cost", "Cost", about, (Table("cost", "Model calls", columns, tuple(rows)),))


LEDGER = ("role", "gym", "model", "calls", "failed", "read", "written", "usd", "unpriced")
"""What a line of `cost.json` tells."""


def _costs(file: Path) -> list[dict[str, Any]]:
    """The lines of a ledger. Raises DataError."""
    try:
        lines = list(json.loads(file.read_text("utf-8"))) if file.exists() else []
        return [{name: line[name] for name in LEDGER} for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"Cannot read {file}: {error!r}. Mend or remove the file.") from error


def _marked_anew(runs: Sequence[Told]) -> Section | None:
    """What `rescore` kept of how much its figures can be trusted."""
    tables = []
    for told in runs:
        if not (told.run.folder / MARKS).exists():
            continue
        kept = rescored(told.run.folder)
        rows = [(d.gym, d.of, d.before, d.after, d.difference, d.episodes) for d in kept.figures]
        columns = (
            Column("gym"), Column("episodes taken"), Column("as recorded", "number", 3), Column("marked anew", "number", 3),
            Column("difference", "number", 3), Column("episodes", "number"),
        )  # fmt: skip
        tables.append(Table(f"rescored-{told.letter.lower()}", f"{told.letter}: scores", columns, tuple(rows), kept.note))
    return Section("rescored", "Marked anew", tables=tuple(tables)) if tables else None


def _samples(runs: Sequence[Told]) -> Section | None:
    samples = [sample for told in runs for sample in _of_run(told)]
    about = "Of each run and gym, episodes at the quantiles of the share; then failed ones. Texts are as they were written."
    return Section("samples", "Sample episodes", about, samples=tuple(samples)) if samples else None


def _of_run(told: Told) -> Iterator[Sample]:
    stops, gyms, shares = (told.episodes[name].to_pylist() for name in ("stop", "gym", "share"))
    for gym in dict.fromkeys(gyms):
        scored = sorted((i for i, g in enumerate(gyms) if g == gym and stops[i] != "error"), key=lambda i: (shares[i], i))
        chosen: dict[int, str] = {}
        for name, quantile in QUANTILES.items():
            if scored:
                chosen.setdefault(scored[round(quantile * (len(scored) - 1))], name)
        failed = [i for i, g in enumerate(gyms) if g == gym and stops[i] == "error"][:FAILED_SHOWN]
        for i, name in [*chosen.items(), *((i, "failed") for i in failed)]:
            yield sample(told.records[i], f"{told.letter}: {gym}, {name}")


def sample(episode: Episode, title: str) -> Sample:
    """An episode for people. Its texts are those of models and task files: whoever shows them has to escape them."""
    gym = episode.task.gym
    several = len(find(gym).actions) > 1
    turns = []
    for number, turn in enumerate(episode.turns, start=1):
        action = turn.action
        said = f"{action.kind}: {action.text}" if several and action.kind != INVALID else action.text or action.raw
        by = answerer(gym, action)
        turns.append(SampleTurn(number, cut(said), spoken(turn.label), turn.reward, by, cut(readable(turn.feedback))))
    worth = "" if episode.stop == "error" else f", score {total(episode):.2f}, share {share(episode):.2f}"
    return Sample(f"{title}{worth}", episode.task.id, counterpart(gym), cut(episode.task.prompt), tuple(turns), ending(episode))


def cut(text: str) -> str:
    """A text of at most `LONGEST` characters."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
