"""Statistical power before a run: the smallest detectable drop, and how often a point gate fails by chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from evalrunner.stats.distributions import binomial_cdf, normal_quantile, t_quantile, t_tail, variance
from evalrunner.stats.hypothesis_tests import ALPHA
from evalrunner.stats.intervals import mean_error

POWER: Final = 0.8
WITHIN_HALF: Final = 0.5  # share of the variance inside samples above which more epochs help
MIN_PAIRS: Final = 20  # to estimate a variance from
CI_WIDTH: Final = 2 * normal_quantile(0.975)  # of a 95% CI, in standard errors


@dataclass(frozen=True, slots=True)
class PairedSpread:
    """The variance ω² of paired differences, with the inflation by clusters; `df` is that of the clusters, if any."""

    variance: float
    df: float | None
    pairs: int


def paired_spread(
    differences: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    within: Sequence[float] | None = None,
    epochs: int = 1,
    planned: int = 1,
) -> PairedSpread | None:
    """The spread of differences, one per pair; None for under 20 pairs, equal differences, or a single cluster.

    With `within`, as of `variance_at_epochs`, the variance is that at `planned` epochs instead of `epochs`.
    """
    n = len(differences)
    if n < MIN_PAIRS or min(differences) == max(differences):
        return None
    if clusters is not None:
        codes = {cluster: code for code, cluster in enumerate(dict.fromkeys(clusters))}
        if len(codes) < 2:
            return None
        result = mean_error(differences, [codes[cluster] for cluster in clusters])
        return PairedSpread(result.error**2 * n, result.df, n)
    if within is not None and epochs > 1 and epochs != planned:
        return PairedSpread(variance_at_epochs(differences, within=within, epochs=epochs, planned=planned)[0], None, n)
    return PairedSpread(variance(differences) * n / (n - 1), None, n)


def smallest_drop(
    *, n: int, variance: float, deff: float = 1.0, df: float | None = None, span: float = 0.0, alpha: float = ALPHA,
    power: float = POWER,
) -> float:  # fmt: skip
    """The drop that n pairs detect with probability `power` at one-sided `alpha`: (t_{1−α} + t_power)·√(ω²·deff/n).

    `variance` is ω², that of the paired differences of reduced scores; `df` is C_eff − 1 where samples are clustered,
    else n − 1. `span` is the range of graded scores, whose test adds a pair at each end of it; 0 for 0/1 scores. These
    widen the interval, but are the same in every run. Infinite for fewer than two pairs. (Miller 2024, eq. 9, with
    Student's quantiles.)
    """
    if n < 2:
        return math.inf
    freedom = max(1.0, df if df is not None else n - 1)
    noise, width = (math.sqrt(spread * deff / n) for spread in (variance, variance + 2 * span * span / n))
    return t_quantile(1 - alpha, freedom) * width + t_quantile(power, freedom) * noise


def variance_at_epochs(
    differences: Sequence[float], *, within: Sequence[float], epochs: int, planned: int
) -> tuple[float, float]:
    """ω² at `planned` epochs, from a pair of runs at `epochs`, and the share of the current variance within samples.

    `differences` are of the mean scores, one a sample; `within` is for each the sum of both runs' variances over
    epochs (ddof 1). ω_B² + (σ²_A + σ²_B)/K with ω_B² = max(0, Var(d̄) − within/K). If over half of it is within
    samples, more epochs help; else only more samples do.
    """
    total = variance(differences) * len(differences) / (len(differences) - 1)
    inside = math.fsum(within) / len(within) if within else 0.0
    between = max(0.0, total - inside / epochs)
    share = min(1.0, inside / epochs / total) if total > 0 else 0.0
    return between + inside / planned, share


def design_effect(sizes: Sequence[int], icc: float) -> float:
    """The factor by which clusters of these sizes inflate a variance: 1 + (Σm²/Σm − 1)·ICC (Kish 1965, §8.2, for unequal sizes)."""
    return 1 + (sum(size * size for size in sizes) / sum(sizes) - 1) * max(0.0, icc)


def false_failure_rate_of_share(
    true: float, n: int, bound: float, *, lower: bool = True, strict: bool = False
) -> float:
    """How often a share of n samples misses a point gate if the true share is `true`: exact.

    `lower`: the gate requires at least the bound, else at most it; `strict`: more than it, or less.
    """
    edge = bound * n
    is_integer = abs(edge - round(edge)) < 1e-9 * max(1.0, edge)
    if lower:  # counts below the bound fail, with `strict` those at it too
        least = round(edge) + int(strict) if is_integer else math.ceil(edge)
        return binomial_cdf(least - 1, n, true)
    most = round(edge) - int(strict) if is_integer else math.floor(edge)
    return 1 - binomial_cdf(most, n, true)


def false_failure_rate_of_mean(mean: float, error: float, bound: float, *, df: float, lower: bool = True) -> float:
    """The same for a mean with a standard error, by Student's distribution."""
    if error <= 0:
        return float(mean < bound if lower else mean > bound)
    gap = (mean - bound) / error
    return t_tail(gap if lower else -gap, df)
