"""Aggregates (many scores to one number, with its interval) and reducers (epochs to one score per sample).

An aggregate is an object that knows all that gates, comparisons and reports ask of it, so that adding one is a class
and an entry in `AGGREGATES`. Sums are correctly rounded: the order of the rows changes no bit of a number.
"""

from __future__ import annotations

import math
import re
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from evalrunner.errors import nearest
from evalrunner.stats.distributions import quantile, share_at_or_above, variance
from evalrunner.stats.intervals import (
    LEVEL,
    MIN_CLUSTERS,
    Interval,
    clopper_pearson,
    clustered_mean_interval,
    clustered_quantile_interval,
    mean_interval,
    no_interval,
    quantile_interval,
    variance_interval,
    wilson,
)

Range = tuple[float | None, float | None]
"""The least and the greatest value, None where the range is open."""

QUANTILE_NAME: Final = re.compile(r"p(\d{1,2})")

SIMPLE_REDUCERS: Final = ("mean", "median", "mode", "max")
COUNTING_REDUCERS: Final = ("at_least", "pass_at", "pass_k")
REDUCER_NAMES: Final = (*SIMPLE_REDUCERS, *(f"{kind}_{{k}}" for kind in COUNTING_REDUCERS))
_COUNTING_NAME = re.compile(rf"({'|'.join(COUNTING_REDUCERS)})_([1-9][0-9]{{0,5}})")
PASS_SCORE: Final = 1.0  # score from which an epoch counts as passed


class Aggregate(ABC):
    """One way to turn many scores into a number. Frozen and shared: there is one object per name.

    `paired`: it is the mean of one number per sample (`of_sample`), so that two runs can be compared sample by sample.
    `always_share`: that number is 0 or 1 for any scores. `has_interval`: it has a confidence interval.
    `needs_threshold`: it is defined by the scorer's threshold. `in_score_units`: it can be plotted beside the scores.
    `order_based`: sorting the values first saves time. `monotone`: it never falls when a score rises.
    """

    name: str
    paired: ClassVar[bool] = False
    always_share: ClassVar[bool] = False
    has_interval: ClassVar[bool] = True
    needs_threshold: ClassVar[bool] = False
    in_score_units: ClassVar[bool] = True
    order_based: ClassVar[bool] = False
    monotone: ClassVar[bool] = True

    @abstractmethod
    def value(self, values: Sequence[float], estimand: Estimand) -> float:
        """The number for at least one value."""

    @abstractmethod
    def interval(self, values: Sequence[float], estimand: Estimand, *, level: float, one_sided: bool) -> Interval:
        """The two-sided interval for unrelated values; with `one_sided` the bounds of a gate."""

    @abstractmethod
    def clustered_interval(
        self, values: Sequence[float], clusters: Sequence[int], estimand: Estimand, *, level: float, one_sided: bool
    ) -> Interval:
        """The same for values in at least ten clusters; `clusters` holds the cluster of each value."""

    def bounds(self, estimand: Estimand) -> Range:
        """The least and the greatest value it can have."""
        return estimand.low, estimand.high

    @property
    def takes_infinite(self) -> bool:
        """Whether it is known with scores of which only the side is known: below all others, or above."""
        return self.order_based or self.always_share

    def of_sample(self, score: float, estimand: Estimand) -> float:
        """The number of one sample whose mean a `paired` aggregate is."""
        return score

    def is_share(self, estimand: Estimand) -> bool:
        """Whether it is the share of samples whose number is 1, all others being 0."""
        return self.paired and (self.always_share or estimand.binary)

    def successes(self, values: Sequence[float], estimand: Estimand) -> float:
        """How many samples count into a share."""
        return math.fsum(values)


