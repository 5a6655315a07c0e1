"""Sections of a report on what episodes take: of the user, in actions, of the models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from userrl.errors import DataError
from userrl.evaluate.talk import spoken
from userrl.report.runs import Told, gyms
from userrl.report.sections import Section
from userrl.report.tables import Cell, Column, Table

_EFFORT = {
    "weighted_reward": Column("weighted", "number", 2), "effective_turns": Column("effective turns", "number", 1),
    "turns": Column("turns", "number", 1), "user_turns": Column("user turns", "number", 1),
    "questions": Column("questions", "number", 1), "read_tokens": Column("tokens read", "number"),
    "typed_tokens": Column("tokens typed", "number"), "repeats": Column("repeats", "number", 1),
    "user_rate": Column("user rate", "percent"), "invalid_rate": Column("invalid", "percent", 1),
}  # fmt: skip


def effort(runs: Sequence[Told]) -> Section:
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


def actions(runs: Sequence[Told]) -> Section | None:
    tables = []
    for gym in gyms(runs):
        own = [told for told in runs if gym in told.measured]
        labels = dict.fromkeys(label for told in own for label in told.measured[gym].mix if label)
        rows = [(spoken(label), *(told.measured[gym].mix.get(label) for told in own)) for label in labels]
        if rows:
            columns = (Column("action"), *(Column(told.letter, "percent", 1) for told in own))
            tables.append(Table(f"actions-{gym}", gym, columns, tuple(rows)))
    about = "Share of each sort of action among all turns. n: episodes."
    return Section("actions", "Actions", about, tuple(tables)) if tables else None


def cost(runs: Sequence[Told]) -> Section | None:
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
