"""Intervals over clusters: the error is that of leaving out one cluster after another."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from evalrunner.stats.distributions import normal_quantile, t_quantile, variance
from evalrunner.stats.intervals import (
    MIN_CLUSTERS,
    ClusteredError,
    clustered_mean_interval,
    clustered_quantile_interval,
    clustered_variance_interval,
    mean_error,
    quantile_interval,
    quantile_ranks,
    variance_error,
)

SIZES = (1, 2, 3, 5, 8, 13)
CLUSTERS = [cluster for cluster, size in enumerate(SIZES) for _ in range(size)]
DRAW = random.Random(8)
SCORES = [5.0 + cluster + DRAW.gauss(0, 1) for cluster in CLUSTERS]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def left_out(statistic: Callable[[Sequence[float]], float]) -> float:
    """The jackknife error by its definition: the statistic anew without each cluster."""
    count, whole = len(SIZES), statistic(SCORES)
    each = [
        statistic([score for score, cluster in zip(SCORES, CLUSTERS, strict=True) if cluster != left])
        for left in range(count)
    ]
    return math.sqrt((count - 1) / count * sum((value - whole) ** 2 for value in each))


@pytest.mark.parametrize(
    ("error_of", "statistic"), [(mean_error, mean), (variance_error, variance)], ids=["mean", "variance"]
)
def test_the_error_is_that_of_leaving_out_each_cluster(
    error_of: Callable[..., ClusteredError], statistic: Callable[[Sequence[float]], float]
) -> None:
    result = error_of(SCORES, CLUSTERS)
    assert result.error == pytest.approx(left_out(statistic))
    assert (result.count, result.effective) == (6, 32**2 / sum(size**2 for size in SIZES))
    assert result.df == pytest.approx(result.effective - 1)
    assert error_of(SCORES, [0] * 32).error == math.inf


def test_an_interval_of_few_effective_clusters_keeps_one_degree_of_freedom() -> None:
    uneven = mean_error([0.1, 0.5, *[0.3] * 98], [1, 2, *[0] * 98])
    assert uneven.effective < 1.1 and uneven.df == 1.0


def test_a_clustered_variance_has_students_interval_from_zero_on() -> None:
    result, error = clustered_variance_interval(SCORES, CLUSTERS, level=0.8), variance_error(SCORES, CLUSTERS)
    half = t_quantile(0.9, error.df) * error.error
    assert (result.low, result.high) == (max(0.0, variance(SCORES) - half), pytest.approx(variance(SCORES) + half))
    assert (result.method, result.n, result.level, result.note) == ("t-clustered", 32, 0.8, error.note)
    wide = clustered_variance_interval(SCORES, CLUSTERS, level=0.999)
    assert wide.low == 0.0 and wide.high is not None and wide.high > variance(SCORES)


def test_a_clustered_mean_of_an_open_range_has_students_interval() -> None:
    result, error = (
        clustered_mean_interval(SCORES, CLUSTERS, low=0.0, high=None, level=0.9),
        mean_error(SCORES, CLUSTERS),
    )
    half = t_quantile(0.95, error.df) * error.error
    assert (result.low, result.high) == (pytest.approx(mean(SCORES) - half), pytest.approx(mean(SCORES) + half))
    assert (result.method, result.note) == ("t-clustered", error.note)
    clipped = clustered_mean_interval(SCORES, CLUSTERS, low=8.0, high=None, level=0.9)
    assert (clipped.low, clipped.high) == (8.0, result.high)
    assert clustered_mean_interval(SCORES, CLUSTERS, low=None, high=11.0, level=0.9).high == 11.0


def test_a_clustered_quantile_uses_the_ranks_of_fewer_values() -> None:
    clusters = [place // 2 for place in range(400)]
    scores = [float(place // 2 * 7 % 200) for place in range(400)]  # two equal ones in each
    result = clustered_quantile_interval(scores, clusters, 0.5, level=0.95)
    error = mean_error([float(score <= sorted(scores)[199]) for score in scores], clusters)
    worth = 0.25 / error.error**2 * (normal_quantile(0.975) / t_quantile(0.975, 199.0)) ** 2
    assert result.n_effective == pytest.approx(worth, rel=0.01) == pytest.approx(199, rel=0.02)
    alone, half = quantile_interval(scores, 0.5, level=0.95), quantile_interval(scores[::2], 0.5, level=0.95)
    assert result.low is not None and alone.low is not None and half.low is not None
    assert result.low < alone.low
    assert result.low == pytest.approx(half.low, abs=2)
    assert result.method == "order-statistics-clustered"


def test_few_clusters_are_named_beside_the_interval() -> None:
    few = [place % MIN_CLUSTERS for place in range(100)]
    scores = [float(place % 7) for place in range(100)]
    for result in (
        clustered_variance_interval(scores, few, level=0.95),
        clustered_mean_interval(scores, few, low=None, high=None, level=0.95),
        clustered_mean_interval(scores, few, low=0.0, high=6.0, level=0.95),
        clustered_quantile_interval(scores, few, 0.5, level=0.95),
    ):
        assert result.note is not None
        assert result.note.startswith("only 5 clusters")
    many = [place % 20 for place in range(100)]
    assert mean_error(scores, many).note is None
    assert mean_error(scores, [place % 19 for place in range(100)]).note is not None


@pytest.mark.parametrize(("n", "share"), [(3, 0.5), (7, 0.5), (10, 0.5)])
def test_a_rank_whose_tail_is_exactly_the_allowed_one_bounds_a_quantile(n: int, share: float) -> None:
    level = 1 - 2 * share**n  # the least and the greatest value each miss with half of the rest
    assert quantile_ranks(n, share, level=level - 1e-12) == (1, n)
    assert quantile_ranks(n, share, level=level + 1e-12) == (None, None)
    assert quantile_ranks(n, share, level=0.0) == ((n + 1) // 2, n // 2 + 1)
