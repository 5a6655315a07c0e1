"""The advantage estimator "userrl_turn_grpo": verl's tensors to `userrl.rewards` and back."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from userrl.errors import DataError, needs
from userrl.integrations.verl.settings import scheme_in
from userrl.rewards.advantage import advantages, comparable, per_token
from userrl.rewards.base import Array, Indices, Mask

with needs("verl", "The verl plug-in"):
    import torch


def turns_in(mask: Mask) -> Indices:
    """(B, L) turn of each token, counted from 0, from a response mask (B, L); -1 for a token the policy did not write.

    A turn is a run of ones, which is how verl keeps what the policy wrote apart from what the user said.
    """
    return np.where(mask, _begun(mask) - 1, -1)


def rewards_in(rewards: Array, mask: Mask) -> list[list[float]]:
    """For each row its turns' rewards, from token rewards (B, L): a turn has all that stands up to the next one's start.

    A row without a turn has none: padding, or a sequence that verl rejected as a whole.

    Raises DataError for a reward that stands before the first turn, and so would be lost.
    """
    begun = _begun(mask)
    if (lost := (rewards != 0) & (begun == 0) & mask.any(1, keepdims=True)).any():
        row = int(np.flatnonzero(lost.any(1))[0])
        raise DataError(
            f"Row {row} has a reward that belongs to no turn of the policy; something has changed `response_mask` or "
            f"`rm_scores`. `userrl verl check` names the options that do."
        )
    return [np.bincount(b, r, minlength=1 + b.max(initial=0))[1:].tolist() for b, r in zip(begun, rewards, strict=True)]


def _begun(mask: Mask) -> Indices:
    """(B, L) turns begun up to each token."""
    before = np.zeros_like(mask)
    before[:, 1:] = mask[:, :-1]
    return np.cumsum(mask & ~before, axis=1)


def turn_grpo(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Sequence[Hashable],
    config: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages of UserRL's turn-level GRPO, in the form that verl's registry asks for.

    Rows without a turn (padding, rejected sequences) and, outside of compat, rows whose siblings all failed get 0.

    Args:
        token_level_rewards: (B, L), each turn's reward at its last token.
        response_mask: (B, L), 1 where the policy wrote.
        index: (B,) group of each row.
        config: verl's table `algorithm`.

    Returns:
        (B, L) advantages and the same again as returns, 0 where the policy did not write.

    Raises ConfigError for a setting that does not fit, DataError for rewards outside of turns.
    """
    scheme = scheme_in(config)
    mask = response_mask.detach().cpu().numpy().astype(bool)
    turn = turns_in(mask)
    rewards = rewards_in(token_level_rewards.detach().cpu().double().numpy(), mask)
    empty = [not row for row in rewards]
    groups = list(index)
    chosen = [i for i, none in enumerate(empty) if not none] if scheme.compat else comparable(groups, empty)
    worth = [np.zeros(len(row)) for row in rewards]
    computed = advantages(
        [rewards[i] for i in chosen],
        [groups[i] for i in chosen],
        [np.bincount(turn[i][mask[i]]).tolist() for i in chosen],
        credit=scheme.credit,
        score=scheme.score,
        estimator=scheme.estimator,
        gamma=scheme.gamma,
        scale=True if config is None else bool(config.get("norm_adv_by_std_in_grpo", True)),
        credit_sign=scheme.credit_sign,
        credit_norm=scheme.credit_norm,
        em_k=scheme.em_k,
        compat=scheme.compat,
    )
    for i, of_turns in zip(chosen, computed, strict=True):
        worth[i] = of_turns
    out = torch.from_numpy(per_token(worth, turn, np.float32)).to(token_level_rewards.device)
    return out, out.clone()
