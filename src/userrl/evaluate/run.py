"""An evaluation: which tasks, how often, under which rules; played, recorded, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from userrl.calls import Calls
from userrl.config import AtLeast0, Count, as_dict, resolve
from userrl.core import DEFAULT_MAX_TURNS, Agent, Cast, Episode, Task
from userrl.errors import ConfigError, DataError
from userrl.evaluate import paper
from userrl.gyms.base import find, make, rules_for
from userrl.llm.endpoint import lasting
from userrl.rollout import play_recorded, starts
from userrl.store import RunFolder, fingerprint, is_folder, settings


@dataclass(frozen=True)
class EvalJob:
    """What to evaluate. Saved with the results; a resumed run must match it."""

    agent: str = "expert"
    gyms: tuple[str, ...] = ("intention",)
    split: str = "test"
    splits: Mapping[str, str] = field(default_factory=dict)
    """Gym -> split, where it is another one than `split`."""
    tasks: Count | None = None
    """The first so many tasks of the split; all by default."""
    attempts: Count = 1
    max_turns: Count = DEFAULT_MAX_TURNS
    seed: int = 0
    user: str = "scripted"
    judge: str = "scripted"
    temperature: AtLeast0 | None = None
    max_new: Count | None = None
    """Tokens of one reply of a local model at most; see `longest_reply` for the default."""
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Settings for all gyms, and in a table of its name for one: {"compat": "userrl", "travel": {"rewards": "training"}}."""
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role -> settings of the endpoint behind it, e.g. {"agent": {"tools": False}}."""
    shared_user_noise: bool = False
    """Attempts at a task share the user's and the judge's replies to the same query in the same turn."""
    preset: Literal["paper"] | None = None
    """A protocol that the other settings came from, as far as they were not given."""
    held_out: tuple[str, ...] = ()
    """Gyms that the agent was not trained on, for reports. A resumed run may name others."""

    def split_of(self, gym: str) -> str:
        return self.splits.get(gym, self.split)


PRESETS: Mapping[str, Callable[[], dict[str, Any]]] = {"paper": paper.settings}


def resolve_job(file: Path | None, flags: Mapping[str, Any]) -> EvalJob:
    """The job of a file and flags, which win over the preset that they name. Raises as `config.resolve` does."""
    job = resolve(EvalJob, file, flags)
    if job.preset is None:
        return job
    below = PRESETS[job.preset]()
    if resolve(EvalJob, file, flags, below={"split": ""}).split:  # one that was asked for holds for every gym
        below.pop("splits", None)
    return resolve(EvalJob, file, flags, below=below)


def chosen_tasks(gyms: Sequence[str], split: str, count: int | None) -> list[Task]:
    """The first `count` tasks of each gym's split. Raises ConfigError when there are none."""
    return [task for tasks in _chosen(dict.fromkeys(gyms, split), count) for task in tasks]


def _chosen(splits: Mapping[str, str], count: int | None) -> list[Iterable[Task]]:
    """splits: gym -> split."""
    if count is not None and count < 1:
        raise ConfigError(f"tasks is {count}; expected at least 1.")
    sets = [find(gym).tasks(split) for gym, split in splits.items()]
    if not any(map(len, sets)):
        names = " or ".join(map(repr, dict.fromkeys(splits.values())))
        raise ConfigError(f"Split {names} of {', '.join(splits)} holds no tasks.")
    return [islice(tasks, count) for tasks in sets]


def _splits(job: EvalJob) -> dict[str, str]:
    return {gym: job.split_of(gym) for gym in job.gyms}


def plan(job: EvalJob) -> Iterator[Episode]:
    """The episodes of a job, none of them begun; tasks are made as they are reached."""
    for tasks in _chosen(_splits(job), job.tasks):
        yield from starts(tasks, attempts=job.attempts, seed=job.seed, max_turns=job.max_turns, rules=job.rules)


def check(job: EvalJob) -> None:
    """Find, before anything is written, what of a job could not be played. Raises ConfigError, UnknownName or DataError."""
    _chosen(_splits(job), 1)
    if len(set(job.gyms)) < len(job.gyms):
        raise ConfigError(f"gyms names one twice: {', '.join(job.gyms)}. Name each once; --attempts plays its tasks more often.")
    for gym in job.gyms:
        make(gym, **rules_for(job.rules, gym))
    for gym in (*job.held_out, *job.splits):
        find(gym)
    if job.preset is None and (other := [gym for gym in job.held_out if gym not in job.gyms]):
        raise ConfigError(
            f"held_out names {other[0]!r}, which is not played (gyms: {', '.join(job.gyms)}). Leave it out, or play it."
        )


