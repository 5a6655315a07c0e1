"""The built-in stories as tasks, from `content/stories.toml`. Nothing is drawn: a story is one task."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

from userrl.core import Task
from userrl.data import split_of

Split = Literal["train", "validation", "test"]


@cache
def content() -> Mapping[str, Any]:
    """The content file: `common` (key -> question, words), `bare` (words) and `story` (a list); see its top."""
    found: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath("content", "stories.toml").read_text("utf-8"))
    return found


def tasks(split: Split | None = None) -> list[Task]:
    """The stories as tasks, in the file's order; the split is fixed by the hash of the id."""
    made = [task(story) for story in content()["story"]]
    return [t for t in made if split is None or split_of(t.id) == split]


def task(story: Mapping[str, Any]) -> Task:
    """One story of the content file. The leads' sentences are the expert's and are left out."""
    known = [*(lead[:3] for lead in story["leads"]), *story["facts"]]
    hidden = {
        "story": story["story"],
        "rubric": [{"line": line, "weight": weight, "words": words} for weight, line, words in story["lines"]],
        "facts": [{"question": question, "reply": reply, "words": words} for question, reply, words in known],
        "common": story["common"],
    }
    return Task(f"turtle-{story['id']}", "turtle", story["surface"], hidden)
