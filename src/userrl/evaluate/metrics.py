"""What an episode is worth and what was done in it. Errored episodes have no value: they are counted apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, get_args

from userrl.core import INVALID, Episode, Turn
from userrl.evaluate.statistics import RATE, Bounds, Interval, combined_interval, mean_interval, pass_all, pass_at
from userrl.gyms.base import find, gym_of
from userrl.scripted import Scripted

CHARACTERS_A_TOKEN = 4
"""For texts of users and agents, whose own tokens nobody counted."""
WITHIN = (1, 2, 4, 8, 16)
"""User turns within which episodes are counted as solved (pass@U-k)."""


def total(episode: Episode) -> float:
    """The score: the sum of the turns' rewards, where the gym does not score otherwise (`Gym.score`)."""
    return gym_of(episode).score(episode)


def share(episode: Episode) -> float:
    """The score as a share of the best one that the task allows within the turn limit."""
    best = gym_of(episode).best_score(episode.task, episode.max_turns)
    return total(episode) / best if best else 0.0


def share_bounds(gym: str) -> Bounds | None:
    """Bounds of the share; None where rewards may be negative, so that nobody knows how little an episode can earn."""
    return RATE if find(gym).reward_range[0] >= 0 else None


def score_bounds(gym: str, best: float) -> Bounds | None:
    """Bounds of the scores of tasks of which the best allows so much; None as in `share_bounds`."""
    return (0.0, best) if share_bounds(gym) else None


def effective_turns(episode: Episode) -> int:
    """Number of the last turn with a non-zero reward; 0 when there is none."""
    return max((i for i, reward in enumerate(episode.rewards, start=1) if reward), default=0)


def time_weighted(episode: Episode) -> float:
    """Sum of r_i / (i + 1) over the turns i = 0, 1, ...: what is earned early counts more."""
    return math.fsum(reward / (i + 1) for i, reward in enumerate(episode.rewards))


def asks(gym: str, turn: Turn) -> bool:
    """Whether a turn says something to the user, who has to reply. Never where the rules alone answer (function, search)."""
    return turn.action.kind in find(gym).asks and turn.label != INVALID and _has_user(gym)


def needs_user(gym: str, turn: Turn) -> bool:
    """Whether a turn needs a person: a question, or an answer that somebody has to judge. Searches and tool calls do not."""
    return (turn.action.kind in find(gym).answers and turn.label != INVALID) or asks(gym, turn)


@cache
def _has_user(gym: str) -> bool:
    """Whether the gym's user has an answer to anything."""
    user = find(gym).cast().user
    return not isinstance(user, Scripted) or bool(user.answers)


def user_turns(episode: Episode) -> int:
    """Turns of an episode that need a person."""
    return sum(needs_user(episode.task.gym, turn) for turn in episode.turns)


def action_mix(episodes: Iterable[Episode]) -> dict[str, float]:
    """Label -> its share of all turns, in the gyms' own order of labels."""
    counts: Counter[str] = Counter()
    gyms: dict[str, None] = {}
    for episode in episodes:
        gyms[episode.task.gym] = None
        counts.update(turn.label for turn in episode.turns)
    return _mix(counts, gyms)


def _mix(counts: Counter[str], gyms: Iterable[str]) -> dict[str, float]:
    order = dict.fromkeys(label for gym in gyms for label in find(gym).labels)
    turns = sum(counts.values())
    return {label: counts[label] / turns for label in [*order, *(set(counts) - set(order))] if turns}


@dataclass(frozen=True)
class Effort:
    """What an episode asks of its user, on average (after BAO, arXiv 2602.11351, and PPP, arXiv 2511.02208)."""

    questions: float
    """Turns that say something to the user."""
    read: float
    """Tokens that the user reads: the agent's texts in turns that need a person."""
    typed: float
    """Tokens that the user types: the replies to questions."""
    repeats: float
    """Turns that need a person and repeat an earlier one."""
    rate: float
    """Share of all turns that need a person."""
    within: Mapping[int, float]
    """k -> share of episodes solved with no more than k turns that need a person (pass@U-k)."""


