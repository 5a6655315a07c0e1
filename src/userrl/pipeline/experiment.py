"""Experiments: arms that differ in one thing, each trained from several seeds and evaluated on the same held-out tasks.

An arm is a chain of stages: expert episodes -> SFT -> GRPO -> evaluation. Arms share the stages that they have in
common, and a stage that is done is never done again, also when a later experiment in the same folder needs it. Each
stage is a run folder as `userrl sft train`, `userrl rl train` and `userrl eval` make them, and can be read as theirs can.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from userrl.agents.policy import PolicyAgent, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.collect import select
from userrl.collect.run import SELECTED
from userrl.config import Count, as_dict
from userrl.core import Agent, Episode
from userrl.errors import ConfigError, RunStopped, UserRLError
from userrl.evaluate.metrics import summarize
from userrl.evaluate.run import EvalJob, chosen_tasks, evaluate
from userrl.evaluate.statistics import Interval
from userrl.gyms.base import Gym, find, make
from userrl.pipeline import plot
from userrl.pipeline.jobs import CHECKPOINTS, MODEL, PolicyJob, RLJob, SFTJob, fine_tune, reinforce
from userrl.rewards import CREDITS, ESTIMATORS, SCORES
from userrl.rewards.advantage import CREDIT, SCORE
from userrl.rewards.base import read_by
from userrl.rollout import play_recorded, starts
from userrl.store import RunFolder, dump, write_whole
from userrl.train import checkpoint, grpo, sft
from userrl.train.logs import FIGURES, read_lines
from userrl.train.validation import Validation

Watch = Callable[[str, int, int, str], None]
"""Told of progress: stage, done, of how many, a note."""

SAMPLED, GREEDY = "sampled", "greedy"
TEMPERATURES = {SAMPLED: 1.0, GREEDY: 0.0}
RESULT = "result.json"
"""An arm's figures of one seed; an arm that has them is done."""
DONE = "done.json"
"""In the folder of a finished fine-tuning."""
BASELINES = "baselines.json"
EXPERT, IMITATED = "expert", "imitated expert"
EXPERTS, BEFORE = "experts", "start"
"""Folders, in that of a seed, of the expert's episodes and of the policy before any training."""
TOKENIZER_EPISODES = 3000
"""Of the expert, from whose texts the tiny policy's tokenizer is learned."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    """As tables and plots show it."""
    sft: bool = True
    """Start from the policy fine-tuned on expert episodes; else from the one before."""
    credit: str | None = CREDIT
    """None: no reinforcement learning."""
    score: str = SCORE
    estimator: str | None = None
    """None: the job's."""

    @property
    def folder(self) -> str:
        """What is done, as a name: arms of two experiments that do the same share it."""
        start = SFT if self.sft else BEFORE
        estimator = f"-{self.estimator}" if self.estimator else ""
        return start if self.credit is None else f"{start}-{self.credit}-{self.score}{estimator}"

    def under(self, job: ExperimentJob) -> Arm:
        """The same arm, which names no estimator where it is the job's own."""
        return replace(self, estimator=None) if self.estimator == job.grpo.estimator else self


SFT = "sft"
START = Arm("SFT only", credit=None)
COLD_START = (START, Arm("SFT + GRPO"), Arm("GRPO only", sft=False))
SHAPINGS = ("equalized/r2g", "equalized/mean", "equalized/sum", "r2g/r2g")
"""Credit/score of the default arms: the paper's, with its formula's sum and its code's mean kept apart."""


NOT_READ = "-"
"""In an arm's name, for a credit or score that its estimator makes no use of."""


