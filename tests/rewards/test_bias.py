"""The measured biases: against all groups enumerated, and against what theory says."""

from itertools import product

import numpy as np
import pytest

from userrl.errors import ConfigError
from userrl.rewards import CREDITS, ESTIMATORS
from userrl.rewards.base import reads
from userrl.rewards.bias import SUCCEEDS, Bias, _compared, episodes, estimates, exact_gradient, measure
from userrl.rewards.estimators.batch import Worth
from userrl.rewards.scores.r2g import r2g

SMALL = 3


def expected(estimator: str, credit: str, gamma: float = 1.0) -> np.ndarray:
    """The estimator's exact mean for groups of 3: over every group there can be, weighted by its probability."""
    drawn = np.array(list(product(range(len(episodes(0).probability)), repeat=SMALL)))
    got = estimates(drawn, estimator, credit, gamma)
    return np.mean([episodes(task).probability[drawn].prod(1) @ got for task in range(len(SUCCEEDS))], axis=0)


@pytest.fixture(scope="module")
def measured() -> list[Bias]:
    return measure(groups=8_000, group_size=SMALL)


def test_the_problem_has_every_episode_once_and_the_policy_decides_when_to_stop() -> None:
    for task in range(len(SUCCEEDS)):
        every = episodes(task)
        assert every.probability.sum() == pytest.approx(1.0)
        assert set(every.turns.tolist()) == {1, 2, 3}
        assert (every.probability @ every.pull.sum(1)).tolist() == pytest.approx([0.0, 0.0]), "scores have mean 0"


def test_the_exact_gradient_is_the_slope_of_the_expected_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    import userrl.rewards.bias as bias

    def value(logits: np.ndarray) -> float:
        monkeypatch.setattr(bias, "ASKS", tuple(1 / (1 + np.exp(-logits))))
        every = [episodes(task) for task in range(len(SUCCEEDS))]
        return float(np.mean([e.probability @ r2g(e.rewards, gamma=0.9) for e in every]))

    truth = exact_gradient(0.9)
    at = np.log(np.array(bias.ASKS) / (1 - np.array(bias.ASKS)))
    steps = np.eye(2) * 1e-5
    assert [(value(at + d) - value(at - d)) / 2e-5 for d in steps] == pytest.approx(truth.tolist(), rel=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_leaving_one_out_with_equal_credit_is_exactly_unbiased(gamma: float) -> None:
    assert expected("rloo", "equalized", gamma) == pytest.approx(exact_gradient(gamma), abs=1e-12)


def test_centering_with_equal_credit_is_exactly_the_gradient_times_n_minus_1_over_n() -> None:
    assert expected("dr_grpo", "equalized") == pytest.approx(exact_gradient() * (SMALL - 1) / SMALL, abs=1e-12)


def test_the_monte_carlo_figures_agree_with_all_groups_enumerated(measured: list[Bias]) -> None:
    truth = exact_gradient()
    length = np.linalg.norm(truth)
    assert len(measured) == (len(ESTIMATORS) - 1) * len(CREDITS) + 1
    for found in measured:
        mean = expected(found.estimator, found.credit or "equalized")
        assert found.size == pytest.approx(np.linalg.norm(mean - truth) / length, abs=4.5 * found.size_error)
        factor = mean @ truth / length**2
        rest = np.linalg.norm(mean - factor * truth) / (abs(factor) * length)
        assert found.factor == pytest.approx(factor, abs=0.1)
        assert found.rest == pytest.approx(rest, rel=0.1, abs=4.5 * found.rest_error)


def test_verdicts_follow_the_exact_means(measured: list[Bias]) -> None:
    verdicts = {(b.estimator, b.credit): b.verdict for b in measured}
    assert verdicts["rloo", "equalized"] == "no bias found", "8,000 groups of 3 do not show less than .02"
    assert verdicts["dr_grpo", "equalized"] == "off by a factor"
    for name in (("mt_grpo", ""), ("dr_grpo", "naive"), ("rloo", "naive"), ("gigpo", "equalized")):
        assert verdicts[name] == "biased", name


def test_the_same_seed_gives_the_same_figures_and_another_gives_others() -> None:
    one, same, other = (measure(groups=100, seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_groups_that_cannot_be_compared_are_refused() -> None:
    for wrong in ({"group_size": 1}, {"groups": 4}):
        with pytest.raises(ConfigError, match="expected at least 100 groups of at least 2"):
            measure(**wrong)
    with pytest.raises(ConfigError, match=r"gamma is 1.5; expected a discount from 0 to 1"):
        measure(gamma=1.5)


def compared(mean: tuple[float, float], error: float) -> Bias:
    """The verdict on 400 estimates of a gradient (1, 0), with this mean and this standard error in each direction."""
    half = np.array([(x, y) for x in (-1, 1) for y in (-1, 1)] * 50) * error * np.sqrt(400) * np.sqrt(199 / 200)
    return _compared("e", "c", np.concatenate([half, half]) + np.array(mean), np.array([1.0, 0.0]))


@pytest.mark.parametrize(
    ("mean", "error", "verdict"),
    [
        ((1.0, 0.0), 0.005, "unbiased"),
        ((1.011, 0.0), 0.004, "unbiased"),  # by .011, of which an upper end of .019 is left
        ((1.0, 0.0), 0.02, "no bias found"),
        ((1.05, 0.0), 0.02, "no bias found"),  # 2.5 standard errors
        ((1.08, 0.0), 0.02, "perhaps biased"),
        ((1.11, 0.0), 0.02, "biased"),  # the direction may be off by .035
        ((1.11, 0.0), 0.005, "off by a factor"),
        ((1.11, 0.02), 0.005, "biased"),
        ((-1.0, 0.0), 0.005, "biased"),
    ],
)
def test_a_verdict_says_no_more_than_its_intervals(mean: tuple[float, float], error: float, verdict: str) -> None:
    found = compared(mean, error)
    assert found.size_error == pytest.approx(error)
    assert found.verdict == verdict
    assert found.detectable == pytest.approx(5.84 * error)
    assert ("could see" in found.cells()[2]) is (verdict in ("no bias found", "perhaps biased"))


def test_a_bias_of_the_size_that_could_be_seen_is_seen_four_times_in_five() -> None:
    random, error = np.random.default_rng(0), 0.02
    means = np.array([1 + compared((1.0, 0.0), error).detectable, 0.0]) + random.normal(scale=error, size=(400, 2))
    assert np.mean([compared(tuple(mean), error).verdict == "biased" for mean in means]) == pytest.approx(0.8, abs=0.06)


def test_an_estimator_that_says_nothing_or_the_same_of_every_group_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "silent", lambda batch, /, **_: Worth(np.zeros_like(batch.scores)))
    [found] = [b for b in measure(groups=100) if (b.estimator, b.credit) == ("silent", "equalized")]
    assert (found.verdict, found.size, found.factor) == ("biased", 1.0, 0.0)
    assert np.isnan(found.rest) and found.cells()[-1] == "-"
    assert compared((1.0, 0.0), 0.0).verdict == "unbiased"
    assert compared((1.1, 0.0), 0.0).verdict == "off by a factor"


def test_an_estimator_says_itself_whether_it_reads_a_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "own", reads(credit=False)(lambda batch, /, **_: Worth(batch.scores)))
    assert [b.credit for b in measure(groups=100) if b.estimator == "own"] == [""]
