"""The command eval, and what it shares with the commands that train."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.cli.playing import HUMAN, Announced, Person, PersonUser, check_user_seat
from userrl.cli.show import (
    AVERAGES,
    EFFORT,
    LEGEND,
    PASSES,
    Watch,
    below_few,
    cost_table,
    effort_table,
    estimate_table,
    mix_text,
    new_table,
    out,
    passes_table,
    percent_text,
    print_cautions,
    print_summaries,
    progress,
    safe,
    say,
    short,
    tell,
)
from userrl.core import Agent, Cast, Episode
from userrl.errors import ConfigError, EndpointRefused, RunBusy, RunStopped
from userrl.evaluate import paper
from userrl.evaluate.hacks import ABOUT as ABOUT_CHECKS
from userrl.evaluate.hacks import CHECKS, HackRates
from userrl.evaluate.metrics import Figures, Summary
from userrl.evaluate.results import FILE as RESULTS
from userrl.evaluate.results import Results, eval_document, measure
from userrl.evaluate.results import document as results_document
from userrl.evaluate.results import text as as_json
from userrl.evaluate.results import write as write_results
from userrl.evaluate.run import EvalJob, longest_reply, planned, recorded_job, resolve_job
from userrl.evaluate.run import check as check_job
from userrl.evaluate.run import evaluate as run_evaluation
from userrl.evaluate.talk import ending
from userrl.gyms.base import find
from userrl.llm.ledger import Spent
from userrl.pipeline import seats
from userrl.pipeline.estimate import Estimate, added, estimate
from userrl.store import Records, check_free, index, to_record

if TYPE_CHECKING:
    from userrl.pipeline.jobs import RLJob  # which needs torch

ESTIMATED = (
    "From the prompts of a few tasks, played by a scripted expert of skill 0.5 and by a random agent; a token is counted "
    "as 4 characters. Thinking, retries and cached prices are not in it. Bound a run with --max-usd or --max-tokens."
)

UNPRICED = (
    "No price is known where dollars are unknown: set usd_read and usd_written (dollars a million tokens) in {} of a file given "
    "with --config (docs/models.md), or install the extra 'prices'."
)


@dataclass(frozen=True)
class Bounds:
    """How far a run may go, and how fast. Not part of its settings: a resumed run may have others."""

    at_once: int = 64
    max_usd: float | None = None
    max_tokens: float | None = None
    max_errors: int | None = None
    max_invalid: int | None = None
    turn_timeout_s: float | None = None
    episode_timeout_s: float | None = None

    def play(self) -> dict[str, Any]:
        """Those of play, as `evaluate` takes them."""
        names = ("at_once", "max_errors", "max_invalid", "turn_timeout_s", "episode_timeout_s")
        return {name: getattr(self, name) for name in names}

    def calls(self, job: EvalJob | RLJob, replay: Path | None = None, spent: Spent | None = None) -> Calls:
        """What stands around the models of a job."""
        noise = job.shared_user_noise
        return Calls(max_usd=self.max_usd, max_tokens=self.max_tokens, spent=spent, shared_user_noise=noise, replay=replay)


@dataclass(frozen=True)
class Shown:
    """How results are shown."""

    json: bool = False
    """As JSON on standard output, and nothing else there."""
    hacks: bool = False
    """With the signs of hacking, also where there are none."""


def evaluate(
    folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds, dry_run: bool, shown: Shown
) -> None:
    job = resolve_job(config, flags)
    if dry_run:
        return show_estimate([job], shown)
    check(job, shown)
    check_begun(folder, resume)
    tell_few(job)
    with kept(folder), progress(on=not in_person(job)) as watch:
        calls, episodes = asyncio.run(play(job, folder, resume, bounds, watch))
    results = measured(job, episodes, calls, shown)
    document = eval_document(results)
    write_results(folder, document)
    if shown.json:
        print_json(document)
    else:
        report(results, shown)
        show_cost(calls)
        out.print(safe(f"Episodes: {folder / 'episodes.jsonl'}", "dim"), soft_wrap=True)
    return tell_failures(episodes)


async def play(
    job: EvalJob,
    folder: Path,
    resume: bool,
    bounds: Bounds,
    watch: Watch,
    *,
    replay_of: Path | None = None,
    spent: Spent | None = None,
    stage: str = "eval",
) -> tuple[Calls, Sequence[Episode]]:
    """The episodes of a job, and what stood around its models. spent: what runs under the same bounds took before."""
    calls = bounds.calls(job, replay_of / REPLIES if replay_of else None, spent)
    if in_person(job):
        bounds = replace(bounds, at_once=1)
    async with AsyncExitStack() as stack:
        agent, cast = await seated(job, stack, calls)
        note = counted(f"{stage} {short(job.agent)}", job, watch, calls, folder)
        options = {"on_end": note, "calls": calls, "replay_of": replay_of, **bounds.play()}
        return calls, await run_evaluation(job, agent, cast, folder, resume=resume, **options)


def measured(job: EvalJob, episodes: Sequence[Episode], calls: Calls, shown: Shown) -> Results:
    """The results of a job whose episodes are played."""
    paid = calls.any and not calls.replaying
    return measure(job, episodes, calls.ledger if paid else None, leaks=True if shown.hacks else None)


def check(job: EvalJob, shown: Shown) -> None:
    """Find what of a job could not be played, without loading a model or reaching an endpoint."""
    check_job(job)
    if in_person(job) and shown.json:
        raise ConfigError("--json keeps standard output to itself, and a person plays there. results.json will hold the same.")
    if job.agent == job.user == HUMAN:
        raise ConfigError("Agent and user are both 'human', in one terminal; give one of the two seats to somebody else.")
    for gym in job.gyms if job.user == HUMAN else ():
        check_user_seat(gym)
    agent, user = "expert" if job.agent == HUMAN else job.agent, "scripted" if job.user == HUMAN else job.user
    asyncio.run(seats.check(agent, user, job.judge, job.gyms, job.endpoints))


def in_person(job: EvalJob) -> bool:
    """Whether a person plays in this terminal."""
    return HUMAN in (job.agent, job.user)


def print_json(document: Mapping[str, Any]) -> None:
    """A document on standard output, which then holds nothing else."""
    typer.echo(as_json(document))


def evaluate_again(folder: Path, run: Path, given: Sequence[str], resume: bool, bounds: Bounds, shown: Shown) -> None:
    """Play a recorded run anew from its models' replies, and say whether the same episodes came out.

    given: settings of the command line that a run which is replayed has already.
    """
    job = recorded_job(run)
    if given:
        raise ConfigError(f"--replay plays the run in {run} as it was, with its own settings; leave out {', '.join(given)}.")
    file = run / "episodes.jsonl"
    before = index(file) if file.exists() else {}
    if len(before) < planned(job):
        raise ConfigError(
            f"The run in {run} is unfinished: {len(before)} of {planned(job)} episodes have ended. Go on with it first, by its "
            f"own command and --resume."
        )
    check_begun(folder, resume)
    if in_person(job):
        raise ConfigError(f"A person played in {run}, and what they typed cannot be replayed. Name another run.")
    if bounds.max_errors is None:  # the failures of a recorded run are no news
        bounds = replace(bounds, max_errors=planned(job))
    with kept(folder), progress() as watch:
        calls, episodes = asyncio.run(play(job, folder, resume, bounds, watch, replay_of=run))
    offsets = [before[episode.key].offset for episode in episodes if episode.key in before]
    same = sum(map(same_play, (e for e in episodes if e.key in before), Records(file, offsets)))
    results = measured(job, episodes, calls, shown)
    document = {**eval_document(results), "replay_of": str(run), "identical": same, "episodes": len(episodes)}
    write_results(folder, document)
    if shown.json:
        print_json(document)
    else:
        report(results, shown)
        out.print(safe(f"Identical to the episodes in {run}: {same} of {len(episodes)}."))
        out.print(safe(f"Episodes: {folder / 'episodes.jsonl'}", "dim"), soft_wrap=True)
    if same < len(episodes):
        raise RunStopped(
            f"{len(episodes) - same} episodes came out otherwise than in {run}: gyms or settings have changed since."
        )


def same_play(now: Episode, then: Episode) -> bool:
    """Whether two episodes are the same as they are recorded."""
    first, second = (json.dumps(to_record(e, tokens=False), sort_keys=True) for e in (now, then))
    return first == second


def show_cost(calls: Calls) -> None:
    """What the models of a run took."""
    if calls.any and not calls.replaying:
        out.print(cost_table(calls.ledger))
        out.print()


def show_estimate(jobs: Sequence[EvalJob], shown: Shown) -> None:
    """What jobs would take, before any of it is paid for; names that name nothing are found."""
    rows: list[Estimate] = []
    for job in jobs:
        check(job, shown)
    with progress() as watch:
        for job in jobs:
            rows += estimate(job, watch)
    rows, episodes = added(rows), sum(map(planned, jobs))
    if shown.json:
        print_json(results_document("estimate", {"episodes": episodes, "chairs": rows}))
    elif not rows:
        out.print("No chair is a model's, so nothing is paid for.")
    else:
        out.print(estimate_table(rows, episodes))
        out.print(safe(ESTIMATED, "dim"))
        if unpriced := sorted({row.role for row in rows if row.usd is None}):
            tables = ", ".join(f"[endpoints.{role}]" for role in unpriced)
            out.print(safe(UNPRICED.format(tables), "yellow"))


async def seated(job: EvalJob, stack: AsyncExitStack, calls: Calls) -> tuple[Agent, Callable[[str], Cast]]:
    """The agent and the casts of a job, whose names are all checked before anything is written."""
    user = "scripted" if job.user == HUMAN else job.user
    cast = await seats.cast(user, job.judge, stack, endpoints=job.endpoints, calls=calls)
    if job.agent == HUMAN:
        return Person(scripted="@" not in job.user), cast
    agent = await seats.agent(
        job.agent,
        stack,
        gyms=job.gyms,
        endpoints=job.endpoints,
        temperature=job.temperature,
        max_new=longest_reply(job),
        seed=job.seed,
        calls=calls,
    )
    if job.user == HUMAN:
        person = PersonUser()
        return Announced(agent, person), lambda gym: replace(cast(gym), user=person)
    return agent, cast


def counted(stage: str, job: EvalJob, watch: Watch, calls: Calls, folder: Path, without: int = 0) -> Callable[[Episode], None]:
    """A function for each episode that ends, which tells `watch` how many have, their mean reward and their failures.

    Those that an earlier sitting has recorded in the folder are counted from the beginning.

    without: tasks of the job that are not played.
    """
    of, ended, failed, total = planned(job) - without * job.attempts, 0, 0, 0.0
    file = folder / "episodes.jsonl"
    before = sum(entry.stop != "error" for entry in index(file).values()) if file.exists() else 0
    watch(stage, before, of, "")

    def note(episode: Episode) -> None:
        nonlocal ended, failed, total
        ended += 1
        if in_person(job):
            say("end", safe(f"{ending(episode)}. {of - ended} to go.\n"), "cyan")
        if episode.stop == "error":
            failed += 1
        else:
            total += sum(episode.rewards)
        mean = f"mean reward {total / (ended - failed):.3f}" if ended > failed else ""
        spent = calls.ledger.total
        cost = f"${spent.usd:.2f}" if spent.usd else ""
        watch(stage, max(before, ended), of, ", ".join(filter(None, (mean, f"{failed} failed" if failed else "", cost))))

    return note


def check_begun(folder: Path, resume: bool) -> None:
    """Raises StoreError where a run stands in the way. Says so where there is none to go on with: a slip in --out pays for
    everything anew, while a job that is always started with --resume is right to begin."""
    check_free(folder, resume=resume)
    if not resume or next(folder.rglob("config.json"), None) is not None:
        return
    there = {file.parent.name: file.parent for file in folder.parent.glob("*/config.json")}
    near = [str(there[name]) for name in get_close_matches(folder.name, there, n=2)]
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    tell(f"There is no run in {folder} to go on with{hint}: beginning one.", "yellow")


ABOUT = ("config.json", "cost.json", "baselines.json", RESULTS)
"""Files of a run's folder that hold nothing that was played."""


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Around a run: one that gives up says what is kept; one that wrote no record leaves nothing in the next one's way."""
    new = not (folder / "config.json").exists()
    try:
        yield
    except RunBusy:
        new = False  # what is in the folder is the other process's
        raise
    except (RunStopped, EndpointRefused) as error:
        if not _recorded(folder):
            raise
        kept = f"What was played is kept in {folder}; go on with the same command and --resume."
        raise RunStopped(f"{error}\n{kept}") from error
    finally:
        if new and not _recorded(folder):
            with suppress(OSError):  # what cannot be removed here is named by the next run
                for file in (*(folder / name for name in ABOUT), *folder.glob("*.jsonl")):
                    file.unlink(missing_ok=True)
                folder.rmdir()


