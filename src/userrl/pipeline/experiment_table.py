"""What an experiment shows: figures of each arm and differences between arms, with the seed as the unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic_core import to_json

from userrl.config import as_dict
from userrl.core import INVALID
from userrl.evaluate.statistics import Interval, detectable, holm, runs_interval, runs_p
from userrl.pipeline.experiment import EXPERT, GREEDY, IMITATED, SAMPLED, START, Arm, Findings, Measured, Trained
from userrl.store import write_whole

EARLY = "early"
FIGURES = (SAMPLED, GREEDY, EARLY)
"""What arms are compared by: share at T = 1, share decoding greedily, time-weighted performance at T = 1."""


@dataclass(frozen=True)
class Row:
    """One arm's figures on the test tasks, over seeds. Intervals are over seeds: the test tasks count as given."""

    name: str
    steps: tuple[int, ...]
    """GRPO steps of each seed."""
    stopped: int
    """Seeds that were given up before the last step, as nothing could be learned."""
    sampled: Interval
    """Share of the reachable reward at T = 1."""
    greedy: Interval
    lead: Interval
    """Sampled share minus that of the best agent without skill, on the same tasks."""
    turns: Interval
    """Effective turns, sampled."""
    early: Interval
    """Time-weighted performance, sampled."""
    mix: Mapping[str, Interval]
    """Label -> share of all actions, sampled."""
    greedy_mix: Mapping[str, Interval]
    seeds: Mapping[str, tuple[float, ...]]
    """One of `FIGURES` -> that of each seed."""


@dataclass(frozen=True)
class Contrast:
    """One arm minus another, paired by seed."""

    of: str
    minus: str
    figure: str
    """One of `FIGURES`."""
    difference: Interval
    p: float
    """Of the paired t test, adjusted by Holm for the contrasts of the same kind; NaN for one seed."""
    detectable: float
    """The smallest true difference that so many seeds show with a probability of .8 (`statistics.detectable`), not adjusted."""


@dataclass(frozen=True)
class Report:
    """What an experiment shows."""

    rows: tuple[Row, ...]
    reference: str
    """Name of the arm that the others are compared with."""
    contrasts: tuple[Contrast, ...]
    best_without_skill: str
    findings: Findings


def report(findings: Findings, reference: Arm, others: Sequence[Arm]) -> Report:
    """The table of all arms, what sets the reference apart from others, and what each has gained over its start by SFT."""
    best = best_without_skill(findings.baselines.test)
    gained = [] if START in others else [arm for arm in findings.arms if arm.sft and arm.credit and START in findings.arms]
    pairs = [[(reference, other) for other in others], [(arm, START) for arm in gained]]
    return Report(
        tuple(_row(findings, arm, findings.baselines.test[best].share.mean) for arm in findings.arms),
        reference.name,
        tuple(contrast for kind in pairs for figure in FIGURES for contrast in _contrasts(findings, kind, figure)),
        best,
        findings,
    )


def best_without_skill(baselines: Mapping[str, Measured]) -> str:
    """Name of the agent without skill that does best on the test tasks."""
    return max((name for name in baselines if name not in (EXPERT, IMITATED)), key=lambda name: baselines[name].share.mean)


def _of(findings: Findings, arm: Arm) -> list[Trained]:
    return [findings.trained[arm.folder, seed] for seed in findings.seeds]


def _values(findings: Findings, arm: Arm, figure: str) -> tuple[float, ...]:
    """Of each seed."""
    trained = _of(findings, arm)
    return tuple(one.test[SAMPLED].early if figure == EARLY else one.test[figure].share.mean for one in trained)


def _row(findings: Findings, arm: Arm, baseline: float) -> Row:
    trained = _of(findings, arm)
    values = {figure: _values(findings, arm, figure) for figure in FIGURES}

    def over(figure: Callable[[Measured], float], how: str = SAMPLED) -> Interval:
        return runs_interval([figure(one.test[how]) for one in trained])

    def mix(how: str) -> dict[str, Interval]:
        labels = dict.fromkeys(label for one in trained for label in (*one.test[how].mix, INVALID))
        return {label: over(lambda measured, label=label: measured.mix.get(label, 0.0), how) for label in labels}  # type: ignore[misc]

    return Row(
        arm.name,
        tuple(one.steps for one in trained),
        sum(one.stopped for one in trained),
        runs_interval(values[SAMPLED]),
        runs_interval(values[GREEDY]),
        runs_interval([share - baseline for share in values[SAMPLED]]),
        over(lambda measured: measured.turns),
        runs_interval(values[EARLY]),
        mix(SAMPLED),
        mix(GREEDY),
        values,
    )


def _contrasts(findings: Findings, pairs: Sequence[tuple[Arm, Arm]], figure: str) -> list[Contrast]:
    """One kind of contrasts: their p-values are adjusted together."""
    found = [_differences(_values(findings, of, figure), _values(findings, minus, figure)) for of, minus in pairs]
    ps = [runs_p(differences) for differences in found]
    return [
        Contrast(of.name, minus.name, figure, runs_interval(differences), p, detectable(differences))
        for (of, minus), differences, p in zip(pairs, found, holm(ps) if len(findings.seeds) > 1 else ps, strict=True)
    ]


def _differences(after: Sequence[float], before: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(after, before, strict=True)]


def learning(trained: Sequence[Trained]) -> dict[int, Interval]:
    """GRPO step -> validation share over seeds, of the steps that every seed reached."""
    of_seed = [
        {point["step"]: point["validation"]["share"]["mean"] for point in one.curve if "validation" in point} for one in trained
    ]
    return {step: runs_interval([seed[step] for seed in of_seed]) for step in of_seed[0] if all(step in seed for seed in of_seed)}


def during(trained: Sequence[Trained], label: str) -> dict[int, float]:
    """GRPO step -> share of a sort of action in the training episodes, mean over the seeds that reached it."""
    found: dict[int, list[float]] = {}
    for one in trained:
        for point in one.curve:
            if "mix" in point:
                found.setdefault(point["step"], []).append(point["mix"].get(label, 0.0))
    return {step: sum(values) / len(values) for step, values in sorted(found.items())}


def write(report: Report, path: Path) -> Path:
    """All of a report as JSON; the bounds of an interval over one seed are null."""
    found = report.findings
    arms = {arm.name: _of(found, arm) for arm in found.arms}
    value = {
        "job": as_dict(found.job),
        "seeds": found.seeds,
        "arms": {row.name: asdict(row) for row in report.rows},
        "contrasts": [asdict(contrast) for contrast in report.contrasts],
        "best_without_skill": report.best_without_skill,
        "baselines": {name: asdict(measured.share) for name, measured in found.baselines.test.items()},
        "learning": {name: {step: asdict(at) for step, at in learning(trained).items()} for name, trained in arms.items()},
        "cpu_s": {name: sum(one.cpu_s for one in trained) for name, trained in arms.items()},
    }
    return write_whole(path, to_json(value, indent=2, inf_nan_mode="null") + b"\n")