@dataclass(frozen=True)
class Passes:
    """Success of k attempts at a task, over the tasks with at least k scored attempts."""

    k: int
    any: Interval
    """pass@k: at least one of the k solves the task."""
    all: Interval
    """pass^k: all k do."""


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
    """Mean of `total`."""
    share: Interval
    """Mean of `share`."""
    solved: Interval
    """Share of episodes that reached the gym's goal."""
    effective_turns: float
    mix: dict[str, float]
    parts: tuple[Summary, ...] = ()
    """The same figures of the parts of its tasks that the gym names (`Gym.subsets`); `gym` then names the part, too."""
    idle: Summary | None = None
    """What an agent that does nothing would have on the same tasks, where the gym tells (`Gym.idle`)."""
    time_weighted: float = float("nan")
    """Mean of `time_weighted`."""
    effort: Effort | None = None
    """None without a scored episode."""
    passes: tuple[Passes, ...] = ()
    """For k = 1, 2, 4, ... and all attempts, where tasks have more than one."""

    @property
    def invalid_rate(self) -> float:
        """Share of episodes that a failure ended."""
        return self.errors / (self.errors + self.episodes) if self.errors else 0.0


Part = Literal["held-in", "held-out"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Figures:
    """What is known of one agent's episodes."""

    gyms: tuple[Summary, ...]
    """In the order in which the gyms first appear."""
    averages: tuple[Summary, ...]
    """The micro average (each task counts the same) and the macro average (each gym does), for two gyms and more."""
    parts: Mapping[Part, tuple[Summary, ...]] = field(default_factory=dict)
    """The same two of the gyms that the agent was trained on and of those held out, where both are known."""
    held_out: tuple[str, ...] = ()
    """Those of the gyms that are held out."""

    def of(self, part: Part) -> list[Summary]:
        """The gyms of a part."""
        return [s for s in self.gyms if (s.gym in self.held_out) is (part == "held-out")]


def summarize(episodes: Iterable[Episode], seed: int = 0) -> list[Summary]:
    """A summary per gym, in the order in which the gyms first appear. Intervals are clustered by task.

    Goes through the episodes once and keeps numbers only, so they may be read from a file one by one.
    """
    return list(figures(episodes, seed).gyms)


def figures(episodes: Iterable[Episode], seed: int = 0, held_out: Collection[str] = ()) -> Figures:
    """The summaries of `summarize`, and their averages over gyms. Goes through the episodes once, too.

    Args:
        held_out: gyms that the agent was not trained on; they and the others are averaged apart, too.
    """
    gyms: dict[str, _Column] = {}
    for episode in episodes:
        gyms.setdefault(episode.task.gym, _Column()).add(episode)
    summaries = tuple(column.summary(gym, gym, seed) for gym, column in gyms.items())
    found = Figures(summaries, _averages([column for column in gyms.values() if column.ids], summaries, seed))
    held = tuple(gym for gym in gyms if gym in held_out)
    if not 0 < len(held) < len(gyms):
        return found
    found = replace(found, held_out=held)
    parts: dict[Part, tuple[Summary, ...]] = {}
    for part in PARTS:
        own = found.of(part)
        parts[part] = _averages([column for s in own if (column := gyms[s.gym]).ids], own, seed)
    return replace(found, parts=parts)


def _averages(columns: Sequence[_Column], summaries: Sequence[Summary], seed: int) -> tuple[Summary, ...]:
    """None where a gym has no scored episode: an average without it would be one of something else."""
    if len(columns) < 2 or len(columns) < len(summaries):
        return ()
    scored = [len(set(column.ids)) for column in columns]
    micro, macro = [n / sum(scored) for n in scored], [1 / len(scored)] * len(scored)
    return tuple(_average(name, weights, columns, summaries, seed) for name, weights in (("micro", micro), ("macro", macro)))


def _average(name: str, weights: Sequence[float], columns: Sequence[_Column], summaries: Sequence[Summary], seed: int) -> Summary:
    def interval(values: Sequence[Sequence[float]], within: Sequence[Bounds | None]) -> Interval:
        groups = [(v, column.ids) for v, column in zip(values, columns, strict=True)]
        return combined_interval(groups, weights, seed, within)

    def weighted(values: Iterable[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    return Summary(
        name,
        sum(s.tasks for s in summaries),
        sum(s.episodes for s in summaries),
        sum(s.errors for s in summaries),
        interval(
            [column.scores for column in columns],
            [score_bounds(s.gym, column.best) for s, column in zip(summaries, columns, strict=True)],
        ),
        interval([column.shares for column in columns], [share_bounds(s.gym) for s in summaries]),
        interval([column.solved for column in columns], [RATE] * len(columns)),
        weighted(s.effective_turns for s in summaries),
        {},
        time_weighted=weighted(s.time_weighted for s in summaries),
    )


@dataclass
class _Column:
    """The figures of one gym's episodes, one number each."""

    tasks: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    solved: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    weighted: list[float] = field(default_factory=list)
    users: list[int] = field(default_factory=list)
    """Turns that need a person."""
    effort: Counter[str] = field(default_factory=Counter)
    """Sums over the episodes: questions, characters read and typed, repeats."""
    labels: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    best: float = 0.0
    """The best score of any task."""
    parts: dict[str, _Column] = field(default_factory=dict)
    idle: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Task -> score and share of an agent that does nothing."""

    def add(self, episode: Episode, *, whole: bool = True) -> None:
        """whole: also in the parts of the tasks."""
        self.tasks.add(episode.task.id)
        gym, task = gym_of(episode), episode.task
        for part in gym.subsets(task) if whole else ():
            self.parts.setdefault(part, _Column()).add(episode, whole=False)
        best = gym.best_score(task, episode.max_turns)
        self.best = max(self.best, best)
        if whole and task.id not in self.idle and (idle := gym.idle(task)) is not None:
            self.idle[task.id] = (idle, idle / best if best else 0.0)
        if episode.stop == "error":
            self.errors += 1
            return
        self.ids.append(task.id)
        self.scores.append(total(episode))
        self.shares.append(share(episode))
        self.solved.append(float(gym_of(episode).solved(episode)))
        self.turns.append(effective_turns(episode))
        self.weighted.append(time_weighted(episode))
        self.labels.update(turn.label for turn in episode.turns)
        self._add_effort(episode)

    def _add_effort(self, episode: Episode) -> None:
        needing = [turn for turn in episode.turns if needs_user(episode.task.gym, turn)]
        asking = [turn for turn in needing if asks(episode.task.gym, turn)]
        self.users.append(len(needing))
        self.effort["questions"] += len(asking)
        self.effort["read"] += sum(len(turn.action.text) for turn in needing)
        self.effort["typed"] += sum(len(turn.feedback) for turn in asking)
        self.effort["repeats"] += sum(turn.label == "repeated" for turn in needing)

    def summary(self, name: str, gym: str, seed: int) -> Summary:
        return Summary(
            name,
            len(self.tasks),
            len(self.ids),
            self.errors,
            mean_interval(self.scores, self.ids, seed, score_bounds(gym, self.best)),
            mean_interval(self.shares, self.ids, seed, share_bounds(gym)),
            mean_interval(self.solved, self.ids, seed, RATE),
            sum(self.turns) / len(self.turns) if self.turns else float("nan"),
            _mix(self.labels, [gym]),
            tuple(part.summary(f"{gym}: {which}", gym, seed) for which, part in sorted(self.parts.items())),
            self._idle(gym, seed),
            sum(self.weighted) / len(self.weighted) if self.weighted else float("nan"),
            self._effort(),
            self._passes(seed),
        )

    def _effort(self) -> Effort | None:
        episodes, turns = len(self.ids), sum(self.labels.values())
        if not episodes:
            return None
        within = {k: sum(s for s, n in zip(self.solved, self.users, strict=True) if n <= k) / episodes for k in WITHIN}
        return Effort(
            self.effort["questions"] / episodes,
            self.effort["read"] / CHARACTERS_A_TOKEN / episodes,
            self.effort["typed"] / CHARACTERS_A_TOKEN / episodes,
            self.effort["repeats"] / episodes,
            sum(self.users) / turns if turns else 0.0,
            within,
        )

    def _passes(self, seed: int) -> tuple[Passes, ...]:
        attempts, solved = Counter(self.ids), Counter[str]()
        for task, one in zip(self.ids, self.solved, strict=True):
            solved[task] += int(one)
        most = max(attempts.values(), default=0)
        if most < 2:
            return ()
        ks = sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
        passes = []
        for k in ks:
            tasks = [task for task, n in attempts.items() if n >= k]
            any_, all_ = ([of(k, attempts[task], solved[task]) for task in tasks] for of in (pass_at, pass_all))
            passes.append(Passes(k, mean_interval(any_, tasks, seed, RATE), mean_interval(all_, tasks, seed, RATE)))
        return tuple(passes)

    def _idle(self, gym: str, seed: int) -> Summary | None:
        if not self.idle:
            return None
        ids = list(self.idle)
        scores, shares = [score for score, _ in self.idle.values()], [share for _, share in self.idle.values()]
        solved = [float(share >= 1.0) for share in shares]
        score = mean_interval(scores, ids, seed, score_bounds(gym, self.best))
        share, success = mean_interval(shares, ids, seed, share_bounds(gym)), mean_interval(solved, ids, seed, RATE)
        return Summary(gym, len(ids), len(ids), 0, score, share, success, sum(map(bool, scores)) / len(ids), {})
