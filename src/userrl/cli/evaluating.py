"""The command eval, and what it shares with the commands that train."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.cli.show import (
    AVERAGES,
    EFFORT,
    LEGEND,
    PASSES,
    SMALL,
    Watch,
    cost_table,
    effort_table,
    estimate_table,
    mix_text,
    out,
    passes_table,
    print_summaries,
    progress,
    safe,
    say,
    short,
    tell,
)
from userrl.config import resolve
from userrl.core import Agent, Cast, Episode
from userrl.errors import EndpointRefused, RunStopped
from userrl.evaluate.metrics import Summary, figures
from userrl.evaluate.run import EvalJob, planned, recorded_job
from userrl.evaluate.run import evaluate as run_evaluation
from userrl.pipeline import seats
from userrl.store import Records, index, to_record

if TYPE_CHECKING:
    from userrl.pipeline.jobs import RLJob  # which needs torch

ESTIMATED = (
    "From the prompts of a few tasks, played by a scripted expert of skill 0.5 and by a random agent; a token is counted "
    "as 4 characters. Thinking, retries and cached prices are not in it. Bound a run with --max-usd or --max-tokens."
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

    def calls(self, job: EvalJob | RLJob, replay: Path | None = None) -> Calls:
        """What stands around the models of a job."""
        noise = job.shared_user_noise
        return Calls(max_usd=self.max_usd, max_tokens=self.max_tokens, shared_user_noise=noise, replay=replay)


def evaluate(
    folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds, replay: Path | None, dry_run: bool
) -> None:
    if replay is not None:
        return evaluate_again(folder, replay, resume, bounds)
    job = resolve(EvalJob, config, with_expert(config, flags))
    if dry_run:
        return show_estimate(job)
    with kept(folder), progress() as watch:
        calls, episodes = asyncio.run(_evaluate(job, folder, resume, bounds, watch))
    report(job, episodes)
    show_cost(calls)
    out.print(safe(f"Episodes: {folder / 'episodes.jsonl'}", "dim"), soft_wrap=True)
    tell_failures(episodes)
    return None


async def _evaluate(
    job: EvalJob, folder: Path, resume: bool, bounds: Bounds, watch: Watch, replay: Path | None = None
) -> tuple[Calls, Sequence[Episode]]:
    calls = bounds.calls(job, replay)
    async with AsyncExitStack() as stack:
        agent, cast = await seated(job, stack, calls)
        note = counted(f"eval {short(job.agent)}", job, watch, calls)
        played = await run_evaluation(job, agent, cast, folder, resume=resume, on_end=note, calls=calls, **bounds.play())
        return calls, played


def evaluate_again(folder: Path, run: Path, resume: bool, bounds: Bounds) -> None:
    """Play a recorded run anew from its models' replies, and say whether the same episodes came out."""
    job = recorded_job(run)
    if bounds.max_errors is None:  # the failures of a recorded run are no news
        bounds = replace(bounds, max_errors=planned(job))
    with kept(folder), progress() as watch:
        _, episodes = asyncio.run(_evaluate(job, folder, resume, bounds, watch, replay=run / REPLIES))
    report(job, episodes)
    file = run / "episodes.jsonl"
    before = index(file)
    offsets = [before[episode.key].offset for episode in episodes if episode.key in before]
    same = sum(map(same_play, (e for e in episodes if e.key in before), Records(file, offsets)))
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


def show_estimate(job: EvalJob) -> None:
    """What a job would take, before any of it is paid for."""
    from userrl.pipeline.estimate import estimate

    with progress() as watch:
        rows = estimate(job, watch)
    if not rows:
        out.print("No chair is a model's, so nothing is paid for.")
        return
    out.print(estimate_table(rows, planned(job)))
    out.print(safe(ESTIMATED, "dim"))


def with_expert(config: Path | None, flags: Mapping[str, Any]) -> Mapping[str, Any]:
    """The flags, with the expert as the agent where neither they nor a file name one."""
    return flags if config or flags["agent"] is not None else {**flags, "agent": "expert"}


