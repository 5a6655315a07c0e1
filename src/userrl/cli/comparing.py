"""The command compare: two runs on the same tasks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from userrl.cli.evaluating import print_json
from userrl.cli.show import below_few, interval_text, new_table, out, print_cautions, print_episode, safe, told_apart
from userrl.errors import ConfigError
from userrl.evaluate.compare import Comparison, Difference, Divergence, check_whole, compare_outlines, divergence, task_pairs
from userrl.evaluate.front import Front, check_axes, draw
from userrl.evaluate.front import front as find_front
from userrl.evaluate.outlines import check_metric, outline
from userrl.evaluate.played import ABOUT
from userrl.evaluate.results import document, plain
from userrl.evaluate.statistics import LEVEL, POWER
from userrl.report.frames import run_names, runs_in
from userrl.store import to_record

LEGEND = (
    f"B - A: over the tasks that both scored, each counting the same; [95%]: interval, clustered by task; p: how often tossing "
    f"each task's sign gives as much; Holm: the same, corrected for the number of gyms; least: the smallest true difference "
    f"that so many tasks show (p < {LEVEL:g}) in {POWER:.0%} of such comparisons"
)
FRONT = (
    "front: no other run reaches as much in fewer turns, or more in as many; in: how often that holds when the tasks are drawn "
    "anew; [95%]: interval, clustered by task, over the tasks that all runs scored; a run that earns nothing has 0 turns"
)
WHY = {"action": "other actions", "answer": "other answers to the same action", "end": "an earlier end"}
SHOWN = 3
"""Tasks named at either end, and turns told one by one."""


def compare(runs: Sequence[Path], metric: str, task: str | None, as_json: bool, unfinished: bool = False) -> None:
    """The others with the first. unfinished: also where one of them is not played to its end."""
    check_metric(metric)
    if task is not None and as_json:
        raise ConfigError("--json shows figures, and --task two episodes: give one of the two.")
    first, *others = named(runs)
    if not others:
        raise ConfigError(f"One run is named, {first}. Name another one to compare it with, or a folder that holds several.")
    if task is not None:
        if len(others) > 1:
            several = f"{first}, {others[0]} and {len(others) - 1} more"
            raise ConfigError(f"--task shows the episodes of two runs; named are {several}. Name two of them.")
        return show_task(first, others[0], task)
    before = outline(first, [metric])
    found = []
    for other in others:
        kept = outline(other, [metric])
        check_whole(before, kept, unfinished=unfinished)
        found.append((other, compare_outlines(before, kept, metric)))
    if as_json:
        (after, result), *more = ((other, plain(result)) for other, result in found)
        parts = {"before": first, "after": after, **result}
        rest = {"others": [{"after": after, **result} for after, result in more]} if more else {}
        return print_json(document("compare", {**parts, **rest}))
    for number, (other, result) in enumerate(found):
        if number:
            out.print()
        print_comparison(first, other, result, legend=not number)
    if any(d.moved for _, result in found for d in result.gyms):
        out.print(safe(f"\nRead one: userrl compare {first} {others[0]} --task ID", "dim"), soft_wrap=True)
    return None


def print_comparison(before: Path, after: Path, result: Comparison, *, legend: bool) -> None:
    for name, run in (("A", before), ("B", after)):
        out.print(safe(f"{name}: {run}"), soft_wrap=True)
    for line in settings(result):
        out.print(safe(f"   {line}", "dim"), soft_wrap=True)
    print_cautions(f"{name} is {run}. {ABOUT}" for name, run in zip("AB", result.unfinished, strict=True) if run)
    out.print()
    out.print(table(result))
    if legend:
        out.print(safe(LEGEND, "dim"))
        below_few(min((d.tasks for d in result.gyms), default=100))
    for line in omissions(result):
        out.print(safe(line, "yellow"))
    for d in result.gyms:
        out.print(safe(f"\n{d.gym}", "bold"))
        for line in (needs(d), parting(d), movers(d)):
            out.print(safe(line))


def named(folders: Sequence[Path]) -> list[Path]:
    """Runs as every command takes them: a folder that holds none stands for all runs below it."""
    return [run for folder in folders for run in runs_in(folder)]


def front(runs: Sequence[Path], by: str, against: str, gym: str | None, picture: Path | None, as_json: bool) -> None:
    check_axes(by, against)
    found = find_front(named(runs), by, against, gym)
    if picture is not None:
        draw(found, names(found), picture)
    if as_json:
        return print_json(document("front", plain(found)))
    unfinished = [(name, p.unfinished) for name, p in zip(names(found), found.points, strict=True) if p.unfinished]
    print_cautions(f"{name}: {run}. {ABOUT}" for name, run in unfinished)
    out.print(front_table(found))
    out.print(safe(FRONT, "dim"))
    below_few(found.tasks)
    if found.left_out:
        out.print(safe(f"Left out, since only some of the runs scored them: {_count(found.left_out, 'task')}.", "yellow"))
    if found.changed:
        out.print(safe(f"Left out, since the runs tell it differently: {_count(found.changed, 'task')}.", "yellow"))
    if failed := sum(p.errors for p in found.points):
        out.print(safe(f"Failed episodes, which have no score: {failed:,} of all runs.", "yellow"))
    if picture is not None:
        out.print(safe(f"Picture: {picture}", "dim"), soft_wrap=True)
    return None


def front_table(found: Front) -> Table:
    """A line for each run, from the fewest turns to the most, within 80 columns."""
    table = new_table(f"{found.by} against {found.against}, over {_count(found.tasks, 'task')}")
    for name in ("run", "agent"):
        table.add_column(name, overflow="fold")
    for name in (f"{found.against} [95%]", f"{found.by} [95%]", "front", "in"):
        table.add_column(name, justify="right", no_wrap=True)
    agents = told_apart(p.agent for p in found.points)
    for name, p in zip(names(found), found.points, strict=True):
        figures = (interval_text(p.turns, 1), interval_text(p.success), "yes" if p.on_front else "no", f"{p.on_front_share:.0%}")
        table.add_row(safe(name), safe(agents[p.agent]), *figures, style="bold" if p.on_front else "")
    return table


def names(found: Front) -> list[str]:
    """Of its points."""
    return run_names([Path(point.run) for point in found.points])


def settings(result: Comparison) -> list[str]:
    """The settings that differ, one a line."""
    told = []
    for name, values in result.settings.items():
        called = told_apart(map(str, values)) if name == "agent" else {}
        first, second = (called.get(str(value), f"{value!s:.60}") for value in values)
        told.append(f"{name}: {first} | {second}" if first != second else f"{name} differs")
    return told


def table(result: Comparison) -> Table:
    """A line for each gym and average, within 80 columns."""
    lines = new_table(f"B - A: {result.metric}")
    lines.add_column("gym")
    for name in ("tasks", "A", "B", "B - A [95%]", "p", "Holm", "least"):
        lines.add_column(name, justify="right", no_wrap=True)
    for i, d in enumerate((*result.gyms, *result.averages)):
        if i == len(result.gyms):
            lines.add_section()
        figures = (f"{d.before:.2f}", f"{d.after:.2f}", interval_text(d.difference))
        lines.add_row(safe(d.gym), str(d.tasks), *figures, p_text(d.p), p_text(d.adjusted), number(d.detectable))
    return lines


def p_text(p: float) -> str:
    return "" if math.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def omissions(result: Comparison) -> list[str]:
    """What is not in the comparison."""
    lines = []
    if any(result.failed):
        lines.append("Failed episodes, which have no score: {} of A, {} of B.".format(*result.failed))
    if result.left_out:
        lines.append(f"Left out, since only one run has a score of them: {_count(result.left_out, 'task')}.")
    if result.changed:
        lines.append(f"Left out, since the two runs tell it differently: {_count(result.changed, 'task')}.")
    return lines


def needs(d: Difference) -> str:
    """How much would have to be played to show a difference as large as this one."""
    if not d.difference.mean:
        return "No difference on average."
    if d.tasks_needed is None:
        return "From so few tasks, or from tasks that all differ alike, nothing can be said about how many would be needed."
    size, tasks = f"{abs(d.difference.mean):.3f}", _count(d.tasks_needed, "task")
    many = f"To show a true difference of {size}, about {tasks} are needed; here {_are(d.tasks)}."
    if not d.attempts_known:
        return f"{many} What more attempts at each would help is not known: it takes several at most tasks."
    if d.attempts_needed is None:
        return f"{many} With these tasks, no number of attempts would do: they differ too much among themselves."
    return f"{many} With these tasks, about {_count(d.attempts_needed, 'attempt')} at each; here {d.attempts:.3g}."


def parting(d: Difference) -> str:
    """Where the episodes of the two runs part, in a line."""
    if not d.pairs:
        return "No attempt is in both runs, so there is nothing to lay side by side."
    parted = sum(d.parted.values())
    alike = (
        f"1 of {_count(d.pairs, 'pair')} is" if d.pairs - parted == 1 else f"{d.pairs - parted} of {_count(d.pairs, 'pair')} are"
    )
    same = f"Episodes: {alike} the same throughout"
    if not parted:
        return f"{same}."
    turns, causes = Counter[int](), Counter[str]()
    for where, count in d.parted.items():
        turns[where.turn] += count
        causes[WHY[where.cause]] += count
    first = sorted(turns)[:SHOWN]
    told = [f"turn {turn} ({turns[turn]})" for turn in first]
    later = parted - sum(turns[turn] for turn in first)
    where_text = ", ".join([*told, *([f"later ({later})"] if later else [])])
    return f"{same}; the others part at {where_text}, by {', '.join(f'{why} ({n})' for why, n in causes.most_common())}."


def movers(d: Difference) -> str:
    """The tasks that differ most."""
    losses = [(task, change) for task, change in d.moved[:SHOWN] if change < 0]
    gains = [(task, change) for task, change in d.moved[: -SHOWN - 1 : -1] if change > 0]
    told = [
        f"{what}: {', '.join(f'{task} ({change:+.2f})' for task, change in tasks)}"
        for what, tasks in (("Largest losses", losses), ("largest gains", gains))
        if tasks
    ]
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else "No task differs."


def show_task(before: Path, after: Path, task: str) -> None:
    """The first pair of episodes of a task that part, or the first of all where none does, one after the other."""
    pairs = task_pairs(before, after, task)
    first, second = next((pair for pair in pairs if divergence(*pair)), pairs[0])
    for name, run, episode in (("A", before, first), ("B", after, second)):
        print_episode(episode, f"{name}: {run}, attempt {episode.attempt + 1}")
    out.print(safe(apart(divergence(first, second), same=to_record(first, tokens=False) == to_record(second, tokens=False))))
    others = sum(divergence(*pair) is not None for pair in pairs) - 1
    if others > 0:
        out.print(safe(f"Other attempts at this task that part: {others}.", "dim"))


def apart(parted: Divergence | None, *, same: bool) -> str:
    """Where two episodes part, in a sentence. same: whether their records are equal in everything."""
    if parted is None:
        return "The two are the same." if same else "The two are the same in what was said and earned."
    before = {1: "They differ from the first turn on", 2: "The first turn is the same; they differ from turn 2 on"}.get(
        parted.turn, f"The first {parted.turn - 1} turns are the same; they differ from turn {parted.turn} on"
    )
    return f"{before}: {WHY[parted.cause]}."


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _are(n: int) -> str:
    return "is 1" if n == 1 else f"are {n:,}"
