"""The command eval, and what it shares with the commands that train."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from userrl.cli.show import LEGEND, Watch, mix_text, out, progress, safe, say, short, summary_table, tell
from userrl.config import resolve
from userrl.core import Agent, Cast, Episode
from userrl.errors import EndpointRefused, RunStopped
from userrl.evaluate.metrics import Summary, summarize
from userrl.evaluate.run import EvalJob, plan
from userrl.evaluate.run import evaluate as run_evaluation
from userrl.pipeline import seats


def evaluate(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, at_once: int) -> None:
    job = resolve(EvalJob, config, with_expert(config, flags))
    with kept(folder), progress() as watch:
        episodes = asyncio.run(_evaluate(job, folder, resume, at_once, watch))
    report(job, episodes)
    out.print(safe(f"Episodes: {folder / 'episodes.jsonl'}", "dim"), soft_wrap=True)
    tell_failures(episodes)


async def _evaluate(job: EvalJob, folder: Path, resume: bool, at_once: int, watch: Watch) -> list[Episode]:
    async with AsyncExitStack() as stack:
        agent, cast = await seated(job, stack)
        note = counted(f"eval {short(job.agent)}", job, watch)
        return await run_evaluation(job, agent, cast, folder, resume=resume, at_once=at_once, on_end=note)


def with_expert(config: Path | None, flags: Mapping[str, Any]) -> Mapping[str, Any]:
    """The flags, with the expert as the agent where neither they nor a file name one."""
    return flags if config or flags["agent"] is not None else {**flags, "agent": "expert"}


async def seated(job: EvalJob, stack: AsyncExitStack) -> tuple[Agent, Callable[[str], Cast]]:
    """The agent and the casts of a job, whose names are all checked before anything is written."""
    cast = await seats.cast(job.user, job.judge, stack, endpoints=job.endpoints)
    agent = await seats.agent(
        job.agent,
        stack,
        gyms=job.gyms,
        endpoints=job.endpoints,
        temperature=job.temperature,
        max_new=job.max_new,
        seed=job.seed,
    )
    return agent, cast


def counted(stage: str, job: EvalJob, watch: Watch) -> Callable[[Episode], None]:
    """A function for each episode that ends, which tells `watch` how many have, their mean reward and their failures."""
    of, ended = len(plan(job)), 0
    rewards: list[float] = []
    watch(stage, 0, of, "")

    def note(episode: Episode) -> None:
        nonlocal ended
        ended += 1
        if episode.stop != "error":
            rewards.append(sum(episode.rewards))
        mean = f"mean reward {sum(rewards) / len(rewards):.3f}" if rewards else ""
        failed = f"{ended - len(rewards)} failed" if ended > len(rewards) else ""
        watch(stage, ended, of, ", ".join(filter(None, (mean, failed))))

    return note


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
                for file in (folder / "config.json", *folder.glob("*.jsonl")):
                    file.unlink()
                folder.rmdir()


def _recorded(folder: Path) -> bool:
    return any(file.name != "config.json" and file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tell_failures(episodes: Sequence[Episode]) -> None:
    """Raises RunStopped when no episode was played to its end."""
    failed = [e for e in episodes if e.stop == "error"]
    if not failed:
        return
    message = f"{len(failed)} of {len(episodes)} episodes ended by a failure and have no score. The first: {failed[0].error}"
    if len(failed) == len(episodes):
        raise RunStopped(message)
    tell(f"{message}\nThe same command with --resume plays them anew.", "yellow")


def report(job: EvalJob, episodes: Sequence[Episode]) -> None:
    """The table of an evaluation, and what was done in it."""
    summaries = summarize(episodes)
    out.print(summary_table([(job.agent, s) for s in summaries], headline(job, summaries)))
    out.print(safe(LEGEND, "dim"))
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
