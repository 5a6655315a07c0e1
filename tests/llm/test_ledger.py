"""What a run's calls cost, by role, gym and model, and the budget they keep to."""

import asyncio
import json
import math
from typing import Any

import pytest

from userrl.core import Place
from userrl.errors import BudgetSpent, ConfigError, EndpointError, EndpointRefused, RunStopped
from userrl.llm.client import Endpoint
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
    assert ledger.total == Spent(1, 1)
    ask(metered(ledger, *[answered(100, 100)] * 4), times=4)  # what it had set aside is free again


# --- budgets ---------------------------------------------------------------------------------------------------


def test_a_budget_of_dollars_is_never_passed() -> None:
    ledger = Ledger(max_usd=0.005)
    it = metered(ledger, *[answered()] * 100)
    with pytest.raises(BudgetSpent, match=r"budget of 0\.005 dollars .* 0\.0048 are spent.* Raise --max-usd"):
        ask(it, times=100)
    assert ledger.total.calls == 8
    assert ledger.total.usd <= 0.005


def test_a_budget_of_tokens_is_never_passed() -> None:
    ledger = Ledger(max_tokens=1000)
    it = metered(ledger, *[answered()] * 100, endpoint=UNPRICED)
    with pytest.raises(BudgetSpent, match=r"budget of 1000 tokens was passed: 900 are spent, .* Raise --max-tokens"):
        ask(it, times=100)
    assert ledger.total.read + ledger.total.written == 900


def test_what_earlier_sittings_spent_counts() -> None:
    ledger = Ledger(max_usd=0.005)
    ledger.add("user", "g", "m", Spent(7, 0, 700, 350, 0.0042))
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
    assert sum(isinstance(o, BudgetSpent) for o in outcomes) == 20 - 3  # 300 tokens each are expected of the first ones
    assert ledger.total.calls == 3


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
