"""A report as one HTML page that needs nothing else: no network, no script, light and dark, phone and desktop, paper."""

from __future__ import annotations

from pathlib import Path

from userrl import __version__
from userrl.errors import needs
from userrl.report.plots import SERIES, svg
from userrl.report.sections import Report
from userrl.report.tables import shown

with needs("report", "A report"):
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

from userrl.store import write_whole


def html(report: Report) -> str:
    """The page. All texts of models, task files and settings are escaped, and its content policy forbids scripts and loads."""
    rooms = Environment(
        loader=PackageLoader("userrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rooms.globals.update(shown=shown, picture=lambda plot: Markup(svg(plot, themed=True)), colors=len(SERIES))
    return rooms.get_template("report.html").render(report=report, version=__version__)


def write(report: Report, file: Path) -> Path:
    """The page as a file, whole or not at all. Raises StoreError."""
    return write_whole(file, html(report).encode("utf-8", "replace"))
