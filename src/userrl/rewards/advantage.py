"""Advantages: how much better an episode did than the others of its group, and which of its turns that is due to.

An episode that ended by a failure has no score: `comparable` leaves it out of the group, and a group with fewer than
two left.

Source: UserRL, arXiv 2509.19736, section 3, as its released code computes it; the formula printed in the paper gives
every episode of an `equalized` group the same value and cannot train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from userrl.core import DEFAULT_MAX_TURNS
from userrl.errors import ConfigError, DataError
from userrl.rewards.base import EM_K, GAMMA, TURN_COST, Array, Indices, Mask, numbered, padded, read_by
from userrl.rewards.estimators.batch import EPS, Batch, Worth
from userrl.rewards.estimators.grpo import grpo
from userrl.rewards.schemes import CREDITS, ESTIMATORS, SCORES

CreditSign = Literal["plain", "directional"]
CreditNorm = Literal["credited", "episode"]
Compat = Literal["userrl"]
CREDIT, SCORE = "equalized", "r2g"
"""What is taken where nothing is said, and all that an estimator which reads no credit or no score may be given."""

CANCELS = 1e-12
"""Credits whose sum is below this share of their sizes sum to 0 up to rounding (under compat; else none is negative)."""


def comparable(groups: Sequence[Hashable], failed: Sequence[bool]) -> list[int]:
    """Which of N episodes can be compared: they did not fail, and another of their group (N,) did not either."""
    whole = [i for i, failure in enumerate(failed) if not failure]
    sizes = Counter(groups[i] for i in whole)
    return [i for i in whole if sizes[groups[i]] > 1]


def advantages(
    rewards: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    tokens_per_turn: Sequence[Sequence[int]],
    *,
    credit: str = CREDIT,
    score: str = SCORE,
    estimator: str = "grpo",
    gamma: float = GAMMA,
    scale: bool = True,
    credit_sign: CreditSign = "plain",
    credit_norm: CreditNorm = "credited",
    em_k: float = EM_K,
    success: Sequence[float] | None = None,
    max_turns: int = DEFAULT_MAX_TURNS,
    turn_cost: float = TURN_COST,
    states: Sequence[Sequence[Hashable]] | None = None,
    compat: Compat | None = None,
) -> list[Array]:
    """Per-turn advantages of a batch of episodes, for the policy tokens of each turn.

    Args:
        rewards: for each of the N episodes its turn rewards (T_i,), in the gym's units. No errored episodes.
        groups: (N,) what an episode is compared within: its task.
        tokens_per_turn: for each episode the number of policy tokens of its turns, (T_i,).
        credit: a key of `CREDITS`.
        score: a key of `SCORES`.
        estimator: a key of `ESTIMATORS`.
        gamma: discount per turn of the credit, the score and the estimator, from 0 to 1.
        scale: divide by the group's standard deviation (GRPO); False only centers.
        credit_sign: "directional" punishes the worst turns of a below-average episode most; see `turn_advantages`.
        credit_norm: over which tokens the mean advantage is the episode's; see `turn_advantages`.
        em_k: for the credit "em", how fast it rises.
        success: (N,) for the score "composite"; see `userrl.rewards.scores.composite`. So are the next two.
        states: for the estimator "gigpo", for each episode the gym state in which each turn's action was chosen, (T_i,).
        compat: "userrl" computes as the original does. There `tokens_per_turn[i]` may differ in length from the
            rewards: turns cut off at the end have no tokens, turns without a reward get credit 0.

    Returns:
        For each episode (T_i,) advantages, unitless; 0 for a turn without policy tokens.

    Raises:
        UnknownName: no such credit, score or estimator.
        ConfigError: settings that do not go together (`check_settings`), an estimator that lacks what it needs, or a scheme
            that gives values of another shape, or not finite.
        DataError: lengths differ, a reward is not finite, or a number of tokens is below 0.
    """
    check_settings(
        credit, score, estimator, gamma=gamma, credit_sign=credit_sign, credit_norm=credit_norm, em_k=em_k, compat=compat
    )
    original = _original(compat)
    _check(rewards, groups, tokens_per_turn, success, states, exact=not original)
    values, turns = padded(rewards)
    tokens, counted = padded(tokens_per_turn)
    width = max(values.shape[1], tokens.shape[1])
    values, tokens = (np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in (values, tokens))
    played = np.arange(width) < turns[:, None]
    scores = _fitting(
        SCORES.find(score)(
            values, turns=turns, gamma=gamma, success=success, max_turns=max_turns, turn_cost=turn_cost, compat=compat
        ),
        (len(values),),
        f"trajectory score {score!r}",
    )
    state = None
    if states is not None:
        state = np.zeros(played.shape, dtype=np.int64)
        state[played] = numbered(list(chain.from_iterable(states)))
    batch = Batch(scores, values, played, numbered(groups), gamma, state, original)
    credits = credits_of(credit, values, played, gamma=gamma, em_k=em_k, compat=compat)
    worth = worth_of(estimator, batch, scale=scale)
    spread = of_turns(worth, credits, tokens, credit_sign=credit_sign, credit_norm=credit_norm, compat=compat)
    return _split(spread, counted)


def check_settings(
    credit: str,
    score: str,
    estimator: str,
    *,
    gamma: float = GAMMA,
    credit_sign: str = "plain",
    credit_norm: str = "credited",
    em_k: float = EM_K,
    compat: str | None = None,
) -> None:
    """See that settings of `advantages` go together, before there is anything to compute.

    Raises:
        UnknownName: no such credit, score or estimator.
        ConfigError: a number out of range; something that the original does not have, under compat; or a setting that would be
            passed over: a credit with an estimator that reads none, for example.
    """
    CREDITS.named(credit)
    SCORES.named(score)
    reads = read_by(ESTIMATORS.find(estimator))
    if not 0 <= gamma <= 1:
        raise ConfigError(f"`gamma` is {gamma}; expected a discount from 0 to 1.")
    if not em_k > 0:
        raise ConfigError(f"`em_k` is {em_k}; expected a number above 0.")
    if credit_sign not in ("plain", "directional"):
        raise ConfigError(f"`credit_sign` is {credit_sign!r}; expected 'plain' or 'directional'.")
    if credit_norm not in ("credited", "episode"):
        raise ConfigError(f"`credit_norm` is {credit_norm!r}; expected 'credited' or 'episode'.")
    others = {"estimator": (estimator, "grpo"), "credit_sign": (credit_sign, "plain"), "credit_norm": (credit_norm, "credited")}
    passed_over = {
        "credit": (credit, CREDIT, reads.credit),
        "credit_sign": (credit_sign, "plain", reads.credit),
        "credit_norm": (credit_norm, "credited", reads.credit),
        "score": (score, SCORE, reads.score),
    }
    for name, (given, plain) in others.items():
        if _original(compat) and given != plain:
            raise ConfigError(f"`{name}` is {given!r}, which the original does not have; leave out either that or compat.")
    for name, (given, plain, read) in passed_over.items():
        if given != plain and not read:
            raise ConfigError(
                f"`{name}` is {given!r}, but the estimator {estimator!r} makes no use of it; leave it out, or choose another "
                f"estimator."
            )


def credits_of(
    credit: str, rewards: Array, played: Mask, *, gamma: float, em_k: float = EM_K, compat: str | None = None
) -> Array:
    """(N, T) turn credits, 0 behind an episode's end, from rewards (N, T). Raises UnknownName, and ConfigError for misfits."""
    given = CREDITS.find(credit)(rewards, gamma=gamma, em_k=em_k, compat=compat)
    return _fitting(given, rewards.shape, f"turn credit {credit!r}", played)


