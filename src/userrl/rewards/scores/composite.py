"""The score `composite`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from userrl.core import DEFAULT_MAX_TURNS
from userrl.errors import ConfigError
from userrl.rewards.base import TURN_COST, Array, reads


@reads(success=True)
def composite(
    rewards: ArrayLike,
    /,
    *,
    turns: ArrayLike | None = None,
    success: ArrayLike | None = None,
    max_turns: int = DEFAULT_MAX_TURNS,
    turn_cost: float = TURN_COST,
    **_: object,
) -> Array:
    """Success less the cost of the turns it took: success - turn_cost * T / max_turns.

    Args:
        success: 1.0 or 0.0 as the gym's `solved` says, or a share of success. Required: rewards alone do not say.
        max_turns: the episode's turn limit.
        turn_cost: the cost of playing up to the limit.
    """
    if success is None:
        raise ConfigError("Score 'composite' needs `success`, which is missing; pass 1.0 or 0.0 per episode (see `Gym.solved`).")
    played = np.shape(rewards)[-1] if turns is None else np.asarray(turns)
    return np.asarray(np.asarray(success, dtype=np.float64) - turn_cost * played / max_turns)
