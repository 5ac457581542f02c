"""Variance and quantiles of data; quantiles and tails of Student's t, the beta, the binomial and the trinomial.

Written here because importing scipy for them takes over a second. Sums are correctly rounded, so the order of the rows
changes no bit of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

NORMAL = NormalDist()
MAX_SCORE = 1e60  # of either sign: sums of fourth powers of many scores are still floats
LARGE_DF = 1000.0  # from here the expansion of the t quantile alone is exact to 1e-12
_TINY = 1e-300  # keeps Lentz's method off a division by zero
_PRECISE = 1e-16


def variance(values: Sequence[float]) -> float:
    """Population variance (ddof 0), as in MLflow's `/variance`."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


def share_at_or_above(values: Sequence[float], threshold: float) -> float:
    """Share of values at or above the threshold, as in MLflow's `/ratio`."""
    return sum(1 for value in values if value >= threshold) / len(values)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linearly interpolated quantile of sorted values (Hyndman & Fan 1996, definition 7; numpy's default)."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    weight = position - below
    if weight == 0 or ordered[below] == ordered[above]:
        return ordered[below]
    return ordered[below] + (ordered[above] - ordered[below]) * weight


def normal_quantile(p: float) -> float:
    """The standard normal quantile; infinite at 0 and 1."""
    if p <= 0 or p >= 1:
        return -math.inf if p <= 0 else math.inf
    return NORMAL.inv_cdf(p)


@lru_cache(maxsize=1024)  # a run uses the same few, once per metric and slice
def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t with `df` > 0 degrees of freedom, not necessarily an integer."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)
    start = _t_expansion(normal_quantile(p), df)
    if df >= LARGE_DF:
        return start
    tail = 1 - p
    high = 1.0
    while t_tail(high, df) > tail:
        high *= 2
    return _root(lambda t: tail - t_tail(t, df), lambda t: _t_density(t, df), (0.0, high), min(start, high))


def t_tail(t: float, df: float) -> float:
    """P(T > t) for Student's t (Abramowitz & Stegun 26.7.1 by way of 26.5.27)."""
    if t < 0:
        return 1 - t_tail(-t, df)
    square = t * t
    return 0.5 * _beta_share(df / (df + square), square / (df + square), df / 2, 0.5)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    return 1.0 if x >= 1 else _beta_share(x, 1 - x, a, b)


def beta_quantile(p: float, a: float, b: float) -> float:
    """Quantile of the beta distribution, in 0..1."""
    if p <= 0 or p >= 1:
        return 0.0 if p <= 0 else 1.0
    return _root(lambda x: beta_cdf(x, a, b) - p, lambda x: _beta_density(x, a, b), (0.0, 1.0), a / (a + b))


def binomial_cdf(k: int, n: int, share: float) -> float:
    """P(X <= k) of n yes/no outcomes (Abramowitz & Stegun 26.5.24)."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else beta_cdf(1 - share, n - k, k + 1)


def difference_tail(least: float, n: float, up: float, down: float) -> float:
    """P(B − C >= least) for n outcomes that count into B with probability `up` and into C with `down`.

    Exact for `down` = 0. Else the saddlepoint approximation for whole numbers (Daniels 1987, eq. 3.3 with 4.3), off by
    less than 0.3% of the probability; within a tenth of an error of the mean, the normal one with its correction.
    """
    if least > n or least <= -n:
        return float(least <= n)
    if down <= 0:
        return 1 - binomial_cdf(round(least) - 1, round(n), up)
    rest, share = max(0.0, 1 - up - down), least / n
    if share >= 1:
        return float(up**n)
    growth = share * rest + math.sqrt((share * rest) ** 2 + 4 * up * down * (1 - share * share))
    odds = growth / (2 * up * (1 - share))
    whole = rest + up * odds + down / odds
    root = math.sqrt(max(0.0, 2 * (least * math.log(odds) - n * math.log(whole))))
    if root < 0.1:
        error = math.sqrt(n * (up + down - (up - down) ** 2))
        return NORMAL.cdf((n * (up - down) - least + 0.5) / error)
    root = math.copysign(root, odds - 1)
    spread = math.sqrt(n * ((up * odds + down / odds) / whole - share * share))
    tail = NORMAL.cdf(-root) + NORMAL.pdf(root) * (1 / ((1 - 1 / odds) * spread) - 1 / root)
    return min(1.0, max(0.0, tail))


def _t_expansion(z: float, df: float) -> float:
    """The t quantile from the normal one (Abramowitz & Stegun 26.7.5)."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / df**power for power, term in enumerate(terms, 1))


def _t_density(t: float, df: float) -> float:
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return math.exp(scale - (df + 1) / 2 * math.log1p(t * t / df))


def _beta_density(x: float, a: float, b: float) -> float:
    if x <= 0 or x >= 1:
        return 0.0
    return math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - _log_beta(a, b))


def _log_beta(a: float, b: float) -> float:
    """The logarithm of B(a, b): of a large argument by Stirling's series, where the difference of two lgammas would lose digits."""
    small, large = min(a, b), max(a, b)
    if large < 100:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    both = small + large
    ratio = (large - 0.5) * math.log1p(small / large) + small * math.log(both) - small
    return math.lgamma(small) - ratio + _stirling_rest(large) - _stirling_rest(both)


def _stirling_rest(x: float) -> float:
    """The remainder of Stirling's formula for lgamma(x), to 1e-17 from 100 on (Abramowitz & Stegun 6.1.41)."""
    return 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)


def _beta_share(x: float, rest: float, a: float, b: float) -> float:
    """I_x(a, b) with `rest` = 1 − x as a parameter, as the caller may know it more exactly."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    factor = math.exp(a * math.log(x) + b * math.log(rest) - _log_beta(a, b))
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast; else by symmetry
        return factor * _beta_fraction(x, a, b) / a
    return 1 - factor * _beta_fraction(rest, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b) (DLMF 8.17.22), by the modified Lentz method (Thompson & Barnett 1986)."""
    numerator, denominator = 1.0, 1 - (a + b) * x / (a + 1)
    denominator = 1 / (denominator if abs(denominator) > _TINY else _TINY)
    result = denominator
    for m in range(1, 20_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            denominator = 1 + term * denominator
            denominator = 1 / (denominator if abs(denominator) > _TINY else _TINY)
            numerator = 1 + term / numerator
            numerator = numerator if abs(numerator) > _TINY else _TINY
            result *= denominator * numerator
        if abs(denominator * numerator - 1) < 1e-15:
            break
    return result


def _root(
    rising: Callable[[float], float], slope: Callable[[float], float], ends: tuple[float, float], start: float
) -> float:
    """The zero of an increasing function between `ends`: Newton's method, bisecting where a step would leave them."""
    low, high = ends
    x = start if low < start < high else (low + high) / 2
    for _ in range(200):
        value = rising(x)
        if value == 0:
            return x
        low, high = (x, high) if value < 0 else (low, x)
        steep = slope(x)
        step = x - value / steep if steep > 0 else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - x) <= _PRECISE * abs(following) or high - low <= _PRECISE * high:
            return following
        x = following
    return x
