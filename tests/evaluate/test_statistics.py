"""Intervals: the task is what is drawn again, so that many episodes of few tasks claim no more than the tasks do."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from userrl.evaluate.statistics import Interval, mean_interval, paired_interval


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_the_mean_is_over_episodes_and_lies_within_its_interval() -> None:
    interval = mean_interval([1.0, 0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b", "c"])
    assert interval.mean == pytest.approx(0.6)
    assert interval.low <= interval.mean <= interval.high and interval.n == 5


def test_equal_values_and_a_single_task_have_an_interval_of_one_point() -> None:
    assert mean_interval([0.5] * 6, [1, 1, 2, 2, 3, 3]) == Interval(0.5, 0.5, 0.5, 6)
    assert mean_interval([0.0, 1.0], ["a", "a"]) == Interval(0.5, 0.5, 0.5, 2)


def test_the_interval_of_independent_values_is_that_of_the_normal_law() -> None:
    rng = random.Random(0)
    values = [rng.gauss(2.0, 1.0) for _ in range(400)]
    interval = mean_interval(values, range(400))
    half = 1.96 * float(np.std(values)) / math.sqrt(400)
    assert interval.low == pytest.approx(interval.mean - half, abs=0.015)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.015)


def test_repeating_every_episode_adds_no_certainty() -> None:
    rng = random.Random(1)
    values = [rng.random() for _ in range(50)]
    once = mean_interval(values, range(50))
    tenfold = mean_interval([v for v in values for _ in range(10)], [t for t in range(50) for _ in range(10)])
    pretended = mean_interval([v for v in values for _ in range(10)], range(500))
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert width(pretended) < 0.5 * width(once)


def test_a_task_with_more_episodes_weighs_more_and_is_drawn_whole() -> None:
    interval = mean_interval([1.0, 0.0, 0.0, 0.0], ["a", "b", "b", "b"])
    assert interval.mean == pytest.approx(0.25)
    assert (interval.low, interval.high) == (0.0, 1.0)
    values = [value for task in range(60) for value in ([1.0] if task % 2 else [0.0] * 9)]
    uneven = mean_interval(values, [task for task in range(60) for _ in range(1 if task % 2 else 9)])
    assert uneven.mean == pytest.approx(0.1)
    assert 0.05 < uneven.low < 0.1 < uneven.high < 0.2


def test_the_order_of_episodes_changes_nothing_but_the_draw() -> None:
    values, tasks = [0.1, 0.4, 0.2, 0.9], ["a", "a", "b", "b"]
    assert mean_interval(values, tasks) == mean_interval(values, tasks)
    swapped = mean_interval([0.4, 0.1, 0.9, 0.2], tasks)
    one = mean_interval(values, tasks)
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx((one.mean, one.low, one.high))


def test_a_paired_difference_is_surer_than_the_two_means() -> None:
    rng = random.Random(2)
    before = [rng.random() for _ in range(60)]
    after = [b + 0.1 + 0.01 * rng.random() for b in before]
    gain = paired_interval(after, before, range(60))
    assert gain.mean == pytest.approx(0.105, abs=0.003) and 0.1 < gain.low < gain.high < 0.11
    assert width(gain) < 0.1 * width(mean_interval(after, range(60)))


def test_a_paired_difference_is_clustered_by_task_too() -> None:
    after, before = [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]
    gain = paired_interval(after, before, ["a", "a", "b", "b"])
    assert (gain.mean, gain.low, gain.high) == (0.0, -1.0, 1.0)


def test_nothing_has_no_mean() -> None:
    interval = mean_interval([], [])
    assert interval.n == 0 and all(math.isnan(x) for x in (interval.mean, interval.low, interval.high))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 1 task names"):
        mean_interval([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="1 values after, 2 before; a paired difference needs the same episodes"):
        paired_interval([1.0], [1.0, 2.0], ["a"])


def test_an_interval_reads_as_a_mean_with_its_bounds() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 4)) == "0.500 [0.250, 0.750]"
