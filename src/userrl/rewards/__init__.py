"""From turn rewards to advantages: credits (per turn), scores (per episode), advantages (within a group). numpy only."""

from userrl.rewards.advantage import advantages, group_advantages, per_token, turn_advantages
from userrl.rewards.trajectory import SCORES
from userrl.rewards.turns import CREDITS

__all__ = ["CREDITS", "SCORES", "advantages", "group_advantages", "per_token", "turn_advantages"]