def _recorded(folder: Path) -> bool:
    return any(file.name not in ABOUT and file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tell_few(job: EvalJob) -> None:
    """Which gyms have fewer tasks than were asked for."""
    sizes = {gym: len(find(gym).tasks(job.split_of(gym))) for gym in job.gyms}
    if few := [f"{size} of {gym}" for gym, size in sizes.items() if job.tasks is not None and size < job.tasks]:
        tell(
            f"--tasks is {job.tasks}, but the split {job.split!r} holds fewer, which are all played: {', '.join(few)}.", "yellow"
        )


def tell_failures(episodes: Sequence[Episode]) -> None:
    """Which episodes failed, and which filled the model's window. Raises RunStopped when no episode was played to its end."""
    failed, full, first = 0, 0, ""
    for episode in episodes:
        full += episode.stop == "window"
        if episode.stop == "error":
            failed, first = failed + 1, first or str(episode.error)
    if full:
        tell(
            f"{full} of {len(episodes)} episodes filled the model's own window before their end; they count with what they had "
            f"earned by then. Lower --max-new or --max-turns, or use a model with a longer window.",
            "yellow",
        )
    if not failed:
        return
    message = f"{failed} of {len(episodes)} episodes ended by a failure and have no score. The first: {first}"
    if failed == len(episodes):
        raise RunStopped(message)
    tell(f"{message}\nThe same command with --resume plays them anew.", "yellow")


def report(results: Results, shown: Shown) -> None:
    """The table of an evaluation, and what was done in it."""
    job, found = results.job, results.figures
    summaries = found.gyms
    rows, breaks = parted_rows(found)
    print_cautions(results.cautions)
    print_summaries([(job.agent, s) for s in rows], headline(job, summaries), found.averages, breaks)
    legend = f"{LEGEND}; {AVERAGES}" if found.averages else LEGEND
    legend = f"{legend}; {HELD}" if found.parts else legend
    out.print(safe(f"{legend}; travel's score: mean worth of the choices" if "travel" in job.gyms else legend, "dim"))
    below_few(min((s.tasks for s in summaries), default=100))
    if (passes := passes_table(summaries)) is not None:
        out.print()
        out.print(passes)
        out.print(safe(PASSES, "dim"))
    if any(s.effort for s in summaries):
        out.print()
        out.print(effort_table(summaries))
        out.print(safe(EFFORT, "dim"))
    if acted := [s for s in summaries if s.mix]:
        out.print(safe("\nShare of each sort of action", "bold"))
        for s in acted:
            say(s.gym, safe(mix_text(s.mix)), "", width=max(len(s.gym) for s in acted) + 2)
    if shown.hacks or any(r.any for r in results.hacks):
        out.print()
        print_hacks(results.hacks)
    if job.preset == "paper":
        out.print()
        print_paper(results)
    out.print()


def parted_rows(found: Figures) -> tuple[list[Summary], list[int]]:
    """The lines of the table before the averages over all gyms, and before which of them a section begins."""
    if not found.parts:
        return list(found.gyms), []
    rows: list[Summary] = []
    breaks = []
    for part, averages in found.parts.items():
        for section in (found.of(part), [replace(s, gym=f"{part.removeprefix('held-')}: {s.gym}") for s in averages]):
            breaks.append(len(rows))
            rows += section
    return rows, breaks


def print_hacks(rates: Sequence[HackRates]) -> None:
    """How often something was found, gym by gym, and the first findings."""
    table = new_table("Signs of playing the judge or the user")
    table.add_column("gym")
    made = [check for check in CHECKS if any(check in r.rates for r in rates)]
    for check in made:
        table.add_column(f"{check} [95%]", justify="right", no_wrap=True)
    for r in rates:
        table.add_row(safe(r.gym), *(percent_text(r.rates[check]) if check in r.rates else "-" for check in made))
    out.print(table)
    told = "; ".join(f"{check}: {ABOUT_CHECKS[check]}" for check in made)
    out.print(safe(f"Share of episodes with {told}; [95%]: interval, clustered by task", "dim"))
    for r in rates:
        for example in r.examples:
            finding = example.finding
            where = f"{finding.check}, task {example.task}, attempt {example.attempt + 1}, turn {finding.turn}: "
            say(r.gym, safe(where, "dim") + safe(finding.quote), "", width=max(len(r.gym) for r in rates) + 2)


HELD = "in, out: of the gyms that the agent was trained on, and of those held out"
PAPER_COLUMNS = ("trav", "turt", "func", "tau", "pers", "int", "tele", "srch", "in", "out", "mic", "mac")
PAPER_LEGEND = (
    "Scores of UserRL, arXiv 2509.19736, table 3 (8B, 4B, 32B: Qwen3; credit/score in training), one greedy run each, no "
    "intervals. in: mean of travel, turtle, function, tau, persuade, which the paper trains on; out: of intention, telepathy, "
    "search, which it holds out; mic, mac: averages over tasks and gyms; int: sums above 1; ±: half of our 95% interval"
)


def print_paper(results: Results) -> None:
    """Our line below the paper's, and in what the two differ."""
    table = new_table("Beside the paper")
    table.padding = 0
    table.add_column("", overflow="fold")
    for name in PAPER_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in paper.TABLE:
        parts = (row.part(held_out=False), row.part(held_out=True), row.micro, row.macro)
        table.add_row(row.name.removeprefix("Qwen3-"), *map(_bare, (*row.scores, *parts)))
    table.add_section()
    ours = paper.beside(results.figures)
    table.add_row(safe(short(results.job.agent)), *(_bare(i.mean) if i else "-" for i in ours), style="bold")
    table.add_row("", *(f"±{_bare((i.high - i.low) / 2, 2)}" if i else "" for i in ours))
    out.print(table)
    out.print(safe(PAPER_LEGEND, "dim"))
    if failed := [s.gym for s in results.figures.gyms if not s.episodes]:
        out.print(safe(f"No average (-) over a gym of which all episodes failed: {', '.join(failed)}.", "yellow"))
    for line in paper.differences(results.job):
        out.print(safe(f"Not as in the paper: {line}", "yellow"))


def _bare(value: float, digits: int = 3) -> str:
    """A number in four characters: .573, 1.82."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if text.startswith("0") else f"{value:.{digits - 1}f}"


def headline(job: EvalJob, summaries: Sequence[Summary]) -> str:
    """Who was evaluated on what, as far as it is the same in all lines of the table."""
    counts = {s.tasks for s in summaries}
    count = f"{min(counts)} " if len(counts) == 1 else ""
    tasks = f"{count}{job.split} {'task' if counts == {1} else 'tasks'}"
    where = f" of {summaries[0].gym}" if len(summaries) == 1 else " of each gym"
    attempts = f", {job.attempts} episodes of each" if job.attempts > 1 else ""
    return f"{short(job.agent)}: {tasks}{where}{attempts}"
