"""The jobs behind `userrl sft train` and `userrl rl train`."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from userrl.agents.policy import Device, Dtype, LoRA, Policy, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.collect.run import file_of, load
from userrl.config import Count, as_dict
from userrl.core import Cast, Episode, Task
from userrl.errors import ConfigError, DataError, RunStopped, StoreError
from userrl.evaluate import results
from userrl.evaluate.metrics import action_mix, share
from userrl.evaluate.run import chosen_tasks
from userrl.gyms.base import find
from userrl.llm.endpoint import lasting
from userrl.pipeline import plot, seats
from userrl.rollout import starts
from userrl.store import SETTINGS_SCHEMA, RunFolder, fingerprint, set_aside, settings
from userrl.train import checkpoint, grpo, monitors, sft, validation
from userrl.train.logs import ALARMS, BASELINES, FIGURES, Copy, OnAlarm, journal, read_lines
from userrl.train.monitors import MonitorConfig
from userrl.train.parity import training_ids
from userrl.train.rollouts import turn_limit

CHECKPOINTS = "checkpoints"
MODEL = "model"
"""Folder, in a run's folder, of the finished policy: a whole model in fp32."""
ADAPTER = "adapter"
"""Folder of its LoRA adapter alone, where that is kept."""
WATCHING = ("log", "monitors", "keep")
"""Settings that change nothing of what is trained: a run may be gone on with under others."""
Keep = Literal["last", "best"]
LEVEL_TASKS = 64
"""Training tasks of each gym that agents without skill play where there is no validation."""


@dataclass(frozen=True, kw_only=True)
class PolicyJob:
    """How a policy is held while it is trained."""

    device: Device = "auto"
    dtype: Dtype = "float32"
    """What the policy computes in. The weights that learn are fp32 either way; see `Policy.prepare`."""
    lora: LoRA = field(default_factory=LoRA)
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, more time."""
    threads: Count = 1

    def load(self, model: str) -> Policy:
        return Policy.load(Path(model), dtype=self.dtype if self.lora.r else "float32", device=self.device)

    def prepare(self, policy: Policy, seed: int) -> Policy:
        policy.prepare(self.dtype, self.lora, gradient_checkpointing=self.gradient_checkpointing, seed=seed)
        return policy

    def save(self, policy: Policy, folder: Path) -> Path:
        """Write the finished policy into a run's folder. An adapter is merged into it, and kept apart if so set."""
        if policy.adapted and self.lora.keep_adapter:
            policy.save(folder / ADAPTER)
        policy.merge()
        policy.save(folder / MODEL)
        return folder / MODEL


@dataclass(frozen=True)
class SFTJob(PolicyJob):
    """Fine-tune a policy on episodes."""

    data: str | tuple[str, ...] = "runs/experts"
    """Folders of `userrl sft collect` or `select`, or JSONL files of episodes."""
    model: str | None = None
    """Folder of the policy to start from; None makes a tiny one, with a tokenizer trained on the episodes."""
    shape: Shape = field(default_factory=Shape)
    """Of the tiny policy."""
    sft: sft.SFTConfig = field(default_factory=sft.SFTConfig)
    log: tuple[Copy, ...] = ()
    """Where the figures go beside `train.jsonl`."""


def sources(job: SFTJob) -> list[Path]:
    """Where the episodes of a job are."""
    return [Path(data) for data in ((job.data,) if isinstance(job.data, str) else job.data)]


