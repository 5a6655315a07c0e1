"""What the terminal shows: two consoles, safe text, tables, progress."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from userrl.core import INVALID, Episode
from userrl.evaluate.metrics import Summary, share
from userrl.evaluate.statistics import Interval
from userrl.gyms.base import find
from userrl.scripted import Scripted

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

PLAIN_EVERY_S = 10.0
"""Where standard error is no terminal: seconds between two lines of progress."""
LEGEND = (
    "score: total reward; share: of the reward within reach; turns: number of the last turn that earned something; "
    "[95%]: interval, clustered by task"
)

Watch = Callable[[str, int, int, str], None]
"""Told of progress: stage, done, of how many, a note."""


def safe(text: str, style: str = "") -> Text:
    """Text of a model, a task file or a person: no markup, no control sequences, no lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    clean = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return Text(clean, style=style)


def sentence(text: str) -> str:
    """A gym's one-line summary with a capital and a period, however its author wrote it."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def short(agent: str) -> str:
    """An agent as a title names it: a model without its URL, a folder by its last two parts."""
    return agent.partition("@http")[0] if "@" in agent else "/".join(agent.split("/")[-2:])


def say(who: str, text: Text, style: str = "bold cyan", width: int = 8) -> None:
    """A line of a talk. What is said stays right of the names, so that no text can pass for another's line."""
    for i, part in enumerate(text.wrap(out, max(20, out.width - width))):
        part.rstrip()
        out.print(Text(f"{who if i == 0 else '':<{width}}", style=style) + part, soft_wrap=True)


def tell(text: str, style: str = "") -> None:
    """A message on standard error: wrapped at words on a terminal, else on one line."""
    err.print(safe(text, style), soft_wrap=not err.is_terminal)


# --- progress ------------------------------------------------------------------------------------------------


@contextmanager
def progress() -> Iterator[Watch]:
    """Progress on standard error: a bar for each stage, or where that is no terminal, a plain line now and then."""
    if not err.is_terminal:
        yield _plain()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=err, refresh_per_second=4) as bars:
        lines: dict[str, TaskID] = {}

        def watch(stage: str, done: int, total: int, note: str) -> None:
            if stage not in lines:
                lines[stage] = bars.add_task(stage, total=total, note="")
            bars.update(lines[stage], completed=done, total=total, note=note)

        yield watch


def _plain() -> Watch:
    said_at = float("-inf")

    def watch(stage: str, done: int, total: int, note: str) -> None:
        nonlocal said_at
        if done >= total or time.monotonic() - said_at >= PLAIN_EVERY_S:
            said_at = time.monotonic()
            tell(f"{stage}  {done}/{total}  {note}".rstrip())

    return watch


# --- tables --------------------------------------------------------------------------------------------------


def new_table(title: str = "") -> Table:
    """A table of the house, which fits a terminal of 80 columns."""
    return Table(
        title=safe(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def interval_text(interval: Interval, digits: int = 3) -> str:
    numbers = (f"{x:.{digits}f}" for x in (interval.mean, interval.low, interval.high))
    return "{} [{}, {}]".format(*numbers) if interval.n else "-"


def percent_text(interval: Interval) -> str:
    return f"{interval.mean:.0%} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]" if interval.n else "-"


def summary_table(rows: Sequence[tuple[str, Summary]], title: str) -> Table:
    """One line per agent and gym, within 80 columns. What is the same in all lines is left to the title."""
    table = new_table(title)
    failures = any(s.errors for _, s in rows)
    shown = {
        "agent": len({name for name, _ in rows}) > 1,
        "gym": len({s.gym for _, s in rows}) > 1,
        "n": not failures and len({s.episodes for _, s in rows}) > 1,
        "failed": failures,
    }
    columns = ("agent", "gym", "score [95%]", "share [95%]", "solved [95%]", "turns", "n", "failed")
    kept = [name for name in columns if shown.get(name, True)]
    for name in kept:
        is_name = name in ("agent", "gym")
        table.add_column(name, justify="left" if is_name else "right", no_wrap=not is_name)
    for agent, s in rows:
        cells: dict[str, str | Text] = {
            "agent": safe(agent),
            "gym": safe(s.gym),
            "score [95%]": interval_text(s.score, 2),
            "share [95%]": interval_text(s.share, 2 if shown["gym"] and failures else 3),
            "solved [95%]": percent_text(s.solved),
            "turns": f"{s.effective_turns:.1f}" if s.episodes else "-",
            "n": str(s.episodes),
            "failed": f"{s.errors}/{s.episodes + s.errors}",
        }
        table.add_row(*(cells[name] for name in kept))
    return table


def mix_table(rows: Sequence[tuple[str, dict[str, float]]], title: str) -> Table:
    """Share of each sort of action, a column per agent; sorts that nobody used are left out."""
    table = new_table(title)
    table.add_column("action")
    for name, _ in rows:
        table.add_column(safe(name.replace("_", " ")), justify="right", max_width=12)
    for label in dict.fromkeys(label for _, mix in rows for label in mix):
        if any(mix.get(label) for _, mix in rows):
            table.add_row(spoken(label), *(f"{mix.get(label, 0.0):.3f}" for _, mix in rows))
    return table


def mix_text(mix: dict[str, float]) -> str:
    """Share of each sort of action, in one line; sorts that were not used are left out."""
    return ", ".join(f"{spoken(label)} {part:.1%}" for label, part in mix.items() if part)


def spoken(label: str) -> str:
    return label.replace("_", "-")


def print_episode(episode: Episode, title: str, longest: int | None = None) -> None:
    """An episode as a talk, with the reward of each turn; texts of more than `longest` characters are cut."""

    def cut(text: str) -> Text:
        return safe(text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…")

    other, several = counterpart(episode.task.gym), len(find(episode.task.gym).actions) > 1
    out.print(safe(f"{title} (task {episode.task.id})", "bold"), soft_wrap=True)
    say(other, cut(episode.task.prompt), "cyan")
    for turn in episode.turns:
        action = turn.action
        said = f"{action.kind} {action.text}" if several and action.kind != INVALID else action.text or action.raw
        mark = Text(f"  {spoken(turn.label)} {turn.reward:+.2f}", style="green" if turn.reward else "dim")
        say("agent", cut(said) + mark, "cyan")
        say(other, cut(turn.feedback), "cyan")
    say("end", safe(ending(episode)), "cyan")
    out.print()


def counterpart(gym: str) -> Literal["user", "gym"]:
    """Who answers the agent: the user, or in a gym whose scripted user has no answer to anything, the rules alone."""
    user = find(gym).cast().user
    return "gym" if isinstance(user, Scripted) and not user.answers else "user"


def ending(episode: Episode) -> str:
    """How an episode ended and what it earned."""
    if episode.stop == "error":
        return f"failed, so there is no score: {episode.error}"
    ends = {"done": "finished", "turn_limit": f"all {episode.max_turns} turns used", "running": "left before the end"}
    return f"{ends[episode.stop]}; earned {sum(episode.rewards):.2f}, {share(episode):.0%} of what was within reach"
