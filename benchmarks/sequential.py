"""Error rates, rows used and power of sequential gates, by simulation with fixed seeds: `docs/statistics.md` quotes them.

python benchmarks/sequential.py
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evalrunner.stats.sequential import BETS, TIE

Array = npt.NDArray[np.float64]


def crossings(values: Array, null: float, *, alpha: float, total: int | None = None) -> npt.NDArray[np.int64]:
    """After how many of its values the test of each row of `values` rejects "the mean is at most `null`".

    One more than there are values where it never does. It is `BettingTest` for many runs at once.
    """
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
        first[(first > n) & reached] = place + 1
    return first
