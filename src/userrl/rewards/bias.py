"""How far an estimator's mean is from the true policy gradient, measured where the truth is known.

The problem: an agent that knows nothing yet may ask (which may teach it something) or answer (which ends the episode and
succeeds more often if it knows something), for at most 3 turns; so the policy decides when to stop. One policy plays two
tasks, an easy and a hard one, of 16 possible episodes each, from which the gradient of the expected sum of rewards, the
mean over both tasks, is computed exactly. Groups are drawn from the policy (Monte Carlo), as many of either task; each
action is one token, and the estimate of a group is the mean over its episodes of sum_t A_t * gradient of log pi(a_t | s_t).

Why it can go wrong: verl's RFC 7244 shows that baselines per turn number are biased where the policy decides when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from userrl.errors import ConfigError
from userrl.rewards.advantage import CREDIT, credits_of, of_turns, worth_of
from userrl.rewards.base import Array, Indices, Mask, padded, read_by
from userrl.rewards.estimators.batch import Batch
from userrl.rewards.schemes import CREDITS, ESTIMATORS
from userrl.rewards.scores.r2g import r2g

TURNS = 3
ASKS = (0.6, 0.3)
"""Probability that the policy asks, knowing nothing and knowing something. It answers else."""
TEACHES = 0.5
"""Probability that asking teaches the agent what it did not know."""
LEARNED = 0.2
"""Reward of learning something."""
SUCCEEDS = ((0.3, 0.9), (0.05, 0.4))
"""For each task the probability of a right answer, whose reward is 1, knowing nothing and knowing something."""

CERTAIN = 5.0
"""A bias is called one from so many standard errors on (chi-squared of 2 degrees: 4 in a million by chance)."""
SEEN = 3.0
"""From so many on it is called possible (1 in 90 by chance: a table has some twenty rows)."""
TOLERANCE = 0.02
"""What is not further off than this, by the upper end of its interval, counts as unbiased."""
FLAT = 1e-9
"""What is shorter than this, over the gradient's length, is rounding."""
FOUR_IN_FIVE = 0.84
"""Standard errors beyond a threshold at which it is passed with a probability of .8."""
FEWEST = 100
"""Groups below which standard errors are too uncertain to go by."""

Moves = tuple[tuple[int, bool, float], ...]
"""Of each turn: whether the agent knows something (0 or 1), whether it asks, what it earns."""


@dataclass(frozen=True)
class Episodes:
    """All K episodes that a task has."""

    probability: Array
    """(K,)"""
    rewards: Array
    """(K, T)"""
    turns: Indices
    """(K,)"""
    knows: Indices
    """(K, T)"""
    pull: Array
    """(K, T, 2) gradient of the log-probability of each action by the two logits of asking; 0 behind the end."""

    @property
    def played(self) -> Mask:
        mask: Mask = np.arange(self.rewards.shape[1]) < self.turns[:, None]
        return mask


@dataclass(frozen=True)
class Bias:
    """An estimator's mean against the exact gradient. Relative sizes; errors are standard errors."""

    estimator: str
    credit: str
    """Empty where the estimator uses none."""
    size: float
    """Distance of the mean from the gradient, over the gradient's length."""
    size_error: float
    factor: float
    """What the gradient must be multiplied by to come nearest to the mean. A factor acts as another learning rate."""
    rest: float
    """Distance that remains then, over the length of the gradient so multiplied: how far the direction is off. NaN where the
    factor is 0."""
    rest_error: float
    detectable: float
    """The smallest bias that so many groups show as one (`CERTAIN`) four times in five."""
    verdict: str
    """"biased" and "perhaps biased": the mean is further from the gradient than chance explains, or may be. "off by a factor":
    biased, and the direction is right to within `TOLERANCE`. "unbiased": the distance lies within `TOLERANCE`. "no bias found":
    neither is shown."""

    def cells(self) -> tuple[str, ...]:
        """A row under `COLUMNS`, errors as 95% intervals."""
        size = f"{self.size:.3f} ± {1.96 * self.size_error:.3f}"
        rest = "-" if math.isnan(self.rest) else f"{self.rest:.3f} ± {1.96 * self.rest_error:.3f}"
        open_ = self.verdict in ("no bias found", "perhaps biased")
        verdict = f"{self.verdict} (could see {self.detectable:.2f})" if open_ else self.verdict
        return (self.estimator, self.credit or "(none)", verdict, size, f"{self.factor:.2f}", rest)


COLUMNS = ("estimator", "credit", "verdict", "bias", "factor", "rest")


def episodes(task: int) -> Episodes:
    """Every episode of a task, 0 or 1. Both tasks have the same, with other probabilities."""
    found = list(_play(SUCCEEDS[task], 0, 0, 1.0, ()))
    rewards, turns = padded([[earned for _, _, earned in moves] for _, moves in found])
    knows, _ = padded([[float(known) for known, _, _ in moves] for _, moves in found])
    pull = np.zeros((*rewards.shape, 2))
    for k, (_, moves) in enumerate(found):
        for t, (known, asks, _) in enumerate(moves):
            pull[k, t, known] = asks - ASKS[known]
    return Episodes(np.array([p for p, _ in found]), rewards, turns, knows.astype(np.int64), pull)


