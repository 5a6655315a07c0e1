"""Estimates: the price of a pool, gyms' own splits and rules, and the sum over jobs."""

import pytest

from userrl.evaluate.run import EvalJob
from userrl.llm.endpoint import Endpoint
from userrl.pipeline.estimate import added, estimate, pool_price

URLS = "m@http://a.invalid/v1*3,http://b.invalid/v1"


def test_a_pool_is_priced_by_the_weights_of_its_endpoints() -> None:
    pool = [
        (Endpoint("m", "http://a/v1", usd_read=4, usd_written=8), 3.0),
        (Endpoint("m", "http://b/v1", usd_read=0, usd_written=0), 1.0),
    ]
    price = pool_price(pool)
    assert price is not None and (price.read, price.written) == (3.0, 6.0)
    assert pool_price([*pool, (Endpoint("m", "http://c/v1"), 1.0)]) is None


def test_the_estimates_of_several_jobs_add_up_by_chair_and_model() -> None:
    prices = {"usd_read": 1.0, "usd_written": 2.0}
    job = EvalJob(URLS, gyms=("function",), tasks=2, max_turns=2, endpoints={"agent": prices})
    [one] = estimate(job)
    [two] = added([one, one])
    assert two.calls == (2 * one.calls[0], 2 * one.calls[1])
    assert one.usd is not None and two.usd == pytest.approx((2 * one.usd[0], 2 * one.usd[1]))


def test_a_gym_is_estimated_on_its_own_split_by_its_own_rules() -> None:
    job = EvalJob("m@http://a.invalid/v1", gyms=("intention", "travel"), tasks=1, max_turns=1)
    [plain] = estimate(job)
    [other] = estimate(EvalJob(**{**vars(job), "splits": {"intention": "train"}, "rules": {"travel": {"rewards": "training"}}}))
    assert plain.calls == other.calls == (2, 2)
    assert plain.read != other.read
