"""The fakes, which have the same door as the real ones."""

import asyncio

import pytest

from userrl.errors import EndpointError
from userrl.llm.client import ChatClient, Client, Completion, Endpoint
from userrl.llm.fake import FakeClient, Request, Response, fake_server

HELLO = [{"role": "user", "content": "Hello"}]


def test_a_fake_client_answers_from_a_list_and_keeps_what_it_was_asked() -> None:
    client = FakeClient(["one", Completion("two", finish_reason="length"), EndpointError("down")])
    assert asyncio.run(client.chat(HELLO, seed=3)).content == "one"
    assert asyncio.run(client.chat(HELLO)).finish_reason == "length"
    with pytest.raises(EndpointError, match="down"):
        asyncio.run(client.chat(HELLO))
    with pytest.raises(EndpointError, match="list of 3 fake replies is used up"):
        asyncio.run(client.chat(HELLO))
    assert client.calls[:2] == [{"messages": HELLO, "seed": 3}, {"messages": HELLO}]


def test_a_fake_client_answers_by_a_function_of_the_messages() -> None:
    client: Client = FakeClient(lambda messages: f"{len(messages)} messages")
    assert asyncio.run(client.chat(HELLO * 2)).content == "2 messages"


def test_a_fake_server_numbers_its_requests_and_shuts_down_with_calls_open() -> None:
    numbers: list[int] = []

    async def main() -> None:
        all_here = asyncio.Event()

        def handler(request: Request) -> Response:
            numbers.append(request.number)
            if len(numbers) == 3:
                all_here.set()
            return Response(delay_s=60)

        async with fake_server(handler) as url:
            client = ChatClient(Endpoint("m", url, max_retries=0))
            calls = [asyncio.create_task(client.chat(HELLO)) for _ in range(3)]
            await all_here.wait()
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(main())
    assert sorted(numbers) == [0, 1, 2]
