"""Ways in which an endpoint can fail, for tests: what each does to an episode is told in docs/faults.md."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from userrl.llm.fake import Request, Response, completion

Fault = Callable[[Response], Response]
"""From the right answer to what is sent in its place."""


def _instead(response: Response) -> Fault:
    return lambda _: response


def _status(status: int, message: str, **headers: str) -> Fault:
    return _instead(Response({"error": {"message": message}}, status, {k.replace("_", "-"): v for k, v in headers.items()}))


def _text(content: str) -> Fault:
    return _instead(Response(completion(content)))


def _calls(change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Fault:
    """With other tool calls than the right answer's, which is given one where it has none."""

    def fault(good: Response) -> Response:
        made = completion(calls=[("act", {})])
        calls = good.body["choices"][0]["message"].get("tool_calls") or made["choices"][0]["message"]["tool_calls"]
        made["choices"][0]["message"]["tool_calls"] = change(calls[0])
        return replace(good, body=made)

    return fault


def _cut(call: dict[str, Any]) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "arguments": call["function"]["arguments"][:-1]}}


FAULTS: Mapping[str, Fault] = {
    "HTTP 429 with Retry-After": _status(429, "slow down", Retry_After="0"),
    "HTTP 429 without Retry-After": _status(429, "slow down"),
    "HTTP 429 that asks for too long a wait": _status(429, "slow down", Retry_After="3600"),
    "HTTP 429, no quota left": _instead(Response({"error": {"code": "insufficient_quota", "message": "no quota"}}, 429)),
    "HTTP 500": _status(500, "out of order"),
    "HTTP 502, an HTML page": _instead(Response("<!DOCTYPE html><html>Bad gateway</html>", 502)),
    "HTTP 400": _status(400, "too long for this model"),
    "HTTP 401": _status(401, "wrong key"),
    "HTTP 404": _status(404, "no such model"),
    "HTTP 307": _instead(Response(status=307, headers={"Location": "https://elsewhere.example/v1"})),
    "slow first byte": lambda good: replace(good, delay_s=0.05),
    "hang": lambda good: replace(good, delay_s=3600.0),
    "reset before the answer": _instead(Response(hang_up=True)),
    "reset mid-body": lambda good: replace(good, cut_after=len(good.bytes()) // 2),
    "truncated JSON": lambda good: replace(good, body=good.bytes()[: len(good.bytes()) // 2]),
    "not UTF-8": lambda good: replace(good, body=b"\xff\xfe" + good.bytes()),
    "huge body": lambda good: replace(good, body=good.bytes() + b" " * 2**24),
    "wrong schema": _instead(Response({"object": "chat.completion", "text": "Yes."})),
    "empty choices": _instead(Response({"choices": []})),
    "HTTP 200 with an error in it": _instead(Response({"error": {"message": "the model is gone"}})),
    "HTTP 200 with an error 503 in it": _instead(Response({"error": {"code": 503, "message": "the model is busy"}})),
    "reasoning alone": _instead(Response(completion("", reasoning_content="on and on"))),
    "empty reply": _text(""),
    "prose": _text("I would rather talk about the weather."),
    "long reply": _text("Well. " * 20_000),
    "broken arguments": _calls(lambda call: [_cut(call)]),
    "several tool calls": _calls(lambda call: [call, call]),
}
"""Name -> fault."""


def faulty(
    answer: Callable[[Request], Response],
    share: float,
    seed: int = 0,
    faults: Sequence[str] = tuple(FAULTS),
    met: Counter[str] | None = None,
) -> Callable[[Request], Response]:
    """A handler of `fake_server` that answers a share of the requests by one of the faults instead, drawn by the seed.

    `met` counts the faults.
    """
    rng = random.Random(seed)

    def handler(request: Request) -> Response:
        good = answer(request)
        if rng.random() >= share:
            return good
        fault = rng.choice(faults)
        if met is not None:
            met[fault] += 1
        return FAULTS[fault](good)

    return handler
