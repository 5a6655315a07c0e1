from __future__ import annotations

import csv
import io

import pytest

from userrl.evaluate.statistics import NOTHING, Interval
from userrl.report.tables import Column, Table, shown, to_csv, to_latex

SCORE = Interval(0.5, 0.25, 0.75, 1200)
COLUMNS = (Column("gym"), Column("score", "number", 2), Column("solved", "percent"), Column("p", "p"))


def table(*rows: tuple[object, ...]) -> Table:
    return Table("scores", "Scores", COLUMNS, rows, "A note: 5%")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (SCORE, Column("x", "number", 2), ("0.50", "[0.25, 0.75]", "1,200")),
        (SCORE, Column("x", "percent"), ("50%", "[25, 75]", "1,200")),
        (NOTHING, Column("x", "number", 2), ("–", "", "")),
        (Interval(0.5, float("nan"), float("nan"), 3), Column("x", "number", 1), ("0.5", "", "3")),
        (Interval(0.5, 0.5, 0.5, 3), Column("x", "number", 1), ("0.5", "", "3")),
        (float("nan"), Column("x", "number", 1), ("–", "", "")),
        (None, Column("x"), ("–", "", "")),
        (12345, Column("x", "number"), ("12,345", "", "")),
        (0.0004, Column("x", "p"), ("<0.001", "", "")),
        (0.04, Column("x", "p"), ("0.040", "", "")),
        ("text", Column("x"), ("text", "", "")),
    ],
)
def test_a_cell_is_shown_with_its_bounds_and_its_n(cell: object, column: Column, text: tuple[str, ...]) -> None:
    assert tuple(shown(cell, column)) == text  # type: ignore[arg-type]


def test_csv_gives_an_interval_four_columns_and_rounds_nothing() -> None:
    rows = list(
        csv.reader(io.StringIO(to_csv(table(("turtle", Interval(1 / 3, 0.1, 0.6, 9), 0.5, 0.01), ("x", NOTHING, None, 1)))))
    )
    assert rows[0] == ["gym", "score", "score low", "score high", "score n", "solved", "p"]
    assert rows[1] == ["turtle", repr(1 / 3), "0.1", "0.6", "9", "0.5", "0.01"]
    assert rows[2] == ["x", "", "", "", "0", "", "1"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\n=1", "＝1"])
def test_csv_holds_no_formulas(text: str) -> None:
    assert list(csv.reader(io.StringIO(to_csv(table((text, 1.0, 1.0, 1.0))))))[1][0] == f"'{text}"


def test_a_head_is_no_formula_either() -> None:
    assert to_csv(Table("x", "T", (Column("=1+1"),), ())).splitlines() == ["'=1+1"]


def test_latex_is_a_table_for_booktabs_whose_text_is_escaped() -> None:
    text = to_latex(table((r"a_b & 50% \input{x} #$~^", SCORE, SCORE, 0.0001)))
    assert r"\begin{tabular}{lrrr}" in text
    row = next(line for line in text.splitlines() if line.startswith("a"))
    assert row.startswith(r"a\_b \& 50\% \textbackslash{}input\{x\} \#\$\textasciitilde{}\textasciicircum{} & ")
    assert r"0.50$_{1,200}$ {\small [0.25, 0.75]}" in row
    assert r"50\%$_{1,200}$" in row
    assert text.count(r"\\") == 2
    assert all(line.startswith("%") for line in text.splitlines()[:2])


def test_a_line_break_in_latex_notes_cannot_end_the_comment() -> None:
    lines = to_latex(Table("x", "T\n\\input{z}", COLUMNS[:1], (("a\nb",),), "one\n\\input{y}")).splitlines()
    assert [line for line in lines if "input" in line] == ["% \\input{z}", "% \\input{y}"]
    assert r"a b \\" in lines
