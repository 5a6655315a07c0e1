"""What the tools of both domains share: results, refusals, and how a call is checked and made.

A tool is a function of a database and named arguments. Its code says what happened; `texts` puts it into words.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from userrl.gyms.tau.database import Overlay, Record
from userrl.gyms.tau.tools.calculator import ALLOWED, Incalculable, value_of

SUCCESS = frozenset({"ok", "certificate_ok", "transfer_ok"})
"""Codes of calls that did what they should; all others say why nothing was done."""
PYTHON_ERRORS = (TypeError, AttributeError, LookupError, ValueError, ArithmeticError)
"""What arguments of wrong kinds can make Python raise, at once or when they are on record."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call."""

    code: str
    """One of `SUCCESS`, or why the call was refused."""
    value: Any = None
    """With "ok": a JSON value, or a text that is to be shown as it is."""
    slots: Mapping[str, str] = field(default_factory=dict)
    """What the words for the code are filled with."""

    @property
    def ok(self) -> bool:
        return self.code in SUCCESS


class Refused(Exception):
    """A tool's way to say that it does nothing. Never leaves `perform`."""

    def __init__(self, code: str, *, keep: bool = False, **slots: object) -> None:
        super().__init__(code)
        self.code, self.keep, self.slots = code, keep, {name: str(value) for name, value in slots.items()}


@dataclass(frozen=True)
class Tool:
    """A tool of a domain."""

    name: str
    run: Callable[..., Result]
    """(database, **arguments) -> result. Raises `Refused`."""
    kinds: Mapping[str, TypeAdapter[Any]]
    """Parameter -> what its argument must be. All are required."""
    writes: bool


def tools_of(reads: tuple[Callable[..., Result], ...], writes: tuple[Callable[..., Result], ...]) -> dict[str, Tool]:
    """Name -> tool, from functions whose first parameter is the database."""
    return {run.__name__: _tool(run, run in writes) for run in (*reads, *writes)}


def _tool(run: Callable[..., Result], writes: bool) -> Tool:
    hints = get_type_hints(run)
    _, *names = inspect.signature(run).parameters
    return Tool(run.__name__, run, {name: TypeAdapter(hints[name]) for name in names}, writes)


def perform(tool: Tool, db: Overlay, arguments: Mapping[str, Any]) -> Result:
    """Make a call. One that is refused changes nothing, except where a tool says so (`Refused.keep`).

    tau-bench's tools check no kinds: an argument of a wrong one may be looked up in vain, be stored, or make Python
    raise. The same happens here, where the last is a refusal with the code "py_exception". What was stored may make a
    later call raise, too. Arguments of the right kinds cannot make our tools raise on records that nobody has changed,
    so that what they raise then is a bug, and passes.
    """
    for name in arguments:
        if name not in tool.kinds:
            return _misfit("py_unexpected_argument", f"{tool.name} has no parameter {name!r:.60}")
    for name in tool.kinds:
        if name not in arguments:
            return _misfit("py_missing_argument", f"{tool.name} needs the argument {name!r}")
    trial = db.fork()
    try:
        result = tool.run(trial, **arguments)
    except Refused as refused:
        if refused.keep:
            db.adopt(trial)
        return Result(refused.code, None, refused.slots)
    except PYTHON_ERRORS:
        wrong = next((name for name, kind in tool.kinds.items() if not _fits(kind, arguments[name])), None)
        if not wrong and not db.changed():
            raise
        what = f"the argument {wrong!r} of {tool.name}" if wrong else f"something on record that {tool.name} needs"
        return _misfit("py_exception", f"{what} is not of the kind it should be")
    db.adopt(trial)
    return result


def _misfit(code: str, problem: str) -> Result:
    return Result(code, None, {"problem": problem})


def _fits(kind: TypeAdapter[Any], value: Any) -> bool:
    try:
        kind.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def found(db: Overlay, table: str, key: str, code: str) -> Record:
    """The record, only to be read. Refuses with the code where there is none."""
    record = db.get(table, key)
    if record is None:
        raise Refused(code)
    return record


def shown(result: Result) -> str:
    """The value of a result as the agent reads it: a text as it is, else JSON with ASCII characters only."""
    return result.value if isinstance(result.value, str) else json.dumps(result.value)


# --- tools of both domains -----------------------------------------------------------------------------------


def calculate(db: Overlay, expression: str) -> Result:
    """The value of an arithmetic expression, rounded to two decimals."""
    if not all(character in ALLOWED for character in expression):
        raise Refused("calc_invalid_characters")
    if not isinstance(expression, str):
        raise TypeError(expression)
    try:
        return Result("ok", value_of(expression))
    except Incalculable as error:
        raise Refused("py_exception", problem=error) from None


def think(db: Overlay, thought: str) -> Result:
    """Nothing but room to think."""
    return Result("ok", "")


def transfer_to_human_agents(db: Overlay, summary: str) -> Result:
    """Hand the user over; the gym ends the episode."""
    return Result("transfer_ok")
