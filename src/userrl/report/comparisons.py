"""Sections of a report on how runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from userrl.errors import DataError
from userrl.evaluate.compare import Comparison, compare_outlines
from userrl.evaluate.front import fronts as find_fronts
from userrl.evaluate.rescore import MARKS, rescored
from userrl.report.plots import Line, Plot
from userrl.report.runs import COMPARED, Told
from userrl.report.sections import Section
from userrl.report.tables import Column, Table


def compared(runs: Sequence[Told]) -> Section | None:
    if len(runs) < 2:
        return None
    first, tables, apart = runs[0], [], []
    for told in runs[1:]:
        try:
            found = [compare_outlines(first.outline, told.outline, metric) for metric in COMPARED]
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
    notes.append("Each task counts the same, whatever its number of attempts. n: tasks.")
    name = f"difference-{found.metric}-{first.letter}-{told.letter}".lower()
    return Table(name, f"{told.letter} − {first.letter}: {found.metric}", columns, tuple(rows), " ".join(notes))


def fronts(runs: Sequence[Told]) -> Section | None:
    """Success against the turns that it took of the user, for each gym that several runs played."""
    of = {str(told.run.folder): told for told in runs}
    found = find_fronts([told.outline for told in of.values()], by="solved", against="user-turns") if len(of) > 1 else {}
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


def marked_anew(runs: Sequence[Told]) -> Section | None:
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
