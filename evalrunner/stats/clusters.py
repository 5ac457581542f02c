"""Related samples: how much less they tell than as many unrelated ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

MIN_CLUSTERS: Final = 5  # below, no interval: the formula covers 69 % there
FEW_CLUSTERS: Final = 20  # below, a warning beside the interval


@dataclass(frozen=True, slots=True)
class ClusteredError:
    """The standard error of a number over clustered rows; `effective` is n²/Σm², the clusters if they were alike."""

    error: float
    count: int
    effective: float

    @property
    def df(self) -> float:
        """Degrees of freedom of the error: never below 1."""
        return max(1.0, self.effective - 1)

    @property
    def note(self) -> str | None:
        """The warning that belongs beside an interval over so few clusters."""
        return f"only {self.count} clusters: the interval may be too narrow" if self.count < FEW_CLUSTERS else None


def too_few(count: int) -> str:
    """Why there is no interval over `count` clusters."""
    return f"no interval: {count} clusters, at least {MIN_CLUSTERS} are needed"


def mean_error(values: Sequence[float], clusters: Sequence[int]) -> ClusteredError:
    """The standard error of a mean by the delete-one-cluster jackknife (Efron & Stein 1981; Cameron & Miller 2015, §VI.B).

    For clusters of equal size it is √(Σ_c (Σ_i (s_i − mean))² · C/(C−1)) / n, as in Miller 2024, §2.2.
    """
    total, n = math.fsum(values), len(values)

    def without(group: Sequence[float]) -> float:
        return (total - math.fsum(group)) / (n - len(group))

    return jackknife(values, clusters, total / n, without)


def variance_error(values: Sequence[float], clusters: Sequence[int]) -> ClusteredError:
    """The standard error of the population variance by the same jackknife."""
    n = len(values)
    centre = math.fsum(values) / n
    total = math.fsum(value - centre for value in values)
    squares = math.fsum((value - centre) ** 2 for value in values)

    def without(group: Sequence[float]) -> float:
        left = n - len(group)
        mean = (total - math.fsum(value - centre for value in group)) / left
        return (squares - math.fsum((value - centre) ** 2 for value in group)) / left - mean * mean

    return jackknife(values, clusters, squares / n - (total / n) ** 2, without)


def jackknife(
    values: Sequence[float], clusters: Sequence[int], whole: float, without: Callable[[Sequence[float]], float]
) -> ClusteredError:
    """The error of the statistic `whole` from what it is `without` each cluster; infinite where there is but one."""
    groups = grouped(values, clusters)
    count = len(groups)
    effective = len(values) ** 2 / math.fsum(len(group) ** 2 for group in groups)
    if count < 2:
        return ClusteredError(math.inf, count, effective)
    spread = math.fsum((without(group) - whole) ** 2 for group in groups)
    return ClusteredError(math.sqrt((count - 1) / count * spread), count, effective)


def grouped(values: Sequence[float], clusters: Sequence[int]) -> list[list[float]]:
    """The values of each cluster."""
    groups: dict[int, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    return list(groups.values())
