"""Results as JSON: one schema with a version, for `--json` and for `results.json` in the folders of runs.

Every document has `schema`, `kind`, `userrl` (the version that wrote it) and the parts of its kind; docs/evaluation.md
lists them. Within a schema, fields are added, never renamed or removed. A number that is not known is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from userrl import __version__
from userrl.config import as_dict
from userrl.core import Episode
from userrl.errors import DataError
from userrl.evaluate import paper
from userrl.evaluate.cautions import cautions
from userrl.evaluate.hacks import CHECKS, Check, Example, Finding, HackRates, hack_rates
from userrl.evaluate.metrics import Figures, Summary, figures
from userrl.evaluate.run import EvalJob
from userrl.evaluate.statistics import Interval
from userrl.evaluate.users import Factor, Figure, Ranks, Spread
from userrl.llm.endpoint import lasting
from userrl.llm.ledger import Ledger
from userrl.store import migrated, write_whole

SCHEMA = 1
"""Version of the documents."""
FILE = "results.json"
"""File of a run's folder."""
Kind = Literal["eval", "estimate", "compare", "front", "users", "agreement", "training"]


@dataclass(frozen=True)
class Results:
    """What an evaluation found."""

    job: EvalJob
    figures: Figures
    hacks: tuple[HackRates, ...]
    cost: Sequence[Mapping[str, Any]] = ()
    """Rows of the ledger."""

    @property
    def cautions(self) -> list[str]:
        """What must be said above the figures."""
        return cautions(self.figures)

    @property
    def ours(self) -> dict[str, float | None]:
        """Gym -> mean score, of the paper's gyms that were played, in the paper's order."""
        means = {s.gym: s.score.mean for s in self.figures.gyms if s.episodes}
        return {gym: means.get(gym) for gym in paper.TASKS}


def measure(job: EvalJob, episodes: Iterable[Episode], ledger: Ledger | None = None, *, leaks: bool | None = None) -> Results:
    """The results of an evaluation. Goes through the episodes twice, and keeps numbers only.

    Args:
        leaks: look for leaks, too; by default where the user is no script (see `hacks.hack_rates`).
    """
    checks: list[Check] = [c for c in CHECKS if c != "leak" or (leaks or (leaks is None and not job.user.startswith("scripted")))]
    found = figures(episodes, held_out=job.held_out)
    return Results(job, found, hack_rates(episodes, checks), ledger.record() if ledger else ())


def eval_document(results: Results) -> dict[str, Any]:
    """The document of an evaluation."""
    job, found = results.job, results.figures
    parts: dict[str, Any] = {
        "job": {**as_dict(job), "endpoints": lasting(job.endpoints)},
        "cautions": results.cautions,
        "gyms": [plain(s) for s in found.gyms],
        "averages": [plain(s) for s in found.averages],
        "held_out": list(found.held_out),
        "parts": plain(found.parts),
        "hacks": plain(results.hacks),
        "cost": list(results.cost),
    }
    if job.preset == "paper":
        table = [{**plain(row), "name": row.name, "micro": row.micro, "macro": row.macro} for row in paper.TABLE]
        parts["paper"] = {"gyms": list(paper.TASKS), "table": table, "ours": results.ours, "differences": paper.differences(job)}
    return document("eval", parts)


def document(kind: Kind, parts: Mapping[str, Any]) -> dict[str, Any]:
    """A document of a kind."""
    return {"schema": SCHEMA, "kind": kind, "userrl": __version__, **plain(parts)}


def text(document: Mapping[str, Any]) -> str:
    """A document as JSON, in which "?" stands for what no UTF-8 can hold (lone surrogates, which a model may write)."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write `results.json` whole or not at all. Raises StoreError."""
    return write_whole(folder / FILE, text(document).encode() + b"\n")


def read(folder: Path) -> dict[str, Any]:
    """What `results.json` in a run's folder says; empty where there is none. Raises DataError."""
    file = folder / FILE
    try:
        found = migrated(json.loads(file.read_text("utf-8")), SCHEMA, {}) if file.exists() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Cannot read {file}: {error}. Mend or remove the file.") from error
    return dict(found)


def read_hacks(folder: Path) -> tuple[HackRates, ...]:
    """What the checks found in a run, as `results.json` has it; empty where there is none. Raises DataError."""
    document = read(folder)
    try:
        return tuple(map(_hack_rates, document.get("hacks", ())))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / FILE} holds no rates of checks: {error!r}. Mend or remove the file.") from error


def _hack_rates(row: Mapping[str, Any]) -> HackRates:
    rates = {check: _interval(i) for check, i in row["rates"].items()}
    examples = tuple(
        Example(str(e["task"]), int(e["attempt"]), Finding(f["check"], int(f["turn"]), str(f["quote"])))
        for e in row["examples"]
        for f in (e["finding"],)
    )
    return HackRates(str(row["gym"]), int(row["episodes"]), rates, examples)


def read_factor(folder: Path) -> Factor | None:
    """What the choice of the user decides, as `results.json` of a grid has it; None where there is none. Raises DataError."""
    found = read(folder).get("factor")
    if found is None:
        return None
    try:
        return Factor(
            str(found["metric"]),
            tuple(map(_figure, found["figures"])),
            tuple(map(_spread, found["spreads"])),
            tuple(Ranks(str(r["first"]), str(r["second"]), _interval(r["tau"])) for r in found["ranks"]),
            int(found["tasks"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / FILE} holds no grid of agents and users: {error!r}. Mend or remove the file.") from error


def _figure(row: Mapping[str, Any]) -> Figure:
    who = (str(row["agent"]), str(row["user"]), str(row["judge"]))
    gyms = {str(gym): _interval(mean) for gym, mean in row["gyms"].items()}
    return Figure(*who, _interval(row["mean"]), int(row["tasks"]), int(row["errors"]), gyms, _interval(row["macro"]))


def _spread(row: Mapping[str, Any]) -> Spread:
    worst = (str(row["worst"]), _interval(row["worst_mean"]), _number(row["worst_share"]))
    between, within = _number(row["between"]), _number(row["within"])
    if between < 0 or within < 0:
        raise ValueError(f"variances are {between} and {within}; none is below 0")
    return Spread(str(row["agent"]), _interval(row["mean"]), *worst, between, within)


def _interval(found: Mapping[str, Any]) -> Interval:
    return Interval(_number(found["mean"]), _number(found["low"]), _number(found["high"]), int(found["n"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def plain(value: Any) -> Any:
    """A value of the evaluation as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, Summary):
            found["invalid_rate"] = value.invalid_rate
        return found
    if isinstance(value, Mapping):
        if any(is_dataclass(key) for key in value):
            return [{**plain(key), "count": plain(count)} for key, count in value.items()]
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
