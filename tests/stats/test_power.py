"""Statistical power: smallest detectable drops and false failure rates."""

from __future__ import annotations

import math
import random

import pytest

from evalrunner.stats.power import (
    design_effect,
    false_failure_rate_of_mean,
    false_failure_rate_of_share,
    paired_spread,
    smallest_drop,
    variance_at_epochs,
)


def test_the_smallest_detectable_drop_matches_the_formula() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    quantiles = scipy_stats.t.ppf(0.95, 199) + scipy_stats.t.ppf(0.8, 199)
    assert smallest_drop(n=200, variance=0.09, deff=1.5) == pytest.approx(quantiles * math.sqrt(0.09 * 1.5 / 200))
    assert smallest_drop(n=1, variance=0.09) == math.inf


def test_the_smallest_detectable_drop_of_two_pairs_has_one_degree_of_freedom() -> None:
    t = pytest.importorskip("scipy.stats").t
    quantiles = t.ppf(0.95, 1) + t.ppf(0.8, 1)
    assert smallest_drop(n=2, variance=0.5) == pytest.approx(quantiles * 0.5)
    assert smallest_drop(n=50, variance=0.5, df=0.3) == pytest.approx(quantiles * 0.1)  # few effective clusters
    assert smallest_drop(n=50, variance=0.5, df=1.0) == pytest.approx(quantiles * 0.1)


def test_the_pair_added_at_each_end_widens_the_test_but_not_its_noise() -> None:
    t = pytest.importorskip("scipy.stats").t
    width, noise = math.sqrt((0.09 + 2 * 4 / 200) / 200), math.sqrt(0.09 / 200)
    expected = t.ppf(0.9, 199) * width + t.ppf(0.7, 199) * noise
    assert smallest_drop(n=200, variance=0.09, span=2.0, alpha=0.1, power=0.7) == pytest.approx(expected)


def test_clusters_raise_the_smallest_detectable_drop() -> None:
    assert design_effect([1] * 50, 0.3) == 1.0
    assert design_effect([5] * 20, 0.1) == pytest.approx(1.4)
    assert smallest_drop(n=100, variance=0.1, df=19) > smallest_drop(n=100, variance=0.1)


def test_more_epochs_help_only_if_variance_is_within_samples() -> None:
    draw = random.Random(3)
    samples = [[draw.gauss(centre, 0.5) for _ in range(4)] for centre in [draw.gauss(0, 0.05) for _ in range(500)]]
    means = [sum(each) / 4 for each in samples]
    within = [sum((value - mean) ** 2 for value in each) / 3 for each, mean in zip(samples, means, strict=True)]
    now, share = variance_at_epochs(means, within=within, epochs=4, planned=4)
    more, _ = variance_at_epochs(means, within=within, epochs=4, planned=16)
    assert share > 0.8
    assert more < now / 2
    steady, none = variance_at_epochs(means, within=[0.0] * 500, epochs=4, planned=400)
    assert (steady, none) == (pytest.approx(now, rel=1e-9), 0.0)


def test_the_variance_at_other_epochs_keeps_what_lies_between_samples() -> None:
    differences, within = [0.0, 0.4, 0.8], [0.08, 0.08, 0.08]  # variance .16, of it .08 / 2 within samples
    assert variance_at_epochs(differences, within=within, epochs=2, planned=2) == (
        pytest.approx(0.16),
        pytest.approx(0.25),
    )
    assert variance_at_epochs(differences, within=within, epochs=2, planned=4)[0] == pytest.approx(0.12 + 0.02)
    assert variance_at_epochs(differences, within=[2.0], epochs=2, planned=10) == (pytest.approx(0.2), 1.0)
    assert variance_at_epochs(differences, within=[], epochs=2, planned=4) == (pytest.approx(0.16), 0.0)
    assert variance_at_epochs([0.1, 0.1], within=[0.5], epochs=2, planned=4) == (pytest.approx(0.125), 0.0)


def test_the_spread_of_pairs_is_their_sample_variance_at_the_planned_epochs() -> None:
    differences = [0.0, 1.0] * 10
    spread = paired_spread(differences)
    assert spread is not None
    assert (spread.variance, spread.df, spread.pairs) == (pytest.approx(5 / 19), None, 20)
    within = [0.2] * 20
    for epochs, planned in ((1, 4), (4, 4)):
        assert paired_spread(differences, within=within, epochs=epochs, planned=planned) == spread
    assert paired_spread(differences, epochs=2, planned=4) == spread
    for epochs, planned in ((2, 4), (4, 2)):
        expected, _ = variance_at_epochs(differences, within=within, epochs=epochs, planned=planned)
        other = paired_spread(differences, within=within, epochs=epochs, planned=planned)
        assert other is not None and (other.variance, other.pairs) == (expected, 20)


