"""The mean that people would have given, from a judge's scores of all rows and labels of some: PPI++ (Angelopoulos et al. 2023).

The judge's mean is corrected by what labels say about its errors: m = λ·mean(f) + Σ w·(y − λf), with w the normalized
inverse probabilities of the labels (Hájek 1971). λ in 0..1 is that with the smallest error: 0 leaves the labels alone,
1 trusts the judge's differences fully. The estimate is the sum of one influence per row, so that clusters, weights,
slices and paired differences all have the same error: the root of the sum of squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evalrunner.stats.distributions import t_quantile, t_tail
from evalrunner.stats.hypothesis_tests import SamplesToDecide, samples_to_decide
from evalrunner.stats.intervals import LEVEL, MIN_CLUSTERS, ROUNDING, wilson

MIN_LABELS: Final = 20  # below, no corrected mean: the error of the labels is not known
METHOD: Final = "ppi++"


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows of one target, aligned: a judge's scores, people's labels (None: not labeled), both in 0..1.

    `probabilities` are those with which each label was drawn, None for equal ones. `clusters` are those of the rows.
    """

    verdicts: Sequence[float]
    labels: Sequence[float | None]
    probabilities: Sequence[float | None] | None = None
    clusters: Sequence[int] | None = None

    @property
    def labeled(self) -> list[int]:
        """The places of the labeled rows."""
        return [place for place, label in enumerate(self.labels) if label is not None]

    def take(self, places: Sequence[int]) -> JudgedRows:
        """The rows at these places."""
        drawn, groups = self.probabilities, self.clusters
        return JudgedRows(
            [self.verdicts[place] for place in places],
            [self.labels[place] for place in places],
            None if drawn is None else [drawn[place] for place in places],
            None if groups is None else [groups[place] for place in places],
        )


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """An estimate with its interval; `error` is its standard error with `df` degrees of freedom.

    `power` is λ. `labels` and `rows` are counted; `n_effective` is the number of labels without a judge that would be
    worth as much. Without a `method` there is no estimate, and `note` says why.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str | None
    labels: int
    rows: int
    power: float = 0.0
    error: float = 0.0
    df: float = 1.0
    n_effective: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Influence:
    """An estimate as a sum: what each row contributes to its error, and the error of rare mistakes not observed."""

    value: float
    shifts: list[float]
    padding: float
    power: float
    effective_labels: float


def powered_mean(rows: JudgedRows, *, level: float = LEVEL) -> PoweredMean:
    """The corrected mean of one target or slice with its two-sided interval: Wilson's for the effective number of labels.

    Its one end at level 2c − 1 is a one-sided bound at confidence c. None below 20 labels, and below 10 clusters with
    labels.
    """
    count = len(rows.labeled)
    if (note := _too_few(rows)) is not None:
        return PoweredMean(None, None, None, None, count, len(rows.verdicts), note=note)
    influence = _influence(rows)
    error, df = _error(influence, rows)
    share = min(1.0, max(0.0, influence.value))
    varies = error > ROUNDING and 0 < share < 1
    effective = share * (1 - share) / error**2 if varies else influence.effective_labels
    low, high = wilson(share * effective, effective, level=level, df=df)
    return PoweredMean(
        share, low, high, METHOD, count, len(rows.verdicts), influence.power, error, df, effective,
        _clipped_note(influence.value),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PoweredDifference:
    """First − second of two corrected means over the same samples, with its interval and p-values by Student's t.

    `p_above` is that of "the difference is `margin` or less", `p_below` of "it is `margin` or more".
    """

    estimate: float | None
    low: float | None
    high: float | None
    method: str | None
    labels: tuple[int, int]
    pairs: int
    error: float = 0.0
    df: float = 1.0
    note: str | None = None

    def p_above(self, margin: float = 0.0) -> float:
        """The p-value of "the difference is `margin` or less"."""
        return 1.0 if self.estimate is None else t_tail(self._score(margin), self.df)

    def p_below(self, margin: float = 0.0) -> float:
        """The p-value of "the difference is `margin` or more"."""
        return 1.0 if self.estimate is None else t_tail(-self._score(margin), self.df)

    @property
    def p_value(self) -> float:
        """Two-sided, of "no difference"."""
        return min(1.0, 2 * min(self.p_above(), self.p_below()))

    def _score(self, margin: float) -> float:
        assert self.estimate is not None  # the caller has checked
        return (self.estimate - margin) / self.error


def powered_difference(first: JudgedRows, second: JudgedRows, *, level: float = LEVEL) -> PoweredDifference:
    """The corrected mean of `first` minus that of `second`, whose rows are of the same samples in the same order.

    Each side is corrected by its own labels, so a judge that favors one of them has no effect on the estimate. What
    both sides share, a sample or its cluster, cancels.
    """
    counts = len(first.labeled), len(second.labeled)
    for rows in (first, second):
        if (note := _too_few(rows)) is not None:
            return PoweredDifference(None, None, None, None, counts, len(first.verdicts), note=note)
    one, other = _influence(first), _influence(second)
    both = _Influence(
        one.value - other.value,
        [a - b for a, b in zip(one.shifts, other.shifts, strict=True)],
        one.padding + other.padding + _pair_padding(first, second),
        0.0,
        min(one.effective_labels, other.effective_labels),
    )
    error, df = _error(both, first, second)
    half = t_quantile(0.5 + level / 2, df) * error
    return PoweredDifference(
        both.value, max(-1.0, both.value - half), min(1.0, both.value + half), METHOD, counts, len(first.verdicts),
        error, df,
    )  # fmt: skip


def labels_to_decide(result: PoweredMean, end: float, bound: float) -> SamplesToDecide:
    """How many labels decide a gate whose one-sided bound is `end`: those of the square-root law.

    The part of the error that more labels cannot remove, that of the rows, is left out only if it is small: the counts
    are a lower bound for few rows.
    """
    assert result.value is not None  # the gate has an estimate
    return samples_to_decide(result.labels, half=abs(result.value - end), estimate=result.value, bound=bound)


def _too_few(rows: JudgedRows) -> str | None:
    places = rows.labeled
    if len(places) < MIN_LABELS:
        noun = "label" if len(places) == 1 else "labels"
        return f"{len(places)} {noun}, at least {MIN_LABELS} are needed"
    if rows.clusters is None:
        return None
    clusters = len({rows.clusters[place] for place in places})
    if clusters < MIN_CLUSTERS:
        return f"labels in {clusters} clusters, in at least {MIN_CLUSTERS} are needed"
    return None


def _weights(rows: JudgedRows) -> list[float]:
    """The weight of each labeled row: their sum is 1."""
    drawn = rows.probabilities
    raw = [1.0 if drawn is None or drawn[place] is None else 1 / (drawn[place] or 1.0) for place in rows.labeled]
    total = math.fsum(raw)
    return [weight / total for weight in raw]


def _influence(rows: JudgedRows) -> _Influence:
    """The estimate with the λ that makes the sum of squares of its influences (by cluster) smallest."""
    places, weights = rows.labeled, _weights(rows)
    count, all_mean = len(rows.verdicts), math.fsum(rows.verdicts) / len(rows.verdicts)
    labels = [rows.labels[place] or 0.0 for place in places]
    label_mean = math.fsum(weight * label for weight, label in zip(weights, labels, strict=True))
    judge_mean = math.fsum(weight * rows.verdicts[place] for weight, place in zip(weights, places, strict=True))
    of_labels, of_judge = [0.0] * count, [(all_mean - verdict) / count for verdict in rows.verdicts]
    for place, weight, label in zip(places, weights, labels, strict=True):
        of_labels[place] = weight * (label - label_mean)
        of_judge[place] += weight * (rows.verdicts[place] - judge_mean)
    one, other = _sums(of_labels, rows.clusters), _sums(of_judge, rows.clusters)
    squares = math.fsum(value * value for value in other)
    shared = math.fsum(a * b for a, b in zip(one, other, strict=True))
    power = min(1.0, max(0.0, shared / squares)) if squares > 0 else 0.0
    shifts = [a - power * b for a, b in zip(of_labels, of_judge, strict=True)]
    effective = 1 / math.fsum(weight * weight for weight in weights)
    return _Influence(
        label_mean + power * (all_mean - judge_mean), shifts, (power / effective) ** 2, power, effective,
    )  # fmt: skip


def _sums(values: Sequence[float], clusters: Sequence[int] | None) -> list[float]:
    """The values, summed by cluster."""
    if clusters is None:
        return list(values)
    sums: dict[int, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
    return list(sums.values())


def _error(influence: _Influence, rows: JudgedRows, other: JudgedRows | None = None) -> tuple[float, float]:
    """The standard error and its degrees of freedom: one fewer than there are labels, or clusters with labels."""
    squares = math.fsum(shift * shift for shift in influence.shifts)
    df = influence.effective_labels - 1
    if rows.clusters is not None:
        sums = _sums(influence.shifts, rows.clusters)
        count = min(
            len({side.clusters[place] for place in side.labeled if side.clusters}) for side in (rows, other or rows)
        )
        squares = max(squares, math.fsum(total * total for total in sums) * count / (count - 1))
        df = min(df, count - 1)
    return math.sqrt(squares + influence.padding), max(1.0, df)


def _pair_padding(first: JudgedRows, second: JudgedRows) -> float:
    """Half a pair at each end for differences that were not observed: of labels alone, two equal sides never differ."""
    return 1 / min(len(first.labeled), len(second.labeled)) ** 2


def _clipped_note(value: float) -> str | None:
    return f"clipped to 0..1 from {value:.3f}" if not 0 <= value <= 1 else None