def worth_of(estimator: str, batch: Batch, *, scale: bool = True) -> Worth:
    """What an estimator says of a batch, looked through. Raises UnknownName, and ConfigError for misfits."""
    worth, what = ESTIMATORS.find(estimator)(batch, scale=scale), f"advantage estimator {estimator!r}"
    of_episode = _fitting(worth.of_episode, batch.scores.shape, what)
    return Worth(of_episode, None if worth.of_turn is None else _fitting(worth.of_turn, batch.played.shape, what, batch.played))


def _fitting(given: ArrayLike, shape: tuple[int, ...], what: str, played: Mask | None = None) -> Array:
    """A scheme's values, 0 where no turn was played. Raises ConfigError where they are of another shape, or not finite."""
    values = np.asarray(given, dtype=np.float64)
    if values.shape != shape:
        raise ConfigError(f"The {what} gives the shape {values.shape}; expected {shape}. Mend the scheme.")
    if played is not None:
        values = np.where(played, values, 0.0)
    if not np.isfinite(values).all():
        raise ConfigError(f"The {what} gives {values[~np.isfinite(values)][0]}; expected finite numbers. Mend the scheme.")
    return values


def group_advantages(
    scores: ArrayLike,
    groups: Sequence[Hashable],
    *,
    scale: bool = True,
    eps: float = EPS,
    compat: Compat | None = None,
) -> Array:
    """How much better each episode did than its group: (S - mean) / (std + eps), std over n - 1.

    Args:
        scores: (N,) in the gym's units.
        groups: (N,) group of each episode.
        scale: divide by the standard deviation; False only centers.
        eps: added to the standard deviation.
        compat: "userrl" gives the only episode of a group its score (scaled by 1 + eps) in place of 0.

    Returns:
        (N,) advantages, unitless (in score units for `scale=False`). They sum to 0 within a group, and are exactly 0
        where its scores are equal (std below 1e-6 of the largest); the original leaves rounding noise of up to 0.11.

    Warns:
        UserWarning: a group has one episode, so there is nothing to compare it with; it gets 0.
    """
    original = _original(compat)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(groups),):
        raise DataError(f"Scores have the shape {values.shape}; expected one for each of the {len(groups)} entries of `groups`.")
    none = np.zeros((len(groups), 0))
    batch = Batch(values, none, none.astype(bool), numbered(groups), GAMMA, original=original)
    return grpo(batch, scale=scale, eps=eps).of_episode


