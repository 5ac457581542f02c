"""Confidence intervals: each a few lines with its source. Which one belongs to an aggregate is decided in `aggregates`.

Every interval is two-sided at a level; one end of it at level 2c − 1 is a one-sided bound at confidence c. `one_sided`
asks for the bounds of a gate, which are more cautious: each end alone then errs in at most the share 1 − c of runs.
Where no method covers 93 to 98% (docs/statistics.md), there is no interval, and a note says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from evalrunner.domain import TOO_FEW_VALUES
from evalrunner.stats.distributions import (
    beta_quantile,
    binomial_cdf,
    normal_quantile,
    quantile,
    t_quantile,
    variance,
)

LEVEL: Final = 0.95  # two-sided, for display
ROUNDING: Final = 1e-12  # an error below this share of the range is rounding: the values do not vary

MIN_GRADED_VALUES: Final = 20  # values in a bounded range from which their mean has an interval
MIN_OPEN_VALUES: Final = 30  # the same for an open range; of clusters where values are clustered
MIN_VARIANCE_VALUES: Final = 200  # values in a bounded range from which their variance has an interval
SKEWNESS_FACTOR: Final = (
    1.75  # samples understate the skewness of long tails: lognormal values need it, normal ones bear it
)

MIN_CLUSTERS: Final = 10  # below, no interval: those of five to nine clusters cover 90 to 100%
FEW_CLUSTERS: Final = 20  # below, a warning beside the interval

ALL_EQUAL: Final = "no interval: all values are equal, and nothing bounds those that were not observed"


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, an end None where nothing bounds it. Without a `method` there is none, and `note` says why.

    `n` counts the values, `n_effective` what they are worth as unrelated yes/no outcomes (or as unrelated values); None
    for a variance.
    """

    low: float | None
    high: float | None
    level: float
    method: str | None
    n: int
    n_effective: float | None = None
    note: str | None = None


def no_interval(n: int, level: float, note: str | None = None) -> Interval:
    """No interval of n values, and why."""
    return Interval(None, None, level, None, n, note=note)


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


def inner_ranks(n: int, share: float, *, level: float = LEVEL) -> tuple[int | None, int | None]:
    """The same ranks moved inwards while both tails together leave `level`: with few values equal tails cover too much."""
    low, high = quantile_ranks(n, share, level=level)
    while low is not None and high is not None and high - low > 1:
        below, above = binomial_cdf(low - 1, n, share), 1 - binomial_cdf(high - 1, n, share)
        next_below, next_above = binomial_cdf(low, n, share), 1 - binomial_cdf(high - 2, n, share)
        if min(next_below + above, below + next_above) > 1 - level:
            break
        low, high = (low + 1, high) if next_below + above <= below + next_above else (low, high - 1)
    return low, high


def mean_interval(
    values: Sequence[float], *, low: float | None, high: float | None, level: float, one_sided: bool = False
) -> Interval:
    """Interval for the mean of values in low..high, an end None where the range is open.

    Wilson's with an effective sample size in a bounded range; else Student's t corrected for skewness. None for fewer
    than 20 values, or 30 in an open range, and for equal values in an open range.
    """
    n = len(values)
    if low is None or high is None:
        if n < MIN_OPEN_VALUES:
            return no_interval(n, level, _too_few_of_open_range(n, "value"))
        if min(values) == max(values):
            return no_interval(n, level, ALL_EQUAL)
        mean = math.fsum(values) / n
        error = math.sqrt(variance(values) / (n - 1))
        skewness = math.fsum((value - mean) ** 3 for value in values) / (variance(values) * n) ** 1.5
        ends = skewed_t(mean, error, skewness, level=level, df=n - 1)
        return _clipped(Interval(*ends, level, "t-skewness", n, float(n)), low, high)
    if n < MIN_GRADED_VALUES:
        return no_interval(n, level, _too_few(n, "value", MIN_GRADED_VALUES))
    weight = 1.0 if one_sided else 0.5 * min(1.0, (n / 60) ** 1.2)
    share = (math.fsum(values) / n - low) / (high - low)
    error = _padded_error(values, share, high - low, weight) if min(values) < max(values) else 0.0
    return _wilson_effective((low, high), share, error, n, level=level, df=n - 1)


