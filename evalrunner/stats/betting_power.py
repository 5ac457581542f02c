"""The power of sequential tests of 0/1 scores, by simulation with a fixed seed.

The capital of a bet depends on how often each value has come so far, not on their order. So runs are counted at a number
of looks, and the capital is computed from the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from evalrunner.stats.power import POWER
from evalrunner.stats.sequential import BETS

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

RUNS: Final = 2000
CELLS: Final = 6_000_000  # runs × samples at most
LOOKS: Final = 50
CLOSER_LOOKS: Final = 500
NEARLY: Final = 4.0  # times a capital that could have been large enough between two looks
STEPS: Final = 11  # of the search for a true value: to a 2,000th of its range
MAX_GROWTH: Final = 600.0  # of a logarithm, before its exponential overflows

Side: TypeAlias = Literal["pass", "fail"]


def largest_capital(values: NDArray[numpy.float64], null: float) -> float:
    """The largest capital of `BettingTest` over a whole run of values in 0..1; 1 over it is a p-value."""
    import numpy

    gains = values / null - 1.0
    growth = numpy.cumsum(numpy.log1p(numpy.outer(gains, BETS)), axis=0)
    return max(1.0, float(numpy.exp(numpy.minimum(growth, MAX_GROWTH)).mean(axis=1).max(initial=0.0)))


class BettingPower:
    """A sequential test of `n` values of a few kinds, each in 0..1, against the null value of their mean.

    `values` are these kinds, at 1 − each for *fail*. `alpha` is the level of a pass, `fail_alpha` that of a fail.
    """

    def __init__(
        self, values: Sequence[float], null: float, n: int, *, alpha: float, fail_alpha: float, seed: int = 0
    ) -> None:
        import numpy

        self.values, self.null, self.levels = values, null, {"pass": alpha, "fail": fail_alpha}
        runs = max(50, min(RUNS, CELLS // n))
        drawn = numpy.random.default_rng(seed).random((runs // 2, n))
        self.uniform: NDArray[numpy.float64] = numpy.concatenate([drawn, 1 - drawn])  # antithetic: less noise
        self.looks, self.closer = (
            numpy.unique(numpy.linspace(1, n, count).round().astype(int)) - 1 for count in (LOOKS, CLOSER_LOOKS)
        )

    def power(self, side: Side, shares: Sequence[float]) -> float:
        """The share of runs with this decision, if the kinds of values have these probabilities.

        Runs whose capital is nearly large enough are looked at more often.
        """
        import numpy

        uppers = numpy.cumsum(shares)[:-1]
        below = [numpy.cumsum(self.uniform < upper, axis=1) for upper in uppers]
        needed = 1 / self.levels[side]
        largest = self._largest(side, [counts[:, self.looks] for counts in below], self.looks)
        close = (largest < needed) & (largest > needed / NEARLY)
        if close.any():
            again = [counts[close][:, self.closer] for counts in below]
            largest[close] = self._largest(side, again, self.closer)
        return float((largest >= needed).mean())

    def _largest(
        self, side: Side, below: Sequence[NDArray[numpy.int64]], looks: NDArray[numpy.int64]
    ) -> NDArray[numpy.float64]:
        """The largest capital of each run at these looks; `below` counts the values up to each kind but the last."""
        import numpy

        null = self.null if side == "pass" else 1 - self.null
        kinds = [value if side == "pass" else 1 - value for value in self.values]
        every = [numpy.zeros_like(below[0]), *below, numpy.broadcast_to(looks + 1, below[0].shape)]
        counts = numpy.stack(every, axis=-1)[..., 1:] - numpy.stack(every, axis=-1)[..., :-1]
        gains = numpy.array([[bet * (kind / null - 1) for bet in BETS] for kind in kinds])
        growth = counts.astype(float) @ numpy.log1p(gains)
        largest: NDArray[numpy.float64] = numpy.exp(numpy.minimum(growth, MAX_GROWTH)).mean(axis=-1).max(axis=1)
        return largest

    def value_for(
        self, side: Side, shares_at: Callable[[float], Sequence[float]], ends: tuple[float, float]
    ) -> float | None:
        """The true value with 80% power, between one end where it is reached and another where it is not; None if nowhere.

        `shares_at` are the probabilities at a true value.
        """
        reached, missed = ends
        if self.power(side, shares_at(reached)) < POWER:
            return None
        for _ in range(STEPS):
            middle = (reached + missed) / 2
            reached, missed = (middle, missed) if self.power(side, shares_at(middle)) >= POWER else (reached, middle)
        return (reached + missed) / 2
