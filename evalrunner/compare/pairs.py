"""Pairs of candidates: the difference that was observed, and whether it holds with what is missing against it. Pure.

A candidate is better only if it is better for every way to fill in missing scores: the winner's at their worst, the
loser's at their best (Manski's bounds, 1989), and for graded scores some of them at the other end, where that widens the
spread. Of all fillings in a box the least favorable t statistic lies at a corner, since a mean is linear and its standard
error convex in the scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from evalrunner.compare.result import Pair
from evalrunner.stats.aggregates import Estimand
from evalrunner.stats.distributions import normal_quantile
from evalrunner.stats.hypothesis_tests import MAX_ROW_FACTOR, Difference, paired_difference, two_sample_difference
from evalrunner.stats.summary import UNKNOWN_GROUP
from evalrunner.stats.tally import SKIPPED, ZEROED, SampleScores

Scores: TypeAlias = Mapping[int, float]  # by the position of the sample in the dataset
Ends: TypeAlias = tuple[float, float]  # against the winner, and for it; NaN: left out

POWER: Final = 0.8


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """One number per sample of a candidate, by the sample's position.

    `values` holds the scored samples. `worst` and `best` hold those in which something is missing, with all of that at its
    worst or at its best for the metric's direction (NaN: left out), and `gaps` how many of its answers are missing. A
    sample can be scored and miss epochs. `skipped` are those that the scorer does not apply to.
    """

    values: Scores
    worst: Scores
    best: Scores
    gaps: Mapping[int, int]
    skipped: frozenset[int] = frozenset()

    @property
    def places(self) -> frozenset[int]:
        """The samples that are scored or should be."""
        return frozenset(self.values) | frozenset(self.worst)

    @classmethod
    def empty(cls) -> CandidateScores:
        """Without samples."""
        return cls({}, {}, {}, {})

    @classmethod
    def of(cls, scores: SampleScores, estimand: Estimand) -> CandidateScores:
        """The numbers whose mean a metric is."""
        values: dict[int, float] = {}
        worst: dict[int, float] = {}
        best: dict[int, float] = {}
        gaps: dict[int, int] = {}
        skipped: list[int] = []
        for place, sample in enumerate(scores.samples):
            code, gap = scores.codes[place], scores.applicable[place] - scores.scored[place]
            if code == SKIPPED:
                skipped.append(sample)
                continue
            if code <= ZEROED:
                values[sample] = estimand.of_sample(scores.values[place])
            if code > ZEROED or gap:
                worst[sample], best[sample] = (
                    end if math.isnan(end) else estimand.of_sample(end)
                    for end in (scores.worst[place], scores.best[place])
                )
            if gap:
                gaps[sample] = gap
        return cls(values, worst, best, gaps, frozenset(skipped))

    def split(self, groups: Sequence[int]) -> dict[int, CandidateScores]:
        """The parts by group; `groups` holds the group of each position in the dataset."""
        places: dict[int, list[int]] = {}
        for place in (*self.places, *self.skipped):
            group = groups[place] if place < len(groups) else UNKNOWN_GROUP
            if group != UNKNOWN_GROUP:  # a sample without a row may have no known group
                places.setdefault(group, []).append(place)
        return {group: self._take(sorted(chosen)) for group, chosen in places.items()}

    def with_samples(self, places: Iterable[int], ends: Ends, *, epochs: int) -> CandidateScores:
        """The same with all samples of its run: one without a row ranges over `ends`, and all its answers are missing."""
        own = self.places | self.skipped
        absent = [place for place in places if place not in own]
        return CandidateScores(
            self.values,
            {**self.worst, **dict.fromkeys(absent, ends[0])},
            {**self.best, **dict.fromkeys(absent, ends[1])},
            {**self.gaps, **dict.fromkeys(absent, epochs)},
            self.skipped,
        )

    def _take(self, places: Sequence[int]) -> CandidateScores:
        def of(column: Scores) -> Scores:
            return {place: column[place] for place in places if place in column}

        gaps = {place: self.gaps[place] for place in places if place in self.gaps}
        return CandidateScores(of(self.values), of(self.worst), of(self.best), gaps, self.skipped & frozenset(places))

    def ends(self, place: int, unknown: Ends) -> Ends:
        """The worst and the best number of a sample; `unknown` for a skipped one and for one without a row."""
        if place in self.worst:
            return self.worst[place], self.best[place]
        value = self.values.get(place)
        return unknown if value is None else (value, value)


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale of scores: 0 or 1 by construction (`binary`), or from `low` to `high`, None where open.

    `clusters` holds the cluster of each position, `population` the positions of all samples where they are known.
    """

    binary: bool
    low: float | None
    high: float | None
    higher_is_better: bool
    clusters: Sequence[int] | None = None
    population: frozenset[int] = frozenset()

    def samples(self, *sides: CandidateScores) -> frozenset[int]:
        """The samples of a paired comparison: those that any side was asked or should have been, unless all skipped it."""
        skipped = frozenset.intersection(*(side.skipped for side in sides))
        return self.population.union(*(side.places for side in sides)) - skipped

    @property
    def worst_and_best(self) -> Ends:
        """The ends of the range, infinite where it is open."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return (low, high) if self.higher_is_better else (high, low)

    @property
    def bounded(self) -> bool:
        """Whether the range is closed."""
        return self.low is not None and self.high is not None

    def span(self, *sides: Scores) -> float | None:
        """The width for tests of graded scores, that of the observed scores if the range is open; None for 0/1 scores."""
        if self.binary:
            return None
        if self.low is not None and self.high is not None:
            return self.high - self.low
        values = [value for side in sides for value in side.values()]
        return (max(values) - min(values) if values else 0.0) or 1.0  # for constant scores any width gives the same

    def clusters_of(self, places: Sequence[int]) -> list[int] | None:
        """The clusters of some samples, None if samples are not clustered."""
        if self.clusters is None:
            return None
        known = len(self.clusters)
        # a sample without a row may have no known cluster, and is then one of its own
        codes = [self.clusters[place] if place < known else UNKNOWN_GROUP for place in places]
        return [-2 - place if code == UNKNOWN_GROUP else code for place, code in zip(places, codes, strict=True)]


def pair_scores(names: tuple[str, str], first: CandidateScores, second: CandidateScores, scale: Scale) -> Pair:
    """The paired difference of two candidates; samples with a score on one side only are excluded and counted."""
    one, other = first.values, second.values
    places = sorted(one.keys() & other.keys())
    differences = [one[place] - other[place] for place in places]
    span = scale.span(one, other)
    result = paired_difference(differences, span=span, clusters=scale.clusters_of(places))
    up, down = sum(1 for item in differences if item > 0), sum(1 for item in differences if item < 0)
    wins, losses = (up, down) if scale.higher_is_better else (down, up)
    universe = sorted(scale.samples(first, second))
    complete = not (first.worst or second.worst) and len(universe) == len(places)
    p_missing = result.p_value
    if p_missing is not None and result.estimate and scale.bounded and not complete:
        ahead, behind = (first, second) if _first_leads(result, scale) else (second, first)
        gains = [(place, _gain(ahead, behind, place, scale)) for place in universe]
        p_missing = max(p_missing, _largest_paired_p(gains, scale, span))
    return Pair(
        first=names[0], second=names[1], difference=result.estimate, low=result.low, high=result.high,
        p_value=result.p_value, p_missing=p_missing, method=result.method, n=result.n, wins=wins,
        ties=len(places) - wins - losses, losses=losses, excluded=len(one) + len(other) - 2 * len(places),
        note=result.note,
    )  # fmt: skip


def unpaired_scores(names: tuple[str, str], first: CandidateScores, second: CandidateScores, scale: Scale) -> Pair:
    """The difference of two candidates on different samples."""
    span = scale.span(first.values, second.values)
    result = _unpaired((first.values, second.values), scale, span)
    p_missing = result.p_value
    if p_missing is not None and result.estimate and scale.bounded and (first.worst or second.worst):
        leads = _first_leads(result, scale)
        for sides in _unpaired_fillings(first, second, first_leads=leads):
            filled = _unpaired(sides, scale, span)
            p_missing = max(p_missing, _p_of(filled, same=_first_leads(filled, scale) == leads))
    return Pair(
        first=names[0], second=names[1], difference=result.estimate, low=result.low, high=result.high,
        p_value=result.p_value, p_missing=p_missing, method=result.method, n=result.n, note=result.note,
    )  # fmt: skip


def samples_to_separate(pair: Pair, alpha: float, *, paired: bool) -> int | None:
    """How many samples show the pair's difference with 80% power at two-sided `alpha`, if it is the true one.

    n·((z_{1−α/2} + z_.8)·s/d)², s the standard error. None if that is over a hundred times the current samples.
    """
    if not pair.difference or pair.low is None or pair.high is None:
        return None
    if pair.method == "mcnemar" and pair.wins is not None and pair.losses is not None:
        error = math.sqrt(((pair.wins + pair.losses) / pair.n - pair.difference**2) / pair.n)
    else:
        error = (pair.high - pair.low) / (2 * normal_quantile(0.975))
    factor = ((normal_quantile(1 - alpha / 2) + normal_quantile(POWER)) * error / pair.difference) ** 2
    n = pair.n if paired else pair.n // 2
    return max(n + 1, math.ceil(n * factor)) if 0 < factor <= MAX_ROW_FACTOR else None


def _first_leads(result: Difference, scale: Scale) -> bool:
    return ((result.estimate or 0.0) > 0) == scale.higher_is_better


def _p_of(result: Difference, *, same: bool) -> float:
    """The p-value of a filling; 1 without a test, or if the other side is ahead."""
    return result.p_value if same and result.estimate and result.p_value is not None else 1.0


def _gain(ahead: CandidateScores, behind: CandidateScores, place: int, scale: Scale) -> Ends:
    """The least and the most by which the winner can be better on a sample."""
    sign = 1.0 if scale.higher_is_better else -1.0
    worst, best = ahead.ends(place, scale.worst_and_best)
    other_worst, other_best = behind.ends(place, scale.worst_and_best)
    return sign * (worst - other_best), sign * (best - other_worst)


def _largest_paired_p(gains: Sequence[tuple[int, Ends]], scale: Scale, span: float | None) -> float:
    """The largest p-value of "no difference" over fillings; 1 if one turns the difference around.

    `gains` are in the direction of the winner. 0/1 scores without clusters have their largest one with everything against
    the winner, as McNemar's test only counts.
    """
    against = [ends[0] for _, ends in gains]
    if math.fsum(gain for gain in against if not math.isnan(gain)) <= 0:
        return 1.0
    fillings = [against]
    if span is not None or scale.clusters is not None:
        fillings += _wider_fillings([ends for _, ends in gains], 0.0 if span is None else span)
    largest = 0.0
    for filling in fillings:
        kept = [(place, gain) for (place, _), gain in zip(gains, filling, strict=True) if not math.isnan(gain)]
        result = paired_difference(
            [gain for _, gain in kept], span=span, clusters=scale.clusters_of([place for place, _ in kept])
        )
        largest = max(largest, _p_of(result, same=(result.estimate or 0.0) > 0))
    return largest


def _wider_fillings(ends: Sequence[Ends], span: float) -> Iterator[list[float]]:
    """The filling with the least t statistic, and the one with everything for the winner.

    Raising a gain from its lower end l to its upper end h adds h − l to the sum and h² − l² to the sum of squares. So those
    with the largest h + l add most spread for their gain; the best number of them is searched.
    """
    filling = [low for low, _ in ends]
    missing = sorted(
        (place for place, (low, high) in enumerate(ends) if low != high), key=lambda place: -_sum(ends[place])
    )
    n = 2.0 + sum(1 for gain in filling if not math.isnan(gain))
    total = math.fsum(gain for gain in filling if not math.isnan(gain))
    squares = math.fsum(gain * gain for gain in filling if not math.isnan(gain)) + 2 * span * span
    best, best_count = _signal(total, squares, n), 0
    for count, place in enumerate(missing, start=1):
        for gain, sign in zip(ends[place], (-1, 1), strict=True):
            if not math.isnan(gain):
                n, total, squares = n + sign, total + sign * gain, squares + sign * gain * gain
        signal = _signal(total, squares, n)
        if signal < best:
            best, best_count = signal, count
    for count in sorted({best_count, len(missing)} - {0}):
        mixed = list(filling)
        for place in missing[:count]:
            mixed[place] = ends[place][1]
        yield mixed


def _sum(ends: Ends) -> float:
    return sum(0.0 if math.isnan(end) else end for end in ends)


def _signal(total: float, squares: float, n: float) -> float:
    """A mean over its standard error, up to a factor that hardly depends on n."""
    spread = squares - total * total / n
    return math.copysign(math.inf, total) if spread <= 0 else total / math.sqrt(n * spread) * math.sqrt(n - 1)


def _unpaired(sides: tuple[Scores, Scores], scale: Scale, span: float | None) -> Difference:
    first, second = (sorted(side) for side in sides)
    clusters = scale.clusters_of(first), scale.clusters_of(second)
    return two_sample_difference(
        [sides[0][place] for place in first],
        [sides[1][place] for place in second],
        span=span,
        clusters=None if clusters[0] is None or clusters[1] is None else (clusters[0], clusters[1]),
    )


def _unpaired_fillings(
    first: CandidateScores, second: CandidateScores, *, first_leads: bool
) -> Iterator[tuple[Scores, Scores]]:
    """Both sides with their missing scores at either end, and half of them at each end."""
    for one in _side_fillings(first, worst=first_leads):
        for other in _side_fillings(second, worst=not first_leads):
            yield one, other


def _side_fillings(side: CandidateScores, *, worst: bool) -> Iterator[Scores]:
    """One side filled against it (`worst`) or for it, then half of it, then all of it at the other end."""
    near, far = (side.worst, side.best) if worst else (side.best, side.worst)
    places = sorted(near)
    for share in (0.0, 0.5, 1.0) if places else (0.0,):
        turned = set(places[: round(share * len(places))])
        filled = {place: (far if place in turned else near)[place] for place in places}
        numbers = {**side.values, **filled}
        yield {place: value for place, value in numbers.items() if not math.isnan(value)}