class Mean(Aggregate):
    """The mean; a share for 0/1 scores."""

    name = "mean"
    paired = True

    def value(self, values: Sequence[float], estimand: Estimand) -> float:
        """Correctly rounded."""
        return math.fsum(values) / len(values)

    def interval(self, values: Sequence[float], estimand: Estimand, *, level: float, one_sided: bool) -> Interval:
        """Wilson's for 0/1 scores; else as `mean_interval`."""
        if estimand.binary:
            return _wilson(self.successes(values, estimand), len(values), level)
        return mean_interval(values, low=estimand.low, high=estimand.high, level=level, one_sided=one_sided)

    def clustered_interval(
        self, values: Sequence[float], clusters: Sequence[int], estimand: Estimand, *, level: float, one_sided: bool
    ) -> Interval:
        """Wilson's with the error over clusters for a bounded range, else Student's."""
        binary = estimand.binary
        low, high = (0.0, 1.0) if binary else (estimand.low, estimand.high)
        return clustered_mean_interval(
            values, clusters, low=low, high=high, level=level, binary=binary, one_sided=one_sided
        )


class Ratio(Mean):
    """The share of samples with a score at or above the threshold, as MLflow defines `/ratio`."""

    name = "ratio"
    always_share = True
    needs_threshold = True

    def value(self, values: Sequence[float], estimand: Estimand) -> float:
        """A share in 0..1."""
        return share_at_or_above(values, estimand.threshold)

    def interval(self, values: Sequence[float], estimand: Estimand, *, level: float, one_sided: bool) -> Interval:
        """Wilson's."""
        return _wilson(self.successes(values, estimand), len(values), level)

    def clustered_interval(
        self, values: Sequence[float], clusters: Sequence[int], estimand: Estimand, *, level: float, one_sided: bool
    ) -> Interval:
        """Wilson's with the error over clusters."""
        shares = [self.of_sample(value, estimand) for value in values]
        return clustered_mean_interval(
            shares, clusters, low=0.0, high=1.0, level=level, binary=True, one_sided=one_sided
        )

    def bounds(self, estimand: Estimand) -> Range:
        """0..1."""
        return 0.0, 1.0

    def of_sample(self, score: float, estimand: Estimand) -> float:
        """1 at or above the threshold, else 0."""
        return float(score >= estimand.threshold)

    def successes(self, values: Sequence[float], estimand: Estimand) -> float:
        """Samples at or above the threshold."""
        return round(share_at_or_above(values, estimand.threshold) * len(values))


class Variance(Aggregate):
    """The population variance (ddof 0), as in MLflow's `/variance`."""

    name = "variance"
    in_score_units = False
    monotone = False

    def value(self, values: Sequence[float], estimand: Estimand) -> float:
        """In squared units of the score."""
        return variance(values)

    def interval(self, values: Sequence[float], estimand: Estimand, *, level: float, one_sided: bool) -> Interval:
        """Wilson's for the squared deviations, from 200 values in a bounded range."""
        return variance_interval(values, low=estimand.low, high=estimand.high, level=level, one_sided=one_sided)

    def clustered_interval(
        self, values: Sequence[float], clusters: Sequence[int], estimand: Estimand, *, level: float, one_sided: bool
    ) -> Interval:
        """None."""
        return no_interval(len(values), level, "no interval: the variance of clustered values has none")

    def bounds(self, estimand: Estimand) -> Range:
        """From 0 to that of values at both ends of the range."""
        if estimand.low is None or estimand.high is None:
            return 0.0, None
        return 0.0, (estimand.high - estimand.low) ** 2 / 4


class Total(Aggregate):
    """The sum. It has no interval: it grows with the dataset."""

    name = "total"
    has_interval = False
    in_score_units = False

    def value(self, values: Sequence[float], estimand: Estimand) -> float:
        """Correctly rounded."""
        return math.fsum(values)

    def interval(self, values: Sequence[float], estimand: Estimand, *, level: float, one_sided: bool) -> Interval:
        """None: an `Interval` without a method."""
        return no_interval(len(values), level)

    def clustered_interval(
        self, values: Sequence[float], clusters: Sequence[int], estimand: Estimand, *, level: float, one_sided: bool
    ) -> Interval:
        """None either."""
        return no_interval(len(values), level)

    def bounds(self, estimand: Estimand) -> Range:
        """Open: it depends on the number of samples."""
        return None, None


