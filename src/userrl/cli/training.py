"""The commands demo, sft and rl."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.cli.evaluating import Bounds, kept, show_cost
from userrl.cli.live import training
from userrl.cli.show import LEGEND, interval_text, mix_table, out, print_episode, print_summaries, progress, safe
from userrl.config import resolve
from userrl.pipeline.demo import GRPO, RANDOM, SFT, DemoJob, Result
from userrl.pipeline.demo import demo as run_demo
from userrl.pipeline.jobs import RLJob, SFTJob
from userrl.pipeline.jobs import fine_tune as run_fine_tune
from userrl.pipeline.jobs import reinforce as run_reinforce
from userrl.pipeline.plot import CURVE, redraw
from userrl.train.logs import ALARMS, read_lines

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


def fine_tune(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(SFTJob, config, texts(flags))
    with kept(folder), training("SFT", job.sft.steps, folder) as view:
        model = run_fine_tune(job, folder, resume=resume, on_step=lambda step, loss: view.line({"step": step, "loss": loss}))
    out.print(safe(f"Policy: {model}"), soft_wrap=True)
    for command in (f"userrl eval intention --agent {model}", f"userrl rl train intention --model {model}"):
        out.print(safe(f"Next: {command}", "dim"), soft_wrap=True)


def reinforce(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds) -> None:
    job = resolve(RLJob, config, texts(flags))
    calls = bounds.calls(job)

    with kept(folder), training("GRPO", job.grpo.steps, folder) as view:
        work = run_reinforce(
            job, folder, resume=resume, on_step=lambda _, line: view.line(line), on_alarm=view.alarm, calls=calls
        )
        model = asyncio.run(work)
    show_cost(calls)
    out.print(safe(f"Learning curve: {folder / CURVE}"), soft_wrap=True)
    if raised := [f"{alarm['monitor']} (step {alarm['step']})" for alarm in read_lines(folder / ALARMS)]:
        out.print(safe(f"Alarms: {', '.join(raised)}; {folder / ALARMS} says what to do", "yellow"), soft_wrap=True)
    out.print(safe(f"Policy: {model}"), soft_wrap=True)
    out.print(safe(f"Next: userrl eval {job.gyms[0]} --agent {model}", "dim"), soft_wrap=True)


def curve(folder: Path) -> None:
    out.print(safe(f"Learning curve: {redraw(folder)}"), soft_wrap=True)


def texts(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as texts, which is what jobs hold."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
