"""Confidence intervals: each a few lines with its source. Which one belongs to an aggregate is decided in `aggregates`.

Every interval is two-sided at a level; one end of it at level 2c − 1 is a one-sided bound at confidence c.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from evalrunner.domain import TOO_FEW_VALUES
from evalrunner.stats.distributions import (
    NORMAL,
    beta_quantile,
    binomial_cdf,
    normal_quantile,
    quantile,
    t_quantile,
    variance,
)

LEVEL: Final = 0.95  # two-sided, for display
MIN_ROWS_FOR_T: Final = 30  # rows from which the t interval of an unbounded mean is used; below, BCa
ROUNDING: Final = 1e-12  # an error below this share of the range is rounding: the values do not vary
ONE_VALUE: Final = "no interval from a single value"

MIN_CLUSTERS: Final = 5  # below, no interval: the formula covers 69% there
FEW_CLUSTERS: Final = 20  # below, a warning beside the interval

Statistic: TypeAlias = Literal["mean", "variance"]
RESAMPLES: Final = 2_000
PURE_PYTHON_ROWS: Final = 100  # rows up to which Python alone draws resamples, in 20 ms; more are drawn with numpy
MAX_RESAMPLED_ROWS: Final = 5_000  # rows up to which resampling is worth its time; numpy takes 0.2 s for so many
RESAMPLE_ROUNDING: Final = 1e-9  # of a value's scale: how far two sums of the same resample can differ


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


def mean_interval(
    values: Sequence[float], *, low: float | None, high: float | None, level: float, seed: int
) -> Interval:
    """Interval for the mean of values in low..high, an end None where the range is open.

    Wilson's with an effective sample size in a bounded range; else Student's t, or BCa for fewer than 30 values.
    """
    n = len(values)
    if n < 2:
        return Interval(None, None, level, None, n, note=ONE_VALUE)
    mean = math.fsum(values) / n
    error = math.sqrt(variance(values) / (n - 1)) if min(values) < max(values) else 0.0
    if low is not None and high is not None:
        return _wilson_effective((low, high), mean, error, n, level=level, df=n - 1)
    if n < MIN_ROWS_FOR_T:
        ends = bca(values, "mean", level=level, seed=seed) or (mean, mean)
        return _clipped(Interval(*ends, level, "bca", n, float(n), _note_if_constant(error)), low, high)
    return _clipped(_student(mean, error, n, level=level, df=n - 1), low, high)


def variance_interval(values: Sequence[float], *, level: float, seed: int) -> Interval:
    """BCa; above 5,000 values, where it would take long and the central limit holds, from the fourth moment.

    The error of a variance σ² is √((μ₄ − σ⁴)/n) (Cramér 1946, §27.4).
    """
    n, result = len(values), variance(values) if min(values) < max(values) else 0.0
    if n < 2:
        return Interval(None, None, level, None, n, note=ONE_VALUE)
    if n <= MAX_RESAMPLED_ROWS:
        low, high = bca(values, "variance", level=level, seed=seed) or (result, result)
        return Interval(low, high, level, "bca", n, float(n), _note_if_constant(result))
    mean = math.fsum(values) / n
    fourth = math.fsum((value - mean) ** 4 for value in values) / n
    half = normal_quantile(0.5 + level / 2) * math.sqrt(max(0.0, fourth - result * result) / n)
    return Interval(max(0.0, result - half), result + half, level, "moments", n, float(n), _note_if_constant(result))


def quantile_interval(
    values: Sequence[float],
    share: float,
    *,
    level: float,
    n_effective: float | None = None,
    method: str = "order-statistics",
) -> Interval:
    """Order statistics for a quantile. With `n_effective` the ranks are stretched to that number of unrelated values."""
    n = len(values)
    effective = float(n) if n_effective is None else n_effective
    counted = max(1, math.floor(effective))
    low, high = quantile_ranks(counted, share, level=level)
    if low is None and high is None:
        return Interval(None, None, level, None, n, note=f"no interval {TOO_FEW_VALUES}")
    ordered = sorted(values)
    lowest = None if low is None else ordered[max(1, math.floor(low * n / counted)) - 1]
    highest = None if high is None else ordered[min(n, math.ceil(high * n / counted)) - 1]
    ends = [name for name, end in (("lower", low), ("upper", high)) if end is None]
    note = f"no {ends[0]} end {TOO_FEW_VALUES}" if ends else None
    return Interval(lowest, highest, level, method, n, float(effective), note)


def clustered_mean_interval(
    values: Sequence[float], clusters: Sequence[int], *, low: float | None, high: float | None, level: float
) -> Interval:
    """Interval for the mean of clustered values: as `mean_interval`, with the error over clusters."""
    n, spread = len(values), mean_error(values, clusters)
    mean = math.fsum(values) / n
    if low is not None and high is not None:
        result = _wilson_effective(
            (low, high), mean, spread.error, n, level=level, df=spread.df, method="wilson-clustered"
        )
    else:
        result = _clipped(_student(mean, spread.error, n, level=level, df=spread.df, method="t-clustered"), low, high)
    return replace(result, note=spread.note or result.note)


def clustered_variance_interval(values: Sequence[float], clusters: Sequence[int], *, level: float) -> Interval:
    """Student's interval for a variance, with the error over clusters."""
    spread = variance_error(values, clusters)
    result = _student(variance(values), spread.error, len(values), level=level, df=spread.df, method="t-clustered")
    return replace(_clipped(result, 0.0, None), note=spread.note or result.note)


