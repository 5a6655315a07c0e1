"""What a run's model calls cost, by role and gym, and the budget that they must keep to."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from userrl.core import Place
from userrl.errors import BudgetSpent, ConfigError, EndpointError
from userrl.llm.client import Around, Client
from userrl.llm.endpoint import Endpoint, Role
from userrl.llm.prices import price_of, source_of
from userrl.llm.wire import Completion, Usage

FIRST_REPLY = 200
"""Tokens that a chair's first reply is taken to be, where its endpoint sets no `max_tokens`."""
CHARACTERS = 4
"""Of a prompt to a token, before the first answer tells."""
PROMPT_MARGIN = 1.25
"""How many times as dense in tokens as any prompt before the next one may be."""
MARGIN = 2
"""How many times as much as any reply before a call may take, where its endpoint sets no `max_tokens`."""


@dataclass(slots=True)
class Spent:
    """Calls of one sort, and what they took."""

    calls: int = 0
    failed: int = 0
    read: int = 0
    """Tokens, as the endpoint counts them."""
    written: int = 0
    """Thinking included."""
    usd: float = 0.0
    """Of the calls whose price is known."""
    unpriced: int = 0
    """Calls whose price is not."""
    lost: int = 0
    """Tries whose answer broke off or came too late: what they took nobody told, so it is in no other figure here."""

    def __iadd__(self, other: Spent) -> Spent:
        self.calls += other.calls
        self.failed += other.failed
        self.read += other.read
        self.written += other.written
        self.usd += other.usd
        self.unpriced += other.unpriced
        self.lost += other.lost
        return self


class Amount(NamedTuple):
    """What a call may take, or took."""

    usd: float = 0.0
    tokens: float = 0.0


@dataclass(slots=True)
class _Waiting:
    """A call that waits for others to come back."""

    role: Role
    endpoint: Endpoint
    size: int
    granted: asyncio.Future[Amount]


@dataclass(slots=True)
class _Chair:
    """What is known of the replies of a chair's model, and who waits for it."""

    answered: int = 0
    longest: int = 0
    """Tokens written in one reply."""
    dense: float = 0.0
    """Tokens read for a character of a prompt, at most."""
    in_flight: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)

    def most(self, endpoint: Endpoint, size: int, others: int) -> Amount:
        """What a call of `size` characters may take. others: the longest reply of any chair, for one that has given none."""
        read = size * PROMPT_MARGIN * (self.dense or 1 / CHARACTERS)
        longest, seen = endpoint.longest_reply, self.longest if self.answered else others or FIRST_REPLY
        written = MARGIN * seen if longest is None or self.longest > longest else longest
        price = price_of(endpoint)
        return Amount((read * price.read + written * price.written) / 1e6 if price else 0.0, read + written)


