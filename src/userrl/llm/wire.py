"""What goes over the wire and comes back: pure functions, no waiting.

`encode` writes a request; `read_answer` turns an answer into a `Completion` or the failure that it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import from_json, to_json

from userrl.errors import EndpointError, EndpointRefused
from userrl.llm.endpoint import OPENAI_URL, Endpoint

QUOTED = 300
"""Characters of an answer that an error message quotes at most."""

T = TypeVar("T")
Health = Literal["down", "busy", "well"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the endpoint counts them; 0 where it does not say."""

    read: int = 0
    written: int = 0
    """Thinking included."""
    thought: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered."""

    content: str = ""
    """Without the thinking that precedes it."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """In OpenAI's form; `render.read_calls` reads them."""
    usage: Usage = Usage()
    finish_reason: str = ""
    reasoning: str = ""
    """The model's thinking, where the endpoint shows it."""
    shared: bool = False
    """The answer was paid for by another call."""
    lost: int = 0
    """Tries before this answer whose own broke off or came too late, which may have been paid for."""


class Passing(Exception):
    """A failure that may pass: tried again, and raised as `final` when it does not pass.

    `what` happened, as the middle of a sentence; `advice` is a sentence of its own; `wait_s` is what the
    endpoint asked for; `health` is that of the endpoint: "down", as far as can be told; "busy", taking no more for now; or
    "well", having failed at this request alone. `paid`: the model may have answered, and the answer was lost.
    """

    def __init__(
        self,
        final: type[EndpointError],
        what: str,
        advice: str,
        wait_s: float | None = None,
        health: Health = "down",
        *,
        paid: bool = False,
    ) -> None:
        super().__init__(what)
        self.final, self.what, self.advice, self.wait_s, self.health, self.paid = final, what, advice, wait_s, health, paid


