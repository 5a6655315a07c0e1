"""The tools of retail and airline, each written once for built-in and imported databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from userrl.gyms.tau.database import Overlay
from userrl.gyms.tau.tools import airline, retail
from userrl.gyms.tau.tools.common import Result, Tool, perform, shown

__all__ = ["NAMES", "READS", "TOOLS", "TRANSFER", "WRITES", "Result", "call", "shown"]

TOOLS: Mapping[str, Mapping[str, Tool]] = {"airline": airline.TOOLS, "retail": retail.TOOLS}
"""Domain -> name -> tool."""
NAMES: Mapping[str, tuple[str, ...]] = {domain: tuple(sorted(tools)) for domain, tools in TOOLS.items()}
"""Domain -> names of its tools."""
WRITES = frozenset(tool.name for tools in TOOLS.values() for tool in tools.values() if tool.writes)
"""Names of the tools that can change something."""
READS = frozenset(name for tools in TOOLS.values() for name in tools) - WRITES
"""Names of all others, those that do nothing among them."""
TRANSFER = "transfer_to_human_agents"
"""The tool that ends an episode."""


def call(domain: str, db: Overlay, name: str, arguments: Mapping[str, Any]) -> Result:
    """Call a tool, changing `db`. A call that cannot be made is a result, too: its `code` says why, nothing is changed."""
    if name not in TOOLS[domain]:
        return Result("unknown_action", None, {"name": name})
    return perform(TOOLS[domain][name], db, arguments)
