"""A person as the user."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from string import Template
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from userrl.core import Query

R = TypeVar("R")

YES_NO = {"yes": True, "y": True, "no": False, "n": False}


class HumanSeat:
    """Shows a person what is new in a query and asks for the reply, field by field.

    It sees what a model would be shown: the facts that the template names (all of them where it names none). What was
    shown or typed once (the wishes, what was said before) is not shown again; the agent's new words are, also where it
    repeats itself. Waits without letting other episodes go on.

    Args:
        ask: given what to ask for ("you" where a reply is one field), returns the line that was typed.
        show: shows a fact: its name, its value, and whether it is the agent's words.
        hint: shows why a line was not accepted.
        known: texts that the person has seen already, such as the task's opening.
    """

    def __init__(
        self,
        ask: Callable[[str], str],
        show: Callable[[str, Any, bool], None],
        hint: Callable[[str], None],
        known: Iterable[str] = (),
    ) -> None:
        self.ask, self.show, self.hint = ask, show, hint
        self._seen = {_key(text) for text in known}

    async def answer(self, query: Query[R]) -> R:
        """The person's reply, asked for until it fits."""
        named = {match["named"] or match["braced"] for match in Template.pattern.finditer(query.template)} - {None}
        shown = {name: fact for name, fact in query.facts.items() if not named or name in named}
        self._seen.update(_key(fact) for name, fact in shown.items() if name in query.untrusted and isinstance(fact, str))
        for name in sorted(shown, key=query.untrusted.__contains__):
            self._tell(name, shown[name], name in query.untrusted)
        model = cast(type[BaseModel], query.reply)
        while True:
            try:
                fields = model.model_fields
                given = {name: self._field(name, field, alone=len(fields) == 1) for name, field in fields.items()}
                reply = cast(R, model.model_validate(given, context=query.facts))
                self._seen.update(_key(value) for value in given.values())
                return reply
            except ValidationError as error:
                self.hint("; ".join(f"{e['loc'][0] if e['loc'] else 'reply'}: {e['msg']}" for e in error.errors()))

    def _tell(self, name: str, fact: Any, agents: bool) -> None:
        if isinstance(fact, list | tuple):
            fact = [item for item in fact if not self._is_old(item)]
            self._seen.update(map(_key, fact))
            if not fact:
                return
        elif _key(fact) in self._seen and not (agents and isinstance(fact, str)):
            return
        self._seen.add(_key(fact))
        self.show(name, fact, agents)

    def _is_old(self, item: Any) -> bool:
        """Whether an item of a list, or the text that stands in it, was shown or typed before."""
        return _key(item) in self._seen or (isinstance(item, Mapping) and _key(item.get("text")) in self._seen)

    def _field(self, name: str, field: Any, *, alone: bool) -> Any:
        """A line as the field's value: text, one of the values allowed, yes or no, else JSON."""
        what = "you" if alone else (field.description or name).rstrip(".")
        kind = field.annotation
        values: dict[str, Any] = {}
        if get_origin(kind) is Literal:
            values = {str(value).casefold(): value for value in get_args(kind)}
            what = f"{what} ({'/'.join(map(str, get_args(kind)))})"
        elif kind is bool:
            values, what = YES_NO, f"{what} (yes/no)"
        while True:
            typed = self.ask(what).strip()
            if values and typed.casefold() in values:
                return values[typed.casefold()]
            if values:
                self.hint(f"{typed!r} is not one of them.")
            elif typed:
                return typed if kind is str else _json_or_text(typed)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _json_or_text(typed: str) -> Any:
    try:
        return json.loads(typed)
    except (ValueError, RecursionError):
        return typed
