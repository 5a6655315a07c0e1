"""An evaluation: which tasks, how often, under which rules; played, recorded, resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from userrl.config import AtLeast0, Count, as_dict
from userrl.core import DEFAULT_MAX_TURNS, Agent, Cast, Episode, Task
from userrl.errors import ConfigError
from userrl.gyms.base import find
from userrl.llm.endpoint import lasting
from userrl.rollout import play_recorded, starts
from userrl.store import RunFolder, fingerprint, is_folder


@dataclass(frozen=True)
class EvalJob:
    """What to evaluate. Saved with the results; a resumed run must match it."""

    agent: str
    gyms: tuple[str, ...] = ("intention",)
    split: str = "test"
    tasks: Count | None = None
    """The first so many tasks of the split; all by default."""
    attempts: Count = 1
    max_turns: Count = DEFAULT_MAX_TURNS
    seed: int = 0
    user: str = "scripted"
    judge: str = "scripted"
    temperature: AtLeast0 | None = None
    max_new: Count = 512
    """Tokens of one reply of a local model at most."""
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Settings for every gym, e.g. {"compat": "userrl"}."""
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role -> settings of the endpoint behind it, e.g. {"agent": {"tools": False}}."""


def chosen_tasks(gyms: Sequence[str], split: str, count: int | None) -> list[Task]:
    """The tasks of a job. Raises ConfigError when there are none."""
    if count is not None and count < 1:
        raise ConfigError(f"tasks is {count}; expected at least 1.")
    tasks = [task for gym in gyms for task in find(gym).tasks(split)[:count]]
    if not tasks:
        raise ConfigError(f"Split {split!r} of {', '.join(gyms)} holds no tasks.")
    return tasks


def plan(job: EvalJob) -> list[Episode]:
    """The episodes of a job, none of them begun."""
    tasks = chosen_tasks(job.gyms, job.split, job.tasks)
    return list(starts(tasks, attempts=job.attempts, seed=job.seed, max_turns=job.max_turns, rules=job.rules))


async def evaluate(
    job: EvalJob,
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    folder: Path,
    *,
    resume: bool = False,
    at_once: int = 64,
    max_errors: int | None = None,
    on_end: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Play a job's episodes into a run folder: `config.json`, `episodes.jsonl`.

    Args:
        max_errors: failed episodes that stop the run; a tenth of all, at least 8, by default.
    """
    episodes = plan(job)
    config = {"kind": "eval", **as_dict(job), "endpoints": lasting(job.endpoints)}
    if is_folder(job.agent):
        config["contents"] = {"agent": fingerprint(Path(job.agent))}
    run = RunFolder(folder, config, resume=resume)
    limit = max(8, len(episodes) // 10) if max_errors is None else max_errors
    return await play_recorded(episodes, agent, cast, run, at_once=at_once, max_errors=limit, on_end=on_end)
