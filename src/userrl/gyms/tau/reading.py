"""Tool calls as an agent writes them: one JSON object with a name and arguments."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 20_000
"""Characters of a call that are read."""
MAX_DEPTH = 12
"""Lists and objects within each other."""
MAX_NUMBER = 1e15
"""Size of a number in a call. Whole numbers up to this are exact as floats, too."""


class Unreadable(ValueError):
    """A content that is no tool call; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, which need not exist."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """As JSON, for `Turn.facts` and `Task.hidden`."""
        return {"name": self.name, "arguments": self.arguments}


def read_call(content: str, *, loosely: bool = False) -> Call:
    """The call in a content.

    Arguments may be left out, where there are none; a call without a name calls the tool "", which nobody has.

    Args:
        loosely: also accept `name: {arguments}`, as the original does.

    Raises Unreadable.
    """
    if len(content) > MAX_LENGTH:
        raise Unreadable(f"it is {len(content)} characters long; at most {MAX_LENGTH} are read")
    if loosely and not content.lstrip().startswith("{") and ":" in content:
        name, _, rest = content.partition(":")
        return Call(_text(name.strip()), _object(_json(rest), "what follows the name"))
    call = _object(_json(content), "it")
    name = call.get("name", "")
    if not isinstance(name, str):
        raise Unreadable('"name" is not a text')
    return Call(name, _object(call.get("arguments", {}), '"arguments"'))


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is not a JSON object")
    return value


def _json(text: str) -> Any:
    try:
        return _checked(json.loads(text, strict=False), 0)
    except RecursionError:
        raise Unreadable("it is nested too deep") from None
    except ValueError as error:
        raise error if isinstance(error, Unreadable) else Unreadable("it is not valid JSON") from None


def _checked(value: Any, depth: int) -> Any:
    """The value with texts that every file takes. Numbers that nothing here can have, and deep nesting, are refused."""
    if depth > MAX_DEPTH:
        raise Unreadable(f"more than {MAX_DEPTH} lists or objects are nested")
    if isinstance(value, dict):
        return {_text(key): _checked(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_checked(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable("a number in it is not finite")
    if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
        raise Unreadable(f"a number in it is above {MAX_NUMBER:g}")
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Lone surrogates, which JSON escapes can spell and no file takes, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
