"""Tables of a report as data, and as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from userrl.evaluate.statistics import Interval

Cell = str | int | float | Interval | None
Kind = Literal["text", "number", "percent", "p"]


@dataclass(frozen=True)
class Column:
    """How a column is headed and its numbers written."""

    head: str
    kind: Kind = "text"
    digits: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells. An `Interval` brings its bounds and n along wherever it is shown."""

    name: str
    """Of its file."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Shown(NamedTuple):
    """A cell as text."""

    value: str
    bounds: str = ""
    """Of the 95% interval, in brackets."""
    n: str = ""


def shown(cell: Cell, column: Column) -> Shown:
    """A cell in the form of its column; a dash where there is no number, no bounds where nothing is known of them."""
    if cell is None or cell == "":
        return Shown("–")
    if isinstance(cell, str):
        return Shown(cell)
    if not isinstance(cell, Interval):
        return Shown(_number(cell, column))
    if not cell.n:
        return Shown("–")
    bounds = f"[{_number(cell.low, column, unit=False)}, {_number(cell.high, column, unit=False)}]"
    known = not math.isnan(cell.low) and cell.low < cell.high  # draws that are all the same tell nothing
    return Shown(_number(cell.mean, column), bounds if known else "", f"{cell.n:,}")


def _number(value: float, column: Column, *, unit: bool = True) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "–"
    if column.kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if column.kind == "percent":
        return f"{100 * value:.{column.digits}f}{'%' if unit else ''}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{column.digits}f}"


def to_csv(table: Table) -> str:
    """A line for each row; an interval takes four columns: mean, low, high, n. Numbers are not rounded."""
    spread = [any(isinstance(row[i], Interval) for row in table.rows) for i in range(len(table.columns))]
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    heads: list[str] = []
    for column, four in zip(table.columns, spread, strict=True):
        heads += [f"{column.head} {part}".strip() for part in ("", "low", "high", "n")] if four else [column.head]
    lines.writerow(map(_harmless, heads))
    for row in table.rows:
        cells: list[object] = []
        for cell, four in zip(row, spread, strict=True):
            if isinstance(cell, Interval):
                cells += [cell.mean, cell.low, cell.high, cell.n] if cell.n else ["", "", "", 0]
            else:
                cells += [_harmless(cell), *[""] * (3 if four else 0)]
        lines.writerow(cells)
    return out.getvalue()


FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a text begins with that a spreadsheet takes for a formula, or skips to find one."""


def _harmless(cell: str | int | float | None) -> object:
    """A text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "–": "--", "−": "$-$", "<": r"\textless{}", ">": r"\textgreater{}",
    }
)  # fmt: skip


def to_latex(table: Table) -> str:
    """A `tabular` for the package booktabs; the n of an interval stands below its mean."""
    align = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    lines = [f"% {line}" for line in (*table.title.splitlines(), *table.note.splitlines())]
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines.append(_latex_row([_tex(column.head) for column in table.columns]))
    lines.append(r"\midrule")
    for row in table.rows:
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            value, bounds, n = map(_tex, shown(cell, column))
            cells.append("".join([value, f"$_{{{n}}}$" if n else "", f" {{\\small {bounds}}}" if bounds else ""]))
        lines.append(_latex_row(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex(text: str) -> str:
    return " ".join(text.translate(_LATEX).split())
