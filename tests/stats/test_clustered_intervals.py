"""Intervals over clusters: the error is that of leaving out one cluster after another, or of correlated values."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest

from evalrunner.stats.distributions import normal_quantile, t_quantile
from evalrunner.stats.intervals import (
    clustered_mean_interval,
    clustered_quantile_interval,
    mean_error,
    quantile_interval,
    skewed_t,
    values_by_cluster,
    wilson,
)

SIZES = (1, 2, 3, 5, 8, 13)
CLUSTERS = [cluster for cluster, size in enumerate(SIZES) for _ in range(size)]
DRAW = random.Random(8)
SCORES = [5.0 + cluster + DRAW.gauss(0, 1) for cluster in CLUSTERS]
MANY = [place // 3 for place in range(120)]  # 40 clusters of three
EXPENSIVE = [float(cluster % 7) ** 2 + DRAW.random() for cluster in MANY]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def means_without(values: Sequence[float], clusters: Sequence[int]) -> list[float]:
    """The mean anew without each cluster."""
    return [
        mean([value for value, cluster in zip(values, clusters, strict=True) if cluster != left])
        for left in dict.fromkeys(clusters)
    ]


def test_the_error_is_that_of_leaving_out_each_cluster() -> None:
    result = mean_error(SCORES, CLUSTERS)
    gaps = [value - mean(SCORES) for value in means_without(SCORES, CLUSTERS)]
    assert result.error == pytest.approx(math.sqrt(5 / 6 * sum(gap**2 for gap in gaps)))
    assert (result.count, result.effective) == (6, 32**2 / sum(size**2 for size in SIZES))
    assert result.df == pytest.approx(result.effective - 1)
    assert result.skewness == pytest.approx(-sum(gap**3 for gap in gaps) / sum(gap**2 for gap in gaps) ** 1.5)
    assert result.contributing == pytest.approx(sum(gap**2 for gap in gaps) ** 2 / sum(gap**4 for gap in gaps))
    assert mean_error(SCORES, [0] * 32).error == math.inf


def test_values_are_grouped_by_cluster_whatever_their_order() -> None:
    assert values_by_cluster([1.0, 2.0, 3.0, 4.0], [9, 4, 9, 4]) == [[1.0, 3.0], [2.0, 4.0]]


def test_few_effective_clusters_keep_one_degree_of_freedom() -> None:
    uneven = mean_error([0.1, 0.5, *[0.3] * 98], [1, 2, *[0] * 98])
    assert uneven.effective < 1.1
    assert uneven.df == uneven.limited_df(one_sided=True) == uneven.limited_df(one_sided=False) == 1.0


def correlated(groups: Sequence[Sequence[float]]) -> float:
    """The intra-class correlation of clusters of equal size, from the mean squares between and within."""
    size, count = len(groups[0]), len(groups)
    whole = mean([value for group in groups for value in group])
    between = size * sum((mean(group) - whole) ** 2 for group in groups) / (count - 1)
    within = sum((value - mean(group)) ** 2 for group in groups for value in group) / (count * (size - 1))
    return (between - within) / (between + (size - 1) * within)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_the_model_error_is_that_of_values_with_the_observed_correlation(spread: float) -> None:
    draw = random.Random(3)
    groups = [[draw.gauss(centre, 1.0) for _ in range(4)] for centre in [draw.gauss(0.0, spread) for _ in range(25)]]
    values = [value for group in groups for value in group]
    result = mean_error(values, [place // 4 for place in range(100)])
    icc = correlated(groups)
    inflated = [math.sqrt(statistics.pvariance(values) * (1 + 3 * rho) / 100) for rho in (icc, max(0.0, icc))]
    assert result.balanced_error == pytest.approx(max(result.error, inflated[0]))
    assert result.cautious_error == pytest.approx(max(result.error, inflated[1]))


def test_clusters_that_agree_more_than_chance_are_as_uncertain_as_unrelated_values_in_gates() -> None:
    alternating = [float(place % 2) for place in range(80)]  # each pair has one of both
    result = mean_error(alternating, [place // 2 for place in range(80)])
    assert result.error == pytest.approx(0.0, abs=1e-12)
    assert result.balanced_error == pytest.approx(0.0, abs=1e-6)
    assert result.cautious_error == pytest.approx(0.5 / math.sqrt(80))
    assert not result.varies


def test_equal_values_inside_clusters_count_once() -> None:
    twice = mean_error([float(cluster % 2) for cluster in MANY], MANY)
    assert twice.cautious_error == pytest.approx(twice.error, rel=0.02)
    assert twice.error == pytest.approx(0.5 / math.sqrt(39), rel=1e-6)
    assert twice.contributing == pytest.approx(40.0)


def test_single_values_have_no_correlation() -> None:
    alone = mean_error(SCORES, list(range(32)))
    assert alone.error == pytest.approx(statistics.stdev(SCORES) / math.sqrt(32))
    assert alone.balanced_error == alone.cautious_error == alone.error
    assert (alone.effective, alone.df) == (32.0, 31.0)


def test_degrees_of_freedom_are_limited_by_the_clusters_that_differ() -> None:
    one_wrong = mean_error([0.0] * 3 + [1.0] * 117, MANY)
    assert one_wrong.contributing == pytest.approx(1.0, abs=0.06)
    assert one_wrong.limited_df(one_sided=True) == pytest.approx(one_wrong.contributing)
    assert one_wrong.limited_df(one_sided=False) == pytest.approx(1.25 * one_wrong.contributing**1.5)
    half = mean_error([float(cluster % 2) for cluster in MANY], MANY)
    assert half.limited_df(one_sided=True) == half.limited_df(one_sided=False) == pytest.approx(39.0)
    constant = mean_error([1.0] * 120, MANY)
    assert (constant.contributing, constant.limited_df(one_sided=True), constant.skewness) == (40.0, 39.0, 0.0)


@pytest.mark.parametrize("one_sided", [False, True])
def test_a_clustered_mean_of_an_open_range_is_corrected_for_its_skewness(*, one_sided: bool) -> None:
    result = clustered_mean_interval(EXPENSIVE, MANY, low=0.0, high=None, level=0.9, one_sided=one_sided)
    spread = mean_error(EXPENSIVE, MANY)
    error = spread.cautious_error if one_sided else spread.balanced_error
    ends = skewed_t(mean(EXPENSIVE), error, spread.skewness, level=0.9, df=spread.limited_df(one_sided=one_sided))
    assert (result.low, result.high) == pytest.approx(ends)
    assert (result.method, result.n, result.n_effective, result.note) == ("t-skewness-clustered", 120, 40.0, None)
    clipped = clustered_mean_interval(EXPENSIVE, MANY, low=15.0, high=None, level=0.9, one_sided=one_sided)
    assert (clipped.low, clipped.high) == (15.0, result.high)
    assert clustered_mean_interval(EXPENSIVE, MANY, low=None, high=15.5, level=0.9).high == 15.5


def test_an_open_range_needs_thirty_clusters_that_differ() -> None:
    few = clustered_mean_interval(EXPENSIVE[:87], MANY[:87], low=0.0, high=None, level=0.95)
    assert (few.method, few.note) == (
        None, "no interval: 29 clusters, at least 30 are needed (10 if the scorer declares low and high)",
    )  # fmt: skip
    assert clustered_mean_interval(EXPENSIVE[:90], MANY[:90], low=0.0, high=None, level=0.95).method is not None
    equal = clustered_mean_interval([3.0] * 120, MANY, low=0.0, high=None, level=0.95)
    assert (equal.method, equal.note is not None and equal.note.startswith("no interval: all values are equal")) == (
        None, True,
    )  # fmt: skip


@pytest.mark.parametrize(("one_sided", "binary"), [(False, True), (True, True), (False, False), (True, False)])
def test_a_bounded_mean_has_wilsons_interval_of_the_outcomes_that_its_error_is_worth(
    *, one_sided: bool, binary: bool
) -> None:
    scores = [float(value > 12.0) for value in EXPENSIVE] if binary else [value / 40 for value in EXPENSIVE]
    share, spread = mean(scores), mean_error(scores, MANY)
    error = spread.cautious_error if one_sided else spread.balanced_error
    padding = 0.0 if binary else (1.0 if one_sided else 0.5) * (share**2 + (1 - share) ** 2) / 120**2
    effective = share * (1 - share) / (error**2 + padding)
    expected = wilson(share * effective, effective, level=0.9, df=spread.limited_df(one_sided=one_sided))
    result = clustered_mean_interval(scores, MANY, low=0.0, high=1.0, level=0.9, binary=binary, one_sided=one_sided)
    assert (result.low, result.high) == pytest.approx(expected)
    assert (result.n_effective, result.method) == (pytest.approx(effective), "wilson-clustered")
    wide = clustered_mean_interval(
        [10 * score - 2 for score in scores], MANY, low=-2.0, high=8.0, level=0.9, binary=binary, one_sided=one_sided
    )
    assert (wide.low, wide.high) == pytest.approx((10 * expected[0] - 2, 10 * expected[1] - 2))


def test_equal_clusters_count_as_one_value_each() -> None:
    result = clustered_mean_interval([1.0] * 120, MANY, low=0.0, high=1.0, level=0.95, binary=True)
    assert (result.low, result.high) == wilson(40.0, 40.0, level=0.95, df=39.0)
    assert result.n_effective == 40.0


@pytest.mark.parametrize("one_sided", [False, True])
def test_a_clustered_quantile_uses_the_ranks_of_as_many_values_as_its_clusters_are_worth(*, one_sided: bool) -> None:
    clusters = [place // 2 for place in range(400)]
    scores = [float(place // 2 * 7 % 200) for place in range(400)]  # two equal ones in each
    result = clustered_quantile_interval(scores, clusters, 0.5, level=0.95, one_sided=one_sided)
    spread = mean_error([float(score <= 99.5) for score in scores], clusters)
    df = spread.limited_df(one_sided=one_sided)
    worth = 0.25 / spread.cautious_error**2 * (normal_quantile(0.975) / t_quantile(0.975, df)) ** 2
    assert result.n_effective == pytest.approx(worth)
    assert 190 < worth < 200
    same = quantile_interval(scores, 0.5, level=0.95, one_sided=one_sided, n_effective=worth)
    assert (result.low, result.high, result.method) == (same.low, same.high, "order-statistics-clustered")
    constant = clustered_quantile_interval([2.0] * 400, clusters, 0.5, level=0.95)
    assert (constant.low, constant.high) == (2.0, 2.0)
    assert constant.n_effective == pytest.approx(200 * (normal_quantile(0.975) / t_quantile(0.975, 199.0)) ** 2)


def test_few_clusters_are_named_beside_the_interval() -> None:
    scores = [float(place % 7) for place in range(190)]
    for count, note in ((19, "only 19 clusters: the interval is wide"), (20, None)):
        clusters = [place % count for place in range(190)]
        assert mean_error(scores, clusters).note == note
        assert clustered_mean_interval(scores, clusters, low=0.0, high=6.0, level=0.95).note == note
        assert clustered_quantile_interval(scores, clusters, 0.5, level=0.95).note == note
