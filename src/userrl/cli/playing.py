"""The commands gyms, play and eval."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from rich.prompt import Prompt
from rich.table import Table

from userrl.agents.human import HumanAgent
from userrl.cli.show import err, mix_table, out, print_episode, progress, safe, summary_table
from userrl.config import resolve
from userrl.core import Agent, Cast, Episode
from userrl.evaluate.metrics import summarize
from userrl.evaluate.run import EvalJob, plan
from userrl.evaluate.run import evaluate as run_evaluation
from userrl.gyms.base import find, known
from userrl.pipeline import seats
from userrl.rollout import play as play_episode
from userrl.store import Store
from userrl.users.human import HumanSeat


def gyms() -> None:
    table = Table(title="Gyms", title_justify="left")
    for column in ("gym", "what the agent does", "split", "license"):
        table.add_column(column)
    table.add_column("tasks", justify="right")
    for name in sorted(known()):
        gym = find(name)
        for i, (split, tasks) in enumerate(gym.sets().items()):
            table.add_row(name if i == 0 else "", gym.summary if i == 0 else "", split, tasks.license, str(tasks.count))
    out.print(table)
    out.print(safe("Play one: userrl play intention      Evaluate: userrl eval intention --agent expert:0.8", "dim"))


def play(
    gym_name: str,
    seat: Literal["agent", "user"],
    task_id: str | None,
    agent: str,
    user: str,
    judge: str,
    max_turns: int,
    seed: int | None,
    save: Path | None,
) -> None:
    gym = find(gym_name)
    tasks = gym.tasks("test")
    task = gym.task(task_id) if task_id else random.Random(seed).choice(tasks)
    start = Episode(task, seed=seed or 0, max_turns=max_turns)
    try:
        episode = asyncio.run(_play(start, seat, agent, user, judge))
    except EOFError:
        err.print(safe("\nNo more input: the game ends here.", "dim"))
        return
    out.print()
    print_episode(episode, "The whole game, with the reward of each turn")
    if save:
        with Store(save) as store:
            store.append(episode)


async def _play(start: Episode, seat: Literal["agent", "user"], agent: str, user: str, judge: str) -> Episode:
    def show(name: str, text: str) -> None:
        out.print(safe(f"{name}: ", "bold cyan"), safe(text), end="\n", sep="")

    async with AsyncExitStack() as stack:
        cast_of = await seats.cast(user, judge, stack)
        cast = cast_of(start.task.gym)
        player: Agent
        if seat == "agent":
            gym = find(start.task.gym)
            out.print(safe(f"You are the agent: {gym.summary}. At most {start.max_turns} turns; Ctrl-C leaves.\n", "dim"))
            player = HumanAgent(lambda what, choices: Prompt.ask(safe(what, "bold"), console=out, choices=list(choices) or None), show)
        else:
            out.print(safe("You are the user; an agent talks to you, and a separate judge marks it. Ctrl-C leaves.\n", "dim"))
            player = await seats.agent(agent, stack)
            cast = Cast(HumanSeat(lambda what: Prompt.ask(safe(what, "bold"), console=out), show), cast.judge)
        return await play_episode(start, player, cast)


def evaluate(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, at_once: int) -> None:
    job = resolve(EvalJob, config, {"agent": "expert", **flags} if config is None and flags["agent"] is None else flags)
    episodes = asyncio.run(_evaluate(job, folder, resume, at_once))
    report(job.agent, episodes)
    out.print(safe(f"Episodes: {folder / 'episodes.jsonl'}", "dim"))


async def _evaluate(job: EvalJob, folder: Path, resume: bool, at_once: int) -> list[Episode]:
    done: list[Episode] = []
    async with AsyncExitStack() as stack:
        cast = await seats.cast(job.user, job.judge, stack)
        agent = await seats.agent(job.agent, stack, temperature=job.temperature, seed=job.seed)
        bar = stack.enter_context(progress())
        line = bar.add_task(f"eval {job.agent}", total=len(plan(job)), note="")

        def note(episode: Episode) -> None:
            done.append(episode)
            errors = sum(e.stop == "error" for e in done)
            scored = [sum(e.rewards) for e in done if e.stop != "error"]
            mean = sum(scored) / len(scored) if scored else float("nan")
            bar.update(line, advance=1, note=f"mean {mean:.3f}" + (f", {errors} errors" if errors else ""))

        return await run_evaluation(job, agent, cast, folder, resume=resume, at_once=at_once, on_end=note)


def report(name: str, episodes: list[Episode]) -> None:
    """The tables of an evaluation."""
    rows = [(name, s) for s in summarize(episodes)]
    out.print(summary_table(rows, "Scores, 95% intervals clustered by task"))
    for _, s in rows:
        out.print(mix_table([(name, s.mix)], f"Actions in {s.gym}, share of all turns"))
    failed = [e for e in episodes if e.stop == "error"]
    if failed:
        err.print(safe(f"{len(failed)} episodes ended by a failure and have no score. The first: {failed[0].error}", "yellow"))
