"""Lines of a run's files beside its episodes, as far as their readers rely on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

M = TypeVar("M", bound=BaseModel)


class Fields(BaseModel):
    """What must be in a line; whatever else it holds is left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def fitting(model: type[M], line: Any) -> M:
    """A line as its model has it. Raises ValueError, which names the field and what it holds."""
    if not isinstance(line, Mapping):
        raise ValueError(f"it is {line!r:.60}; expected a JSON object")
    try:
        return model.model_validate(line)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(map(str, fault["loc"]))
        if fault["type"] == "missing":
            raise ValueError(f"field {name!r} is missing") from error
        expected = fault["msg"].replace("Input should be", "expected", 1)
        raise ValueError(f"field {name!r} is {fault['input']!r:.60}; {expected}") from error


class Ends(Fields):
    """A mean and its interval."""

    mean: float
    low: float
    high: float
    n: int | None = None


class Worth(Fields):
    share: float | None = None


class TestedGym(Fields):
    share: Ends


class Tested(TestedGym):
    gyms: dict[str, TestedGym] = Field(default_factory=dict)


class StepLine(Worth):
    """A line of `train.jsonl`: what a step of training came to, and the validation after it."""

    step: int
    mix: dict[str, float] = Field(default_factory=dict)
    gyms: dict[str, Worth] = Field(default_factory=dict)
    validation: Tested | None = None


def step_line(line: Any) -> dict[str, Any]:
    """A line of `train.jsonl`, looked through. Raises ValueError."""
    fitting(StepLine, line)
    return dict(line)
