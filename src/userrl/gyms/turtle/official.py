"""Official turtle tasks as ours. They have no words for the scripted cast to go by: user and judge must be models."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat

from userrl.core import Task
from userrl.errors import DataError
from userrl.gyms.turtle import TOLERANCE

Text = Annotated[str, Field(min_length=1)]


class Line(BaseModel):
    """A line of an official rubric."""

    statement: Text
    score: Annotated[FiniteFloat, Field(ge=0)]


class Entry(BaseModel):
    """One entry of the official `all_stories_refined.json`; `id` is its key there."""

    id: Text
    new_title: Text
    new_surface: Text
    new_bottom: Text
    evaluation: Annotated[list[Line], Field(min_length=1)]


def convert(entry: Entry) -> Task:
    """The task. Raises DataError when the rubric's weights do not sum to 1."""
    weights = [line.score for line in entry.evaluation]
    if abs(math.fsum(weights) - 1) > TOLERANCE:
        raise DataError(f"field 'evaluation': the scores sum to {math.fsum(weights):g}; expected 1.")
    rubric = [{"line": line.statement, "weight": line.score} for line in entry.evaluation]
    prompt = f"{entry.new_title}\n\n{entry.new_surface}"
    return Task(f"story-{entry.id}", "turtle", prompt, {"story": entry.new_bottom, "rubric": rubric})
