"""The paper's evaluation: its protocol as settings, and its main table to stand beside.

Source: UserRL, arXiv 2509.19736 (v1), table 3 and section 4. One greedy run for each model, 16 turns, GPT-4o as user and
judge, the original's rules; no seeds and no intervals. Gyms of 40 to 48 tasks have a standard error near .07.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from userrl.core import DEFAULT_MAX_TURNS
from userrl.evaluate.metrics import PARTS, Figures
from userrl.evaluate.statistics import Interval
from userrl.gyms.base import find
from userrl.llm.endpoint import parse_endpoints

if TYPE_CHECKING:
    from userrl.evaluate.run import EvalJob

TASKS: Mapping[str, int] = {
    "travel": 471, "turtle": 48, "function": 78, "tau": 165,
    "persuade": 42, "intention": 40, "telepathy": 41, "search": 125,
}  # fmt: skip
"""Gym -> test tasks, in the table's order."""
HELD_OUT = ("intention", "telepathy", "search")
"""Gyms that the paper's models were not trained on; the other five they were."""
OFFICIAL, BUILT_IN = "official-test", "test"
RULES: Mapping[str, Any] = {"compat": "userrl", "travel": {"rewards": "evaluation"}}
USER = "gpt-4o"


@dataclass(frozen=True)
class Row:
    """A line of table 3."""

    model: str
    credit: str
    """Turn credit in training; empty where the model was not trained on the gyms."""
    score: str
    """Trajectory score; "mean" is what the paper calls Sum."""
    scores: tuple[float, ...]
    """(8,) gym scores in the order of `TASKS`; intention's are sums of rewards above 1."""

    @property
    def name(self) -> str:
        return f"{self.model} {self.credit}/{self.score}" if self.credit else self.model

    @property
    def micro(self) -> float:
        """Over tasks. Computed, and equal to the paper's."""
        return sum(n * score for n, score in zip(TASKS.values(), self.scores, strict=True)) / sum(TASKS.values())

    @property
    def macro(self) -> float:
        """Over gyms. Not in the paper."""
        return sum(self.scores) / len(self.scores)

    def part(self, *, held_out: bool) -> float:
        """Macro average of the gyms held out of training, or of the others."""
        scores = [score for gym, score in zip(TASKS, self.scores, strict=True) if (gym in HELD_OUT) is held_out]
        return sum(scores) / len(scores)


TABLE = (
    Row("Qwen3-8B", "equalized", "r2g", (0.5730, 0.1854, 0.4231, 0.1818, 0.5317, 1.8175, 0.5610, 0.8880)),
    Row("Qwen3-8B", "em", "r2g", (0.5025, 0.1917, 0.4103, 0.2000, 0.5397, 1.9025, 0.5366, 0.8640)),
    Row("Qwen3-8B", "r2g", "r2g", (0.5724, 0.1615, 0.4231, 0.1394, 0.5238, 1.8525, 0.5854, 0.8480)),
    Row("Qwen3-8B", "equalized", "mean", (0.5054, 0.1323, 0.2692, 0.2121, 0.5040, 1.6275, 0.5366, 0.8320)),
    Row("Qwen3-4B", "equalized", "r2g", (0.5086, 0.1844, 0.3333, 0.2000, 0.4643, 1.8075, 0.6098, 0.8640)),
    Row("Qwen3-4B", "em", "r2g", (0.5076, 0.1417, 0.3333, 0.1576, 0.4563, 1.7375, 0.6341, 0.8640)),
    Row("Qwen3-4B", "r2g", "r2g", (0.4629, 0.1687, 0.3974, 0.1333, 0.5794, 1.5975, 0.4634, 0.8640)),
    Row("Qwen3-4B", "equalized", "mean", (0.4456, 0.1615, 0.2308, 0.1333, 0.4524, 1.7150, 0.4878, 0.8400)),
    Row("Qwen3-4B raw", "", "", (0.1405, 0.0854, 0.0769, 0.0364, 0.4048, 1.7400, 0.4878, 0.8560)),
    Row("Qwen3-32B raw", "", "", (0.1724, 0.1510, 0.1538, 0.0000, 0.4841, 1.8300, 0.5610, 0.7920)),
    Row("Gemini-2.5-Pro", "", "", (0.3468, 0.2740, 0.4103, 0.1939, 0.4246, 1.5900, 0.9024, 0.9280)),
    Row("GPT-4o", "", "", (0.3643, 0.2917, 0.2821, 0.0303, 0.3770, 1.8975, 0.8537, 0.8800)),
)
"""Table 3. It has no line of a model that was only fine-tuned, and none of the raw 8B model."""


