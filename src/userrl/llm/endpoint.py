"""Where a model answers, and with which key."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

from userrl.errors import ConfigError, UnknownName

Role = Literal["agent", "user", "judge"]
Structured = Literal["json_schema", "json_object", "none"]

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
"""Environment variable whose key is sent to OPENAI_URL and nowhere else."""
KEY_NAMES = ("USERRL_API_KEY", OPENAI_KEY)
"""Environment variables that may hold the key of any role, the first that is set wins."""

RESERVED = ("model", "messages", "stream", "n")
"""Fields of a request that `Endpoint.extra` must not set: the client could not read what comes back."""

_NUMBERS: Mapping[str, tuple[float, Any, bool]] = {
    "timeout_s": (0.001, int | float, False),
    "max_retries": (0, int, False),
    "backoff_s": (0, int | float, False),
    "max_wait_s": (0, int | float, False),
    "temperature": (0, int | float, True),
    "max_tokens": (1, int, True),
    "at_once": (1, int, True),
    "requests_per_minute": (0.001, int | float, True),
    "tokens_per_minute": (1, int | float, True),
    "dead_after_s": (0, int | float, False),
    "usd_read": (0, int | float, True),
    "usd_written": (0, int | float, True),
}
"""Setting -> lowest value, type, whether it may be None."""

_ROUTE = "/chat/completions"
_SPEC = re.compile(r"(?P<model>.*?)@(?P<url>https?://.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model behind an OpenAI-compatible chat endpoint, and how to ask it.

    Raises ConfigError for a value out of range. Neither its repr nor its `record` shows a key.
    """

    model: str
    """As the endpoint calls it."""
    url: str = OPENAI_URL
    """The base URL, which usually ends in /v1; `/chat/completions` is put behind it."""
    key_env: str | tuple[str, ...] = KEY_NAMES
    """Environment variable that holds the key, or several of which the first that is set wins. None need be set.

    OPENAI_API_KEY counts for OPENAI_URL alone, so that it never reaches another host.
    """
    key: SecretStr | None = field(default=None, repr=False)
    """The key itself, for callers that do not keep it in the environment; goes before `key_env`."""
    timeout_s: float = 120.0
    """For one try, from connecting to the last byte."""
    max_retries: int = 5
    """Further tries after one that failed in a way that may pass."""
    backoff_s: float = 0.5
    """Bound of the random wait before the first retry; it doubles with each further one."""
    max_wait_s: float = 60.0
    """Bound of every wait. An endpoint that asks for a longer one has failed."""
    temperature: float | None = None
    """None: the endpoint's own default (some models accept no other)."""
    max_tokens: int | None = None
    """Bound of the reply, thinking included. None: the endpoint's own."""
    structured: Structured = "json_schema"
    """How typed replies are asked for, besides in words: by their schema, as any JSON object, or not at all."""
    tools: bool = True
    """Whether the endpoint takes `tools`; without, agents write their calls as text."""
    at_once: int | None = None
    """Requests in flight at most; None: no bound of its own."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Read and written together, estimated before each request from what earlier ones took."""
    dead_after_s: float = 120.0
    """How long an endpoint may fail without one answer in between until the run gives it up. Calls wait meanwhile."""
    usd_read: float | None = None
    """Price of a million tokens read; None: looked up (package `genai-prices`), else unknown."""
    usd_written: float | None = None
    cache: bool = False
    """Ask the same thing only once in a run. For deterministic replies: temperature must be 0."""
    seeds: bool = False
    """Send a sampling seed made of the run's seed, task, attempt and turn. Some endpoints refuse the field."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request, e.g. {"reasoning_effort": "low"}; they win over the client's own."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigError("An endpoint needs the name of a model, e.g. gpt-4o-mini or qwen3@http://localhost:8000/v1.")
        object.__setattr__(self, "url", _checked_url(self.url))
        for name, (lowest, kinds, optional) in _NUMBERS.items():
            value = getattr(self, name)
            number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
            if not (number and value >= lowest) and not (optional and value is None):
                kind = "whole number" if kinds is int else "number"
                raise ConfigError(f"{name} of endpoint {self.model!r} is {value!r}; expected a {kind} of at least {lowest:g}.")
        for name in ("tools", "cache", "seeds"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} of endpoint {self.model!r} is {getattr(self, name)!r}; expected true or false.")
        if self.cache and self.temperature != 0:
            raise ConfigError(
                f"cache of endpoint {self.model!r} is on at temperature {self.temperature}; it would freeze one sample. "
                f"Set temperature = 0, or leave cache out."
            )
        if self.structured not in get_args(Structured):
            known = ", ".join(get_args(Structured))
            raise ConfigError(f"structured of endpoint {self.model!r} is {self.structured!r}; expected one of {known}.")
        if not _is_json_object(self.extra):
            raise ConfigError(f"extra of endpoint {self.model!r} is {self.extra!r:.60}; expected names and JSON values.")
        if self.key is None and self.key_env and not self.key_names:
            raise ConfigError(
                f"key_env of endpoint {self.model!r} is {OPENAI_KEY}, which is sent to {OPENAI_URL} alone, not to {self.url}. "
                f"Put that endpoint's key into USERRL_API_KEY, or name another variable."
            )
        if taken := sorted(set(RESERVED) & set(self.extra)):
            raise ConfigError(f"extra of endpoint {self.model!r} sets {taken[0]!r}, which is the client's own; leave it out.")

    def __str__(self) -> str:
        return f"{self.url} (model {self.model!r})"

    @property
    def route(self) -> str:
        """The URL that requests go to."""
        return self.url + _ROUTE

    @property
    def longest_reply(self) -> int | None:
        """Tokens of a reply at most, as far as the requests say so: `max_tokens`, also where it stands in `extra`."""
        named = (self.max_tokens, self.extra.get("max_tokens"), self.extra.get("max_completion_tokens"))
        return max((most for most in named if isinstance(most, int)), default=None)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The variables in which a key for this URL is looked for, in order."""
        names = (self.key_env,) if isinstance(self.key_env, str) else tuple(self.key_env)
        return names if self.url == OPENAI_URL else tuple(name for name in names if name != OPENAI_KEY)

    def find_key(self) -> tuple[SecretStr | None, str]:
        """The key, if there is one, and a sentence for error messages: where it comes from and how to set it.

        Raises ConfigError for a key that cannot be sent.
        """
        if self.key is not None:
            key = _checked_key(self.key.get_secret_value(), "Endpoint.key")
            return key, "The key was given as Endpoint.key; give the right one."
        for name in self.key_names:
            if value := os.environ.get(name, "").strip():
                return _checked_key(value, name), f"The key came from the environment variable {name}; put the right one there."
        if not self.key_names:
            return None, "No key was sent, as key_env names no variable; name the one that holds the key."
        names = " or ".join(self.key_names)
        other = self.url != OPENAI_URL and bool(os.environ.get(OPENAI_KEY))
        hint = f" ({OPENAI_KEY} is sent to {OPENAI_URL} alone.)" if other else ""
        return None, f"No key was sent, as the environment holds no {names}; put the key there.{hint}"

    def record(self) -> dict[str, Any]:
        """The settings as JSON values, without the key: for a run's saved configuration."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "key"}
        return {**values, "key_env": list(self.key_names), "extra": dict(self.extra)}


SETTINGS = tuple(f.name for f in fields(Endpoint) if f.name not in ("model", "url"))
JOB_SETTINGS = tuple(name for name in SETTINGS if not name.startswith("key"))
"""What a job's table `[endpoints.<role>]` may set. A job is saved and passed on, so it neither holds nor names a key."""
PATIENCE = (
    *("timeout_s", "max_retries", "backoff_s", "max_wait_s", "dead_after_s"),
    *("at_once", "requests_per_minute", "tokens_per_minute", "usd_read", "usd_written"),
)
"""Settings that may change while a run goes on: they bear on whether a model answers, not on what it answers."""


