"""The commands check gyms, check golden and data record."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from userrl.cli.show import out, progress, safe
from userrl.data import digest
from userrl.errors import ConfigError
from userrl.evaluate.conformance import check_gym
from userrl.evaluate.golden import check
from userrl.gyms.base import find, known
from userrl.store import write_whole


def gyms(names: Sequence[str]) -> None:
    failures = 0
    chosen = list(names) or sorted(known())
    with progress() as bar:
        line = bar.add_task("check gyms", total=len(chosen), note="")
        reports = []
        for name in chosen:
            bar.update(line, note=name)
            reports.append(check_gym(name))
            bar.update(line, advance=1)
    for report in reports:
        failures += len(report.failures)
        out.print(safe(f"{report.gym}: {report.tasks} tasks, {report.episodes} episodes, {report.turns} turns, {len(report.failures)} failed"))
        for failure in report.failures[:20]:
            out.print(safe(f"  {failure}", "red"))
    out.print(f"{len(chosen)} gyms checked, {failures} failed")
    sys.exit(1 if failures else 0)


def golden(paths: Sequence[Path], data: Path | None, allow_missing: bool) -> None:
    results = check(paths, data=data, allow_missing=allow_missing)
    table = Table(title="Golden cases", title_justify="left")
    table.add_column("file")
    for name in ("compared", "not compared", "failed"):
        table.add_column(name, justify="right")
    for r in results:
        table.add_row(safe(r.name), str(r.compared), str(r.not_compared), str(r.failed))
    out.print(table)
    for r in results:
        for message in r.messages[:10]:
            out.print(safe(f"{r.name}: {message}", "red"))
    failed = sum(r.failed for r in results)
    out.print(f"{sum(r.compared for r in results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def record(name: str) -> None:
    """Only for gyms whose source is at hand: the manifest is written where it was read."""
    gym = find(name)
    manifest = Path(str(gym.room() / "tasks" / "manifest.json"))
    if not manifest.is_file():
        raise ConfigError(f"Gym {name!r} has no manifest file at {manifest}; expected an editable installation of its source.")
    entries = json.loads(manifest.read_text("utf-8"))
    for split, tasks in gym.sets().items():
        now = tasks.read()
        entries["sets"][split] |= {"count": len(now), "sha256": digest(now)}
        out.print(safe(f"{name}/{split}: {len(now)} tasks, SHA-256 {digest(now)[:12]}…"))
    write_whole(manifest, json.dumps(entries, indent=2).encode() + b"\n")