def shaping(name: str) -> Arm:
    """The arm of a credit and a score, "equalized/r2g", and if need be an estimator, "equalized/r2g/rloo" or "-/-/mt_grpo".

    Raises ConfigError or UnknownName.
    """
    credit, score, *more = name.split("/") if "/" in name else (name, "")
    estimator = more[0] if more else None
    if not score or len(more) > 1 or estimator == "":
        raise ConfigError(
            f"The arm {name!r} is no credit and score; expected two names, as in 'equalized/r2g', and if need be an estimator, "
            f"as in 'equalized/r2g/rloo'."
        )
    reads = read_by(ESTIMATORS.find(estimator or "grpo"))
    chosen = {}
    for what, given, read, table, plain in (
        ("credit", credit, reads.credit, CREDITS, CREDIT),
        ("score", score, reads.score, SCORES, SCORE),
    ):
        if not read and given != NOT_READ:
            raise ConfigError(
                f"The arm {name!r} names the {what} {given!r}, of which the estimator {estimator!r} makes no use; write "
                f"{NOT_READ!r} in its place."
            )
        chosen[what] = table.named(given) if read else plain
    return Arm(name, credit=chosen["credit"], score=chosen["score"], estimator=estimator)


def grid(credits: Iterable[str], scores: Sequence[str], estimators: Sequence[str] = ()) -> tuple[Arm, ...]:
    """An arm for each credit with each score, and with each estimator if some are given."""
    named = []
    for estimator in estimators or (None,):
        reads = read_by(ESTIMATORS.find(estimator or "grpo"))
        for credit in credits:
            for score in scores:
                parts = (credit if reads.credit else NOT_READ, score if reads.score else NOT_READ, estimator)
                named.append("/".join(part for part in parts if part))
    return tuple(map(shaping, dict.fromkeys(named)))


@dataclass(frozen=True)
class ExperimentJob(PolicyJob):
    """What all arms and seeds of an experiment have in common. The defaults are those of the demo, but for fewer GRPO steps."""

    gym: str = "intention"
    model: str | None = None
    """Folder of the policy to start from; None makes a tiny one, with a tokenizer trained on the expert's episodes."""
    max_turns: Count = 6
    skill: float = 0.5
    """Of the scripted expert that is imitated."""
    expert_episodes: Count = 8000
    """On all training tasks in turn."""
    top_k: Count = 4000
    shape: Shape = field(default_factory=Shape)
    """Of the tiny policy."""
    sft: sft.SFTConfig = field(default_factory=lambda: sft.SFTConfig(steps=1200, lr=2e-3, warmup=30, save_every=500))
    grpo: grpo.GRPOConfig = field(
        default_factory=lambda: grpo.GRPOConfig(steps=40, lr=4e-4, warmup=10, max_turns=6, max_new=32, save_every=10)
    )
    """Credit, score, seed and turn limit in it are those of the arm, the seed and the job; so is an estimator that an arm
    names."""
    patience: Count = 10
    """GRPO steps in a row with nothing to learn from, all episodes of each group alike, after which an arm is given up."""
    curve_tasks: Count = 96
    """Validation tasks of the learning curve."""
    curve_every: Count = 10
    test_tasks: Count = 256


@dataclass(frozen=True)
class Measured:
    """An agent's figures on the test tasks."""

    tasks: int
    errors: int
    """Failed episodes, which have no part in the figures."""
    share: Interval
    """Of the reachable reward; the interval is over tasks."""
    turns: float
    """Effective turns."""
    early: float
    """Time-weighted performance."""
    mix: Mapping[str, float]
    """Label -> share of all actions."""

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Measured:
        s = summarize(episodes)[0]
        return cls(s.tasks, s.errors, s.share, s.effective_turns, s.time_weighted, s.mix)


@dataclass(frozen=True)
class Trained:
    """One arm's figures of one seed."""

    steps: int
    """GRPO steps done."""
    stopped: bool
    """Whether it was given up before the last step, as there was nothing to learn from."""
    cpu_s: float
    """Of its GRPO and evaluation, since it was last resumed; stages shared with other arms are left out."""
    test: Mapping[str, Measured]
    """"sampled" (T = 1) and "greedy" -> figures on the test tasks."""
    curve: Sequence[Mapping[str, Any]] = ()
    """The lines of `train.jsonl`, a step each; some have validation figures."""


@dataclass(frozen=True)
class Baselines:
    """Agents that do not learn."""

    test: Mapping[str, Measured]
    """Agent without skill, and the expert -> figures on the test tasks."""
    levels: Mapping[str, float]
    """The same agents, but for the imitated expert -> mean share on the validation tasks."""


