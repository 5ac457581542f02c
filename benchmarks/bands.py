"""Lines of the table printed by benchmarks/coverage.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
from scipy import stats

SEED = 20_240
Draw = Callable[[numpy.random.Generator, tuple[int, ...]], numpy.ndarray]


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    measured: str
    asked: str
    met: bool | None  # None: there is no requirement

    def __str__(self) -> str:
        met = "–" if self.met is None else "yes" if self.met else "**no**"
        return f"| {self.what} | {self.measured} | {self.asked} | {met} |"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def between(values: Sequence[float]) -> str:
    return f"{percent(min(values))} to {percent(max(values))}"


def at_most(hits: int, repeats: int, bound: float) -> bool:
    """Whether a rate of at most the bound is not rejected by a one-sided binomial test at .01."""
    return float(stats.binom.sf(hits - 1, repeats, bound)) >= 0.01


def at_least(hits: int, repeats: int, bound: float) -> bool:
    """Whether a rate of at least the bound is not rejected by a one-sided binomial test at .01."""
    return float(stats.binom.cdf(hits, repeats, bound)) >= 0.01


def within(shares: Sequence[float], repeats: int, low: float = 0.93, high: float = 0.98) -> bool:
    """Whether every share of the repeats is compatible with a coverage in the band."""
    hits = [round(share * repeats) for share in shares]
    return all(at_least(each, repeats, low) and at_most(each, repeats, high) for each in hits)


def below(shares: Sequence[float], repeats: int, bound: float) -> bool:
    """Whether every share of the repeats is compatible with a rate of at most the bound."""
    return all(at_most(round(share * repeats), repeats, bound) for share in shares)
