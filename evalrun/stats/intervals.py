"""Intervals for metrics, each a few lines with its source."""

from __future__ import annotations

import math
from statistics import NormalDist

LEVEL = 0.95  # two-sided, for display


def wilson(successes: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Interval for a share of n yes/no outcomes (Wilson 1927, eq. 7). Shares in 0..1; (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - half) / scale  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else (centre + half) / scale
    return max(0.0, low), min(1.0, high)
