"""Collecting expert episodes for a cold start, and choosing anew among those that were collected."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from userrl.collect import report
from userrl.collect.contamination import held_out
from userrl.collect.select import ENDED, Selection, Unplayed, select
from userrl.config import Count, Fraction, Weight, as_dict
from userrl.core import Agent, Cast, Episode
from userrl.errors import ConfigError, StoreError
from userrl.evaluate.run import EvalJob, check, evaluate, plan
from userrl.store import Records, RunFolder, dump, fingerprint, index, read, settings, write_whole

PLAYED = "episodes.jsonl"
SELECTED = "selected.jsonl"
LEFT = "left_out.jsonl"
UNPLAYED = "not_played.jsonl"


@dataclass(frozen=True)
class Choice:
    """Which episodes are worth imitating."""

    top_k: Count | None = None
    """The best so many episodes of each gym; all whole, valid ones by default."""
    per_task: Count | None = None
    """With 1 and several attempts: the best of n."""
    min_share: Fraction = 0.0
    """Least share of the best score that a task allows."""
    near: Fraction = 0.9
    """Episodes that are alike to this degree are duplicates (`duplicates`); 1: equal ones only; 0 keeps all."""
    decontaminate: bool = True
    """Leave out episodes on tasks that evaluations use (`contamination`)."""
    mix: Mapping[str, Weight] = field(default_factory=dict)
    """Gym -> weight of its episodes among those kept; any proportion by default."""


@dataclass(frozen=True)
class CollectJob(Choice, EvalJob):
    """Expert episodes on training tasks, and which of them to keep."""

    split: str = "train"
    play_held_out: bool = False
    """Play the tasks whose episodes will be left out for being like held-out ones, too."""


@dataclass(frozen=True)
class SelectJob(Choice):
    """Which episodes to keep of runs that were played before."""

    runs: tuple[str, ...] = ("runs/experts",)
    """Folders of runs, or JSONL files of episodes."""


async def collect(
    job: CollectJob,
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    folder: Path,
    *,
    on_end: Callable[[Episode], None] | None = None,
    screened: Sequence[Unplayed] | None = None,
    **options: Any,
) -> Selection:
    """Play, rank, select; the run folder then holds what `write` writes beside the episodes.

    Args:
        screened: what `screen` found, if it was asked.
        options: those of `evaluate`.

    Raises ConfigError, before anything is played, as `screen` does.
    """
    unplayed = screen(job, folder) if screened is None else screened
    without = {(one.gym, one.task) for one in unplayed}
    episodes = await evaluate(job, agent, cast, folder, on_end=on_end, without=without, **options)
    return write(folder, replace(choose(episodes, job), unplayed=unplayed))


def screen(job: CollectJob, folder: Path) -> list[Unplayed]:
    """The tasks of a job that are not worth playing, as their episodes would be left out for being like held-out ones.

    That is told by the tasks alone. Those that the folder holds episodes of, from an earlier version or under other held-out
    tasks, are not among them.

    Raises:
        ConfigError: no task is left to play; or a mixture of gyms that are not played.
        UnknownName, DataError: as `evaluate` does.
    """
    if other := [gym for gym in job.mix if gym not in job.gyms]:
        raise ConfigError(f"The mixture names {other[0]!r}, which is not played (gyms: {', '.join(job.gyms)}).")
    check(job)
    if job.play_held_out or not job.decontaminate:
        return []
    file, unplayed, tasks = folder / PLAYED, [], 0
    played = {key[:2] for key in index(file)} if file.exists() else set()
    sets = {gym: held_out(gym) for gym in job.gyms}
    for episode in plan(replace(job, attempts=1)):
        tasks += 1
        task = episode.task
        if (task.gym, task.id) not in played and (found := sets[task.gym].match(task)):
            unplayed.append(Unplayed(task.gym, task.id, found.why, found.task))
    if len(unplayed) == tasks:
        raise ConfigError(
            f"No episode of the split {job.split!r} would be kept: each of the {tasks} tasks is held out or like one that is, "
            f"such as {unplayed[0].like!r}. Choose other tasks with --split, or keep them all with --no-decontaminate."
        )
    return unplayed


def select_again(job: SelectJob, folder: Path) -> Selection:
    """Choose among episodes that were played before, of one run or several, and write the selection to a folder.

    Raises StoreError for a folder that holds another sort of run, or a selection that is to be chosen from; any other
    selection that is there is made anew. Raises DataError for settings there that cannot be read.
    """
    if (kind := settings(folder).get("kind", "select")) != "select":
        raise StoreError(f"{folder} holds a run of another command (kind {kind!r}). Choose another folder with --out.")
    if any(source(Path(run)).resolve() == (folder / SELECTED).resolve() for run in job.runs):
        raise StoreError(f"{folder} holds the selection that is to be chosen from. Choose another folder with --out.")
    episodes = played(job.runs)
    selection = choose(episodes, job)
    contents = {run: fingerprint(source(Path(run))) for run in job.runs}
    (folder / "config.json").unlink(missing_ok=True)
    RunFolder(folder, {"kind": "select", **as_dict(job), "contents": contents}, resume=False)
    return write(folder, selection)


def choose(episodes: Sequence[Episode], choice: Choice) -> Selection:
    """The selection that the settings ask for."""
    return select(
        episodes,
        choice.top_k,
        per_task=choice.per_task,
        min_share=choice.min_share,
        near=choice.near,
        held_out=held_out if choice.decontaminate else None,
        mix=choice.mix,
    )


def write(folder: Path, selection: Selection) -> Selection:
    """Write `selected.jsonl` (best first), `left_out.jsonl` (a line each: which, why, like which) and `quality.json`.

    Where tasks were not played at all, `not_played.jsonl` says the same of them.
    """
    dump(folder / SELECTED, selection.kept)
    write_whole(folder / LEFT, b"".join(json.dumps(asdict(left)).encode() + b"\n" for left in selection.left))
    (folder / UNPLAYED).unlink(missing_ok=True)
    if selection.unplayed:
        write_whole(folder / UNPLAYED, b"".join(json.dumps(asdict(one)).encode() + b"\n" for one in selection.unplayed))
    report.write(folder, report.quality_of(selection))
    return selection


def played(runs: Sequence[str | Path]) -> list[Episode]:
    """All episodes of runs, those that failed included; of one played twice the later. Raises ConfigError for none."""
    episodes: list[Episode] = []
    for run in runs:
        file = source(Path(run))
        episodes += Records(file, [entry.offset for entry in index(file).values()])
    if not episodes:
        raise ConfigError(f"{', '.join(map(str, runs))} holds no episodes; collect some with `userrl sft collect`.")
    return episodes


def source(run: Path) -> Path:
    """The file that holds what was played in a run."""
    if not run.is_dir():
        return run
    return run / PLAYED if (run / PLAYED).exists() or not (run / SELECTED).exists() else run / SELECTED


def load(path: Path) -> list[Episode]:
    """The episodes of a collect folder's selection, or the whole ones of a records file; a warning counts the others."""
    if path.is_dir() and not (path / SELECTED).exists():
        kind = settings(path).get("kind")
        what = f"{path} is the folder of a run of another command (kind {kind!r})" if kind else f"{path} holds no {SELECTED}"
        then = (
            f"Choose among its episodes first: userrl sft select {path} --out runs/selected." if (path / PLAYED).exists() else ""
        )
        raise ConfigError(f"{what}; expected one of `userrl sft collect` or `select`, or a file of episodes. {then}".rstrip())
    episodes = list(read(file_of(path)))
    whole = [episode for episode in episodes if episode.stop in ENDED and episode.turns]
    if len(whole) < len(episodes):
        failed = len(episodes) - len(whole)
        warnings.warn(f"{failed} of {len(episodes)} episodes in {path} failed or have no turn; they are left out.", stacklevel=2)
    return whole


def file_of(path: Path) -> Path:
    """The file that `load` reads."""
    return path / SELECTED if path.is_dir() else path
