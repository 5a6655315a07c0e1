"""Engines behind HTTP: Serper, and any other that answers with JSON. Asynchronous, retried, with typed failures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_base, wait_random_exponential

from userrl.errors import ConfigError, EndpointError, EndpointRefused
from userrl.gyms.search.results import Result
from userrl.llm.wire import Passing, quote, wait_asked

SERPER_URL = "https://google.serper.dev/search"
SERPER_KEY, HTTP_KEY = "SERPER_API_KEY", "USERRL_SEARCH_KEY"
"""Environment variables. Settings of a gym are saved with its episodes, so no setting holds a key or names a variable."""
SERPER_ASKS_FOR = 15
"""Results that are asked of Serper, as in the original, however few are shown."""
MAX_BODY = 4 * 2**20
"""Bytes of an answer that are read at most."""
MAX_WAIT_S = 30.0
"""Bound of every wait. An engine that asks for a longer one has failed."""

_SLOT = re.compile(r"\{(query|count)\}")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long an engine is waited for."""

    timeout_s: float = 20.0
    """For one try."""
    max_retries: int = 3
    """Further tries after one that failed in a way that may pass."""
    backoff_s: float = 0.5
    """Bound of the random wait before the first retry; it doubles with each further one."""

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and self.max_retries >= 0 and self.backoff_s >= 0):
            raise ConfigError(f"The search engine's settings are {self}; expected timeout_s above 0, and none of them below 0.")


@dataclass(frozen=True)
class Serper(Patience):
    """Google by serper.dev. Needs a key in SERPER_API_KEY, which is looked for when something is searched."""

    async def search(self, text: str, count: int) -> list[Result]:
        key = _key(SERPER_KEY, SERPER_URL)
        found = await fetch(
            self,
            "POST",
            SERPER_URL,
            headers={"X-API-KEY": key.get_secret_value()},
            body={"q": text, "num": max(count, SERPER_ASKS_FOR)},
            key=key,
            key_name=SERPER_KEY,
        )
        return read_results(found, SERPER_URL, key, "organic", "title", "snippet", "link")[:count]


@dataclass(frozen=True)
class Http(Patience):
    """Any engine that answers with JSON, described by settings.

    `{query}` and `{count}` are filled into `url` (percent-encoded) and into the texts of `body`. A key, where one is
    needed, is read from USERRL_SEARCH_KEY and sent in the header `key_header`. Paths are dotted: "data.hits", "links.0".
    """

    url: str
    method: Literal["GET", "POST"] = "GET"
    body: Mapping[str, Any] | None = None
    """Sent as JSON with POST. A text that is just "{count}" becomes a number."""
    headers: Mapping[str, str] = field(default_factory=dict)
    key_header: str = ""
    key_prefix: str = ""
    """Before the key, e.g. "Bearer "."""
    results: str = "results"
    """Path of the list of results; empty when the answer is the list."""
    title: str = "title"
    snippet: str = "snippet"
    source: str = "url"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parts = urlsplit(_SLOT.sub("x", self.url))
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        except ValueError:
            fits = False
        if not fits or "{" in self.url.partition("//")[2].partition("/")[0]:
            raise ConfigError(
                f"url of the search engine 'http' is {_without_query(self.url)!r:.100}; expected http:// or https://, a host "
                f"without slots or passwords, and a path, e.g. http://localhost:8080/search?q={{query}}&n={{count}}."
            )
        if "{query}" not in self.url and "{query}" not in json.dumps(self.body):
            raise ConfigError("The search engine 'http' is never told the query; put {query} into url or body.")
        if self.body is not None and self.method == "GET":
            raise ConfigError("The search engine 'http' has a body, which GET cannot send; set method to POST.")

    async def search(self, text: str, count: int) -> list[Result]:
        slots = {"query": text, "count": str(count)}
        url = _SLOT.sub(lambda slot: percent_encoded(slots[slot[1]], safe=""), self.url)
        headers, key = dict(self.headers), None
        if self.key_header:
            key = _key(HTTP_KEY, _without_query(self.url))
            headers[self.key_header] = self.key_prefix + key.get_secret_value()
        found = await fetch(self, self.method, url, headers=headers, body=_filled(self.body, slots), key=key, key_name=HTTP_KEY)
        where = _without_query(self.url)
        return read_results(found, where, key, self.results, self.title, self.snippet, self.source)[:count]


def _filled(value: Any, slots: Mapping[str, str]) -> Any:
    """A body with its slots filled, in one pass: what a query says is not read again."""
    if value == "{count}":
        return int(slots["count"])
    if isinstance(value, str):
        return _SLOT.sub(lambda slot: slots[slot[1]], value)
    if isinstance(value, Mapping):
        return {name: _filled(item, slots) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_filled(item, slots) for item in value]
    return value


