"""The commands demo, sft and rl."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.calls import Calls
from userrl.cli.evaluating import Bounds, counted, headline, kept, seated, show_cost, with_expert
from userrl.cli.show import LEGEND, Watch, interval_text, mix_table, out, print_episode, print_summaries, progress, safe, short
from userrl.collect import Selection
from userrl.collect.run import CollectJob
from userrl.collect.run import collect as run_collect
from userrl.config import resolve
from userrl.evaluate.metrics import summarize
from userrl.pipeline.demo import GRPO, RANDOM, SFT, DemoJob, Result
from userrl.pipeline.demo import demo as run_demo
from userrl.pipeline.jobs import RLJob, SFTJob
from userrl.pipeline.jobs import fine_tune as run_fine_tune
from userrl.pipeline.jobs import reinforce as run_reinforce

LONGEST = 160
"""Characters of a text in the demo's samples."""


def demo(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(DemoJob, config, flags)
    out.print(safe("A small policy learns to ask a simulated user better questions.", "bold"))
    steps = "expert episodes, SFT, multi-turn GRPO, held-out tasks"
    out.print(safe(f"Gym {job.gym}, {job.max_turns} turns: {steps}.\n", "dim"))
    with kept(folder), progress() as watch:
        result = asyncio.run(run_demo(job, folder, watch, resume=resume))
    show_demo(result)


def show_demo(result: Result) -> None:
    """What a person sees at the end."""
    rows = list(result.summaries.items())
    count, (best, lead) = rows[0][1].episodes, result.lead
    out.print()
    print_summaries(rows, f"{count} test tasks whose texts were never seen in training")
    out.print(safe(f"{LEGEND}\n", "dim"))
    out.print(safe("Share after GRPO, minus the share of another, paired by task [95%]", "bold"))
    others = {SFT: result.gain, "the same, both decoding greedily": result.greedy_gain, f"{best}, the best without skill": lead}
    for other, difference in others.items():
        out.print(safe(f"  {other:<40}{interval_text(difference)}"))
    out.print(safe("The tests' texts are new combinations of subjects and phrasings that training texts have too.", "dim"))
    out.print(safe("One training run; `python benchmarks/demo_learning.py` repeats it over seeds.\n", "dim"))
    mixes = [(name, s.mix) for name, s in rows if name in (RANDOM, SFT, GRPO, best, "expert")]
    out.print(mix_table(mixes, "Share of each sort of action"), "", sep="\n")
    for i, (before, after) in enumerate(result.samples, start=1):
        print_episode(before, f"Sample {i}, after SFT", LONGEST)
        print_episode(after, f"Sample {i}, after GRPO", LONGEST)
    for name, where in {
        "Learning curve": result.plot,
        "Figures": result.folder / "results.json",
        "Episodes": result.folder / "episodes",
        "Policies": f"{result.folder / 'sft'}, {result.folder / 'grpo'}",
    }.items():
        out.print(safe(f"{name:<16}{where}"), soft_wrap=True)
    c = result.cost
    part = " (only the part since it was resumed)" if c.resumed else ""
    cost = f"{c.wall_s / 60:.1f} minutes, {c.cpu_s / 60:.1f} CPU-minutes, at most {c.peak_mb:.0f} MB of memory{part}"
    out.print(safe(f"{'Cost':<16}{cost}"))


def collect(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds) -> None:
    job = resolve(CollectJob, config, with_expert(config, flags))
    with kept(folder), progress() as watch:
        calls, selection = asyncio.run(_collect(job, folder, resume, bounds, watch))
    summaries = summarize(selection.kept)
    if summaries:
        print_summaries([(job.agent, s) for s in summaries], f"Kept episodes of {headline(job, summaries)}")
        out.print(safe(f"{LEGEND}\n", "dim"))
    left = {"beaten by better ones": selection.beaten, "with an invalid action": selection.invalid, "failed": selection.failed}
    out.print(f"Kept {len(selection.kept)}; left out " + ", ".join(f"{count} {why}" for why, count in left.items()))
    show_cost(calls)
    out.print(safe(f"Next: userrl sft train --data {folder}", "dim"), soft_wrap=True)


async def _collect(job: CollectJob, folder: Path, resume: bool, bounds: Bounds, watch: Watch) -> tuple[Calls, Selection]:
    calls = bounds.calls(job)
    async with AsyncExitStack() as stack:
        agent, cast = await seated(job, stack, calls)
        note = counted(f"collect {short(job.agent)}", job, watch, calls)
        return calls, await run_collect(job, agent, cast, folder, resume=resume, on_end=note, calls=calls, **bounds.play())


def fine_tune(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(SFTJob, config, texts(flags))
    with kept(folder), progress() as watch:
        watch("SFT", 0, job.sft.steps, "")
        model = run_fine_tune(
            job, folder, resume=resume, on_step=lambda step, loss: watch("SFT", step, job.sft.steps, f"loss {loss:.3f}")
        )
    out.print(safe(f"Policy: {model}"), soft_wrap=True)
    for command in (f"userrl eval intention --agent {model}", f"userrl rl train intention --model {model}"):
        out.print(safe(f"Next: {command}", "dim"), soft_wrap=True)


def reinforce(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds) -> None:
    job = resolve(RLJob, config, texts(flags))
    calls = bounds.calls(job)

    def note(step: Any, figures: dict[str, Any]) -> None:
        watch("GRPO", step.number, job.grpo.steps, f"share {figures['share']:.3f}, skipped {figures['skipped_groups']}")

    with kept(folder), progress() as watch:
        watch("GRPO", 0, job.grpo.steps, "")
        model = asyncio.run(run_reinforce(job, folder, resume=resume, on_step=note, calls=calls))
    show_cost(calls)
    out.print(safe(f"Policy: {model}"), soft_wrap=True)
    out.print(safe(f"Next: userrl eval {job.gyms[0]} --agent {model}", "dim"), soft_wrap=True)


def texts(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as texts, which is what jobs hold."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
