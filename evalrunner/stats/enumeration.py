"""The power of tests of 0/1 scores by going through every outcome: paired drops, and shares.

The outcome of a paired test depends on how many pairs differ (m) and in how many of those only the baseline is right (b).
For each m there is a largest b that passes and a smallest one that is called worse, or fails; they are found with the
function that gives the verdict, and the probabilities of the outcomes are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from evalrunner.stats.distributions import beta_quantile, binomial_cdf, normal_quantile
from evalrunner.stats.hypothesis_tests import ALPHA, PairedPValues, paired_p_values
from evalrunner.stats.power import POWER

DISCORDANCES: Final = (0.05, 0.1, 0.3)  # assumed shares of samples whose score changes, without two earlier runs
TAIL: Final = 1e-9  # of the distribution of m left out on either side
ROUNDING_UP: Final = 1e-12  # on a level, as the gates have it
LARGE: Final = 3000  # pairs from which the normal approximation needs no search
PRECISION: Final = 1e-5  # of a true drop

Outcome: TypeAlias = Literal["pass", "worse", "fail"]


@dataclass(slots=True)
class PairedTest:
    """A gate on the drop of `n` pairs of 0/1 scores. Drops are shares, positive if the candidate is worse.

    `max_drop` is the allowed drop; None for a gate that requires an improvement. `alpha` is the level of a pass, and
    `fail_alpha` that of a fail, corrected for the gates that share it. With clusters `n` is the effective number of pairs,
    and `df` are the degrees of freedom of their inflation.
    """

    n: int
    max_drop: float | None
    alpha: float = ALPHA
    fail_alpha: float = ALPHA
    df: float | None = None
    _limits: dict[Outcome, dict[int, int]] = field(default_factory=dict)

    def power(self, outcome: Outcome, *, discordance: float, drop: float) -> float:
        """The probability of an outcome, if a share `discordance` of the pairs differs and the true drop is `drop`.

        `worse` includes `fail`. A drop beyond the discordance raises it, as no pair then improves.
        """
        differing = max(discordance, abs(drop))
        if differing <= 0:
            return float(self._has(outcome, 0, 0))
        share = min(1.0, max(0.0, (differing + drop) / (2 * differing)))
        first, weights = binomial_weights(self.n, differing)
        limits = [self._limit(outcome, first + place) for place in range(len(weights))]
        below = shares_at_most(first, [limit - (outcome != "pass") for limit in limits], share)
        sums = (weight * (low if outcome == "pass" else 1 - low) for weight, low in zip(weights, below, strict=True))
        return min(1.0, math.fsum(sums))

    def drop_for(self, outcome: Outcome, *, discordance: float, power: float = POWER) -> float | None:
        """The true drop at which an outcome has this probability; None if no drop has it."""

        def reached(drop: float) -> bool:
            return (self.power(outcome, discordance=discordance, drop=drop) >= power) == (outcome != "pass")

        low, high = -1.0, 1.0
        if reached(low) or not reached(high):
            return None
        while high - low > PRECISION:
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return (low + high) / 2

    def _limit(self, outcome: Outcome, m: int) -> int:
        """The largest b that passes, -1 if none; the smallest one that is worse or fails, m + 1 if none."""
        known = self._limits.setdefault(outcome, {})
        if m not in known:
            b = min(m, known.get(m - 1, m // 2))
            if outcome == "pass":
                while b < m and self._has(outcome, b + 1, m):
                    b += 1
                while b >= 0 and not self._has(outcome, b, m):
                    b -= 1
            else:
                while b > 0 and self._has(outcome, b - 1, m):
                    b -= 1
                while b <= m and not self._has(outcome, b, m):
                    b += 1
            known[m] = b
        return known[m]

    def _has(self, outcome: Outcome, b: int, m: int) -> bool:
        p = self._p_values(b, m - b)
        passes = (p.p_better if self.max_drop is None else p.p_pass) <= self.alpha + ROUNDING_UP
        if outcome == "pass" or passes:
            return passes and outcome == "pass"
        fails = (p.p_worse if self.max_drop is None else p.p_fail) <= self.fail_alpha + ROUNDING_UP
        if outcome == "fail":
            return fails
        return fails or (2 * b >= m if self.max_drop is None else p.p_worse <= ALPHA)

    def _p_values(self, b: int, c: int) -> PairedPValues:
        return _cached_p_values(b, c, self.n, self.max_drop or 0.0, self.df)


@lru_cache(maxsize=200_000)
def _cached_p_values(b: int, c: int, n: int, max_drop: float, df: float | None) -> PairedPValues:
    return paired_p_values(b, c, n, max_drop=max_drop, exact=df is None, df=math.inf if df is None else df)


def samples_for_equal_model(
    max_drop: float, *, discordance: float, alpha: float = ALPHA, df: float | None = None, power: float = POWER
) -> int | None:
    """How many pairs let a model without a drop pass with this probability; None if no drop is allowed.

    From the normal approximation, corrected by the exact power at the number found.
    """
    if max_drop <= 0:
        return None

    def exact(n: float) -> float:
        test = PairedTest(math.ceil(n), max_drop, alpha, df=df)
        return test.power("pass", discordance=discordance, drop=0.0)

    wanted = normal_quantile(1 - alpha) + normal_quantile(power)
    n = max(2.0, wanted**2 * discordance / max_drop**2)
    for _ in range(2):
        reached = normal_quantile(1 - alpha) + normal_quantile(min(0.999, max(0.01, exact(n))))
        n *= min(4.0, max(0.25, (wanted / max(0.1, reached)) ** 2))
    while n < LARGE and exact(n) < power:
        n += max(1.0, n / 50)
    return math.ceil(n)


def binomial_weights(n: int, share: float) -> tuple[int, list[float]]:
    """The probabilities of consecutive counts of n, without negligible tails, and the first of these counts."""
    if share >= 1:
        return n, [1.0]
    middle = min(n, math.floor((n + 1) * share))
    peak = math.exp(_log_binomial(middle, n, share))
    up, down = [peak], list[float]()
    odds = share / (1 - share)
    for count in range(middle, n):
        up.append(up[-1] * (n - count) / (count + 1) * odds)
        if up[-1] < TAIL * peak:
            break
    for count in range(middle, 0, -1):
        down.append((down[-1] if down else peak) * count / (n - count + 1) / odds)
        if down[-1] < TAIL * peak:
            break
    return middle - len(down), [*reversed(down), *up]


def shares_at_most(first: int, limits: list[int], share: float) -> Iterator[float]:
    """P(B ≤ limit) of binomial counts B of `first`, `first` + 1, … outcomes, a limit for each.

    From one to the next by P(B of m + 1 ≤ k) = P(B of m ≤ k) − share·P(B of m = k).
    """
    if share <= 0 or share >= 1:
        yield from (float(limit >= (0 if share <= 0 else first + place)) for place, limit in enumerate(limits))
        return
    k, total = limits[0], binomial_cdf(limits[0], first, share)
    for m, limit in enumerate(limits, start=first):
        if m > first and 0 <= k < m:
            total -= share * math.exp(_log_binomial(k, m - 1, share))
        while k < limit:
            k += 1
            total += math.exp(_log_binomial(k, m, share)) if 0 <= k <= m else 0.0
        while k > limit:
            total -= math.exp(_log_binomial(k, m, share)) if 0 <= k <= m else 0.0
            k -= 1
        total = 0.0 if k < 0 else 1.0 if k >= m else min(1.0, max(0.0, total))
        yield total


def _log_binomial(k: int, n: int, share: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(share) + (n - k) * math.log1p(-share)


def least_count(n: int, holds: Callable[[int], bool]) -> int:
    """The smallest count of 0..n for which a condition holds that stays true from there on; n + 1 if there is none."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def share_for_at_least(count: int, n: int, power: float = POWER) -> float | None:
    """The true share at which at least `count` of n are reached with this probability: exact. None if they cannot be."""
    if count > n:
        return None
    return 0.0 if count <= 0 else beta_quantile(power, count, n - count + 1)


def share_for_at_most(count: int, n: int, power: float = POWER) -> float | None:
    """The true share at which at most `count` of n are reached with this probability."""
    if count < 0:
        return None
    return 1.0 if count >= n else beta_quantile(1 - power, count + 1, n - count)