def turn_advantages(
    of_episode: ArrayLike,
    credits: Sequence[Sequence[float] | Array],
    tokens_per_turn: Sequence[Sequence[int]],
    *,
    credit_sign: CreditSign = "plain",
    credit_norm: CreditNorm = "credited",
    compat: Compat | None = None,
) -> list[Array]:
    """Spread the advantage A of each episode over its turns, in proportion to their credits c.

    A token of turn t gets A * c_t * N / (sum of c over the policy tokens), N = policy tokens of turns with a non-zero
    credit; so the mean over those tokens is A.

    Args:
        of_episode: (N,) advantages of the episodes.
        credits: for each episode (T_i,) turn credits.
        tokens_per_turn: for each episode (T_i,) policy tokens of its turns.
        credit_sign: "plain" gives the turns with most credit most of A, also when A < 0, where it punishes the better
            turns most. "directional" mirrors the credits (c -> max + min - c) where A < 0: the worst turns are punished most.
        credit_norm: "credited" takes N as above. "episode" takes N = all policy tokens of the episode: the mean over all of
            them is A, however many turns have credit.
        compat: "userrl" neither shifts nor falls back: an episode whose credits sum to 0 gets 0 (an all-zero
            reward-to-go is never pushed down), and credits that sum below 0 flip the sign.

    By default negative credits are shifted, so that the least is 0, and an episode whose credits are all 0 gives every
    turn the same. A turn without policy tokens gets 0 and has no say.

    Returns:
        For each episode (T_i,) advantages of the tokens of each turn.
    """
    rows, turns = padded(credits)
    counts, counted = padded(tokens_per_turn)
    values = np.asarray(of_episode, dtype=np.float64)
    if not (len(values) == len(rows) == len(counts) and (turns == counted).all()):
        raise DataError("Advantages, credits and token counts differ in length; expected the same episodes and turns in each.")
    spread = of_turns(Worth(values), rows, counts, credit_sign=credit_sign, credit_norm=credit_norm, compat=compat)
    return _split(spread, counted)


