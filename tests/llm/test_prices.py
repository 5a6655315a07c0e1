"""What a model's tokens cost: as set, as listed, or unknown; never guessed."""

import sys
from collections.abc import Iterator

import pytest

from userrl.llm import prices
from userrl.llm.endpoint import Endpoint
from userrl.llm.prices import Price, price_of


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    prices._listed.cache_clear()
    yield
    prices._listed.cache_clear()


def test_the_price_that_is_set_is_taken() -> None:
    assert price_of(Endpoint("gpt-4o-mini", usd_read=1.5, usd_written=6.0)) == Price(1.5, 6.0)
    assert price_of(Endpoint("own", "http://a.invalid/v1", usd_read=0.0)) == Price(0.0, 0.0)
    assert price_of(Endpoint("own", "http://a.invalid/v1", usd_written=2.0)) == Price(0.0, 2.0)


def test_a_known_model_at_its_own_provider_has_the_listed_price() -> None:
    pytest.importorskip("genai_prices", reason="the extra `prices` is not installed")
    price = price_of(Endpoint("gpt-4o-mini"))
    assert price is not None
    assert 0 < price.read < price.written < 100


def test_a_known_name_at_another_place_has_no_price() -> None:
    for model in ("gpt-4o-mini", "own"):
        assert price_of(Endpoint(model, "http://localhost:8000/v1")) is None
    assert price_of(Endpoint("no-such-model")) is None


def test_without_the_package_only_set_prices_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert price_of(Endpoint("gpt-4o-mini")) is None
    assert price_of(Endpoint("gpt-4o-mini", usd_read=1.0, usd_written=2.0)) == Price(1.0, 2.0)
