"""Official telepathy tasks as ours. The scripted user knows only those things that are in our table, too."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from userrl.core import Task

Text = Annotated[str, Field(min_length=1)]


class Entry(BaseModel):
    """One entry of the official `all_entities_refined.json`."""

    id: Text
    title: Text
    description: Text
    target_entity: Text
    category: Text


def convert(entry: Entry) -> Task:
    """The task. The agent reads the official description, which names the sort of thing."""
    category = entry.category.replace("_", " ")
    hidden = {"title": entry.title, "category": category, "description": entry.target_entity, "aliases": []}
    return Task(entry.id, "telepathy", entry.description, hidden)
