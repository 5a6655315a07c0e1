"""Users as a factor: eval with several agents, users and judges; and the command users agree."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.cli.evaluating import (
    Bounds,
    Shown,
    check,
    check_begun,
    in_person,
    kept,
    measured,
    play,
    print_json,
    show_estimate,
    tell_failures,
)
from userrl.cli.playing import HUMAN
from userrl.cli.show import (
    AVERAGES,
    Watch,
    below_few,
    cost_table,
    interval_text,
    new_table,
    out,
    print_cautions,
    progress,
    safe,
    short,
    tell,
    told_apart,
)
from userrl.config import as_dict, resolve
from userrl.errors import ConfigError, DataError, RunStopped
from userrl.evaluate.agree import (
    AgreeJob,
    Agreement,
    Agreements,
    Asked,
    Verdict,
    Verdicts,
    agreements,
    ask_again,
    chosen,
    recorded_queries,
)
from userrl.evaluate.outlines import check_metric
from userrl.evaluate.played import in_order
from userrl.evaluate.results import FILE as RESULTS
from userrl.evaluate.results import document, eval_document, write
from userrl.evaluate.run import EvalJob, recorded_job, resolve_job
from userrl.evaluate.statistics import Interval
from userrl.evaluate.users import Cell, Factor, Ranks, Spread, cells, factor, folder_name, listed
from userrl.llm.endpoint import lasting
from userrl.llm.ledger import Ledger
from userrl.pipeline import seats
from userrl.store import Records, RunFolder, fingerprint, index

FACTOR = (
    "each cell: over its scored tasks; [95%]: interval, clustered by task; episodes of each cell are in its own folder below "
    "--out"
)
SPREAD = (
    "over the tasks that all cells scored, whatever their gym. mean: over the users that were played, and of no others; worst: "
    "the user with the worst mean, - where all have the same; in: how often it is the worst when the tasks are drawn anew; "
    "between, within: standard deviation between users (without what chance adds), and of the episodes of one user"
)
RANKS = (
    "Kendall's tau over the agents: 1, both users put them in the same order; -1, in the reverse one; [-]: all draws of tasks "
    "gave the same, which says nothing of how sure it is"
)
AGREED = (
    "run: replies that are as in the run (fidelity, where the run's are right); self: pairs of repeats that are alike "
    "(reproducibility); kappa: the same beyond chance (Cohen's; Fleiss' for self), - where all replies are the same one; "
    "[95%]: interval, clustered by task"
)


@dataclass(frozen=True)
class Lists:
    """The agents, users and judges of a grid, as comma-separated lists; None: the job's own one."""

    agents: str | None = None
    users: str | None = None
    judges: str | None = None

    @property
    def any(self) -> bool:
        return any(text is not None for text in (self.agents, self.users, self.judges))

    def names(self, flags: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        """The names in the lists. Raises ConfigError where the flag for a single one is given, too."""
        given = (("agent", self.agents), ("user", self.users), ("judge", self.judges))
        if both := [name for name, text in given if text is not None and flags.get(name) is not None]:
            raise ConfigError(f"Both --{both[0]} and --{both[0]}s are given; give one of the two.")
        return tuple(listed(text) if text is not None else () for _, text in given)


# --- the grid ----------------------------------------------------------------------------------------------------


def evaluate_grid(
    folder: Path,
    config: Path | None,
    flags: Mapping[str, Any],
    lists: Lists,
    metric: str,
    resume: bool,
    bounds: Bounds,
    dry_run: bool,
    shown: Shown,
) -> None:
    """Each cell is a run of its own, so a grid that is resumed may have more agents, users and judges than before."""
    check_metric(metric)
    agents, users, judges = lists.names(flags)
    job = resolve_job(config, {**flags, "agent": agents[0]} if agents else flags)
    grid = cells(job, agents, users, judges, folder)
    if dry_run:
        return show_estimate([cell.job for cell in grid], shown)
    check_begun(folder, resume)
    for cell in grid:
        check(cell.job, shown)
        if (cell.folder / "config.json").exists() and not resume:
            raise ConfigError(f"{cell.folder} already holds a run. Add --resume to go on with the grid, or choose another --out.")
    played, warned, ledger = [], list[str](), Ledger()
    with progress(on=not any(in_person(cell.job) for cell in grid)) as watch:
        for number, cell in enumerate(grid, start=1):
            stage = f"{number}/{len(grid)} {short(cell.job.user)}:"
            spent = ledger.total
            with kept(cell.folder):
                playing = play(cell.job, cell.folder, resume, bounds, watch, spent=replace(spent), stage=stage)
                calls, episodes = asyncio.run(playing)
            ledger.include(calls.ledger)
            results = measured(cell.job, episodes, calls, shown)
            write(cell.folder, eval_document(results))
            where = cell.folder.relative_to(folder).as_posix()
            warned += [f"{where}: {line}" for line in results.cautions]
            played.append((cell, episodes))
    found = factor(played, metric)
    places = [_cell_record(cell, folder) for cell in grid]
    parts = {
        "job": {**as_dict(job), "endpoints": lasting(job.endpoints)},
        "cells": places,
        "factor": found,
        "cost": ledger.record(),
    }
    written = document("users", parts)
    write(folder, written)
    if shown.json:
        print_json(written)
    else:
        print_cautions(warned)
        report(found)
        if ledger.rows:
            out.print(cost_table(ledger))
            out.print()
        out.print(safe(f"Runs: {folder}", "dim"), soft_wrap=True)
    for _, episodes in played:
        tell_failures(episodes)
    return None


def _cell_record(cell: Cell, folder: Path) -> dict[str, str]:
    where = cell.folder.relative_to(folder).as_posix()
    return {"agent": cell.job.agent, "user": cell.job.user, "judge": cell.job.judge, "folder": where}


def report(found: Factor) -> None:
    several = any(len(f.gyms) > 1 for f in found.figures)
    out.print(cells_table(found))
    out.print(safe(f"{FACTOR}; {AVERAGES}; n: episodes" if several else FACTOR, "dim"))
    below_few(found.tasks)
    if several:
        out.print()
        out.print(gyms_table(found))
    if found.spreads:
        out.print()
        out.print(spread_table(found.spreads, found.tasks))
        out.print(safe(SPREAD, "dim"))
    if found.ranks:
        out.print()
        out.print(ranks_table(found.ranks))
        out.print(safe(RANKS, "dim"))
    out.print()


def _names(found: Factor) -> tuple[dict[str, str], ...]:
    """What agents, users and judges are called."""
    return tuple(told_apart(getattr(f, role) for f in found.figures) for role in ("agent", "user", "judge"))


def cells_table(found: Factor) -> Table:
    """A line for each cell, a section for each agent, within 80 columns."""
    table = new_table(f"Agents and users: {found.metric}")
    several, failures = len({f.judge for f in found.figures}) > 1, any(f.errors for f in found.figures)
    macro = any(len(f.gyms) > 1 for f in found.figures)
    for name in ("agent", "user", *(["judge"] if several else [])):
        table.add_column(name, overflow="fold")
    for name in (*(["micro [95%]", "macro [95%]"] if macro else ["mean [95%]"]), "tasks", *(["failed"] if failures else [])):
        table.add_column(name, justify="right", no_wrap=True)
    agent, (agents, users, judges) = "", _names(found)
    for f in found.figures:
        if f.agent != agent and agent:
            table.add_section()
        who = (agents[f.agent] if f.agent != agent else "", users[f.user], *([judges[f.judge]] if several else []))
        means = [interval_text(f.mean), *([interval_text(f.macro)] if macro else [])]
        table.add_row(*map(safe, who), *means, str(f.tasks), *([str(f.errors)] if failures else []))
        agent = f.agent
    return table


def gyms_table(found: Factor) -> Table:
    """A section for each gym with a line for each cell, within 80 columns."""
    several = len({f.judge for f in found.figures}) > 1
    table = new_table(f"Gym by gym: {found.metric}")
    for name in ("gym", "agent", "user", *(["judge"] if several else [])):
        table.add_column(name, overflow="fold")
    for name in ("mean [95%]", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    agents, users, judges = _names(found)
    for gym in dict.fromkeys(gym for f in found.figures for gym in f.gyms):
        table.add_section()
        for i, f in enumerate(f for f in found.figures if gym in f.gyms):
            who = ("" if i else gym, agents[f.agent], users[f.user], *([judges[f.judge]] if several else []))
            table.add_row(*map(safe, who), interval_text(f.gyms[gym]), str(f.gyms[gym].n))
    return table


def spread_table(spreads: Sequence[Spread], tasks: int) -> Table:
    table = new_table(f"What the user decides ({tasks} tasks)")
    table.add_column("agent", overflow="fold")
    table.add_column("mean [95%]", justify="right", no_wrap=True)
    table.add_column("worst user", overflow="fold")
    for name in ("worst", "in", "between", "within"):
        table.add_column(name, justify="right", no_wrap=True)
    agents, users = told_apart(s.agent for s in spreads), _conditions(s.worst for s in spreads)
    for s in spreads:
        worst = (users[s.worst], f"{s.worst_mean.mean:.3f}", f"{s.worst_share:.0%}") if s.differs else ("-", "-", "-")
        table.add_row(*map(safe, (agents[s.agent], interval_text(s.mean), *worst, _root(s.between), _root(s.within))))
    return table


def _root(variance: float) -> str:
    return "-" if math.isnan(variance) else f"{math.sqrt(variance):.3f}"


def _conditions(names: Iterable[str]) -> dict[str, str]:
    """Users, with the judge where there are several: what they are called."""
    names = list(names)
    parts = told_apart(part for name in names for part in name.split(" / "))
    return {name: " / ".join(parts[part] for part in name.split(" / ")) for name in names}


def ranks_table(ranks: Sequence[Ranks]) -> Table:
    table = new_table(f"Do users put the {ranks[0].tau.n} agents in the same order?")
    for name in ("user", "user"):
        table.add_column(name, overflow="fold")
    table.add_column("tau [95%]", justify="right", no_wrap=True)
    users = _conditions(user for r in ranks for user in (r.first, r.second))
    for r in ranks:
        table.add_row(safe(users[r.first]), safe(users[r.second]), known_text(r.tau, 2) if r.open else f"{r.tau.mean:.2f} [-]")
    return table


def known_text(interval: Interval, digits: int) -> str:
    return "-" if math.isnan(interval.mean) else interval_text(interval, digits)


# --- agreement ---------------------------------------------------------------------------------------------------


def agree(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds, shown: Shown) -> None:
    """Each model has a folder of its own below `folder`, where its replies are kept as they come."""
    job = resolve(AgreeJob, config, flags)
    run = Path(job.run)
    played = recorded_job(run)
    if played.user == HUMAN:
        raise ConfigError(f"A person was the user in {run}, and what they typed is no verdict on record. Choose another run.")
    for model in job.models:
        asyncio.run(seats.check("expert", model, _judge(model), (), job.endpoints))
        if (folder / folder_name(model) / "config.json").exists() and not resume:
            raise ConfigError(f"{folder} holds replies of {short(model)} already. Add --resume, or choose another --out.")
    check_begun(folder, resume)
    with progress() as watch:
        asked = chosen(asyncio.run(_heard(run, played)), job)
        if not asked:
            raise DataError(f"The replies in {run} hold no verdicts, only free text: there is nothing to compare.")
        replies: dict[str, list[list[Verdicts | None]]] = {}
        ledger = Ledger()
        for model in job.models:
            where = folder / folder_name(model)
            with kept(where):
                calls = Calls(max_usd=bounds.max_usd, max_tokens=bounds.max_tokens, spent=replace(ledger.total))
                replies[model] = asyncio.run(_again(job, model, asked, where, resume, bounds, watch, calls))
            ledger.include(calls.ledger)
    found = agreements(asked, replies, job.seed)
    if all(reply is None for rows in replies.values() for row in rows for reply in row):
        raise RunStopped("No reply came that fits what was asked; there is nothing to compare.")
    parts = {"job": {**as_dict(job), "endpoints": lasting(job.endpoints)}, "agreement": found, "cost": ledger.record()}
    written = document("agreement", parts)
    write(folder, written)
    if shown.json:
        print_json(written)
    else:
        report_agreement(found, run)
        if ledger.rows:
            out.print(cost_table(ledger))
            out.print()
        out.print(safe(f"Results: {folder / RESULTS}", "dim"), soft_wrap=True)
    if failed := sum(m.failed for m in found.models):
        tell(f"{failed} verdicts are missing, as no reply came or none that fits.", "yellow")


async def _heard(run: Path, job: EvalJob) -> list[Asked]:
    """The queries of a run, whose models' replies are taken from its record."""
    modeled = any("@" in who for who in (job.user, job.judge))
    calls = Calls(replay=run / REPLIES, shared_user_noise=job.shared_user_noise) if modeled else None
    async with AsyncExitStack() as stack:
        cast = await seats.cast(job.user, job.judge, stack, endpoints=job.endpoints, calls=calls)
        file = run / "episodes.jsonl"
        entries = index(file)
        return await recorded_queries(Records(file, [entries[key].offset for key in in_order(run, entries)]), cast)


async def _again(
    job: AgreeJob, model: str, asked: Sequence[Asked], folder: Path, resume: bool, bounds: Bounds, watch: Watch, calls: Calls
) -> list[list[Verdicts | None]]:
    stage, of, done = f"ask {short(model)}", len(asked) * job.repeats, 0
    async with AsyncExitStack() as stack:
        cast = await seats.cast(model, _judge(model), stack, endpoints=job.endpoints, calls=calls)
        config = {"kind": "users-agree", **as_dict(job), "models": [model], "endpoints": lasting(job.endpoints)}
        config["contents"] = {"episodes": fingerprint(Path(job.run) / "episodes.jsonl")}
        run = RunFolder(folder, config, resume=resume)
        if calls.any:
            calls.keep(stack.enter_context(run.store(REPLIES)))
            stack.callback(lambda: run.write_json("cost.json", calls.ledger.record()))

        def note() -> None:
            nonlocal done
            done += 1
            watch(stage, done, of, "")

        watch(stage, 0, of, "")
        replies = await ask_again(asked, cast, job.repeats, at_once=bounds.at_once, on_reply=note)
        run.write_json("verdicts.json", replies)
        return replies


def _judge(model: str) -> str:
    """The judge that goes with a user: the same model, or the script."""
    return model if "@" in model else "scripted"


def report_agreement(found: Agreements, run: Path) -> None:
    out.print(agreement_table(found, run))
    out.print(safe(AGREED, "dim"))
    if found.pairs:
        out.print()
        out.print(pairs_table(found))
    out.print()


def agreement_table(found: Agreements, run: Path) -> Table:
    """A section for each sort of verdict with a line for each model, within 80 columns."""
    table = new_table(f"{found.queries} queries of {run}, {found.repeats} times each")
    table.add_column("verdict, model", overflow="fold")
    for name in ("n", "run", "kappa [95%]", "self", "kappa [95%]"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for m in found.models:
        if m.verdict != before:
            table.add_section()
            table.add_row(safe(_verdict(m.verdict), "bold"), str(m.queries))
            before = m.verdict
        cells = (*_agreement_cells(m.fidelity), *_agreement_cells(m.reproducibility))
        table.add_row(safe(f"  {short(m.model)}"), "", *cells)
    return table


def pairs_table(found: Agreements) -> Table:
    table = new_table("Two models, repeat by repeat")
    table.add_column("verdict, models", overflow="fold")
    for name in ("alike", "kappa [95%]"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for p in found.pairs:
        if p.verdict != before:
            table.add_section()
            table.add_row(safe(_verdict(p.verdict), "bold"))
            before = p.verdict
        table.add_row(safe(f"  {short(p.first)}, {short(p.second)}"), *_agreement_cells(p.agreement))
    return table


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.query}: {verdict.field}"


def _agreement_cells(found: Agreement | None) -> tuple[str, str]:
    if found is None or not found.share.n:
        return "-", "-"
    return f"{found.share.mean:.0%}", known_text(found.kappa, 2)