def settings() -> dict[str, Any]:
    """The paper's protocol as settings of an `EvalJob`.

    A gym whose official test tasks are imported is played on them, any other on its built-in test tasks.
    """
    splits = {gym: OFFICIAL for gym in TASKS if OFFICIAL in find(gym).sets()}
    return {
        "gyms": list(TASKS),
        "split": BUILT_IN,
        "splits": splits,
        "held_out": list(HELD_OUT),
        "max_turns": DEFAULT_MAX_TURNS,
        "temperature": 0.0,
        "attempts": 1,
        "rules": dict(RULES),
    }


def beside(found: Figures) -> list[Interval | None]:
    """(12,) our scores under the columns of table 3: its gyms, averages of the gyms trained on and held out, micro, macro.

    None where there is none: an average needs a score in all gyms of the table that it is over, and no others; `figures` must
    know which gyms are held out.
    """
    gyms = {s.gym: s.score for s in found.gyms if s.episodes}
    averages = {s.gym: s.score for s in found.averages} if gyms.keys() == TASKS.keys() else {}
    parts: list[Interval | None] = []
    for part in PARTS:
        whole = {s.gym for s in found.of(part)} == {gym for gym in TASKS if (gym in HELD_OUT) is (part == "held-out")}
        parts.append({s.gym: s.score for s in found.parts.get(part, ())}.get("macro") if whole else None)
    return [*(gyms.get(gym) for gym in TASKS), *parts, averages.get("micro"), averages.get("macro")]


def differences(job: EvalJob) -> list[str]:
    """In what an evaluation differs from the paper's, a sentence each; what differs bears on every comparison of the rows."""
    found = []
    built_in = [gym for gym in job.gyms if gym in TASKS and job.split_of(gym) != OFFICIAL]
    if built_in:
        found.append(
            f"Other tasks than the paper's in {', '.join(built_in)}: ours, built in. `userrl data import` brings in the paper's."
        )
    if job.tasks is not None and any(job.tasks < TASKS.get(gym, 0) for gym in job.gyms):
        found.append(f"Only the first {job.tasks} tasks of each gym.")
    sizes = {gym: find(gym).sets()[OFFICIAL].count for gym in job.gyms if gym in TASKS and gym not in built_in}
    if parts := [f"{size} of {TASKS[gym]} in {gym}" for gym, size in sizes.items() if size < TASKS[gym]]:
        found.append(f"Not all of the paper's tasks are imported: {', '.join(parts)}.")
    if others := [gym for gym in TASKS if gym not in job.gyms]:
        found.append(f"Gyms not played: {', '.join(others)}; so there is no average to lay beside the paper's.")
    for role, who in (("user", job.user), ("judge", job.judge)):
        if "@" not in who or any(endpoint.model != USER for endpoint, _ in parse_endpoints(who)):
            found.append(f"Another {role} than the paper's {USER}: {who}.")
    wanted = settings()
    for name, told in (("max_turns", "turns"), ("temperature", "temperature"), ("attempts", "attempts at each task")):
        if getattr(job, name) != wanted[name]:
            found.append(f"{told.capitalize()}: {getattr(job, name)}; the paper: {wanted[name]:g}.")
    if dict(job.rules) != wanted["rules"]:
        found.append("Other rules than the original's.")
    return found
