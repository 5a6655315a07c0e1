"""What a gym's tasks may hide: a schema for `Task.hidden`, and how a task that does not fit it is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from userrl.core import Task
from userrl.errors import DataError

Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""


class HiddenModel(BaseModel):
    """Base of a gym's schema of `Task.hidden`: strict types, every field known, no infinite number.

    The values are those of JSON, so use `list` and not `tuple`. A gym names its schema in `Gym.hidden_model`; the
    rules go on reading `task.hidden` itself.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


def check_hidden(task: Task, model: type[HiddenModel] | None, where: str) -> None:
    """Raises DataError, naming place, task and field, when the hidden part does not fit; no model fits everything.

    where: file and line, or what else the reader can look up.
    """
    if model is None:
        return
    try:
        model.model_validate(dict(task.hidden))
    except ValidationError as error:
        faults = error.errors()
        more = f" Faults in all: {len(faults)}." if len(faults) > 1 else ""
        raise DataError(f"{where}, task {task.id!r}: {_said(faults[0])}.{more}") from error


def _said(fault: Mapping[str, Any]) -> str:
    """What is wrong with a field, its value, and what was expected."""
    field = ".".join(map(str, ("hidden", *fault["loc"])))
    if fault["type"] == "missing":
        return f"field {field!r} is missing"
    if fault["type"] == "extra_forbidden":
        return f"field {field!r} is not known; expected only fields of the gym's data sheet"
    if fault["type"] == "value_error":  # said by a validator of the gym's own, which names the value
        return f"field {field!r}: {fault['ctx']['error']}"
    value, expected = repr(fault["input"]), fault["msg"].replace("Input should be", "expected", 1)
    return f"field {field!r} is {value if len(value) <= 60 else f'{value[:60]}…'}; {expected[0].lower()}{expected[1:]}"
