"""The estimator `gigpo`."""

from __future__ import annotations

import json
from collections.abc import Hashable

import numpy as np

from userrl.core import Episode
from userrl.errors import ConfigError
from userrl.rewards.base import reads, to_go
from userrl.rewards.estimators.batch import Batch, Worth, compare
from userrl.rewards.estimators.grpo import grpo


@reads(states=True)
def gigpo(batch: Batch, /, *, scale: bool = True) -> Worth:
    """GRPO's advantage, plus the distance of the reward-to-go from the mean of the group's turns in the same state.

    A state met once adds 0. Source: GiGPO, arXiv 2505.10978, with both parts weighted alike.
    """
    if batch.state is None:
        raise ConfigError("Estimator 'gigpo' needs `states`, which are missing; pass the gym state before each turn.")
    state, group = batch.state[batch.played], np.repeat(batch.group, batch.played.sum(1))
    _, at = np.unique(group * (state.max(initial=0) + 1) + state, return_inverse=True)
    own = np.zeros_like(batch.rewards)
    own[batch.played], _ = compare(to_go(batch.rewards, batch.gamma)[batch.played], at, scale=scale)
    return Worth(grpo(batch, scale=scale).of_episode, own)


def gym_states(episode: Episode) -> list[Hashable]:
    """(T,) what the gym held before each turn: all that its rules had noted and shown by then, in any order."""
    states: list[Hashable] = []
    held: frozenset[str] = frozenset()
    for turn in episode.turns:
        states.append(held)
        if turn.facts or turn.reveals:
            held |= {json.dumps([dict(turn.facts), turn.reveals], sort_keys=True)}
    return states
