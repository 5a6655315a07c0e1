"""The commands demo, sft and rl."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.cli.show import mix_table, out, print_episode, progress, safe, summary_table
from userrl.collect.run import CollectJob
from userrl.collect.run import collect as run_collect
from userrl.config import resolve
from userrl.core import Episode
from userrl.evaluate.metrics import summarize
from userrl.evaluate.run import plan
from userrl.pipeline import seats
from userrl.pipeline.demo import GRPO, RANDOM, SFT, DemoJob, Result
from userrl.pipeline.demo import demo as run_demo
from userrl.pipeline.jobs import RLJob, SFTJob
from userrl.pipeline.jobs import fine_tune as run_fine_tune
from userrl.pipeline.jobs import reinforce as run_reinforce


def demo(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(DemoJob, config, flags)
    out.print(safe(f"A small policy learns to ask a simulated user better questions (gym {job.gym}, {job.max_turns} turns).", "bold"))
    out.print(safe("Expert episodes -> SFT -> multi-turn GRPO -> held-out tasks. One thread; no key, no GPU, no download.\n", "dim"))
    with progress() as bar:
        lines: dict[str, Any] = {}

        def watch(stage: str, done: int, total: int, note: str) -> None:
            if stage not in lines:
                lines[stage] = bar.add_task(stage, total=total, note="")
            bar.update(lines[stage], completed=done, total=total, note=note)

        result = asyncio.run(run_demo(job, folder, watch, resume=resume))
    show_demo(result)


def show_demo(result: Result) -> None:
    """What a person sees at the end."""
    rows = list(result.summaries.items())
    out.print()
    out.print(summary_table(rows, f"{rows[0][1].episodes} held-out test tasks, texts never seen in training; 95% intervals over tasks"))
    best, lead = result.lead
    out.print(safe(f"GRPO minus its SFT start, paired by task: {result.gain} of the reachable reward"))
    out.print(safe(f"GRPO minus the best agent without skill ({best}): {lead}"))
    out.print(safe("One training run; `python benchmarks/demo_learning.py` repeats it over seeds.\n", "dim"))
    mixes = [(name, s.mix) for name, s in rows if name in (RANDOM, SFT, GRPO, best, "expert")]
    out.print(mix_table(mixes, "What they do: share of all actions"))
    for i, (before, after) in enumerate(result.samples, start=1):
        print_episode(before, f"\nSample {i}, before GRPO")
        print_episode(after, f"Sample {i}, after GRPO")
    out.print(safe(f"Learning curve   {result.plot}"))
    out.print(safe(f"Figures          {result.folder / 'results.json'}"))
    out.print(safe(f"Episodes         {result.folder / 'episodes'}"))
    out.print(safe(f"Policies         {result.folder / 'sft'}, {result.folder / 'grpo'}"))
    out.print(safe(f"Took {result.wall_s / 60:.1f} minutes, {result.cpu_s / 60:.1f} CPU-minutes, at most {result.peak_mb:.0f} MB of memory."))


def collect(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(CollectJob, config, {"agent": "expert", **flags} if config is None and flags["agent"] is None else flags)

    async def go() -> Any:
        async with AsyncExitStack() as stack:
            cast = await seats.cast(job.user, job.judge, stack)
            agent = await seats.agent(job.agent, stack, temperature=job.temperature, seed=job.seed)
            bar = stack.enter_context(progress())
            line = bar.add_task(f"collect {job.agent}", total=len(plan(job)), note="")

            def note(_: Episode) -> None:
                bar.update(line, advance=1)

            return await run_collect(job, agent, cast, folder, resume=resume, on_end=note)

    selection = asyncio.run(go())
    out.print(summary_table([("kept", s) for s in summarize(selection.kept)], "Selected episodes"))
    out.print(f"Kept {len(selection.kept)}; left out: {selection.beaten} beaten, {selection.invalid} with an invalid action, {selection.failed} failed.")
    out.print(safe(f"Next: userrl sft train --data {folder}", "dim"))


def fine_tune(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(SFTJob, config, {name: str(v) if isinstance(v, Path) else v for name, v in flags.items()})
    with progress() as bar:
        line = bar.add_task("SFT", total=job.sft.steps, note="")
        model = run_fine_tune(
            job, folder, resume=resume, on_step=lambda step, loss: bar.update(line, completed=step, note=f"loss {loss:.3f}")
        )
    out.print(safe(f"Policy: {model}"))
    out.print(safe(f"Next: userrl eval intention --agent {model}   or   userrl rl train intention --model {model}", "dim"))


def reinforce(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(RLJob, config, {name: str(v) if isinstance(v, Path) else v for name, v in flags.items()})
    with ExitStack() as stack:
        bar = stack.enter_context(progress())
        line = bar.add_task("GRPO", total=job.grpo.steps, note="")

        def note(step: Any, figures: dict[str, Any]) -> None:
            bar.update(line, completed=step.number, note=f"share {figures['share']:.3f}, skipped {figures['skipped_groups']}")

        model = asyncio.run(run_reinforce(job, folder, resume=resume, on_step=note))
    out.print(safe(f"Policy: {model}"))
    out.print(safe(f"Next: userrl eval intention --agent {model}", "dim"))
