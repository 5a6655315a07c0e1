"""The jobs behind `userrl sft train` and `userrl rl train`."""

from __future__ import annotations

import random
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from userrl.agents.policy import Policy, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.collect.run import file_of, load
from userrl.config import Count, as_dict
from userrl.errors import ConfigError
from userrl.evaluate.metrics import action_mix, share
from userrl.evaluate.run import chosen_tasks
from userrl.gyms.base import find, gym_of
from userrl.llm.endpoint import lasting
from userrl.pipeline import seats
from userrl.store import RunFolder, fingerprint, set_aside
from userrl.train import checkpoint, grpo, sft

CHECKPOINTS = "checkpoints"
MODEL = "model"
"""Folder, in a run's folder, of the finished policy."""


@dataclass(frozen=True)
class SFTJob:
    """Fine-tune a policy on episodes."""

    data: str = "runs/experts"
    """Folder of `userrl sft collect`, or a JSONL file of episodes."""
    model: str | None = None
    """Folder of the policy to start from; None makes a tiny one, with a tokenizer trained on the episodes."""
    shape: Shape = field(default_factory=Shape)
    """Of the tiny policy."""
    sft: sft.SFTConfig = field(default_factory=sft.SFTConfig)
    threads: Count = 1


def fine_tune(job: SFTJob, folder: Path, *, resume: bool = False, on_step: Callable[[int, float], None] | None = None) -> Path:
    """Returns the folder of the finished policy. Checkpoints and `train.jsonl` are in the run folder."""
    set_threads(job.threads)
    episodes = load(Path(job.data))
    if not episodes:
        raise ConfigError(f"{job.data} holds no episodes; collect some with `userrl sft collect`.")
    policy = Policy.load(Path(job.model)) if job.model else new_policy(episodes, job.shape, job.sft.seed)
    data = [policy.tokens(e, gym_of(e)) for e in episodes]
    contents = {"data": fingerprint(file_of(Path(job.data)))} | ({"model": fingerprint(Path(job.model))} if job.model else {})
    run = RunFolder(folder, {"kind": "sft", **as_dict(job), "contents": contents}, resume=resume)
    set_aside(folder / "train.jsonl", checkpoint.steps_done(folder / CHECKPOINTS))
    if any(e.rules.get("compat") for e in episodes):
        warnings.warn(sft.COMPAT, stacklevel=2)
    with run.store("train.jsonl") as log:

        def note(step: int, loss: float) -> None:
            log.write({"step": step, "loss": loss})
            if on_step is not None:
                on_step(step, loss)

        sft.train(policy, data, job.sft, folder=folder / CHECKPOINTS, on_step=note)
    policy.save(folder / MODEL)
    return folder / MODEL


@dataclass(frozen=True)
class RLJob:
    """Train a policy by GRPO."""

    model: str
    """Folder of the policy to start from."""
    gyms: tuple[str, ...] = ("intention",)
    split: str = "train"
    user: str = "scripted"
    judge: str = "scripted"
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role (user or judge) -> settings of the endpoint behind it."""
    shared_user_noise: bool = False
    """The episodes of a group share the user's and the judge's replies to the same query in the same turn."""
    grpo: grpo.GRPOConfig = field(default_factory=grpo.GRPOConfig)
    threads: Count = 1


async def reinforce(
    job: RLJob,
    folder: Path,
    *,
    resume: bool = False,
    on_step: Callable[[grpo.Step, dict[str, Any]], None] | None = None,
    calls: Calls | None = None,
) -> Path:
    """Returns the folder of the finished policy.

    A step that is done again after a break is given the replies that the user's and the judge's models gave before.

    The run folder holds checkpoints, `train.jsonl` (a line of figures a step) and `episodes.jsonl` (all of them); on
    resume, what they hold of steps that are done again goes to `<file>.redone`.
    """
    set_threads(job.threads)
    policy = Policy.load(Path(job.model))
    tasks = chosen_tasks(job.gyms, job.split, None)
    random.Random(f"rl|{job.grpo.seed}").shuffle(tasks)
    calls = calls or Calls(shared_user_noise=job.shared_user_noise)
    async with AsyncExitStack() as stack:
        cast = await seats.cast(job.user, job.judge, stack, endpoints=job.endpoints, calls=calls)
        config = {"kind": "rl", **as_dict(job), "endpoints": lasting(job.endpoints)}
        held = {gym: find(gym).sets()[job.split].sha256 for gym in job.gyms}
        config["contents"] = {"tasks": held, "model": fingerprint(Path(job.model))}
        run = RunFolder(folder, config, resume=resume)
        done = checkpoint.steps_done(folder / CHECKPOINTS)
        set_aside(folder / "train.jsonl", done)
        set_aside(folder / "episodes.jsonl", done * job.grpo.groups * job.grpo.group_size)
        log = stack.enter_context(run.store("train.jsonl"))
        record = stack.enter_context(run.store("episodes.jsonl", tokens=False))
        if calls.any:
            calls.keep(stack.enter_context(run.store(REPLIES)))
            stack.callback(lambda: run.write_json("cost.json", calls.ledger.record()))

        async def note(step: grpo.Step) -> None:
            line = figures(step)
            for episode in step.episodes:
                record.append(episode)
            log.write(line)
            if on_step is not None:
                on_step(step, line)

        hook: Callable[[grpo.Step], Awaitable[None]] = note
        await grpo.train(policy, tasks, cast, job.grpo, folder=folder / CHECKPOINTS, on_step=hook, on_end=calls.ended)
    policy.save(folder / MODEL)
    return folder / MODEL


def figures(step: grpo.Step) -> dict[str, Any]:
    """What a step's log line holds. Failed episodes are counted, and have no part in the other figures."""
    good = [e for e in step.episodes if e.stop != "error"]
    return {
        "step": step.number,
        "reward": sum(sum(e.rewards) for e in good) / len(good),
        "share": sum(map(share, good)) / len(good),
        "mix": action_mix(good),
        "errors": len(step.episodes) - len(good),
        "skipped_groups": step.skipped,
        **{name: getattr(step, name) for name in ("loss", "entropy", "clipped", "grad_norm", "cut")},
    }
