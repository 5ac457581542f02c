"""Biases of a judge: towards long answers, as a slope; towards the answer shown first, by an exact test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalrunner.stats.distributions import binomial_cdf, t_quantile
from evalrunner.stats.intervals import LEVEL, wilson

MIN_ANSWERS = 20


@dataclass(frozen=True, slots=True)
class Slope:
    """The change of a judge's error (verdict − label) per doubling of the answer's length, with its interval."""

    value: float
    low: float
    high: float
    n: int


def verbosity_slope(errors: Sequence[float], lengths: Sequence[int], *, level: float = LEVEL) -> Slope | None:
    """The slope of least squares over log2 of the lengths, with an error robust to unequal spread (HC3, MacKinnon & White 1985).

    `errors` are verdicts minus labels: an answer that is longer because it is better has no effect. None for fewer than
    20 answers, and for answers of one length.
    """
    n = len(errors)
    doublings = [math.log2(max(1, length)) for length in lengths]
    if n < MIN_ANSWERS or min(doublings) == max(doublings):
        return None
    middle, mean = math.fsum(doublings) / n, math.fsum(errors) / n
    spread = math.fsum((x - middle) ** 2 for x in doublings)
    value = math.fsum((x - middle) * (y - mean) for x, y in zip(doublings, errors, strict=True)) / spread
    squares = 0.0
    for x, y in zip(doublings, errors, strict=True):
        leverage = 1 / n + (x - middle) ** 2 / spread
        residual = y - mean - value * (x - middle)
        squares += ((x - middle) * residual / max(1e-9, 1 - leverage)) ** 2
    half = t_quantile(0.5 + level / 2, n - 2) * math.sqrt(squares) / spread
    return Slope(value, value - half, value + half, n)


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How often a judge chose the answer shown first, of its choices, with Wilson's interval and the exact p-value of ½."""

    share: float
    low: float
    high: float
    n: int
    p_value: float


def position_bias(first: int, n: int, *, level: float = LEVEL) -> PositionBias | None:
    """The bias of `first` choices of the first answer among `n` choices; ties are no choice. None without choices."""
    if not n:
        return None
    p_value = min(1.0, 2 * binomial_cdf(min(first, n - first), n, 0.5))
    return PositionBias(first / n, *wilson(first, n, level=level), n, p_value)
