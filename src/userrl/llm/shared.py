"""Asking the same thing only once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from userrl.core import Place
from userrl.errors import EndpointError
from userrl.llm.client import Around, Client, sampling_seed
from userrl.llm.endpoint import Role
from userrl.llm.record import asked
from userrl.llm.wire import Completion, Usage

KEPT = 100_000
"""Replies that are kept at most; the one longest unused goes first."""


class Shared(Around):
    """A `Client` that passes a question on once and gives its answer to all who ask the same.

    Args:
        by_turn: share only between attempts at the same turn of the same task, so that the members of a group meet a
            user with the same noise (common random numbers); else within the whole run.

    Those who ask while the answer is on its way wait for it. A failure is not kept. A shared answer has no usage, as
    it cost nothing.
    """

    def __init__(self, client: Client, role: Role, *, by_turn: bool) -> None:
        super().__init__(client)
        self.role, self.by_turn = role, by_turn
        self._answers: OrderedDict[tuple[Any, ...], asyncio.Task[Completion]] = OrderedDict()

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        place: Place | None = None,
    ) -> Completion:
        """As `Client.chat`."""
        scope: tuple[Any, ...] = ()
        if self.by_turn and place:
            scope = (place.gym, place.task, place.seed, place.turn)
            seed = sampling_seed(self.endpoint, self.role, replace(place, attempt=0))
        key = (*scope, asked(messages, seed, temperature, whole=True))
        if (task := self._answers.get(key)) is None:
            task = asyncio.get_running_loop().create_task(
                self.client.chat(messages, tools=tools, schema=schema, seed=seed, temperature=temperature, place=place)
            )
            task.add_done_callback(lambda done: self._forget_failure(key, done))
            first, self._answers[key] = True, task
            if len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        else:
            first = False
            self._answers.move_to_end(key)
        # Shielded: that one of those who wait is given up must not take the answer from the others.
        try:
            done = await asyncio.shield(task)
        except EndpointError as error:
            if first:
                raise
            told = type(error)(*error.args)
            told.shared = True
            raise told from None
        finally:
            del task  # its failure would hold this frame, and this frame it
        return done if first else replace(done, usage=Usage(), shared=True, lost=0)

    def _forget_failure(self, key: tuple[Any, ...], task: asyncio.Task[Completion]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._answers.get(key) is task:
            del self._answers[key]
