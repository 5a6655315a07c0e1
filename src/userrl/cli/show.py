"""What the terminal shows: two consoles, safe text, tables, progress."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from userrl.core import INVALID, Episode
from userrl.evaluate.metrics import Summary
from userrl.evaluate.statistics import Interval, few
from userrl.evaluate.talk import answerer, counterpart, ending, readable, spoken
from userrl.gyms.base import find
from userrl.llm.ledger import Ledger, Spent
from userrl.pipeline.estimate import Estimate

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

PLAIN_EVERY_S = 10.0
"""Where standard error is no terminal: seconds between two lines of progress."""
LEGEND = (
    "score: total reward; share: of the best score within reach; turns: number of the last turn that earned something; all are "
    "means over episodes; [95%]: interval, clustered by task"
)

AVERAGES = (
    "micro: average of the gyms, each weighted by its tasks; macro: each weighted alike (scores of gyms have different units; "
    "shares are of one)"
)
EFFORT = (
    "weighted: rewards, of which those of turn i count 1/i; questions: turns that say something to the user; read, typed: its "
    "tokens (a token is 4 characters); user: share of turns that need a person, for a reply or to judge an answer; "
    "U-k: episodes solved with at most k of them (pass@U-k)"
)
SHOWN_WITHIN = (2, 4, 8)
PASSES = (
    "pass@k: at least one of k attempts at a task solves it; pass^k: all k do; means over tasks with k scored attempts, so "
    "pass@1 is not quite 'solved' where attempts failed; [95%]: interval, clustered by task"
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


def told_apart(agents: Iterable[str]) -> dict[str, str]:
    """Each as `short` names it; in full where others would be called the same: the same model behind two endpoints."""
    names = {agent: short(agent) for agent in agents}
    times = Counter(names.values())
    return {agent: name if times[name] == 1 else agent for agent, name in names.items()}


def say(who: str, text: Text, style: str = "bold cyan", width: int = 8) -> None:
    """A line of a talk. What is said stays right of the names, so that no text can pass for another's line."""
    for i, part in enumerate(text.wrap(out, max(20, out.width - width))):
        part.rstrip()
        out.print(Text(f"{who if i == 0 else '':<{width}}", style=style) + part, soft_wrap=True)


def below_few(tasks: int) -> None:
    """Below a table with intervals, where its smallest part has few tasks."""
    if about := few(tasks):
        out.print(safe(f"{about} (docs/evaluation.md)", "dim"))


def tell(text: str, style: str = "") -> None:
    """A message on standard error: wrapped at words on a terminal, else on one line."""
    err.print(safe(text, style), soft_wrap=not err.is_terminal)


# --- progress ------------------------------------------------------------------------------------------------


@contextmanager
def progress(*, on: bool = True) -> Iterator[Watch]:
    """Progress on standard error: a bar for each stage, or where that is no terminal, a plain line now and then.

    on: else none at all, where a person types in between.
    """
    if not on:
        yield lambda *_: None
        return
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


def summary_table(
    rows: Sequence[tuple[str, Summary]], title: str, averages: Sequence[Summary] = (), breaks: Collection[int] = ()
) -> Table:
    """One line per agent and gym, within 80 columns, then one for each average over gyms.

    What is the same in all lines is left to the title.

    Args:
        breaks: numbers of rows before which a section begins.
    """
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
    for i, (agent, s) in enumerate([*rows, *(("", average) for average in averages)]):
        if i == len(rows) or i in breaks:
            table.add_section()
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


