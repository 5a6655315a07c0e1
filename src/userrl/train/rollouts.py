"""What a step of training plays: its tasks, drawn from one gym or several, its turn limit and its episodes.

All follow from the settings and the step's number, so that a resumed run plays what an undisturbed one would have.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from userrl.agents.policy import Policy, PolicyAgent
from userrl.core import Cast, Episode, Task
from userrl.gyms.base import rules_for
from userrl.rollout import play_many

if TYPE_CHECKING:
    from userrl.train.grpo import GRPOConfig


def draw(tasks: Sequence[Task], number: int, config: GRPOConfig) -> list[Task]:
    """The tasks of a step: each gym's endless sequence of shuffled passes over its tasks, mixed by weight, cut into steps."""
    gyms: dict[str, list[Task]] = {}
    for task in tasks:
        gyms.setdefault(task.gym, []).append(task)
    names, picked = list(gyms), []
    places = mixed([config.weights.get(gym, 1.0) for gym in names])
    for which, at in islice(places, number * config.groups, (number + 1) * config.groups):
        held = gyms[names[which]]
        turn, place = divmod(at, len(held))
        picked.append(held[_order(len(held), config.seed, turn)[place]])
    return picked


def mixed(weights: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Without end: which one comes next, the one furthest behind its weight, and how often it has come before."""
    counts = [0] * len(weights)
    while True:
        which = min(range(len(weights)), key=lambda i: (counts[i] + 1) / weights[i])
        yield which, counts[which]
        counts[which] += 1


def turn_limit(config: GRPOConfig, number: int) -> int:
    """The turn limit after so many steps."""
    return [config.max_turns, *(limit for first, limit in sorted(config.turns) if first <= number)][-1]


@lru_cache(maxsize=16)  # shuffled once, not for every task that is drawn
def _order(count: int, seed: int, turn: int) -> list[int]:
    return random.Random(f"grpo-order|{seed}|{turn}").sample(range(count), count)


async def rollout(
    policy: Policy,
    tasks: Sequence[Task],
    cast: Cast | Callable[[str], Cast],
    config: GRPOConfig,
    number: int,
    on_end: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Play a step's episodes with the current weights."""
    policy.model.eval()
    seed = random.Random(f"grpo|{config.seed}|{number}").getrandbits(31)
    agent = PolicyAgent(policy, temperature=config.temperature, max_new=config.max_new, seed=seed)
    total = len(tasks) * config.group_size
    drawn: Counter[tuple[str, str]] = Counter()
    episodes: list[Episode] = []
    for task in tasks:  # a task drawn twice in a step gives one group of twice the size, not the same episodes twice
        rules = rules_for(config.rules, task.gym)
        fresh = Episode(task, seed=seed, max_turns=turn_limit(config, number), rules=rules)
        episodes += [replace(fresh, attempt=drawn[task.gym, task.id] + i) for i in range(config.group_size)]
        drawn[task.gym, task.id] += config.group_size
    return await play_many(
        episodes,
        agent,
        cast,
        on_end=on_end,
        at_once=total,
        max_errors=total // 4 if config.max_errors is None else config.max_errors,
    )