def clustered_quantile_interval(
    values: Sequence[float], clusters: Sequence[int], share: float, *, level: float
) -> Interval:
    """Order statistics of the effective number of rows for the share below the quantile (after Woodruff 1952)."""
    n = len(values)
    at = quantile(sorted(values), share)
    inside = [float(value <= at) for value in values]
    spread = mean_error(inside, clusters)
    below = math.fsum(inside) / n
    effective = below * (1 - below) / spread.error**2 if spread.error > 0 and 0 < below < 1 else float(n)
    tail = 0.5 + level / 2
    effective = min(float(n), effective) * (normal_quantile(tail) / t_quantile(tail, spread.df)) ** 2
    result = quantile_interval(values, share, level=level, n_effective=effective, method="order-statistics-clustered")
    return replace(result, note=result.note or spread.note)


def _wilson_effective(
    ends: tuple[float, float], mean: float, error: float, n: int, *, level: float, df: float,
    method: str = "wilson-effective",
) -> Interval:  # fmt: skip
    """Wilson's interval with the number of yes/no outcomes whose share would have this standard error."""
    width = ends[1] - ends[0]
    share = min(1.0, max(0.0, (mean - ends[0]) / width))
    varies = error > ROUNDING * width and 0 < share < 1
    effective = share * (1 - share) / (error / width) ** 2 if varies else float(n)
    low, high = wilson(share * effective, effective, level=level, df=df)
    return Interval(ends[0] + width * low, ends[0] + width * high, level, method, n, effective)


def _student(mean: float, error: float, n: int, *, level: float, df: float, method: str = "t") -> Interval:
    """Student's interval (1908)."""
    half = t_quantile(0.5 + level / 2, df) * error
    return Interval(mean - half, mean + half, level, method, n, float(n), _note_if_constant(error))


def _clipped(interval: Interval, lowest: float | None, highest: float | None) -> Interval:
    """The part of the interval inside the range of the values."""
    low, high = interval.low, interval.high
    if lowest is not None and low is not None:
        low = max(low, lowest)
    if highest is not None and high is not None:
        high = min(high, highest)
    return replace(interval, low=low, high=high)


def _note_if_constant(spread: float) -> str | None:
    return "all values are equal: the interval cannot show what was not observed" if spread == 0 else None