@dataclass(frozen=True)
class Findings:
    """All that an experiment found, before any average."""

    job: ExperimentJob
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    trained: Mapping[tuple[str, int], Trained]
    """(folder of the arm, seed) -> its figures."""
    baselines: Baselines


# --- running it ------------------------------------------------------------------------------------------------


def run(
    job: ExperimentJob,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    watch: Watch,
    *,
    jobs: int = 1,
    resume: bool = False,
) -> Findings:
    """Run what is missing of an experiment and gather what it found.

    Args:
        folder: holds the stages of all experiments with these settings, whatever their arms and seeds.
        jobs: seeds at once, a process each; progress is then told a seed at a time.

    Raises:
        ConfigError, UnknownName: no arm, no seed, one twice, `jobs` below 1, no such gym, or settings that do not fit together.
        StoreError, ResumeError: as `RunFolder` does.
        RunStopped: as `fine_tune` and `reinforce` do.
    """
    arms = [arm.under(job) for arm in arms]
    for what, given in (("arms", [arm.name for arm in arms]), ("seeds", seeds), ("arms", [arm.folder for arm in arms])):
        if not given or len(set(given)) < len(given):
            raise ConfigError(f"The {what} are {list(given)}; expected at least one, and none twice.")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected at least 1 seed at once.")
    if job.patience < (every := job.grpo.steps_between_saves):
        raise ConfigError(f"patience is {job.patience}; expected at least grpo.save_every={every}.")
    for arm in arms:
        if arm.credit is not None:
            grpo.check(_settings(job, arm, 0))
            if jobs > 1:
                _known_elsewhere(arm)
    find(job.gym)
    held = RunFolder(folder, {"kind": "experiment", **as_dict(job)}, resume=resume, defaults=as_dict(ExperimentJob()))
    asyncio.run(_baselines(job, held.path, watch))
    if jobs == 1:
        for seed in seeds:
            asyncio.run(one_seed(job, arms, seed, held.path, watch))
    else:
        _side_by_side(job, tuple(arms), list(seeds), held.path, watch, jobs)
    return gather(job, arms, seeds, held.path)


def _known_elsewhere(arm: Arm) -> None:
    """Raises ConfigError for a scheme that only this process knows, where others are to train with it."""
    for table, name in ((CREDITS, arm.credit), (SCORES, arm.score), (ESTIMATORS, arm.estimator)):
        if name in table.added:
            raise ConfigError(
                f"The {table.what} {name!r} was added in this process and is not known in those of other seeds. Give it an "
                f"entry point of the group {table.group!r} (docs/credit.md), or run one seed at a time."
            )


def _settings(job: ExperimentJob, arm: Arm, seed: int) -> grpo.GRPOConfig:
    """Of an arm that has reinforcement learning."""
    assert arm.credit is not None
    estimator = arm.estimator or job.grpo.estimator
    return replace(job.grpo, seed=seed, max_turns=job.max_turns, credit=arm.credit, score=arm.score, estimator=estimator)


def _side_by_side(job: ExperimentJob, arms: tuple[Arm, ...], seeds: list[int], folder: Path, watch: Watch, jobs: int) -> None:
    context, total = get_context("spawn"), len(seeds)
    running: dict[Connection, Any] = {}
    watch("seeds", 0, total, "")
    try:
        while seeds or running:
            while seeds and len(running) < jobs:
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_one_seed, args=(job, arms, seeds.pop(0), folder, theirs), daemon=True)
                process.start()
                theirs.close()
                running[ours] = process
            for ended in wait(list(running)):
                assert isinstance(ended, Connection)
                try:
                    error = ended.recv()
                except EOFError:
                    error = (
                        "A process of the experiment ended before its seed was done; what it did is kept. Go on with --resume."
                    )
                running.pop(ended).join()
                if error:
                    raise RunStopped(error)
                watch("seeds", total - len(seeds) - len(running), total, "")
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _one_seed(job: ExperimentJob, arms: Sequence[Arm], seed: int, folder: Path, told: Connection) -> None:
    """A process of its own: sends "" or the error that ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    warnings.showwarning = lambda message, *_: print(f"Warning: seed {seed}: {message}", file=sys.stderr)  # noqa: T201
    try:
        asyncio.run(one_seed(job, arms, seed, folder, lambda *_: None))
        told.send("")
    except UserRLError as error:
        told.send(f"Seed {seed}: {error}")


def splits(gym: type[Gym]) -> Mapping[str, str]:
    """train, validation, test -> the gym's pinned split for it where it has one (`demo-train`), else its own."""
    sets = gym.built_in_sets()
    return {part: f"demo-{part}" if f"demo-{part}" in sets else part for part in ("train", "validation", "test")}


