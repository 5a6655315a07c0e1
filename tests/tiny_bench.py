"""A tiny shop and airline of our own in tau-bench's form (`data/tau_bench`), and shorthands for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from userrl.gyms.tau import database, tools
from userrl.gyms.tau.database import Overlay
from userrl.gyms.tau.tools import Result

FOLDER = Path(__file__).parent / "data" / "tau_bench"


def shop() -> Overlay:
    return Overlay(database.load("official/retail", str(FOLDER)))


def airline() -> Overlay:
    return Overlay(database.load("official/airline", str(FOLDER)))


def call(db: Overlay, name: str, **arguments: Any) -> Result:
    return tools.call(db.base.domain, db, name, arguments)


def refused(db: Overlay, name: str, **arguments: Any) -> str:
    """The code of a call that must be refused and change nothing."""
    before = database.digest(db)
    result = call(db, name, **arguments)
    assert not result.ok
    assert database.digest(db) == before
    return result.code


def record(db: Overlay, table: str, key: str) -> dict[str, Any]:
    found = db.get(table, key)
    assert found is not None
    return found
