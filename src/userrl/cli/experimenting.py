"""The commands `userrl experiment ...`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.cli.evaluating import check_begun, kept
from userrl.cli.show import interval_text, new_table, out, progress, safe
from userrl.cli.training import texts
from userrl.config import resolve
from userrl.core import INVALID
from userrl.errors import ConfigError
from userrl.evaluate.statistics import ALIKE, Interval
from userrl.pipeline import experiment, experiment_plot, experiment_table
from userrl.pipeline.experiment import COLD_START, SAMPLED, SHAPINGS, START, Arm, ExperimentJob
from userrl.pipeline.experiment_table import LEAST_SEEDS, Contrast, Report
from userrl.rewards.advantage import CREDIT, SCORE

SHOWN_MIX = 7
"""Sorts of action in the table, the most frequent ones."""
LEGEND = (
    "Share of the reachable reward on the test tasks; [95%]: over seeds, by Student's t, the test tasks taken as given. "
    "early: rewards, of which those of turn i count 1/i; turns: number of the last turn that earned something, both at T = 1."
)
TESTED = (
    "T = 1 is the primary figure. Its p: paired t test over seeds, adjusted (Holm) over all lines at T = 1; the brackets are not "
    "adjusted, so one may exclude 0 where p does not. The other figures are exploratory and not tested."
)
UNTESTED = (
    f"T = 1 is the primary figure, the others are exploratory. Nothing is tested with fewer than {LEAST_SEEDS} seeds. The "
    f"brackets are not adjusted for the number of lines."
)


def cold_start(folder: Path, config: Path | None, flags: Mapping[str, Any], seeds: str, jobs: int, resume: bool) -> None:
    """SFT only, SFT + GRPO, GRPO only."""
    start, both, alone = COLD_START
    run("cold-start", COLD_START, both, (start, alone), None, folder, config, flags, seeds, jobs, resume)


def shaping(
    folder: Path,
    config: Path | None,
    flags: Mapping[str, Any],
    seeds: str,
    jobs: int,
    resume: bool,
    arms: str | None,
    credits: str | None,
    scores: str | None,
    estimators: str | None,
    contrasts: str | None,
) -> None:
    """Arms that differ in turn credit, trajectory score and estimator, all from the same SFT start."""
    if arms and (credits or scores or estimators):
        raise ConfigError("Both --arms and a grid are given; expected --arms, or --credits, --scores and --estimators.")
    if credits or scores or estimators:
        chosen = experiment.grid(names(credits or CREDIT), names(scores or SCORE), names(estimators or ""))
    else:
        chosen = tuple(experiment.shaping(name) for name in (names(arms) if arms else SHAPINGS))
    if not chosen:
        raise ConfigError("--arms names none; expected a list such as equalized/r2g,equalized/mean.")
    pairs = names(contrasts) if contrasts else None
    run("shaping", (START, *chosen), chosen[0], chosen[1:], pairs, folder, config, flags, seeds, jobs, resume)


def run(
    name: str,
    arms: Sequence[Arm],
    reference: Arm,
    others: Sequence[Arm],
    contrasts: Sequence[str] | None,
    folder: Path,
    config: Path | None,
    flags: Mapping[str, Any],
    seeds: str,
    jobs: int,
    resume: bool,
) -> None:
    """Run it, print its tables, write `<name>.json` and `<name>.png` into the folder.

    Args:
        contrasts: names of pairs of arms to compare, in place of the reference with each of the others.
    """
    job = resolve(ExperimentJob, config, texts(flags))
    if job.model and config is None:
        raise ConfigError(
            "A model is given, but no settings for it: the learning rates of the tiny policy would ruin it. "
            "Give them with --config; configs/experiment-model.toml of the repository is a start."
        )
    numbers = _numbers(seeds)
    arms, others, reference = [a.under(job) for a in arms], [a.under(job) for a in others], reference.under(job)
    pairs = experiment_table.default_pairs(arms, reference, others)
    if contrasts is not None:
        pairs = experiment_table.named_pairs(arms, contrasts)
    check_begun(folder, resume)
    with kept(folder), progress() as watch:
        findings = experiment.run(job, arms, numbers, folder, watch, jobs=jobs, resume=resume)
    report = experiment_table.report(findings, reference, pairs)
    show(report, name)
    path, said = experiment_table.kept(report, folder / f"{name}.json")
    if said:
        out.print(safe(f"{said}\n", "yellow"))
    figures = experiment_table.write(report, path)
    picture = experiment_plot.draw(report, path.with_suffix(".png"))
    for what, where in {"Figures": figures, "Picture": picture, "Policies": folder / "seed-*" / "*" / "model"}.items():
        out.print(safe(f"{what:<10}{where}"), soft_wrap=True)


def show(report: Report, name: str) -> None:
    """The tables of an experiment."""
    found = report.findings
    tasks = next(iter(found.baselines.test.values())).tasks
    out.print()
    seeds = f"{len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''}"
    about = f"{name}: {found.job.gym}, {seeds}, {tasks} test tasks"
    out.print(_shares(report, f"{about}, {experiment_table.estimators(report)}"))
    out.print(safe(f"{LEGEND}\n", "dim"))
    if report.contrasts:
        out.print(_contrasts(report.contrasts))
        out.print(safe(f"{TESTED if len(found.seeds) >= LEAST_SEEDS else UNTESTED}\n", "dim"))
    out.print(_mix(report))
    out.print()
    out.print(_baselines(report))
    first = next(row for row in report.rows if row.name == report.reference)
    best = report.best_without_skill.replace("_", " ")
    out.print(safe(f"{first.name} minus {best}, at T = 1: {signed(first.lead)} over seeds\n"))
    measured = [one for trained in found.trained.values() for one in trained.test.values()]
    if errors := sum(one.errors for one in (*measured, *found.baselines.test.values())):
        out.print(safe(f"{errors} test episodes failed and have no part in the figures; their causes are in the runs' episodes."))
    if stopped := [f"{row.name} ({row.stopped} of {len(row.steps)} seeds)" for row in report.rows if row.stopped]:
        why = f"{found.job.patience} GRPO steps in a row without anything to learn from, all episodes of each group alike"
        out.print(safe(f"Given up after {why}: {', '.join(stopped)}."))
    out.print()


def _shares(report: Report, title: str) -> Any:
    table = new_table(title)
    table.add_column("arm", overflow="fold")
    for name in ("T = 1 [95%]", "greedy [95%]", "early", "turns", "steps"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        numbers = (f"{row.early.mean:.2f}", f"{row.turns.mean:.2f}", _steps(row.steps))
        table.add_row(safe(row.name), interval(row.sampled), interval(row.greedy), *numbers)
    return table


def _steps(steps: Iterable[int]) -> str:
    found = sorted(set(steps))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _contrasts(contrasts: Sequence[Contrast]) -> Any:
    table = new_table("Differences between arms, paired by seed")
    table.add_column("arms", overflow="fold")
    for name in ("figure", "difference [95%]", "p, adjusted"):
        table.add_column(name, justify="right")
    for c in contrasts:
        p = "-" if math.isnan(c.p_adjusted) else f"{c.p_adjusted:.3f}" if c.p_adjusted >= 0.001 else "<0.001"
        figure = "T = 1" if c.figure == SAMPLED else c.figure
        table.add_row(safe(f"{c.of} minus {c.minus}"), figure, signed(c.difference), p)
    return table


def _mix(report: Report) -> Any:
    total: Counter[str] = Counter()
    for row in report.rows:
        total.update({label: share.mean for label, share in row.mix.items() if label != INVALID})
    shown = [*(label for label, _ in total.most_common(SHOWN_MIX - 1)), INVALID]
    table = new_table("Share of each sort of action at T = 1, mean over seeds")
    table.add_column("arm", overflow="fold")
    for label in shown:
        table.add_column(label.replace("_", "-"), justify="right")
    for row in report.rows:
        table.add_row(safe(row.name), *(f"{row.mix[label].mean:.3f}" if label in row.mix else "0" for label in shown))
    return table


def _baselines(report: Report) -> Any:
    table = new_table("On the same test tasks [95%: clustered by task]")
    table.add_column("agent", overflow="fold")
    table.add_column("share [95%]", justify="right")
    for name, measured in sorted(report.findings.baselines.test.items(), key=lambda item: item[1].share.mean):
        best = " (the best without skill)" if name == report.best_without_skill else ""
        table.add_row(safe(name.replace("_", " ") + best), interval_text(measured.share))
    return table


def interval(value: Interval) -> str:
    return interval_text(value) if value.n > 1 and not _alike(value) else f"{value.mean:.3f}{_seeds_alike(value)}"


def signed(value: Interval) -> str:
    """A difference with its sign."""
    ends = f" [{value.low:+.3f}, {value.high:+.3f}]" if value.n > 1 and not _alike(value) else _seeds_alike(value)
    return f"{value.mean:+.3f}{ends}"


def _alike(value: Interval) -> bool:
    return value.high - value.low <= 2 * ALIKE * max(abs(value.mean), 1.0)


def _seeds_alike(value: Interval) -> str:
    """In place of an interval without width, which would say that the mean is certain."""
    return " (all alike)" if value.n > 1 else ""


def names(text: str) -> list[str]:
    """The names of a list such as "a,b"."""
    return [name for part in text.split(",") if (name := part.strip())]


def _numbers(text: str) -> list[int]:
    try:
        return [int(name) for name in names(text)]
    except ValueError:
        raise ConfigError(f"The seeds are {text!r}; expected whole numbers, as in 0,1,2.") from None
