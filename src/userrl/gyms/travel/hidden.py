"""What a travel task hides: the trip, and for each aspect what a search must say, what the user wants, and the options."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from userrl.data.hidden import HiddenModel, Text

ASPECTS = {"F": "flight", "H": "hotel", "A": "apartment", "R": "restaurant", "C": "rental_car"}
"""First letter of an option's id -> aspect."""

Aspect = Literal["flight", "hotel", "apartment", "restaurant", "rental_car"]


class Wish(HiddenModel):
    """A preference. Those of the bank have a `key`; others bring their own `hints`."""

    id: Annotated[str, Field(pattern=r"^P[0-9]+$")]
    category: Text
    text: Text
    key: Text | None = None
    hints: Annotated[list[Text], Field(min_length=1)] | None = None
    check: dict[str, Any] | None = None
    """What an option must have, as the bank says it."""

    @model_validator(mode="after")
    def _can_be_told(self) -> Self:
        if self.key is None and self.hints is None:
            raise ValueError(f"preference {self.id} has neither a key of the bank nor hints; expected one of them")
        return self


class Part(HiddenModel):
    """One aspect of the trip."""

    arguments: dict[str, Any]
    """What a search must say."""
    preferences: Annotated[list[Wish], Field(min_length=1)]
    options: Annotated[list[dict[str, Any]], Field(min_length=1)]
    """In the order in which they are shown."""
    best: Text
    correct: Annotated[list[Text], Field(min_length=1)]
    """The best one is among them."""
    why: dict[str, list[Text]] = Field(default_factory=dict)
    """Option id -> what it misses, for those that are not correct."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [option.get("id") for option in self.options]
        if len(set(ids)) < len(ids):
            raise ValueError("two options have the same id; expected each once")
        if stray := [name for name in (self.best, *self.correct, *self.why) if name not in ids]:
            raise ValueError(f"{stray[0]!r} is not the id of an option; there are {', '.join(map(str, ids))}")
        if self.best not in self.correct:
            raise ValueError(f"best is {self.best!r}; expected one of the correct ones, {', '.join(self.correct)}")
        return self


class Hidden(HiddenModel):
    """All that the agent is not told."""

    scenario: Text
    """The trip, for user and judge."""
    family: str
    """Numbers of preferences of the aspects, sorted: "233"."""
    aspects: Annotated[dict[Aspect, Part], Field(min_length=1)]

    @model_validator(mode="after")
    def _ids_are_right(self) -> Self:
        ids = [wish.id for part in self.aspects.values() for wish in part.preferences]
        if set(ids) != {f"P{number}" for number in range(1, len(ids) + 1)}:
            raise ValueError(f"preferences have the ids {', '.join(ids)}; expected P1 to P{len(ids)} over all aspects")
        for aspect, part in self.aspects.items():
            if stray := [str(o["id"]) for o in part.options if ASPECTS.get(str(o["id"])[:1]) != aspect]:
                raise ValueError(f"option {stray[0]!r} is listed as a {aspect}; its letter says otherwise")
        return self