def variance_interval(
    values: Sequence[float], *, low: float | None, high: float | None, level: float, one_sided: bool = False
) -> Interval:
    """Interval for the population variance of at least 200 values in low..high; none for an open range.

    As that of a mean: of the squared deviations, in a range from 0 to the largest variance, (high − low)²/4.
    """
    n = len(values)
    if low is None or high is None:
        return no_interval(n, level, "no interval: the variance of an open range has none")
    if n < MIN_VARIANCE_VALUES:
        return no_interval(n, level, _too_few(n, "value", MIN_VARIANCE_VALUES))
    mean, most = math.fsum(values) / n, (high - low) ** 2 / 4
    squares = [(value - mean) ** 2 for value in values]
    share = min(1.0, math.fsum(squares) / (n - 1) / most)
    error = _padded_error(squares, share, most, 1.0 if one_sided else 0.5) if share > ROUNDING else 0.0
    result = _wilson_effective((0.0, most), share, error, n, level=level, df=n - 1)
    return replace(result, n_effective=None)


def skewed_t(mean: float, error: float, skewness: float, *, level: float, df: float) -> tuple[float, float]:
    """Student's interval (1908), widened at each end to that of Hall's transformation for skewed values (1992, eq. 2.2).

    `skewness` is that of the mean: of the values divided by √n.
    """
    t, skew = t_quantile(0.5 + level / 2, df), SKEWNESS_FACTOR * skewness
    return mean - error * max(t, _unskewed(t, skew)), mean + error * max(t, -_unskewed(-t, skew))


def _unskewed(score: float, skew: float) -> float:
    """The inverse of Hall's cubic transformation: the quantile of a skewed studentized mean."""
    change = skew * (score - skew / 6)
    if skew == 0:
        return score
    root = math.expm1(math.log1p(change) / 3) if abs(change) < 0.5 else math.cbrt(1 + change) - 1
    return 3 / skew * root


def _padded_error(values: Sequence[float], share: float, width: float, weight: float) -> float:
    """The standard error of a mean in units of the range, with a pseudo-value of `weight` at each end of it.

    They stand for rare values that few rows do not show. The mean itself stays as it is.
    """
    n = len(values)
    squares = variance(values) * n / width**2 + weight * (share**2 + (1 - share) ** 2)
    return math.sqrt(squares / (n - 1 + 2 * weight) / n)


def quantile_interval(
    values: Sequence[float],
    share: float,
    *,
    level: float,
    one_sided: bool = False,
    n_effective: float | None = None,
    method: str = "order-statistics",
) -> Interval:
    """Order statistics for a quantile. With `n_effective` the ranks are stretched to that number of unrelated values."""
    n = len(values)
    effective = float(n) if n_effective is None else n_effective
    counted = max(1, math.floor(effective))
    low, high = (quantile_ranks if one_sided else inner_ranks)(counted, share, level=level)
    if low is None and high is None:
        return no_interval(n, level, f"no interval {TOO_FEW_VALUES}")
    ordered = sorted(values)
    lowest = None if low is None else ordered[max(1, math.floor(low * n / counted)) - 1]
    highest = None if high is None else ordered[min(n, math.ceil(high * n / counted)) - 1]
    ends = [name for name, end in (("lower", low), ("upper", high)) if end is None]
    note = f"no {ends[0]} end {TOO_FEW_VALUES}" if ends else None
    return Interval(lowest, highest, level, method, n, float(effective), note)


