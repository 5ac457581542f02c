"""Intervals for metrics: each a few lines with its source, and the one choice of which belongs to what.

Every interval is two-sided at a level; one end of it at level 2c − 1 is a one-sided bound at confidence c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from evalrunner.stats.aggregates import QUANTILE, aggregate, share_at_or_above, variance
from evalrunner.stats.clusters import MIN_CLUSTERS, ClusteredError, mean_error, too_few, variance_error
from evalrunner.stats.distributions import beta_quantile, binomial_cdf, normal_quantile, t_quantile
from evalrunner.stats.resampling import MAX_RESAMPLED_ROWS, bca

LEVEL: Final = 0.95  # two-sided, for display
MIN_ROWS_FOR_T: Final = 30  # rows from which the t interval of an unbounded mean is used; below, BCa
TOO_FEW_VALUES: Final = "from so few values"  # ends the note of an interval that is open
ROUNDING: Final = 1e-12  # an error below this share of the range is rounding: the values do not vary


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimand:
    """What is estimated: an aggregate of values in low..high (None where open).

    `binary`: every value is 0 or 1 by construction. `threshold` is that of the aggregate `ratio`.
    """

    aggregate: str = "mean"
    binary: bool = False
    low: float | None = None
    high: float | None = None
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, an end None where nothing bounds it. Without a `method` there is none, and `note` says why.

    `n` counts the values, `n_effective` what they are worth as unrelated yes/no outcomes (or as unrelated values).
    """

    low: float | None
    high: float | None
    level: float
    method: str | None
    n: int
    n_effective: float | None = None
    note: str | None = None


