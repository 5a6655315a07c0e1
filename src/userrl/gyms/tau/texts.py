"""What the tools and the gym say: results in words, policies, lists of tools.

The tools know codes only. The words are files: `domains/<domain>/{policy.md,tools.json,messages.json}` for the built-in
domains, tau-bench's own for imported ones. `messages.json` maps a code to its words, with {slots}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from userrl.errors import DataError
from userrl.gyms.tau import source
from userrl.gyms.tau.database import OFFICIAL, imported
from userrl.gyms.tau.source import Texts
from userrl.gyms.tau.tools import Result, shown

PYTHON_MESSAGES: Mapping[str, str] = {
    "py_unexpected_argument": "Error: {problem}.",
    "py_missing_argument": "Error: {problem}.",
    "py_exception": "Error: {problem}.",
}
"""Code -> words where tau-bench shows what Python says of an exception; ours are the same in every domain."""

_SLOT = re.compile(r"\{(\w+)\}")


def load(name: str, data: str = "") -> Texts:
    """The texts that go with the database of that name (`database.load`)."""
    domain = name.removeprefix(OFFICIAL)
    if not name.startswith(OFFICIAL):
        return _built_in(domain)
    return _official(domain, imported(data))


@cache
def _built_in(domain: str) -> Texts:
    folder = resources.files(__package__) / "domains" / domain
    policy = (folder / "policy.md").read_text("utf-8")
    tools = json.loads((folder / "tools.json").read_text("utf-8"))
    return Texts(policy, tools, json.loads((folder / "messages.json").read_text("utf-8")))


@cache
def _official(domain: str, folder: Path) -> Texts:
    """Where tau-bench's messages are not at hand (they are program text in a checkout), ours stand for them."""
    read = source.texts(folder, domain)
    return Texts(read.policy, read.tools, read.messages or _built_in(domain).messages)


def forget_imported() -> None:
    """Read imported texts anew."""
    _official.cache_clear()


def render(result: Result, messages: Mapping[str, str]) -> str:
    """A result as the agent reads it. Raises DataError for a code without words."""
    if result.code == "ok":
        return shown(result)
    template = {**PYTHON_MESSAGES, **messages}.get(result.code)
    if template is None:
        raise DataError(f"messages.json has no words for the code {result.code!r}; it has {', '.join(sorted(messages))}.")
    return _SLOT.sub(lambda slot: result.slots.get(slot[1], slot[0]), template)


def tool_list(texts: Texts) -> str:
    """The tools with their parameters, one a line, as JSON."""
    return "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in texts.tools)
