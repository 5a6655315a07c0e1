"""userrl: train and evaluate LLM agents that are good with users.

    import userrl

    gym = userrl.make("intention")
    episodes = userrl.run(userrl.starts(gym.tasks("test")[:8]), gym.expert(0.8), gym.cast("terse"))

The names below are loaded when first used, so that `import userrl` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from userrl.core import Action, Cast, Episode, Query, Task, Turn
    from userrl.evaluate.conformance import assert_conforms, check_gym
    from userrl.gyms.base import Gym, make
    from userrl.report.frames import load
    from userrl.rollout import play, play_many, run, starts

__all__ = [
    "Action",
    "Cast",
    "Episode",
    "Gym",
    "Query",
    "Task",
    "Turn",
    "assert_conforms",
    "check_gym",
    "load",
    "make",
    "play",
    "play_many",
    "run",
    "starts",
]

_HOMES = {
    "userrl.core": ("Action", "Cast", "Episode", "Query", "Task", "Turn"),
    "userrl.evaluate.conformance": ("assert_conforms", "check_gym"),
    "userrl.gyms.base": ("Gym", "make"),
    "userrl.report.frames": ("load",),
    "userrl.rollout": ("play", "play_many", "run", "starts"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'userrl' has no attribute {name!r}")
