"""A client for any OpenAI-compatible chat endpoint: one session, retries, typed failures.

What is sent and how answers are read is in `wire.py`; here is what waits. Whatever is put around calls (limits,
budgets, recording) is an object with the same door, `Client`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from itertools import count
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

from userrl.core import Place
from userrl.errors import EndpointError, EndpointRefused
from userrl.llm.endpoint import Endpoint, Role, parse_endpoint
from userrl.llm.gate import Gate
from userrl.llm.wire import Completion, Passing, Usage, encode, quote, read_answer

__all__ = ["ChatClient", "Client", "Completion", "Endpoint", "Usage", "parse_endpoint"]

MAX_BODY = 16 * 2**20
"""Bytes of an answer that are read at most."""
UNLIMITED: AbstractAsyncContextManager[None] = nullcontext()
CONNECT_S = 15.0
"""For connecting; the whole try is bounded by `Endpoint.timeout_s`."""


class Client(Protocol):
    """The door to a model, which real clients, fakes and wrappers share."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def down(self) -> bool:
        """Whether calls wait for the endpoint to come back."""
        ...

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
        """The model's answer to a talk. Raises `EndpointError` or, where no retry can help, `EndpointRefused`."""
        ...


class Around:
    """What a `Client` that stands around another one takes from it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def endpoint(self) -> Endpoint:
        return self.client.endpoint

    @property
    def down(self) -> bool:
        return self.client.down


class ChatClient:
    """A `Client` over HTTP. One object serves any number of calls at once.

    It keeps one session, with its connections, for each event loop that it is used in, opened by the first call
    and closed when the loop is shut down (as `asyncio.run` does) or by `close`, whichever comes first.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._key, self._key_source = endpoint.find_key()
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._lives: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._gates: dict[asyncio.AbstractEventLoop, Gate] = {}

    def __repr__(self) -> str:
        return f"ChatClient({self.endpoint.model!r}, {self.endpoint.url!r})"

    @property
    def down(self) -> bool:
        """Whether calls in the running loop wait for the endpoint to come back."""
        gate = self._gates.get(asyncio.get_running_loop())
        return gate is not None and gate.down

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of the running loop. A later call opens new ones."""
        if life := self._lives.get(asyncio.get_running_loop()):
            await life.aclose()

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
        """The model's answer to a talk.

        Connection failures, timeouts and the statuses 408, 409, 429 and 5xx are tried again, `max_retries` times,
        after a random, growing wait or the one that the endpoint asks for. While an endpoint that has answered before
        is down, tries do not count, until `dead_after_s` have passed.

        Args:
            messages: in OpenAI's form.
            tools: function schemas that the model may call.
            schema: JSON schema that the reply must fit; sent as `Endpoint.structured` says. Not checked here.
            seed, temperature: for this call; None: none, and the endpoint's.
            place: the turn that asks, which wrappers count, record and spread calls by. Of no matter here.

        Raises:
            EndpointRefused: unreachable after the retries, wrong key, no such model or route, no credit.
            EndpointError: any other failure to get a usable answer.
        """
        body = encode(self.endpoint, messages, tools, schema, seed, temperature)
        began, lost = time.monotonic(), 0
        for tries in count(1):
            try:
                done = await self._once(body)
                return replace(done, lost=lost) if lost else done
            except EndpointError as error:
                error.lost = lost
                raise
            except Passing as failure:
                lost += failure.paid
                if tries > self.endpoint.max_retries and not self._gates[asyncio.get_running_loop()].worth_waiting:
                    times = "once" if tries == 1 else f"{tries} times"
                    took = time.monotonic() - began
                    final = failure.final(f"{failure.what}; tried {times} in {took:.1f} s. {failure.advice}")
                    final.lost = lost
                    raise final from None
                wait_s = self._pause(failure, tries)
            await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _once(self, body: bytes) -> Completion:
        session, gate = await self._session(), self._gates[asyncio.get_running_loop()]
        async with UNLIMITED if gate.free else gate(len(body)):
            try:
                completion = await self._post(session, body)
            except Passing as failure:
                gate.failed(failure)
                raise
            except EndpointError:
                gate.answered()
                raise
            gate.answered(len(body), completion.usage)
        return completion

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> Completion:
        # `from None` below: aiohttp's exceptions and their frames hold the request's headers, and so the key.
        where = str(self.endpoint)
        try:
            async with session.post(self.endpoint.route, data=body, allow_redirects=False) as response:
                raw = await _read(response, where)
                status, headers = response.status, response.headers
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            advice = "Start the server there, or name another endpoint as MODEL@URL, e.g. qwen3@http://localhost:8000/v1."
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                advice = "Play fewer episodes at once, or let the process open more files (ulimit -n)."
            raise Passing(EndpointRefused, f"Cannot reach {where}: {_unreached(error)}", advice) from None
        except TimeoutError:
            advice = "Raise timeout_s, or send fewer requests at once."
            what = f"{where} did not answer within {self.endpoint.timeout_s:g} s"
            raise Passing(EndpointError, what, advice, paid=True) from None
        except aiohttp.ClientError as error:
            what = f"The connection to {where} broke ({type(error).__name__}: {quote(str(error).encode(), self._key)})"
            paid = isinstance(error, aiohttp.ClientPayloadError)
            raise Passing(EndpointError, what, "See the server's log.", paid=paid) from None
        return read_answer(self.endpoint, self._key, self._key_source, status, headers, raw)

    def _pause(self, failure: Passing, tries: int) -> float:
        """Seconds until the next try: what was asked for, or a random time up to a bound that doubles."""
        backoff_s, max_wait_s = self.endpoint.backoff_s, self.endpoint.max_wait_s
        if failure.wait_s is not None:
            # Callers that were turned away together should not come back together.
            return failure.wait_s + random.uniform(0.0, backoff_s)
        return random.uniform(0.0, min(max_wait_s, backoff_s * 2 ** min(tries - 1, 32)))

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._gates[loop] = Gate(self.endpoint)
            self._lives[loop] = self._life(loop)
            await anext(self._lives[loop])
        return self._sessions[loop]

    async def _life(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Holds the session of a loop open. A generator, as a loop that is shut down closes its generators."""
        async with aiohttp.ClientSession(
            headers={"Content-Type": "application/json", **self._authorization()},
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.endpoint.timeout_s, sock_connect=min(CONNECT_S, self.endpoint.timeout_s)),
        ) as self._sessions[loop]:
            try:
                yield
            finally:
                del self._sessions[loop], self._lives[loop], self._gates[loop]

    def _authorization(self) -> dict[str, str]:
        return {} if self._key is None else {"Authorization": f"Bearer {self._key.get_secret_value()}"}


def sampling_seed(endpoint: Endpoint, role: Role, place: Place) -> int | None:
    """The seed of a call, where its endpoint is set to take one: the same for the same turn of the same episode."""
    if not endpoint.seeds:
        return None
    text = f"{role}|{place.gym}|{place.task}|{place.attempt}|{place.seed}|{place.turn}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest(), "big") >> 1


def _unreached(error: aiohttp.ClientError) -> str:
    """Why no connection came about, in the system's words: aiohttp's own speak of TLS to a plain http:// URL."""
    reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return getattr(reason, "strerror", None) or str(reason)


async def _read(response: aiohttp.ClientResponse, where: str) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise EndpointError(f"{where} sent more than {MAX_BODY >> 20} MiB in answer to one request. Is this a chat endpoint?")
    return b"".join(parts)
