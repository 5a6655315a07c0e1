"""Rank expert episodes and keep the best ones of each gym (UserRL, arXiv 2509.19736, section 3.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from userrl.core import INVALID, Episode
from userrl.gyms.base import gym_of


@dataclass(frozen=True)
class Selection:
    """What was kept, and what was not and why."""

    kept: Sequence[Episode]
    failed: int
    """Episodes that ended as an error."""
    invalid: int
    """Episodes with an invalid action, which must not be imitated."""
    beaten: int
    """Whole episodes that were not among the best."""


def quality(episode: Episode) -> tuple[float, int]:
    """Sorts better episodes higher: share of the reachable reward, then fewer turns."""
    reachable = gym_of(episode).reachable(episode.task, episode.max_turns)
    return (round(sum(episode.rewards) / reachable, 9) if reachable else 0.0, -len(episode.turns))


def rank(episodes: Iterable[Episode]) -> list[Episode]:
    """Best first; equals stay in the order in which they came."""
    return sorted(episodes, key=quality, reverse=True)


def select(episodes: Iterable[Episode], top_k: int | None = None, *, per_task: int | None = None) -> Selection:
    """The `top_k` best episodes of each gym, at most `per_task` of one task."""
    episodes = list(episodes)
    whole = [e for e in episodes if e.stop in ("done", "turn_limit")]
    clean = [e for e in whole if all(turn.action.kind != INVALID for turn in e.turns)]
    kept: list[Episode] = []
    of_gym: dict[str, int] = defaultdict(int)
    of_task: dict[tuple[str, str], int] = defaultdict(int)
    for episode in rank(clean):
        gym, task = episode.task.gym, episode.key[:2]
        if (top_k is None or of_gym[gym] < top_k) and (per_task is None or of_task[task] < per_task):
            kept.append(episode)
            of_gym[gym] += 1
            of_task[task] += 1
    return Selection(kept, len(episodes) - len(whole), len(whole) - len(clean), len(clean) - len(kept))
