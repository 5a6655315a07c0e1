"""What an episode is worth and what was done in it. Errored episodes have no value: they are counted apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from userrl.core import Episode
from userrl.evaluate.statistics import Interval, mean_interval
from userrl.gyms.base import find, gym_of


def total(episode: Episode) -> float:
    """The sum of the turns' rewards, in the gym's units."""
    return sum(episode.rewards)


def share(episode: Episode) -> float:
    """The total as a share of what the task can yield within the turn limit."""
    reachable = gym_of(episode).reachable(episode.task, episode.max_turns)
    return total(episode) / reachable if reachable else 0.0


def effective_turns(episode: Episode) -> int:
    """Number of the last turn with a non-zero reward; 0 when there is none."""
    return max((i for i, reward in enumerate(episode.rewards, start=1) if reward), default=0)


def action_mix(episodes: Iterable[Episode]) -> dict[str, float]:
    """Label -> its share of all turns, in the gyms' own order of labels."""
    episodes = list(episodes)
    counts = Counter(turn.label for e in episodes for turn in e.turns)
    order = dict.fromkeys(label for gym in {e.task.gym: None for e in episodes} for label in find(gym).labels)
    turns = sum(counts.values())
    return {label: counts[label] / turns for label in [*order, *(set(counts) - set(order))] if turns}


@dataclass(frozen=True)
class Summary:
    """One gym's figures for one agent."""

    gym: str
    tasks: int
    episodes: int
    """Episodes with a score."""
    errors: int
    """Episodes that a failed agent, user or judge ended; they have no score."""
    score: Interval
    """Mean total reward."""
    share: Interval
    """Mean share of the reachable reward."""
    solved: Interval
    """Share of episodes that reached the gym's goal."""
    effective_turns: float
    mix: dict[str, float]


def summarize(episodes: Sequence[Episode], seed: int = 0) -> list[Summary]:
    """A summary per gym, in the order in which the gyms first appear. Intervals are clustered by task."""
    out: list[Summary] = []
    for gym in dict.fromkeys(e.task.gym for e in episodes):
        mine = [e for e in episodes if e.task.gym == gym]
        good = [e for e in mine if e.stop != "error"]
        ids = [e.task.id for e in good]
        out.append(
            Summary(
                gym,
                len({e.task.id for e in mine}),
                len(good),
                len(mine) - len(good),
                mean_interval([total(e) for e in good], ids, seed),
                mean_interval([share(e) for e in good], ids, seed),
                mean_interval([float(gym_of(e).solved(e)) for e in good], ids, seed),
                sum(map(effective_turns, good)) / len(good) if good else float("nan"),
                action_mix(good),
            )
        )
    return out
