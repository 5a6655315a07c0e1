"""Telepathy tasks: one for each thing of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from userrl.core import Task
from userrl.data import split_of
from userrl.gyms.telepathy.language import plain
from userrl.gyms.telepathy.table import describe, kinds, things

PROMPT = "I am thinking of {kind}. Ask me questions that I can answer with yes or no, and tell me what it is."

Split = Literal["train", "validation", "test"]


def tasks(split: Split | None = None) -> list[Task]:
    """The tasks of a split, or all. The id names category and title; the split is fixed by the hash of the id."""
    made = [
        secret(f"telepathy-{thing.category}-{plain(thing.title).replace(' ', '-')}", thing.title, kinds()[thing.category],
               description=describe(thing), aliases=thing.aliases)
        for thing in things().values()
    ]  # fmt: skip
    return [task for task in made if split is None or split_of(task.id) == split]


def secret(task_id: str, title: str, kind: str, *, description: str = "", aliases: Sequence[str] = ()) -> Task:
    """A task about a thing.

    Args:
        kind: the category as the agent reads it, with its article ("an animal").
        description: what the user is told about the thing.
        aliases: other names that count as right.
    """
    hidden = {"title": title, "category": kind, "description": description, "aliases": list(aliases)}
    return Task(task_id, "telepathy", PROMPT.format(kind=kind), hidden)
