"""Runs in other tools' formats: chat messages, Parquet, inspect_ai's log; a report's tables and plots as files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from userrl import __version__
from userrl.collect.export import conversation
from userrl.core import Episode
from userrl.errors import DataError, StoreError, UnknownName, needs
from userrl.evaluate.metrics import Summary, figures, share, total
from userrl.evaluate.played import ABOUT
from userrl.gyms.base import gym_of
from userrl.report.frames import Run, load, run_names, runs_in
from userrl.report.tables import Table
from userrl.store import write_whole

Format = Literal["messages", "parquet", "inspect", "csv", "latex", "svg", "png"]
FORMATS: tuple[Format, ...] = get_args(Format)
INSPECT_SCORE = "userrl"
"""Name of the scorer in an inspect_ai log."""


def _quiet(line: str) -> None:
    """Told nobody."""


def export(runs: Sequence[Path], form: str, folder: Path, warn: Callable[[str], None] = _quiet) -> list[Path]:
    """Write runs in a format into a folder; returns the files.

    messages, parquet and inspect give files for each run, in a folder of its name where there are several; csv and latex
    give the tables of the runs' report, svg and png its plots.

    Args:
        warn: told what must be said of the runs before their figures are read.

    Raises:
        UnknownName: there is no such format.
        DataError: a folder holds no run.
        StoreError: the files cannot be written; or the folder holds tables or plots that would pass for parts of this export.
        MissingExtra: the format needs a package that is not installed.
    """
    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    if form not in _RUNS:
        return list(_of_report(runs, form, folder, warn))
    found = [load(run) for folder in runs for run in runs_in(folder)]
    names = run_names([run.folder for run in found])
    for run, name in zip(found, names, strict=True):
        if run.unfinished:
            warn(f"{name}: {run.unfinished}. {ABOUT}")
    return [
        file
        for run, name in zip(found, names, strict=True)
        for file in _RUNS[form](run, folder / name if len(found) > 1 else folder)
    ]


# --- runs --------------------------------------------------------------------------------------------------------


def chat(episode: Episode) -> dict[str, Any]:
    """An episode as a line of OpenAI messages, with its tool and what it was worth. Nothing hidden from the agent is in it."""
    failed = episode.stop == "error"
    return {
        **conversation(episode),
        "gym": episode.task.gym,
        "task": episode.task.id,
        "attempt": episode.attempt,
        "stop": episode.stop,
        "error": episode.error,
        "rewards": episode.rewards,
        "score": None if failed else total(episode),
        "share": None if failed else share(episode),
        "solved": None if failed else gym_of(episode).solved(episode),
    }


def _messages(run: Run, folder: Path) -> Iterator[Path]:
    _some(run)
    lines = (json.dumps(chat(episode), ensure_ascii=False) + "\n" for episode in run.records)
    yield write_whole(folder / "messages.jsonl", "".join(lines).encode("utf-8", "replace"))


def _parquet(run: Run, folder: Path) -> Iterator[Path]:
    with needs("frames", "Parquet"):
        from pyarrow import parquet
    for name, table in {"episodes": run.episodes, "turns": run.turns, "calls": run.calls, "steps": run.steps}.items():
        if table.num_rows:
            yield _written(folder / f"{name}.parquet", partial(parquet.write_table, table))


def _some(run: Run) -> None:
    if not run.records:
        raise DataError(f"{run.folder} holds no episodes. Name the folder of a run that has played (--out).")


def _written(file: Path, write: Callable[[str], object]) -> Path:
    """A file that a library writes to a path of ours, whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as room:
            part = Path(room) / file.name
            write(os.fspath(part))
            part.replace(file)
    except OSError as error:
        raise StoreError(f"Cannot write {file}: {error}. Free some space or choose a writable folder with --out.") from error
    return file


# --- inspect_ai --------------------------------------------------------------------------------------------------


def _inspect(run: Run, folder: Path) -> Iterator[Path]:
    """A log for each gym, as a log of inspect_ai has one task."""
    with needs("inspect", "A log of inspect_ai"):
        from inspect_ai.log import write_eval_log
    _some(run)
    for summary in figures(run.records).gyms:
        log = inspect_log(run, summary)
        yield _written(folder / f"{summary.gym}.eval", partial(write_eval_log, log, format="eval"))


