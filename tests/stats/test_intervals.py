"""Wilson's interval: known values, and the coverage that tells it from its usual wrong neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from evalrun.stats.intervals import wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (5, 10), (10, 10), (81, 100), (1, 1000), (4999, 5000)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    other = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == (pytest.approx(other.low, abs=1e-12), pytest.approx(other.high, abs=1e-12))


def test_wilson_worked_by_hand() -> None:
    low, high = wilson(8, 10, level=0.95)  # (0.8 + 0.19207 ± 1.96·√(0.016 + 0.0096)) / 1.38415
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_nothing_observed_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def wald(successes: float, n: int) -> tuple[float, float]:
    share = successes / n
    half = 1.959963984540054 * math.sqrt(share * (1 - share) / n)
    return share - half, share + half


def coverages(interval: Callable[[float, int], tuple[float, float]], n: int) -> list[float]:
    """Exact coverage at p = .500 … .980 in steps of .004."""
    ends = [interval(k, n) for k in range(n + 1)]
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    found = []
    for step in range(0, 481, 4):
        p = 0.5 + step / 1000
        chances = [math.exp(logs[k] + k * math.log(p) + (n - k) * math.log1p(-p)) for k in range(n + 1)]
        found.append(sum(chance for chance, (low, high) in zip(chances, ends, strict=True) if low <= p <= high))
    return found


@pytest.mark.parametrize(("n", "least", "most"), [(20, 0.895, 0.985), (50, 0.92, 0.985), (200, 0.93, 0.97)])
def test_wilson_covers_as_it_should_and_wald_does_not(n: int, least: float, most: float) -> None:
    found = coverages(wilson, n)
    assert 0.945 <= sum(found) / len(found) <= 0.96
    assert min(found) >= least
    assert max(found) <= most
    assert min(coverages(wald, n)) < least
