"""Hypothesis tests for two sets of scores: non-inferiority of paired drops, and two-sided differences.

A drop is baseline − candidate in the unit of the scores, with the sign changed where needed so that positive is worse.
Differences are paired if the same samples were scored on both sides, else of two independent samples; those tests are
weaker, because the difficulty of the samples adds noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from evalrunner.stats.distributions import (
    NORMAL,
    binomial_cdf,
    difference_tail,
    normal_quantile,
    t_quantile,
    t_tail,
    variance,
)
from evalrunner.stats.intervals import LEVEL, MIN_CLUSTERS, mean_error, wilson

ALPHA: Final = 0.05  # one-sided
MIN_GRADED_PAIRS: Final = 20  # pairs of graded scores below which nothing is decided
POWER_80_FACTOR: Final = (
    (1.645 + 0.842) / 1.645
) ** 2  # 2.29: from 50% to 80% power, by the normal quantiles of .95 and .8
MAX_ROW_FACTOR: Final = 100  # times the current samples: more is no practical number

Decision: TypeAlias = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class SamplesToDecide:
    """The number of samples needed to decide with 50% and with 80% power; None if that is impractical."""

    even: int | None
    strong: int | None


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The drop with its two-sided interval at 1 − 2α: `high` is the largest drop that cannot be ruled out.

    `p_pass` is the p-value of "the drop is `max_drop` or more", `p_fail` of "it is `max_drop` or less", `p_worse` of
    "there is no drop", `p_better` of "there is no gain"; None without a test. `decision` is uncorrected:
    with several gates on one baseline, `fail` takes Holm over their `p_fail`.
    """

    estimate: float | None
    low: float | None
    high: float | None
    decision: Decision
    n: int
    max_drop: float
    method: str | None
    p_pass: float | None = None
    p_fail: float | None = None
    p_worse: float | None = None
    p_better: float | None = None
    rows: SamplesToDecide | None = None
    note: str | None = None

    @property
    def worse(self) -> bool:
        """Whether a drop above zero is significant (at α = .05, uncorrected)."""
        return self.p_worse is not None and self.p_worse <= ALPHA


def non_inferiority(
    drops: Sequence[float],
    *,
    max_drop: float,
    span: float | None = None,
    clusters: Sequence[int] | None = None,
    alpha: float = ALPHA,
) -> NonInferiority:
    """Whether the mean of `drops`, one per pair, is at most `max_drop`: each side tested at `alpha`.

    `span` is None for pairs of 0/1 scores (Tango's score interval); otherwise the width of the scores' range, or for
    an open one of the observed scores (Student's t with two pseudo-pairs). `clusters` holds the cluster of each pair.
    """
    n = len(drops)
    nothing = NonInferiority(None, None, None, "inconclusive", n, max_drop, None)
    if n == 0:
        return replace(nothing, note="no pairs")
    estimate = math.fsum(drops) / n
    if clusters is not None and (count := len(set(clusters))) < MIN_CLUSTERS:
        return replace(nothing, estimate=estimate, note=_too_few(count, "cluster", MIN_CLUSTERS))
    if span is not None and n < MIN_GRADED_PAIRS:
        return replace(nothing, estimate=estimate, note=_too_few(n, "pair", MIN_GRADED_PAIRS))
    if span is None:
        result = _binary(drops, nothing, clusters, alpha)
    else:
        result = _graded(drops, nothing, span, clusters, alpha)
    assert result.p_pass is not None and result.p_fail is not None  # both are set if there are pairs
    decision: Decision = "pass" if result.p_pass <= alpha else "fail" if result.p_fail <= alpha else "inconclusive"
    rows = result.rows if decision == "inconclusive" else None
    note = None if clusters is None else mean_error(drops, clusters).note
    if decision == "inconclusive" and min(drops) == max(drops) == 0:
        note = "no pair differs, but there are too few to rule out the drop"
    elif decision == "inconclusive" and not _inside(result, max_drop):
        note = "so few changed samples need an exact test, which is stricter than the interval"
    return replace(result, estimate=estimate, decision=decision, rows=rows, note=note)


def _inside(result: NonInferiority, max_drop: float) -> bool:
    """Whether the interval alone decides nothing."""
    return (result.low is None or result.low <= max_drop) and (result.high is None or max_drop < result.high)