class Quantile(Aggregate):
    """A quantile, linearly interpolated: `p50` is the median."""

    order_based = True

    def __init__(self, name: str, share: float) -> None:
        self.name = name
        self.share = share

    def value(self, values: Sequence[float], estimand: Estimand) -> float:
        """Between two of the sorted values, or one of them."""
        return quantile(sorted(values), self.share)

    def interval(self, values: Sequence[float], estimand: Estimand, *, level: float, one_sided: bool) -> Interval:
        """Order statistics."""
        return quantile_interval(values, self.share, level=level, one_sided=one_sided)

    def clustered_interval(
        self, values: Sequence[float], clusters: Sequence[int], estimand: Estimand, *, level: float, one_sided: bool
    ) -> Interval:
        """Order statistics of the effective number of rows."""
        return clustered_quantile_interval(values, clusters, self.share, level=level, one_sided=one_sided)


MEAN: Final = Mean()
AGGREGATES: Final[Mapping[str, Aggregate]] = {one.name: one for one in (MEAN, Variance(), Ratio(), Total())}
AGGREGATE_NAMES: Final = (*AGGREGATES, "p50", "p90", "p99")


def is_aggregate(name: str) -> bool:
    """Whether there is an aggregate with this name."""
    return name in AGGREGATES or QUANTILE_NAME.fullmatch(name) is not None


