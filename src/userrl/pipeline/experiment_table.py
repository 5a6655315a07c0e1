"""What an experiment shows: figures of each arm and differences between arms, with the seed as the unit.

One figure is the primary one, the same for every experiment: the share at T = 1. Only of it are differences tested, and the
p-values of all of a report's lines are adjusted together (Holm). The other figures are exploratory. Intervals are not adjusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic_core import to_json

from userrl.config import as_dict
from userrl.core import INVALID
from userrl.errors import ConfigError, UnknownName
from userrl.evaluate.statistics import Interval, detectable, holm, runs_interval, runs_p
from userrl.pipeline.experiment import EXPERT, GREEDY, IMITATED, SAMPLED, SFT, START, Arm, Findings, Measured, Trained
from userrl.store import write_whole

EARLY = "early"
FIGURES = (SAMPLED, GREEDY, EARLY)
"""What arms are compared by: share at T = 1, share decoding greedily, time-weighted performance at T = 1."""
PRIMARY = SAMPLED
LEAST_SEEDS = 3
"""Below so many nothing is tested: of two seeds, one lucky pair decides."""


@dataclass(frozen=True)
class Row:
    """One arm's figures on the test tasks, over seeds. Intervals are over seeds: the test tasks count as given."""

    name: str
    estimator: str | None
    """None without reinforcement learning."""
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
    """Of the paired t test, not adjusted. NaN for a figure that is not primary, for fewer than `LEAST_SEEDS`, and where all
    seeds differ by the same: then there is no spread to go by."""
    p_adjusted: float
    """Adjusted by Holm over all contrasts of the report that have one."""
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


Pair = tuple[Arm, Arm]


def default_pairs(arms: Sequence[Arm], reference: Arm, others: Sequence[Arm]) -> list[Pair]:
    """The reference against each of the others, then what each arm has gained over its start by SFT, if that is an arm."""
    gained = [] if START in others else [arm for arm in arms if arm.sft and arm.credit and START in arms]
    return [*((reference, other) for other in others), *((arm, START) for arm in gained)]


def named_pairs(arms: Sequence[Arm], texts: Sequence[str]) -> list[Pair]:
    """The pairs "r2g/r2g:em/r2g" of a list; the arm that is only fine-tuned is "sft". Raises UnknownName or ConfigError."""
    known = {**{arm.name: arm for arm in arms}, SFT: START}
    pairs = []
    for text in texts:
        names = text.split(":")
        if len(names) != 2 or names[0] == names[1]:
            raise ConfigError(f"The contrast {text!r} is no pair of arms; expected two of them, as in 'equalized/r2g:r2g/r2g'.")
        for name in names:
            if name not in known:
                raise UnknownName("arm of this experiment", name, known)
        pairs.append((known[names[0]], known[names[1]]))
    if len(set(map(frozenset, pairs))) < len(pairs):
        raise ConfigError(f"The contrasts {', '.join(texts)} hold a pair twice; give each once.")
    return pairs


def report(findings: Findings, reference: Arm, pairs: Sequence[Pair]) -> Report:
    """The table of all arms, and the differences between the arms of each pair."""
    best = best_without_skill(findings.baselines.test)
    return Report(
        tuple(_row(findings, arm, findings.baselines.test[best].share.mean) for arm in findings.arms),
        reference.name,
        tuple(contrast for figure in FIGURES for contrast in _contrasts(findings, pairs, figure)),
        best,
        findings,
    )


def best_without_skill(baselines: Mapping[str, Measured]) -> str:
    """Name of the agent without skill that does best on the test tasks."""
    return max((name for name in baselines if name not in (EXPERT, IMITATED)), key=lambda name: baselines[name].share.mean)


def estimators(report: Report) -> str:
    """The estimator that the arms were trained with, and which were not, for titles."""
    used = {row.estimator for row in report.rows} - {None}
    plain = report.findings.job.grpo.estimator
    return f"estimator {plain}" if used <= {plain} else f"estimator {plain} where an arm names none"


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
        (arm.estimator or findings.job.grpo.estimator) if arm.credit else None,
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


def _contrasts(findings: Findings, pairs: Sequence[Pair], figure: str) -> list[Contrast]:
    """The contrasts of one figure: their p-values are adjusted together."""
    found = [_differences(_values(findings, of, figure), _values(findings, minus, figure)) for of, minus in pairs]
    tests = figure == PRIMARY and len(findings.seeds) >= LEAST_SEEDS
    ps = [runs_p(differences) if tests else math.nan for differences in found]
    tested = iter(holm([p for p in ps if not math.isnan(p)]))
    adjusted = [p if math.isnan(p) else next(tested) for p in ps]
    return [
        Contrast(of.name, minus.name, figure, runs_interval(differences), p, together, detectable(differences))
        for (of, minus), differences, p, together in zip(pairs, found, ps, adjusted, strict=True)
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


def kept(report: Report, path: Path) -> tuple[Path, str]:
    """Where a report is to be written, and what is to be said of it ("" if nothing).

    A report of seeds that this one lacks is not written over: this one gets a name of its own, after its seeds. What it lacks
    of arms is told.
    """
    try:
        before = json.loads(path.read_text("utf-8")) if path.exists() else {}
        seeds, arms = before.get("seeds", []), before.get("arms", {})
    except (ValueError, AttributeError):
        return path, f"{path.name} could not be read as a report, and is replaced."
    if missing := [seed for seed in seeds if seed not in report.findings.seeds]:
        own = path.with_stem(f"{path.stem}-seeds-{'-'.join(map(str, report.findings.seeds))}")
        return own, (
            f"{path.name} holds a report of seeds that this one lacks ({', '.join(map(str, missing))}) and stays as it is; "
            f"this one is in {own.name}."
        )
    if gone := [name for name in arms if name not in {row.name for row in report.rows}]:
        return path, f"The report in {path.name} was replaced; it also had {', '.join(gone)}, whose runs are still there."
    return path, ""


def write(report: Report, path: Path) -> Path:
    """All of a report as JSON; what is not known (the bounds of an interval over one seed, a p) is null."""
    found = report.findings
    arms = {arm.name: _of(found, arm) for arm in found.arms}
    value = {
        "job": as_dict(found.job),
        "seeds": found.seeds,
        "primary": PRIMARY,
        "arms": {row.name: asdict(row) for row in report.rows},
        "contrasts": [asdict(contrast) for contrast in report.contrasts],
        "best_without_skill": report.best_without_skill,
        "baselines": {name: asdict(measured.share) for name, measured in found.baselines.test.items()},
        "learning": {name: {step: asdict(at) for step, at in learning(trained).items()} for name, trained in arms.items()},
        "cpu_s": {name: sum(one.cpu_s for one in trained) for name, trained in arms.items()},
    }
    return write_whole(path, to_json(value, indent=2, inf_nan_mode="null") + b"\n")
