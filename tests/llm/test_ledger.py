"""What a run's calls cost, by role, gym and model, and the budget they keep to."""

import asyncio
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from userrl.core import Place
from userrl.errors import BudgetSpent, ConfigError, EndpointError, EndpointRefused, RunStopped
from userrl.llm.client import Endpoint
from userrl.llm.endpoint import Role
from userrl.llm.fake import FakeClient, Messages, Reply
from userrl.llm.ledger import Ledger, Metered, Spent, spent_by
from userrl.llm.wire import Completion, Usage

PRICED = Endpoint("m", "http://fake.invalid/v1", usd_read=1.0, usd_written=10.0)
UNPRICED = Endpoint("own", "http://fake.invalid/v1")
HELLO = [{"role": "user", "content": "x" * 400}]
"""100 tokens, as they are estimated."""


def answered(read: int = 100, written: int = 50) -> Completion:
    return Completion("ok", usage=Usage(read, written))


def ask(it: Metered, gym: str = "g", times: int = 1) -> None:
    for _ in range(times):
        asyncio.run(it.chat(HELLO, place=Place(gym)))


def metered(ledger: Ledger, *replies: Reply, endpoint: Endpoint = PRICED) -> Metered:
    return Metered(FakeClient(replies, endpoint), "user", ledger)


def test_what_calls_took_is_entered_by_role_gym_and_model() -> None:
    ledger = Ledger()
    user = metered(ledger, answered(), answered(), answered())
    ask(user, "g", 2)
    ask(user, "h")
    judge = Metered(FakeClient([answered(1000, 0)], UNPRICED), "judge", ledger)
    ask(judge)
    assert ledger.rows == {
        ("user", "g", "m"): Spent(2, 0, 200, 100, pytest.approx(0.0012)),
        ("user", "h", "m"): Spent(1, 0, 100, 50, pytest.approx(0.0006)),
        ("judge", "g", "own"): Spent(1, 0, 1000, 0, 0.0, 1),
    }
    assert ledger.total == Spent(4, 0, 1300, 150, pytest.approx(0.0018), 1)
    rows = json.loads(json.dumps(ledger.record()))
    assert [(row["role"], row["gym"], row["model"], row["calls"]) for row in rows] == [
        ("judge", "g", "own", 1),
        ("user", "g", "m", 2),
        ("user", "h", "m", 1),
    ]


def test_a_failed_call_is_counted_with_the_tokens_it_took() -> None:
    thought = EndpointError("only its reasoning")
    thought.usage = Usage(100, 30)
    ledger = Ledger()
    it = metered(ledger, thought, EndpointRefused("gone"), answered())
    for kind in (EndpointError, EndpointRefused):
        with pytest.raises(kind):
            ask(it)
    ask(it)
    assert ledger.total == Spent(3, 2, 200, 80, pytest.approx(0.001))


def test_a_call_that_is_called_off_is_counted_as_failed() -> None:
    class Hanging(FakeClient):
        async def chat(self, messages: Messages, **options: Any) -> Completion:  # type: ignore[override]
            await asyncio.sleep(3600)
            raise AssertionError

    async def main() -> None:
        task = asyncio.create_task(Metered(Hanging([], PRICED), "user", ledger).chat(HELLO))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    ledger = Ledger(max_tokens=1000)
    asyncio.run(main())
    assert ledger.total == Spent(1, 1, lost=1)
    ask(metered(ledger, *[answered(100, 100)] * 4), times=4)  # what it had set aside is free again


# --- budgets ---------------------------------------------------------------------------------------------------


def test_a_budget_of_dollars_is_never_passed() -> None:
    ledger = Ledger(max_usd=0.005)
    it = metered(ledger, *[answered()] * 100)
    with pytest.raises(
        BudgetSpent, match=r"budget of 0\.005 dollars .* 0\.0042 are spent, .* may take 0\.001125 .* Raise --max-usd"
    ):
        ask(it, times=100)
    assert ledger.total.calls == 7


def test_a_budget_of_tokens_is_never_passed() -> None:
    ledger = Ledger(max_tokens=1000)
    it = metered(ledger, *[answered()] * 100, endpoint=UNPRICED)
    with pytest.raises(BudgetSpent, match=r"budget of 1000 tokens was passed: 900 are spent, .* Raise --max-tokens"):
        ask(it, times=100)
    assert ledger.total.read + ledger.total.written == 900