def inspect_log(run: Run, summary: Summary) -> Any:
    """The `EvalLog` of one gym of a run: a sample for each episode, an epoch for each attempt.

    Its metrics are the means of score, share and solved with `stderr` as half the 95% interval over 1.96, so that they
    are clustered by task as ours are.
    """
    with needs("inspect", "A log of inspect_ai"):
        from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalMetric, EvalResults, EvalScore, EvalSpec, EvalStats
    when = _when(run)
    samples = [_sample(episode) for episode in run.records if episode.task.gym == summary.gym]
    values = {"score": summary.score, "share": summary.share, "solved": summary.solved}
    scores = [
        EvalScore(
            name=name,
            scorer=INSPECT_SCORE,
            scored_samples=summary.episodes,
            unscored_samples=summary.errors,
            metrics={
                "mean": EvalMetric(name="mean", value=value.mean),
                "stderr": EvalMetric(name="stderr", value=(value.high - value.low) / 2 / 1.96),
            },
            metadata={"low": value.low, "high": value.high, "n": value.n, "about": "95% interval, clustered by task"},
        )
        for name, value in values.items()
        if value.n
    ]
    ids = list(dict.fromkeys(sample.id for sample in samples))
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=when,
            task=f"userrl/{summary.gym}",
            dataset=EvalDataset(name=str(run.config.get("split", "")), samples=len(ids), sample_ids=ids),
            model=str(run.config.get("agent") or run.config.get("model") or "unknown"),
            config=EvalConfig(epochs=max(sample.epoch for sample in samples)),
            packages={"userrl": __version__},
            metadata={name: value for name, value in run.config.items() if name != "contents"},
        ),
        results=EvalResults(total_samples=len(samples), completed_samples=summary.episodes, scores=scores),
        stats=EvalStats(started_at=when, completed_at=when),
        samples=samples,
    )


def _when(run: Run) -> str:
    """When the file of episodes was last written: records themselves hold no times."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(run.file.stat().st_mtime, UTC).isoformat(timespec="seconds")


def _sample(episode: Episode) -> Any:
    from inspect_ai.event import InfoEvent
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.scorer import Score

    said = [_inspect_message(message) for message in conversation(episode)["messages"]]
    error = EvalError(message=episode.error, traceback="", traceback_ansi="") if episode.error else None
    values = (
        {"score": total(episode), "share": share(episode), "solved": gym_of(episode).solved(episode)} if error is None else {}
    )
    return EvalSample(
        id=episode.task.id,
        epoch=episode.attempt + 1,
        input=episode.task.prompt,
        target="",
        messages=said,
        scores={name: Score(value=value) for name, value in values.items()},
        metadata={
            "stop": episode.stop,
            "seed": episode.seed,
            "max_turns": episode.max_turns,
            "hidden": dict(episode.task.hidden),
        },
        events=[
            InfoEvent(source="userrl", data={"turn": i, "reward": turn.reward, "label": turn.label, "facts": dict(turn.facts)})
            for i, turn in enumerate(episode.turns, start=1)
        ],
        error=error,
        turn_count=len(episode.turns),
    )


def _inspect_message(message: Mapping[str, Any]) -> Any:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser
    from inspect_ai.tool import ToolCall

    match message["role"]:
        case "system":
            return ChatMessageSystem(content=message["content"])
        case "user":
            return ChatMessageUser(content=message["content"])
        case "tool":
            return ChatMessageTool(content=message["content"], tool_call_id=message["tool_call_id"])
    calls = [
        ToolCall(id=call["id"], function=call["function"]["name"], arguments=json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]
    return ChatMessageAssistant(content=message["content"] or "", tool_calls=calls or None)


_RUNS: Mapping[str, Callable[[Run, Path], Iterator[Path]]] = {"messages": _messages, "parquet": _parquet, "inspect": _inspect}


# --- reports -----------------------------------------------------------------------------------------------------


def _of_report(runs: Sequence[Path], form: str, folder: Path, warn: Callable[[str], None]) -> Iterator[Path]:
    from userrl.report.content import report
    from userrl.report.plots import png, svg
    from userrl.report.tables import to_csv, to_latex

    told, ending = report(runs), "tex" if form == "latex" else form
    for line in told.cautions:
        warn(line)
    made = told.tables if form in ("csv", "latex") else told.plots
    parts = {folder / f"{part.name}.{ending}": part for part in made}
    _check_folder(folder, ending, parts)
    for file, part in parts.items():
        if isinstance(part, Table):
            text = to_csv(part) if form == "csv" else to_latex(part)
            yield write_whole(file, text.encode("utf-8", "replace"))
        else:
            yield write_whole(file, svg(part).encode() if form == "svg" else png(part))


def _check_folder(folder: Path, ending: str, files: Collection[Path]) -> None:
    """Raises StoreError where files of an earlier export would stay beside these, and tell of other runs."""
    if others := sorted(file.name for file in folder.glob(f"*.{ending}") if file not in files):
        raise StoreError(
            f"{folder} holds {len(others)} files that this export would leave beside its own, as of an earlier one: "
            f"{', '.join(others[:3])}{', ...' if others[3:] else ''}. Choose another folder with --out, or remove them."
        )