def metric_interval(
    estimand: Estimand,
    values: Sequence[float],
    *,
    clusters: Sequence[int] | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The two-sided interval that belongs to an aggregate of `values`, one value a sample.

    `clusters` holds the cluster of each value. There is no interval for totals, from no values, and from fewer than
    five clusters.
    """
    n = len(values)
    if n == 0 or estimand.aggregate == "total":
        return Interval(None, None, level, None, n)
    if clusters is not None:
        return _clustered(estimand, values, clusters, level)
    if estimand.aggregate == "ratio":
        low, high = wilson(round(share_at_or_above(values, estimand.threshold) * n), n, level=level)
        return Interval(low, high, level, "wilson", n, float(n))
    if estimand.aggregate == "variance":
        return _of_variance(values, level, seed)
    if QUANTILE.fullmatch(estimand.aggregate):
        return _of_quantile(estimand, values, n, level, "order-statistics")
    if estimand.binary:
        low, high = wilson(math.fsum(values), n, level=level)
        return Interval(low, high, level, "wilson", n, float(n))
    return _of_mean(estimand, values, level, seed)


def gate_bounds(
    estimand: Estimand,
    values: Sequence[float],
    *,
    confidence: float,
    clusters: Sequence[int] | None = None,
    seed: int = 0,
) -> Interval:
    """The one-sided lower and upper bounds of an aggregate, each at `confidence`, as `low` and `high`.

    Exact (Clopper-Pearson) for shares of unclustered samples, so that at most 1 − confidence of the runs of a model
    that sits at the bound pass; Wilson's bound lets 7.8 % through for 5 at 20 rows.
    """
    level = round(2 * confidence - 1, 12)  # .9 for .95, without the last bit's noise
    share = estimand.aggregate == "ratio" or (estimand.aggregate == "mean" and estimand.binary)
    if clusters is None and share and values:
        n = len(values)
        from_ = (
            share_at_or_above(values, estimand.threshold) * n if estimand.aggregate == "ratio" else math.fsum(values)
        )
        low, high = clopper_pearson(round(from_), n, confidence=confidence)
        return Interval(low, high, level, "clopper-pearson", n, float(n))
    return metric_interval(estimand, values, clusters=clusters, level=level, seed=seed)


def wilson(successes: float, n: float, *, level: float = LEVEL, df: float | None = None) -> tuple[float, float]:
    """Interval for a share of n yes/no outcomes (Wilson 1927, eq. 7). Shares in 0..1; (0, 1) where n is 0.

    With `df` the normal quantile gives way to Student's, for an n that was itself estimated.
    """
    if n <= 0:
        return 0.0, 1.0
    tail = 0.5 + level / 2
    z = normal_quantile(tail) if df is None else t_quantile(tail, df)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(max(0.0, share * (1 - share)) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - half) / scale  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else (centre + half) / scale
    return max(0.0, low), min(1.0, high)


def clopper_pearson(successes: int, n: int, *, confidence: float) -> tuple[float, float]:
    """The exact one-sided bounds of a share, each at `confidence` (Clopper & Pearson 1934). (0, 1) where n is 0."""
    low = beta_quantile(1 - confidence, successes, n - successes + 1) if successes > 0 else 0.0
    high = beta_quantile(confidence, successes + 1, n - successes) if successes < n else 1.0
    return low, high


def quantile_ranks(n: int, share: float, *, level: float = LEVEL) -> tuple[int | None, int | None]:
    """The ranks (from 1) of the sorted values that bound a quantile (David & Nagaraja 2003, §7.1); None where none does."""
    tail = 0.5 - level / 2
    low, above = 0, n + 1  # the lower rank r has P(X <= r − 1) <= tail, the upper P(X >= r) <= tail
    while above - low > 1:
        middle = (low + above) // 2
        low, above = (middle, above) if binomial_cdf(middle - 1, n, share) <= tail else (low, middle)
    below, high = 0, n + 1
    while high - below > 1:
        middle = (below + high) // 2
        below, high = (below, middle) if 1 - binomial_cdf(middle - 1, n, share) <= tail else (middle, high)
    return low or None, high if high <= n else None


def _of_mean(estimand: Estimand, values: Sequence[float], level: float, seed: int) -> Interval:
    n = len(values)
    if n < 2:
        return Interval(None, None, level, None, n, note="no interval from a single value")
    mean = math.fsum(values) / n
    error = math.sqrt(variance(values) / (n - 1)) if min(values) < max(values) else 0.0
    if estimand.low is not None and estimand.high is not None:
        return _wilson_effective(estimand, mean, error, n, level=level, df=n - 1)
    if n < MIN_ROWS_FOR_T:
        low, high = bca(values, "mean", level=level, seed=seed) or (mean, mean)
        return _within(estimand, Interval(low, high, level, "bca", n, float(n), _unvaried(error)))
    return _t(estimand, mean, error, n, level=level, df=n - 1)


def _wilson_effective(
    estimand: Estimand, mean: float, error: float, n: int, *, level: float, df: float, method: str = "wilson-effective"
) -> Interval:
    """Wilson's interval with the number of yes/no outcomes whose share would have this standard error."""
    assert estimand.low is not None and estimand.high is not None  # the caller has seen to it
    width = estimand.high - estimand.low
    share = min(1.0, max(0.0, (mean - estimand.low) / width))
    varied = error > ROUNDING * width and 0 < share < 1
    effective = share * (1 - share) / (error / width) ** 2 if varied else float(n)
    low, high = wilson(share * effective, effective, level=level, df=df)
    return Interval(estimand.low + width * low, estimand.low + width * high, level, method, n, effective)


def _t(
    estimand: Estimand, mean: float, error: float, n: int, *, level: float, df: float, method: str = "t"
) -> Interval:
    """Student's interval (1908)."""
    half = t_quantile(0.5 + level / 2, df) * error
    return _within(estimand, Interval(mean - half, mean + half, level, method, n, float(n), _unvaried(error)))


def _of_variance(values: Sequence[float], level: float, seed: int) -> Interval:
    """BCa; above 5,000 values, where it would take long and the central limit holds, from the fourth moment.

    The error of a variance σ² is √((μ₄ − σ⁴)/n) (Cramér 1946, §27.4).
    """
    n, found = len(values), variance(values) if min(values) < max(values) else 0.0
    if n < 2:
        return Interval(None, None, level, None, n, note="no interval from a single value")
    if n <= MAX_RESAMPLED_ROWS:
        low, high = bca(values, "variance", level=level, seed=seed) or (found, found)
        return Interval(low, high, level, "bca", n, float(n), _unvaried(found))
    mean = math.fsum(values) / n
    fourth = math.fsum((value - mean) ** 4 for value in values) / n
    half = normal_quantile(0.5 + level / 2) * math.sqrt(max(0.0, fourth - found * found) / n)
    return Interval(max(0.0, found - half), found + half, level, "moments", n, float(n), _unvaried(found))


def _of_quantile(estimand: Estimand, values: Sequence[float], worth: float, level: float, method: str) -> Interval:
    """Order statistics; `worth` is what the values are worth as unrelated ones, the ranks being stretched to it."""
    n, share = len(values), int(estimand.aggregate[1:]) / 100
    counted = max(1, math.floor(worth))
    low, high = quantile_ranks(counted, share, level=level)
    if low is None and high is None:
        return Interval(None, None, level, None, n, note=f"no interval {TOO_FEW_VALUES}")
    ordered = sorted(values)
    lowest = None if low is None else ordered[max(1, math.floor(low * n / counted)) - 1]
    highest = None if high is None else ordered[min(n, math.ceil(high * n / counted)) - 1]
    ends = [name for name, end in (("lower", low), ("upper", high)) if end is None]
    note = f"no {ends[0]} end {TOO_FEW_VALUES}" if ends else None
    return Interval(lowest, highest, level, method, n, float(worth), note)


def _clustered(estimand: Estimand, values: Sequence[float], clusters: Sequence[int], level: float) -> Interval:
    n = len(values)
    count = len(set(clusters))
    if count < MIN_CLUSTERS:
        return Interval(None, None, level, None, n, note=too_few(count))
    if estimand.aggregate == "variance":
        spread = variance_error(values, clusters)
        found = _t(
            replace(estimand, low=0.0, high=None),
            variance(values),
            spread.error,
            n,
            level=level,
            df=spread.df,
            method="t-clustered",
        )
        return replace(found, note=spread.note or found.note)
    if QUANTILE.fullmatch(estimand.aggregate):
        return _clustered_quantile(estimand, values, clusters, level)
    if estimand.aggregate == "ratio":
        values = [float(value >= estimand.threshold) for value in values]
        estimand = replace(estimand, low=0.0, high=1.0)
    elif estimand.binary:
        estimand = replace(estimand, low=0.0, high=1.0)
    spread = mean_error(values, clusters)
    mean = math.fsum(values) / n
    bounded = estimand.low is not None and estimand.high is not None
    way, method = (_wilson_effective, "wilson-clustered") if bounded else (_t, "t-clustered")
    found = way(estimand, mean, spread.error, n, level=level, df=spread.df, method=method)
    return replace(found, note=spread.note or found.note)


def _clustered_quantile(estimand: Estimand, values: Sequence[float], clusters: Sequence[int], level: float) -> Interval:
    """Order statistics with the rows cut to what they are worth for the share below the quantile (after Woodruff 1952)."""
    n = len(values)
    at = aggregate(estimand.aggregate, values)
    assert at is not None  # there are values
    inside = [float(value <= at) for value in values]
    spread: ClusteredError = mean_error(inside, clusters)
    share = math.fsum(inside) / n
    worth = share * (1 - share) / spread.error**2 if spread.error > 0 and 0 < share < 1 else float(n)
    tail = 0.5 + level / 2
    worth = min(float(n), worth) * (normal_quantile(tail) / t_quantile(tail, spread.df)) ** 2
    found = _of_quantile(estimand, values, worth, level, "order-statistics-clustered")
    return replace(found, note=found.note or spread.note)


def _within(estimand: Estimand, interval: Interval) -> Interval:
    """The interval without what lies outside the range of the values."""
    low, high = interval.low, interval.high
    if estimand.low is not None and low is not None:
        low = max(low, estimand.low)
    if estimand.high is not None and high is not None:
        high = min(high, estimand.high)
    return replace(interval, low=low, high=high)


def _unvaried(spread: float) -> str | None:
    return "all values are equal: the interval cannot tell what was not seen" if spread == 0 else None
