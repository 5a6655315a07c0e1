"""The section of a report on how training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from userrl.evaluate.statistics import Interval
from userrl.evaluate.talk import spoken
from userrl.report.plots import Line, Plot
from userrl.report.runs import Told
from userrl.report.sections import Section
from userrl.report.tables import Column, Table

_TABLED = 40
"""Steps that a table of training shows at most, evenly spaced."""


def learning(runs: Sequence[Told]) -> Section | None:
    trained = [(told, told.run.steps.to_pydict()) for told in runs if told.run.steps.num_rows]
    if not trained:
        return None
    plots = []
    if any("share" in steps or "validation.share.mean" in steps for _, steps in trained):
        plots.append(_curve(trained))
    names = dict.fromkeys(name for _, steps in trained for name, values in steps.items() if _drawn_apart(name, values))
    plots += [_trace(name, trained) for name in names]
    plots += [_mix_curve(told, steps) for told, steps in trained if any(name.startswith("mix.") for name in steps)]
    about = (
        "Share: of the best score within reach. Validation tasks with 95% intervals; training episodes are those of one step, "
        "sampled, and no interval was kept for them."
    )
    return Section("learning", "Learning curves", about, plots=tuple(plots))


def _drawn_apart(name: str, values: Sequence[Any]) -> bool:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return bool(numbers) and name not in ("step", "share") and "." not in name


def _curve(trained: Sequence[tuple[Told, Mapping[str, Sequence[Any]]]]) -> tuple[Plot, Table]:
    lines, rows = [], []
    for told, steps in trained:
        at = [i for i, v in enumerate(steps.get("share", ())) if v is not None]
        if at:
            name = f"{told.letter} training"
            lines.append(Line(name, told.color, [steps["step"][i] for i in at], [steps["share"][i] for i in at], dashed=True))
        own = {part: steps.get(f"validation.share.{part}", [None] * len(steps["step"])) for part in ("mean", "low", "high", "n")}
        tested = [i for i, v in enumerate(own["mean"]) if v is not None]
        if tested:
            low, mean, high = ([own[part][i] for i in tested] for part in ("low", "mean", "high"))
            lines.append(
                Line(f"{told.letter} validation", told.color, [steps["step"][i] for i in tested], mean, low, high, dashed=False)
            )
        for i in sorted({*_some(at), *tested}):
            value = Interval(own["mean"][i], own["low"][i], own["high"][i], own["n"][i] or 1) if i in set(tested) else None
            rows.append((told.letter, steps["step"][i], steps["share"][i] if i in set(at) else None, value))
    columns = (Column("run"), Column("step", "number"), Column("training", "number", 3), Column("validation", "number", 3))
    table = Table("learning", "Share while training", columns, tuple(rows))
    alt = "; ".join(f"{line.name}: from {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines)
    return Plot("learning", "Share while training", alt, "step", "share", tuple(lines), y_range=(0, 1), whole=True), table


def _trace(name: str, trained: Sequence[tuple[Told, Mapping[str, Sequence[Any]]]]) -> tuple[Plot, Table]:
    lines, rows = [], []
    for told, steps in trained:
        at = [i for i, v in enumerate(steps.get(name, ())) if v is not None]
        if at:
            lines.append(Line(told.letter, told.color, [steps["step"][i] for i in at], [float(steps[name][i]) for i in at]))
            rows += [(told.letter, steps["step"][i], float(steps[name][i])) for i in _some(at)]
    said = name.replace("_", " ").replace(".", " ")
    table = Table(
        f"training-{_file(name)}", said, (Column("run"), Column("step", "number"), Column(said, "number", 4)), tuple(rows)
    )
    alt = "; ".join(f"{line.name}: from {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines)
    return Plot(f"training-{_file(name)}", said, alt, "step", "", tuple(lines), whole=True), table


def _mix_curve(told: Told, steps: Mapping[str, Sequence[Any]]) -> tuple[Plot, Table]:
    labels = [name for name in steps if name.startswith("mix.") and any(steps[name])]
    lines = tuple(
        Line(spoken(name.removeprefix("mix.")), i, list(steps["step"]), [v or 0.0 for v in steps[name]])
        for i, name in enumerate(labels)
    )
    rows = [(steps["step"][i], *(steps[name][i] for name in labels)) for i in _some(list(range(len(steps["step"]))))]
    columns = (Column("step", "number"), *(Column(line.name, "percent", 1) for line in lines))
    title = f"{told.letter}: actions while training"
    table = Table(f"training-actions-{told.letter.lower()}", title, columns, tuple(rows))
    alt = "; ".join(f"{line.name}: from {line.y[0]:.0%} to {line.y[-1]:.0%}" for line in lines)
    return Plot(table.name, title, alt, "step", "share of turns", lines, y_range=(0, 1), whole=True), table


def _some(at: Sequence[int]) -> list[int]:
    """At most `_TABLED` of the places, first and last among them."""
    if len(at) <= _TABLED:
        return list(at)
    return sorted({at[round(i * (len(at) - 1) / (_TABLED - 1))] for i in range(_TABLED)})


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").lower()