def fine_tune(
    job: SFTJob,
    folder: Path,
    *,
    resume: bool = False,
    on_begin: Callable[[], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Returns the folder of the finished policy. Checkpoints and `train.jsonl` are in the run folder.

    Args:
        on_begin: called when data, model and settings are read and the run's folder is open.

    Raises RunStopped, without another checkpoint, when the loss is no finite number and the monitor of that is to stop it.
    """
    set_threads(job.threads)
    data_from = sources(job)
    episodes = [episode for source in data_from for episode in load(source)]
    if not episodes:
        raise ConfigError(f"{', '.join(map(str, data_from))} holds no episodes; collect some with `userrl sft collect`.")
    policy = job.load(job.model) if job.model else new_policy(episodes, job.shape, job.sft.seed, job.device)
    job.prepare(policy, job.sft.seed)
    data = training_ids(policy, episodes)
    held = [fingerprint(file_of(source)) for source in data_from]
    contents: dict[str, Any] = {"data": held[0] if isinstance(job.data, str) else held}
    contents |= {"model": fingerprint(Path(job.model))} if job.model else {}
    config = {"kind": "sft", **_lasting(job), "contents": contents}
    run = _opened(folder, config, "sft", resume=resume, defaults=_lasting(SFTJob()))
    if any(e.rules.get("compat") for e in episodes):
        warnings.warn(sft.COMPAT, stacklevel=2)
    with journal(run, checkpoint.steps_done(folder / CHECKPOINTS), copies=job.log, settings=config) as log:
        if on_begin is not None:
            on_begin()

        def note(step: int, loss: float) -> None:
            stop = log.write({"step": step, "loss": loss})
            if on_step is not None:
                on_step(step, loss)
            if stop:
                raise RunStopped(stop)

        sft.train(policy, data, job.sft, folder=folder / CHECKPOINTS, on_step=note)
    return job.save(policy, folder)


@dataclass(frozen=True)
class RLJob(PolicyJob):
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
    validation: validation.Validation = field(default_factory=validation.Validation)
    baselines: bool | None = None
    """Have the gyms' agents without skill, and the expert, play once before training, for the curve. By default they do
    where user and judge are scripted: models would have to answer all of them."""
    log: tuple[Copy, ...] = ()
    """Where the figures go beside `train.jsonl`."""
    monitors: MonitorConfig = field(default_factory=MonitorConfig)
    keep: Keep = "last"
    """Whose policy is written to `model` at the end: the last step's, or that of the best validation (`best_policy`)."""


@dataclass(frozen=True)
class Best:
    """The best validation of a run: the greatest mean share, of equal ones the earliest."""

    step: int
    """0: before training."""
    share: Mapping[str, float]
    """Mean, low and high."""
    policy: Path | None
    """Folder of its policy: a checkpoint, or what the run began with. None: an earlier version of userrl did not keep it."""

    def __str__(self) -> str:
        about = f"step {self.step}, share {self.share['mean']:.3f} [{self.share['low']:.3f}, {self.share['high']:.3f}]"
        return f"{about}: {self.policy or 'its checkpoint was not kept'}"


def best_policy(job: RLJob, folder: Path) -> Best | None:
    """The best validation of a run, by the lines of figures in its folder alone; None without one."""
    top = monitors.best(read_lines(folder / FIGURES))
    if top is None:
        return None
    policy = checkpoint.at(folder / CHECKPOINTS, top["step"]) if top["step"] else Path(job.model)
    return Best(top["step"], monitors.validated(top), policy if policy.is_dir() else None)


async def reinforce(
    job: RLJob,
    folder: Path,
    *,
    resume: bool = False,
    on_begin: Callable[[], None] | None = None,
    on_step: Callable[[grpo.Step | None, dict[str, Any]], None] | None = None,
    on_alarm: OnAlarm | None = None,
    calls: Calls | None = None,
) -> Path:
    """Returns the folder of the finished policy.

    A step that is done again after a break is given the replies that the user's and the judge's models gave before.

    The run folder holds checkpoints, `train.jsonl` (a line of figures a step), `alarms.jsonl` (what monitors saw),
    `episodes.jsonl` (all of training) and `validation/` (a file of episodes for each validated step); on resume, what they
    hold of steps that are done again goes to `<file>.redone`. At the end there are a `curve.png` and `results.json`.

    Args:
        on_begin: called when model and settings are read and the run's folder is open.
        on_step: called with each step and its line, which is written by then; with None and the line of the first
            validation before any step.
        on_alarm: called with each alarm that does not stop the run; by default it is warned of.

    Raises:
        RunStopped: a monitor says so. The run can be gone on with, once there was an alarm also under a lower `grpo.lr`.
        ConfigError: the best policy is to be kept, and nothing is validated.

    Warns of training on test tasks.
    """
    if job.keep == "best" and not job.validation.every:
        raise ConfigError("keep is 'best', which is chosen by validation, but nothing is validated. Add --validate-every 10.")
    grpo.check(job.grpo)
    set_threads(job.threads)
    policy = job.prepare(job.load(job.model), job.grpo.seed)
    tasks = [task for gym in dict.fromkeys(job.gyms) for task in chosen_tasks([gym], job.split, None)]
    random.Random(f"rl|{job.grpo.seed}").shuffle(tasks)
    calls = calls or Calls(shared_user_noise=job.shared_user_noise)
    async with AsyncExitStack() as stack:
        cast = await seats.cast(job.user, job.judge, stack, endpoints=job.endpoints, calls=calls)
        held_out = _held_out(job)
        config = {"kind": "rl", **_lasting(job), "endpoints": lasting(job.endpoints), "contents": contents(job)}
        run = _opened(folder, config, "grpo", resume=resume, defaults=_lasting(RLJob(job.model)))
        if validation.of_tests(job.split):
            why = "an evaluation on them will say nothing about others. Train on another split, such as 'train'"
            warnings.warn(f"The split {job.split!r} that is trained on holds test tasks; {why}.", stacklevel=2)
        done = checkpoint.steps_done(folder / CHECKPOINTS)
        set_aside(folder / "episodes.jsonl", done * job.grpo.groups * job.grpo.group_size)
        validation.redo(run, done)
        log = stack.enter_context(journal(run, done, monitors=job.monitors, copies=job.log, settings=config, on_alarm=on_alarm))
        record = stack.enter_context(run.store("episodes.jsonl", tokens=False))
        if calls.any:
            calls.keep(stack.enter_context(run.store(REPLIES)))
            stack.callback(lambda: run.write_json("cost.json", calls.ledger.record()))

        if on_begin is not None:
            on_begin()
        if job.baselines or (job.baselines is None and not calls.any):
            log.baselines = await _levels(job, held_out, tasks, cast, run, calls)

        async def note(step: grpo.Step | None) -> str | None:
            number = step.number if step else 0
            line: dict[str, Any] = figures(step) if step else {"step": 0}
            for episode in step.episodes if step else ():
                record.append(episode)
            if held_out and job.validation.due(number, job.grpo.steps):
                # models answer anew at every step, and are recorded by the episode's seed; scripts need no new one
                episodes = [replace(e, seed=e.seed + number * calls.any) for e in held_out]
                line["validation"] = found = await validation.validate(
                    policy,
                    episodes,
                    cast,
                    run,
                    number,
                    temperature=job.validation.temperature,
                    max_new=job.grpo.max_new,
                    on_end=calls.ended,
                )
                found["best_step"] = (monitors.best([*log.lines, line]) or line)["step"]
            stop = log.write(line)
            if on_step is not None:
                on_step(step, line)
            if stop and (top := monitors.best(log.lines)):
                where = checkpoint.at(folder / CHECKPOINTS, top["step"]) if top["step"] else job.model
                stop += f" The best validation so far: {monitors.validated(top)['mean']:.3f} at step {top['step']} ({where})."
            return stop

        def best_step() -> int | None:
            top = monitors.best(log.lines)
            return top["step"] if top else None

        if held_out and not log.lines:
            await note(None)
        hook: Callable[[grpo.Step], Awaitable[str | None]] = note
        try:
            await grpo.train(
                policy, tasks, cast, job.grpo, folder=folder / CHECKPOINTS, on_step=hook, on_end=calls.ended, best=best_step
            )
        finally:
            if log.lines:
                plot.redraw(folder)
    return _finished(job, policy, folder)


def _finished(job: RLJob, policy: Policy, folder: Path) -> Path:
    """Write the policy that is to be kept, and `results.json`."""
    best, step = best_policy(job, folder), job.grpo.steps
    if job.keep == "best" and best is not None:
        if best.policy is None:
            raise StoreError(
                f"The best validation was at step {best.step}, but its checkpoint is not in {folder / CHECKPOINTS}: earlier "
                f"versions of userrl kept only the newest. Give the same command with --keep last."
            )
        step = best.step
        policy = policy if step else job.prepare(job.load(job.model), job.grpo.seed)
        if step:
            policy.restore(best.policy)
    told = {"step": best.step, "share": best.share, "policy": best.policy} if best else None
    results.write(folder, results.document("training", {"steps": job.grpo.steps, "kept": job.keep, "step": step, "best": told}))
    return job.save(policy, folder)


def _opened(
    folder: Path, config: dict[str, Any], trainer: Literal["sft", "grpo"], *, resume: bool, defaults: Mapping[str, Any]
) -> RunFolder:
    """The run's folder, gone on with under the same settings; after an alarm also under a lower learning rate.

    `config.json` then holds the new rate, and in `earlier_lr` up to which step there was another.
    """
    saved: dict[str, Any] = {}
    if resume:
        with suppress(DataError):  # which `RunFolder` tells of
            saved = settings(folder)
    if "earlier_lr" in saved:
        config["earlier_lr"] = saved["earlier_lr"]
    now, before = config[trainer]["lr"], saved.get(trainer, {}).get("lr")
    if not (isinstance(before, float) and now < before and read_lines(folder / ALARMS)):
        return RunFolder(folder, config, resume=resume, defaults=defaults)
    run = RunFolder(folder, {**config, trainer: {**config[trainer], "lr": before}}, resume=resume, defaults=defaults)
    earlier = [*config.get("earlier_lr", ()), {"until_step": checkpoint.steps_done(folder / CHECKPOINTS), "lr": before}]
    run.write_json("config.json", {"schema": SETTINGS_SCHEMA, **config, "earlier_lr": earlier})
    return run


async def _levels(
    job: RLJob, held_out: Sequence[Episode], tasks: Sequence[Task], cast: Callable[[str], Cast], run: RunFolder, calls: Calls
) -> dict[str, dict[str, float]]:
    """Gym -> agent -> share of the agents without skill on the validation's tasks, or on training ones; played once a run."""
    file = run.path / BASELINES
    if not file.exists():
        of = {gym: [task for task in tasks if task.gym == gym] for gym in dict.fromkeys(job.gyms)}
        limit = turn_limit(job.grpo, job.grpo.steps)
        first = [task for held in of.values() for task in held[:LEVEL_TASKS]]
        episodes = held_out or list(starts(first, seed=job.grpo.seed + 1, max_turns=limit, rules=job.grpo.rules))
        run.write_json(BASELINES, await plot.baselines(episodes, of, cast, on_end=calls.ended))
    found: dict[str, dict[str, float]] = json.loads(file.read_text("utf-8"))
    return found


def _lasting(job: SFTJob | RLJob) -> dict[str, Any]:
    """The settings that a run is saved with, and resumed under: with the numbers that follow from others."""
    kept = {name: value for name, value in as_dict(job).items() if name not in WATCHING}
    trainer, config = ("sft", job.sft) if isinstance(job, SFTJob) else ("grpo", job.grpo)
    kept[trainer] |= {"warmup": config.warm_steps, "save_every": config.steps_between_saves}
    return kept


def _held_out(job: RLJob) -> list[Episode]:
    """The episodes of a validation; none when there is to be none."""
    if not job.validation.every:
        return []
    return validation.plan(
        job.validation,
        tuple(dict.fromkeys(job.gyms)),
        trained_on=job.split,
        max_turns=turn_limit(job.grpo, job.grpo.steps),
        rules=job.grpo.rules,
        seed=job.grpo.seed + 1,
    )


def contents(job: RLJob) -> dict[str, Any]:
    """What the files that a job reads hold: a resumed run must find the same."""
    found = {"tasks": {gym: find(gym).sets()[job.split].sha256 for gym in job.gyms}, "model": fingerprint(Path(job.model))}
    if job.validation.every:
        found["validation"] = {gym: find(gym).sets()[job.validation.split].sha256 for gym in job.gyms}
    return found


def figures(step: grpo.Step) -> dict[str, Any]:
    """What a step's log line holds. Failed episodes are counted, and have no part in the other figures; the figures of the
    update are None in a step whose groups were all skipped."""
    good = [e for e in step.episodes if e.stop != "error"]
    by = {gym: [e for e in good if e.task.gym == gym] for gym in dict.fromkeys(e.task.gym for e in good)}
    of_update = ("loss", "entropy", "clipped", "grad_norm", "kl")
    names = ("groups", "cut", "lr", "max_turns", "undone")
    return {
        "step": step.number,
        **_worth(good),
        "mix": action_mix(good),
        "invalid": validation.invalid(good),
        "errors": len(step.episodes) - len(good),
        "full_window": sum(e.stop == "window" for e in good) / len(good),
        "skipped_groups": step.skipped,
        "zero_advantage": step.push.zero,
        "push_up": step.push.up,
        "push_down": step.push.down,
        **{name: getattr(step, name) for name in names},
        **{name: getattr(step, name) if step.skipped < step.groups else None for name in of_update},
        "gyms": {gym: {"episodes": len(held), **_worth(held)} for gym, held in by.items()},
    }


def _worth(episodes: Sequence[Episode]) -> dict[str, float]:
    count = len(episodes)
    return {"reward": sum(sum(e.rewards) for e in episodes) / count, "share": sum(map(share, episodes)) / count}
