"""Several endpoints in one chair: shares by weight, an episode stays where it is, and those that fail are stood in for."""

import asyncio
import math
from collections import Counter

import pytest

from userrl.core import Place
from userrl.errors import ConfigError, EndpointError, EndpointRefused
from userrl.llm.client import ChatClient, Endpoint
from userrl.llm.fake import FakeClient, Request, Response, completion, fake_server
from userrl.llm.pool import Pool

HELLO = [{"role": "user", "content": "Hello"}]


def named(name: str) -> FakeClient:
    return FakeClient(lambda _: name, Endpoint(name, "http://fake.invalid/v1"))


def places(count: int) -> list[Place]:
    return [Place("gym", f"task {i // 4}", i % 4, seed=3) for i in range(count)]


def ask(pool: Pool, place: Place) -> str:
    return asyncio.run(pool.chat(HELLO, place=place)).content


def test_endpoints_get_episodes_by_their_weights() -> None:
    pool = Pool([named("a"), named("b"), named("c")], [1, 2, 5])
    shares = Counter(ask(pool, place) for place in places(2000))
    for name, weight in (("a", 1), ("b", 2), ("c", 5)):
        expected = 2000 * weight / 8
        assert abs(shares[name] - expected) < 4 * math.sqrt(expected)


def test_an_episode_stays_with_one_endpoint_whatever_the_turn_and_the_run() -> None:
    first, again = (Pool([named("a"), named("b")], [1, 1]) for _ in range(2))
    for place in places(20):
        whole = [Place(place.gym, place.task, place.attempt, place.seed, turn) for turn in range(5)]
        assert len({ask(pool, turn) for pool in (first, again) for turn in whole}) == 1


def test_an_endpoint_less_moves_only_its_own_episodes() -> None:
    three = Pool([named("a"), named("b"), named("c")], [1, 1, 1])
    two = Pool([named("a"), named("b")], [1, 1])
    before = [ask(three, place) for place in places(200)]
    after = [ask(two, place) for place in places(200)]
    assert all(new == old for old, new in zip(before, after, strict=True) if old != "c")


def test_one_that_refuses_is_stood_in_for_and_the_refusal_of_the_last_is_raised() -> None:
    refusing = [FakeClient(lambda _: EndpointRefused("no key"), Endpoint(name)) for name in "ab"]
    place = next(p for p in places(99) if Pool([refusing[0], named("b")], [1, 1]).order(p)[0] is refusing[0])
    assert ask(Pool([refusing[0], named("b")], [1, 1]), place) == "b"
    with pytest.raises(EndpointRefused, match="no key"):
        ask(Pool(refusing, [1, 1]), place)


def test_a_failure_that_is_the_requests_own_is_not_tried_elsewhere() -> None:
    failing, other = FakeClient(lambda _: EndpointError("too long")), named("b")
    pool = Pool([failing, other], [1, 1])
    place = next(p for p in places(99) if pool.order(p)[0] is failing)
    with pytest.raises(EndpointError, match="too long"):
        ask(pool, place)
    assert not other.calls


def test_one_that_is_down_is_passed_over_and_all_down_is_down() -> None:
    clients = [named("a"), named("b")]
    pool = Pool(clients, [1, 1])
    place = next(p for p in places(99) if pool.order(p)[0] is clients[0])
    clients[0].down = True
    assert ask(pool, place) == "b"
    assert not pool.down
    clients[1].down = True
    assert pool.down
    assert ask(pool, place) == "a"


def test_one_that_was_dead_is_asked_again_once_it_is_back() -> None:
    well = {"a": True}

    def handler(request: Request) -> Response:
        model = request.body["model"]
        return Response(completion(model)) if well.get(model, True) else Response("gone", status=503)

    async def main() -> None:
        async with fake_server(handler) as url:
            settings = {"backoff_s": 0.001, "max_wait_s": 0.01, "max_retries": 0, "dead_after_s": 0.0}
            clients = [ChatClient(Endpoint(name, url, **settings)) for name in "ab"]
            pool = Pool(clients, [1, 1])
            place = next(p for p in places(99) if pool.order(p)[0] is clients[0])

            async def said() -> str:
                try:
                    return (await pool.chat(HELLO, place=place)).content
                except EndpointError:
                    return "failed"

            assert await said() == "a"
            well["a"] = False
            answers = [await said() for _ in range(20)]
            assert answers[0] == "failed"
            assert answers[-5:] == ["b"] * 5
            well["a"] = True
            while await said() != "a":
                pass
            assert [await said() for _ in range(5)] == ["a"] * 5

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("weights", [[], [1], [1, 0], [1, -1], [1, math.nan], [1, math.inf]])
def test_weights_must_be_numbers_above_zero_one_for_each_endpoint(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="A pool of 2 endpoints has weights"):
        Pool([named("a"), named("b")], weights)
