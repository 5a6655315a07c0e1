"""What the terminal shows: one console, safe text, tables, progress."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from userrl.core import Episode
from userrl.evaluate.metrics import Summary, share

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def safe(text: str, style: str = "") -> Text:
    """Text of a model, a task file or a person: no markup, no control sequences, no lone surrogates."""
    clean = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return Text(clean, style=style)


def progress() -> Progress:
    """A progress bar for long work, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
    )


def summary_table(rows: Sequence[tuple[str, Summary]], title: str) -> Table:
    """One line per agent and gym."""
    table = Table(title=title, title_justify="left")
    for name in ("agent", "gym"):
        table.add_column(name)
    for name in ("score [95%]", "share of reachable [95%]", "solved", "effective turns", "episodes", "errors"):
        table.add_column(name, justify="right")
    for name, s in rows:
        cells = (str(s.score), str(s.share), f"{s.solved.mean:.3f}", f"{s.effective_turns:.1f}", str(s.episodes), str(s.errors))
        table.add_row(safe(name), s.gym, *cells)
    return table


def mix_table(rows: Sequence[tuple[str, dict[str, float]]], title: str) -> Table:
    """Share of each sort of action, one line per agent."""
    labels = list(dict.fromkeys(label for _, mix in rows for label in mix))
    table = Table(title=title, title_justify="left")
    table.add_column("agent")
    for label in labels:
        table.add_column(label.replace("_", "-"), justify="right")
    for name, mix in rows:
        table.add_row(safe(name), *(f"{mix.get(label, 0.0):.3f}" for label in labels))
    return table


def print_episode(episode: Episode, title: str) -> None:
    """An episode as a talk, with the reward of each turn."""
    out.print(safe(f"{title}   task {episode.task.id}", "bold"))
    out.print(safe(f"  user   {episode.task.prompt}"))
    for turn in episode.turns:
        said = turn.action.text or turn.action.raw
        out.print(safe(f"  agent  {said[:200]}"), safe(f"   {turn.label} {turn.reward:+.2f}", "green" if turn.reward else "dim"))
        out.print(safe(f"  user   {turn.feedback[:200]}"))
    end = f"error: {episode.error}" if episode.stop == "error" else f"{episode.stop}, {share(episode):.2f} of the reachable reward"
    out.print(safe(f"  end    {end}\n", "dim"))