async def _baselines(job: ExperimentJob, folder: Path, watch: Watch) -> None:
    """Agents without skill and the expert, on the test tasks and on the curve's."""
    if (folder / BASELINES).exists():
        return
    gym = find(job.gym)
    split = splits(gym)
    train = chosen_tasks([job.gym], split["train"], None)
    agents = {**gym.baselines(train), IMITATED: gym.expert(job.skill), EXPERT: gym.expert(1.0)}
    specs = {IMITATED: f"expert:{job.skill:g}"}
    test = {}
    for name, agent in agents.items():
        home = folder / "baselines" / name.replace(" ", "-")
        test[name] = await _evaluate(job, specs.get(name, name), agent, home, 1, watch)
    tasks = chosen_tasks([job.gym], split["validation"], job.curve_tasks)
    fresh = list(starts(tasks, seed=1, max_turns=job.max_turns))
    levels = await plot.baselines(fresh, {job.gym: train}, make(job.gym).cast())
    _write(folder / BASELINES, as_dict(Baselines(test, levels[job.gym])))


async def one_seed(job: ExperimentJob, arms: Sequence[Arm], seed: int, folder: Path, watch: Watch) -> None:
    """All arms of one seed, in order; each is evaluated before the next one starts."""
    home = folder / f"seed-{seed}"
    open_ones = [arm for arm in arms if not (home / arm.folder / RESULT).exists()]
    if not open_ones:
        return
    set_threads(job.threads)

    def note(stage: str, done: int, total: int, more: str = "") -> None:
        watch(f"seed {seed}: {stage}", done, total, more)

    start = await _start(job, seed, home, note)
    if any(arm.sft for arm in open_ones) and not (home / SFT / DONE).exists():
        learn = SFTJob(**_held(job), data=str(home / EXPERTS / SELECTED), model=start, sft=replace(job.sft, seed=seed))
        fine_tune(learn, home / SFT, resume=True, on_step=lambda n, loss: note("SFT", n, job.sft.steps, f"loss {loss:.3f}"))
        _write(home / SFT / DONE, {"steps": job.sft.steps})
    for arm in open_ones:
        await _train(job, arm, str(home / SFT / MODEL) if arm.sft else start, seed, home / arm.folder, note)


