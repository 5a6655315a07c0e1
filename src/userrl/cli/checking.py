"""The commands check gyms, check golden and data record."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from userrl.cli.show import Watch, new_table, out, progress, safe
from userrl.core import Task
from userrl.data import digest
from userrl.errors import ConfigError
from userrl.evaluate.conformance import TASKS_PER_SPLIT, Report, check_gym
from userrl.evaluate.golden import check
from userrl.gyms.base import find, known
from userrl.store import write_whole

AT_ONCE = 5
"""Tasks that are checked between two signs of progress."""
SHOWN = 20
"""Failures of a gym, or of a file, that are printed."""


def gyms(names: Sequence[str], every: bool) -> None:
    chosen = {name: find(name) for name in names or sorted(known())}
    with progress() as watch:
        reports = [_check(name, list(sample(name, every)), watch) for name in chosen]
    for report in reports:
        found = f"{len(report.failures)} failed" if report.failures else "ok"
        out.print(safe(f"{report.gym}: {report.tasks} tasks, {report.episodes} episodes, {report.turns} turns: {found}"))
        for failure in report.failures[:SHOWN]:
            out.print(safe(f"  {failure}", "red"), soft_wrap=True)
        if len(report.failures) > SHOWN:
            out.print(safe(f"  and {len(report.failures) - SHOWN} more", "red"))
    failed = sum(bool(report.failures) for report in reports)
    out.print(f"{len(reports) - failed} gyms passed, {failed} failed")
    sys.exit(1 if failed else 0)


def sample(name: str, every: bool) -> list[Task]:
    """The first tasks of each split of a gym, or every task of all splits but the demo's."""
    gym = find(name)
    if every:
        return [task for split in gym.sets() if not split.startswith("demo") for task in gym.tasks(split)]
    return [task for split in gym.sets() for task in gym.tasks(split)[:TASKS_PER_SPLIT]]


def _check(name: str, tasks: Sequence[Task], watch: Watch) -> Report:
    total = Report(name, 0, 0, 0)
    watch(f"check {name}", 0, len(tasks), "")
    for first in range(0, max(1, len(tasks)), AT_ONCE):
        part = check_gym(name, tasks=tasks[first : first + AT_ONCE])
        failures = tuple(dict.fromkeys((*total.failures, *part.failures)))
        total = Report(name, total.tasks + part.tasks, total.episodes + part.episodes, total.turns + part.turns, failures)
        watch(f"check {name}", total.tasks, len(tasks), f"{len(failures)} failed" if failures else "")
    return total


def golden(paths: Sequence[Path], data: Path | None, allow_missing: bool) -> None:
    results = check(paths, data=data, allow_missing=allow_missing)
    table = new_table("Golden cases")
    table.add_column("file")
    for name in ("compared", "not compared", "failed"):
        table.add_column(name, justify="right")
    for r in results:
        table.add_row(safe(r.name), str(r.compared), str(r.not_compared), str(r.failed))
    out.print(table)
    for r in results:
        for message in r.messages[:SHOWN]:
            out.print(safe(f"{r.name}: {message}", "red" if r.failed else "yellow"), soft_wrap=True)
        if len(r.messages) > SHOWN:
            out.print(safe(f"{r.name}: and {len(r.messages) - SHOWN} more", "red"))
    failed = sum(r.failed for r in results)
    out.print(f"{sum(r.passed for r in results)} passed, {failed} failed")
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
