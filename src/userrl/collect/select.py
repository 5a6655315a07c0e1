"""Rank expert episodes and keep the best ones of each gym (UserRL, arXiv 2509.19736, section 3.2)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from userrl.collect.contamination import Found, HeldOut
from userrl.collect.duplicates import Alike
from userrl.core import INVALID, Episode, Task
from userrl.errors import ConfigError
from userrl.evaluate.metrics import share

Why = Literal[
    "failed",
    "invalid",
    "below",
    "held-out id",
    "held-out prompt",
    "held-out errand",
    "held-out hidden",
    "duplicate",
    "near-duplicate",
    "beaten",
    "mix",
]
"""Why an episode is left out: it ended as an error; has an invalid action, which must not be imitated; earned less than asked
for; is on a task that evaluations use (`contamination`); says the same as a better one (`duplicates`); is not among the best
of its task or gym; is more of its gym than the mixture takes."""


ENDED = ("done", "turn_limit", "window")
"""How whole episodes end."""


@dataclass(frozen=True)
class Left:
    """An episode that was left out."""

    gym: str
    task: str
    attempt: int
    why: Why
    like: str = ""
    """Id of the held-out task, or of the task of the kept episode, that it is like."""


@dataclass(frozen=True)
class Unplayed:
    """A task that was left out before it was played, as it is like a held-out one."""

    gym: str
    task: str
    why: Why
    like: str
    """Id of the held-out task."""


@dataclass(frozen=True)
class Selection:
    """What was kept, best first, and what was not and why."""

    kept: Sequence[Episode]
    left: Sequence[Left] = ()
    unplayed: Sequence[Unplayed] = ()

    def count(self, *why: Why) -> int:
        return sum(left.why in why for left in self.left)


def quality(episode: Episode) -> tuple[float, int]:
    """Sorts better episodes higher: score as a share of the best one that the task allows, then fewer turns."""
    return (round(share(episode), 9), -len(episode.turns))


def rank(episodes: Iterable[Episode]) -> list[Episode]:
    """Best first; equals stay in the order in which they came."""
    return sorted(episodes, key=quality, reverse=True)


def select(
    episodes: Iterable[Episode],
    top_k: int | None = None,
    *,
    per_task: int | None = None,
    min_share: float = 0.0,
    near: float = 0.0,
    held_out: Callable[[str], HeldOut] | None = None,
    mix: Mapping[str, float] | None = None,
) -> Selection:
    """The `top_k` best episodes of each gym, at most `per_task` of one task.

    Args:
        min_share: least share of the best score that a task allows.
        near: episodes that are alike to this degree, from 0 to 1, are duplicates, of which the best stays; 0 keeps them all.
        held_out: gym -> tasks that must not be trained on; none by default.
        mix: gym -> weight of its episodes among those kept: as many as there are in this proportion, and of no other gym.

    Raises ConfigError for a mixture of a gym of which nothing can be kept.
    """
    left: list[Left] = []

    def leave(episode: Episode, why: Why, like: str = "") -> None:
        left.append(Left(*episode.key, why, like))

    clean = []
    sets: dict[str, HeldOut] = {}
    known: dict[tuple[str, str, str], Found | None] = {}

    def contaminated(task: Task) -> Found | None:
        key = (task.gym, task.id, task.prompt)
        if held_out is not None and key not in known:
            if task.gym not in sets:
                sets[task.gym] = held_out(task.gym)
            known[key] = sets[task.gym].match(task)
        return known.get(key)

    for episode in episodes:
        if episode.stop not in ENDED:
            leave(episode, "failed")
        elif any(turn.action.kind == INVALID for turn in episode.turns):
            leave(episode, "invalid")
        elif share(episode) < min_share:
            leave(episode, "below")
        elif found := contaminated(episode.task):
            leave(episode, found.why, found.task)
        else:
            clean.append(episode)
    kept: list[Episode] = []
    of_gym: Counter[str] = Counter()
    of_task: Counter[tuple[str, str]] = Counter()
    alike = Alike(clean, near) if near else None
    for episode in rank(clean):
        gym, task = episode.task.gym, episode.key[:2]
        if per_task is not None and of_task[task] >= per_task:
            leave(episode, "beaten")
        elif alike is not None and (match := alike.match(episode)):
            leave(episode, match.why, match.task)
        elif top_k is not None and of_gym[gym] >= top_k:
            leave(episode, "beaten")
        else:
            kept.append(episode)
            of_gym[gym] += 1
            of_task[task] += 1
    if mix:
        kept, more = mixed(kept, mix)
        for episode in more:
            leave(episode, "mix")
    return Selection(kept, left)


def mixed(ranked: Sequence[Episode], mix: Mapping[str, float]) -> tuple[list[Episode], list[Episode]]:
    """As many of the best episodes of each gym as can be had in the proportion of the weights, and the others."""
    of_gym: dict[str, list[Episode]] = defaultdict(list)
    for episode in ranked:
        of_gym[episode.task.gym].append(episode)
    weights = {gym: weight for gym, weight in mix.items() if weight > 0}
    if empty := [gym for gym in weights if gym not in of_gym]:
        there = ", ".join(of_gym) or "none"
        raise ConfigError(
            f"The mixture names {empty[0]!r}, of which no episode can be kept (gyms with some: {there}). "
            f"Collect some, or leave it out of the mixture."
        )
    scale = min((len(of_gym[gym]) / weight for gym, weight in weights.items()), default=0.0)
    room = {gym: math.floor(weight * scale + 1e-9) for gym, weight in weights.items()}
    taken: list[Episode] = []
    more: list[Episode] = []
    for episode in ranked:
        gym = episode.task.gym
        (taken if room.get(gym, 0) > 0 else more).append(episode)
        room[gym] = room.get(gym, 0) - 1
    return taken, more
