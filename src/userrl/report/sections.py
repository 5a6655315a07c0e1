"""What a report is made of: sections of tables, plots and sample episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from userrl.report.plots import Plot
from userrl.report.tables import Table

CAUTIONS = "cautions"
"""Name of the table of what must be said above the figures: run, folder, what."""


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
    def cautions(self) -> Iterator[str]:
        """What must be said above the figures, a line each."""
        for run, name, what in (row for table in self.tables if table.name == CAUTIONS for row in table.rows):
            yield f"{run}, {name}: {what}"

    @property
    def tables(self) -> Iterator[Table]:
        for section in self.sections:
            yield from section.tables
            yield from (table for _, table in section.plots if table is not None)

    @property
    def plots(self) -> Iterator[Plot]:
        for section in self.sections:
            yield from (plot for plot, _ in section.plots)
