"""Official travel tasks as ours.

The official preferences come with a category and one phrasing each, and without predicates: the scripted cast goes by
the category's name, and the expert makes sense of none of them. Options are put into an order drawn by the task's id.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from userrl.core import Task
from userrl.gyms.travel import spoken
from userrl.gyms.travel.hidden import ASPECTS, Aspect

Text = Annotated[str, Field(min_length=1)]

CHEAPEST = "My budget is small: of the options that suit me, I want the cheapest of each kind."
"""The original ends every request with a sentence to this effect."""


class Option(BaseModel):
    """An option with whatever fields its aspect has."""

    model_config = ConfigDict(extra="allow")
    id: Annotated[str, Field(pattern=r"^[ACFHR][0-9]+$")]


class Options(BaseModel):
    """The options of an aspect by what they are."""

    correct: list[Option]
    wrong: list[Option]
    noise: list[Option]


class Part(BaseModel):
    """One aspect of the trip."""

    arguments: dict[str, Any]
    preferences: Annotated[list[list[Any]], Field(min_length=1)]
    """[aspect, category, text, phrasing, ...]; shorter ones are passed over, as in the original."""
    options: Options
    correct_ids: list[Text]
    best_id: Text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [option.id for option in self.all()]
        if len(set(ids)) < len(ids):
            raise ValueError("two options have the same id")
        if self.best_id not in self.correct_ids:
            raise ValueError(f"best_id {self.best_id!r} is not in correct_ids")
        if missing := sorted(set(self.correct_ids) - set(ids)):
            raise ValueError(f"correct_ids names {missing[0]!r}, which is not an option")
        if not self.told() or not all(isinstance(text, str) and text for row in self.told() for text in row[:4]):
            raise ValueError("each preference is the 4 texts aspect, category, text and phrasing, and there is at least one")
        return self

    def all(self) -> list[Option]:
        return [*self.options.correct, *self.options.wrong, *self.options.noise]

    def told(self) -> list[list[Any]]:
        return [row for row in self.preferences if len(row) >= 4]


class Entry(BaseModel):
    """One task of an official `travelgym_data_*.json`."""

    id: Text
    scenario: Text
    dimensions: Annotated[list[Aspect], Field(min_length=1)]
    initial_description: Text
    flight: Part | None = None
    hotel: Part | None = None
    apartment: Part | None = None
    restaurant: Part | None = None
    rental_car: Part | None = None

    @model_validator(mode="after")
    def _has_its_aspects(self) -> Self:
        for aspect in self.dimensions:
            if self.dimensions.count(aspect) > 1:
                raise ValueError(f"dimensions names {aspect!r} twice")
            part = getattr(self, aspect)
            if part is None:
                raise ValueError(f"dimensions names {aspect!r}, which the task lacks")
            if stray := [option.id for option in part.all() if ASPECTS[option.id[0]] != aspect]:
                raise ValueError(f"option {stray[0]!r} is listed as a {spoken(aspect)}")
        return self


def convert(entry: Entry) -> Task:
    """The task. The agent reads the official request and that it should be cheap."""
    counter = iter(range(1, 100))
    aspects = {aspect: dict(_part(entry.id, aspect, getattr(entry, aspect), counter)) for aspect in entry.dimensions}
    family = "".join(sorted(re.findall(r":([0-9]+)-", entry.id)))
    hidden = {"scenario": entry.scenario, "family": family, "aspects": aspects}
    return Task(entry.id, "travel", f"{entry.initial_description}\n{CHEAPEST}", hidden)


def _part(task_id: str, aspect: str, part: Part, counter: Iterator[int]) -> Iterator[tuple[str, Any]]:
    options = [option.model_dump(exclude={"type", "reason"}) for option in sorted(part.all(), key=lambda option: option.id)]
    random.Random(f"travel|{task_id}|{aspect}").shuffle(options)
    yield "arguments", part.arguments
    yield (
        "preferences",
        [
            {"id": f"P{number}", "category": row[1], "text": row[2], "hints": [row[3]]}
            for row, number in zip(part.told(), counter, strict=False)
        ],
    )
    yield "options", options
    yield "best", part.best_id
    yield "correct", part.correct_ids