def test_what_earlier_sittings_spent_counts() -> None:
    ledger = Ledger(max_usd=0.005)
    ledger.add("user", "g", "m", Spent(6, 0, 600, 300, 0.0036))
    it = metered(ledger, answered())
    ask(it)
    with pytest.raises(BudgetSpent):
        ask(it)


def test_calls_in_flight_are_counted_before_they_are_answered() -> None:
    release = asyncio.Event()

    class Slow(FakeClient):
        async def chat(self, messages: Messages, **options: Any) -> Completion:  # type: ignore[override]
            await release.wait()
            return answered()

    async def main() -> list[Any]:
        it = Metered(Slow([], PRICED), "user", ledger)
        asyncio.get_running_loop().call_later(0.01, release.set)
        return await asyncio.gather(*(it.chat(HELLO) for _ in range(20)), return_exceptions=True)

    ledger = Ledger(max_tokens=1000)
    outcomes = asyncio.run(main())
    assert sum(isinstance(o, BudgetSpent) for o in outcomes) == 20 - 6
    assert ledger.total.calls == 6  # a seventh would be the 1,050th token


class Crowd:
    """Three chairs' models behind one budget, asked by many episodes at once; each answer takes its time."""

    def __init__(self, ledger: Ledger, sizes: Callable[[int], int], **settings: Any) -> None:
        self.ledger, self.sizes, self.asked, self.in_flight, self.waves = ledger, sizes, 0, 0, list[int]()
        endpoint = Endpoint("m", "http://fake.invalid/v1", usd_read=1.0, usd_written=4.0, **settings)
        roles: tuple[Role, ...] = ("agent", "user", "judge")
        self.chairs = [Metered(Fleeting(self, endpoint), role, ledger) for role in roles]

    async def episode(self, number: int) -> None:
        for turn in range(200):
            for chair in self.chairs:
                prompt = [{"role": "user", "content": "x" * (400 + 40 * turn)}]
                await chair.chat(prompt, place=Place("g", str(number), turn=turn))

    def play(self, at_once: int = 64) -> str:
        """All of them until the budget stops them, and what is said then."""

        async def main() -> list[BaseException | None]:
            return await asyncio.gather(*(self.episode(i) for i in range(at_once)), return_exceptions=True)

        said = {str(outcome) for outcome in asyncio.run(main()) if isinstance(outcome, BudgetSpent)}
        [message] = said
        return message


class Fleeting(FakeClient):
    def __init__(self, crowd: Crowd, endpoint: Endpoint) -> None:
        super().__init__([], endpoint)
        self.crowd = crowd

    async def chat(self, messages: Messages, **options: Any) -> Completion:  # type: ignore[override]
        crowd = self.crowd
        number, crowd.asked, crowd.in_flight = crowd.asked, crowd.asked + 1, crowd.in_flight + 1
        crowd.waves.append(crowd.in_flight)
        for _ in range(1 + number % 7):
            await asyncio.sleep(0)
        crowd.in_flight -= 1
        return answered(len(messages[0]["content"]) // 4, crowd.sizes(number))


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("thinking", [0, 2000, 8000])
def test_many_calls_at_once_of_models_that_think_keep_to_a_budget(thinking: int, budget: float) -> None:
    rng = random.Random(thinking)
    first = 3 * 4e-6 * 1.5 * (20 + thinking)  # nobody knows the size of a chair's first reply
    ledger = Ledger(max_usd=budget)
    crowd = Crowd(ledger, lambda _: int((20 + thinking) * rng.uniform(0.5, 1.5)))
    message = crowd.play()
    assert ledger.total.usd <= max(budget, first)
    if budget > 4 * first:
        assert ledger.total.usd > 0.6 * budget
        assert f"passed: {ledger.total.usd:.4g} are spent, and the next call of the" in message
        assert max(crowd.waves) > 20 * (budget > 60 * first)
    assert crowd.waves[0] == 1 and max(crowd.waves[:10]) <= 10


@pytest.mark.parametrize("field", [{"max_tokens": 3000}, {"extra": {"max_completion_tokens": 3000}}])
def test_with_max_tokens_a_budget_holds_whatever_the_replies(field: dict[str, Any]) -> None:
    """Short replies first, of which nothing can be learned, then all as long as they may be."""
    ledger = Ledger(max_usd=0.5)
    crowd = Crowd(ledger, lambda number: 10 if number < 500 else 3000, **field)
    assert "(max_tokens is 3000 in [endpoints." in crowd.play()
    assert 0.4 < ledger.total.usd <= 0.5
    assert max(crowd.waves) > 20


def test_without_max_tokens_replies_that_grow_past_any_before_are_owned_up_to() -> None:
    ledger = Ledger(max_usd=0.5)
    message = Crowd(ledger, lambda number: 10 if number < 500 else 100_000).play()
    assert ledger.total.usd > 0.5
    assert f"Stopped: {ledger.total.usd:.4g} dollars are spent, more than the budget of 0.5." in message
    assert "set max_tokens in [endpoints." in message


def test_replies_longer_than_max_tokens_are_reckoned_with_once_seen() -> None:
    ledger = Ledger(max_usd=0.5)
    Crowd(ledger, lambda _: 4000, max_tokens=50).play()
    assert ledger.total.usd <= 0.5


def test_a_budget_that_is_smaller_than_one_call_may_take_asks_nothing() -> None:
    crowd = Crowd(Ledger(max_usd=0.01), lambda _: 10, max_tokens=30_000)
    message = crowd.play()
    assert "0 are spent, and the next call of the agent may take 0.1201 (max_tokens is 30000 in [endpoints.agent])" in message
    assert crowd.asked == 0


def test_a_call_that_is_called_off_while_it_waits_holds_nothing() -> None:
    async def main() -> None:
        crowd = Crowd(ledger, lambda _: 10)
        calls = [asyncio.create_task(crowd.chairs[0].chat(HELLO, place=Place("g", str(i)))) for i in range(9)]
        await asyncio.sleep(0)
        for call in calls[1::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Completion) for outcome in outcomes) == crowd.asked == 5

    ledger = Ledger(max_usd=1.0)
    asyncio.run(main())
    assert ledger.total.calls == 5


