"""The commands demo, sft and rl."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.cli.evaluating import Bounds, check_begun, kept, show_cost
from userrl.cli.live import done, training
from userrl.cli.show import LEGEND, interval_text, mix_table, out, print_episode, print_summaries, progress, safe, tell
from userrl.collect.run import file_of
from userrl.config import resolve
from userrl.pipeline.demo import GRPO, RANDOM, SFT, DemoJob, Result
from userrl.pipeline.demo import demo as run_demo
from userrl.pipeline.jobs import CHECKPOINTS, RLJob, SFTJob, best_policy, sources
from userrl.pipeline.jobs import fine_tune as run_fine_tune
from userrl.pipeline.jobs import reinforce as run_reinforce
from userrl.pipeline.plot import CURVE, redraw
from userrl.store import index
from userrl.train.checkpoint import steps_done
from userrl.train.grpo import GRPOConfig
from userrl.train.logs import ALARMS, read_lines
from userrl.train.sft import SFTConfig

LONGEST = 160
"""Characters of a text in the demo's samples."""


def demo(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool) -> None:
    job = resolve(DemoJob, config, flags)
    out.print(safe("A small policy learns to ask a simulated user better questions.", "bold"))
    steps = "expert episodes, SFT, multi-turn GRPO, held-out tasks"
    out.print(safe(f"Gym {job.gym}, {job.max_turns} turns: {steps}.\n", "dim"))
    check_begun(folder, resume)
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
    check_begun(folder, resume)
    tell_warm_up(job.sft)
    with kept(folder), training("SFT", job.sft.steps, folder) as view:
        tell_resumed(folder, job.sft.steps)
        model = run_fine_tune(
            job, folder, resume=resume, on_begin=view.begin, on_step=lambda step, loss: view.line({"step": step, "loss": loss})
        )
    out.print(safe(f"Policy: {model}"), soft_wrap=True)
    gyms = " ".join(dict.fromkeys(gym for data in sources(job) for gym, _, _ in index(file_of(data))))
    for command in (f"userrl eval {gyms} --agent {model}", f"userrl rl train {gyms} --model {model}"):
        out.print(safe(f"Next: {command}", "dim"), soft_wrap=True)


def reinforce(folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds) -> None:
    job = resolve(RLJob, config, texts(flags))
    calls = bounds.calls(job)
    check_begun(folder, resume)
    tell_warm_up(job.grpo)
    with kept(folder), training("GRPO", job.grpo.steps, folder) as view:
        tell_resumed(folder, job.grpo.steps)
        work = run_reinforce(
            job,
            folder,
            resume=resume,
            on_begin=view.begin,
            on_step=lambda _, line: view.line(line),
            on_alarm=view.alarm,
            calls=calls,
        )
        model = asyncio.run(work)
    show_cost(calls)
    out.print(safe(f"Learning curve: {folder / CURVE}"), soft_wrap=True)
    if raised := [f"{alarm['monitor']} (step {alarm['step']})" for alarm in read_lines(folder / ALARMS)]:
        out.print(safe(f"Alarms: {', '.join(raised)}; {folder / ALARMS} says what to do", "yellow"), soft_wrap=True)
    best = best_policy(job, folder)
    if best is not None:
        out.print(safe(f"Best by validation: {best}"), soft_wrap=True)
    which = f" (of step {best.step}, the best)" if best and job.keep == "best" else ""
    out.print(safe(f"Policy: {model}{which}"), soft_wrap=True)
    out.print(safe(f"Next: userrl eval {job.gyms[0]} --agent {model}", "dim"), soft_wrap=True)


def tell_warm_up(config: SFTConfig | GRPOConfig) -> None:
    """That the learning rate which was asked for is never reached."""
    if config.warm_steps >= config.steps:
        reached = config.lr * config.steps / config.warm_steps
        tell(
            f"Warning: the warm-up takes {config.warm_steps} of {config.steps} steps, so the learning rate ends at {reached:.2g} "
            f"of {config.lr:.2g}. Lower --warmup.",
            "yellow",
        )


def tell_resumed(folder: Path, steps: int) -> None:
    """After which step a run goes on, and how many are done again."""
    if not (written := done(folder)):
        return
    saved = steps_done(folder / CHECKPOINTS)
    again = f"; {written - saved} done since its checkpoint are done again" if written > saved else ""
    tell(f"Going on after step {saved} of {steps}{again}.", "dim")


def curve(folder: Path) -> None:
    out.print(safe(f"Learning curve: {redraw(folder)}"), soft_wrap=True)


def texts(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as texts, which is what jobs hold."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
