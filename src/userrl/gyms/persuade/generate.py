"""Tasks by seed: a claim of the bank, and a user with its own mind about it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from userrl.core import Task
from userrl.data import split_of
from userrl.errors import ConfigError
from userrl.gyms.persuade import TOP
from userrl.gyms.persuade.bank import REASON, Claim, claims

OPENINGS = (
    "I am firmly convinced of this: {claim} {reason}",
    "You will not talk me out of it: {claim} {reason}",
    "My view is clear. {claim} {reason}",
    "{claim} That is what I think. {reason}",
    "{claim} {reason} So why would anyone disagree?",
    "I have thought about it a lot. {claim} {reason}",
)
WEIGHT = {"open": (TOP + 1, TOP + 2), "firm": (TOP, TOP + 1), "stubborn": (TOP, TOP)}
"""Stubbornness -> least and most levels that all the arguments it accepts are worth together."""

Split = Literal["train", "validation", "test"]


def tasks(count: int, seed: int, split: Split | None = None) -> list[Task]:
    """The first `count` distinct tasks of a seed, from the claims of a split in turn.

    The split is fixed by the hash of the claim's id, so that no claim of a test task is seen in training.
    """
    chosen = [c for c in claims().values() if split is None or split_of(f"persuade-{c.key}") == split]
    if count < 1:
        raise ConfigError(f"count is {count}; expected at least 1 task.")
    rng, made = random.Random(f"persuade|{seed}"), dict[str, Task]()
    for n in range(100 * count):
        claim = chosen[n % len(chosen)]
        task = draw(claim, rng, f"persuade-{claim.key}-{seed}-{n // len(chosen)}")
        made.setdefault(f"{task.prompt} {sorted(task.hidden.items())}", task)
        if len(made) == count:
            return list(made.values())
    raise ConfigError(f"The {len(chosen)} claims of split {split} give only {len(made)} distinct tasks; {count} were asked for.")


def draw(claim: Claim, rng: random.Random, task_id: str) -> Task:
    """A user who holds the claim. It can be convinced, and unless it is open, not without its deeper reason."""
    stubbornness = rng.choice(list(WEIGHT))
    stated, deeper = rng.sample(claim.reasons, 2)
    opening = rng.choice(OPENINGS).format(claim=claim.text, reason=stated.text)
    hidden = {
        "claim": claim.text,
        "reasons": [stated.text, deeper.text],
        "cares": _cares(claim, stubbornness, rng),
        "stubbornness": stubbornness,
    }
    return Task(task_id, "persuade", opening, hidden)


def _cares(claim: Claim, stubbornness: str, rng: random.Random) -> Sequence[str]:
    """Themes whose arguments are worth what WEIGHT says."""
    least, most = WEIGHT[stubbornness]
    themes = sorted({a.theme for a in claim.arguments})
    while True:
        cares = rng.sample(themes, rng.randint(2, len(themes) - 1))
        accepted = claim.accepted(cares)
        fits = least <= sum(a.strength for a in accepted) <= most and {a.theme for a in accepted} == set(cares)
        if fits and (stubbornness == "open" or any(REASON in a.needs for a in accepted)):
            return cares
