"""Official search tasks as ours: questions about the real world, so they need an engine that searches it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from userrl.core import Task

Text = Annotated[str, Field(min_length=1)]


class Entry(BaseModel):
    """One entry of the official `questions.json`."""

    id: Text
    question: Text
    answer: Text


def convert(entry: Entry) -> Task:
    """The task."""
    return Task(entry.id, "search", entry.question, {"answer": entry.answer, "aliases": []})