def planned(job: EvalJob) -> int:
    """How many episodes a job has."""
    sizes = [len(find(gym).tasks(job.split_of(gym))) for gym in job.gyms]
    return job.attempts * sum(size if job.tasks is None else min(size, job.tasks) for size in sizes)


async def evaluate(
    job: EvalJob,
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    folder: Path,
    *,
    resume: bool = False,
    max_errors: int | None = None,
    on_end: Callable[[Episode], None] | None = None,
    calls: Calls | None = None,
    replay_of: Path | None = None,
    without: Collection[tuple[str, str]] = (),
    **options: Any,
) -> Sequence[Episode]:
    """Play a job's episodes into a run folder: `config.json`, `episodes.jsonl`, and with models `replies.jsonl`, `cost.json`.

    Args:
        max_errors: failed episodes that stop the run; a tenth of all, at least 8, by default.
        calls: what stands around the models of `agent` and `cast`.
        replay_of: the run whose replies stand for those models; the new run says so.
        without: (gym, task id) of tasks that are left out.
        options: as `rollout.play_each` has.
    """
    check(job)
    config = {"kind": "eval", **_kept(job), "contents": contents(job)}
    if replay_of is not None:
        config["replay_of"] = str(replay_of)
    run = RunFolder(folder, config, resume=resume, defaults=_kept(type(job)(job.agent)))
    limit = max(8, planned(job) // 10) if max_errors is None else max_errors
    episodes = (episode for episode in plan(job) if episode.key[:2] not in without)
    try:
        return await play_recorded(episodes, agent, cast, run, max_errors=limit, on_end=on_end, calls=calls, **options)
    finally:
        if calls is not None and calls.any and not calls.replaying:
            run.write_json("cost.json", calls.ledger.record())


LONGEST_REPLY = 512
"""Tokens of one reply of a local model at most, where nothing else is asked for and its window is long enough."""


def longest_reply(job: EvalJob) -> int:
    """Tokens of one reply at most: as asked for, else 512, or a quarter of the window of a local model where that is less."""
    if job.max_new is not None:
        return job.max_new
    file = Path(job.agent) / "config.json"
    if not (is_folder(job.agent) and file.is_file()):
        return LONGEST_REPLY
    try:
        window = json.loads(file.read_text("utf-8")).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return LONGEST_REPLY  # what is wrong with the model is told where it is loaded
    return max(1, min(LONGEST_REPLY, window // 4)) if isinstance(window, int) else LONGEST_REPLY


def _kept(job: EvalJob) -> dict[str, Any]:
    """The settings that a resumed run must have in common with the one begun; what bears on reports alone is kept there."""
    config = {**as_dict(job), "max_new": longest_reply(job), "endpoints": lasting(job.endpoints)}
    del config["held_out"]
    return config


def contents(job: EvalJob) -> dict[str, Any]:
    """What the files that a job reads hold: a resumed run must find the same."""
    found: dict[str, Any] = {"tasks": {gym: find(gym).sets()[job.split_of(gym)].sha256 for gym in job.gyms}}
    if is_folder(job.agent):
        found["agent"] = fingerprint(Path(job.agent))
    return found


def recorded_job(folder: Path) -> EvalJob:
    """The job of a run's folder. Raises DataError for a folder that holds none."""
    cells = sorted(file.parent for file in folder.glob("*/*/*/config.json"))
    try:
        kept, names = settings(folder), {f.name for f in fields(EvalJob)}
        if not folder.is_dir():
            raise ValueError("there is no such folder")
        if not kept and cells:
            raise ValueError(f"it is a grid's, whose runs are in folders below it, such as {cells[0]}")
        if "agent" not in kept:
            raise ValueError(
                f"its config.json names no agent, but a run of {kept['kind']!r}" if kept else "it has no config.json"
            )
        return resolve(EvalJob, None, {name: value for name, value in kept.items() if name in names})
    except ValueError as error:
        why = str(error).rstrip(".")
        raise DataError(f"{folder} holds no evaluation that can be read: {why}. Name the folder of a run (--out).") from error
