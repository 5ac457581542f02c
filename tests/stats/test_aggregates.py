"""Aggregates: their ranges, the number of one sample, and intervals in the units of the scores."""

from __future__ import annotations

import pytest

from evalrunner.stats.aggregates import MEAN, Aggregate, Estimand, find_aggregate, metric_interval

RATIO, VARIANCE, TOTAL, MEDIAN = (find_aggregate(name) for name in ("ratio", "variance", "total", "p50"))


@pytest.mark.parametrize(
    ("aggregate", "low", "high", "bounds"),
    [
        (MEAN, -2.0, 10.0, (-2.0, 10.0)),
        (RATIO, -2.0, 10.0, (0.0, 1.0)),
        (VARIANCE, -2.0, 10.0, (0.0, 36.0)),  # half of the scores at either end
        (VARIANCE, None, 10.0, (0.0, None)),
        (VARIANCE, -2.0, None, (0.0, None)),
        (TOTAL, -2.0, 10.0, (None, None)),
        (MEDIAN, -2.0, None, (-2.0, None)),
    ],
)
def test_bounds_of_an_aggregate_follow_from_the_range_of_scores(
    aggregate: Aggregate, low: float | None, high: float | None, bounds: tuple[float | None, float | None]
) -> None:
    assert Estimand(aggregate=aggregate, low=low, high=high).bounds == bounds


def test_a_score_at_the_threshold_counts_into_the_ratio() -> None:
    estimand = Estimand(aggregate=RATIO, threshold=0.5)
    assert [estimand.of_sample(score) for score in (0.4, 0.5, 0.6)] == [0.0, 1.0, 1.0]
    assert estimand.value([0.4, 0.5, 0.6]) == pytest.approx(2 / 3)


def test_a_mean_is_a_share_for_binary_scores_only_and_a_ratio_for_any() -> None:
    assert [Estimand(aggregate=one, binary=binary).is_share for one in (MEAN, RATIO, VARIANCE) for binary in (True, False)] == [
        True, False, True, True, False, False,
    ]  # fmt: skip


def test_the_range_of_one_sample_is_that_of_its_number() -> None:
    assert Estimand(low=-2.0, high=10.0).sample_width == 12.0
    assert Estimand(aggregate=RATIO, low=-2.0, high=10.0).sample_width == 1.0
    assert Estimand(low=0.0).sample_width is None
    assert Estimand(high=0.0).sample_width is None


def test_clustered_intervals_scale_with_the_scores() -> None:
    scores = [(place * 7 % 11) / 11 for place in range(60)]
    clusters = [place // 6 for place in range(60)]
    share = metric_interval(Estimand(low=0.0, high=1.0), scores, clusters=clusters)
    large = metric_interval(Estimand(low=0.0, high=10.0), [10 * score for score in scores], clusters=clusters)
    assert share.low is not None and share.high is not None
    assert (large.low, large.high) == (pytest.approx(10 * share.low), pytest.approx(10 * share.high))


def test_the_clustered_interval_of_a_ratio_is_that_of_its_shares() -> None:
    scores = [(place * 7 % 11) / 11 for place in range(60)]
    clusters = [place // 6 for place in range(60)]
    ratio = metric_interval(Estimand(aggregate=RATIO, threshold=0.5), scores, clusters=clusters)
    shares = metric_interval(Estimand(binary=True), [float(score >= 0.5) for score in scores], clusters=clusters)
    assert (ratio.low, ratio.high, ratio.method) == (shares.low, shares.high, shares.method)
