"""A model as the user or the judge."""

from __future__ import annotations

from typing import Literal, TypeVar

from userrl.core import Cast, Query
from userrl.errors import ReplyError, boundary
from userrl.llm.client import Client, sampling_seed
from userrl.llm.replies import parse_reply, render_query, schema_of
from userrl.render import Message

R = TypeVar("R")

ECHO = 4_000
"""Characters of an unusable reply that the model is shown again."""


class LLMSeat:
    """Answers queries with a model: as the user or as the judge, by who is asked for what."""

    def __init__(self, client: Client, role: Literal["user", "judge"]) -> None:
        self.client, self.role = client, role

    async def answer(self, query: Query[R]) -> R:
        """The model's reply, validated; one that does not fit is asked for once more, with what was wrong.

        Raises ReplyError when the second does not fit either, EndpointError when no reply came; both name the role.
        """
        with boundary(self.role):
            messages, schema = render_query(query), schema_of(query.reply)
            seed = sampling_seed(self.client.endpoint, self.role, query.place)
            reply = (await self.client.chat(messages, schema=schema, seed=seed, place=query.place)).content
            try:
                return parse_reply(reply, query.reply, query.facts)
            except ReplyError as error:
                problem = str(error)  # the error itself would keep this frame, and so the reply, alive
            messages += _repair(reply, problem)
            reply = (await self.client.chat(messages, schema=schema, seed=seed, place=query.place)).content
            try:
                return parse_reply(reply, query.reply, query.facts)
            except ReplyError as error:
                raise ReplyError(
                    f"No usable reply to {query.name!r} from {self.client.endpoint}, also after one repair turn. "
                    f"First: {problem} Then: {error} The last reply began {reply[:200]!r}. Choose a model that keeps to "
                    f"a JSON schema, or an endpoint that enforces it (structured='json_schema')."
                ) from None


def _repair(reply: str, problem: str) -> list[Message]:
    return [
        {"role": "assistant", "content": reply[:ECHO] or "(empty)"},
        {"role": "user", "content": f"That reply cannot be used. {problem} Reply again, with the corrected JSON object alone."},
    ]


def llm_cast(user: Client, judge: Client) -> Cast:
    """A cast of models. The two may be the same client: what they may know is in their queries."""
    return Cast(LLMSeat(user, "user"), LLMSeat(judge, "judge"))
