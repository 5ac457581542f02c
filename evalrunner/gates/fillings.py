"""Ways to fill in what a gate's samples miss. A verdict holds only if it holds for each of them. Pure.

For an aggregate that rises with every score, such as a mean or a quantile, everything missing at its worst and
everything at its best are the ends of all ways (Manski 2003, §1.2). A variance is largest with scores at both ends of
the range and smallest with scores at the mean. A test can also lose its significance by a larger spread alone, so that
scores at both ends by turns are tried too.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from evalrunner.gates.evidence import Evidence
from evalrunner.stats.aggregates import Estimand
from evalrunner.stats.tally import SKIPPED

ROUNDS: Final = 50  # of the search for the scores with the smallest or largest variance; it settles in a few

Choice: TypeAlias = Callable[[int, float, float], float]
"""Picks the score of a sample from its number among the missing ones and its worst and best score (NaN: left out)."""


@dataclass(frozen=True, slots=True)
class Filling:
    """The scores of all samples of a gate, in some order, with their clusters if samples are clustered."""

    values: array[float]
    clusters: array[int] | None


def fillings(evidence: Evidence, estimand: Estimand, *, with_spread: bool) -> Iterator[Filling]:
    """The fillings that a verdict has to hold for; none if nothing is missing or the range of scores is open.

    `with_spread`: the verdict depends on the spread of the scores, not on the value alone.
    """
    if not evidence.missing:
        return
    if not estimand.aggregate.monotone:
        yield from _of_variance(evidence)
        return
    choices: list[Choice] = [_worst, _best, *([_by_turns] if with_spread else [])]
    for choose in choices:
        filling = _filled(evidence, choose)
        if all(map(math.isfinite, filling.values)) or estimand.aggregate.takes_infinite:
            yield filling


def _worst(place: int, worst: float, best: float) -> float:
    return worst


def _best(place: int, worst: float, best: float) -> float:
    return best


def _by_turns(place: int, worst: float, best: float) -> float:
    return best if place % 2 else worst


def _filled(evidence: Evidence, choose: Choice) -> Filling:
    """The scores with each incomplete sample at the chosen score; left out where that is NaN."""
    values, samples = array("d"), array("q")
    place = 0
    for sample, worst, best in _ends(evidence):
        complete = worst == best
        value = worst if complete else choose(place, worst, best)
        place += not complete
        if not math.isnan(value):
            values.append(value)
            samples.append(sample)
    return Filling(values, _clusters(evidence, samples))


def _ends(evidence: Evidence) -> Iterator[tuple[int, float, float]]:
    """The position of each sample that the scorer applies to, with its worst and best score.

    Samples that never ran come last, at negative positions.
    """
    scores = evidence.per_sample
    for sample, worst, best, code in zip(scores.samples, scores.worst, scores.best, scores.codes, strict=True):
        if code != SKIPPED:
            yield sample, worst, best
    for number in range(evidence.not_run + evidence.elsewhere):
        yield -1 - number, *evidence.ends


def _clusters(evidence: Evidence, samples: Sequence[int]) -> array[int] | None:
    """The cluster of each sample; those that never ran share one, the worst case, as theirs are not known."""
    clusters = evidence.clusters
    if clusters is None:
        return None
    return array("q", (clusters[sample] if sample >= 0 else -1 for sample in samples))


def _of_variance(evidence: Evidence) -> Iterator[Filling]:
    """The fillings with the smallest and, in a bounded range, the largest variance."""
    known = list(_ends(evidence))
    ranges = [_low_high(worst, best) for _, worst, best in known]
    clusters = _clusters(evidence, [sample for sample, _, _ in known])
    yield Filling(array("d", _closest_to_mean(ranges, evidence.values)), clusters)
    if all(math.isfinite(end) for ends in ranges for end in ends):
        yield Filling(array("d", _farthest_apart(ranges)), clusters)
    answered = [sample for sample, worst, best in known if not math.isnan(best)]
    if len(answered) < len(known):  # without those that the model did not answer
        yield _filled(evidence, lambda place, worst, best: best if math.isfinite(best) else math.nan)


def _low_high(worst: float, best: float) -> tuple[float, float]:
    """The ends in order; of a sample that may be left out the worst alone."""
    return (worst, worst) if math.isnan(best) else (min(worst, best), max(worst, best))


def _closest_to_mean(ranges: Sequence[tuple[float, float]], observed: Sequence[float]) -> list[float]:
    """The scores within their ranges that vary least: each as near to their mean as it can be."""
    mean = math.fsum(observed) / len(observed) if observed else 0.0
    scores: list[float] = []
    for _ in range(ROUNDS):
        scores = [min(max(mean, low), high) for low, high in ranges]
        nearer = math.fsum(scores) / len(scores)
        if nearer == mean:
            break
        mean = nearer
    return scores


def _farthest_apart(ranges: Sequence[tuple[float, float]]) -> list[float]:
    """The scores within their ranges that vary most: those with the lowest ranges at their low end, the others high."""
    order = sorted(range(len(ranges)), key=lambda place: sum(ranges[place]))
    total, squares = math.fsum(high for _, high in ranges), math.fsum(high * high for _, high in ranges)
    n = len(ranges)
    largest, chosen = squares / n - (total / n) ** 2, 0
    for count, place in enumerate(order, 1):
        low, high = ranges[place]
        total, squares = total + low - high, squares + low * low - high * high
        spread = squares / n - (total / n) ** 2
        if spread > largest:
            largest, chosen = spread, count
    lowered = set(order[:chosen])
    return [low if place in lowered else high for place, (low, high) in enumerate(ranges)]
