"""From turn rewards to advantages: credits (per turn), scores (per episode), estimators (within a group). numpy only.

The functions are loaded when first used: the names of the schemes alone cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from userrl.rewards.schemes import CREDITS, ESTIMATORS, SCORES

if TYPE_CHECKING:
    from userrl.rewards.advantage import advantages, comparable, group_advantages, per_token, turn_advantages

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


def __getattr__(name: str) -> Any:
    if name in __all__:
        from userrl.rewards import advantage

        return getattr(advantage, name)
    raise AttributeError(f"module 'userrl.rewards' has no attribute {name!r}")
