"""What every request to an endpoint passes: its limits, and a circuit breaker for when it is down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from aiolimiter import AsyncLimiter

from userrl.errors import EndpointRefused
from userrl.llm.endpoint import Endpoint
from userrl.llm.wire import Passing, Usage

TRIPS = 8
"""Failures without an answer in between after which an endpoint counts as down."""
TURNED_AWAY = 3
"""Refusals (429) without an answer in between after which all requests wait, not only those refused."""
LONGEST_PAUSE_S = 10.0
"""Between two probes of an endpoint that is down."""
_WINDOW_S = 10.0
"""Over which tokens are evened out."""

NOTHING = Usage()


class Gate:
    """The limits and the health of one endpoint, shared by all its requests in one event loop.

    While an endpoint is down, requests wait here instead of using up their tries; one at a time goes through as a
    probe. So a server that restarts costs nothing. One that has been down for too long is dead: requests are refused
    at once, but for a probe every few seconds.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._slots = asyncio.Semaphore(endpoint.at_once) if endpoint.at_once else None
        self._requests = _evened(endpoint.requests_per_minute, 1.0)
        self._tokens = _evened(endpoint.tokens_per_minute, _WINDOW_S)
        self._limited = any((self._slots, self._requests, self._tokens))
        self._tokens_per_byte, self._written = 0.25, 100.0
        self._failed = self._refused = 0
        self._failing_since = self._closed_until = 0.0
        self._probing = self._known = False
        self._dead: str | None = None

    @property
    def free(self) -> bool:
        """Whether requests pass without a word: no limits, and nothing amiss."""
        return not (self._limited or self._failed or self._refused)

    @property
    def down(self) -> bool:
        """Whether a request would have to wait here for the endpoint to come back; not when it would be the next probe."""
        return self._tripped and (self._probing or self._closed_until > asyncio.get_running_loop().time())

    @property
    def worth_waiting(self) -> bool:
        """Whether it is down and has answered before: then it may come back, and tries do not count."""
        return self._tripped and self._known

    @property
    def _tripped(self) -> bool:
        return self._failed >= TRIPS

    @asynccontextmanager
    async def __call__(self, size: int) -> AsyncIterator[None]:
        """Around one request of `size` bytes."""
        async with self._slots or nullcontext():
            if self._requests is not None:
                await self._requests.acquire()
            if self._tokens is not None:
                expected = size * self._tokens_per_byte + self._written
                while expected > 0:  # more than the limiter holds is taken in parts
                    await self._tokens.acquire(min(expected, self._tokens.max_rate))
                    expected -= self._tokens.max_rate
            probe = await self._open()
            try:
                yield
            finally:
                if probe:
                    self._probing = False

    def answered(self, size: int = 0, usage: Usage = NOTHING) -> None:
        """An answer came, be it a refusal: the endpoint is well. Its usage betters the estimate of tokens."""
        self._known = True
        self._failed = self._refused = 0
        self._closed_until, self._dead = 0.0, None
        if usage.read:
            self._tokens_per_byte += 0.05 * (usage.read / max(size, 1) - self._tokens_per_byte)
        if usage.written:
            self._written += 0.05 * (usage.written - self._written)

    def failed(self, failure: Passing) -> None:
        """A failure that may pass. Raises EndpointRefused when the endpoint has been failing for too long."""
        now = asyncio.get_running_loop().time()
        if failure.health == "well":
            self.answered()
            return
        if failure.health == "busy":
            self._known, self._failed, self._dead = True, 0, None
            self._refused += 1
            if self._refused >= TURNED_AWAY:
                self._closed_until = max(self._closed_until, now + (failure.wait_s or self.endpoint.backoff_s))
            return
        if self._failed == 0:
            self._failing_since = now
        self._failed += 1
        if self._tripped:
            pause = min(self.endpoint.backoff_s * 2 ** min(self._failed - TRIPS, 16), LONGEST_PAUSE_S, self.endpoint.max_wait_s)
            self._closed_until = now + pause
            if now - self._failing_since > self.endpoint.dead_after_s:
                took = now - self._failing_since
                self._dead = (
                    f"{failure.what}; {self._failed} requests in a row have failed for {took:.0f} s, more than "
                    f"dead_after_s={self.endpoint.dead_after_s:g}. {failure.advice}"
                )
                raise EndpointRefused(self._dead)

    async def _open(self) -> bool:
        """Wait until a request may go; whether it is a probe."""
        loop = asyncio.get_running_loop()
        while True:
            wait_s = self._closed_until - loop.time()
            if self._dead is not None and self.down:
                raise EndpointRefused(self._dead)
            if wait_s > 0:
                # Those who wait together should not come back together.
                await asyncio.sleep(wait_s + random.uniform(0.0, min(0.5, self.endpoint.backoff_s)))
            elif self._tripped and self._probing:
                await asyncio.sleep(random.uniform(0.05, 0.25))  # thousands that wake together would hold up all
            else:
                self._probing = self._tripped
                return self._tripped


def _evened(per_minute: float | None, window_s: float) -> AsyncLimiter | None:
    """A limiter that spreads a rate over short windows, so that a minute's share is not sent in its first second."""
    if per_minute is None:
        return None
    window_s = max(window_s, 60 / per_minute)
    return AsyncLimiter(per_minute * window_s / 60, window_s)
