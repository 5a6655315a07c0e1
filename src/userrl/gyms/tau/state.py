"""The database of an episode, worked out from the tool calls made in it: nothing else is stored.

So an episode can be resumed, replayed or branched at any turn, and any number of them run in one process. What the
calls made so far come to is remembered, so that a further call costs one call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from userrl.gyms.tau import tools
from userrl.gyms.tau.database import Base, Overlay

REMEMBERED = 4_096
"""States that are kept; each holds the few records that its calls have changed."""

Call = tuple[str, Mapping[str, Any]]
"""(name of the tool, its arguments)."""


def replay(base: Base, calls: Iterable[Call]) -> Overlay:
    """The database after these calls, whether they succeeded or not; a view of its own, which may be changed.

    Calls that only read, unknown tools and the transfer have no effect and are passed over.
    """
    writes = tuple((name, json.dumps(arguments)) for name, arguments in calls if name in tools.WRITES)
    for made in range(1, len(writes)):
        _after(base, writes[:made])  # from the first on, so that none is worked out within another
    return _after(base, writes).fork()


@lru_cache(maxsize=REMEMBERED)
def _after(base: Base, writes: tuple[tuple[str, str], ...]) -> Overlay:
    """Not to be changed: it is remembered."""
    if not writes:
        return Overlay(base)
    db = _after(base, writes[:-1]).fork()
    name, arguments = writes[-1]
    tools.call(base.domain, db, name, json.loads(arguments))
    return db
