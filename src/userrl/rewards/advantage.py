"""Advantages: how much better an episode did than the others of its group, and which of its turns that is due to.

An episode that ended by a failure has no score: leave it out of the group, and drop a group with fewer than two left.

Source: UserRL, arXiv 2509.19736, section 3, as its released code computes it; the formula printed in the paper gives
every episode of an `equalized` group the same value and cannot train. GRPO: arXiv 2402.03300; centering without
scaling: Dr. GRPO, arXiv 2503.20783.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from userrl.core import DEFAULT_MAX_TURNS
from userrl.errors import ConfigError, DataError, UnknownName
from userrl.rewards.trajectory import SCORES, TURN_COST
from userrl.rewards.turns import CREDITS, GAMMA, Array

CreditSign = Literal["plain", "directional"]
Compat = Literal["userrl"]

EPS = 1e-6
"""Added to a group's standard deviation."""
FLAT = 1e-6
"""A group whose standard deviation is below this share of its largest score counts as equal."""

CANCELS = 1e-12
"""Credits whose sum is below this share of their sizes sum to 0 up to rounding (under compat; else none is negative)."""


def advantages(
    rewards: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    tokens_per_turn: Sequence[Sequence[int]],
    *,
    credit: str = "equalized",
    score: str = "r2g",
    gamma: float = GAMMA,
    scale: bool = True,
    credit_sign: CreditSign = "plain",
    success: Sequence[float] | None = None,
    max_turns: int = DEFAULT_MAX_TURNS,
    turn_cost: float = TURN_COST,
    compat: Compat | None = None,
) -> list[Array]:
    """Per-turn advantages of a batch of episodes, for the policy tokens of each turn.

    Args:
        rewards: for each of the N episodes its turn rewards (T_i,), in the gym's units. No errored episodes.
        groups: (N,) what an episode is compared within: its task.
        tokens_per_turn: for each episode the number of policy tokens of its turns, (T_i,).
        credit: a key of `CREDITS`.
        score: a key of `SCORES`.
        gamma: discount per turn of the credit and the score.
        scale: divide by the group's standard deviation (GRPO); False only centers (Dr. GRPO).
        credit_sign: "directional" punishes the worst turns of a below-average episode most; see `turn_advantages`.
        success: (N,) for the score "composite"; see `userrl.rewards.trajectory.composite`. So are the next two.
        compat: "userrl" computes as the original does. There `tokens_per_turn[i]` may differ in length from the
            rewards: turns cut off at the end have no tokens, turns without a reward get credit 0.

    Returns:
        For each episode (T_i,) advantages, unitless; 0 for a turn without policy tokens.

    Raises:
        UnknownName: no such credit or score.
        DataError: lengths differ, or a reward is not finite.
    """
    if credit not in CREDITS:
        raise UnknownName("turn credit", credit, CREDITS)
    if score not in SCORES:
        raise UnknownName("trajectory score", score, SCORES)
    _check(rewards, groups, tokens_per_turn, exact=compat is None)
    if success is not None and len(success) != len(rewards):
        raise DataError(f"There are {len(rewards)} episodes but {len(success)} entries of `success`; expected as many.")

    def score_of(i: int) -> float:
        done = None if success is None else success[i]
        return SCORES[score](rewards[i], gamma=gamma, success=done, max_turns=max_turns, turn_cost=turn_cost, compat=compat)

    of_episode = group_advantages([score_of(i) for i in range(len(rewards))], groups, scale=scale, compat=compat)
    credits = [CREDITS[credit](r, gamma=gamma, compat=compat) for r in rewards]
    fitted = [_fit(c, len(tokens)) for c, tokens in zip(credits, tokens_per_turn, strict=True)]
    return turn_advantages(of_episode, fitted, tokens_per_turn, credit_sign=credit_sign, compat=compat)


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
    index = _index(groups)
    size = np.bincount(index)
    mean = np.bincount(index, values) / size
    centered = values - mean[index]
    std = np.sqrt(np.bincount(index, centered**2) / np.maximum(size - 1, 1))
    largest = np.zeros(len(size))
    np.maximum.at(largest, index, np.abs(values))

    flat, alone = std <= FLAT * largest, size == 1
    out: Array = np.where(flat[index], 0.0, centered / (std + eps)[index] if scale else centered)
    if original:
        return np.where(alone[index], values / (1.0 + eps) if scale else values, out)
    if alone.any():
        warnings.warn(
            f"{alone.sum()} of {len(size)} groups have one episode, which has nothing to be compared with and gets "
            f"advantage 0. Play at least 2 episodes of a task, or drop such groups.",
            stacklevel=2,
        )
    return out


