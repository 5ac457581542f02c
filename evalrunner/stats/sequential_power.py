"""What a sequential gate can decide: exactly for 0/1 scores, by seeded simulation for paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evalrunner.stats.sequential import BETS, TIE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.int64]

POWER: Final = 0.8
BISECTIONS: Final = 8  # of a true value, for its power
RUNS: Final = 300  # simulated, for pairs


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
        return Decisions(passes, fails, (used + self.n * rest) / self.n)


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


def crossings(values: Array, null: float, *, alpha: float, total: int | None = None, start: int = 0) -> Counts:
    """After how many of its values the test of each row of `values` rejects "the mean is at most `null`".

    One more than there are values where it never does. It is `BettingTest` for many runs at once; before `start` values
    it rejects nothing.
    """
    import numpy as np

    runs, n = values.shape
    bets, capital = np.asarray(BETS), np.ones((runs, len(BETS)))
    first, sums = np.full(runs, n + 1), np.zeros(runs)
    for place in range(n):
        column = values[:, place]
        means = np.full(runs, null) if total is None else (total * null - sums) / (total - place)
        sums += column
        certain = (means < -TIE) | ((means <= TIE) & (column > TIE))
        playing = means > TIE
        gains = np.where(playing, column / np.where(playing, means, 1.0) - 1.0, 0.0)
        capital *= 1.0 + bets * gains[:, None]
        reached = certain | (capital.mean(axis=1) * alpha >= 1.0)
        first[(first > n) & reached & (place >= start)] = place + 1
    return first


def pair_decisions(
    drop: float, n: int, *, allowed: float, discordance: float, alpha_pass: float, alpha_fail: float, seed: int = 0
) -> Decisions:
    """How often a gate on a baseline passes and fails if the true drop is `drop`, by simulation of 0/1 pairs."""
    import numpy as np

    draws = np.random.default_rng(seed).random((RUNS, n))
    worse, better = max(0.0, discordance + drop) / 2, max(0.0, discordance - drop) / 2
    values = np.where(draws < worse, 0.0, np.where(draws > 1.0 - better, 1.0, 0.5))
    null = (1.0 - allowed) / 2
    above = crossings(values, null, alpha=alpha_pass)
    below = crossings(1.0 - values, 1.0 - null, alpha=alpha_fail)
    passed, failed = (above < below) & (above <= n), (below < above) & (below <= n)
    used = np.minimum(np.minimum(above, below), n).mean() / n
    return Decisions(float(passed.mean()), float(failed.mean()), float(used))


def value_with_power(power_of: Callable[[float], float], near: float, far: float) -> float | None:
    """The value nearest to `near` with 80% power, which grows towards `far`; None if even that has less."""
    if power_of(far) < POWER:
        return None
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        near, far = (near, middle) if power_of(middle) >= POWER else (middle, far)
    return far