def test_answers_that_were_lost_on_the_way_count_in_the_budget_and_in_no_figure() -> None:
    ledger = Ledger(max_tokens=1000)
    it = metered(ledger, *[replace(answered(), lost=1)] * 9)
    with pytest.raises(BudgetSpent, match="450 are spent, and about 450 by 3 tries whose answers were lost"):
        ask(it, times=9)
    assert ledger.record()[0] | {"price": None} == {
        **{"role": "user", "gym": "g", "model": "m", "calls": 3, "failed": 0, "read": 300, "written": 150},
        **{"usd": pytest.approx(0.0018), "unpriced": 0, "lost": 3, "price": None},
    }


def test_no_budget_is_kept_on_trust_where_an_endpoint_does_not_count() -> None:
    it = metered(Ledger(max_tokens=1000), "Yes.", "Yes.")
    ask(it)
    with pytest.raises(BudgetSpent, match="does not say how many tokens its replies take, so no budget can be kept"):
        ask(it)


def test_the_record_says_at_which_price_calls_were_counted_and_since_when() -> None:
    ledger = Ledger()
    ask(metered(ledger, answered()))
    ask(metered(ledger, answered(), endpoint=UNPRICED))
    priced, unpriced = sorted(ledger.record(), key=lambda row: row["model"] == "own")
    today = datetime.now(UTC).date().isoformat()
    assert priced["price"] == {"usd_read": 1.0, "usd_written": 10.0, "source": "set", "date": today}
    assert unpriced["price"] is None
    grid = Ledger()
    grid.include(ledger)
    assert (grid.record(), grid.total) == (ledger.record(), ledger.total)


def test_a_spent_budget_stops_the_run_and_is_no_failure_of_a_seat() -> None:
    assert issubclass(BudgetSpent, RunStopped)


def test_a_budget_of_dollars_needs_prices_but_one_of_tokens_does_not() -> None:
    with pytest.raises(ConfigError, match=r"needs the price of the user's model 'own'\. Set usd_read .*--max-tokens"):
        metered(Ledger(max_usd=1.0), endpoint=UNPRICED)
    metered(Ledger(max_tokens=1), endpoint=UNPRICED)
    free = Endpoint("own", "http://fake.invalid/v1", usd_read=0.0, usd_written=0.0)
    ask(metered(Ledger(max_usd=0.01), *[answered(10**9, 10**9)] * 3, endpoint=free), times=3)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["max_usd", "max_tokens"])
def test_a_budget_that_is_no_number_above_zero_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*; expected a number above 0"):
        Ledger(**{name: value})


def test_a_price_is_a_million_tokens() -> None:
    assert spent_by(PRICED, Usage(10**6, 10**6, 10**5)) == Spent(1, 0, 10**6, 10**6, 11.0)
    assert spent_by(UNPRICED, Usage(5, 5)) == Spent(1, 0, 5, 5, 0.0, 1)