def turn_advantages(
    of_episode: ArrayLike,
    credits: Sequence[ArrayLike],
    tokens_per_turn: Sequence[Sequence[int]],
    *,
    credit_sign: CreditSign = "plain",
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
        compat: "userrl" neither shifts nor falls back: an episode whose credits sum to 0 gets 0 (an all-zero
            reward-to-go is never pushed down), and credits that sum below 0 flip the sign.

    By default negative credits are shifted, so that the least is 0, and an episode whose credits are all 0 gives every
    turn the same. A turn without policy tokens gets 0 and has no say.

    Returns:
        For each episode (T_i,) advantages of the tokens of each turn.
    """
    if credit_sign not in ("plain", "directional"):
        raise ConfigError(f"`credit_sign` is {credit_sign!r}; expected 'plain' or 'directional'.")
    original = _original(compat)
    if original and credit_sign == "directional":
        raise ConfigError("`credit_sign` is 'directional', which the original does not have; leave out either that or compat.")
    out = []
    for advantage, credit, count in zip(np.asarray(of_episode, dtype=np.float64), credits, tokens_per_turn, strict=True):
        tokens = np.asarray(count, dtype=np.int64)
        weights = np.where(tokens > 0, np.asarray(credit, dtype=np.float64), 0.0)
        if not original and tokens.any():
            weights[tokens > 0] = _non_negative(weights[tokens > 0], mirror=credit_sign == "directional" and advantage < 0)
        whole = float(weights @ tokens)
        cancels = abs(whole) <= CANCELS * float(np.abs(weights) @ tokens)
        share = np.zeros(len(tokens)) if cancels else weights * tokens[weights != 0].sum() / whole
        out.append(advantage * share)
    return out


def per_token(of_turns: Sequence[ArrayLike], turn_of_token: ArrayLike) -> Array:
    """Per-turn values as a token array.

    Args:
        of_turns: for each of the B episodes (T_i,) values of its turns.
        turn_of_token: (B, L) turn of each token, counted from 0; -1 for a token that the policy did not write.

    Returns:
        (B, L) the value of the token's turn, 0 where there is none.
    """
    index = np.asarray(turn_of_token, dtype=np.int64)
    rows = [np.asarray(values, dtype=np.float64) for values in of_turns]
    if index.ndim != 2 or len(rows) != len(index):
        raise DataError(f"`turn_of_token` has the shape {index.shape}; expected a row for each of the {len(rows)} episodes.")
    turns = np.array([len(row) for row in rows], dtype=np.int64)
    if ((index < -1) | (index >= turns[:, None])).any():
        raise DataError("`turn_of_token` names a turn that its episode does not have; expected -1 or a turn counted from 0.")
    table = np.zeros((len(rows), int(turns.max(initial=0)) + 1))
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return np.take_along_axis(table, np.where(index < 0, table.shape[1] - 1, index), axis=1)


def _original(compat: str | None) -> bool:
    if compat not in (None, "userrl"):
        raise ConfigError(f"`compat` is {compat!r}; expected 'userrl' or nothing.")
    return compat is not None


def _non_negative(credits: Array, *, mirror: bool) -> Array:
    least = min(float(credits.min()), 0.0)
    credits = credits - least
    if mirror:
        credits = credits.max() + credits.min() - credits
    return credits if credits.any() else np.ones_like(credits)


def _index(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def _fit(credits: Array, turns: int) -> Array:
    return np.pad(credits[:turns], (0, max(0, turns - len(credits))))


def _check(
    rewards: Sequence[Sequence[float]], groups: Sequence[Hashable], tokens_per_turn: Sequence[Sequence[int]], *, exact: bool
) -> None:
    if not len(rewards) == len(groups) == len(tokens_per_turn):
        raise DataError(
            f"There are rewards of {len(rewards)} episodes, {len(groups)} groups and token counts of "
            f"{len(tokens_per_turn)} episodes; expected the same number of each."
        )
    for i, (reward, tokens) in enumerate(zip(rewards, tokens_per_turn, strict=True)):
        if exact and len(reward) != len(tokens):
            raise DataError(
                f"Episode {i} has {len(reward)} rewards but token counts for {len(tokens)} turns; expected one each per turn."
            )
        if not np.isfinite(np.asarray(reward, dtype=np.float64)).all():
            raise DataError(f"Episode {i} has a reward that is not finite ({list(reward)!r:.100}); leave failed episodes out.")