def _play(
    succeeds: tuple[float, float], turn: int, known: int, probability: float, moves: Moves
) -> Iterator[tuple[float, Moves]]:
    if turn == TURNS:
        yield probability, moves
        return
    for right, p in ((1.0, succeeds[known]), (0.0, 1 - succeeds[known])):
        yield probability * (1 - ASKS[known]) * p, (*moves, (known, False, right))
    asked = probability * ASKS[known]
    if known:
        yield from _play(succeeds, turn + 1, 1, asked, (*moves, (1, True, 0.0)))
    else:
        yield from _play(succeeds, turn + 1, 1, asked * TEACHES, (*moves, (0, True, LEARNED)))
        yield from _play(succeeds, turn + 1, 0, asked * (1 - TEACHES), (*moves, (0, True, 0.0)))


def exact_gradient(gamma: float = 1.0) -> Array:
    """(2,) gradient of the expected discounted sum of rewards by the two logits of asking."""
    each = [(e.probability * r2g(e.rewards, gamma=gamma)) @ e.pull.sum(1) for e in map(episodes, range(len(SUCCEEDS)))]
    gradient: Array = np.mean(each, axis=0)
    return gradient


def estimates(drawn: Indices, estimator: str, credit: str, gamma: float = 1.0) -> Array:
    """The gradient that each of M groups gives, (M, 2), from the numbers (M, n) of its episodes in `episodes(...)`."""
    every, which = episodes(0), drawn.ravel()
    rewards, played = every.rewards[which], every.played[which]
    group = np.repeat(np.arange(len(drawn)), drawn.shape[1])
    batch = Batch(r2g(rewards, gamma=gamma), rewards, played, group, gamma, every.knows[which])
    credits = credits_of(credit, rewards, played, gamma=gamma)
    advantage = of_turns(worth_of(estimator, batch), credits, played.astype(np.float64))
    pulled: Array = np.einsum("it,itd->id", advantage, every.pull[which])
    return np.asarray(pulled.reshape(*drawn.shape, 2).mean(1))


def measure(*, groups: int = 40_000, group_size: int = 8, gamma: float = 1.0, seed: int = 0) -> list[Bias]:
    """Every estimator with every credit that it reads, on the same groups; the score is that of the objective.

    Args:
        groups: how many are drawn, half of them of either task.
        gamma: discount of the objective, the score, the credit and the estimator, from 0 to 1. Below 1, what is taken to go
            from a turn on lacks the turn's own discount, which shows as a bias.

    Raises ConfigError for too few groups, a discount out of range, and schemes that give values of another shape.
    """
    if group_size < 2 or groups < FEWEST:
        raise ConfigError(
            f"There are {groups} groups of {group_size}; expected at least {FEWEST} groups of at least 2 episodes: the spread of "
            f"fewer says too little of how sure the figures are."
        )
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma is {gamma}; expected a discount from 0 to 1.")
    random = np.random.default_rng(seed)
    chances = [episodes(task).probability for task in range(len(SUCCEEDS))]
    size = (groups // len(SUCCEEDS), group_size)
    drawn = np.concatenate([random.choice(len(chance), size=size, p=chance) for chance in chances])
    truth, found = exact_gradient(gamma), []
    for name, estimator in ESTIMATORS.items():
        of_credit = read_by(estimator).credit
        for credit in CREDITS if of_credit else (CREDIT,):
            got = estimates(drawn, name, credit, gamma)
            found.append(_compared(name, credit if of_credit else "", got, truth))
    return found


def _compared(estimator: str, credit: str, got: Array, truth: Array) -> Bias:
    mean = got.mean(0)
    spread = np.mean([np.cov(half.T) for half in np.split(got, len(SUCCEEDS))], axis=0) / len(got)
    length = float(np.linalg.norm(truth))
    along, across = truth / length, np.array([-truth[1], truth[0]]) / length
    factor = float(mean @ along) / length
    off, off_error = float(mean @ across), float(np.sqrt(across @ spread @ across))
    gap = mean - truth
    size = float(np.linalg.norm(gap))
    toward = gap / size if size else along
    size_error = float(np.sqrt(toward @ spread @ toward))
    scaled = abs(factor) * length
    rest, rest_error = (abs(off) / scaled, off_error / scaled) if scaled > FLAT * length else (math.nan, math.nan)
    away = _errors(gap, spread, length)
    if away >= CERTAIN:
        straight = factor > 0 and rest + 1.96 * rest_error <= TOLERANCE
        verdict = "off by a factor" if straight else "biased"
    elif (size + 1.96 * size_error) / length <= TOLERANCE:
        verdict = "unbiased"
    else:
        verdict = "perhaps biased" if away >= SEEN else "no bias found"
    widest = float(np.sqrt(np.linalg.eigvalsh(spread)[-1]))
    detectable = (CERTAIN + FOUR_IN_FIVE) * widest / length
    return Bias(estimator, credit, size / length, size_error / length, factor, rest, rest_error, detectable, verdict)


def _errors(gap: Array, spread: Array, length: float) -> float:
    """How many standard errors long a gap (2,) is, from the covariance (2, 2) of its ends. A direction without spread, where an
    estimator says the same of every group, counts as certain."""
    values, axes = np.linalg.eigh(spread)
    parts = (gap @ axes) ** 2
    certain = values <= (FLAT * length) ** 2
    if (parts[certain] > (FLAT * length) ** 2).any():
        return math.inf
    return float(np.sqrt((parts[~certain] / values[~certain]).sum()))
