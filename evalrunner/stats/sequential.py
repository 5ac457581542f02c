"""Tests of a mean that may be looked at after every sample: betting against the null hypothesis.

A capital of 1 is bet, sample after sample, on the mean being above its null value. If it is not, the capital grows to
1/α at any time with a probability of at most α (Ville's inequality), so a test may stop whenever it is decided. Each of
40 bets runs from start to end, and the capital is their mean (Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting", sections 4 and 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from evalrunner.stats.aggregates import Estimand
from evalrunner.stats.intervals import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

BETS: Final = tuple((place / 41) ** 2 for place in range(1, 41))
"""Shares of the largest bet that cannot ruin; squared, because small effects and rare outcomes need small bets."""
BLOCK: Final = 10_000  # values in memory at a time, for 40 bets each
TIE: Final = 1e-9  # means this close to 0 are 0, whatever the order of additions
INTERVAL_STEPS: Final = 30  # of the bisection for an end of a confidence sequence


class BettingTest:
    """One-sided: evidence that the mean of values in 0..1 is above `null`.

    With `total` the values are drawn without replacement from that many, and the test is about their own mean: the bet
    is against the mean that the values not drawn yet would need. `peak` is the largest capital so far; 1/`peak` is a
    p-value at any time.
    """

    __slots__ = ("_capital", "_drawn", "_sum", "null", "peak", "total")

    def __init__(self, null: float, *, total: int | None = None) -> None:
        self.null, self.total = null, total
        self.peak = 1.0
        self._capital = [1.0] * len(BETS)
        self._drawn, self._sum = 0, 0.0

    def add(self, value: float) -> None:
        """Bet on one value. One that stands for no value equals `null`; without `total` it changes nothing."""
        mean = self.null
        if self.total is not None:
            left = self.total - self._drawn
            mean = (self.total * self.null - self._sum) / left if left > 0 else self.null
            self._drawn += 1
            self._sum += value
        if mean <= TIE:  # under the null hypothesis the values left are zero, or even impossible
            if mean < -TIE or value > TIE:
                self.peak = math.inf
            return
        gain = value / mean - 1.0
        self._capital = [capital * (1.0 + bet * gain) for capital, bet in zip(self._capital, BETS, strict=True)]
        self.peak = max(self.peak, self.capital)

    @property
    def capital(self) -> float:
        """What the bets have made of a capital of 1 so far."""
        return math.fsum(self._capital) / len(BETS)


class SequentialTest:
    """Two one-sided tests of a mean in 0..1 against a bound: *pass* if it is above, *fail* if it is below.

    Each sample is given by how far its value lies above the bound, at its lowest and at its highest: the test for *pass*
    takes the lowest, the one for *fail* the highest. A sample that is left out lies at 0. With `largest_cluster` the unit
    is the cluster: its samples come one after another, and their sum is scaled by the size of the largest one.
    `total` is the number of units of the dataset for a test without replacement.
    """

    def __init__(
        self, bound: float, *, alpha_pass: float, alpha_fail: float, total: int | None = None,
        largest_cluster: int | None = None,
    ) -> None:  # fmt: skip
        self.bound = bound
        self.above = BettingTest(bound, total=total)
        self.below = BettingTest(1.0 - bound, total=total)
        self.decision: Literal["pass", "fail"] | None = None
        self._alpha_pass, self._alpha_fail = alpha_pass, alpha_fail
        self._largest = largest_cluster
        self._cluster: int | None = None
        self._sums = [0.0, 0.0]

    def add(self, lowest: float, highest: float, *, cluster: int | None = None) -> None:
        """Add the next sample; its cluster counts once it is complete."""
        if self._largest is None:
            self._bet(lowest, highest)
            return
        if cluster != self._cluster:
            self.close_cluster()
            self._cluster = cluster
        self._sums[0] += lowest
        self._sums[1] += highest

    def close_cluster(self) -> None:
        """Bet on the samples of the last cluster: no further one belongs to it."""
        if self._cluster is not None and self._largest is not None:
            self._bet(self._sums[0] / self._largest, self._sums[1] / self._largest)
        self._cluster, self._sums = None, [0.0, 0.0]

    def samples_left(self, samples: int) -> float:
        """How many more samples decide if the evidence grows as over the first `samples`; infinite if it does not grow."""
        growths = [
            (math.log(test.capital), -math.log(alpha))
            for test, alpha in ((self.above, self._alpha_pass), (self.below, self._alpha_fail))
            if 1.0 < test.capital < math.inf
        ]
        return min((samples * (mark - growth) / growth for growth, mark in growths), default=math.inf)

    def forget(self) -> None:
        """Count no decision up to now: the capital must reach its mark after this sample."""
        self.decision = None
        self.above.peak = self.below.peak = 1.0

    def _bet(self, lowest: float, highest: float) -> None:
        self.above.add(self.bound + lowest)
        self.below.add(1.0 - self.bound - highest)
        if self.decision is None:
            if self.above.peak * self._alpha_pass >= 1.0:
                self.decision = "pass"
            elif self.below.peak * self._alpha_fail >= 1.0:
                self.decision = "fail"


def confidence_sequence(
    sums: Sequence[float], *, level: float, sizes: Sequence[int] | None = None
) -> tuple[float, float]:
    """The interval of the mean of values in 0..1 that holds at any time, both ends: the means that no test rejects.

    `sums` are the values in the order of the samples; of clusters the sums of their values, with their `sizes`. The true
    mean is outside at any time with a probability of at most 1 − `level`, so a run may stop when it likes.
    """
    import numpy as np

    values = np.asarray(sums, dtype=float)
    counts = np.ones(len(values)) if sizes is None else np.asarray(sizes, dtype=float)
    return _lower_end(values, counts, level), 1.0 - _lower_end(counts - values, counts, level)


def _lower_end(sums: Array, sizes: Array, level: float) -> float:
    """The largest mean that is rejected as too low at some time; 0 if none is."""
    import numpy as np

    bets, needed, largest = np.asarray(BETS), math.log(2 * len(BETS) / (1 - level)), sizes.max()

    def rejects(mean: float) -> bool:
        logs = np.zeros(len(BETS))
        for start in range(0, len(sums), BLOCK):
            part = slice(start, start + BLOCK)
            gains = (sums[part] - mean * sizes[part]) / (largest * mean)
            growth = logs + np.cumsum(np.log1p(bets * gains[:, None]), axis=0)
            if np.logaddexp.reduce(growth, axis=1).max() >= needed:
                return True
            logs = growth[-1]
        return False

    low, high = 0.0, 1.0
    for _ in range(INTERVAL_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rejects(middle) else (low, middle)
    return low


def anytime_interval(
    estimand: Estimand, values: Sequence[float], samples: Sequence[int], clusters: Sequence[int] | None = None
) -> Interval:
    """The interval of a metric of a run that stopped when its gates were decided: a confidence sequence.

    `samples` and `clusters` hold the position and the cluster of each value. The last cluster may be incomplete and is
    not used. Only means of scores in a known range have one.
    """
    low, width, n = estimand.bounds[0], estimand.sample_width, len(values)
    if not n or not estimand.aggregate.has_interval:
        return Interval(None, None, LEVEL, None, n)
    if not estimand.aggregate.paired or low is None or width is None:
        return Interval(None, None, LEVEL, None, n, note="no interval: the run stopped when its gates were decided")
    order = sorted(range(n), key=samples.__getitem__)
    shares = [(estimand.of_sample(values[place]) - low) / width for place in order]
    if clusters is None:
        ends = confidence_sequence(shares, level=LEVEL)
    else:
        groups: dict[int, list[float]] = {}
        for place, share in zip(order, shares, strict=True):
            groups.setdefault(clusters[place], []).append(share)
        complete = list(groups.values())[:-1]
        if not complete:
            return Interval(None, None, LEVEL, None, n, note="no interval: no cluster is complete")
        ends = confidence_sequence([math.fsum(each) for each in complete], sizes=list(map(len, complete)), level=LEVEL)
    return Interval(low + width * ends[0], low + width * ends[1], LEVEL, "betting", n)


@dataclass(frozen=True, slots=True)
class Decisions:
    """How often a gate passes and fails, and the mean share of its samples that it looks at."""

    passes: float
    fails: float
    used: float


class ShareTest:
    """A sequential test of a share against `bound` on `n` samples: its decisions depend on the counts alone."""

    def __init__(self, bound: float, n: int, *, alpha_pass: float, alpha_fail: float) -> None:
        self.n = n
        self.right = _least_counts(bound, n, alpha_pass)
        self.wrong = _least_counts(1.0 - bound, n, alpha_fail)

    def decisions(self, rate: float) -> Decisions:
        """The probabilities for a model with this true rate, over all outcomes."""
        import numpy as np

        open_ = np.zeros(self.n + 2)  # the probability of each count of right answers, of runs without a decision
        open_[0], passes, fails, used = 1.0, 0.0, 0.0, 0.0
        low, high = 0, 0
        for size in range(1, self.n + 1):
            moved = open_[low : high + 1] * rate
            open_[low : high + 1] *= 1.0 - rate
            open_[low + 1 : high + 2] += moved
            least, most = size - self.wrong[size] + 1, self.right[size] - 1
            passed, failed = open_[max(low, most + 1) : high + 2].sum(), open_[low : max(low, least)].sum()
            open_[max(low, most + 1) : high + 2] = 0.0
            open_[low : max(low, least)] = 0.0
            passes, fails, used = passes + passed, fails + failed, used + size * (passed + failed)
            low, high = max(low, least), min(high + 1, most)
            if high < low:
                break
        rest = 1.0 - passes - fails
        return Decisions(float(passes), float(fails), float(used + self.n * rest) / self.n)


def _least_counts(null: float, n: int, alpha: float) -> list[int]:
    """For each number of samples the least count that rejects "the share is at most `null`"; above it where none does."""
    if null <= 0.0:
        return [1] * (n + 1)
    gains = [math.log1p(bet * (1.0 / null - 1.0)) for bet in BETS]
    losses = [math.log1p(-bet) for bet in BETS]
    mark = len(BETS) / alpha
    counts, least = [1], 0
    for size in range(1, n + 1):
        while least <= size:
            logs = [least * gain + (size - least) * loss for gain, loss in zip(gains, losses, strict=True)]
            if max(logs) > 700.0 or math.fsum(map(math.exp, logs)) >= mark:
                break
            least += 1
        counts.append(least)
    return counts
