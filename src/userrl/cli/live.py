"""The live view of a training run: progress, curves and alarms on a terminal; plain lines where there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from userrl.cli.show import Watch, err, progress, safe, tell
from userrl.train.logs import BASELINES, FIGURES, read_lines
from userrl.train.monitors import Alarm, Line, best, validated

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character, by row and column of its dots."""
BLOCKS = "▁▂▃▄▅▆▇█"
AXIS, NAMES = 5, 20
"""Columns left of a chart for its scale, and right of it for names of levels."""
SMALL = {"entropy": "entropy", "invalid": "invalid calls", "kl": "KL", "grad_norm": "gradient"}
"""Figures with a row of their own, where a run has them."""
TRAINED, VALIDATED, BOUNDS, LEVEL, BEST = "white", "bright_blue", "blue", "yellow", "green"


class View(Protocol):
    """What a training run is shown on."""

    def begin(self) -> None:
        """All that can be refused has been: the run begins."""

    def line(self, line: Line) -> None:
        """A step is done: its line of figures."""

    def alarm(self, alarm: Alarm) -> None:
        """A monitor has raised an alarm."""


@contextmanager
def training(stage: str, steps: int, folder: Path) -> Iterator[View]:
    """A view on standard error, from where the run begins to its end. It shows what the folder holds of an earlier part, too."""
    if not err.is_terminal or err.is_dumb_terminal or err.options.ascii_only:
        with progress() as watch:
            yield Plain(stage, steps, folder, watch)
        return
    view = Curves(stage, steps, folder)
    try:
        yield view
    finally:
        view.live.stop()


def told(alarm: Alarm) -> None:
    tell(f"Warning: step {alarm.step}, monitor {alarm.monitor}: {alarm.text}", "yellow")


@dataclass(frozen=True)
class Plain:
    """A line now and then."""

    stage: str
    steps: int
    folder: Path
    watch: Watch

    def begin(self) -> None:
        self.watch(self.stage, done(self.folder), self.steps, "")

    def line(self, line: Line) -> None:
        self.watch(self.stage, line["step"], self.steps, note(line))

    def alarm(self, alarm: Alarm) -> None:
        told(alarm)


def note(line: Line) -> str:
    """The figures of a step in a few words."""
    words = []
    if "share" in line:
        words.append(f"share {line['share']:.3f}")
    if "validation" in line:
        words.append("validation {mean:.3f} [{low:.3f}, {high:.3f}]".format(**line["validation"]["share"]))
        if line["step"] and line["validation"].get("best_step") == line["step"]:
            words[-1] += ", the best so far"
    if "skipped_groups" in line:
        words.append(f"skipped {line['skipped_groups']}")
    elif "loss" in line:
        words.append(f"loss {line['loss']:.3f}")
    return ", ".join(words)


class Curves:
    """A panel that is drawn anew as lines come."""

    def __init__(self, stage: str, steps: int, folder: Path) -> None:
        self.folder, self.lines = folder, read_lines(folder / FIGURES)
        self.alarms: list[Alarm] = []
        self.levels: Mapping[str, float] = levels(folder)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            expand=True,
            speed_estimate_period=3600,
        )
        self._bar = self.bars.add_task(stage, total=steps)
        self.live = Live(self, console=err, refresh_per_second=4, auto_refresh=True)
        self._drawn: tuple[tuple[int, int, int], RenderableType] | None = None

    def begin(self) -> None:
        self.lines = read_lines(self.folder / FIGURES)
        self.bars.reset(self._bar, completed=done(self.folder))
        self.live.start()

    def line(self, line: Line) -> None:
        if self.bars.tasks[0].completed == 0 and line["step"] > 1:  # a resumed run: what was done before took no time
            self.bars.reset(self._bar, completed=line["step"] - 1)
        self.bars.update(self._bar, completed=line["step"])
        self.lines = [*(old for old in self.lines if old["step"] < line["step"]), line]
        self.levels = self.levels or levels(self.folder)

    def alarm(self, alarm: Alarm) -> None:
        told(alarm)
        self.alarms.append(alarm)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        key = (options.max_width, console.height, self.lines[-1]["step"] if self.lines else -1)
        if self._drawn is None or self._drawn[0] != key:  # four times a second the bar moves, and hardly ever the rest
            self._drawn = key, figure(self.lines, self.levels, options.max_width - 4, min(10, max(4, console.height - 14)))
        parts: list[RenderableType] = [self.bars, self._drawn[1]]
        if self.alarms:
            parts.append(safe("alarms: " + ", ".join(f"{a.monitor} (step {a.step})" for a in self.alarms[-4:]), "yellow"))
        yield Panel(Group(*parts), title=safe(str(self.folder)), title_align="left", border_style="dim")


def done(folder: Path) -> int:
    """Steps whose figures a run's folder holds."""
    return max((line["step"] for line in read_lines(folder / FIGURES)), default=0)


def levels(folder: Path) -> dict[str, float]:
    """The levels of the agents that a run's gyms have in common, each the mean over the gyms; none before they are known."""
    if not (folder / BASELINES).exists():
        return {}
    gyms = list(json.loads((folder / BASELINES).read_text("utf-8")).values())
    common = [name for name in gyms[0] if all(name in gym for gym in gyms)] if gyms else []
    return {name: sum(gym[name] for gym in gyms) / len(gyms) for name in common}


