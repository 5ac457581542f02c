"""Sequential tests: error rates at any time, the mean of the dataset itself, clusters, and the confidence sequence."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from benchmarks.sequential import crossings, exact_bounds, rows_used
from evalrunner.gates.sequential import LATER_LOOK_SHARE
from evalrunner.stats.aggregates import Estimand, find_aggregate
from evalrunner.stats.sequential import (
    BETS,
    BettingTest,
    SequentialTest,
    ShareTest,
    anytime_interval,
    confidence_sequence,
)

ALPHA = 0.05
SHARE = Estimand(binary=True, low=0.0, high=1.0)


def decide(values: Sequence[float], bound: float, *, total: int | None = None) -> tuple[str | None, int | None]:
    """The decision on values in order, and after how many it was made."""
    test = SequentialTest(bound, alpha_pass=ALPHA, alpha_fail=ALPHA, total=total)
    for place, value in enumerate(values, 1):
        test.add(value - bound, value - bound)
        if test.decision is not None:
            return test.decision, place
    return None, None


def test_the_capital_does_not_grow_on_average_if_the_mean_is_at_its_null_value() -> None:
    for null in (0.2, 0.5, 0.8):
        expected = 0.0
        for outcomes in product((0.0, 1.0), repeat=6):
            test = BettingTest(null)
            for value in outcomes:
                test.add(value)
            capital = math.fsum(test._capital) / len(BETS)
            expected += capital * math.prod(null if value else 1 - null for value in outcomes)
        assert expected == pytest.approx(1.0)


def test_the_capital_without_replacement_does_not_grow_on_average_either() -> None:
    dataset = [1.0, 1.0, 0.0, 0.0, 0.5, 0.5]
    capitals = []
    for order in {tuple(random.Random(seed).sample(dataset, 6)) for seed in range(3000)}:
        test = BettingTest(0.5, total=6)
        for value in order[:4]:
            test.add(value)
        capitals.append(math.fsum(test._capital) / len(BETS))
    assert len(capitals) == 90  # 6! / 2!³ orders, each as likely as any other
    assert math.fsum(capitals) / 90 <= 1.0 + 1e-12


@pytest.mark.parametrize("total", [None, 400])
def test_one_value_at_a_time_agrees_with_the_vectorized_benchmark(total: int | None) -> None:
    draw = np.random.default_rng(5)
    values = (draw.random((40, 400)) < 0.75).astype(float)
    passes = crossings(values, 0.8, alpha=ALPHA, total=total)
    fails = crossings(1 - values, 1 - 0.8, alpha=ALPHA, total=total)
    for row, above, below in zip(values, passes, fails, strict=True):
        first = min(above, below)
        expected = (None, None) if first > 400 else ("pass" if above == first else "fail", first)
        assert decide(row.tolist(), 0.8, total=total) == expected


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_false_decisions_at_the_bound_are_at_most_five_percent_at_any_time(rate: float) -> None:
    values = (np.random.default_rng(7).random((2000, 500)) < rate).astype(float)
    for side, null in ((values, rate), (1 - values, 1 - rate)):
        assert (crossings(side, null, alpha=ALPHA) <= 500).mean() <= 0.0625  # .05 and 2.6 standard errors


def test_without_replacement_every_order_of_a_small_dataset_errs_in_at_most_five_percent() -> None:
    dataset = np.array([1.0] * 79 + [0.0] * 21)  # just below .8
    draw = np.random.default_rng(11)
    orders = np.array([draw.permutation(dataset) for _ in range(4000)])
    assert (crossings(orders, 0.8, alpha=ALPHA, total=100) <= 100).mean() <= 0.05


def test_a_large_difference_is_decided_early() -> None:
    draw = random.Random(3)
    assert decide([float(draw.random() < 0.95) for _ in range(500)], 0.8)[0] == "pass"
    verdict, place = decide([float(draw.random() < 0.5) for _ in range(500)], 0.8)
    assert verdict == "fail" and place is not None and place < 60


def test_what_is_impossible_without_replacement_is_certain() -> None:
    assert decide([1.0] * 4, 0.5, total=6) == ("pass", 4)
    assert decide([0.0] * 4, 0.5, total=6) == ("fail", 4)
    assert decide([0.0] * 3 + [1.0] * 3, 0.5, total=6) == (None, None)  # the bound itself is neither above nor below


def test_a_mean_at_the_end_of_the_range_can_only_fail() -> None:
    assert decide([1.0] * 300, 1.0) == (None, None)
    assert decide([1.0, 1.0, 0.0], 1.0) == ("fail", 3)
    assert decide([0.0, 0.0, 0.1], 0.0) == ("pass", 3)


def test_a_sample_that_is_missing_counts_against_either_decision() -> None:
    def missing(known: float, count: int) -> str | None:
        test = SequentialTest(0.8, alpha_pass=ALPHA, alpha_fail=ALPHA)
        for _ in range(count):
            test.add(known - 0.8, known - 0.8)
            test.add(-0.8, 0.2)  # it could be 0 or 1
        return test.decision

    assert missing(1.0, 200) is None
    assert missing(0.0, 200) == "fail"  # half of them wrong is already too many
    assert decide([1.0] * 40, 0.8)[0] == "pass"


def test_a_sample_that_is_left_out_changes_nothing() -> None:
    test, other = (SequentialTest(0.8, alpha_pass=ALPHA, alpha_fail=ALPHA) for _ in range(2))
    for value in (1.0, 0.0, 1.0):
        test.add(value - 0.8, value - 0.8)
        test.add(0.0, 0.0)
        other.add(value - 0.8, value - 0.8)
    assert test.above.peak == pytest.approx(other.above.peak)
    assert test.below.peak == pytest.approx(other.below.peak)


def test_equal_samples_of_a_cluster_count_as_one() -> None:
    clustered = SequentialTest(0.8, alpha_pass=ALPHA, alpha_fail=ALPHA, largest_cluster=5)
    single = SequentialTest(0.8, alpha_pass=ALPHA, alpha_fail=ALPHA)
    for cluster, value in enumerate([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]):
        for _ in range(5):
            clustered.add(value - 0.8, value - 0.8, cluster=cluster)
        single.add(value - 0.8, value - 0.8)
    assert clustered.above.peak < single.above.peak  # the last cluster may have further samples
    clustered.close_cluster()
    assert clustered.above.peak == pytest.approx(single.above.peak)


@pytest.mark.parametrize("total", [None, 12])
def test_a_cluster_is_one_bet_on_the_sums_of_its_ends(total: int | None) -> None:
    clustered = SequentialTest(0.5, alpha_pass=ALPHA, alpha_fail=ALPHA, total=total, largest_cluster=2)
    single = SequentialTest(0.5, alpha_pass=ALPHA, alpha_fail=ALPHA, total=total)
    for cluster, (lowest, highest) in enumerate([(-0.5, 0.5), (0.5, 0.5), (-0.5, -0.5), (0.0, 0.5)]):
        clustered.add(lowest, highest, cluster=cluster)
        clustered.add(0.5, 0.5, cluster=cluster)
        single.add((lowest + 0.5) / 2, (highest + 0.5) / 2)
    clustered.close_cluster()
    clustered.close_cluster()  # there is no further one
    assert (clustered.above.peak, clustered.below.peak) == (
        pytest.approx(single.above.peak), pytest.approx(single.below.peak),
    )  # fmt: skip
    assert clustered.above._capital == pytest.approx(single.above._capital)
    assert clustered.below._capital == pytest.approx(single.below._capital)


def test_the_confidence_sequence_excludes_exactly_what_the_tests_reject() -> None:
    draw = random.Random(9)
    values = [float(draw.random() < 0.7) for _ in range(300)]
    low, high = confidence_sequence(values, level=0.95)
    assert 0.55 < low < 0.7 < high < 0.82
    for null, side in ((low, values), (1 - high, [1 - value for value in values])):
        for shift, rejected in ((-1e-3, True), (1e-3, False)):
            test = BettingTest(null + shift)
            for value in side:
                test.add(value)
            assert (test.peak * 0.025 >= 1) == rejected


def test_the_confidence_sequence_of_few_or_equal_values_is_wide() -> None:
    low, high = confidence_sequence([1.0], level=0.95)
    assert low < 0.025 and high == pytest.approx(1.0)
    low, high = confidence_sequence([1.0] * 50, level=0.95)
    assert 0.8 < low < 0.95 and high == pytest.approx(1.0)
    assert confidence_sequence([0.0] * 50, level=0.95) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_the_power_of_a_share_is_that_of_every_sequence_of_answers() -> None:
    n, rate = 12, 0.95
    exact = ShareTest(0.5, n, alpha_pass=ALPHA, alpha_fail=ALPHA).decisions(rate)
    passes = fails = used = 0.0
    for outcomes in product((0.0, 1.0), repeat=n):
        chance = math.prod(rate if value else 1 - rate for value in outcomes)
        verdict, place = decide(outcomes, 0.5)
        passes += chance * (verdict == "pass")
        fails += chance * (verdict == "fail")
        used += chance * (place or n) / n
    assert (exact.passes, exact.fails, exact.used) == pytest.approx((passes, fails, used))


def test_errors_at_the_bound_are_at_most_five_percent_over_all_outcomes() -> None:
    for rate in (0.05, 0.5, 0.8, 0.95, 0.99):
        exact = ShareTest(rate, 2000, alpha_pass=ALPHA, alpha_fail=ALPHA).decisions(rate)
        assert 0.0 < exact.passes <= ALPHA and 0.0 < exact.fails <= ALPHA


def test_rows_used_with_the_truth_ten_points_off() -> None:
    for rate in (0.7, 0.9):
        for n, most in ((500, 0.4), (1000, 0.2)):
            assert ShareTest(0.8, n, alpha_pass=ALPHA, alpha_fail=ALPHA).decisions(rate).used <= most


def test_the_power_that_looking_after_every_sample_costs() -> None:
    exact = ShareTest(0.8, 1000, alpha_pass=ALPHA, alpha_fail=ALPHA).decisions(0.83)
    assert exact.passes == pytest.approx(0.43, abs=0.005)


@pytest.mark.slow
def test_rows_used_by_64_workers_with_the_truth_ten_points_off() -> None:
    draw = random.Random(13)
    for n, most in ((500, 0.4), (1000, 0.2)):
        for rate in (0.7, 0.9):
            runs = [[float(draw.random() < rate) for _ in range(n)] for _ in range(120)]
            used = [rows_used(values, 0.8, 64, draw, noisy=True) for values in runs]
            assert math.fsum(used) / len(used) <= most  # rows in flight at the decision among them


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_later_looks_add_at_most_half_a_point_to_the_errors_of_the_first(rate: float) -> None:
    """The first look is at most 5% (exact binomial), so that all looks together stay below 5.5%."""
    values, first = (np.random.default_rng(23).random((3000, 1000)) < rate).astype(float), 100
    low, high = exact_bounds(values[:, :first].sum(axis=1), first)
    for side, null, decided in ((values, rate, low >= rate), (1 - values, 1 - rate, high < rate)):
        later = crossings(side, null, alpha=ALPHA / LATER_LOOK_SHARE, start=first) <= 1000
        assert (later & ~decided).mean() <= 0.005


def test_the_confidence_sequence_of_clusters_excludes_exactly_what_their_test_rejects() -> None:
    draw = random.Random(4)
    sizes = [1 + place % 3 for place in range(150)]
    sums = [float(sum(draw.random() < 0.7 for _ in range(size))) for size in sizes]
    low, high = confidence_sequence(sums, sizes=sizes, level=0.9)
    assert low < 0.7 < high
    missed = [size - one for size, one in zip(sizes, sums, strict=True)]
    for null, side in ((low, sums), (1 - high, missed)):
        for shift, rejected in ((-1e-3, True), (1e-3, False)):
            bound = null + shift
            test = SequentialTest(bound, alpha_pass=0.05, alpha_fail=0.05, largest_cluster=3)
            for cluster, (size, total) in enumerate(zip(sizes, side, strict=True)):
                for place in range(size):
                    value = float(place < total) - bound
                    test.add(value, value, cluster=cluster)
            test.close_cluster()
            assert (test.above.peak * 0.05 >= 1) == rejected
    assert confidence_sequence(sums, sizes=[3] * 150, level=0.9)[1] < high  # of more values, fewer of them right


def test_a_test_that_forgets_has_no_evidence_from_before() -> None:
    test = SequentialTest(0.5, alpha_pass=ALPHA, alpha_fail=ALPHA)
    for _ in range(40):
        test.add(0.5, 0.5)
    assert test.decision == "pass"
    test.forget()
    assert (test.decision, test.above.peak, test.below.peak) == (None, 1.0, 1.0)
    test.add(-0.5, -0.5)
    assert test.decision == "pass"  # the capital is still above its mark


def test_the_samples_left_are_those_at_the_pace_of_the_evidence_so_far() -> None:
    test = SequentialTest(0.5, alpha_pass=0.05, alpha_fail=0.01)
    assert test.samples_left(0) == math.inf  # no evidence
    for _ in range(4):
        test.add(0.5, 0.5)
    growth = math.log(test.above.capital)
    assert test.samples_left(4) == pytest.approx(4 * (math.log(20) - growth) / growth)
    falling = SequentialTest(0.5, alpha_pass=0.05, alpha_fail=0.01)
    for _ in range(4):
        falling.add(-0.5, -0.5)
    assert falling.samples_left(4) == pytest.approx(4 * (math.log(100) - growth) / growth)


def test_the_interval_of_a_stopped_run_is_in_the_units_of_the_metric_and_the_order_of_its_samples() -> None:
    draw = random.Random(6)
    values = [float(draw.random() < 0.7) for _ in range(80)]
    low, high = confidence_sequence(values, level=0.95)
    mixed = draw.sample(range(80), 80)
    result = anytime_interval(SHARE, [values[place] for place in mixed], mixed)
    assert (result.low, result.high, result.method, result.n) == (low, high, "betting", 80)
    wide = anytime_interval(Estimand(low=-2.0, high=8.0), [10 * value - 2 for value in values], range(80))
    assert (wide.low, wide.high) == (pytest.approx(10 * low - 2), pytest.approx(10 * high - 2))


def test_the_interval_of_a_stopped_run_leaves_out_the_last_cluster() -> None:
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], [3, 3, 5, 5, 5, 4, 4]
    result = anytime_interval(SHARE, values, range(7), clusters)
    assert (result.low, result.high) == confidence_sequence([1.0, 2.0], sizes=[2, 3], level=0.95)
    only = anytime_interval(SHARE, values[:2], range(2), clusters[:2])
    assert (only.method, only.note, only.n) == (None, "no interval: no cluster is complete", 2)


@pytest.mark.parametrize(
    ("estimand", "values", "note"),
    [
        (SHARE, [], None),
        (Estimand(aggregate=find_aggregate("total"), low=0.0, high=1.0), [1.0], None),
        (Estimand(low=0.0), [1.0], "no interval: the run stopped when its gates were decided"),
        (Estimand(high=1.0), [1.0], "no interval: the run stopped when its gates were decided"),
        (Estimand(aggregate=find_aggregate("p50"), low=0.0, high=1.0), [1.0], "no interval: the run stopped when its gates were decided"),
    ],
)  # fmt: skip
def test_only_means_in_a_known_range_have_an_interval_at_any_time(
    estimand: Estimand, values: list[float], note: str | None
) -> None:
    result = anytime_interval(estimand, values, range(len(values)))
    assert (result.low, result.high, result.method, result.note) == (None, None, None, note)
