"""How well a judge agrees with people: agreement, sensitivity, specificity and Cohen's κ with intervals, AUC, threshold.

Verdicts and labels are 0 or 1. `weights` are inverse drawing probabilities where labels were not drawn evenly,
`clusters` those of the rows: several answers to one question are not unrelated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evalrunner.stats.distributions import quantile, t_quantile
from evalrunner.stats.intervals import LEVEL, MIN_CLUSTERS, clopper_pearson, clustered_mean_interval, wilson

RESAMPLES: Final = 2000
MIN_PAIRS: Final = 20  # labels from which κ has an interval


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of n labels, or κ, with its interval; `value` None where there is nothing to count."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Labels by people and verdicts of a judge (or of another person), aligned."""

    labels: Sequence[int]
    verdicts: Sequence[int]
    weights: Sequence[float] | None = None
    clusters: Sequence[int] | None = None

    def counts(self) -> Confusion:
        """How many pairs there are of each kind, unweighted."""
        cells = [0, 0, 0, 0]
        for label, verdict in zip(self.labels, self.verdicts, strict=True):
            cells[2 * label + verdict] += 1
        return Confusion(true_bad=cells[0], false_good=cells[1], false_bad=cells[2], true_good=cells[3])

    def agreement(self, *, level: float = LEVEL) -> Rate:
        """The share of pairs that agree."""
        same = [float(a == b) for a, b in zip(self.labels, self.verdicts, strict=True)]
        return share_rate(same, self.weights, self.clusters, level=level)

    def sensitivity(self, *, level: float = LEVEL) -> Rate:
        """The share of good answers that the judge accepts."""
        return self._of_class(1, level)

    def specificity(self, *, level: float = LEVEL) -> Rate:
        """The share of bad answers that the judge rejects."""
        return self._of_class(0, level)

    def _of_class(self, label: int, level: float) -> Rate:
        places = [place for place, each in enumerate(self.labels) if each == label]
        weights, clusters = self.weights, self.clusters
        return share_rate(
            [float(self.verdicts[place] == label) for place in places],
            None if weights is None else [weights[place] for place in places],
            None if clusters is None else [clusters[place] for place in places],
            level=level,
        )

    def kappa(self, *, level: float = LEVEL, seed: int = 0) -> Rate:
        """Cohen's κ (1960) with the percentile interval of a seeded bootstrap over rows, or over clusters.

        Where no pair disagrees, or none agrees by chance, resampling shows nothing: the lower end is then the κ of the
        largest share of disagreements that n pairs can hide.
        """
        n = len(self.labels)
        value = _kappa(_cells(self))
        if value is None:
            return Rate(None, None, None, n, note="every label and verdict is the same, so chance alone agrees")
        groups = _grouped_cells(self)
        if n < MIN_PAIRS or (self.clusters is not None and len(groups) < MIN_CLUSTERS):
            few = f"{n} labels" if n < MIN_PAIRS else f"labels in {len(groups)} clusters"
            least = MIN_PAIRS if n < MIN_PAIRS else MIN_CLUSTERS
            return Rate(value, None, None, n, note=f"no interval: {few}, at least {least} are needed")
        if value == 1:
            return Rate(value, self._kappa_of_hidden(level, len(groups)), 1.0, n, "exact")
        drawn = _resampled(groups, seed)
        tail = 0.5 - level / 2
        return Rate(value, quantile(drawn, tail), quantile(drawn, 1 - tail), n, "bootstrap")

    def _kappa_of_hidden(self, level: float, n: int) -> float:
        share = clopper_pearson(0, n, confidence=0.5 + level / 2)[1]
        good = sum(self.labels) / len(self.labels)
        chance = good * good + (1 - good) * (1 - good)
        return max(-1.0, (1 - share - chance) / (1 - chance))


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of labels and verdicts: `false_good` are bad answers that the judge accepts."""

    true_good: int
    false_good: int
    false_bad: int
    true_bad: int


def share_rate(
    hits: Sequence[float], weights: Sequence[float] | None, clusters: Sequence[int] | None, *, level: float = LEVEL
) -> Rate:
    """The share of 0/1 values with Wilson's interval: for clusters and weights with the effective number of values."""
    n = len(hits)
    if not n:
        return Rate(None, None, None, 0)
    if weights is not None and len(set(weights)) == 1:
        weights = None
    if weights is None and clusters is None:
        return Rate(sum(hits) / n, *wilson(sum(hits), n, level=level), n, "wilson")
    if clusters is not None and (count := len(set(clusters))) < MIN_CLUSTERS:
        note = f"no interval: labels in {count} clusters, at least {MIN_CLUSTERS} are needed"
        return Rate(_weighted(hits, weights), None, None, n, note=note)
    if weights is None:
        assert clusters is not None  # the case without both is above
        result = clustered_mean_interval(hits, clusters, low=0.0, high=1.0, level=level, binary=True)
        return Rate(sum(hits) / n, result.low, result.high, n, result.method, result.note)
    return _weighted_rate(hits, weights, clusters, level)


def _weighted(hits: Sequence[float], weights: Sequence[float] | None) -> float:
    if weights is None:
        return math.fsum(hits) / len(hits)
    return math.fsum(a * b for a, b in zip(hits, weights, strict=True)) / math.fsum(weights)