def samples_to_prove_equivalence(max_drop: float, *, alpha: float = ALPHA) -> int | None:
    """How many samples with equal 0/1 scores rule out a drop of `max_drop`.

    A drop leaves no trace in n samples with probability (1 − δ)ⁿ, which must be at most α; Tango's interval must end
    below it too: n >= z²(1 − δ)/δ.
    """
    if not 0 < max_drop < 1:
        return None
    exact = math.log(alpha) / math.log1p(-max_drop)
    return math.ceil(max(exact, normal_quantile(1 - alpha) ** 2 * (1 - max_drop) / max_drop))


def samples_to_decide(n: int, *, half: float, estimate: float, bound: float) -> SamplesToDecide:
    """n·(h/|estimate − bound|)² samples for 50% power and 2.29 times that for 80%; `half` is the one-sided half-width.

    None if over a hundred times the current samples are needed. Never fewer than one more than there are: those did
    not decide, even where the half-width of an asymmetric interval suggests that they should.
    """
    gap = abs(estimate - bound)
    if gap == 0 or not (half / gap) ** 2 <= MAX_ROW_FACTOR:
        return SamplesToDecide(None, None)
    even = n * (half / gap) ** 2
    return SamplesToDecide(max(n + 1, math.ceil(even)), max(n + 1, math.ceil(even * POWER_80_FACTOR)))


