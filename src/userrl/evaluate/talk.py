"""An episode as people read it: who says what, feedback without braces, how it ended."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from userrl.core import INVALID, Action, Episode
from userrl.evaluate.metrics import share, total
from userrl.gyms.base import find
from userrl.scripted import Scripted


def counterpart(gym: str) -> Literal["user", "gym"]:
    """Who answers the agent: the user, or in a gym whose scripted user has no answer to anything, the rules alone."""
    user = find(gym).cast().user
    return "gym" if isinstance(user, Scripted) and not user.answers else "user"


def answerer(gym: str, action: Action) -> str:
    """Who answers an action of the agent: the gym where it is no valid call, else whom the gym names, else the user."""
    return "gym" if action.kind == INVALID else find(gym).voices.get(action.kind, counterpart(gym))


def ending(episode: Episode) -> str:
    """How an episode ended and what it earned."""
    if episode.stop == "error":
        return f"failed, so there is no score: {episode.error}"
    ends = {
        "done": "finished",
        "turn_limit": f"all {episode.max_turns} turns used",
        "window": "the agent's window is full",
        "running": "left before the end",
    }
    rewards = math.fsum(episode.rewards)
    earned = f"{ends[episode.stop]}; earned {rewards:.2f}"
    score = "" if total(episode) == rewards else f"; score {total(episode):.2f}"
    return f"{earned}{score}, {share(episode):.0%} of what was within reach"


def spoken(label: str) -> str:
    return label.replace("_", "-")


def readable(text: str) -> str:
    """A feedback for people: a line of JSON as its values, each with its name, but for a name or id in front.

    A tool in OpenAI's function form gets a line for each of its parameters.
    """
    return "\n".join(_item(line) if line.startswith(("{", "[{", "[[")) else line for line in text.split("\n"))


def _item(line: str) -> str:
    try:
        value = json.loads(line)
        items = value if isinstance(value, list) else [value]
        return "\n".join(_described(item) if isinstance(item, dict) else _joined(item) for item in items)
    except (ValueError, RecursionError):  # no JSON, or objects within objects by the hundred
        return line


def _described(values: dict[str, Any]) -> str:
    """An object, which may describe a tool."""
    parameters = values.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if isinstance(properties, dict) and all(isinstance(schema, dict) for schema in properties.values()):
        head = f"{values.get('name', '')}: {values.get('description', '')}"
        return "\n".join(
            [head, *(f"    {name}: {_kind(schema)}. {schema.get('description', '')}" for name, schema in properties.items())]
        )
    named = ((name, _joined(value)) for name, value in values.items())
    first, *rest = [(name, value) for name, value in named if value] or [("", "{}")]
    title = first[1] if first[0] in ("", "id", "name") or first[0].endswith("_id") else " ".join(first)
    return f"{title}: {'; '.join(f'{name} {value}' for name, value in rest)}" if rest else title


def _kind(schema: Any) -> str:
    """What a parameter of a tool takes, in a few words."""
    match schema:
        case {"enum": list(values)}:
            return f"one of {', '.join(map(str, values))}"
        case {"type": "array"}:
            return f"list of {_kind(schema.get('items'))}"
        case {"properties": dict(names)}:
            return f"{{{', '.join(names)}}}"
        case {"type": str(kind)}:
            return kind
    return "anything"


def _joined(value: object, inner: bool = False) -> str:
    """A value in one line; what stands within a list or an object, in parentheses where it has several parts."""
    if isinstance(value, dict):
        parts = ", ".join(f"{name} {_joined(item, True)}" for name, item in value.items())
    elif isinstance(value, list):
        parts = ", ".join(_joined(item, True) for item in value)
    else:
        return str(value)
    return f"({parts})" if inner else parts
