"""The commands check gyms, check golden, check bias and data record."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from userrl.cli.show import Watch, new_table, out, progress, safe
from userrl.data.sets import OFFICIAL, TaskSet, recorded, shared, unlisted
from userrl.errors import ConfigError, DataError, UserRLError
from userrl.evaluate.conformance import Report, check_gym
from userrl.evaluate.golden import check
from userrl.gyms.base import find, known, sets_in_room
from userrl.rewards.bias import CERTAIN, COLUMNS, TOLERANCE, measure
from userrl.store import write_whole

SHOWN = 20
"""Failures of a gym, or of a file, that are printed."""
UNKNOWN = {"license": "not chosen yet", "source": "not said yet"}
"""Of a split whose file is new."""


def gyms(names: Sequence[str], every: bool) -> None:
    for name in names:
        if name not in known():
            find(name)
    with progress() as watch:
        reports = [_check(name, every, watch) for name in names or sorted(known())]
    for report in reports:
        found = f"{len(report.failures)} failed" if report.failures else "ok"
        out.print(safe(f"{report.gym}: {report.tasks} tasks, {report.episodes} episodes, {report.turns} turns: {found}"))
        causes = list(report.causes().items())
        for failure, times in causes[:SHOWN]:
            out.print(safe(f"  {failure}{f' ({times} times, this is the first)' if times > 1 else ''}", "red"), soft_wrap=True)
        if len(causes) > SHOWN:
            out.print(safe(f"  and {len(causes) - SHOWN} more", "red"))
        if report.unseen and not find(report.gym).__module__.startswith("userrl."):
            seen = f"  no turn was labeled {', '.join(map(repr, report.unseen))}: not all that the rules can do was tried"
            out.print(safe(seen, "dim"), soft_wrap=True)
    failed = sum(bool(report.failures) for report in reports)
    out.print(f"{len(reports) - failed} of {len(reports)} gyms passed")
    sys.exit(1 if failed else 0)


def _check(name: str, every: bool, watch: Watch) -> Report:
    def told(done: int, of: int, failures: int) -> None:
        watch(f"check {name}", done, of, f"{failures} failed" if failures else "")

    try:
        return check_gym(name, tasks="all" if every else "sample", watch=told)
    except UserRLError as error:
        return Report(name, 0, 0, 0, (str(error),))


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


def bias(groups: int, group_size: int, gamma: float, seed: int) -> None:
    table = new_table(f"Estimators against the exact policy gradient, {groups} groups of {group_size}")
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if i < 3 else "right", overflow="fold")
    for found in measure(groups=groups, group_size=group_size, gamma=gamma, seed=seed):
        table.add_row(*map(safe, found.cells()))
    out.print(table)
    out.print(
        safe("bias: distance from the gradient, over its length; factor: as if the learning rate were so many times higher;")
    )
    out.print(safe("rest: distance that remains beside that factor, which is how far the direction is off. ±: 95% intervals."))
    out.print(
        safe(
            f"biased: shown by {CERTAIN:g} standard errors; off by a factor: and the direction is right to within {TOLERANCE:g}; "
            f"unbiased: right to within {TOLERANCE:g}. could see: the bias that would be shown four times in five; more --groups "
            f"see smaller ones. A distance is never below 0, so the interval of one row in seven misses 0 without any bias."
        )
    )


def record(name: str) -> None:
    """Only for gyms whose source is at hand: the manifest is written where it was read."""
    gym = find(name)
    manifest = Path(str(gym.room() / "tasks" / "manifest.json"))
    if not manifest.is_file():
        raise ConfigError(f"Gym {name!r} has no manifest file at {manifest}; expected an editable installation of its source.")
    entries = json.loads(manifest.read_text("utf-8"))
    for split in unlisted(name, manifest.parent, gym.built_in_sets()):
        if split.startswith(OFFICIAL):
            raise ConfigError(
                f"{manifest.with_name(f'{split}.jsonl')}: names with {OFFICIAL} are for imported splits; rename it."
            )
        entries["sets"][split] = {"count": 0, "sha256": "", **UNKNOWN}
        out.print(safe(f"{name}/{split}: new; say its license and source in {manifest}", "yellow"), soft_wrap=True)
    sets = TaskSet.parse(entries, name, manifest.parent, gym.__module__, gym.hidden_model)
    found = {split: tasks.read() for split, tasks in sets.items()}
    for split, problem in shared(sets, found):
        raise DataError(f"{name}/{split}: {problem} Nothing was recorded.")
    for split, tasks in found.items():
        now = recorded(tasks)
        entries["sets"][split] |= now.entry()
        if now.index:
            write_whole(manifest.with_name(f"{split}.index"), now.index.encode())
        out.print(safe(f"{name}/{split}: {now.count} tasks, SHA-256 {now.sha256[:12]}…"))
    write_whole(manifest, json.dumps(entries, indent=2).encode() + b"\n")
    sets_in_room.cache_clear()
