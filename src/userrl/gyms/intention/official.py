"""Official intention tasks as ours.

The official data says which details are missing and what could be answered, not what this user wants: the wish is one
of a detail's options, drawn by the task's id. It has no lexicons either; the one made here lets the scripted cast
recognize a detail roughly, by words that only this detail of the task has. Models as user and judge do not see it.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from userrl.core import Task
from userrl.gyms.intention import detail
from userrl.gyms.intention.lexicon import own_words

Text = Annotated[str, Field(min_length=1)]


class Missing(BaseModel):
    """A missing detail of an official task."""

    description: Text
    importance: Literal["1", "2", "3"]
    inquiry: Text
    options: Annotated[list[Text], Field(min_length=1)]


class Entry(BaseModel):
    """One entry of the official `all_intentions_refined.json` or `all_intentions_test.json`."""

    id: Text
    category: Text
    task: Text
    missing_details: Annotated[list[Missing], Field(min_length=1)]


def convert(entry: Entry) -> Task:
    """The task. The agent reads the vague task and, as in the original, its category."""
    prompt = f"{entry.task}\n(Category: {entry.category})"
    rng = random.Random(f"intention|{entry.id}")
    named = own_words([missing.description for missing in entry.missing_details], prompt)
    asked = own_words([f"{m.description} {m.inquiry}" for m in entry.missing_details], prompt)
    details = [
        detail(
            f"detail-{number}",
            missing.description,
            int(missing.importance),
            rng.choice(missing.options),
            options=missing.options,
            lexicon=sorted({*named[number], *asked[number]} or {missing.description}),
        )
        for number, missing in enumerate(entry.missing_details)
    ]
    return Task(entry.id, "intention", prompt, {"domain": entry.category, "details": details})