def clean(text: str) -> str:
    """Text that every server takes: control characters (but newline and tab) and lone surrogates become U+FFFD."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def encode(
    endpoint: Endpoint,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    schema: Mapping[str, Any] | None = None,
    seed: int | None = None,
    temperature: float | None = None,
) -> bytes:
    """The body of a request: UTF-8 JSON, cleaned of characters that some servers refuse."""
    body: dict[str, Any] = {"model": endpoint.model, "messages": list(messages)}
    if tools:
        body["tools"] = list(tools)
    if schema is not None and endpoint.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif schema is not None and endpoint.structured == "json_schema":
        name = _NAME.sub("_", str(schema.get("title", "reply")))[:64]
        # Not strict: OpenAI's strict mode refuses many keywords that pydantic writes; replies are validated anyway.
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": False}}
    if seed is not None:
        body["seed"] = seed
    temperature = endpoint.temperature if temperature is None else temperature
    if temperature is not None:
        body["temperature"] = temperature
    if endpoint.max_tokens is not None:
        # OpenAI's newer models refuse `max_tokens`; some other servers know nothing else.
        body["max_completion_tokens" if endpoint.url == OPENAI_URL else "max_tokens"] = endpoint.max_tokens
    body.update(endpoint.extra)
    try:
        data: bytes = to_json(body)
        if b"\\u00" not in data:
            return data
    except ValueError:  # lone surrogates
        pass
    cleaned: bytes = to_json(_clean_all(body))
    return cleaned


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _clean_all(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_clean_all(item) for item in value]
    return value


# --- answers -------------------------------------------------------------------------------------------------


class _Function(BaseModel):
    name: str
    arguments: str | dict[str, Any] | None = None


class _Call(BaseModel):
    id: str | None = None
    function: _Function


class _Part(BaseModel):
    type: str
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _Details | None = None


class _Answer(BaseModel):
    """The parts of a chat completion that we read; anything else in it is let be."""

    choices: list[_Choice]
    usage: _Usage | None = None


def read_answer(
    endpoint: Endpoint, key: SecretStr | None, key_source: str, status: int, headers: Mapping[str, str], raw: bytes
) -> Completion:
    """An HTTP answer as a completion, in which the key is nowhere repeated (see `redact`).

    Raises:
        Passing: it may be different next time (408, 409, 429, 5xx, a body that breaks off).
        EndpointRefused: no retry will change it (redirects, 401, 402, 403, 404, 405, no quota left).
        EndpointError: any other answer without a usable completion.
    """
    if 200 <= status < 300 and b'"error"' not in raw:
        try:  # the usual answer, read in one go
            answer = _Answer.model_validate_json(raw)
        except ValidationError:
            answer = None
        if answer is not None and answer.choices:
            return _completion(endpoint, answer, key)
    parsed = _parsed(raw)
    complaint = _complaint(parsed)
    if 200 <= status < 300 and complaint is None:
        return _completion(endpoint, _checked(endpoint, key, parsed, raw), key)
    said, where = quote(complaint.encode(errors="replace") if complaint else raw, key), str(endpoint)
    if 200 <= status < 300:
        # Gateways report a failure of the model behind them as a success with an error object in it.
        status, seen = _code(parsed) or status, f"HTTP {status} with an error in it: {said}"
    else:
        seen = f"HTTP {status}: {said}"

    if status in (401, 403):
        raise EndpointRefused(f"{where} refused access ({seen}). {key_source}")
    if status == 402 or (status == 429 and b"insufficient_quota" in raw):
        raise EndpointRefused(f"{where} will not answer before its account is topped up ({seen}). {key_source}")
    if status in (404, 405):
        raise EndpointRefused(
            f"{where} has no such model or no chat completions there ({seen}). "
            f"Check the model's name, and that the URL is the part before /chat/completions (it usually ends in /v1)."
        )
    if 300 <= status < 400:
        target = quote(headers.get("Location", "").encode(errors="replace"), key)
        raise EndpointRefused(f"{where} redirects to {target} (HTTP {status}). Redirects are not followed; name the right URL.")
    if status in (408, 409, 429) or status >= 500:
        wait_s = wait_asked(headers)
        if wait_s is not None and wait_s > endpoint.max_wait_s:
            limit = f"more than max_wait_s={endpoint.max_wait_s:g}"
            raise EndpointError(f"{where} asks to wait {wait_s:.0f} s, {limit} ({seen}). Try again later, or raise max_wait_s.")
        advice = "Send fewer requests at once." if status == 429 else "See the server's log, or try again later."
        health: Health = "busy" if status in (409, 429) else "well" if status == 500 else "down"
        raise Passing(EndpointError, f"{where} answered {seen}", advice, wait_s, health)
    raise EndpointError(
        f"{where} rejected the request ({seen}). If it lacks structured output or tools, set structured='none' or tools=False "
        f"for this endpoint; if the talk is too long for the model, choose one with a longer context."
    )


def _parsed(raw: bytes) -> Any:
    """The JSON value of an answer, out of the list that Gemini puts around its errors, or None where it is none."""
    try:
        value = json.loads(raw.decode())
        if b"\\ud" in raw.lower():
            value = _clean_all(value)
    except (ValueError, RecursionError):
        return None
    return value[0] if isinstance(value, list) and value else value


def _broken_off(raw: bytes) -> bool:
    """Whether an answer is the beginning of JSON, or nothing at all."""
    try:
        return not raw or (raw[:1] == b"{" and isinstance(from_json(raw, allow_partial="trailing-strings"), dict))
    except ValueError:
        return False


def _complaint(parsed: Any) -> str | None:
    """The message of an error answer, whichever of the usual forms it has; empty when none is found in it."""
    if not isinstance(parsed, dict) or parsed.get("choices"):
        return None
    error = parsed.get("error") or (parsed if parsed.get("object") == "error" else parsed.get("detail"))
    if not error:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _code(parsed: Any) -> int | None:
    """The HTTP status inside of an error object, where it has one."""
    error = parsed.get("error") if isinstance(parsed, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _checked(endpoint: Endpoint, key: SecretStr | None, parsed: Any, raw: bytes) -> _Answer:
    if parsed is None and _broken_off(raw):
        what = f"{endpoint} sent an answer that breaks off after {len(raw)} bytes"
        raise Passing(EndpointError, what, "See the server's log.", paid=True)
    if parsed is None:
        raise EndpointError(f"{endpoint} answered {quote(raw, key)}, which is not JSON. Check the URL: it usually ends in /v1.")
    try:
        answer = _Answer.model_validate(parsed)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the answer"
        what = f"{place}: {problem['msg']}. It sent {quote(raw, key)}."
        raise EndpointError(f"{endpoint} sent no chat completion: {what}") from None
    if not answer.choices:
        raise EndpointError(f"{endpoint} sent a completion without choices. It sent {quote(raw, key)}.")
    return answer


def _completion(endpoint: Endpoint, answer: _Answer, key: SecretStr | None) -> Completion:
    message, usage = answer.choices[0].message, answer.usage or _Usage()
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content if part.type == "text")
    thought, content = split_thinking(content or message.refusal or "")
    told = message.reasoning_content or message.reasoning
    done = Completion(
        content=redact(content, key),
        tool_calls=tuple(redact(_plain(call), key) for call in message.tool_calls or ()),
        usage=Usage(
            usage.prompt_tokens or 0,
            usage.completion_tokens or 0,
            (usage.completion_tokens_details or _Details()).reasoning_tokens or 0,
        ),
        finish_reason=redact(answer.choices[0].finish_reason or "", key),
        reasoning=redact(told if isinstance(told, str) else thought, key),
    )
    if not content.strip() and not done.tool_calls and (done.reasoning or done.usage.thought):
        raise _only_thought(endpoint, done)
    return done


def _only_thought(endpoint: Endpoint, done: Completion) -> EndpointError:
    failure = EndpointError(
        f"{endpoint} sent only its reasoning and no reply (finish reason {done.finish_reason or 'not given'!r}). "
        f"Raise max_tokens, or have it think less, e.g. with extra={{'reasoning_effort': 'low'}}."
    )
    failure.usage = done.usage
    return failure


def _plain(call: _Call) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def split_thinking(text: str) -> tuple[str, str]:
    """(thinking, reply): `<think>...</think>` before a reply, also without its opening or its closing tag.

    Some chat templates write the opening tag into the prompt, so that the reply begins inside the thinking.

    >>> split_thinking("<think>hm</think>Yes")
    ('hm', 'Yes')
    """
    thoughts: list[str] = []
    while True:
        head, closed, tail = text.partition("</think>")
        opened = head.lstrip().startswith("<think>")
        if not opened and (not closed or thoughts or "<think>" in head):
            break
        thoughts.append(head.lstrip().removeprefix("<think>").strip())
        text = tail
    return "\n".join(thoughts), text.lstrip() if thoughts else text


def redact(value: T, key: SecretStr | None) -> T:
    """A value of JSON from an endpoint with `[key]` wherever a text in it repeats the key.

    A key is taken for a placeholder ("EMPTY", "none", "x1"), and let be as it would blot out words, if it has fewer than 8
    characters, without a digit 12, of letters alone 20.
    """
    forms = _forms(key.get_secret_value()) if key is not None else ()
    redacted: T = _replaced(value, forms) if forms else value
    return redacted


@lru_cache(maxsize=64)
def _forms(secret: str) -> tuple[str, ...]:
    """How a key may stand in a text, also in the arguments of a tool call, which are JSON in a string; none of a placeholder."""
    if len(secret) < (8 if any(c.isdigit() for c in secret) else 20 if secret.isalpha() else 12):
        return ()
    escaped = json.dumps(secret)[1:-1]
    return tuple(dict.fromkeys((secret, escaped, escaped.replace("/", "\\/"))))


def _replaced(value: Any, texts: Sequence[str]) -> Any:
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, "[key]")
        return value
    if isinstance(value, Mapping):
        return {_replaced(name, texts): _replaced(item, texts) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_replaced(item, texts) for item in value]
    return value


def quote(raw: bytes, key: SecretStr | None) -> str:
    """An answer for an error message: short, on one line, without the key."""
    text = redact(raw.decode(errors="replace"), key)
    text = " ".join(clean(text[: QUOTED * 10]).split())
    if text[:9].lower() == "<!doctype" or text[:5].lower() == "<html":
        return "an HTML page"
    return (text[:QUOTED] + "..." if len(text) > QUOTED else text) or "an empty body"


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait (`Retry-After`, in seconds or as a date), or None."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