class Ledger:
    """The account of a run. `rows` holds what was spent, by (role, gym, model).

    A call under a budget first sets aside what it may take at most: `max_tokens` of its endpoint, else MARGIN times the
    longest reply of its chair so far (of any chair, before its first). While that does not fit, it waits for calls in
    flight to come back; when none is in flight, the budget is spent. A chair never has more calls in flight than MARGIN
    times the replies that it has given, so that no crowd goes out on a guess. So a bound is passed only where no
    `max_tokens` is set (or an endpoint does not keep to it) and replies come out longer than MARGIN times any before, or
    by tries whose answers are lost while in flight.

    Args:
        max_usd, max_tokens: bounds of the whole run, what earlier sittings of it spent included.
        before: what runs under the same bounds have spent, which counts in `total`, and in no row.
    """

    def __init__(self, *, max_usd: float | None = None, max_tokens: float | None = None, before: Spent | None = None) -> None:
        for name, value in (("max_usd", max_usd), ("max_tokens", max_tokens)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}; expected a number above 0.")
        self.max_usd, self.max_tokens = max_usd, max_tokens
        self.bounded = max_usd is not None or max_tokens is not None
        self.rows: dict[tuple[str, str, str], Spent] = {}
        self._prices: dict[tuple[str, str], dict[str, Any]] = {}
        self._total = Spent()
        self._lost = self._held = Amount()
        self._in_flight = self._longest = 0
        self._chairs: dict[tuple[str, str], _Chair] = {}
        self._over: str | None = None
        """Why no further call is made."""
        self._enter(before or Spent(), Spent())

    @property
    def total(self) -> Spent:
        """Over all rows, and what was spent before."""
        return self._total

    def add(self, role: str, gym: str, model: str, spent: Spent) -> None:
        """Enter what a call took, in this sitting or an earlier one."""
        row = self.rows.setdefault((role, gym, model), Spent())
        row += spent
        self._enter(spent, row)
        if spent.calls > spent.failed or spent.written:
            chair = self._chair(role, model)
            chair.answered += spent.calls
            chair.longest = max(chair.longest, spent.written // spent.calls)
            self._longest = max(self._longest, chair.longest)

    def include(self, other: Ledger) -> None:
        """Enter all rows of another run's account."""
        for key, spent in other.rows.items():
            self.rows.setdefault(key, Spent()).__iadd__(spent)
            self._enter(spent, spent)
        self._prices.update(other._prices)

    def _enter(self, spent: Spent, others: Spent) -> None:
        """Into the total; in the budget, answers that were lost count as much as the one that came, or as others did."""
        self._total += spent
        if spent.lost:
            like = spent if spent.read or spent.written else others
            came = max(1, like.calls - like.failed)
            each = Amount(like.usd / came, (like.read + like.written) / came)
            self._lost = Amount(self._lost.usd + spent.lost * each.usd, self._lost.tokens + spent.lost * each.tokens)

    def priced(self, role: Role, endpoint: Endpoint) -> None:
        """Keep, for the record, at which price the calls of a chair are counted. Raises ConfigError where a budget lacks it."""
        price = price_of(endpoint)
        if self.max_usd is not None and price is None:
            raise ConfigError(
                f"A budget in dollars needs the price of the {role}'s model {endpoint.model!r}. Set usd_read and usd_written "
                f"(dollars a million tokens) in [endpoints.{role}] (0 for a server of your own), install the extra "
                f"'prices', or give --max-tokens instead."
            )
        if price is not None:
            self._prices[role, endpoint.model] = {"usd_read": price.read, "usd_written": price.written, **source_of(endpoint)}

    def record(self) -> list[dict[str, Any]]:
        """The rows as JSON values, for a run's folder, each with the price that it was counted at (None: unknown)."""
        return [
            {"role": r, "gym": g, "model": m, **asdict(spent), "price": self._prices.get((r, m))}
            for (r, g, m), spent in sorted(self.rows.items())
        ]

    def check_alike(self, role: Role, endpoints: Sequence[Endpoint]) -> None:
        """Raises ConfigError where a budget in dollars would count the calls of several endpoints at the first one's price."""
        prices = [price_of(endpoint) for endpoint in endpoints]
        if self.max_usd is not None and len(set(prices)) > 1:
            shown = "; ".join(
                f"{e}: {'unknown' if p is None else f'{p.read:g} and {p.written:g}'}"
                for e, p in zip(endpoints, prices, strict=True)
            )
            raise ConfigError(
                f"A budget in dollars needs one price for all of the {role}'s endpoints, and theirs differ ({shown}). Set the "
                f"highest as usd_read and usd_written (dollars a million tokens) in [endpoints.{role}], or give --max-tokens "
                f"instead."
            )

    # --- calls in flight ---------------------------------------------------------------------------------------

    async def reserve(self, role: Role, endpoint: Endpoint, size: int) -> Amount:
        """Set aside what a call of `size` characters may take, as soon as that fits. Raises BudgetSpent when it never will."""
        if self._over is not None:
            raise BudgetSpent(self._over)
        waiting = _Waiting(role, endpoint, size, asyncio.get_running_loop().create_future())
        self._chair(role, endpoint.model).waiting.append(waiting)
        self._go_on()
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled() and waiting.granted.exception() is None:
                self._release(role, endpoint, waiting.granted.result())
            raise

    def settle(self, role: Role, gym: str, endpoint: Endpoint, held: Amount, spent: Spent, size: int) -> None:
        """A call has come back: enter what it took in place of what `reserve` set aside."""
        chair = self._chair(role, endpoint.model)
        if spent.read and spent.calls > spent.failed:
            chair.dense = max(chair.dense, spent.read / max(size, 1))
        self.add(role, gym, endpoint.model, spent)
        if not (spent.failed or spent.read or spent.written) and (self.max_tokens is not None or any(price_of(endpoint) or ())):
            self._over = (
                f"Stopped: {endpoint} does not say how many tokens its replies take, so no budget can be kept. "
                f"Leave out --max-usd and --max-tokens, and bound the run with --tasks."
            )
        self._release(role, endpoint, held)

    def _chair(self, role: str, model: str) -> _Chair:
        return self._chairs.setdefault((role, model), _Chair())

    def _release(self, role: Role, endpoint: Endpoint, held: Amount) -> None:
        self._chair(role, endpoint.model).in_flight -= 1
        self._in_flight -= 1
        self._held = Amount(self._held.usd - held.usd, self._held.tokens - held.tokens) if self._in_flight else Amount()
        self._go_on()

    def _go_on(self) -> None:
        """Let those who wait go that fit; when the first of them never will, none does."""
        refused: _Waiting | None = None
        for chair in self._chairs.values():
            while chair.waiting and self._over is None:
                first = chair.waiting[0]
                if not first.granted.done():
                    if chair.in_flight >= max(1, MARGIN * chair.answered):
                        break
                    most = chair.most(first.endpoint, first.size, self._longest)
                    if not self._fits(most):
                        refused = refused or first
                        break
                    chair.in_flight += 1
                    self._in_flight += 1
                    self._held = Amount(self._held.usd + most.usd, self._held.tokens + most.tokens)
                    first.granted.set_result(most)
                chair.waiting.popleft()
        if refused is not None and not self._in_flight:
            self._over = self._over or self._stopped(refused)
        if self._over is not None:
            for chair in self._chairs.values():
                while chair.waiting:
                    if not (waiting := chair.waiting.popleft()).granted.done():
                        waiting.granted.set_exception(BudgetSpent(self._over))

    def _fits(self, most: Amount) -> bool:
        usd = self._total.usd + self._lost.usd + self._held.usd + most.usd
        tokens = self._total.read + self._total.written + self._lost.tokens + self._held.tokens + most.tokens
        return not (
            (self.max_usd is not None and usd > self.max_usd) or (self.max_tokens is not None and tokens > self.max_tokens)
        )

    def _stopped(self, refused: _Waiting) -> str:
        """Why no call is made any more: none is in flight, and the next one may take too much."""
        most = self._chair(refused.role, refused.endpoint.model).most(refused.endpoint, refused.size, self._longest)
        spent, lost = Amount(self._total.usd, self._total.read + self._total.written), self._lost
        if self.max_usd is not None and spent.usd + lost.usd + most.usd > self.max_usd:
            budget, unit, flag = self.max_usd, "dollars", "--max-usd"
            told, gone, then = (f"{amount.usd:.4g}" for amount in (spent, lost, most))
            passed = spent.usd > budget
        else:
            budget, unit, flag = self.max_tokens or 0.0, "tokens", "--max-tokens"
            told, gone, then = (f"{amount.tokens:.0f}" for amount in (spent, lost, most))
            passed = spent.tokens > budget
        more = f", and about {gone} by {self._total.lost} tries whose answers were lost" if lost.tokens else ""
        name = f"[endpoints.{refused.role}]"
        if passed:
            why = f"Stopped: {told} {unit} are spent{more}, more than the budget of {budget:g}."
            hint = f"A reply came out longer than any before; set max_tokens in {name} to bound them."
            return f"{why} {hint} Raise {flag} to go on."
        why = f"Stopped before the budget of {budget:g} {unit} was passed: {told} are spent{more}, and the next call"
        longest = refused.endpoint.longest_reply
        because = f"max_tokens is {longest} in {name}" if longest else f"max_tokens is not set in {name}"
        return f"{why} of the {refused.role} may take {then} ({because}). Raise {flag} to go on."


def spent_by(endpoint: Endpoint, usage: Usage, *, failed: bool = False, lost: int = 0) -> Spent:
    """What one call took. lost: tries before it whose answers were lost."""
    price = price_of(endpoint)
    usd = (usage.read * price.read + usage.written * price.written) / 1e6 if price else 0.0
    return Spent(1, int(failed), usage.read, usage.written, usd, int(price is None), lost)


class Metered(Around):
    """A `Client` whose calls are entered in a ledger and kept within its budget."""

    def __init__(self, client: Client, role: Role, ledger: Ledger) -> None:
        super().__init__(client)
        self.role, self.ledger = role, ledger
        ledger.priced(role, client.endpoint)

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        place: Place | None = None,
    ) -> Completion:
        """As `Client.chat`. Raises BudgetSpent, too."""
        gym, endpoint, ledger = place.gym if place else "", self.endpoint, self.ledger
        size = _size(messages, tools, schema) if ledger.bounded else 0
        held = await ledger.reserve(self.role, endpoint, size) if ledger.bounded else None
        usage, failed, lost = Usage(), True, 0
        try:
            done = await self.client.chat(messages, tools=tools, schema=schema, seed=seed, temperature=temperature, place=place)
            usage, failed, lost = done.usage, False, done.lost
        except EndpointError as error:
            usage, lost = error.usage or usage, error.lost
            raise
        except asyncio.CancelledError:
            lost = 1
            raise
        finally:
            spent = spent_by(endpoint, usage, failed=failed, lost=lost)
            if held is None:
                ledger.add(self.role, gym, endpoint.model, spent)
            else:
                ledger.settle(self.role, gym, endpoint, held, spent, size)
        return done


def _size(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None, schema: Mapping[str, Any] | None
) -> int:
    """Characters that a model is given to read."""
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    texts = sum(len(message["content"] or "") for message in messages)
    return texts + sum(len(json.dumps(part)) for part in (tools, schema, calls) if part)