def parts_table(rows: Sequence[tuple[str, Summary]]) -> Table | None:
    """What gyms want scored apart, and what an agent that does nothing would have; None where no gym tells either."""
    several = len({s.gym for _, s in rows}) > 1
    lines: dict[tuple[str, str, int], Summary] = {}
    for agent, s in rows:
        for part in s.parts:
            lines[short(agent), part.gym, -1] = part
        if s.idle is not None:
            lines["(does nothing)", s.gym if several else "", s.tasks] = s.idle
    if not lines:
        return None
    table = new_table()
    table.add_column("agent", overflow="fold")
    table.add_column("tasks", overflow="fold")
    for name in ("score [95%]", "solved [95%]", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for (agent, of, _), s in sorted(lines.items(), key=lambda line: line[0][2] >= 0):
        figures = (interval_text(s.score, 2), percent_text(s.solved), str(s.episodes))
        table.add_row(safe(agent), safe(of or "all"), *figures)
    return table


def effort_table(summaries: Sequence[Summary]) -> Table:
    """What was asked of the user, a line for each gym, within 80 columns."""
    table = new_table("What it asked of the user, an episode")
    table.add_column("gym", overflow="fold")
    for name in ("weighted", "questions", "read", "typed", "repeats", "user", *(f"U-{k}" for k in SHOWN_WITHIN)):
        table.add_column(name, justify="right", no_wrap=True)
    for s in summaries:
        if (e := s.effort) is not None:
            counts = (f"{s.time_weighted:.2f}", f"{e.questions:.1f}", f"{e.read:.0f}", f"{e.typed:.0f}", f"{e.repeats:.1f}")
            table.add_row(safe(s.gym), *counts, f"{e.rate:.0%}", *(f"{e.within[k]:.0%}" for k in SHOWN_WITHIN))
    return table


def passes_table(summaries: Sequence[Summary]) -> Table | None:
    """What several attempts solve, a line for each gym and k; None where no task has several."""
    if not any(s.passes for s in summaries):
        return None
    table = new_table("Several attempts at a task")
    table.add_column("gym", overflow="fold")
    for name in ("k", "pass@k [95%]", "pass^k [95%]", "tasks"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in summaries:
        for i, p in enumerate(s.passes):
            table.add_row(safe("" if i else s.gym), str(p.k), percent_text(p.any), percent_text(p.all), str(p.any.n))
    return table


def print_summaries(
    rows: Sequence[tuple[str, Summary]], title: str, averages: Sequence[Summary] = (), breaks: Collection[int] = ()
) -> None:
    """The table of summaries, and that of their parts where there are any."""
    out.print(summary_table(rows, title, averages, breaks))
    if (parts := parts_table(rows)) is not None:
        out.print()
        out.print(parts)


def print_cautions(lines: Iterable[str]) -> None:
    """What must be said above figures."""
    for line in lines:
        out.print(safe(line, "bold yellow"))


def cost_table(ledger: Ledger) -> Table:
    """What the models of a run took, failed calls included: a line for each chair, gym and model, and one for all."""
    table = new_table("Model calls")
    failures = ledger.total.failed > 0
    for name in ("chair", "gym", "model"):
        table.add_column(name, overflow="fold")
    for name in ("calls", *(["failed"] if failures else []), "tokens read", "written", "dollars"):
        table.add_column(name, justify="right", no_wrap=True)
    for (role, gym, model), spent in sorted(ledger.rows.items()):
        table.add_row(safe(role), safe(gym), safe(model), *_spent_cells(spent, failures))
    if len(ledger.rows) > 1:
        table.add_row("all", "", "", *_spent_cells(ledger.total, failures))
    return table


def _spent_cells(spent: Spent, failures: bool) -> tuple[str, ...]:
    """The dollars are "-" where no price is known, and a lower bound where some are not."""
    known = f"{'>' if spent.unpriced else ''}{spent.usd:.4g}"
    dollars = "-" if spent.unpriced and spent.unpriced == spent.calls else known
    failed = (f"{spent.failed:,}",) if failures else ()
    return (f"{spent.calls:,}", *failed, f"{spent.read:,}", f"{spent.written:,}", dollars)


def estimate_table(rows: Sequence[Estimate], episodes: int) -> Table:
    """What a job of so many episodes would take of each chair's model: a line for the least and one for the most."""
    table = new_table(f"Estimate for {episodes:,} episodes")
    for name in ("chair", "model"):
        table.add_column(name, overflow="fold")
    for name in ("", "calls", "tokens read", "written", "dollars"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        for i, end in enumerate(("least", "most")):
            counts = (f"{span[i]:,.0f}" for span in (row.calls, row.read, row.written))
            names = ("", "") if i else (row.role, safe(row.model))
            table.add_row(*names, end, *counts, f"{row.usd[i]:,.2f}" if row.usd else "unknown")
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
        say(answerer(episode.task.gym, action), cut(readable(turn.feedback)), "cyan")
    say("end", safe(ending(episode)), "cyan")
    out.print()