def test_there_is_no_spread_of_few_or_equal_pairs_or_of_one_cluster() -> None:
    assert paired_spread([0.0, 1.0] * 9 + [0.0]) is None
    assert paired_spread([0.5] * 20) is None
    assert paired_spread([0.0, 1.0] * 10, clusters=["a"] * 20) is None


def test_the_spread_of_clustered_pairs_is_inflated() -> None:
    differences = [float(place // 5 % 2) for place in range(40)]  # clusters of five equal ones
    clustered = paired_spread(differences, clusters=[f"page {place // 5}" for place in range(40)])
    alone = paired_spread(differences)
    assert clustered is not None and alone is not None and clustered.df is not None
    assert clustered.variance / alone.variance == pytest.approx(design_effect([5] * 8, 1.0), rel=0.15)
    assert (clustered.df, clustered.pairs) == (pytest.approx(7.0), 40)
    assert paired_spread(differences, clusters=[place // 20 for place in range(40)]) is not None


def test_false_failure_rate_of_a_point_gate_on_a_share() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    assert false_failure_rate_of_share(0.82, 100, 0.8) == pytest.approx(0.25, abs=0.005)
    assert false_failure_rate_of_share(0.82, 500, 0.8) == pytest.approx(0.11, abs=0.005)
    assert false_failure_rate_of_share(0.82, 100, 0.8, strict=True) == pytest.approx(float(binom.cdf(80, 100, 0.82)))
    assert false_failure_rate_of_share(0.1, 50, 0.2, lower=False) == pytest.approx(float(binom.sf(10, 50, 0.1)))
    assert false_failure_rate_of_share(0.1, 50, 0.2, lower=False, strict=True) == pytest.approx(
        float(binom.sf(9, 50, 0.1))
    )
    assert false_failure_rate_of_share(0.82, 7, 0.8) == pytest.approx(float(binom.cdf(5, 7, 0.82)))
    assert false_failure_rate_of_share(0.82, 7, 0.8, strict=True) == pytest.approx(float(binom.cdf(5, 7, 0.82)))
    assert false_failure_rate_of_share(0.1, 7, 0.2, lower=False) == pytest.approx(float(binom.sf(1, 7, 0.1)))
    assert false_failure_rate_of_share(0.1, 7, 0.2, lower=False, strict=True) == pytest.approx(
        float(binom.sf(1, 7, 0.1))
    )


def test_a_bound_that_is_a_whole_count_but_for_rounding_is_that_count() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    assert 0.29 * 100 < 29 < 0.57 * 100 + 1 and 0.57 * 100 < 57
    assert false_failure_rate_of_share(0.3, 100, 0.29) == pytest.approx(float(binom.cdf(28, 100, 0.3)))
    assert false_failure_rate_of_share(0.5, 100, 0.57, lower=False) == pytest.approx(float(binom.sf(57, 100, 0.5)))


def test_false_failure_rate_of_a_point_gate_on_a_mean() -> None:
    assert false_failure_rate_of_mean(0.5, 0.1, 0.5, df=40) == pytest.approx(0.5)
    assert false_failure_rate_of_mean(0.7, 0.1, 0.5, df=40) == pytest.approx(0.026, abs=0.001)
    assert false_failure_rate_of_mean(0.7, 0.1, 0.5, df=40, lower=False) == pytest.approx(0.974, abs=0.001)
    assert (false_failure_rate_of_mean(0.7, 0.0, 0.5, df=40), false_failure_rate_of_mean(0.4, 0.0, 0.5, df=40)) == (
        0.0,
        1.0,
    )
    assert [false_failure_rate_of_mean(mean, 0.0, 0.5, df=40) for mean in (0.49, 0.5, 0.51)] == [1.0, 0.0, 0.0]
    assert [false_failure_rate_of_mean(mean, 0.0, 0.5, df=40, lower=False) for mean in (0.49, 0.5, 0.51)] == [
        0.0, 0.0, 1.0,
    ]  # fmt: skip