def lasting(endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A job's endpoint tables without PATIENCE: what a resumed run must have in common with the one begun."""
    kept = {role: {name: v for name, v in table.items() if name not in PATIENCE} for role, table in endpoints.items()}
    return {role: table for role, table in kept.items() if table}


def parse_endpoint(spec: str, role: Role | None = None, **settings: Any) -> Endpoint:
    """The endpoint of a command-line text: `MODEL@URL`, or `MODEL` or `MODEL@` for one at OpenAI.

    The key is looked for in USERRL_<ROLE>_API_KEY when a role is given, then in USERRL_API_KEY, then, for
    OPENAI_URL alone, in OPENAI_API_KEY. `settings` are further fields of `Endpoint`.

    Raises ConfigError for a spec that does not fit, UnknownName for a setting that an endpoint does not have.

    >>> parse_endpoint("qwen3@http://localhost:8000/v1", "judge").route
    'http://localhost:8000/v1/chat/completions'
    """
    for name in settings:
        if name not in SETTINGS:
            raise UnknownName(f"setting of the {role or 'model'}'s endpoint", name, SETTINGS)
    own = (f"USERRL_{role.upper()}_API_KEY",) if role else ()
    settings = {"key_env": (*own, *KEY_NAMES), **settings}
    if match := _SPEC.fullmatch(spec.strip()):
        return Endpoint(match["model"], match["url"], **settings)
    model, _, rest = spec.strip().partition("@")
    if model and (":" in rest or "/" in rest):
        raise ConfigError(
            f"Cannot read the endpoint of {model!r}: what follows the @ must begin with http:// or https://, "
            f"e.g. {model}@http://localhost:8000/v1."
        )
    return Endpoint(spec.strip().removesuffix("@"), **settings)


def parse_endpoints(spec: str, role: Role | None = None, **settings: Any) -> list[tuple[Endpoint, float]]:
    """The endpoints of a command-line text, with weights: `MODEL@URL[*W],URL[*W],...`; a URL alone has the model before it.

    >>> [(e.url, w) for e, w in parse_endpoints("qwen3@http://a:8000/v1*2,http://b:8000/v1")]
    [('http://a:8000/v1', 2.0), ('http://b:8000/v1', 1.0)]
    """
    found: list[tuple[Endpoint, float]] = []
    for part in spec.split(","):
        text, star, weight = part.strip().rpartition("*")
        text = text if star else weight
        try:
            share = float(weight) if star else 1.0
        except ValueError:
            share = 0.0
        if not (share > 0 and math.isfinite(share)):
            shown = shown_url(part.strip())
            weight = shown.rpartition("*")[2]
            raise ConfigError(f"The weight in {shown!r:.80} is {weight!r:.20}; expected a number above 0, as in ...*2.")
        if found and text.startswith(("http://", "https://")):
            text = f"{found[-1][0].model}@{text}"
        found.append((parse_endpoint(text, role, **settings), share))
    return found


def shown_url(text: str) -> str:
    """A text with a URL as messages show it: without a user name, a password, a query or a fragment, which may hold keys."""
    return re.sub(r"[?#].*", "?...", re.sub(r"//.*@", "//...@", text, flags=re.DOTALL), flags=re.DOTALL)


def _checked_url(url: str) -> str:
    def wrong(what: str) -> ConfigError:
        shown = shown_url(url)[:200]
        return ConfigError(
            f"The endpoint URL {shown!r} {what}. Expected a base URL such as {OPENAI_URL} or http://localhost:8000/v1."
        )

    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")  # what a look-up of the name would do
    except ValueError:
        raise wrong("cannot be read as a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise wrong("lacks http:// or https:// and a host")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise wrong("holds a space or another character that a URL cannot have")
    if "@" in parts.netloc:
        raise wrong("holds a user name or password; put the key into an environment variable instead")
    if parts.query or parts.fragment:
        raise wrong("ends in a ?query or #fragment, which a base URL cannot have")
    return url.rstrip("/").removesuffix(_ROUTE)


def _is_json_object(value: Any) -> bool:
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _checked_key(key: str, source: str) -> SecretStr:
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"The key in {source} is empty or holds a space, a line break or a non-ASCII character; set it anew.")
    return SecretStr(key)
