"""From turn rewards to advantages: credits (per turn), scores (per episode), estimators (within a group). numpy only."""

from userrl.rewards.advantage import advantages, comparable, group_advantages, per_token, turn_advantages
from userrl.rewards.credits import CREDITS
from userrl.rewards.estimators import ESTIMATORS
from userrl.rewards.scores import SCORES

__all__ = [
    "CREDITS",
    "ESTIMATORS",
    "SCORES",
    "advantages",
    "comparable",
    "group_advantages",
    "per_token",
    "turn_advantages",
]
