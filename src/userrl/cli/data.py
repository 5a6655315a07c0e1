"""The commands data import, data check and data show."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from userrl.cli.show import new_table, out, safe
from userrl.core import Task
from userrl.data.home import home
from userrl.data.official_sources import SPLITS
from userrl.data.sets import OFFICIAL, TaskSet, shared, unlisted
from userrl.errors import UserRLError
from userrl.gyms.base import find, known
from userrl.gyms.tau import Hidden
from userrl.gyms.tau.official import import_bench
from userrl.pipeline.official import import_userrl


def import_official(path: Path) -> None:
    results = import_userrl(path)
    table = new_table(f"Official data in {path}")
    table.add_column("gym")
    for split in SPLITS:
        table.add_column(split.removeprefix(OFFICIAL), justify="right")
    table.add_column("state")
    for r in results:
        state = ("imported in part" if r.reason else "imported") if r.written else "not imported"
        table.add_row(safe(r.gym), *(str(r.counts.get(split, 0)) for split in SPLITS), state)
    table.add_section()
    table.add_row("all", *(str(sum(r.counts.get(split, 0) for r in results)) for split in SPLITS))
    out.print(table)
    out.print()
    for r in results:
        if r.reason:
            out.print(safe(f"{r.gym}: {r.reason}.", "yellow"), soft_wrap=True)
        if r.indexed:
            out.print(safe(f"{r.gym}: all tasks of its splits are among the {r.indexed} of its index."), soft_wrap=True)
        if r.reason and r.written:
            kept = ", ".join(f"{split} ({count} tasks)" for split, count in r.written.items())
            out.print(safe(f"{r.gym}: imported are {kept}."), soft_wrap=True)
    written = [r.gym for r in results if r.written]
    out.print(safe(f"Imported {', '.join(written)} into {home()}." if written else "Nothing was imported."), soft_wrap=True)
    if written:
        named = [(r.gym, split) for r in results for split in r.written]
        gym, split = next((pair for pair in named if pair[1] == "official-test"), named[0])
        out.print(safe(f"\nList them: userrl gyms\nEvaluate:  userrl eval {gym} --split {split}", "dim"))


def import_tau_bench(path: Path) -> None:
    done = import_bench(path, Hidden)
    for name, count in done.records.items():
        out.print(safe(f"{name}: a database of {count} records"))
    for split, tasks in done.tasks.items():
        out.print(safe(f"{split}: {tasks} tasks"))
    out.print(safe(f"Imported tau-bench into {home()}."), soft_wrap=True)
    out.print(safe("\nEvaluate:  userrl eval tau --split official-retail-test --user MODEL@URL", "dim"))


def check(name: str | None) -> None:
    """Every set gets its line; a broken one does not hide the others."""
    bad = total = 0
    for gym in [find(name).name] if name else sorted(known()):
        sets: dict[str, TaskSet] = {}
        try:
            sets |= find(gym).built_in_sets()
            sets |= find(gym).sets()
        except UserRLError as error:
            bad, total = bad + 1, total + 1
            out.print(safe(f"{gym}: {error}", "red"), soft_wrap=True)
        wrong = _wrong(gym, sets) if sets else {}
        total += len(sets | wrong)
        bad += len(wrong)
        for split in sets | wrong:
            if split in wrong:
                out.print(safe(f"{gym}/{split}: {wrong[split]}", "red"), soft_wrap=True)
                continue
            tasks = sets[split]
            where = "imported" if split.startswith(OFFICIAL) else "generated" if tasks.recipe is not None else "built in"
            out.print(safe(f"{gym}/{split}: ok, {tasks.count} tasks, {where}, SHA-256 {tasks.sha256[:12]}…"), soft_wrap=True)
    out.print(f"{total - bad} of {total} task sets are whole")
    sys.exit(1 if bad else 0)


def _wrong(gym: str, sets: Mapping[str, TaskSet]) -> dict[str, str]:
    """Split -> what is wrong with it, in itself or beside the others."""
    wrong, found = {}, {}
    for split, tasks in sets.items():
        try:
            found[split] = tasks.check()
        except UserRLError as error:
            wrong[split] = str(error)
    built_in = {split: tasks for split, tasks in found.items() if not split.startswith(OFFICIAL)}
    return wrong | dict(shared(sets, built_in)) | unlisted(gym, find(gym).room() / "tasks", sets)


def show(name: str, task_id: str) -> None:
    gym = find(name)
    task = gym.task(task_id)
    splits = _holding(gym.built_in_sets(), task) or _holding(gym.sets(), task)
    out.print(safe(f"{name}, task {task.id} (in {', '.join(splits)})", "bold"), soft_wrap=True)
    out.print(safe("\nThe agent is told:", "bold"))
    out.print(safe(task.prompt), soft_wrap=True)
    out.print(safe("\nHidden from the agent:", "bold red"))
    out.print(safe(json.dumps(task.hidden, indent=2, ensure_ascii=False)), soft_wrap=True)


def _holding(sets: Mapping[str, TaskSet], task: Task) -> list[str]:
    """The splits that hold a task."""
    return [split for split, tasks in sets.items() if task.id in tasks.ids()]
