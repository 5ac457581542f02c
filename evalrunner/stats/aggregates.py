"""Many finite numbers to one. Sums are correctly rounded, so the order of the rows changes no bit of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

QUANTILE = re.compile(r"p(\d{1,2})")
NAMES = ("mean", "variance", "ratio", "total", "p50", "p90", "p99")


def aggregate(name: str, values: Sequence[float], *, threshold: float | None = None) -> float | None:
    """The aggregate called `name` of `values`, or None where there are none."""
    if not values:
        return None
    if name == "mean":
        return math.fsum(values) / len(values)
    if name == "total":
        return math.fsum(values)
    if name == "variance":
        return variance(values)
    if name == "ratio":
        return share_at_or_above(values, threshold if threshold is not None else 0.5)
    found = QUANTILE.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not one of {', '.join(NAMES)}")
    return quantile(sorted(values), int(found[1]) / 100)


def variance(values: Sequence[float]) -> float:
    """Population variance (ddof 0), as MLflow's `/variance` has it."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


def share_at_or_above(values: Sequence[float], threshold: float) -> float:
    """Share of values at or above the threshold, as MLflow's `/ratio` has it."""
    return sum(1 for value in values if value >= threshold) / len(values)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linearly interpolated quantile of sorted values (Hyndman & Fan 1996, definition 7; numpy's default)."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    weight = place - below
    if weight == 0 or ordered[below] == ordered[above]:
        return ordered[below]
    return ordered[below] + (ordered[above] - ordered[below]) * weight
