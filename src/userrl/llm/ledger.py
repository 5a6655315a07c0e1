"""What a run's model calls cost, by role and gym, and the budget that they must keep to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from userrl.core import Place
from userrl.errors import BudgetSpent, ConfigError, EndpointError
from userrl.llm.client import Around, Client
from userrl.llm.endpoint import Endpoint, Role
from userrl.llm.prices import price_of
from userrl.llm.wire import Completion, Usage


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

    def __iadd__(self, other: Spent) -> Spent:
        self.calls += other.calls
        self.failed += other.failed
        self.read += other.read
        self.written += other.written
        self.usd += other.usd
        self.unpriced += other.unpriced
        return self


class Ledger:
    """The account of a run. `rows` holds what was spent, by (role, gym, model).

    Args:
        max_usd, max_tokens: bounds of the whole run, what earlier sittings of it spent included. A call that may go
            beyond one is not made: `BudgetSpent`. What it may take is estimated from its length and the calls before,
            so a bound can be passed by as much as calls in flight take more than that.
        before: what runs under the same bounds have spent, which counts in `total`, and in no row.
    """

    def __init__(self, *, max_usd: float | None = None, max_tokens: float | None = None, before: Spent | None = None) -> None:
        for name, value in (("max_usd", max_usd), ("max_tokens", max_tokens)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}; expected a number above 0.")
        self.max_usd, self.max_tokens = max_usd, max_tokens
        self.rows: dict[tuple[str, str, str], Spent] = {}
        self._total = Spent()
        self._total += before or Spent()
        self._usd_in_flight = self._tokens_in_flight = 0.0

    @property
    def total(self) -> Spent:
        """Over all rows, and what was spent before."""
        return self._total

    def add(self, role: str, gym: str, model: str, spent: Spent) -> None:
        """Enter what was spent, in this sitting or an earlier one."""
        row = self.rows.setdefault((role, gym, model), Spent())
        row += spent
        self._total += spent

    def record(self) -> list[dict[str, Any]]:
        """The rows as JSON values, for a run's folder."""
        return [{"role": r, "gym": g, "model": m, **asdict(spent)} for (r, g, m), spent in sorted(self.rows.items())]

    def check(self, role: Role, endpoint: Endpoint) -> None:
        """Raises ConfigError for an endpoint whose price is needed for the budget and not known."""
        if self.max_usd is not None and price_of(endpoint) is None:
            raise ConfigError(
                f"A budget in dollars needs the price of the {role}'s model {endpoint.model!r}. Set usd_read and usd_written "
                f"(dollars a million tokens) in [endpoints.{role}] (0 for a server of your own), install the extra "
                f"'prices', or give --max-tokens instead."
            )

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

    def reserve(self, role: Role, gym: str, endpoint: Endpoint, size: int) -> tuple[float, float]:
        """Set aside what a call of `size` characters may take: (dollars, tokens). Raises BudgetSpent."""
        if self.max_usd is None and self.max_tokens is None:
            return 0.0, 0.0
        row = self.rows.get((role, gym, endpoint.model))
        answered = row.calls - row.failed if row else 0
        read = size / 4
        written = row.written / answered if row and answered else endpoint.max_tokens or 200
        price = price_of(endpoint) if self.max_usd is not None else None
        usd = (read * price.read + written * price.written) / 1e6 if price else 0.0
        tokens = read + written
        if self.max_usd is not None and self._total.usd + self._usd_in_flight + usd > self.max_usd:
            raise BudgetSpent(
                f"Stopped before the budget of {self.max_usd:g} dollars was passed: {self._total.usd:.4g} are spent, and "
                f"{self._usd_in_flight + usd:.2g} would be by the calls in flight and the next one. Raise --max-usd to go on."
            )
        used = self._total.read + self._total.written
        if self.max_tokens is not None and used + self._tokens_in_flight + tokens > self.max_tokens:
            raise BudgetSpent(
                f"Stopped before the budget of {self.max_tokens:g} tokens was passed: {used} are spent, and about "
                f"{self._tokens_in_flight + tokens:.0f} would be by the calls in flight and the next one. "
                f"Raise --max-tokens to go on."
            )
        self._usd_in_flight += usd
        self._tokens_in_flight += tokens
        return usd, tokens

    def release(self, reserved: tuple[float, float]) -> None:
        """Give back what `reserve` set aside."""
        self._usd_in_flight = max(0.0, self._usd_in_flight - reserved[0])
        self._tokens_in_flight = max(0.0, self._tokens_in_flight - reserved[1])


def spent_by(endpoint: Endpoint, usage: Usage, *, failed: bool = False) -> Spent:
    """What one call took."""
    price = price_of(endpoint)
    usd = (usage.read * price.read + usage.written * price.written) / 1e6 if price else 0.0
    return Spent(1, int(failed), usage.read, usage.written, usd, int(price is None))


class Metered(Around):
    """A `Client` whose calls are entered in a ledger and kept within its budget."""

    def __init__(self, client: Client, role: Role, ledger: Ledger) -> None:
        super().__init__(client)
        self.role, self.ledger = role, ledger
        price_of(client.endpoint)  # looked up once, before anything waits
        ledger.check(role, client.endpoint)

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
        gym = place.gym if place else ""
        reserved = self.ledger.reserve(self.role, gym, self.endpoint, sum(len(m["content"] or "") for m in messages))
        usage, failed = Usage(), True
        try:
            done = await self.client.chat(messages, tools=tools, schema=schema, seed=seed, temperature=temperature, place=place)
            usage, failed = done.usage, False
        except EndpointError as error:
            usage = error.usage or usage
            raise
        finally:
            self.ledger.release(reserved)
            self.ledger.add(self.role, gym, self.endpoint.model, spent_by(self.endpoint, usage, failed=failed))
        return done