async def _start(job: ExperimentJob, seed: int, home: Path, note: Callable[..., None]) -> str:
    """The expert's episodes, the best of them in a file of their own, and the folder of the policy before any training."""
    gym = find(job.gym)
    tasks = chosen_tasks([job.gym], splits(gym)["train"], None)
    rounds = -(-job.expert_episodes // len(tasks))
    plan = sorted(starts(tasks, attempts=rounds, seed=seed + 1, max_turns=job.max_turns), key=lambda e: e.attempt)
    config = {"kind": "experts", "seed": seed, **as_dict(job)}
    run = RunFolder(home / EXPERTS, config, resume=True, defaults=as_dict(ExperimentJob()))
    if not (run.path / SELECTED).exists():
        done: list[Episode] = []

        def ended(episode: Episode) -> None:
            done.append(episode)
            note("expert", len(done), job.expert_episodes)

        plan = plan[: job.expert_episodes]
        played = list(await play_recorded(plan, gym.expert(job.skill), gym.cast(), run, at_once=128, on_end=ended))
        if job.model is None:
            new_policy(played[:TOKENIZER_EPISODES], job.shape, seed, job.device).save(home / BEFORE / MODEL)
        dump(run.path / SELECTED, select(played, job.top_k).kept)
    return job.model or str(home / BEFORE / MODEL)


async def _train(job: ExperimentJob, arm: Arm, start: str, seed: int, folder: Path, note: Callable[..., None]) -> None:
    """GRPO, if the arm has it, and the evaluation; writes the arm's result."""
    began, stopped, model = time.process_time(), False, start
    if arm.credit is not None:
        stopped = await _reinforce(job, arm, start, seed, folder, note)
        model = str(folder / MODEL)
    policy = job.load(model)
    test = {}
    for how, temperature in TEMPERATURES.items():
        player = PolicyAgent(policy, temperature=temperature, max_new=job.grpo.max_new, seed=seed + 1)
        named = f"{arm.name}, {how}"
        test[how] = await _evaluate(job, model, player, folder / how, seed + 1, note, named, temperature)
    steps = max((line["step"] for line in read_lines(folder / FIGURES)), default=0) if arm.credit else 0
    _write(folder / RESULT, as_dict(Trained(steps, stopped, round(time.process_time() - began, 1), test)))


class _Idle(Exception):
    """There was nothing to learn from for as long as the job allows."""


async def _reinforce(job: ExperimentJob, arm: Arm, start: str, seed: int, folder: Path, note: Callable[..., None]) -> bool:
    """GRPO into a run folder. Returns whether it was given up."""
    config = _settings(job, arm, seed)
    split = splits(find(job.gym))
    learn = RLJob(
        **_held(job),
        model=start,
        gyms=(job.gym,),
        split=split["train"],
        grpo=config,
        validation=Validation(every=job.curve_every, tasks=job.curve_tasks, split=split["validation"]),
    )

    def on_step(step: grpo.Step | None, line: Mapping[str, Any]) -> None:
        if step is not None:
            about = f"share {line['share']:.3f}, skipped {line['skipped_groups']}"
            note(f"{arm.name}, GRPO", step.number, config.steps, about)
        if idle(read_lines(folder / FIGURES)) >= job.patience:
            raise _Idle

    try:
        await reinforce(learn, folder, resume=True, on_step=on_step)
    except _Idle:
        policy = learn.prepare(learn.load(start), seed)
        if found := checkpoint.latest(folder / CHECKPOINTS):  # not older than the first idle step: nothing has changed since
            policy.restore(found)
        learn.save(policy, folder)
        return True
    return False


def idle(lines: Sequence[Mapping[str, Any]]) -> int:
    """How many steps in a row, up to the last line, had nothing to learn from."""
    skipped = [line["step"] > 0 and line["skipped_groups"] == line["groups"] for line in lines]
    return next((back for back, every in enumerate(reversed(skipped)) if not every), len(skipped))


def _held(job: ExperimentJob) -> dict[str, Any]:
    """How the policy is held, for the jobs of the stages."""
    return {f.name: getattr(job, f.name) for f in fields(PolicyJob)}


async def _evaluate(
    job: ExperimentJob,
    spec: str,
    agent: Agent,
    folder: Path,
    seed: int,
    note: Callable[..., None],
    name: str = "",
    temperature: float | None = None,
) -> Measured:
    """Play the test tasks into a run folder like that of `userrl eval`."""
    test = EvalJob(
        spec,
        gyms=(job.gym,),
        split=splits(find(job.gym))["test"],
        tasks=job.test_tasks,
        max_turns=job.max_turns,
        seed=seed,
        temperature=temperature,
        max_new=job.grpo.max_new,
    )
    done: list[Episode] = []

    def ended(episode: Episode) -> None:
        done.append(episode)
        note(f"test: {name or spec}", len(done), job.test_tasks, "")

    played = await evaluate(test, agent, make(job.gym).cast(), folder, resume=True, at_once=128, on_end=ended)
    return Measured.of(played)


def gather(job: ExperimentJob, arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> Findings:
    """What the folder holds of these arms and seeds, all of them done."""
    trained = {}
    for arm in arms:
        for seed in seeds:
            home = folder / f"seed-{seed}" / arm.folder
            found = TypeAdapter(Trained).validate_json((home / RESULT).read_bytes())
            trained[arm.folder, seed] = replace(found, curve=read_lines(home / FIGURES) if arm.credit else ())
    baselines = TypeAdapter(Baselines).validate_json((folder / BASELINES).read_bytes())
    return Findings(job, tuple(arms), tuple(seeds), trained, baselines)


def _write(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=2).encode() + b"\n")