@lru_cache(maxsize=256)
def find_aggregate(name: str) -> Aggregate:
    """The aggregate with this name. Raises ValueError for an unknown one."""
    if not is_aggregate(name):
        known = f"; known aggregates: {', '.join(AGGREGATE_NAMES)}"
        raise ValueError(f"unknown aggregate {name!r}{nearest(name, AGGREGATE_NAMES) or known}")
    return AGGREGATES.get(name) or Quantile(name, int(name[1:]) / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimand:
    """What is estimated: an aggregate of scores in low..high (None where open).

    `binary`: every score is 0 or 1 by construction. `threshold` is that of the aggregate `ratio`.
    """

    aggregate: Aggregate = MEAN
    binary: bool = False
    low: float | None = None
    high: float | None = None
    threshold: float = 0.5

    def value(self, values: Sequence[float]) -> float | None:
        """The number, None without values."""
        return self.aggregate.value(values, self) if values else None

    @property
    def bounds(self) -> Range:
        """The least and the greatest value it can have."""
        return self.aggregate.bounds(self)

    @property
    def is_share(self) -> bool:
        """Whether it is a share of samples."""
        return self.aggregate.is_share(self)

    @property
    def sample_width(self) -> float | None:
        """The width of the range of one sample's number, None where that is open."""
        if self.is_share:
            return 1.0
        return None if self.low is None or self.high is None else self.high - self.low

    def of_sample(self, score: float) -> float:
        """The number of one sample whose mean a paired aggregate is."""
        return self.aggregate.of_sample(score, self)


def metric_interval(
    estimand: Estimand,
    values: Sequence[float],
    *,
    clusters: Sequence[int] | None = None,
    level: float = LEVEL,
    one_sided: bool = False,
) -> Interval:
    """The two-sided interval of an aggregate of `values`, one value per sample; with `one_sided` the bounds of a gate.

    `clusters` holds the cluster of each value. There is no interval for totals, without values, for fewer than ten
    clusters, and where no method holds its level: for few values, and for the variance of an open range.
    """
    n = len(values)
    if n == 0 or not estimand.aggregate.has_interval:
        return no_interval(n, level)
    if clusters is None:
        return estimand.aggregate.interval(values, estimand, level=level, one_sided=one_sided)
    count = len(set(clusters))
    if count < MIN_CLUSTERS:
        return no_interval(n, level, f"no interval: {count} clusters, at least {MIN_CLUSTERS} are needed")
    return estimand.aggregate.clustered_interval(values, clusters, estimand, level=level, one_sided=one_sided)


def gate_bounds(
    estimand: Estimand,
    values: Sequence[float],
    *,
    confidence: float,
    clusters: Sequence[int] | None = None,
) -> Interval:
    """The one-sided lower and upper bounds of an aggregate, each at `confidence`, as `low` and `high`.

    Exact (Clopper-Pearson) for shares of unclustered samples, so that at most 1 − confidence of the runs of a model
    that sits at the bound pass; Wilson's bound lets 7.8% through for 5 at 20 rows.
    """
    level = round(2 * confidence - 1, 12)  # .9 for .95, without the last bit's noise
    if clusters is None and values and estimand.is_share:
        n = len(values)
        successes = round(estimand.aggregate.successes(values, estimand))
        low, high = clopper_pearson(successes, n, confidence=confidence)
        return Interval(low, high, level, "clopper-pearson", n, float(n))
    return metric_interval(estimand, values, clusters=clusters, level=level, one_sided=True)


def _wilson(successes: float, n: int, level: float) -> Interval:
    low, high = wilson(successes, n, level=level)
    return Interval(low, high, level, "wilson", n, float(n))


@dataclass(frozen=True, slots=True)
class Reducer:
    """How the scores of a sample's epochs become one score. `k` and `pass_score` belong to the counting ones."""

    kind: str
    k: int = 1
    pass_score: float = PASS_SCORE

    @property
    def name(self) -> str:
        """The name in a suite: `mean`, `at_least_3`."""
        return f"{self.kind}_{self.k}" if self.counts else self.kind

    @property
    def counts(self) -> bool:
        """Whether it counts passed epochs, so that its result is in 0..1 for any scores."""
        return self.kind in COUNTING_REDUCERS

    @property
    def unbiased(self) -> bool:
        """Whether runs with different numbers of epochs can be compared: its expectation does not depend on them."""
        return self.kind in ("mean", "pass_at", "pass_k")

    def yields_binary(self, *, binary: bool, epochs: int) -> bool:
        """Whether every reduced score is 0 or 1 by construction; `binary` says so of the scores."""
        if self.kind == "at_least":
            return True
        if self.counts:  # of all epochs, all or any
            return self.k == epochs
        return binary and (epochs == 1 or self.kind in ("mode", "max"))

    def reduce(self, scores: Sequence[float]) -> float | None:
        """The score of a sample from those of its scored epochs, in their order; None from fewer than k."""
        n = len(scores)
        if n < self.k:
            return None
        if self.kind == "mean":
            return math.fsum(scores) / n
        if self.kind == "median":
            return statistics.median(scores)
        if self.kind == "mode":
            return Counter(scores).most_common(1)[0][0]  # the first of equally common ones
        if self.kind == "max":
            return max(scores)
        right = sum(1 for score in scores if score >= self.pass_score)
        if self.kind == "at_least":
            return float(right >= self.k)
        if self.kind == "pass_k":
            return math.comb(right, self.k) / math.comb(n, self.k)
        return 1 - math.comb(n - right, self.k) / math.comb(n, self.k)  # Chen et al. 2021, eq. 1


MEAN_REDUCER: Final = Reducer("mean")


def parse_reducer(name: str, *, pass_score: float = PASS_SCORE) -> Reducer:
    """The reducer with this name. Raises ValueError with the nearest one."""
    if name in SIMPLE_REDUCERS:
        return Reducer(name)
    match = _COUNTING_NAME.fullmatch(name)
    if match is None:
        known = "; known reducers: " + ", ".join(REDUCER_NAMES)
        raise ValueError(f"unknown reducer {name!r}{nearest(name, SIMPLE_REDUCERS) or known}")
    return Reducer(match[1], int(match[2]), pass_score)