async def seated(job: EvalJob, stack: AsyncExitStack, calls: Calls) -> tuple[Agent, Callable[[str], Cast]]:
    """The agent and the casts of a job, whose names are all checked before anything is written."""
    cast = await seats.cast(job.user, job.judge, stack, endpoints=job.endpoints, calls=calls)
    agent = await seats.agent(
        job.agent,
        stack,
        gyms=job.gyms,
        endpoints=job.endpoints,
        temperature=job.temperature,
        max_new=job.max_new,
        seed=job.seed,
        calls=calls,
    )
    return agent, cast


def counted(stage: str, job: EvalJob, watch: Watch, calls: Calls) -> Callable[[Episode], None]:
    """A function for each episode that ends, which tells `watch` how many have, their mean reward and their failures."""
    of, ended, failed, total = planned(job), 0, 0, 0.0
    watch(stage, 0, of, "")

    def note(episode: Episode) -> None:
        nonlocal ended, failed, total
        ended += 1
        if episode.stop == "error":
            failed += 1
        else:
            total += sum(episode.rewards)
        mean = f"mean reward {total / (ended - failed):.3f}" if ended > failed else ""
        spent = calls.ledger.total
        cost = f"${spent.usd:.2f}" if spent.usd else ""
        watch(stage, ended, of, ", ".join(filter(None, (mean, f"{failed} failed" if failed else "", cost))))

    return note


ABOUT = ("config.json", "cost.json")
"""Files of a run's folder that hold nothing that was played."""


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Around a run: one that gives up says what is kept; one that wrote no record leaves nothing in the next one's way."""
    new = not (folder / "config.json").exists()
    try:
        yield
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


def tell_failures(episodes: Sequence[Episode]) -> None:
    """Raises RunStopped when no episode was played to its end."""
    failed, first = 0, ""
    for episode in episodes:
        if episode.stop == "error":
            failed, first = failed + 1, first or str(episode.error)
    if not failed:
        return
    message = f"{failed} of {len(episodes)} episodes ended by a failure and have no score. The first: {first}"
    if failed == len(episodes):
        raise RunStopped(message)
    tell(f"{message}\nThe same command with --resume plays them anew.", "yellow")


def report(job: EvalJob, episodes: Sequence[Episode]) -> None:
    """The table of an evaluation, and what was done in it."""
    found = figures(episodes)
    summaries = found.gyms
    print_summaries([(job.agent, s) for s in summaries], headline(job, summaries), found.averages)
    legend = f"{LEGEND}; {AVERAGES}" if found.averages else LEGEND
    out.print(safe(f"{legend}; travel's score: mean worth of the choices" if "travel" in job.gyms else legend, "dim"))
    if any(s.tasks < 100 for s in summaries):
        out.print(safe(SMALL, "dim"))
    if (passes := passes_table(summaries)) is not None:
        out.print()
        out.print(passes)
        out.print(safe(PASSES, "dim"))
    if any(s.effort for s in summaries):
        out.print()
        out.print(effort_table(summaries))
        out.print(safe(EFFORT, "dim"))
    if any(s.mix for s in summaries):
        out.print(safe("\nShare of each sort of action", "bold"))
        for s in summaries:
            say(s.gym, safe(mix_text(s.mix)), "", width=max(len(s.gym) for s in summaries) + 2)
    out.print()


def headline(job: EvalJob, summaries: Sequence[Summary]) -> str:
    """Who was evaluated on what, as far as it is the same in all lines of the table."""
    counts = {s.tasks for s in summaries}
    count = f"{min(counts)} " if len(counts) == 1 else ""
    tasks = f"{count}{job.split} {'task' if counts == {1} else 'tasks'}"
    where = f" of {summaries[0].gym}" if len(summaries) == 1 else " of each gym"
    attempts = f", {job.attempts} episodes of each" if job.attempts > 1 else ""
    return f"{short(job.agent)}: {tasks}{where}{attempts}"
