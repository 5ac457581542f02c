"""Quantiles and tails compared with scipy's, to nine digits."""

from __future__ import annotations

import math

import pytest

from evalrunner.stats.distributions import (
    beta_cdf,
    beta_quantile,
    binomial_cdf,
    normal_quantile,
    quantile,
    share_at_or_above,
    t_quantile,
    t_tail,
    variance,
)

scipy_stats = pytest.importorskip("scipy.stats")
TAILS = (0.001, 0.025, 0.05, 0.3, 0.5, 0.8, 0.95, 0.975, 0.9995)


@pytest.mark.parametrize("df", [1, 1.5, 2, 3, 4.7, 9, 29, 99.5, 500, 999, 1000, 5000, 1e5, 1e7])
def test_student_t_matches_scipy(df: float) -> None:
    for p in TAILS:
        expected = float(scipy_stats.t.ppf(p, df))
        assert t_quantile(p, df) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert t_tail(expected, df) == pytest.approx(1 - p, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b"), [(1, 20), (5, 5), (0.5, 0.5), (0.3, 7), (99, 2), (500, 501), (20_000, 30_000), (1, 1e5), (99_999, 2)]
)
def test_beta_quantiles_match_scipy(a: float, b: float) -> None:
    for p in TAILS:
        expected = float(scipy_stats.beta.ppf(p, a, b))
        assert beta_quantile(p, a, b) == pytest.approx(expected, abs=1e-9)
        assert beta_cdf(expected, a, b) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("n", [1, 5, 20, 361, 5000, 100_000])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_binomial_tails_match_scipy(n: int, share: float) -> None:
    for k in {-1, 0, n // 2, int(n * share), n - 1, n}:
        assert binomial_cdf(k, n, share) == pytest.approx(float(scipy_stats.binom.cdf(k, n, share)), abs=1e-9)


def test_the_ends_of_a_range_are_exact() -> None:
    assert (normal_quantile(0), normal_quantile(1)) == (-float("inf"), float("inf"))
    assert (beta_quantile(0, 2, 3), beta_quantile(1, 2, 3)) == (0.0, 1.0)
    assert (beta_cdf(-1, 2, 3), beta_cdf(2, 2, 3)) == (0.0, 1.0)
    assert t_quantile(0.5, 3) == 0.0


def test_small_samples_have_their_known_variance_and_quantiles() -> None:
    assert variance([2.0]) == 0.0
    assert variance([1.0, 3.0, 8.0]) == pytest.approx((9 + 1 + 16) / 3)
    assert [quantile([5.0], share) for share in (0.0, 0.5, 1.0)] == [5.0] * 3
    assert [quantile([1.0, 2.0, 4.0], share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert quantile([1.0, 2.0, 2.0, 9.0], 0.5) == 2.0
    assert quantile([-1.0, 3.0], 0.9) == pytest.approx(2.6)
    assert math.isinf(quantile([1.0, 2.0, math.inf], 1.0))
    assert quantile([-math.inf, -math.inf, 1.0], 0.4) == -math.inf  # not NaN between two infinite ones


def test_a_value_at_the_threshold_counts_as_above_it() -> None:
    assert [share_at_or_above([0.1, 0.5, 0.9], threshold) for threshold in (0.0, 0.1, 0.5, 0.9, 1.0)] == [
        1.0, 1.0, pytest.approx(2 / 3), pytest.approx(1 / 3), 0.0,
    ]  # fmt: skip


def test_probabilities_outside_of_their_range_are_those_at_its_ends() -> None:
    assert (normal_quantile(-0.5), normal_quantile(1.5)) == (-math.inf, math.inf)
    assert (beta_quantile(-0.5, 2, 3), beta_quantile(1.5, 2, 3)) == (0.0, 1.0)
    assert (beta_cdf(0.0, 2, 3), beta_cdf(1.0, 2, 3)) == (0.0, 1.0)
    assert (binomial_cdf(-1, 5, 0.5), binomial_cdf(5, 5, 0.5), binomial_cdf(9, 5, 0.5)) == (0.0, 1.0, 1.0)
    assert (binomial_cdf(2, 5, 0.0), binomial_cdf(2, 5, 1.0)) == (1.0, 0.0)


@pytest.mark.parametrize("df", [1, 2, 7.5, 30, 999.5, 1000, 1200, 3000])
@pytest.mark.parametrize("tail", [1e-9, 1e-6, 1e-4])
def test_far_quantiles_of_student_t_match_scipy(df: float, tail: float) -> None:
    expected = float(scipy_stats.t.isf(tail, df))
    assert t_quantile(1 - tail, df) == pytest.approx(float(scipy_stats.t.ppf(1 - tail, df)), rel=1e-7)
    assert t_tail(expected, df) == pytest.approx(tail, rel=1e-9)
    assert t_tail(-expected, df) == pytest.approx(1 - tail, rel=1e-12)
    assert t_quantile(tail, df) == pytest.approx(-expected, rel=1e-7)


@pytest.mark.parametrize(
    ("a", "b"), [(0.5, 0.5), (2, 3), (30, 70), (99, 1), (100, 1), (1, 100), (101, 250), (5e4, 3e5)]
)
def test_the_beta_distribution_matches_scipy_to_ten_digits(a: float, b: float) -> None:
    for p in (1e-6, 0.01, 0.3, 0.5, 0.9, 0.999):
        x = float(scipy_stats.beta.ppf(p, a, b))
        assert beta_cdf(x, a, b) == pytest.approx(float(scipy_stats.beta.cdf(x, a, b)), rel=1e-10)
        assert beta_quantile(p, a, b) == pytest.approx(x, rel=1e-10)


def test_small_binomial_tails_keep_their_digits() -> None:
    for k, n, share in ((0, 50, 0.3), (2, 100, 0.2), (5, 1000, 0.05), (900, 1000, 0.99)):
        assert binomial_cdf(k, n, share) == pytest.approx(float(scipy_stats.binom.cdf(k, n, share)), rel=1e-10)
