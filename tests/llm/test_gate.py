"""What requests to an endpoint pass: limits, and waiting while it is down. On a clock of its own: no test waits."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from userrl.errors import EndpointError, EndpointRefused
from userrl.llm.client import ChatClient
from userrl.llm.endpoint import Endpoint
from userrl.llm.fake import Request, Response, fake_server
from userrl.llm.gate import LONGEST_PAUSE_S, TRIPS, TURNED_AWAY, Gate
from userrl.llm.wire import Health, Passing, Usage

Run = Callable[..., Any]


def gate(**settings: Any) -> Gate:
    return Gate(Endpoint("m", "http://a.invalid/v1", **settings))


def down(health: Health = "down", wait_s: float | None = None) -> Passing:
    return Passing(EndpointError, "It answered HTTP 503", "See its log.", wait_s, health)


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def passed(it: Gate, size: int = 0) -> float:
    """When a request got through, which is then answered at once."""
    async with it(size):
        return now()


def trip(it: Gate) -> None:
    for _ in range(TRIPS):
        it.failed(down())


# --- limits ----------------------------------------------------------------------------------------------------


def test_no_more_requests_are_in_flight_than_at_once_allows(in_no_time: Run) -> None:
    async def main() -> int:
        it, flying, most = gate(at_once=3), 0, 0

        async def request() -> None:
            nonlocal flying, most
            async with it(0):
                flying += 1
                most = max(most, flying)
                await asyncio.sleep(1)
                flying -= 1

        await asyncio.gather(*(request() for _ in range(10)))
        return most

    assert in_no_time(main()) == 3


def test_requests_of_a_minute_are_spread_over_it(in_no_time: Run) -> None:
    async def main() -> list[float]:
        it = gate(requests_per_minute=120)
        return sorted(await asyncio.gather(*(passed(it) for _ in range(60))))

    times = in_no_time(main())
    assert times[1] == 0  # the share of one second goes at once
    assert times[-1] == pytest.approx(29, abs=0.6)
    assert all(sum(t <= s < t + 10 for s in times) <= 22 for t in times)


def test_a_request_larger_than_the_share_of_a_moment_still_counts_whole(in_no_time: Run) -> None:
    async def main() -> list[float]:
        it = gate(tokens_per_minute=6000)  # 100 a second
        size = round(3900 / 0.25)  # 3900 tokens are read and 100 written, it is expected
        return sorted(await asyncio.gather(*(passed(it, size) for _ in range(5))))

    times = in_no_time(main())
    assert times[-1] == pytest.approx((5 * 4000 - 1000) / 100, rel=0.02)


def test_tokens_are_expected_as_answers_have_shown(in_no_time: Run) -> None:
    async def main() -> tuple[float, float]:
        short, long = gate(tokens_per_minute=6000), gate(tokens_per_minute=6000)
        for _ in range(300):
            short.answered(1000, Usage(read=250, written=10))
            long.answered(1000, Usage(read=250, written=2000))
        for _ in range(9):
            await passed(short, 1000)
        first = now()
        for _ in range(9):
            await passed(long, 1000)
        return first, now() - first

    short, long = in_no_time(main())
    assert short == pytest.approx((9 * 260 - 1000) / 100, rel=0.02)
    assert long == pytest.approx((9 * 2250 - 1000) / 100, rel=0.02)


def test_a_gate_without_limits_lets_everything_pass_at_once(in_no_time: Run) -> None:
    async def main() -> set[float]:
        it = gate()
        return set(await asyncio.gather(*(passed(it, 10**6) for _ in range(500))))

    assert in_no_time(main()) == {0.0}


# --- an endpoint that is down ----------------------------------------------------------------------------------


def test_failures_with_an_answer_in_between_do_not_close_the_gate(in_no_time: Run) -> None:
    async def main() -> float:
        it = gate()
        for _ in range(10 * TRIPS):
            it.failed(down())
            it.answered()
        for _ in range(TRIPS - 1):
            it.failed(down())
        assert not it.down
        return await passed(it)

    assert in_no_time(main()) == 0


def test_while_an_endpoint_is_down_one_request_at_a_time_probes_it(in_no_time: Run) -> None:
    async def main() -> None:
        it, probes, through, healed = gate(backoff_s=0.5, dead_after_s=1000), 0, 0, False
        it.answered()
        trip(it)
        assert it.down
        assert it.worth_waiting

        async def request() -> None:
            nonlocal probes, through
            while True:
                async with it(0):
                    if healed:
                        through += 1
                        it.answered()
                        return
                    probes += 1
                    alone = probes
                    await asyncio.sleep(2)
                    assert probes == alone  # nobody else came through meanwhile
                    it.failed(down())

        requests = [asyncio.create_task(request()) for _ in range(40)]
        await asyncio.sleep(300)
        assert through == 0
        assert 300 / (LONGEST_PAUSE_S + 3) - 1 <= probes <= 300 / LONGEST_PAUSE_S + TRIPS
        healed = True
        await asyncio.gather(*requests)
        assert through == 40
        assert now() < 300 + 2 * LONGEST_PAUSE_S
        assert not it.down

    in_no_time(main())


def test_a_probe_that_is_called_off_leaves_its_place_to_the_next(in_no_time: Run) -> None:
    async def main() -> float:
        it = gate(backoff_s=0.5)
        trip(it)

        async def hanging() -> None:
            async with it(0):
                await asyncio.sleep(10**6)

        task = asyncio.create_task(hanging())
        await asyncio.sleep(100)
        assert it.down  # by the probe under way
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not it.down
        return await passed(it)

    assert in_no_time(main()) == pytest.approx(100)


def test_an_endpoint_that_never_answered_is_not_waited_for(in_no_time: Run) -> None:
    async def main() -> None:
        it = gate()
        trip(it)
        assert not it.worth_waiting

    in_no_time(main())


def test_an_endpoint_that_fails_for_too_long_is_given_up_and_its_waiting_requests_are_refused_at_once(in_no_time: Run) -> None:
    async def main() -> None:
        it = gate(dead_after_s=60)
        it.answered()
        trip(it)
        for _ in range(3):
            await passed(it)
            it.failed(down())
        waiting = asyncio.create_task(passed(it))
        await asyncio.sleep(0)
        await asyncio.sleep(61 - now())
        with pytest.raises(EndpointRefused, match=r"503; 12 requests in a row have failed for 61 s, more than dead_after_s=60"):
            it.failed(down())
        with pytest.raises(EndpointRefused, match="See its log"):
            await passed(it)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        await asyncio.sleep(LONGEST_PAUSE_S + 1)
        assert not it.down  # whoever comes next is the probe
        await passed(it)
        it.answered()
        assert await passed(it) == now()
        trip(it)
        it.answered()
        await passed(it)  # what was once dead is not held against it

    in_no_time(main())


# --- refusals --------------------------------------------------------------------------------------------------


def test_a_busy_endpoint_is_not_down_but_is_left_alone_as_long_as_it_asks(in_no_time: Run) -> None:
    async def main() -> tuple[float, float]:
        it = gate(backoff_s=0.5)
        for _ in range(TURNED_AWAY - 1):
            it.failed(down(health="busy", wait_s=30))
        early = await passed(it)
        it.failed(down(health="busy", wait_s=30))
        for _ in range(10 * TRIPS):
            it.failed(down(health="busy"))
        assert not it.down
        return early, await passed(it)

    early, late = in_no_time(main())
    assert early == 0
    assert 30 <= late <= 31


def test_a_request_that_always_breaks_the_server_does_not_make_it_count_as_down() -> None:
    """HTTP 500 is an answer: the endpoint is there, and fails at that request."""
    seen = 0

    def handler(_: Request) -> Response:
        nonlocal seen
        seen += 1
        return Response("out of order", status=500)

    async def main() -> list[object]:
        async with fake_server(handler) as url, ChatClient(Endpoint("m", url, backoff_s=0.001, max_retries=3)) as client:
            talk = [{"role": "user", "content": "Hello"}]
            outcomes = await asyncio.gather(*(client.chat(talk) for _ in range(3 * TRIPS)), return_exceptions=True)
            assert not client.down
            return list(outcomes)

    outcomes = asyncio.run(main())
    assert {type(outcome) for outcome in outcomes} == {EndpointError}
    assert seen == 4 * 3 * TRIPS
