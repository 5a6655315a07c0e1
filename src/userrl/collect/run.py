"""Collecting expert episodes for a cold start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from userrl.collect.select import Selection, select
from userrl.config import Count
from userrl.core import Agent, Cast, Episode
from userrl.evaluate.run import EvalJob, evaluate
from userrl.store import dump, read

SELECTED = "selected.jsonl"


@dataclass(frozen=True)
class CollectJob(EvalJob):
    """Expert episodes on training tasks, and how many of them to keep."""

    split: str = "train"
    top_k: Count | None = None
    """The best so many episodes of each gym; all whole, valid ones by default."""
    per_task: Count | None = None


async def collect(
    job: CollectJob,
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    folder: Path,
    *,
    on_end: Callable[[Episode], None] | None = None,
    **options: Any,
) -> Selection:
    """Play, rank, select; the selection is written to `selected.jsonl` in the run folder, best first.

    `options` are those of `evaluate`.
    """
    episodes = await evaluate(job, agent, cast, folder, on_end=on_end, **options)
    selection = select(episodes, job.top_k, per_task=job.per_task)
    dump(folder / SELECTED, selection.kept)
    return selection


def load(path: Path) -> list[Episode]:
    """The episodes of a collect folder's selection, or of a records file."""
    return list(read(file_of(path)))


def file_of(path: Path) -> Path:
    """The file that `load` reads."""
    return path / SELECTED if path.is_dir() else path
