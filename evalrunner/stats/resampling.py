"""The BCa bootstrap for what has no formula of its own: seeded, and the same for any order of the rows."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from evalrunner.stats.distributions import NORMAL, normal_quantile

Statistic: TypeAlias = Literal["mean", "variance"]
RESAMPLES: Final = 2_000  # resamples
PLAIN: Final = 100  # rows up to which Python alone draws them, in 20 ms; more are drawn with numpy
MAX_RESAMPLED_ROWS: Final = 5_000  # rows up to which resampling is worth its time; numpy takes 0.2 s for so many
ROUNDING: Final = 1e-9  # of a value's scale: what two draws of the same values can differ by, however they are summed


def bca(values: Sequence[float], statistic: Statistic, *, level: float, seed: int) -> tuple[float, float] | None:
    """Interval for a mean or a population variance (bias-corrected and accelerated; Efron 1987, eq. 2.3 and 6.6).

    None for fewer than two values. Equal values give an interval without width. Values are drawn sorted, so that
    their order changes nothing.
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
    drawn = _drawn_plainly(centred, statistic, seed) if n <= PLAIN else _drawn_with_numpy(centred, statistic, seed)
    squares = math.fsum(value * value for value in centred) / n
    observed = 0.0 if statistic == "mean" else squares
    noise = ROUNDING * (math.sqrt(squares) if statistic == "mean" else squares)
    under = sum(1 for value in drawn if value < observed - noise)
    below = (under + sum(1 for value in drawn if value <= observed + noise)) / 2  # of equal ones a half
    bias = normal_quantile(min(max(below, 0.5), RESAMPLES - 0.5) / RESAMPLES)
    pull = _acceleration(centred, statistic)
    ends = [_share(normal_quantile(tail), bias, pull) for tail in (0.5 - level / 2, 0.5 + level / 2)]
    low, high = (drawn[min(RESAMPLES - 1, max(0, round(share * (RESAMPLES + 1)) - 1))] for share in ends)
    if statistic == "variance" and low <= noise:
        low = 0.0  # draws of one value over and over
    return low + shift, high + shift


def _share(z: float, bias: float, pull: float) -> float:
    """Which share of the resamples lies below an end of the interval."""
    return NORMAL.cdf(bias + (bias + z) / (1 - pull * (bias + z)))


def _acceleration(centred: Sequence[float], statistic: Statistic) -> float:
    """The skewness of the influence of each value, from the jackknife (Efron 1987, eq. 6.6)."""
    n = len(centred)
    if statistic == "mean":
        left_out = [-value / (n - 1) for value in centred]
    else:
        squares = math.fsum(value * value for value in centred)
        left_out = [(squares - value * value) / (n - 1) - (value / (n - 1)) ** 2 for value in centred]
    middle = math.fsum(left_out) / n
    gaps = [middle - value for value in left_out]
    spread = math.fsum(gap * gap for gap in gaps)
    return math.fsum(gap**3 for gap in gaps) / (6 * spread**1.5) if spread > 0 else 0.0


def _drawn_plainly(centred: Sequence[float], statistic: Statistic, seed: int) -> list[float]:
    draw = random.Random(seed)
    n = len(centred)
    found: list[float] = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(centred, k=n)
        mean = sum(chosen) / n
        found.append(mean if statistic == "mean" else sum(value * value for value in chosen) / n - mean * mean)
    return sorted(found)


def _drawn_with_numpy(centred: Sequence[float], statistic: Statistic, seed: int) -> list[float]:
    import numpy

    draw = numpy.random.default_rng(seed)
    values = numpy.asarray(centred)
    found: list[float] = []
    while len(found) < RESAMPLES:  # in pieces of at most a million, so that memory stays small
        rows = min(RESAMPLES - len(found), max(1, 1_000_000 // len(values)))
        chosen = values[draw.integers(0, len(values), size=(rows, len(values)))]
        found.extend((chosen.mean(axis=1) if statistic == "mean" else chosen.var(axis=1)).tolist())
    return sorted(found)
