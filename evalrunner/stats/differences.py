"""How far two sets of scores lie apart, either way: the difference of their means, its interval, its p-value.

Two-sided throughout. Paired where the same samples were scored on both sides, else of two samples, which is weaker: the
difficulty of the questions is then part of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalrunner.stats.aggregates import variance
from evalrunner.stats.clusters import MIN_CLUSTERS, mean_error
from evalrunner.stats.distributions import NORMAL, t_quantile, t_tail
from evalrunner.stats.hypothesis_tests import MIN_GRADED_PAIRS, mcnemar, non_inferiority, tango
from evalrunner.stats.intervals import LEVEL, wilson


@dataclass(frozen=True, slots=True)
class Difference:
    """First − second, from `low` to `high`; without a `method` nothing can be said, and `note` says why.

    `n` counts pairs, or the values of both sides where there are none. `p_value` is the chance of a difference as
    large as this one, either way, where there is none in truth.
    """

    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    method: str | None
    n: int
    note: str | None = None


def paired_difference(
    differences: Sequence[float],
    *,
    span: float | None = None,
    clusters: Sequence[int] | None = None,
    level: float = LEVEL,
) -> Difference:
    """The mean of `differences`, one a pair: exact McNemar with Tango's interval for 0/1 scores (`span` None).

    Otherwise Student's t with one pseudo-pair at +`span` and one at −`span`, the width of the scores' range.
    `clusters` holds the cluster of each pair; both then take the error over clusters.
    """
    n = len(differences)
    if n and span is None and clusters is None:
        first = sum(1 for difference in differences if difference > 0)
        second = sum(1 for difference in differences if difference < 0)
        low, high = tango(first, second, n, level=level)
        return Difference((first - second) / n, low, high, mcnemar(first, second), "mcnemar", n)
    alpha = (1 - level) / 2
    there = non_inferiority(differences, max_drop=0.0, span=span, clusters=clusters, alpha=alpha)
    back = non_inferiority([-item for item in differences], max_drop=0.0, span=span, clusters=clusters, alpha=alpha)
    if there.p_worse is None or there.p_better is None or back.high is None:
        return Difference(there.estimate, None, None, None, None, n, there.note)
    few = there.note if clusters is not None and "cluster" in (there.note or "") else None
    p_value = min(1.0, 2 * min(there.p_worse, there.p_better))
    return Difference(there.estimate, -back.high, there.high, p_value, there.method, n, few)


def two_sample_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    span: float | None = None,
    clusters: tuple[Sequence[int], Sequence[int]] | None = None,
    level: float = LEVEL,
) -> Difference:
    """The difference of two means of unrelated samples: Newcombe's interval and the N − 1 test for 0/1 (`span` None).

    Otherwise Welch's t, each side's variance counting one more deviation as large as the range is wide (`span`), for
    what is rare and was not seen. `clusters` holds the clusters of each side.
    """
    n = len(first) + len(second)
    if not first or not second:
        return Difference(None, None, None, None, None, n, "no values on one side")
    estimate = math.fsum(first) / len(first) - math.fsum(second) / len(second)
    if span is None and clusters is None:
        counts = round(math.fsum(first)), len(first), round(math.fsum(second)), len(second)
        low, high = newcombe(*counts, level=level)
        return Difference(estimate, low, high, shares_p(*counts), "newcombe", n)
    nothing = Difference(estimate, None, None, None, None, n)
    if span is not None and min(len(first), len(second)) < MIN_GRADED_PAIRS:
        return replace(nothing, note=f"fewer than {MIN_GRADED_PAIRS} values on one side")
    width = 1.0 if span is None else span
    errors = [_padded_error(values, width) for values in (first, second)]
    freedoms = [len(first) - 1.0, len(second) - 1.0]
    method = "welch"
    if clusters is not None:
        spreads = [mean_error(values, groups) for values, groups in zip((first, second), clusters, strict=True)]
        if min(spread.count for spread in spreads) < MIN_CLUSTERS:
            return replace(nothing, note=f"fewer than {MIN_CLUSTERS} clusters on one side")
        errors = [max(error, spread.error) for error, spread in zip(errors, spreads, strict=True)]
        freedoms, method = [spread.count - 1.0 for spread in spreads], "welch-clustered"
    error = math.hypot(*errors)
    df = error**4 / math.fsum(part**4 / free for part, free in zip(errors, freedoms, strict=True))
    half = t_quantile(0.5 + level / 2, df) * error
    p_value = min(1.0, 2 * t_tail(abs(estimate) / error, df))
    return Difference(estimate, estimate - half, estimate + half, p_value, method, n)


def newcombe(first: int, first_n: int, second: int, second_n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Interval for the difference of two unrelated shares (Newcombe 1998, method 10: from Wilson's of each)."""
    shares = first / first_n, second / second_n
    low_1, high_1 = wilson(first, first_n, level=level)
    low_2, high_2 = wilson(second, second_n, level=level)
    difference = shares[0] - shares[1]
    below = math.hypot(shares[0] - low_1, high_2 - shares[1])
    above = math.hypot(high_1 - shares[0], shares[1] - low_2)
    return difference - below, difference + above


def shares_p(first: int, first_n: int, second: int, second_n: int) -> float:
    """The two-sided p-value of "two equal shares", by the N − 1 χ² test (Campbell 2007, after E. S. Pearson 1947).

    Fisher's exact test, by Irwin's rule, where a cell of the table is expected to hold less than one (ibid.).
    """
    n, right = first_n + second_n, first + second
    if right in (0, n):
        return 1.0
    if min(right, n - right) * min(first_n, second_n) / n < 1:
        return _fisher(first, first_n, right, n)
    share = right / n
    error = math.sqrt(share * (1 - share) * (1 / first_n + 1 / second_n) * n / (n - 1))
    return min(1.0, 2 * NORMAL.cdf(-abs(first / first_n - second / second_n) / error))


def _fisher(first: int, first_n: int, right: int, n: int) -> float:
    """The chance of a table as unlikely as this one or more, its margins given (Irwin 1935)."""
    lowest, highest = max(0, right - (n - first_n)), min(right, first_n)
    ways = {
        count: math.comb(first_n, count) * math.comb(n - first_n, right - count) for count in range(lowest, highest + 1)
    }
    return min(1.0, sum(way for way in ways.values() if way <= ways[first]) / math.comb(n, right))


def _padded_error(values: Sequence[float], span: float) -> float:
    """The standard error of a mean, the squares of the deviations counting one more as large as the range is wide."""
    n = len(values)
    return math.sqrt((variance(values) * n + span * span) / n / n)