def bca(values: Sequence[float], statistic: Statistic, *, level: float, seed: int) -> tuple[float, float] | None:
    """Interval for a mean or a population variance (bias-corrected and accelerated; Efron 1987, eq. 2.3 and 6.6).

    None for fewer than two values. Equal values give an interval without width. Values are sorted first, so
    that their order changes nothing.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n < 2:
        return None
    centre = math.fsum(ordered) / n
    centred = [value - centre for value in ordered]
    shift = centre if statistic == "mean" else 0.0
    if ordered[0] == ordered[-1]:
        return (ordered[0], ordered[0]) if statistic == "mean" else (0.0, 0.0)
    resampled = (
        _resamples(centred, statistic, seed)
        if n <= PURE_PYTHON_ROWS
        else _resamples_with_numpy(centred, statistic, seed)
    )
    squares = math.fsum(value * value for value in centred) / n
    observed = 0.0 if statistic == "mean" else squares
    noise = RESAMPLE_ROUNDING * (math.sqrt(squares) if statistic == "mean" else squares)
    under = sum(1 for value in resampled if value < observed - noise)
    below = (under + sum(1 for value in resampled if value <= observed + noise)) / 2  # of equal ones a half
    bias = normal_quantile(min(max(below, 0.5), RESAMPLES - 0.5) / RESAMPLES)
    pull = _acceleration(centred, statistic)
    ends = [_resample_share(normal_quantile(tail), bias, pull) for tail in (0.5 - level / 2, 0.5 + level / 2)]
    low, high = (resampled[min(RESAMPLES - 1, max(0, round(share * (RESAMPLES + 1)) - 1))] for share in ends)
    if statistic == "variance" and low <= noise:
        low = 0.0  # resamples of one value over and over
    return low + shift, high + shift


def _resample_share(z: float, bias: float, pull: float) -> float:
    """Which share of the resamples lies below an end of the interval."""
    return NORMAL.cdf(bias + (bias + z) / (1 - pull * (bias + z)))


def _acceleration(centred: Sequence[float], statistic: Statistic) -> float:
    """The skewness of the influence of each value, from the jackknife (Efron 1987, eq. 6.6)."""
    n = len(centred)
    if statistic == "mean":
        leave_one_out = [-value / (n - 1) for value in centred]
    else:
        squares = math.fsum(value * value for value in centred)
        leave_one_out = [(squares - value * value) / (n - 1) - (value / (n - 1)) ** 2 for value in centred]
    middle = math.fsum(leave_one_out) / n
    gaps = [middle - value for value in leave_one_out]
    spread = math.fsum(gap * gap for gap in gaps)
    return math.fsum(gap**3 for gap in gaps) / (6 * spread**1.5) if spread > 0 else 0.0


def _resamples(centred: Sequence[float], statistic: Statistic, seed: int) -> list[float]:
    draw = random.Random(seed)
    n = len(centred)
    result: list[float] = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(centred, k=n)
        mean = sum(chosen) / n
        result.append(mean if statistic == "mean" else sum(value * value for value in chosen) / n - mean * mean)
    return sorted(result)


def _resamples_with_numpy(centred: Sequence[float], statistic: Statistic, seed: int) -> list[float]:
    import numpy

    draw = numpy.random.default_rng(seed)
    values = numpy.asarray(centred)
    result: list[float] = []
    while len(result) < RESAMPLES:  # in pieces of at most a million, so that memory stays small
        rows = min(RESAMPLES - len(result), max(1, 1_000_000 // len(values)))
        chosen = values[draw.integers(0, len(values), size=(rows, len(values)))]
        result.extend((chosen.mean(axis=1) if statistic == "mean" else chosen.var(axis=1)).tolist())
    return sorted(result)


@dataclass(frozen=True, slots=True)
class ClusteredError:
    """The standard error of a statistic of clustered rows; `effective` is n²/Σm², the number of clusters if sizes were equal."""

    error: float
    count: int
    effective: float

    @property
    def df(self) -> float:
        """Degrees of freedom of the error: never below 1."""
        return max(1.0, self.effective - 1)

    @property
    def note(self) -> str | None:
        """The warning that belongs beside an interval over few clusters."""
        return f"only {self.count} clusters: the interval may be too narrow" if self.count < FEW_CLUSTERS else None


def mean_error(values: Sequence[float], clusters: Sequence[int]) -> ClusteredError:
    """The standard error of a mean by the delete-one-cluster jackknife (Efron & Stein 1981; Cameron & Miller 2015, §VI.B).

    For clusters of equal size it is √(Σ_c (Σ_i (s_i − mean))² · C/(C−1)) / n, as in Miller 2024, §2.2.
    """
    total, n = math.fsum(values), len(values)

    def without(group: Sequence[float]) -> float:
        return (total - math.fsum(group)) / (n - len(group))

    return jackknife(values, clusters, total / n, without)


def variance_error(values: Sequence[float], clusters: Sequence[int]) -> ClusteredError:
    """The standard error of the population variance by the same jackknife."""
    n = len(values)
    centre = math.fsum(values) / n
    total = math.fsum(value - centre for value in values)
    squares = math.fsum((value - centre) ** 2 for value in values)

    def without(group: Sequence[float]) -> float:
        rest = n - len(group)
        mean = (total - math.fsum(value - centre for value in group)) / rest
        return (squares - math.fsum((value - centre) ** 2 for value in group)) / rest - mean * mean

    return jackknife(values, clusters, squares / n - (total / n) ** 2, without)


def jackknife(
    values: Sequence[float], clusters: Sequence[int], statistic: float, without: Callable[[Sequence[float]], float]
) -> ClusteredError:
    """The error of the statistic `whole` from its value `without` each cluster; infinite for a single cluster."""
    groups = values_by_cluster(values, clusters)
    count = len(groups)
    effective = len(values) ** 2 / math.fsum(len(group) ** 2 for group in groups)
    if count < 2:
        return ClusteredError(math.inf, count, effective)
    spread = math.fsum((without(group) - statistic) ** 2 for group in groups)
    return ClusteredError(math.sqrt((count - 1) / count * spread), count, effective)


def values_by_cluster(values: Sequence[float], clusters: Sequence[int]) -> list[list[float]]:
    """The values of each cluster."""
    groups: dict[int, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    return list(groups.values())
