"""A person as the user."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from userrl.core import Query

R = TypeVar("R")


class HumanSeat:
    """Shows a query's facts to a person and asks for the reply, field by field.

    Args:
        ask: given a field's description, returns what was typed.
        show: shows one fact: its name and its text.
    """

    def __init__(self, ask: Callable[[str], str], show: Callable[[str, str], None]) -> None:
        self.ask, self.show = ask, show

    async def answer(self, query: Query[R]) -> R:
        return await asyncio.to_thread(self._answer, query)

    def _answer(self, query: Query[R]) -> R:
        for name, fact in query.facts.items():
            self.show(name, fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False, indent=1))
        model = cast(type[BaseModel], query.reply)
        while True:
            try:
                return cast(R, model.model_validate({name: self._field(name, field) for name, field in model.model_fields.items()}))
            except ValidationError as error:
                self.show("not accepted", "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors()))

    def _field(self, name: str, field: Any) -> Any:
        typed = self.ask(field.description or name)
        if field.annotation is str:
            return typed
        try:
            return json.loads(typed)
        except ValueError:
            return typed
