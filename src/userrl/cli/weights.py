"""The commands models and models get."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.cli.show import new_table, out, safe, tell
from userrl.pipeline.models import RECORD, SOURCES, get


def models(folder: Path) -> None:
    table = new_table("Models with real weights")
    for column in ("name", "parameters", "license", "package", "what"):
        table.add_column(column)
    for name, source in SOURCES.items():
        package = f"{source.package} {source.version}"
        table.add_row(*map(safe, (name, source.parameters, source.license, package, source.about)))
    out.print(table)
    out.print()
    for name in SOURCES:
        there = (folder / name / RECORD).is_file()
        line = f"{name} is in {folder / name}" if there else f"Get it: userrl models get {name}"
        out.print(safe(line, "dim"), soft_wrap=True)


def fetch(name: str, folder: Path) -> None:
    new = get(name, folder, tell)
    out.print(safe(f"Model: {folder}" + ("" if new else " (was there already, whole)")), soft_wrap=True)
    out.print(safe(f"Next: userrl sft train --model {folder} --data runs/experts", "dim"), soft_wrap=True)