def of_turns(
    worth: Worth,
    credits: Array,
    tokens: Array,
    *,
    credit_sign: CreditSign = "plain",
    credit_norm: CreditNorm = "credited",
    compat: Compat | None = None,
) -> Array:
    """`turn_advantages` on arrays: (N, T) from credits (N, T) and policy tokens (N, T), plus what a turn has of its own."""
    check_settings(CREDIT, SCORE, "grpo", credit_sign=credit_sign, credit_norm=credit_norm, compat=compat)
    original = _original(compat)
    spoken = tokens > 0
    weights = np.where(spoken, credits, 0.0)
    if not original:
        weights = np.where(spoken, weights - weights.min(1, keepdims=True, initial=0.0), 0.0)
        if credit_sign == "directional":
            ends = weights.max(1, keepdims=True, initial=0.0) + np.min(weights, 1, keepdims=True, initial=np.inf, where=spoken)
            weights = np.where(spoken & (worth.of_episode < 0)[:, None], ends - weights, weights)
        weights = np.where(weights.any(1, keepdims=True), weights, spoken)
    whole = (weights * tokens).sum(1)
    cancels = np.abs(whole) <= CANCELS * (np.abs(weights) * tokens).sum(1)
    credited = (tokens * (weights != 0) if credit_norm == "credited" else tokens).sum(1)
    share = weights * credited[:, None] / np.where(cancels, 1.0, whole)[:, None]
    out: Array = worth.of_episode[:, None] * np.where(cancels[:, None], 0.0, share)
    return out if worth.of_turn is None else out + np.where(spoken, worth.of_turn, 0.0)


def per_token(
    of_turns: Sequence[Sequence[float] | Array], turn_of_token: ArrayLike, dtype: DTypeLike = np.float64
) -> NDArray[Any]:
    """Per-turn values as a token array.

    Args:
        of_turns: for each of the B episodes (T_i,) values of its turns.
        turn_of_token: (B, L) turn of each token, counted from 0; -1 for a token that the policy did not write. Small
            integers are read faster than large ones.
        dtype: of the result.

    Returns:
        (B, L) the value of the token's turn, 0 where there is none.
    """
    index = np.asarray(turn_of_token)
    if index.ndim != 2 or len(of_turns) != len(index) or index.dtype.kind not in "iu":
        raise DataError(
            f"`turn_of_token` has the shape {index.shape} and holds {index.dtype}; expected integers, a row for each of the "
            f"{len(of_turns)} episodes."
        )
    table, counted = padded(of_turns)
    tokens = index.ravel()
    new = np.ones(len(tokens), dtype=bool)  # where a run of tokens of one turn begins: few are looked up, the rest is copied
    new[1:] = tokens[1:] != tokens[:-1]
    new[:: max(index.shape[1], 1)] = True
    starts = np.flatnonzero(new)
    rows, turns = starts // max(index.shape[1], 1), tokens[starts].astype(np.int64)
    if ((turns < -1) | (turns >= counted[rows])).any():
        raise DataError("`turn_of_token` names a turn that its episode does not have; expected -1 or a turn counted from 0.")
    values = np.zeros(len(starts), dtype)
    named = turns >= 0
    values[named] = table[rows[named], turns[named]]
    return np.repeat(values, np.diff(starts, append=len(tokens))).reshape(index.shape)


def _original(compat: str | None) -> bool:
    if compat not in (None, "userrl"):
        raise ConfigError(f"`compat` is {compat!r}; expected 'userrl' or nothing.")
    return compat is not None


def _split(table: Array, turns: Indices) -> list[Array]:
    return [row[:n] for row, n in zip(table, turns, strict=True)]


def _check(
    rewards: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    tokens_per_turn: Sequence[Sequence[int]],
    success: Sequence[float] | None,
    states: Sequence[Sequence[Hashable]] | None,
    *,
    exact: bool,
) -> None:
    if not len(rewards) == len(groups) == len(tokens_per_turn):
        raise DataError(
            f"There are rewards of {len(rewards)} episodes, {len(groups)} groups and token counts of "
            f"{len(tokens_per_turn)} episodes; expected the same number of each."
        )
    if success is not None and len(success) != len(rewards):
        raise DataError(f"There are {len(rewards)} episodes but {len(success)} entries of `success`; expected as many.")
    if states is not None and list(map(len, states)) != list(map(len, rewards)):
        raise DataError("`states` and `rewards` differ in length; expected one state for each turn of each episode.")
    for i, (reward, tokens) in enumerate(zip(rewards, tokens_per_turn, strict=True)):
        if exact and len(reward) != len(tokens):
            raise DataError(
                f"Episode {i} has {len(reward)} rewards but token counts for {len(tokens)} turns; expected one each per turn."
            )
        if min(tokens, default=0) < 0:
            raise DataError(f"Episode {i} has a turn of {min(tokens)} policy tokens; expected 0 or more.")
        if not all(map(isfinite, reward)):
            raise DataError(f"Episode {i} has a reward that is not finite ({list(reward)!r:.100}); leave failed episodes out.")
