"""Statistical power: smallest detectable drops and false failure rates."""

from __future__ import annotations

import math
import random

import pytest

from evalrunner.stats.power import (
    design_effect,
    false_failure_rate_of_mean,
    false_failure_rate_of_share,
    smallest_drop,
    variance_at_epochs,
)


def test_the_smallest_detectable_drop_matches_the_formula() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    quantiles = scipy_stats.t.ppf(0.95, 199) + scipy_stats.t.ppf(0.8, 199)
    assert smallest_drop(n=200, variance=0.09, deff=1.5) == pytest.approx(quantiles * math.sqrt(0.09 * 1.5 / 200))
    assert smallest_drop(n=1, variance=0.09) == math.inf


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


def test_false_failure_rate_of_a_point_gate_on_a_mean() -> None:
    assert false_failure_rate_of_mean(0.5, 0.1, 0.5, df=40) == pytest.approx(0.5)
    assert false_failure_rate_of_mean(0.7, 0.1, 0.5, df=40) == pytest.approx(0.026, abs=0.001)
    assert false_failure_rate_of_mean(0.7, 0.1, 0.5, df=40, lower=False) == pytest.approx(0.974, abs=0.001)
    assert (false_failure_rate_of_mean(0.7, 0.0, 0.5, df=40), false_failure_rate_of_mean(0.4, 0.0, 0.5, df=40)) == (
        0.0,
        1.0,
    )
