"""The client, over real HTTP to a server on loopback."""

import asyncio
import gc
import json
import socket
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from userrl.errors import EndpointError, EndpointRefused
from userrl.llm import client as client_module
from userrl.llm.client import ChatClient, Completion, Endpoint, Usage, parse_endpoint
from userrl.llm.fake import Request, Response, completion, fake_server

KEY = "sk-very-secret-0123456789"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def call(handler: Callable[[Request], Any], chat: dict[str, Any] | None = None, **settings: Any) -> Completion:
    """One chat with a server that answers by `handler`."""

    async def main() -> Completion:
        async with fake_server(handler) as url, ChatClient(Endpoint("m", url, **{"backoff_s": 0.001, **settings})) as client:
            return await client.chat(HELLO, **chat or {})

    return asyncio.run(main())


def scripted(*responses: Response | str) -> tuple[list[Request], Callable[[Request], Response | str]]:
    """A handler that answers in turn (the last one again and again), and the requests it saw."""
    seen: list[Request] = []

    def handler(request: Request) -> Response | str:
        seen.append(request)
        return responses[min(request.number, len(responses) - 1)]

    return seen, handler


def failure(handler: Callable[[Request], Any], kind: type[EndpointError] = EndpointError, **settings: Any) -> str:
    """The text of the failure that a chat ends in, which is of just this kind."""
    with pytest.raises(EndpointError) as caught:
        call(handler, **settings)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, in seconds, none of which is really waited."""
    seen: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        if seconds > 0:
            seen.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    return seen


# --- what is sent, what comes back -----------------------------------------------------------------------------


def test_a_chat_returns_content_usage_and_finish_reason() -> None:
    done = call(lambda request: f"You said {request.messages[-1]['content']}.")
    assert done == Completion("You said Hello.", usage=Usage(read=10, written=5), finish_reason="stop")


def test_only_what_is_asked_for_is_sent() -> None:
    seen, handler = scripted("ok")
    call(handler)
    assert seen[0].path == "/v1/chat/completions"
    assert seen[0].body == {"model": "m", "messages": HELLO}


def test_settings_and_arguments_reach_the_endpoint() -> None:
    seen, handler = scripted("ok")
    chat = {"tools": [TOOL], "schema": {"title": "Of[x]", "type": "object"}, "seed": 7, "temperature": 0.5}
    call(handler, chat, temperature=1.0, max_tokens=99, extra={"top_p": 0.9})
    assert seen[0].body == {
        "model": "m",
        "messages": HELLO,
        "tools": [TOOL],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "Of_x_", "schema": {"title": "Of[x]", "type": "object"}, "strict": False},
        },
        "seed": 7,
        "temperature": 0.5,
        "max_tokens": 99,
        "top_p": 0.9,
    }


def test_structured_output_is_asked_for_as_the_endpoint_has_it() -> None:
    seen, handler = scripted("ok")
    for structured in ("json_object", "none"):
        call(handler, {"schema": {"type": "object"}}, structured=structured)
    assert seen[0].body["response_format"] == {"type": "json_object"}
    assert "response_format" not in seen[1].body


def test_the_key_of_the_role_goes_into_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERRL_JUDGE_API_KEY", KEY)
    seen, handler = scripted("ok")

    async def main() -> None:
        async with fake_server(handler) as url:
            for role in ("judge", "user"):
                async with ChatClient(parse_endpoint(f"m@{url}", role)) as client:
                    await client.chat(HELLO)

    asyncio.run(main())
    assert seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in seen[1].headers


def test_lone_surrogates_and_control_characters_are_replaced_before_sending() -> None:
    seen, handler = scripted("ok")

    async def main() -> None:
        async with fake_server(handler) as url, ChatClient(Endpoint("m", url)) as client:
            for text in ("a\ud800b", "a\x00b\r\nc\td", "kept: \\u0000 \U0001f600 é\n"):
                await client.chat([{"role": "user", "content": text}], tools=[TOOL])

    asyncio.run(main())
    assert [r.messages[0]["content"] for r in seen] == ["a\ufffdb", "a\ufffdb\nc\td", "kept: \\u0000 \U0001f600 é\n"]
    assert all(r.body["tools"] == [TOOL] for r in seen)


def test_tool_calls_come_back_in_the_form_in_which_they_are_read() -> None:
    done = call(lambda _: Response(completion(calls=[("look", {"at": 1}), ("look", {"at": 2})])))
    assert done.content == ""
    assert [json.loads(c["function"]["arguments"])["at"] for c in done.tool_calls] == [1, 2]
    assert done.tool_calls[0]["id"] == "call_0"
    assert done.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"content": "<think>\nhm\n</think>\n\nYes"}, "hm", "Yes"),
        ({"content": "hm, then\n</think>\nYes"}, "hm, then", "Yes"),
        ({"content": "<think>a</think><think>b</think>Yes"}, "a\nb", "Yes"),
        ({"content": "Say <think> and </think>."}, "", "Say <think> and </think>."),
        ({"content": " Yes"}, "", " Yes"),
        ({"content": "Yes", "reasoning_content": "hm"}, "hm", "Yes"),
        ({"content": "Yes", "reasoning": "hm"}, "hm", "Yes"),
        ({"content": "Yes", "reasoning": {"text": "of no known form"}}, "", "Yes"),
        ({"content": [{"type": "thinking"}, {"type": "text", "text": "Ye"}, {"type": "text", "text": "s"}]}, "", "Yes"),
        ({"content": None, "refusal": "I will not."}, "", "I will not."),
        ({"content": "half a \ud83d"}, "", "half a \ufffd"),
        ({"content": None}, "", ""),
    ],
)
def test_thinking_is_told_from_the_reply(message: dict[str, Any], reasoning: str, content: str) -> None:
    done = call(lambda _: Response(completion(**message)))
    assert (done.reasoning, done.content) == (reasoning, content)


@pytest.mark.parametrize(
    "message",
    [{"content": "<think>on and on"}, {"content": "<think>done</think>\n"}, {"content": "", "reasoning_content": "on and on"}],
)
def test_a_reply_of_reasoning_alone_is_a_failure_that_says_so(message: dict[str, Any]) -> None:
    assert "only its reasoning" in failure(lambda _: Response(completion(**message)))


def test_hidden_reasoning_that_used_up_the_reply_is_told_from_an_empty_reply() -> None:
    body = completion("")
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 5}
    assert "max_tokens" in failure(lambda _: Response(body))


# --- retries ---------------------------------------------------------------------------------------------------


def test_429_is_tried_again_after_the_wait_that_the_endpoint_asks_for(waits: list[float]) -> None:
    seen, handler = scripted(Response(status=429, headers={"Retry-After": "7"}), "ok")
    assert call(handler, backoff_s=0.25).content == "ok"
    assert len(seen) == 2
    assert 7 <= waits[0] <= 7.25


def test_a_wait_beyond_the_bound_is_not_begun(waits: list[float]) -> None:
    seen, handler = scripted(Response(status=429, headers={"Retry-After": "3600"}))
    assert "asks to wait 3600 s" in failure(handler)
    assert len(seen) == 1
    assert not waits


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
def test_a_failure_that_may_pass_is_tried_again(status: int) -> None:
    seen, handler = scripted(Response("oops", status=status), "ok")
    assert call(handler).content == "ok"
    assert [r.body for r in seen] == [seen[0].body] * 2


def test_a_broken_connection_is_tried_again() -> None:
    seen, handler = scripted(Response(hang_up=True), Response(hang_up=True), "ok")
    assert call(handler).content == "ok"
    assert len(seen) == 3


def test_an_error_inside_of_a_success_is_read_as_the_status_it_names() -> None:
    seen, handler = scripted(Response([{"error": {"code": 503, "message": "model busy"}}]), "ok")
    assert call(handler).content == "ok"
    assert len(seen) == 2
    text = failure(lambda _: Response({"error": {"code": 404, "message": "no such model"}}), EndpointRefused)
    assert "no such model" in text


def test_waits_grow_to_a_bound_and_tries_end(waits: list[float]) -> None:
    seen, handler = scripted(Response({"error": {"message": "overloaded"}}, status=503))
    text = failure(handler, max_retries=6, backoff_s=0.5, max_wait_s=4.0)
    assert len(seen) == 7
    assert len(waits) == 6
    assert all(wait <= min(4.0, 0.5 * 2**i) for i, wait in enumerate(waits))
    assert "HTTP 503: overloaded; tried 7 times" in text


def test_an_endpoint_that_never_answers_fails_after_its_tries() -> None:
    seen, handler = scripted(Response(delay_s=60))
    text = failure(handler, timeout_s=0.05, max_retries=1)
    assert "did not answer within 0.05 s; tried 2 times" in text
    assert len(seen) == 2


def test_a_canceled_call_ends_at_once_and_is_not_tried_again() -> None:
    seen, handler = scripted(Response(delay_s=60))

    async def main() -> None:
        async with fake_server(handler) as url, ChatClient(Endpoint("m", url, backoff_s=0.001)) as client:
            async with asyncio.timeout(0.1):
                await client.chat(HELLO)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert len(seen) == 1


# --- failures --------------------------------------------------------------------------------------------------


def test_an_unreachable_endpoint_says_where_how_often_and_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    client = ChatClient(Endpoint("m", url, max_retries=2, backoff_s=0.001))
    with pytest.raises(EndpointRefused) as caught:
        asyncio.run(client.chat(HELLO))
    text = str(caught.value)
    assert url in text
    assert "tried 3 times" in text
    assert "MODEL@URL" in text


def test_a_refused_key_is_named_by_its_variable_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERRL_API_KEY", KEY)
    seen, handler = scripted(Response({"error": {"message": f"Wrong key: {KEY}"}}, status=401, headers={"X-Key": KEY}))
    with pytest.raises(EndpointRefused) as caught:
        call(handler)
    error = caught.value
    assert "environment variable USERRL_API_KEY" in str(error)
    assert "Wrong key: [key]" in str(error)
    assert seen[0].headers["Authorization"].endswith(KEY)
    assert len(seen) == 1
    report = "".join(traceback.TracebackException.from_exception(error).format())
    assert KEY not in repr(error) + repr(error.args) + report
    assert error.__cause__ is None


def test_without_a_key_a_refusal_says_where_one_would_be_looked_for() -> None:
    text = failure(lambda _: Response(status=401), EndpointRefused)
    assert "No key was sent" in text
    assert "the environment holds no USERRL_API_KEY; put the key there" in text


@pytest.mark.parametrize(
    "response",
    [
        Response({"error": {"message": f"bad: {KEY}"}}, status=400),
        Response({"error": f"bad: {KEY}"}),
        Response({"detail": [{"input": KEY}]}, status=422),
        Response(f"bad: {KEY}", status=503),
        Response("x" * 290 + KEY),
        Response({"choices": [], "echo": KEY}),
        Response(status=302, headers={"Location": f"http://127.0.0.1/{KEY}"}),
    ],
)
def test_a_key_in_an_answer_is_not_repeated(response: Response) -> None:
    with pytest.raises(EndpointError) as caught:
        call(lambda _: response, key=SecretStr(KEY), max_retries=0)
    assert KEY[:6] not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"Bearer {KEY}."},
        {"content": f"<think>It is {KEY}.</think>Yes."},
        {"content": "Yes.", "reasoning_content": f"My key is {KEY}."},
        {"content": [{"type": "text", "text": KEY}]},
        {"refusal": f"Not with {KEY}"},
        {"tool_calls": [{"id": KEY, "function": {"name": "look", "arguments": json.dumps({"at": KEY})}}]},
        {"tool_calls": [{"function": {"name": KEY, "arguments": {KEY: [{"at": f"x{KEY}x"}]}}}]},
    ],
)
def test_a_key_in_a_reply_is_redacted_at_the_door(message: dict[str, Any]) -> None:
    body = completion()
    body["choices"][0] = {"message": message, "finish_reason": f"stop {KEY}"}
    done = call(lambda _: Response(body), key=SecretStr(KEY))
    assert KEY[:6] not in repr(done)
    assert "[key]" in repr(replace(done, finish_reason=""))
    assert done.finish_reason == "stop [key]"


def test_a_key_that_json_escapes_is_redacted_in_the_arguments_of_a_call() -> None:
    key = 'ab+cd/ef"gh\\12'
    for arguments in (json.dumps({"at": key}), json.dumps({"at": key}).replace("/", "\\/")):
        body = completion()
        body["choices"][0]["message"] = {"tool_calls": [{"function": {"name": "look", "arguments": arguments}}]}
        _, handler = scripted(Response(body))
        [asked] = call(handler, key=SecretStr(key)).tool_calls
        assert json.loads(asked["function"]["arguments"]) == {"at": "[key]"}


@pytest.mark.parametrize("placeholder", ["none", "EMPTY", "ollama", "not-needed", "x", "test123"])
def test_a_placeholder_for_a_key_blots_out_no_words(placeholder: str) -> None:
    told = f"There is {placeholder} of it; {placeholder}!"
    assert call(lambda _: told, key=SecretStr(placeholder)).content == told
    with pytest.raises(EndpointError, match=f"bad {placeholder}"):
        call(lambda _: Response({"error": f"bad {placeholder}"}, status=400), key=SecretStr(placeholder))


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_an_answer_that_breaks_off_is_asked_for_again_and_told_as_lost(cut: int) -> None:
    whole = json.dumps(completion("Yes."))
    seen, handler = scripted(Response(whole[:cut]), Response(whole, cut_after=20), Response(whole))
    done = call(handler)
    assert (done.content, done.lost, len(seen)) == ("Yes.", 2, 3)
    with pytest.raises(EndpointError, match=r"sent an answer that breaks off after \d+ bytes; tried 2 times") as caught:
        call(lambda _: Response(whole[:cut]), max_retries=1)
    assert caught.value.lost == 2
    assert "Check the URL" not in str(caught.value)


def test_a_failure_that_no_retry_helps_tells_of_the_answers_lost_before() -> None:
    _, handler = scripted(Response("{"), Response({"error": "no"}, status=400))
    with pytest.raises(EndpointError, match="rejected") as caught:
        call(handler)
    assert caught.value.lost == 1


def test_no_object_of_ours_shows_the_key() -> None:
    client = ChatClient(Endpoint("m", key=SecretStr(KEY)))
    assert KEY not in repr(client) + repr(client.endpoint) + repr(vars(client))


def test_a_server_that_speaks_no_http_fails_without_showing_the_key() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ready\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        url = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
        async with server, ChatClient(Endpoint("m", url, key=SecretStr(KEY), max_retries=1, backoff_s=0.001)) as client:
            await client.chat(HELLO)

    with pytest.raises(EndpointError, match=r"broke .*tried 2 times") as caught:
        asyncio.run(main())
    assert KEY not in repr(caught.value) + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (Response({"error": {"message": "model m not found"}}, status=404), "model m not found"),
        (Response(status=405), "/v1"),
        (Response(status=403), "refused access"),
        (Response(status=402), "topped up"),
        (Response({"error": {"code": "insufficient_quota", "message": "x" * 400}}, status=429), "topped up"),
        (Response(status=307, headers={"Location": "https://elsewhere.example/v1"}), "https://elsewhere.example/v1"),
    ],
)
def test_what_no_retry_can_change_is_refused_at_once(response: Response, said: str) -> None:
    seen, handler = scripted(response)
    assert said in failure(handler, EndpointRefused)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (Response("<p></p>"), "<p></p>, which is not JSON"),
        (Response("{]"), "{], which is not JSON"),
        (Response(b"\xff\xfe{}"), "not JSON"),
        (Response("<!DOCTYPE html><html>Welcome</html>"), "an HTML page"),
        (Response("[" * 100_000), "not JSON"),
        (Response("[" * 900 + "]" * 900), "no chat completion"),
        (Response('{"error": ' + "[" * 900 + "]" * 900 + ', "x": "\\ud800"}'), "[["),
        (Response("null"), "not JSON"),
        (Response({}), "choices"),
        (Response({"choices": []}), "without choices"),
        (Response({"choices": [{"message": None}]}), "choices.0.message"),
        (Response({"choices": [{"message": {"content": 5}}]}), "choices.0.message.content"),
        (Response({"choices": [{"message": {"tool_calls": [{"function": "look"}]}}]}), "tool_calls.0.function"),
        (Response({"error": {"message": "out of order"}}), "out of order"),
        (Response({"error": {"message": "context too long"}}, status=400), "context too long"),
        (Response({"object": "error", "message": "context too long"}, status=400), "context too long"),
        (Response({"detail": "response_format unknown"}, status=422), "structured='none'"),
    ],
)
def test_an_answer_that_is_no_completion_is_a_failure_that_shows_it(response: Response, said: str) -> None:
    seen, handler = scripted(response)
    assert said in failure(handler)
    assert len(seen) == 1


def test_a_long_answer_is_quoted_in_part() -> None:
    text = failure(lambda _: Response("why? " * 100_000))
    assert "why? why?" in text
    assert len(text) < 1000


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY", 2**20)
    assert "more than 1 MiB" in failure(lambda _: Response(b" " * 2**21))


# --- sessions --------------------------------------------------------------------------------------------------


def test_64_calls_at_once_share_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[aiohttp.ClientSession] = []
    real = aiohttp.ClientSession

    def session(**settings: Any) -> aiohttp.ClientSession:
        opened.append(real(**settings))
        return opened[-1]

    monkeypatch.setattr(aiohttp, "ClientSession", session)

    async def main() -> list[str]:
        waiting = 0
        all_here = asyncio.Event()

        async def handler(request: Request) -> str:
            nonlocal waiting
            waiting += 1
            if waiting == 64:
                all_here.set()
            await all_here.wait()
            return str(request.messages[0]["content"])

        async with fake_server(handler) as url, ChatClient(Endpoint("m", url)) as client:
            calls = [client.chat([{"role": "user", "content": str(i)}]) for i in range(64)]
            return [done.content for done in await asyncio.gather(*calls)]

    assert asyncio.run(main()) == [str(i) for i in range(64)]
    assert len(opened) == 1


def test_one_client_serves_one_event_loop_after_another_and_leaves_nothing_open() -> None:
    async def main(client: ChatClient) -> str:
        async with fake_server(lambda _: "ok") as url:
            client.endpoint = Endpoint("m", url)
            return (await client.chat(HELLO)).content

    client = ChatClient(Endpoint("m"))
    for _ in range(3):
        assert asyncio.run(main(client)) == "ok"
        assert not client._sessions
        assert not client._lives
    gc.collect()  # a session or connection left open would warn here, and a warning fails the test


def test_a_closed_client_can_be_used_again() -> None:
    async def main() -> None:
        async with fake_server(lambda _: "ok") as url:
            client = ChatClient(Endpoint("m", url))
            await client.close()
            for _ in range(2):
                async with client:
                    assert (await client.chat(HELLO)).content == "ok"
                assert not client._sessions

    asyncio.run(main())
