"""Validation: the policy in training, played on held-out tasks that it never trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from userrl.agents.policy import Policy, PolicyAgent
from userrl.config import AtLeast0, Count, Whole
from userrl.core import INVALID, Cast, Episode
from userrl.errors import ConfigError
from userrl.evaluate.metrics import action_mix, share, share_bounds
from userrl.evaluate.run import chosen_tasks
from userrl.evaluate.statistics import Interval, combined_interval, mean_interval
from userrl.gyms.base import make, rules_for
from userrl.rollout import play_recorded, starts
from userrl.store import RunFolder, set_aside

FOLDER = "validation"
"""Folder, in a run's folder, of the episodes: a file for each validated step."""


@dataclass(frozen=True)
class Validation:
    """When and on what a policy is validated while it trains."""

    every: Whole = 0
    """Steps between two validations; 0 for none. The first comes before any update, the last after the last step."""
    tasks: Count = 64
    """Of each gym, the first ones of the split."""
    split: str = "validation"
    """Never a test split: what is chosen by a task's score is no longer a test of it."""
    temperature: AtLeast0 = 1.0
    rules: Mapping[str, Any] | None = None
    """As in training, if not given."""

    def due(self, step: int, steps: int) -> bool:
        """Whether there is a validation after so many of all steps."""
        return self.every > 0 and (step % self.every == 0 or step == steps)


def of_tests(split: str) -> bool:
    """Whether a split is for evaluation alone: `test`, `official-test`, ..."""
    return "test" in split.lower()


def plan(
    settings: Validation, gyms: Sequence[str], *, trained_on: str, max_turns: int, rules: Mapping[str, Any], seed: int
) -> list[Episode]:
    """The episodes of one validation, none of them begun. They are the same in every validation of a run.

    Args:
        trained_on: the split of the training tasks.
        max_turns, rules: of training; `settings.rules` go before `rules`.

    Raises:
        ConfigError: the split is a test split, or the one that is trained on.
        UnknownName: a gym does not have the split.
    """
    split = settings.split
    if of_tests(split) or split == trained_on:
        why = "training tasks show no progress on others" if split == trained_on else "test tasks are for evaluation alone"
        raise ConfigError(f"validation.split is {split!r}, but {why}. Choose a split that is neither, such as 'validation'.")
    rules = rules if settings.rules is None else settings.rules
    episodes: list[Episode] = []
    for gym in gyms:
        make(gym, **rules_for(rules, gym))
        episodes += starts(chosen_tasks([gym], split, settings.tasks), seed=seed, max_turns=max_turns, rules=rules)
    return episodes


async def validate(
    policy: Policy,
    episodes: Sequence[Episode],
    cast: Cast | Callable[[str], Cast],
    run: RunFolder,
    step: int,
    *,
    temperature: float,
    max_new: int,
    on_end: Callable[[Episode], None] | None = None,
) -> dict[str, Any]:
    """Play the episodes of a plan with the current weights and return their figures; those on record are not played again.

    They are kept in `validation/step-<n>.jsonl` of the run's folder. Raises RunStopped when more than a quarter fail.
    """
    policy.model.eval()
    agent = PolicyAgent(policy, temperature=temperature, max_new=max_new, seed=episodes[0].seed)
    total, name = len(episodes), f"{FOLDER}/step-{step:06d}.jsonl"
    played = await play_recorded(
        episodes, agent, cast, run, name=name, on_end=on_end, at_once=max(128, total), max_errors=total // 4
    )
    return results(played)


def redo(run: RunFolder, done: int) -> None:
    """Move what is recorded of validations after `done` steps, which will be done again, to `<file>.redone`."""
    for file in sorted((run.path / FOLDER).glob("step-*.jsonl")):
        if int(file.stem.removeprefix("step-")) > done:
            set_aside(file, 0)


def results(episodes: Iterable[Episode]) -> dict[str, Any]:
    """Figures of validation episodes: share of the reachable score with its 95% interval, reward, invalid calls, mix.

    With several gyms each counts the same in `share` and `reward`. Failed episodes are counted and left out.
    """
    episodes = list(episodes)
    good = [e for e in episodes if e.stop != "error"]
    by = {gym: [e for e in good if e.task.gym == gym] for gym in dict.fromkeys(e.task.gym for e in good)}
    columns = [([share(e) for e in held], [e.task.id for e in held]) for held in by.values()]
    within = [share_bounds(gym) for gym in by]
    intervals = [mean_interval(*column, within=bounds) for column, bounds in zip(columns, within, strict=True)]
    rewards = [sum(sum(e.rewards) for e in held) / len(held) for held in by.values()]
    return {
        "share": _bounds(intervals[0] if len(by) == 1 else combined_interval(columns, [1 / len(by)] * len(by), 0, within)),
        "reward": sum(rewards) / len(rewards),
        "invalid": invalid(good),
        "mix": action_mix(good),
        "gyms": {
            gym: {"share": _bounds(interval), "reward": reward, "episodes": len(held)}
            for (gym, held), interval, reward in zip(by.items(), intervals, rewards, strict=True)
        },
        "errors": len(episodes) - len(good),
    }


def invalid(episodes: Iterable[Episode]) -> float:
    """Share of the turns that are no valid call."""
    labels = [turn.label for episode in episodes for turn in episode.turns]
    return labels.count(INVALID) / len(labels) if labels else 0.0


def _bounds(interval: Interval) -> dict[str, float]:
    return {name: asdict(interval)[name] for name in ("mean", "low", "high")}