def clustered_mean_interval(
    values: Sequence[float],
    clusters: Sequence[int],
    *,
    low: float | None,
    high: float | None,
    level: float,
    binary: bool = False,
    one_sided: bool = False,
) -> Interval:
    """Interval for the mean of clustered values: as `mean_interval`, with the error over clusters.

    `binary`: the values are 0 or 1. Equal values count as one for each cluster.
    """
    n, spread = len(values), mean_error(values, clusters)
    mean, df = math.fsum(values) / n, spread.limited_df(one_sided=one_sided)
    error = spread.cautious_error if one_sided else spread.balanced_error
    if low is None or high is None:
        if spread.count < MIN_OPEN_VALUES:
            return no_interval(n, level, _too_few_of_open_range(spread.count, "cluster"))
        if not spread.varies:
            return no_interval(n, level, ALL_EQUAL)
        ends = skewed_t(mean, error, spread.skewness, level=level, df=df)
        result = _clipped(Interval(*ends, level, "t-skewness-clustered", n, spread.effective), low, high)
        return replace(result, note=spread.note)
    width = high - low
    share, weight = (mean - low) / width, 0.0 if binary else 1.0 if one_sided else 0.5
    padding = weight * (share**2 + (1 - share) ** 2) / n**2
    error = math.sqrt((error / width) ** 2 + padding) if error > ROUNDING * width else 0.0
    constant = min(float(n), spread.effective)
    result = _wilson_effective(
        (low, high), share, error, n, level=level, df=df, constant=constant, method="wilson-clustered"
    )
    return replace(result, note=spread.note)


def clustered_quantile_interval(
    values: Sequence[float], clusters: Sequence[int], share: float, *, level: float, one_sided: bool = False
) -> Interval:
    """Order statistics of the effective number of rows for the share below the quantile (after Woodruff 1952)."""
    n = len(values)
    at = quantile(sorted(values), share)
    inside = [float(value <= at) for value in values]
    spread = mean_error(inside, clusters)
    below, error = math.fsum(inside) / n, spread.cautious_error
    effective = below * (1 - below) / error**2 if spread.varies and 0 < below < 1 else spread.effective
    tail = 0.5 + level / 2
    df = spread.limited_df(one_sided=one_sided)
    effective = min(float(n), effective) * (normal_quantile(tail) / t_quantile(tail, df)) ** 2
    result = quantile_interval(
        values, share, level=level, one_sided=one_sided, n_effective=effective, method="order-statistics-clustered"
    )
    return replace(result, note=result.note or spread.note)


def _wilson_effective(
    ends: tuple[float, float], share: float, error: float, n: int, *, level: float, df: float,
    constant: float | None = None, method: str = "wilson-effective",
) -> Interval:  # fmt: skip
    """Wilson's interval with the number of yes/no outcomes whose share would have this standard error.

    `share` and `error` are in units of the range; where nothing varies, that number is `constant`, or n.
    """
    width = ends[1] - ends[0]
    share = min(1.0, max(0.0, share))
    varies = error > ROUNDING and 0 < share < 1
    effective = share * (1 - share) / error**2 if varies else float(n) if constant is None else constant
    low, high = wilson(share * effective, effective, level=level, df=df)
    return Interval(ends[0] + width * low, ends[0] + width * high, level, method, n, effective)


def _clipped(interval: Interval, lowest: float | None, highest: float | None) -> Interval:
    """The part of the interval inside the range of the values."""
    low, high = interval.low, interval.high
    if lowest is not None and low is not None:
        low = max(low, lowest)
    if highest is not None and high is not None:
        high = min(high, highest)
    return replace(interval, low=low, high=high)


def _too_few(count: int, noun: str, least: int) -> str:
    return f"no interval: {count} {noun if count == 1 else f'{noun}s'}, at least {least} are needed"


def _too_few_of_open_range(count: int, noun: str) -> str:
    least = MIN_GRADED_VALUES if noun == "value" else MIN_CLUSTERS
    return f"{_too_few(count, noun, MIN_OPEN_VALUES)} ({least} if the scorer declares low and high)"


