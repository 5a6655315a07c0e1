"""Sections of a report on what runs are and what they reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from userrl.evaluate import paper, results
from userrl.evaluate.hacks import ABOUT, CHECKS
from userrl.evaluate.metrics import Summary
from userrl.evaluate.run import recorded_job
from userrl.evaluate.statistics import few
from userrl.report.plots import Line, Plot
from userrl.report.runs import Told
from userrl.report.sections import CAUTIONS, Section
from userrl.report.tables import Cell, Column, Table

SETTINGS = {
    "kind": "kind", "agent": "agent", "model": "model", "user": "user", "judge": "judge", "split": "split",
    "attempts": "attempts", "max_turns": "turn limit", "temperature": "temperature", "seed": "seed", "preset": "preset",
    "rescore_of": "rescored from", "replay_of": "replayed from",
}  # fmt: skip
"""Settings that the table of runs shows, and what it calls them."""


def warnings(runs: Sequence[Told]) -> Section | None:
    """What must be said above the figures."""
    rows = [(told.letter, told.name, line) for told in runs for line in told.cautions]
    table = Table(CAUTIONS, "Before any figure is read", (Column("run"), Column("folder"), Column("what")), tuple(rows))
    return Section(CAUTIONS, "Cautions", tables=(table,)) if rows else None


def overview(runs: Sequence[Told]) -> Section:
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


def scores(runs: Sequence[Told]) -> Section:
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
    about = (
        "Score: what the gym counts. Share: of the best score within reach of the task and the turn limit. Solved: episodes that "
        "reached the goal. Means over episodes; n: episodes, not tasks. In brackets: 95% intervals, clustered by task. Micro: "
        "average of the gyms, each weighted by its tasks; macro: each weighted alike. Scores of gyms have different units."
    )
    about = f"{about} {few(min((s.tasks for told in runs for s in told.found.gyms), default=100))}".rstrip()
    note = "n: episodes. Attempts at a task are no independent evidence: intervals draw the tasks."
    tables = [Table("scores", "Scores of each gym", SCORES, tuple(rows), note)]
    if parts:
        tables.append(Table("parts", "Parts of the tasks, and the least that can be had", SCORES, tuple(parts), note))
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


def beside_the_paper(told: Told) -> Section | None:
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


def attempts(runs: Sequence[Told]) -> Section | None:
    rows = [
        (told.letter, s.gym, p.k, p.any, p.all) for told in runs if not told.training for s in told.found.gyms for p in s.passes
    ]
    if not rows:
        return None
    columns = (Column("run"), Column("gym"), Column("k", "number"), Column("pass@k", "percent"), Column("pass^k", "percent"))
    about = "pass@k: at least one of k attempts at a task solves it; pass^k: all k do."
    table = Table("attempts", "Several attempts at a task", columns, tuple(rows), "n: tasks with k scored attempts.")
    return Section("attempts", "Several attempts", about, (table,))


def hacks(runs: Sequence[Told]) -> Section | None:
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