def tango(b: float, c: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval for (b − c)/n, the difference of two paired shares (Tango 1998, eq. 5 and 6).

    `b` pairs are right in the first alone, `c` in the second alone, of `n`; counts may be fractional, as adjusted for
    clusters.
    """
    z = normal_quantile(0.5 + level / 2)
    middle = (b - c) / n
    return _crossing(b, c, n, z, (-1.0, middle)), _crossing(b, c, n, -z, (middle, 1.0))


def tango_score(b: float, c: float, n: float, difference: float) -> float:
    """The number of standard errors by which (b − c)/n exceeds `difference`, under that difference (Tango 1998, eq. 5)."""
    squared = n * (2 * _share_alone(b, c, n, difference) + difference * (1 - difference))
    gap = b - c - n * difference
    if squared <= 1e-12 * n:
        return 0.0 if abs(gap) < 1e-9 else math.copysign(math.inf, gap)
    return gap / math.sqrt(squared)


def _share_alone(b: float, c: float, n: float, difference: float) -> float:
    """The likeliest share of pairs right in the second alone, given the difference of the shares."""
    linear = (2 * n - b + c) * difference - b - c
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * difference * (1 - difference)))
    return max(0.0, (root - linear) / (4 * n))


def exact_tails(b: int, c: int, n: int, difference: float) -> tuple[float, float]:
    """P(B − C <= b − c) and P(B − C >= b − c) if the shares differ by `difference`, at the likeliest discordance.

    The estimated p-values of Lloyd (2008, §2). Where few pairs differ, Tango's score rejects too often: up to 8.8% for 5.
    """
    down = _share_alone(b, c, n, difference)
    up = down + difference
    if up <= 0:
        return 1.0, 1.0
    return 1 - difference_tail(b - c + 1, n, up, down), difference_tail(b - c, n, up, down)


def mcnemar(b: int, c: int, *, sides: Literal[1, 2] = 2) -> float:
    """The exact p-value of "as many `b` as `c`" (McNemar 1947, by the binomial); one-sided against more `b` than `c`."""
    upper = 1 - binomial_cdf(b - 1, b + c, 0.5) if b > 0 else 1.0
    if sides == 1:
        return upper
    return min(1.0, 2 * binomial_cdf(min(b, c), b + c, 0.5))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm-adjusted p-values (Holm 1979), in their order: at most α if the family rejects at α."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return tuple(adjusted)


class PairedPValues(NamedTuple):
    """The p-values of `NonInferiority` for pairs of 0/1 scores."""

    p_pass: float
    p_fail: float
    p_worse: float
    p_better: float


def paired_p_values(
    b: float, c: float, n: float, *, max_drop: float, exact: bool = True, df: float = math.inf
) -> PairedPValues:
    """The p-values of a drop for `b` of `n` pairs that are right in the baseline alone and `c` in the candidate alone.

    They depend on these counts alone, so that planning can go through every outcome. `exact` needs integers: the larger
    p-value of Tango's score and of the exact tail decides pass and fail, and McNemar's test worse and better. Else, for
    counts adjusted for clusters, it is Tango's score with `df` degrees of freedom.
    """
    if not exact:
        at_margin, at_zero = tango_score(b, c, n, max_drop), tango_score(b, c, n, 0.0)
        return PairedPValues(_tail(-at_margin, df), _tail(at_margin, df), _tail(at_zero, df), _tail(-at_zero, df))
    drops, gains = int(b), int(c)
    p_pass, p_fail = margin_p_values(drops, gains, int(n), max_drop)
    return PairedPValues(p_pass, p_fail, mcnemar(drops, gains, sides=1), mcnemar(gains, drops, sides=1))


def margin_p_values(b: int, c: int, n: int, max_drop: float) -> tuple[float, float]:
    """`p_pass` and `p_fail` of unclustered pairs: the larger p-value of Tango's score and of the exact tail."""
    score = tango_score(b, c, n, max_drop)
    lower, upper = exact_tails(b, c, n, max_drop)
    return max(NORMAL.cdf(score), lower), max(NORMAL.cdf(-score), upper)


def _tail(score: float, df: float) -> float:
    """P(T > score)."""
    if math.isinf(score):
        return float(score < 0)
    return NORMAL.cdf(-score) if math.isinf(df) else t_tail(score, df)


def _too_few(count: int, noun: str, least: int) -> str:
    return f"{count} {noun if count == 1 else f'{noun}s'}; at least {least} are needed"


def _crossing(b: float, c: float, n: float, score: float, ends: tuple[float, float]) -> float:
    """The difference at which the score is `score`; it falls with the difference."""
    low, high = ends
    for _ in range(60):  # halves the width 2 down to rounding
        middle = (low + high) / 2
        low, high = (middle, high) if tango_score(b, c, n, middle) > score else (low, middle)
    return (low + high) / 2


def _binary(
    drops: Sequence[float], base: NonInferiority, clusters: Sequence[int] | None, alpha: float
) -> NonInferiority:
    n = len(drops)
    b, c = sum(1 for drop in drops if drop > 0), sum(1 for drop in drops if drop < 0)
    estimate, weight, df = (b - c) / n, 1.0, math.inf
    z = factor = normal_quantile(1 - alpha)
    if clusters is not None:
        inflation, df = cluster_inflation(drops, clusters)
        weight, factor = 1 / inflation, t_quantile(1 - alpha, df)
    scaled = (b * weight, c * weight, n * weight)
    shrunk = (z / factor) ** 2  # Tango's interval of so many fewer pairs has Student's quantile
    low, high = tango(*(count * shrunk for count in scaled), level=1 - 2 * alpha)
    p_values = paired_p_values(*scaled, max_drop=base.max_drop, exact=clusters is None, df=df)
    half = factor * math.sqrt(((b + c) / n - estimate**2) / (n * weight))
    if half > 0:
        rows = samples_to_decide(n, half=half, estimate=estimate, bound=base.max_drop)
    else:
        enough = samples_to_prove_equivalence(base.max_drop, alpha=alpha)
        needed = None if enough is None else math.ceil(enough / (weight * shrunk))
        rows = SamplesToDecide(needed, needed)
    return replace(
        base, low=low, high=high, method="tango" if clusters is None else "tango-clustered", rows=rows,
        p_pass=p_values.p_pass, p_fail=p_values.p_fail, p_worse=p_values.p_worse, p_better=p_values.p_better,
    )  # fmt: skip


def cluster_inflation(drops: Sequence[float], clusters: Sequence[int]) -> tuple[float, float]:
    """The variance inflation of clustered pairs (Rao & Scott 1992), and the degrees of freedom of its estimate.

    Equal drops count as one for each cluster: nothing shows that the pairs of a cluster are unrelated.
    """
    result = mean_error(drops, clusters)
    unrelated = result.spread / len(drops)
    if not result.varies:
        return max(1.0, len(drops) / result.effective), result.df
    return max(1.0, result.cautious_error**2 / unrelated), result.limited_df(one_sided=True)


def _graded(
    drops: Sequence[float], base: NonInferiority, span: float, clusters: Sequence[int] | None, alpha: float
) -> NonInferiority:
    """Student's t with one pseudo-pair at each end of the range, for drops that are rare, large and not observed yet.

    Drops that are all 0 or the whole range are those of 0/1 scores: they are decided only where their test agrees, as t
    passes 8% at 50 pairs.
    """
    padded = [*drops, span, -span]
    n = len(padded)
    mean = math.fsum(padded) / n
    error, df = math.sqrt(variance(padded) / (n - 1)), float(n - 1)
    if clusters is not None:
        inflation, df = cluster_inflation(drops, clusters)
        error *= math.sqrt(inflation)
    half = t_quantile(1 - alpha, df) * error
    scores = [(mean - point) / error for point in (base.max_drop, 0.0)]
    result = replace(
        base, low=mean - half, high=mean + half, method="t-padded" if clusters is None else "t-padded-clustered",
        rows=samples_to_decide(n - 2, half=half, estimate=math.fsum(drops) / (n - 2), bound=base.max_drop),
        p_pass=t_tail(-scores[0], df), p_fail=t_tail(scores[0], df),
        p_worse=t_tail(scores[1], df), p_better=t_tail(-scores[1], df),
    )  # fmt: skip
    if any(abs(drop) not in (0.0, span) for drop in drops):
        return result
    other = _binary(drops, replace(base, max_drop=base.max_drop / span), clusters, alpha)
    assert result.p_pass is not None and other.p_pass is not None and other.high is not None  # both have pairs
    assert result.p_fail is not None and other.p_fail is not None and other.low is not None
    return replace(
        result, low=min(mean - half, span * other.low), high=max(mean + half, span * other.high),
        p_pass=max(result.p_pass, other.p_pass), p_fail=max(result.p_fail, other.p_fail),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """First − second with its interval `low`..`high`. Without a `method` there is no test, and `note` says why.

    `n` counts pairs, or the values of both sides if unpaired. `p_value` is two-sided, of "no difference".
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
    """The mean of `differences`, one per pair: exact McNemar with Tango's interval for 0/1 scores (`span` None).

    Otherwise Student's t with one pseudo-pair at +`span` and one at −`span`, the width of the scores' range.
    `clusters` holds the cluster of each pair; both then use the standard error over clusters.
    """
    n = len(differences)
    if n and span is None and clusters is None:
        first = sum(1 for difference in differences if difference > 0)
        second = sum(1 for difference in differences if difference < 0)
        low, high = tango(first, second, n, level=level)
        return Difference((first - second) / n, low, high, mcnemar(first, second), "mcnemar", n)
    alpha = (1 - level) / 2
    forward = non_inferiority(differences, max_drop=0.0, span=span, clusters=clusters, alpha=alpha)
    backward = non_inferiority([-item for item in differences], max_drop=0.0, span=span, clusters=clusters, alpha=alpha)
    if forward.p_worse is None or forward.p_better is None or backward.high is None:
        return Difference(forward.estimate, None, None, None, None, n, forward.note)
    note = forward.note if clusters is not None and "cluster" in (forward.note or "") else None
    p_value = min(1.0, 2 * min(forward.p_worse, forward.p_better))
    return Difference(forward.estimate, -backward.high, forward.high, p_value, forward.method, n, note)


def two_sample_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    span: float | None = None,
    clusters: tuple[Sequence[int], Sequence[int]] | None = None,
    level: float = LEVEL,
) -> Difference:
    """The difference of two means of unrelated samples: Newcombe's interval and the N − 1 test for 0/1 (`span` None).

    Otherwise Welch's t, with one more deviation as large as the range (`span`) in the variance of each side, for rare
    values that were not observed. `clusters` holds the clusters of each side.
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
        errors = [max(error, spread.cautious_error) for error, spread in zip(errors, spreads, strict=True)]
        freedoms, method = [spread.limited_df(one_sided=True) for spread in spreads], "welch-clustered"
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

    Fisher's exact test, by Irwin's rule, if the expected count of a cell of the table is below one (ibid.).
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
    """The probability of a table as unlikely as this one or more, given its margins (Irwin 1935)."""
    lowest, highest = max(0, right - (n - first_n)), min(right, first_n)
    ways = {
        count: math.comb(first_n, count) * math.comb(n - first_n, right - count) for count in range(lowest, highest + 1)
    }
    return min(1.0, sum(way for way in ways.values() if way <= ways[first]) / math.comb(n, right))


def _padded_error(values: Sequence[float], span: float) -> float:
    """The standard error of a mean, with one more deviation as large as the range."""
    n = len(values)
    return math.sqrt((variance(values) * n + span * span) / n / n)
