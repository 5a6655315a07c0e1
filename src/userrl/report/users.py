"""The section of a report on what the user decides, for the folder of a grid of agents and users."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from userrl.evaluate import results
from userrl.evaluate.statistics import Interval
from userrl.evaluate.users import Factor, Figure
from userrl.report.sections import Section
from userrl.report.tables import Cell, Column, Kind, Table


def users(folders: Sequence[Path]) -> list[Section]:
    """A section for each folder of a grid, from its `results.json`. Raises DataError."""
    found = [(folder, factor) for folder in folders if (factor := results.read_factor(folder)) is not None]
    names = ["users"] if len(found) == 1 else [f"users-{number}" for number in range(1, len(found) + 1)]
    several = len(found) > 1
    return [
        _section(name, _named(factor), f": {folder.name}" if several else "")
        for name, (folder, factor) in zip(names, found, strict=True)
    ]


def _named(found: Factor) -> Factor:
    """With models named without their URLs, unless that would make two of them one."""
    names = {name: name.partition("@http")[0] for f in found.figures for name in (f.agent, f.user, f.judge)}
    if len(set(names.values())) < len(names):
        return found

    def short(condition: str) -> str:
        return " / ".join(names.get(part, part) for part in condition.split(" / "))

    return replace(
        found,
        figures=tuple(replace(f, agent=names[f.agent], user=names[f.user], judge=names[f.judge]) for f in found.figures),
        spreads=tuple(replace(s, agent=short(s.agent), worst=short(s.worst)) for s in found.spreads),
        ranks=tuple(replace(r, first=short(r.first), second=short(r.second)) for r in found.ranks),
    )


def _section(name: str, found: Factor, of: str) -> Section:
    gyms = list(dict.fromkeys(gym for figure in found.figures for gym in figure.gyms))
    several, failed = len(gyms) > 1, sum(figure.errors for figure in found.figures)
    title = f"{found.metric}, each task counting the same" if several else found.metric
    note = f"Failed episodes, which have no score: {failed}." if failed else ""
    tables = [_cross(name, found, title, lambda f: f.mean, note)]
    if several:
        tables.append(_cross(f"{name}-macro", found, f"{found.metric}, each gym counting the same", lambda f: f.macro))
        tables += [_cross(f"{name}-{gym}", found, f"{gym}: {found.metric}", partial(_of_gym, gym)) for gym in gyms]
    tables += [*_spread(name, found), *_ranks(name, found)]
    about = (
        "Every agent with every user, as the grid's results.json has it. Intervals are over tasks, not users: they say nothing "
        "of users that were not played. Worst: the user with whom the agent is worst; in: how often it is, when the tasks are "
        "drawn anew; between: standard deviation between users, without what chance adds; within: of the episodes with one "
        "user. Kendall's tau: 1, both users put the agents in the same order; -1, in the reverse one."
    )
    return Section(name, f"Agents and users{of}", about, tuple(tables))


def _of_gym(gym: str, figure: Figure) -> Interval | None:
    return figure.gyms.get(gym)


def _cross(name: str, found: Factor, title: str, cell: Callable[[Figure], Interval | None], note: str = "") -> Table:
    """A line for each agent, a column for each user, with the judge where there are several."""
    judges = len({figure.judge for figure in found.figures}) > 1
    heads = {(f.user, f.judge): f"{f.user} / {f.judge}" if judges else f.user for f in found.figures}
    of = {(f.agent, f.user, f.judge): cell(f) for f in found.figures}
    rows = [(agent, *(of.get((agent, *who)) for who in heads)) for agent in dict.fromkeys(f.agent for f in found.figures)]
    columns = (Column("agent"), *(Column(head, *_form(found.metric)) for head in heads.values()))
    return Table(name, title, columns, tuple(rows), note)


def _form(metric: str) -> tuple[Kind, int]:
    return ("percent", 1) if metric == "solved" else ("number", 3)


def _spread(name: str, found: Factor) -> list[Table]:
    form = _form(found.metric)
    rows: list[tuple[Cell, ...]] = [
        (
            s.agent,
            s.mean,
            *((s.worst, s.worst_mean, s.worst_share) if s.differs else (None, None, None)),
            math.sqrt(s.between),
            math.sqrt(s.within),
        )
        for s in found.spreads
    ]
    columns = (
        Column("agent"), Column("over the users", *form), Column("worst user"), Column("worst", *form), Column("in", "percent"),
        Column("between", *form), Column("within", *form),
    )  # fmt: skip
    note = f"Over the {found.tasks} tasks that all scored; n: tasks. A dash: all users have the same mean, so none is the worst."
    return [Table(f"{name}-spread", "What the user decides", columns, tuple(rows), note)] if rows else []


def _ranks(name: str, found: Factor) -> list[Table]:
    rows = [(r.first, r.second, None if math.isnan(r.tau.mean) else r.tau) for r in found.ranks]
    columns = (Column("user"), Column("other user"), Column("Kendall's tau", "number", 2))
    note = "n: agents. Without bounds: all draws of tasks gave the same. A dash: one of the users cannot tell the agents apart."
    return [Table(f"{name}-ranks", "Do users put the agents in the same order?", columns, tuple(rows), note)] if rows else []
