"""Sections of a report on how episodes go: turn by turn, from the worst to the best, and some of them to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from userrl.core import INVALID, Episode
from userrl.evaluate.metrics import share, total
from userrl.evaluate.talk import answerer, counterpart, ending, readable, spoken
from userrl.gyms.base import find
from userrl.report.plots import Line, Plot
from userrl.report.runs import BINS, Told, gyms
from userrl.report.sections import Sample, SampleTurn, Section
from userrl.report.tables import Cell, Column, Table

LONGEST = 2_000
"""Characters of a text in a sample episode; the rest is left out, and so told."""
QUANTILES = {"worst": 0.0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "best": 1.0}
FAILED_SHOWN = 3
"""Failed episodes among the samples of a gym."""


def by_turn(runs: Sequence[Told]) -> Section:
    plots = []
    for gym in gyms(runs):
        own = [told for told in runs if gym in told.measured]
        lines, rows = [], []
        for told in own:
            m = told.measured[gym]
            x = list(range(1, len(m.so_far) + 1))
            so_far = m.so_far
            lines.append(
                Line(told.letter, told.color, x, [v.mean for v in so_far], [v.low for v in so_far], [v.high for v in so_far])
            )
            rows += [(told.letter, turn, m.by_turn[turn - 1], so_far[turn - 1]) for turn in x]
        columns = (Column("run"), Column("turn", "number"), Column("reward of it", "number", 3), Column("so far", "number", 3))
        note = "reward of it: over the episodes that reached the turn; so far: over all, those that ended earlier as they ended."
        table = Table(f"by-turn-{gym}", f"{gym}: reward by turn", columns, tuple(rows), note)
        ends = ", ".join(f"{line.name} ends at {line.y[-1]:.2f}" for line in lines if line.y)
        plots.append(
            (
                Plot(
                    f"by-turn-{gym}",
                    f"{gym}: reward so far",
                    f"Rises with the turns: {ends}",
                    "turn",
                    "reward",
                    tuple(lines),
                    whole=True,
                ),
                table,
            )
        )
    about = "Mean reward earned up to each turn, with 95% intervals; episodes that have ended keep what they have."
    return Section("by-turn", "Reward by turn", about, plots=tuple(plots))


def distributions(runs: Sequence[Told]) -> Section:
    plots = []
    edges = [i / BINS for i in range(BINS + 1)]
    for gym in gyms(runs):
        own = [told for told in runs if gym in told.measured]
        bars = [(told, told.measured[gym].shares) for told in own]
        lines = tuple(Line(told.letter, told.color, edges, [v.mean for v in values]) for told, values in bars)
        rows: list[tuple[Cell, ...]] = []
        for told, values in bars:
            rows += [(told.letter, f"{edges[i]:.2f} to {edges[i + 1]:.2f}", v) for i, v in enumerate(values) if v.mean]
        columns = (Column("run"), Column("share"), Column("episodes", "percent", 1))
        table = Table(
            f"shares-{gym}", f"{gym}: distribution of the share", columns, tuple(rows), "bars without episodes left out"
        )
        alt = "; ".join(
            f"{told.letter}: {values[0].mean:.0%} in the lowest bar, {values[-1].mean:.0%} in the highest"
            for told, values in bars
        )
        plots.append((Plot(f"shares-{gym}", f"{gym}: shares", alt, "share", "episodes", lines, "steps", (0, 1)), table))
        lengths = [(told, told.measured[gym].turns) for told in own]
        most = max(len(values) for _, values in lengths)
        lines = tuple(
            Line(told.letter, told.color, [i + 0.5 for i in range(len(values) + 1)], [v.mean for v in values])
            for told, values in lengths
        )
        rows = [(told.letter, i, v) for told, values in lengths for i, v in enumerate(values, start=1) if v.mean]
        columns = (Column("run"), Column("turns", "number"), Column("episodes", "percent", 1))
        table = Table(f"turns-{gym}", f"{gym}: turns of an episode", columns, tuple(rows))
        alt = "; ".join(f"{told.letter}: {told.measured[gym].means['turns'].mean:.1f} turns on average" for told, _ in lengths)
        plots.append(
            (
                Plot(f"turns-{gym}", f"{gym}: turns", alt, "turns", "episodes", lines, "steps", (0.5, most + 0.5), whole=True),
                table,
            )
        )
    return Section("distributions", "Distributions", "Part of the episodes.", plots=tuple(plots))


def samples(runs: Sequence[Told]) -> Section | None:
    samples = [sample for told in runs for sample in _of_run(told)]
    about = "Of each run and gym, episodes at the quantiles of the share; then failed ones. Texts are as they were written."
    return Section("samples", "Sample episodes", about, samples=tuple(samples)) if samples else None


def _of_run(told: Told) -> Iterator[Sample]:
    stops, gyms, shares = (told.episodes[name].to_pylist() for name in ("stop", "gym", "share"))
    for gym in dict.fromkeys(gyms):
        scored = sorted((i for i, g in enumerate(gyms) if g == gym and stops[i] != "error"), key=lambda i: (shares[i], i))
        chosen: dict[int, str] = {}
        for name, quantile in QUANTILES.items():
            if scored:
                chosen.setdefault(scored[round(quantile * (len(scored) - 1))], name)
        failed = [i for i, g in enumerate(gyms) if g == gym and stops[i] == "error"][:FAILED_SHOWN]
        for i, name in [*chosen.items(), *((i, "failed") for i in failed)]:
            yield sample(told.records[i], f"{told.letter}: {gym}, {name}")


def sample(episode: Episode, title: str) -> Sample:
    """An episode for people. Its texts are those of models and task files: whoever shows them has to escape them."""
    gym = episode.task.gym
    several = len(find(gym).actions) > 1
    turns = []
    for number, turn in enumerate(episode.turns, start=1):
        action = turn.action
        said = f"{action.kind}: {action.text}" if several and action.kind != INVALID else action.text or action.raw
        by = answerer(gym, action)
        turns.append(SampleTurn(number, cut(said), spoken(turn.label), turn.reward, by, cut(readable(turn.feedback))))
    worth = "" if episode.stop == "error" else f", score {total(episode):.2f}, share {share(episode):.2f}"
    return Sample(f"{title}{worth}", episode.task.id, counterpart(gym), cut(episode.task.prompt), tuple(turns), ending(episode))


def cut(text: str) -> str:
    """A text of at most `LONGEST` characters."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
