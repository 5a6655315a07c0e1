"""Intervals: the task is what is drawn again, so that many episodes of few tasks claim no more than the tasks do."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from userrl.evaluate.statistics import (
    COVERAGE_AT_40,
    FLIPS,
    RATE,
    Interval,
    attempts_needed,
    combined_detectable,
    combined_interval,
    detectable,
    drawn_tasks,
    few,
    holm,
    mean_interval,
    paired_interval,
    pass_all,
    pass_at,
    ratio_intervals,
    sign_flip_p,
    student,
    tasks_needed,
)


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_the_mean_is_over_episodes_and_lies_within_its_interval() -> None:
    interval = mean_interval([1.0, 0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b", "c"])
    assert interval.mean == pytest.approx(0.6)
    assert interval.low <= interval.mean <= interval.high and interval.n == 5


def test_equal_values_and_a_single_task_have_an_interval_of_one_point_where_nothing_bounds_them() -> None:
    assert mean_interval([0.5] * 6, [1, 1, 2, 2, 3, 3]) == Interval(0.5, 0.5, 0.5, 6)
    assert mean_interval([0.0, 1.0], ["a", "a"]) == Interval(0.5, 0.5, 0.5, 2)


def test_a_rate_of_zero_or_one_has_the_interval_of_clopper_and_pearson_over_its_tasks() -> None:
    # n = 10: 0 to .3085, n = 100: 0 to .0362 (tables of the binomial); attempts at a task add nothing
    for tasks, most in ((10, 0.30850), (100, 0.03622)):
        for attempts in (1, 4):
            places = [i for i in range(tasks) for _ in range(attempts)]
            none, all_ = (mean_interval([value] * len(places), places, within=RATE) for value in (0.0, 1.0))
            assert (none.low, round(none.high, 5), none.n) == (0.0, most, tasks * attempts)
            assert (round(all_.low, 5), all_.high) == (round(1 - most, 5), 1.0)


def test_tasks_that_all_have_the_same_value_leave_open_what_the_bounds_allow() -> None:
    # each of 20 tasks solved in 1 of 2 attempts: up to p = 16.8% of all tasks may be never, or always, solved
    half = mean_interval([0.0, 1.0] * 20, [i // 2 for i in range(40)], within=RATE)
    assert (half.low, half.high) == pytest.approx((0.5 - 0.5 * 0.16843, 0.5 + 0.5 * 0.16843), abs=1e-5)
    score = mean_interval([1.0] * 20, range(20), within=(0.0, 5.0))
    assert (score.low, score.high) == pytest.approx((1 - 0.16843, 1 + 4 * 0.16843), abs=1e-4)
    alone = mean_interval([0.25], ["a"], within=RATE)
    assert (alone.low, alone.high) == pytest.approx((0.25 * 0.025, 1 - 0.75 * 0.025))
    beyond = mean_interval([1.2] * 20, range(20), within=RATE)
    assert beyond.high == beyond.mean, "a value that should not be there has no room above"


@pytest.mark.parametrize("tasks", [1, 5, 40])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_no_mean_outside_of_such_an_interval_gives_equal_tasks_in_more_than_one_of_forty_samples(
    tasks: int, value: float
) -> None:
    """The most likely way to equal values: all else of the tasks at the bound that the mean is moved to."""
    found = mean_interval([value] * tasks, range(tasks), within=RATE)
    for mean, bound in ((found.low, 0.0), (found.high, 1.0)):
        if mean == bound:
            continue
        same = (mean - bound) / (value - bound)  # share of tasks that have the value, where the others are at the bound
        assert same**tasks == pytest.approx(0.025)


def test_bounds_change_nothing_where_tasks_differ() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        tasks = rng.integers(2, 30)
        values = (rng.random(tasks) < rng.random()).astype(float)
        if len(set(values)) > 1:
            assert mean_interval(values.tolist(), range(tasks), within=RATE) == mean_interval(values.tolist(), range(tasks))
    few = ([1.0] * 99 + [0.0], range(100))
    assert mean_interval(*few, within=RATE) == mean_interval(*few)
    groups = [([1.0, 1.0], ["a", "b"]), ([0.0, 1.0], ["c", "d"])]
    assert combined_interval(groups, [0.5, 0.5], within=[RATE, RATE]) == combined_interval(groups, [0.5, 0.5])


def test_values_that_are_equal_but_for_rounding_are_equal() -> None:
    found = mean_interval([0.1 + 0.2, 0.3] * 10, range(20), within=RATE)
    assert found.high == pytest.approx(1 - 0.7 * 0.025**0.05)


def test_an_average_of_gyms_that_are_all_solved_is_as_sure_as_its_tasks_make_it() -> None:
    groups = [([1.0] * n, range(n)) for n in (40, 100, 300)]
    micro = combined_interval(groups, [40 / 440, 100 / 440, 300 / 440], within=[RATE] * 3)
    assert micro.low == pytest.approx(mean_interval([1.0] * 440, range(440), within=RATE).low)
    macro = combined_interval(groups, [1 / 3] * 3, within=[RATE] * 3)
    assert macro.low == pytest.approx(0.025 ** (1 / 120)), "three times the fewest tasks"
    # as likely a way as any to 440 solved tasks, with a macro average below: all failures in the gym of 40
    assert (1 - 3 * (1 - macro.low)) ** 40 < 0.025
    one_of_two = combined_interval([([1.0] * 10, range(10)), ([0.0] * 10, range(10))], [0.5, 0.5], within=[RATE] * 2)
    assert (one_of_two.low, one_of_two.high) == pytest.approx((0.5 - 0.5 * 0.3085, 0.5 + 0.5 * 0.3085), abs=1e-4)
    unknown = combined_interval(groups, [1 / 3] * 3, within=[RATE, None, RATE])
    assert unknown.low == unknown.high == pytest.approx(1.0)


def test_differences_that_are_all_zero_may_be_of_either_sign() -> None:
    found = paired_interval([0.3, 0.8], [0.3, 0.8], ["a", "b"], within=RATE)
    assert (found.low, found.high) == pytest.approx((-(1 - 0.025**0.5), 1 - 0.025**0.5))
    better = paired_interval([1.0] * 20, [0.0] * 20, range(20), within=RATE)
    assert (better.low, better.high) == pytest.approx((1 - 2 * 0.16843, 1.0), abs=1e-5)


def test_ratios_count_the_tasks_that_have_part_in_them() -> None:
    above, below = np.array([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [4.0, 0.0]]), np.array([[2.0, 1], [3, 1], [1, 0], [4, 0]])
    every, none = ratio_intervals(above, below, ["a", "a", "b", "c"], within=[RATE, RATE])
    assert (every.low, every.high, every.n) == pytest.approx((0.025 ** (1 / 3), 1.0, 4))
    assert (none.low, none.high, none.n) == pytest.approx((0.0, 0.975, 2))


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


def test_averages_of_gyms_weigh_them_as_told_and_draw_each_gyms_tasks_apart() -> None:
    one, two = ([1.0, 1.0], ["a", "b"]), ([0.0, 1.0] * 20, range(40))
    macro = combined_interval([one, two], [0.5, 0.5])
    assert macro.mean == pytest.approx(0.75) and macro.n == 42
    alone = mean_interval(*two)
    assert width(macro) == pytest.approx(width(alone) / 2, abs=0.02)  # the other gym is sure of its mean
    assert combined_interval([one, two], [2 / 42, 40 / 42]).mean == pytest.approx(22 / 42)
    assert combined_interval([], []).n == 0
    with pytest.raises(ValueError, match="1 weights for 2 groups"):
        combined_interval([one, two], [1.0])


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.0] * 5, 1.0),
        ([1.0, -1.0], 0.75),  # of the sums -2, 0, 0, 2: two are larger than 0, two are the same and count half
        ([1.0, 1.0, 0.0], 0.25),
        ([0.1 + 0.2, 0.3, 0.3], 0.125),  # equal but for rounding
        ([1.0] * 8, 1 / 256),
    ],
)
def test_few_differences_are_tested_exactly(differences: list[float], p: float) -> None:
    assert sign_flip_p(differences) == pytest.approx(p)


def test_tossed_signs_agree_with_the_exact_test_and_with_the_normal_law() -> None:
    rng = random.Random(5)
    few = [rng.gauss(0.5, 1.0) for _ in range(12)]
    assert sign_flip_p([*few, 1e-7, -1e-7, 1e-7]) == pytest.approx(sign_flip_p(few), abs=0.02)
    many = [rng.gauss(0.12, 1.0) for _ in range(400)]
    z = float(np.mean(many)) / math.sqrt(float(np.mean(np.square(many))) / 400)
    assert sign_flip_p(many) == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.02)
    assert sign_flip_p([1.0] * 50) == pytest.approx(1 / (FLIPS + 1))
    assert sign_flip_p(many) == sign_flip_p([-d for d in many])
    assert math.isnan(sign_flip_p([]))


def test_holm_corrects_the_smallest_p_most_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("level", "freedom", "quantile"),
    [(0.975, 5, 2.571), (0.975, 10, 2.228), (0.975, 39, 2.023), (0.8, 10, 0.879), (0.8, 99, 0.845), (0.975, 10**6, 1.960)],
)
def test_quantiles_of_students_t_are_those_of_the_tables(level: float, freedom: int, quantile: float) -> None:
    assert student(level, freedom) == pytest.approx(quantile, abs=0.006)


def test_a_detectable_difference_shrinks_with_the_root_of_the_number_of_tasks() -> None:
    values = [-1.0, 1.0] * 50
    assert detectable(values) == pytest.approx((1.984 + 0.845) * math.sqrt(100 / 99) / 10, abs=0.002)
    assert detectable(values * 4) == pytest.approx(detectable(values) / 2, rel=0.02)
    assert math.isnan(detectable([0.5])) and math.isnan(detectable([0.5, 0.5])) and math.isnan(detectable([]))
    assert combined_detectable([values, values], [0.5, 0.5]) == pytest.approx(detectable(values * 2), rel=0.02)
    assert math.isnan(combined_detectable([values, [1.0]], [0.5, 0.5]))


def test_the_tasks_needed_are_those_at_which_the_difference_is_detectable() -> None:
    values = [-1.0, 1.0] * 50
    needed = tasks_needed(values, 0.1)
    assert needed is not None and detectable(values * 9) < 0.1 < detectable(values * 7) and 700 < needed < 900
    assert tasks_needed(values, 0.0) is None
    assert tasks_needed([1.0], 0.5) is None


def test_more_attempts_help_only_against_the_chance_in_attempts() -> None:
    values = [-1.0, 1.0] * 50
    allowed = detectable(values)
    assert attempts_needed(values, 0.0, 1, allowed * 0.9) is None  # tasks that differ for good
    all_chance = attempts_needed(values, 5.0, 1, allowed / 2)  # all that differs is chance: a fourfold is needed
    assert all_chance == 4
    half_chance = attempts_needed(values, 0.5, 2, allowed * math.sqrt(0.75))  # the other half stays, so chance is to be halved
    assert half_chance is not None and half_chance in (4, 5)
    assert attempts_needed([1.0], 0.5, 2, 0.1) is None


def test_chances_of_several_attempts_are_those_of_drawing_without_putting_back() -> None:
    assert pass_at(1, 4, 1) == pass_all(1, 4, 1) == 0.25
    assert pass_at(2, 4, 2) == pytest.approx(5 / 6)
    assert pass_all(2, 4, 2) == pytest.approx(1 / 6)
    assert (pass_at(3, 4, 2), pass_all(3, 4, 2)) == (1.0, 0.0)


def test_the_coverage_told_to_users_of_small_gyms_is_that_of_the_table_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    rows = (line.split("|") for line in page.splitlines() if line.startswith(("| success |", "| hard |", "| graded |")))
    shares = [float(row[4].strip(" %")) / 100 for row in rows if row[2].strip() == "40"]
    assert len(shares) == 6
    assert (min(shares), max(shares)) == pytest.approx(COVERAGE_AT_40)


@pytest.mark.slow
def test_simulated_evaluations_keep_what_intervals_and_the_test_promise() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    done = subprocess.run([sys.executable, script, "--evaluations", "100"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("%\n") >= 3 * 18


def test_tasks_are_drawn_anew_within_their_gym() -> None:
    gyms = ["a", "b", "a", "b", "b"]
    picks = drawn_tasks(gyms)
    assert picks.shape == (2000, 5)
    assert all(gyms[pick] == gym for row in picks[:50] for pick, gym in zip(row, gyms, strict=True))
    counts = np.bincount(picks.ravel(), minlength=5)
    assert (np.abs(counts - 2000) < 200).all()


def test_intervals_over_few_tasks_say_how_far_they_can_be_trusted() -> None:
    assert few(100) == few(3000) == ""
    assert "93.5% to 95.2%" in few(99) and "93.5% to 95.2%" in few(20)
    assert "too few" in few(19) and "too few" in few(0) and "%" not in few(19)
