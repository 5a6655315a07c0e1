"""What a model's tokens cost."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import NamedTuple

from userrl.llm.endpoint import Endpoint


class Price(NamedTuple):
    """US dollars a million tokens."""

    read: float
    written: float


def price_of(endpoint: Endpoint) -> Price | None:
    """The endpoint's price: the one set (`usd_read`, `usd_written`), else the package genai-prices' (extra `prices`).

    None when neither knows it; a price is never guessed. Discounts, cached reads and price tiers are left out.
    """
    if endpoint.usd_read is not None or endpoint.usd_written is not None:
        return Price(endpoint.usd_read or 0.0, endpoint.usd_written or 0.0)
    return _listed(endpoint.model, endpoint.url)


def source_of(endpoint: Endpoint) -> dict[str, str]:
    """Where an endpoint's price comes from, and the day (UTC) on which it was looked up: for a run's record."""
    own = endpoint.usd_read is not None or endpoint.usd_written is not None
    return {"source": "set" if own else f"genai-prices {version('genai-prices')}", "date": datetime.now(UTC).date().isoformat()}


@lru_cache(maxsize=256)
def _listed(model: str, url: str) -> Price | None:
    try:
        from genai_prices import Usage, calc_price
    except ModuleNotFoundError:
        return None

    def million(usage: Usage) -> float:
        # By the thousand, as some prices rise with the length of a request.
        return 1000 * float(calc_price(usage, model_ref=model, provider_api_url=url).total_price)

    try:
        return Price(million(Usage(input_tokens=1000)), million(Usage(output_tokens=1000)))
    except LookupError:
        return None
