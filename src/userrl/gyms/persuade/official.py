"""Official persuade tasks as ours. Their claims are not in the bank of arguments: user and judge must be models."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from userrl.core import Task

Text = Annotated[str, Field(min_length=1)]


class Entry(BaseModel):
    """One entry of the official `all_statements_refined.json`."""

    id: Text
    claim: Text
    argument: Text


def convert(entry: Entry) -> Task:
    """The task. As in the original's rows, the agent reads the claim alone; the user knows the argument for it, too."""
    return Task(
        entry.id, "persuade", f"I strongly agree with this: {entry.claim}", {"claim": entry.claim, "reasons": [entry.argument]}
    )