def figure(lines: Sequence[Line], levels: Mapping[str, float], width: int, height: int) -> RenderableType:
    """What a run's lines show, in so many columns; its chart has so many rows."""
    if not lines:
        return safe("No step is done yet.", "dim")
    if not any("share" in line or "validation" in line for line in lines):
        return losses(lines, width, height)
    parts = [shares(lines, levels, width, height)]
    for name, title in SMALL.items():
        if values := [line[name] for line in lines if finite(line.get(name))]:
            now = f"{values[-1]:.1%}" if name == "invalid" else f"{values[-1]:.3g}"
            parts.append(
                Text(f"{title:<14}{now:>8}  ") + Text(spark(values, width - 24, 0.2 if name == "invalid" else 0.0), TRAINED)
            )
    return Group(*parts)


def shares(lines: Sequence[Line], levels: Mapping[str, float], width: int, height: int) -> RenderableType:
    """Share of the reachable reward in training and validation, with the levels of agents without skill."""
    names = NAMES if levels else 0
    end, columns = max(10, lines[-1]["step"]), max(10, width - AXIS - names)
    train = [(line["step"], line["share"]) for line in lines if "share" in line]
    tested = [(line["step"], line["validation"]["share"]) for line in lines if "validation" in line]
    marks: list[Mark] = [(flat(level, end, columns), BEST if name == "expert" else LEVEL) for name, level in levels.items()]
    marks.append((joined(train, columns), TRAINED))
    for step, share in tested:
        marks.append((joined([(step, share["low"]), (step, share["high"])], columns), BOUNDS))
    marks.append((joined([(step, share["mean"]) for step, share in tested], columns), VALIDATED))
    chart = braille(marks, columns, height, end, 1.0)
    beside: dict[int, list[str]] = {}
    for name, level in sorted(levels.items(), key=lambda item: -item[1]):
        beside.setdefault(round((1 - level) * (4 * height - 1)) // 4, []).append(name.replace("_", " "))
    table = Table.grid()
    table.add_column(width=AXIS, justify="right")
    table.add_column(width=columns, no_wrap=True)
    table.add_column(width=names, no_wrap=True, overflow="ellipsis")
    for row, drawn in enumerate(chart):
        scale = {0: "1.0 ", height // 2: "0.5 ", height - 1: "0.0 "}.get(row, "")
        table.add_row(Text(scale, "dim"), drawn, safe(" " + ", ".join(beside.get(row, ())), "dim"))
    legend = Text(" " * AXIS)
    if train:
        legend += Text("━ ", TRAINED) + Text(f"training share {train[-1][1]:.3f}  ")
    if tested:
        legend += Text("━ ", VALIDATED) + Text("validation {mean:.3f} [{low:.3f}, {high:.3f}]".format(**tested[-1][1]))
        legend += Text(f" at step {tested[-1][0]}")
    if (top := best(lines)) and top["step"] < tested[-1][0]:
        legend += Text(f"\n{' ' * AXIS}the best: {validated(top)['mean']:.3f} at step {top['step']}")
    return Group(table, legend)


def losses(lines: Sequence[Line], width: int, height: int) -> RenderableType:
    """The loss of a fine-tuning run."""
    values = [(line["step"], line["loss"]) for line in lines if finite(line.get("loss"))] or [(0, 0.0)]
    top, columns = max(loss for _, loss in values) or 1.0, max(10, width - 8)
    chart = braille([(joined(values, columns), TRAINED)], columns, height, max(10, lines[-1]["step"]), top)
    table = Table.grid()
    table.add_column(width=8, justify="right")
    table.add_column(width=columns, no_wrap=True)
    for row, drawn in enumerate(chart):
        table.add_row(Text({0: f"{top:.2f} ", height - 1: "0 "}.get(row, ""), "dim"), drawn)
    return Group(table, Text(" " * 8) + Text("━ ", TRAINED) + Text(f"loss {values[-1][1]:.3f}"))


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


# --- drawing ---------------------------------------------------------------------------------------------------

Point = tuple[float, float]
Mark = tuple[Iterable[Point], str]
"""Points and their color."""


def braille(marks: Iterable[Mark], columns: int, rows: int, right: float, top: float) -> list[Text]:
    """Points with x from 0 to `right` and y from 0 to `top`, two dots a column and four a row; later marks color over others."""
    bits, colors = [[0] * columns for _ in range(rows)], [[""] * columns for _ in range(rows)]
    for points, color in marks:
        for x, y in points:
            across, down = round(x / right * (2 * columns - 1)), round((1 - y / top) * (4 * rows - 1))
            if 0 <= across < 2 * columns and 0 <= down < 4 * rows:
                bits[down // 4][across // 2] |= DOTS[down % 4][across % 2]
                colors[down // 4][across // 2] = color
    return [Text.assemble(*((chr(0x2800 + b), c) for b, c in zip(*row, strict=True))) for row in zip(bits, colors, strict=True)]


def joined(points: Sequence[Point], columns: int) -> Iterator[Point]:
    """The points, with so many between each two that a line over so many columns has no gaps."""
    yield from points[:1]
    pieces = max(8, 4 * columns // max(1, len(points)))
    for (x, y), (to_x, to_y) in pairwise(points):
        for i in range(1, pieces + 1):
            yield x + (to_x - x) * i / pieces, y + (to_y - y) * i / pieces


def flat(level: float, right: float, columns: int) -> Iterator[Point]:
    """A dotted line at a level."""
    yield from ((right * i / columns, level) for i in range(0, columns + 1, 2))


def spark(values: Sequence[float], width: int, least: float = 0.0) -> str:
    """Values as a row of blocks from 0 to their greatest, or to `least`; they are averaged where columns are fewer."""
    width = min(width, len(values))
    cuts = [len(values) * i // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    top = max(least, *means) or 1.0
    return "".join(BLOCKS[min(7, max(0, int(8 * value / top)))] for value in means)
