"""The commands report, export and rescore: what saved runs tell, without playing again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.cli.evaluating import check_begun, kept, show_cost
from userrl.cli.show import interval_text, new_table, out, print_cautions, progress, safe
from userrl.config import pairs, resolve
from userrl.core import Cast, Episode
from userrl.errors import ConfigError
from userrl.evaluate.played import ABOUT, unfinished
from userrl.evaluate.rescore import Rescored, RescoreJob
from userrl.evaluate.rescore import rescore as run_rescore
from userrl.pipeline import seats
from userrl.store import index, settings


def report(runs: Sequence[Path], file: Path, title: str, held_out: Sequence[str]) -> None:
    from userrl.report.content import report as told
    from userrl.report.page import write

    if file.suffix not in (".html", ".htm"):
        raise ConfigError(f"{file} ends with {file.suffix!r}; expected .html. The page would be written over what is there.")
    found = told(runs, title=title, held_out=held_out)
    write(found, file)
    print_cautions(found.cautions)
    out.print(safe(f"Report: {file} ({file.stat().st_size / 1e6:.1f} MB)"), soft_wrap=True)


def export(runs: Sequence[Path], form: str, folder: Path) -> None:
    from userrl.report.exports import export as write

    for file in write(runs, form, folder, warn=lambda line: print_cautions([line])):
        out.print(safe(str(file)), soft_wrap=True)


def rescore(
    run: Path, judge: str | None, rules: Sequence[str], folder: Path, resume: bool, bounds: Any, config: Path | None = None
) -> None:
    job = resolve(RescoreJob, config, {"run": str(run), "judge": judge, "rules": read_rules(rules) or None})
    seats.check_endpoints(job.endpoints)
    # Only the judge is asked; a file that an evaluation was played with may have tables of the others, too.
    job = replace(job, endpoints={role: table for role, table in job.endpoints.items() if role == "judge"})
    check_begun(folder, resume)
    with kept(folder), progress() as watch:
        calls, result = asyncio.run(_rescore(job, folder, resume, bounds, watch))
    if missing := unfinished(run, len(index(run / "episodes.jsonl"))):
        print_cautions([f"{run} is {missing}. {ABOUT}"])
    show(result)
    show_cost(calls)
    out.print(safe(f"Episodes: {folder / 'episodes.jsonl'}", "dim"), soft_wrap=True)
    out.print(safe(f"Next: userrl report {run} {folder}", "dim"), soft_wrap=True)


def read_rules(texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE or GYM.NAME=VALUE, of which a value that is JSON is read as such."""
    form = "NAME=VALUE or GYM.NAME=VALUE"
    given = pairs("--rule", texts, form)
    rules: dict[str, Any] = {}
    for name, value in given.items():
        *table, last = name.split(".")
        if not last or len(table) > 1 or (table and not table[0]):
            raise ConfigError(f"--rule is '{name}={value}'; expected {form}.")
        if table and table[0] in given:
            raise ConfigError(
                f"--rule is given twice for {table[0]!r}: {table[0]}={given[table[0]]} and {name}={value}. Give one of the two."
            )
        try:
            found = json.loads(value)
        except ValueError:
            found = value
        (rules.setdefault(table[0], {}) if table else rules)[last] = found
    return rules


async def _rescore(job: RescoreJob, folder: Path, resume: bool, bounds: Any, watch: Any) -> tuple[Calls, Rescored]:
    run = Path(job.run)
    past = settings(run)
    user, judge, endpoints = past.get("user", "scripted"), past.get("judge", "scripted"), past.get("endpoints", {})
    own = judge if job.judge is None else "scripted"
    heard = Calls(replay=run / REPLIES if "@" in user or "@" in own else None)
    calls = Calls(max_usd=bounds.max_usd, max_tokens=bounds.max_tokens)
    of, done = len(index(run / "episodes.jsonl")) if (run / "episodes.jsonl").exists() else 0, 0

    def note(episode: Episode) -> None:
        nonlocal done
        done += 1
        heard.ended(episode)
        spent = calls.ledger.total
        watch(f"rescore {run.name}", done, of, f"${spent.usd:.2f}" if spent.usd else "")

    async with AsyncExitStack() as stack:
        before = await seats.cast(user, own, stack, endpoints=endpoints, calls=heard)
        table = {**endpoints, **job.endpoints}
        now = before if job.judge is None else await seats.cast("scripted", job.judge, stack, endpoints=table, calls=calls)

        def cast(gym: str) -> Cast:
            return Cast(before(gym).user, now(gym).judge)

        options = {"at_once": bounds.at_once, "max_errors": bounds.max_errors}
        return calls, await run_rescore(job, cast, folder, resume=resume, calls=calls, on_end=note, **options)


def show(result: Rescored) -> None:
    """The figures before and after, of all episodes and of those that hold."""
    table = new_table("Scores, marked anew")
    table.add_column("gym")
    table.add_column("episodes")
    for name in ("n", "before", "after", "after - before [95%]"):
        table.add_column(name, justify="right", no_wrap=True)
    for d in result.figures:
        means = (f"{value.mean:.3f}" if value.n else "-" for value in (d.before, d.after))
        table.add_row(safe(d.gym), d.of, str(d.episodes), *means, interval_text(d.difference))
    out.print(table)
    out.print(safe(result.note, "yellow" if result.changed or result.failed else "dim"))