def _weighted_rate(
    hits: Sequence[float], weights: Sequence[float], clusters: Sequence[int] | None, level: float
) -> Rate:
    total, share = math.fsum(weights), _weighted(hits, weights)
    sums: dict[int, float] = {}
    for place, (hit, weight) in enumerate(zip(hits, weights, strict=True)):
        group = place if clusters is None else clusters[place]
        sums[group] = sums.get(group, 0.0) + weight * (hit - share) / total
    squares = math.fsum(value * value for value in sums.values())
    kish = total**2 / math.fsum(weight * weight for weight in weights)
    effective = share * (1 - share) / squares if squares > 0 else kish
    df = max(1.0, min(kish, len(sums)) - 1)
    return Rate(share, *wilson(share * effective, effective, level=level, df=df), len(hits), "wilson-weighted")


def _cells(pairs: JudgedPairs) -> tuple[float, float, float, float]:
    return tuple(map(math.fsum, zip(*_grouped_cells(pairs), strict=True)))  # type: ignore[return-value]


def _grouped_cells(pairs: JudgedPairs) -> list[tuple[float, float, float, float]]:
    """The weights of the four kinds of pairs (bad bad, bad good, good bad, good good) in each cluster, or of each pair."""
    groups: dict[int, list[float]] = {}
    for place, (label, verdict) in enumerate(zip(pairs.labels, pairs.verdicts, strict=True)):
        group = place if pairs.clusters is None else pairs.clusters[place]
        weight = 1.0 if pairs.weights is None else pairs.weights[place]
        groups.setdefault(group, [0.0, 0.0, 0.0, 0.0])[2 * label + verdict] += weight
    return [(a, b, c, d) for a, b, c, d in groups.values()]


def _kappa(cells: Sequence[float]) -> float | None:
    """κ of weights by kind; None where chance agrees on everything."""
    total = math.fsum(cells)
    if not total:
        return None
    bad_bad, bad_good, good_bad, good_good = (cell / total for cell in cells)
    chance = (bad_bad + bad_good) * (bad_bad + good_bad) + (good_bad + good_good) * (bad_good + good_good)
    return (bad_bad + good_good - chance) / (1 - chance) if chance < 1 else None


def _resampled(groups: Sequence[tuple[float, float, float, float]], seed: int) -> list[float]:
    """κ of each resample, sorted. Equal groups are drawn as one kind, so that the time does not grow with pairs."""
    source = random.Random(seed)
    kinds: dict[tuple[float, float, float, float], int] = {}
    for group in groups:
        kinds[group] = kinds.get(group, 0) + 1
    drawn: list[float] = []
    names, counts = list(kinds), list(kinds.values())
    for _ in range(RESAMPLES):
        cells = [0.0, 0.0, 0.0, 0.0]
        for group in source.choices(names, counts, k=len(groups)):
            for kind in range(4):
                cells[kind] += group[kind]
        value = _kappa(cells)
        drawn.append(1.0 if value is None else value)
    return sorted(drawn)


@dataclass(frozen=True, slots=True)
class BestThreshold:
    """The score from which an answer counts as good with the highest Youden's J; `agreement` is that at this score."""

    score: float
    informedness: float
    agreement: float


def auc(scores: Sequence[float], labels: Sequence[int], *, level: float = LEVEL) -> Rate:
    """The chance that a good answer scores above a bad one, ties half (Hanley & McNeil 1982), with DeLong's error (1988).

    The interval is made on the logit scale, so that it stays within 0..1.
    """
    good = [score for score, label in zip(scores, labels, strict=True) if label]
    bad = [score for score, label in zip(scores, labels, strict=True) if not label]
    if not good or not bad:
        return Rate(None, None, None, len(scores), note="labels of both kinds are needed")
    above = [_share_below(score, bad) for score in good]
    below = [1 - _share_below(score, good) for score in bad]
    value = math.fsum(above) / len(above)
    if min(len(good), len(bad)) < MIN_PAIRS // 2 or value in (0.0, 1.0):
        return Rate(value, None, None, len(scores), note="no interval: too few labels, or none out of order")
    error = math.sqrt(_squared_error(above) + _squared_error(below))
    half = t_quantile(0.5 + level / 2, min(len(good), len(bad)) - 1) * error / (value * (1 - value))
    logit = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-(logit + sign * half))) for sign in (-1, 1))
    return Rate(value, low, high, len(scores), "delong-logit")


def _share_below(score: float, others: Sequence[float]) -> float:
    return math.fsum(1.0 if other < score else 0.5 if other == score else 0.0 for other in others) / len(others)


def _squared_error(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)


def best_threshold(scores: Sequence[float], labels: Sequence[int]) -> BestThreshold | None:
    """The threshold that tells good from bad best; of several equal ones the lowest. None without labels of both kinds."""
    good, bad = sum(labels), len(labels) - sum(labels)
    if not good or not bad:
        return None
    pairs = sorted(zip(scores, labels, strict=True), reverse=True)
    best, hits, misses = None, 0, 0
    for place, (score, label) in enumerate(pairs):
        hits, misses = hits + label, misses + (not label)
        if place + 1 < len(pairs) and pairs[place + 1][0] == score:
            continue
        gap = hits / good - misses / bad
        if best is None or gap >= best.informedness:
            best = BestThreshold(score, gap, (hits + bad - misses) / len(pairs))
    return best
