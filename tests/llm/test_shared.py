"""Asking the same thing only once."""

import asyncio
import gc
import weakref
from contextlib import suppress
from itertools import count

import pytest

from userrl.core import Place
from userrl.errors import EndpointError
from userrl.llm import shared
from userrl.llm.client import Endpoint
from userrl.llm.fake import FakeClient, Messages
from userrl.llm.shared import Shared
from userrl.llm.wire import Completion, Usage

ENDPOINT = Endpoint("m", "http://fake.invalid/v1", temperature=0.0, seeds=True)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def counting() -> FakeClient:
    """Never says the same thing twice."""
    numbers = count()
    return FakeClient(lambda _: Completion(str(next(numbers)), usage=Usage(10, 2)), ENDPOINT)


def test_the_same_question_is_asked_once_and_paid_for_once() -> None:
    client = counting()
    it = Shared(client, "user", by_turn=False)

    async def main() -> None:
        first = await it.chat(said("Where to?"), place=Place("g", "t"))
        again = await it.chat(said("Where to?"), place=Place("g", "other task", 3, 1, 7))
        assert (first.content, first.usage, first.shared) == ("0", Usage(10, 2), False)
        assert (again.content, again.usage, again.shared) == ("0", Usage(), True)
        for other in ({"messages": said("When?")}, {"seed": 1}, {"temperature": 0.5}):
            assert not (await it.chat(**{"messages": said("Where to?"), **other})).shared
        longer = [said("Where to?")[0], {"role": "user", "content": "earlier"}, *said("Where to?")]
        assert not (await it.chat(longer)).shared
        assert not (await it.chat([*longer[:1], {"role": "user", "content": "else"}, *longer[2:]])).shared

    asyncio.run(main())
    assert len(client.calls) == 6


def test_those_who_ask_while_the_answer_is_on_its_way_wait_for_it() -> None:
    asked = 0

    class Slow(FakeClient):
        async def chat(self, messages: Messages, **options: object) -> Completion:  # type: ignore[override]
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            return Completion("yes")

    async def main() -> list[Completion]:
        it = Shared(Slow([]), "user", by_turn=False)
        return await asyncio.gather(*(it.chat(said("Well?")) for _ in range(20)))

    answers = asyncio.run(main())
    assert asked == 1
    assert [a.content for a in answers] == ["yes"] * 20
    assert [a.shared for a in answers] == [False] + [True] * 19


def test_by_turn_only_attempts_at_the_same_turn_of_the_same_task_share() -> None:
    client = counting()
    it = Shared(client, "user", by_turn=True)

    async def main() -> None:
        place = Place("g", "t", 0, 5, 2)
        first = await it.chat(said("Where to?"), seed=1, place=place)
        same = await it.chat(said("Where to?"), seed=2, place=Place("g", "t", 1, 5, 2))
        assert (same.content, same.shared) == (first.content, True)
        others = [Place("h", "t", 1, 5, 2), Place("g", "u", 1, 5, 2), Place("g", "t", 1, 6, 2), Place("g", "t", 1, 5, 3)]
        answers = [await it.chat(said("Where to?"), place=other) for other in others]
        assert [a.shared for a in answers] == [False] * 4
        assert not (await it.chat(said("When?"), place=place)).shared

    asyncio.run(main())
    assert len({call["seed"] for call in client.calls[:5]}) == 5  # the place's own, whichever attempt asks


def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    replies = iter([EndpointError("broken"), "well", "not asked for"])
    client = FakeClient(lambda _: next(replies), ENDPOINT)

    async def main() -> None:
        it = Shared(client, "user", by_turn=False)
        both = await asyncio.gather(*(it.chat(said("Well?")) for _ in range(2)), return_exceptions=True)
        assert [str(error) for error in both] == ["broken", "broken"]
        assert (await it.chat(said("Well?"))).content == "well"
        assert (await it.chat(said("Well?"))).content == "well"

    asyncio.run(main())


def test_a_failure_leaves_no_cycle_for_the_collector() -> None:
    def broken(_: object) -> str:
        raise EndpointError("broken")

    async def main() -> None:
        client = FakeClient(broken, ENDPOINT)
        gone = weakref.ref(client)
        with suppress(EndpointError):
            await Shared(client, "user", by_turn=False).chat(said("Well?"))
        del client
        await asyncio.sleep(0)
        assert gone() is None

    gc.collect()
    gc.disable()  # as it is during play
    try:
        asyncio.run(main())
    finally:
        gc.enable()


class Held(FakeClient):
    """Answers, or fails, when it is told to."""

    def __init__(self) -> None:
        super().__init__([], ENDPOINT)
        self.answers: list[asyncio.Future[Completion]] = []

    async def chat(self, messages: Messages, **options: object) -> Completion:  # type: ignore[override]
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


def test_one_who_gives_up_takes_the_answer_from_nobody() -> None:
    async def main() -> None:
        client = Held()
        it = Shared(client, "user", by_turn=False)
        first, second = (asyncio.create_task(it.chat(said("Well?"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        client.answers[0].set_result(Completion("yes"))
        assert (await second).content == "yes"
        assert first.cancelled()
        assert (await it.chat(said("Well?"))).content == "yes"
        assert len(client.answers) == 1

    asyncio.run(main())


def test_a_failure_that_nobody_waited_for_is_not_given_to_who_asks_next() -> None:
    async def main() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        client = Held()
        it = Shared(client, "user", by_turn=False)
        first = asyncio.create_task(it.chat(said("Well?")))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        client.answers[0].set_exception(EndpointError("broken"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        again = asyncio.create_task(it.chat(said("Well?")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.answers[1].set_result(Completion("yes"))
        assert (await again).content == "yes"
        assert not complaints

    asyncio.run(main())


def test_the_reply_longest_unused_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "KEPT", 2)
    client = counting()
    it = Shared(client, "user", by_turn=False)

    async def main() -> list[str]:
        return [(await it.chat(said(text))).content for text in "ababcacb"]

    assert asyncio.run(main()) == ["0", "1", "0", "1", "2", "3", "2", "4"]