def _key(name: str, where: str) -> SecretStr:
    key = os.environ.get(name, "").strip()
    if not key:
        raise EndpointRefused(f"The search engine at {where} needs a key: the environment holds no {name}; put it there.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EndpointRefused(f"The key in {name} holds a space, a line break or a non-ASCII character; set it anew.")
    return SecretStr(key)


def _without_query(url: str) -> str:
    return url.partition("?")[0]


async def fetch(
    patience: Patience,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: Any,
    key: SecretStr | None,
    key_name: str,
) -> Any:
    """The JSON value that an engine answers with.

    Connection failures, timeouts and the statuses 408, 429 and 5xx are tried again after a growing wait.

    Raises:
        EndpointRefused: unreachable after the retries, a redirect, no access, no such route.
        EndpointError: any other failure to get JSON.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(patience.max_retries + 1),
        wait=_Wait(patience.backoff_s),
        retry=retry_if_exception_type(Passing),
        reraise=True,
    )
    where = f"the search engine at {_without_query(url)}"
    timeout = aiohttp.ClientTimeout(total=patience.timeout_s)

    async def once() -> Any:
        # `from None`: aiohttp's exceptions and their frames hold the request's headers, and so the key.
        try:
            async with session.request(method, url, headers=headers, json=body, allow_redirects=False) as response:
                raw = await response.content.read(MAX_BODY + 1)
                while len(raw) <= MAX_BODY and not response.content.at_eof():
                    raw += await response.content.read(MAX_BODY + 1 - len(raw))
                return _read(where, response.status, response.headers, raw, key, key_name)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Passing(EndpointRefused, f"Cannot reach {where}: {error}", "Start it, or choose another engine.") from None
        except TimeoutError:
            what = f"{where} did not answer within {patience.timeout_s:g} s"
            raise Passing(EndpointError, what, "Raise timeout_s, or search less at once.") from None
        except aiohttp.ClientError as error:
            raise Passing(EndpointError, f"The connection to {where} broke ({type(error).__name__})", "See its log.") from None

    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        try:
            return await retrying(once)
        except Passing as failure:
            tries = retrying.statistics["attempt_number"]
            times = "once" if tries == 1 else f"{tries} times"
            raise failure.final(f"{failure.what}; tried {times}. {failure.advice}") from None


class _Wait(wait_base):
    """As long as the engine asks for, else a random, growing time."""

    def __init__(self, backoff_s: float) -> None:
        self._backoff = wait_random_exponential(multiplier=backoff_s, max=MAX_WAIT_S)

    def __call__(self, retry_state: Any) -> float:
        failure = retry_state.outcome.exception()
        return failure.wait_s if failure.wait_s is not None else self._backoff(retry_state)


def _read(where: str, status: int, headers: Mapping[str, str], raw: bytes, key: SecretStr | None, key_name: str) -> Any:
    said = f"HTTP {status}: {quote(raw, key)}"
    if status in (401, 402, 403):
        advice = f"The key came from {key_name}." if key else f"No key was sent: set key_header, and put the key into {HTTP_KEY}."
        raise EndpointRefused(f"{where} refused access ({said}). {advice}")
    if 300 <= status < 400 or status in (404, 405):
        raise EndpointRefused(f"{where} has no search there ({said}). Redirects are not followed; check the URL.")
    if status in (408, 429) or status >= 500:
        wait_s = wait_asked(headers)
        if wait_s is not None and wait_s > MAX_WAIT_S:
            raise EndpointError(f"{where} asks to wait {wait_s:.0f} s, more than {MAX_WAIT_S:.0f} s ({said}). Try again later.")
        raise Passing(EndpointError, f"{where} answered {said}", "Search less at once, or try again later.", wait_s)
    if not 200 <= status < 300:
        raise EndpointError(f"{where} rejected the request ({said}). Check url, method and body.")
    if len(raw) > MAX_BODY:
        raise EndpointError(f"{where} sent more than {MAX_BODY >> 20} MiB in answer to one search. Is this a search engine?")
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise EndpointError(f"{where} answered {quote(raw, key)}, which is not JSON. Check the URL.") from None


def read_results(
    answer: Any, where: str, key: SecretStr | None, results: str, title: str, snippet: str, source: str
) -> list[Result]:
    """The results in an answer, by dotted paths; a result may lack some of its texts, but not both title and snippet.

    Raises EndpointError when they are not there: an answer of another form is no empty result.
    """
    rows = dig(answer, results)
    if not isinstance(rows, list):
        raise EndpointError(f"The search engine at {where} sent no list at {results!r:.60}. It sent {_shown(answer, key)}.")
    found = []
    for row in rows:
        texts = [value if isinstance(value, str) else "" for value in (dig(row, path) for path in (title, snippet, source))]
        if not any(texts[:2]):
            lacks = f"without a text at {title!r:.60} or {snippet!r:.60}"
            raise EndpointError(f"The search engine at {where} sent a result {lacks}: {_shown(row, key)}.")
        found.append(Result(*texts))
    return found


def _shown(value: Any, key: SecretStr | None) -> str:
    return quote(json.dumps(value).encode(), key)


def dig(value: Any, path: str) -> Any:
    """What stands at a dotted path of a JSON value; None where there is nothing.

    >>> dig({"data": [{"hits": 3}]}, "data.0.hits")
    3
    """
    for part in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
