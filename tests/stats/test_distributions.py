"""Quantiles and tails compared with scipy's, to nine digits."""

from __future__ import annotations

import pytest

from evalrunner.stats.distributions import beta_cdf, beta_quantile, binomial_cdf, normal_quantile, t_quantile, t_tail

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
