"""Official function tasks as ours."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat, StrictInt

from userrl.core import Task
from userrl.errors import DataError
from userrl.gyms.function import TOLERANCE
from userrl.gyms.function.generate import prompt
from userrl.gyms.function.rule import rule


class Entry(BaseModel):
    """One entry of the official `functions.json`."""

    id: Annotated[str, Field(min_length=1)]
    rule: str
    test_case: tuple[StrictInt, StrictInt, StrictInt, StrictInt]
    expected_result: FiniteFloat


def convert(entry: Entry) -> Task:
    """The task. Raises DataError for a rule that cannot be read or whose value is not the expected one."""
    value = rule(entry.rule).value(entry.test_case)
    expected = entry.expected_result
    if value is None or abs(value - expected) > TOLERANCE:
        raise DataError(f"field 'expected_result' is {expected}, but the rule {entry.rule!r} gives {value} at the test case.")
    hidden = {
        "rule": entry.rule,
        "test_case": list(entry.test_case),
        "expected": int(expected) if expected.is_integer() else expected,
    }
    return Task(entry.id, "function", prompt(), hidden)