@dataclass(frozen=True)
class ClusteredError:
    """The standard error of a mean of clustered values, from the shift of the mean that each cluster causes.

    `shifts` are those of the delete-one-cluster jackknife, scaled so that the sum of their squares is the squared error;
    `sizes` counts the values of each cluster, `within` is the sum of their squared deviations from the cluster's mean,
    and `spread` the variance of all values.
    """

    shifts: tuple[float, ...]
    sizes: tuple[int, ...]
    within: float
    spread: float

    @property
    def count(self) -> int:
        """The number of clusters."""
        return len(self.sizes)

    @cached_property
    def effective(self) -> float:
        """n²/Σm²: the number of clusters if sizes were equal."""
        return sum(self.sizes) ** 2 / math.fsum(size * size for size in self.sizes)

    @property
    def df(self) -> float:
        """Degrees of freedom of the error: never below 1."""
        return max(1.0, self.effective - 1)

    @cached_property
    def error(self) -> float:
        """The jackknife's standard error; infinite for a single cluster."""
        return math.sqrt(math.fsum(shift * shift for shift in self.shifts)) if self.count > 1 else math.inf

    @property
    def varies(self) -> bool:
        """Whether the clusters differ by more than rounding."""
        return self.spread > 0 and self.error > ROUNDING * math.sqrt(self.spread)

    @cached_property
    def skewness(self) -> float:
        """The skewness of the mean. Without a large cluster the mean is smaller: shifts have the other sign."""
        return -math.fsum(shift**3 for shift in self.shifts) / self.error**3 if self.varies else 0.0

    @cached_property
    def contributing(self) -> float:
        """The number of clusters that the error comes from, from 1 to all: (Σu²)²/Σu⁴ of the shifts u.

        If nine of ten clusters are all right, the error is known as badly as from one cluster.
        """
        return self.error**4 / math.fsum(shift**4 for shift in self.shifts) if self.varies else float(self.count)

    def limited_df(self, *, one_sided: bool) -> float:
        """Degrees of freedom, limited by the clusters that contribute."""
        if not self.varies:
            return self.df
        limit = self.contributing if one_sided else 1.25 * self.contributing**1.5
        return min(self.df, max(1.0, limit))

    @property
    def balanced_error(self) -> float:
        """The larger of the jackknife's error and that of the intra-class correlation, for clusters of unequal sizes."""
        return max(self.error, self._model_error(self._correlation()))

    @property
    def cautious_error(self) -> float:
        """The same, and at least the error of unrelated values."""
        return max(self.error, self._model_error(max(0.0, self._correlation())))

    def _model_error(self, correlation: float) -> float:
        """The error of values of which any two in a cluster have this correlation (Kish 1965, §8.2)."""
        n = sum(self.sizes)
        inflation = 1 + (n / self.effective - 1) * correlation
        return math.sqrt(max(0.0, self.spread * inflation / n))

    def _correlation(self) -> float:
        """The intra-class correlation by the analysis of variance, at most 1 (Donner 1986, §2)."""
        n, count = sum(self.sizes), self.count
        if count < 2 or n == count:
            return 0.0
        between = max(0.0, self.spread * n - self.within) / (count - 1)
        inside = self.within / (n - count)
        typical = (n - n / self.effective) / (count - 1)
        whole = between + (typical - 1) * inside
        return min(1.0, (between - inside) / whole) if whole > 0 else 0.0

    @property
    def note(self) -> str | None:
        """The warning that belongs beside an interval over few clusters."""
        return f"only {self.count} clusters: the interval is wide" if self.count < FEW_CLUSTERS else None


def mean_error(values: Sequence[float], clusters: Sequence[int]) -> ClusteredError:
    """The standard error of a mean by the delete-one-cluster jackknife (Efron & Stein 1981; Cameron & Miller 2015, §VI.B).

    For clusters of equal size it is √(Σ_c (Σ_i (s_i − mean))² · C/(C−1)) / n, as in Miller 2024, §2.2.
    """
    groups = values_by_cluster(values, clusters)
    total, n, count = math.fsum(values), len(values), len(groups)
    scale = math.sqrt((count - 1) / count)
    shifts = [
        scale * ((total - math.fsum(group)) / (n - len(group)) - total / n) for group in groups if len(group) < n
    ]  # fmt: skip
    within = math.fsum(variance(group) * len(group) for group in groups)
    spread = variance(values)
    if spread <= (ROUNDING * max(map(abs, values))) ** 2:
        spread = 0.0
    return ClusteredError(tuple(shifts), tuple(len(group) for group in groups), within, spread)


def values_by_cluster(values: Sequence[float], clusters: Sequence[int]) -> list[list[float]]:
    """The values of each cluster."""
    groups: dict[int, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    return list(groups.values())
