"""Models that are none, for tests: a client with the same door, and a server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from userrl.core import Place
from userrl.errors import EndpointError
from userrl.llm.endpoint import Endpoint
from userrl.llm.wire import Completion

Messages = Sequence[Mapping[str, Any]]
Reply = str | Completion | Exception
"""A text, a whole completion, or a failure to raise."""


class FakeClient:
    """A `Client` that answers from a list, in order, or by a function of the messages.

    `calls` keeps what it was asked.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[Messages], Reply], endpoint: Endpoint | None = None) -> None:
        self.endpoint, self.down = endpoint or Endpoint("fake", "http://fake.invalid/v1"), False
        self.calls: list[dict[str, Any]] = []
        self._answer = replies if callable(replies) else None
        self._listed = iter(()) if callable(replies) else iter(replies)

    async def chat(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        place: Place | None = None,
    ) -> Completion:
        """The next reply. Raises EndpointError when the list is used up."""
        given = {"tools": tools, "schema": schema, "seed": seed, "temperature": temperature}
        self.calls.append({"messages": list(messages), **{name: value for name, value in given.items() if value is not None}})
        reply = self._answer(messages) if self._answer else next(self._listed, None)
        if reply is None:
            raise EndpointError(f"The list of {len(self.calls) - 1} fake replies is used up; give more, or a function.")
        if isinstance(reply, Exception):
            raise reply
        return Completion(reply) if isinstance(reply, str) else reply


@dataclass(frozen=True, slots=True)
class Request:
    """What a fake server was asked."""

    number: int
    """Of this server's requests, counted from 0."""
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages


@dataclass(frozen=True, slots=True)
class Response:
    """What a fake server answers."""

    body: Any = ""
    """Bytes and text are sent as they are, anything else as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    """Close the connection instead of answering."""
    cut_after: int | None = None
    """Close it after so many bytes of the body."""

    def bytes(self) -> bytes:
        """The body as it is sent."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


Answer = Response | str


def completion(content: str | None = None, *, calls: Sequence[tuple[str, Any]] = (), **message: Any) -> dict[str, Any]:
    """The body of a chat completion.

    Args:
        calls: (name, arguments) of the tools that are called.
        message: further fields of the message, e.g. reasoning_content.
    """
    tool_calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for i, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": content, **({"tool_calls": tool_calls} if calls else {}), **message}
    return {
        "id": "fake",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


@asynccontextmanager
async def fake_server(handler: Callable[[Request], Answer | Awaitable[Answer]]) -> AsyncIterator[str]:
    """A chat endpoint on a free port of 127.0.0.1; yields its base URL.

    `handler` is called with each request and returns a `Response`, or a text to be the content of a completion;
    it may be async.
    """
    count = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal count
        number, count = count, count + 1
        answered = handler(Request(number, request.path, dict(request.headers), await request.json()))
        answered = await answered if isinstance(answered, Awaitable) else answered
        response = Response(completion(answered)) if isinstance(answered, str) else answered
        await asyncio.sleep(response.delay_s)
        if response.hang_up and request.transport is not None:
            request.transport.abort()
        body = response.bytes()
        if response.cut_after is None or request.transport is None:
            return web.Response(body=body, status=response.status, headers=response.headers)
        part = web.StreamResponse(status=response.status, headers=response.headers)
        part.content_length = len(body)
        await part.prepare(request)
        await part.write(body[: response.cut_after])
        request.transport.abort()
        return part

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
