"""Small plots with intervals, as data and as pictures: SVG for a page in light and dark, SVG and PNG for papers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from userrl.errors import needs

with needs("report", "A plot"):
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID = "#1b1f24", "#59626e", "#dde1e6"
SERIES = ("#2563a8", "#c2571a", "#1f7a55", "#8b4fa8", "#8a6d00", "#b4344d")
"""One for each run; the page has a lighter set for the dark, in the same order."""
DASHES: tuple[str, ...] = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
"""With the colors, so that none of them is told by color alone."""
SIZE_IN = (4.2, 2.7)

Kind = Literal["line", "steps", "dots", "points"]


@dataclass(frozen=True)
class Line:
    """The values of one run."""

    name: str
    """As the legend has it: the run's letter, with what is shown of it where there are several."""
    color: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    """95% intervals of y; of x for dots. None where empty."""
    x_low: Sequence[float] = ()
    x_high: Sequence[float] = ()
    """95% intervals of x, for points."""
    dashed: bool | None = None
    """None: as its color has it."""


@dataclass(frozen=True)
class Plot:
    """One picture."""

    name: str
    """Of its file."""
    title: str
    alt: str
    """For those who cannot see it."""
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    kind: Kind = "line"
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    whole: bool = False
    """Whether x counts something: turns, steps."""
    rows: tuple[str, ...] = ()
    """For dots: names of the rows, from the top; y of a line is the number of a row."""


def svg(plot: Plot, *, themed: bool = False) -> str:
    """The plot as SVG, its text as text.

    Args:
        themed: colors and font are those of the page that it stands in (`var(--ink)`, `var(--s0)`, ...).
    """
    with _drawn(plot) as figure:
        FigureCanvasSVG(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    if not themed:
        return text
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)  # the same in all plots
    for color, name in {INK: "ink", MUTED: "muted", GRID: "line", **{c: f"s{i}" for i, c in enumerate(SERIES)}}.items():
        text = text.replace(color, f"var(--{name})")
    return text


def png(plot: Plot, dpi: int = 200) -> bytes:
    """The plot as a PNG on white."""
    with _drawn(plot) as figure:
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, facecolor="white")
    return out.getvalue()


@contextmanager
def _drawn(plot: Plot) -> Iterator[Figure]:
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": plot.name,  # ids that differ between the plots of a page, and not between two pages
        "text.parse_math": False,
        "font.size": 9,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlesize": 9.5,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "text.color": INK,
    }
    with rc_context(settings):
        width, height = SIZE_IN[0], SIZE_IN[1] if plot.kind != "dots" else 1.0 + 0.34 * len(plot.rows)
        left = 0.55 if plot.kind != "dots" else min(1.6, 0.2 + 0.075 * max(map(len, plot.rows), default=0))
        below = 0.45 + 0.2 * (len(plot.lines) > 1)
        figure = Figure(figsize=(width, height))
        # Fixed margins: matplotlib's own layout takes as long again as the drawing.
        axes = figure.add_axes((left / width, below / height, (width - left - 0.12) / width, (height - below - 0.28) / height))
        _draw(axes, plot)
        yield figure


def _draw(axes: Axes, plot: Plot) -> None:
    axes.set_title(plot.title, loc="left")
    axes.set_xlabel(plot.x_label, labelpad=2)
    axes.set_ylabel(plot.y_label, labelpad=2)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]) if plot.whole else MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True, axis="x" if plot.kind == "dots" else "both" if plot.kind == "points" else "y", color=GRID, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for i, line in enumerate(plot.lines):
        shift = (i - (len(plot.lines) - 1) / 2) * min(0.22, 0.7 / len(plot.lines))
        _DRAWERS[plot.kind](axes, line, shift)
    if plot.kind == "dots":
        axes.set_yticks(range(len(plot.rows)), plot.rows, color=INK)
        axes.set_ylim(len(plot.rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
    if plot.x_range is not None:
        axes.set_xlim(*plot.x_range)
    if plot.y_range is not None:
        axes.set_ylim(*plot.y_range)
    if len(plot.lines) > 1:
        axes.figure.legend(frameon=False, fontsize=8, ncols=6, loc="lower left", borderaxespad=0.2, columnspacing=1.2)


def _line(axes: Axes, line: Line, shift: float) -> None:
    color, style = SERIES[line.color % len(SERIES)], DASHES[line.color % len(DASHES)]
    if line.dashed is not None:
        style = ":" if line.dashed else "-"
    if line.low:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, lw=0)
    marker = MARKERS[line.color % len(MARKERS)] if len(line.x) <= 20 else None
    axes.plot(line.x, line.y, color=color, ls=style, lw=1.6, marker=marker, ms=3.2, label=line.name)


def _steps(axes: Axes, line: Line, shift: float) -> None:
    """x: (n + 1) edges, y: (n) heights."""
    color = SERIES[line.color % len(SERIES)]
    axes.stairs(line.y, line.x, color=color, lw=1.6, ls=DASHES[line.color % len(DASHES)], label=line.name, fill=False)
    axes.stairs(line.y, line.x, color=color, alpha=0.15, fill=True)


def _dots(axes: Axes, line: Line, shift: float) -> None:
    color, at = SERIES[line.color % len(SERIES)], [y + shift for y in line.y]
    axes.hlines(at, line.low, line.high, color=color, lw=1.6)
    marker = MARKERS[line.color % len(MARKERS)]
    axes.plot(line.x, at, color=color, ls="none", marker=marker, ms=5, label=line.name)


def _points(axes: Axes, line: Line, shift: float) -> None:
    color = SERIES[line.color % len(SERIES)]
    axes.vlines(line.x, line.low, line.high, color=color, lw=1.2)
    axes.hlines(line.y, line.x_low, line.x_high, color=color, lw=1.2)
    axes.plot(line.x, line.y, color=color, ls="none", marker=MARKERS[line.color % len(MARKERS)], ms=5, label=line.name)


_DRAWERS = {"line": _line, "steps": _steps, "dots": _dots, "points": _points}
