"""Candidates of one summary compared: every pair on every quality metric, with Holm-adjusted p-values. Pure.

The family of Holm's correction is all pairs × quality metrics. Slices, latency, tokens and cost are outside of it: they
are shown with the p-value of each test alone, and do not enter a ranking.
"""

from __future__ import annotations

import heapq
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, TypeAlias

from evalrunner.compare.matrix import Crossing, averaged, crossings, mean
from evalrunner.compare.missing import MissingScores, count_missing, missing_causes, missing_text
from evalrunner.compare.pairs import CandidateScores, Scale, pair_scores, samples_to_separate, unpaired_scores
from evalrunner.compare.result import (
    ALPHA,
    MAX_MISSING,
    Candidate,
    ComparedMetric,
    Comparison,
    Factor,
    Pair,
    ParetoFront,
    Ranking,
    comparison_warnings,
)
from evalrunner.domain import Metric
from evalrunner.errors import nearest
from evalrunner.stats.aggregates import MEAN, Estimand, Reducer, find_aggregate
from evalrunner.stats.hypothesis_tests import holm
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, Measure, Summary
from evalrunner.stats.tally import reduce_tally

MAX_DISAGREEING_SAMPLES: Final = 100  # samples whose scores differ most
COSTS: Final = ("cost_usd/mean", "latency/p50")  # the other axis of Pareto fronts
QUANTILES: Final = ("latency/p50", "latency/p90")  # without a test: there is no paired test of a quantile

Where: TypeAlias = tuple[tuple[str, str], ...]

BUILTIN_NAMES: Final = frozenset(measure.name for measure in ALL_BUILTIN_MEASURES)  # cost and latency, not quality

Sides: TypeAlias = Mapping[str, CandidateScores]  # by candidate

NO_BOUNDS: Final = "with over 5% of the answers missing nothing is significant"

SIGNIFICANT_SIGN, NOT_SIGNIFICANT_SIGN = ">", "≈"


def compare(
    summary: Summary,
    candidates: Sequence[Candidate],
    known: Mapping[str, Sequence[Metric]],
    *,
    judges: Mapping[str, Sequence[str]] | None = None,
    wanted: Sequence[str] = (),
    paired: bool = True,
    epochs: Mapping[str, int] | None = None,
    samples: Mapping[str, range] | None = None,
) -> Comparison:
    """The comparison of the summary's targets, which are the candidates by name.

    `known` holds `summary.all_metrics` of each, `judges` the names of each scorer's judge, `epochs` those of each
    candidate if they differ, `samples` the places of each one's samples if they are unpaired. `wanted` names metrics;
    without it all quality metrics are compared. Raises NotComparable for a metric that cannot be compared.
    """
    compared_metrics = find_metrics(wanted, summary) if wanted else quality_metrics(summary)
    table = _Table(
        summary, tuple(item.name for item in candidates), _MetricIndex(known), paired, epochs or {}, samples or {}
    )
    scores = {reading.name: table.scores(reading) for reading in compared_metrics}
    metrics, family = _adjusted(
        [table.compared(reading, scores[reading.name]) for reading in compared_metrics], paired=paired
    )
    costs = tuple(_costs(table))
    return Comparison(
        candidates=tuple(candidates),
        metrics=metrics,
        costs=costs,
        slices=tuple(item for reading in compared_metrics for item in table.sliced(reading, scores[reading.name])),
        pareto_fronts=tuple(
            _pareto_fronts(metrics, costs, {one.name: table.ends(one, scores[one.name]) for one in compared_metrics})
        ),
        paired=paired,
        family=family,
        warnings=tuple(
            comparison_warnings(
                metrics,
                candidates,
                judges or {},
                {one.name: table.missing(one, scores[one.name]) for one in compared_metrics},
            )
        ),
        notes=tuple(_notes(summary, metrics, costs, wanted, paired=paired)),
        most_different=_most_different(metrics, scores) if paired else (),
        factors=tuple(table.factor(crossing, compared_metrics, scores) for crossing in crossings(candidates))
        if paired
        else (),
    )


class _MetricIndex:
    """The metrics of each candidate by name, reducer and slice."""

    def __init__(self, known: Mapping[str, Sequence[Metric]]) -> None:
        self._metrics: dict[tuple[str, str, str, Where], Metric] = {
            (candidate, metric.name, metric.reducer, tuple((metric.slice or {}).items())): metric
            for candidate, metrics in known.items()
            for metric in metrics
        }

    def of(self, names: Sequence[str], reading: tuple[str, str], where: Where = ()) -> dict[str, Metric]:
        """Each candidate's metric with this name and reducer, if it has one."""
        result = {name: self._metrics.get((name, *reading, where)) for name in names}
        return {name: metric for name, metric in result.items() if metric is not None}


@dataclass(frozen=True, slots=True)
class _Table:
    """The scores of all candidates, and how two of them are compared.

    `epochs` are those of candidates that differ, `samples` the places of each one's samples if they are unpaired.
    """

    summary: Summary
    names: tuple[str, ...]
    known: _MetricIndex
    paired: bool
    epochs: Mapping[str, int]
    samples: Mapping[str, range]

    def scores(self, reading: ComparableMetric) -> dict[str, CandidateScores]:
        """The scores of each candidate; unpaired, its samples without a row are missing."""
        result = {name: reading.scores(self.summary, name, epochs=self.epochs_of(name)) for name in self.names}
        ends = self.scale(reading).worst_and_best
        return {
            name: side.with_samples(self.samples[name], ends, epochs=self.epochs_of(name))
            if name in self.samples
            else side
            for name, side in result.items()
        }

    def epochs_of(self, name: str) -> int:
        return self.epochs.get(name, self.summary.epochs)

    def sliced(self, reading: ComparableMetric, sides: Sides) -> Iterator[ComparedMetric]:
        """The metric for each value of each slice column, sorted by text."""
        for column, groups in self.summary.slices.items():
            parts = {name: side.split(groups.codes) for name, side in sides.items()}
            known = {code for part in parts.values() for code in part}
            places: dict[int, list[int]] = {}
            for place in self.population:
                if place < len(groups.codes):
                    places.setdefault(groups.codes[place], []).append(place)
            for code in sorted(known, key=groups.texts.__getitem__):
                chosen = {name: part.get(code, CandidateScores.empty()) for name, part in parts.items()}
                if any(side.values for side in chosen.values()):
                    where = {column: groups.texts[code]}
                    yield self.compared(reading, chosen, where, frozenset(places.get(code, ())))

    def compared(
        self,
        reading: ComparableMetric,
        sides: Sides,
        where: Mapping[str, str] | None = None,
        population: frozenset[int] | None = None,
    ) -> ComparedMetric:
        """The metric of all candidates with every pair, before correction. `population` are the samples of a slice."""
        scale = self.scale(reading, population)
        values = self.known.of(self.names, (reading.name, reading.reducer.name), tuple((where or {}).items()))
        pairs = [self._pair(two, sides, reading, scale) for two in combinations(self.names, 2)]
        return _compared(reading, values, pairs, where)

    def factor(self, crossing: Crossing, readings: Sequence[ComparableMetric], scores: Mapping[str, Sides]) -> Factor:
        """The models of a matrix over all prompts, or the prompts over all models, with a family of their own."""
        metrics: list[ComparedMetric] = []
        for reading in readings:
            graded = replace(self.scale(reading), binary=False)  # a mean over several candidates is no 0 or 1
            epochs = sum(self.epochs_of(name) for name in crossing.members[crossing.levels[0]])
            sides = {
                level: averaged([scores[reading.name][name] for name in names], graded, epochs=self.summary.epochs)
                for level, names in crossing.members.items()
            }
            metrics.append(self._averaged_metric(reading, sides, graded, epochs))
        adjusted, family = _adjusted(metrics, paired=True)
        return Factor(
            kind=crossing.kind, levels=crossing.levels, others=crossing.others, metrics=adjusted, family=family
        )

    def _averaged_metric(self, reading: ComparableMetric, sides: Sides, scale: Scale, epochs: int) -> ComparedMetric:
        def pair(names: tuple[str, str]) -> Pair:
            first, second = (sides[name] for name in names)
            universe = scale.samples(first, second)
            missing = [count_missing(sides[name], universe, epochs=epochs, causes=()) for name in names]
            unknown = not scale.bounded and max(side.share for side in missing) > MAX_MISSING
            result = pair_scores(names, first, second, scale)
            p_missing = 1.0 if unknown and result.p_value is not None else result.p_missing
            return replace(result, missing=missing_text(names, missing), p_missing=p_missing)

        values = {
            level: Metric(
                reading.name,
                reading.measure.name,
                reading.aggregate,
                mean(list(side.values.values())),
                len(side.values),
            )
            for level, side in sides.items()
            if side.values
        }
        return _compared(reading, values, [pair(two) for two in combinations(sides, 2)])

    def scale(self, reading: ComparableMetric, population: frozenset[int] | None = None) -> Scale:
        """The scale of a metric, with the samples of a slice or of the dataset."""
        estimand = reading.estimand(self.summary)
        low, high = (0.0, 1.0) if estimand.is_share else (estimand.low, estimand.high)
        clusters = None if self.summary.clusters is None else self.summary.clusters.codes
        higher = reading.measure.declaration.higher_is_better
        return Scale(
            estimand.is_share, low, high, higher, clusters, self.population if population is None else population
        )

    @property
    def population(self) -> frozenset[int]:
        """The places of all samples that the dataset is known to have, those without a row among them."""
        population = self.summary.population
        count = None if population is None or not self.paired else population.count
        return frozenset(range(count)) if count is not None else frozenset()

    def _pair(self, names: tuple[str, str], sides: Sides, reading: ComparableMetric, scale: Scale) -> Pair:
        first, second = (sides[name] for name in names)
        pair = (pair_scores if self.paired else unpaired_scores)(names, first, second, scale)
        missing = [self._missing(reading, name, sides[name], self._universe(scale, first, second)) for name in names]
        unknown = not scale.bounded and max(side.share for side in missing) > MAX_MISSING
        return replace(
            pair,
            missing=missing_text(names, missing),
            p_missing=1.0 if unknown and pair.p_value is not None else pair.p_missing,
            note=pair.note or (f"{reading.name} has no bounds: {NO_BOUNDS}" if unknown else None),
        )

    def _universe(self, scale: Scale, *sides: CandidateScores) -> frozenset[int] | None:
        return scale.samples(*sides) if self.paired else None

    def _missing(
        self, reading: ComparableMetric, name: str, side: CandidateScores, universe: frozenset[int] | None
    ) -> MissingScores:
        gaps = sum(side.gaps.values())
        causes = missing_causes(self.summary, name, reading.measure.name, gaps) if gaps else ()
        return count_missing(side, universe, epochs=self.epochs_of(name), causes=list(causes))

    def missing(self, reading: ComparableMetric, sides: Sides) -> dict[str, MissingScores]:
        """What is missing of each candidate, against all others where they are paired."""
        universe = self._universe(self.scale(reading), *sides.values())
        return {name: self._missing(reading, name, side, universe) for name, side in sides.items()}

    def ends(self, reading: ComparableMetric, sides: Sides) -> dict[str, tuple[float, float]]:
        """The worst and the best mean of each candidate that misses scores."""
        scale = self.scale(reading)
        result: dict[str, tuple[float, float]] = {}
        for name, side in sides.items():
            every = scale.population - side.skipped | side.places
            if side.worst or len(every) > len(side.values):
                ends = [side.ends(place, scale.worst_and_best) for place in every]
                result[name] = mean([worst for worst, _ in ends]), mean([best for _, best in ends])
        return result


def _compared(
    reading: ComparableMetric,
    values: Mapping[str, Metric],
    pairs: Sequence[Pair],
    where: Mapping[str, str] | None = None,
) -> ComparedMetric:
    declaration = reading.measure.declaration
    return ComparedMetric(
        name=reading.name,
        scorer=reading.measure.name,
        aggregate=reading.aggregate,
        reducer=reading.reducer.name,
        unit=declaration.unit,
        higher_is_better=declaration.higher_is_better,
        values=values,
        pairs=tuple(pairs),
        slice=where,
    )


def _adjusted(metrics: Sequence[ComparedMetric], *, paired: bool) -> tuple[tuple[ComparedMetric, ...], int]:
    """The metrics with Holm-adjusted p-values, the better of each pair, and rankings; and the size of the family."""
    family = [pair for metric in metrics for pair in metric.pairs]
    # a pair without a p-value stays in the family, so that its size does not depend on the data
    scored = holm([1.0 if pair.p_value is None else pair.p_value for pair in family])
    adjusted = holm([1.0 if pair.p_missing is None else pair.p_missing for pair in family])
    level = ALPHA / max(1, sum(1 for p in scored if p >= ALPHA))  # Holm's for the next test
    corrections = zip(scored, adjusted, strict=True)
    result: list[ComparedMetric] = []
    for metric in metrics:
        pairs = tuple(_corrected(pair, next(corrections), metric) for pair in metric.pairs)
        pairs = tuple(
            replace(pair, samples_to_decide=samples_to_separate(pair, level, paired=paired))
            if pair.better_scored is None
            else pair
            for pair in pairs
        )
        better = [(pair.better, pair.worse) for pair in pairs if pair.better is not None and pair.worse is not None]
        values = {name: value.value for name, value in metric.values.items()}
        ranking = rank(values, better, higher_is_better=metric.higher_is_better)
        result.append(replace(metric, pairs=pairs, ranking=ranking))
    return tuple(result), len(family)


def _corrected(pair: Pair, adjusted: tuple[float, float], metric: ComparedMetric) -> Pair:
    """The pair with the better one by the scored pairs alone, and by every filling of missing scores too."""
    if pair.p_value is None or not pair.difference:
        return pair if pair.p_value is None else replace(pair, p_adjusted=adjusted[1])
    leader = pair.first if (pair.difference > 0) == metric.higher_is_better else pair.second
    better = [leader if p < ALPHA else None for p in adjusted]
    return replace(pair, p_adjusted=adjusted[1], better_scored=better[0], better=better[1])


def _costs(table: _Table) -> Iterator[ComparedMetric]:
    """Latency, tokens and cost by their means, and the quantiles of latency, where there are values."""
    for reading in cost_metrics(table.summary):
        scores = table.scores(reading)
        if any(side.values for side in scores.values()):
            mean_cost = table.compared(reading, scores)
            yield mean_cost
            for name in QUANTILES:
                if name.startswith(f"{reading.measure.name}/"):
                    values = table.known.of(table.names, (name, reading.reducer.name))
                    yield replace(mean_cost, name=name, aggregate=name.partition("/")[2], values=values, pairs=())


def _pareto_fronts(
    metrics: Sequence[ComparedMetric],
    costs: Sequence[ComparedMetric],
    ends: Mapping[str, Mapping[str, tuple[float, float]]],
) -> Iterator[ParetoFront]:
    cached = _cached_answers(costs)
    for metric in metrics:
        quality = {name: value.value for name, value in metric.values.items()}
        for cost in costs:
            if cost.name in COSTS:
                free = cached if cost.scorer == "cost_usd" else {}  # answers paid for in another run are not cheap
                spent = {name: None if name in free else value.value for name, value in cost.values.items()}
                result = pareto_front(
                    (metric.name, quality),
                    (cost.name, spent),
                    higher_is_better=metric.higher_is_better,
                    ends=ends[metric.name],
                )
                if result is not None:
                    yield result


def _cached_answers(costs: Sequence[ComparedMetric]) -> dict[str, int]:
    """The number of cached answers of each candidate: they cost 0 and have no latency."""
    by_name = {cost.name: cost.values for cost in costs}
    paid, timed = by_name.get("cost_usd/mean", {}), by_name.get("latency/mean", {})
    cached = {name: value.n - (timed[name].n if name in timed else 0) for name, value in paid.items()}
    return {name: count for name, count in cached.items() if count > 0}


def _notes(
    summary: Summary,
    metrics: Sequence[ComparedMetric],
    costs: Sequence[ComparedMetric],
    wanted: Sequence[str],
    *,
    paired: bool,
) -> Iterator[str]:
    if not wanted:
        yield from _not_compared(summary)
    if not paired:
        yield "unpaired: the samples differ, so their difficulty adds noise; only large differences are significant"
    if summary.clusters is not None:
        yield f"samples are clustered by {summary.clusters.column!r}; tests use the standard error over clusters"
    for name, count in _cached_answers(costs).items():
        yield f"{count:,} answers of {name} are cached and cost nothing, so its cost cannot be compared"
    notes = {pair.note for metric in metrics for pair in metric.pairs if pair.note is not None and pair.n}
    yield from sorted(notes)


def _not_compared(summary: Summary) -> Iterator[str]:
    """Scorers whose aggregates have no test of differences, such as quantiles."""
    compared_scorers = {reading.measure.name for reading in quality_metrics(summary)}
    for measure in summary.measures:
        if measure.name not in BUILTIN_NAMES and measure.name not in compared_scorers:
            names = ", ".join(measure.declaration.aggregates)
            yield f"{measure.versioned_name} is not compared: {names} cannot be compared in pairs; the mean can"


def _most_different(metrics: Sequence[ComparedMetric], scores: Mapping[str, Sides]) -> tuple[int, ...]:
    """The places of the samples whose scores differ most between candidates, on average over the metrics.

    Each metric by the range that was seen of it, so that one with large numbers does not outweigh the others.
    """
    spread: dict[int, float] = {}
    for metric in metrics:
        sides = [side.values for side in scores[metric.name].values()]
        values = [value for side in sides for value in side.values()]
        width = (max(values) - min(values)) if values else 0.0
        if width == 0:
            continue
        for place in {place for side in sides for place in side}:
            scored = [side[place] for side in sides if place in side]
            gap = max(scored) - min(scored)
            if gap > 0:
                spread[place] = spread.get(place, 0.0) + gap / width
    return tuple(heapq.nsmallest(MAX_DISAGREEING_SAMPLES, spread, key=lambda place: (-spread[place], place)))


class NotComparable(ValueError):
    """A metric that the suite does not have, or that has no test of differences. The message lists the others."""


@dataclass(frozen=True, slots=True)
class ComparableMetric:
    """A metric that can be compared: the mean of one number per sample, after reducing epochs."""

    measure: Measure
    reducer: Reducer
    aggregate: str
    name: str

    def scores(self, summary: Summary, target: str, *, epochs: int) -> CandidateScores:
        """The number of each sample of a target by its place in the dataset."""
        fill = summary.fill_range(self.measure, self.reducer)
        estimand = self.estimand(summary)
        scores = reduce_tally(summary.tallies[target, self.measure.name], self.reducer, fill, epochs=epochs)
        return CandidateScores.of(scores, estimand)

    def estimand(self, summary: Summary) -> Estimand:
        """What the metric estimates."""
        return summary.estimand(self.measure, self.aggregate, reducer=self.reducer)


def quality_metrics(summary: Summary) -> tuple[ComparableMetric, ...]:
    """Each scorer by its headline if that can be paired, else by its mean, and by every other reducer of the suite."""
    result: list[ComparableMetric] = []
    for measure in summary.measures:
        if measure.name not in BUILTIN_NAMES:
            plain = {reading.aggregate: reading for reading in _paired_metrics(summary, measure)}
            wanted = (measure.declaration.headline, MEAN.name, *plain)
            result.extend(plain[name] for name in [name for name in wanted if name in plain][:1])
            result.extend(_reducer_metrics(summary, measure))
    return tuple(result)


def cost_metrics(summary: Summary) -> tuple[ComparableMetric, ...]:
    """Latency, tokens and cost, each by its mean."""
    return tuple(
        ComparableMetric(measure, summary.reducer_of(measure.name), MEAN.name, measure.metric_name(MEAN.name))
        for measure in summary.measures
        if measure.name in BUILTIN_NAMES
    )


def find_metrics(wanted: Sequence[str], summary: Summary) -> tuple[ComparableMetric, ...]:
    """The metrics named `exact_match`, `exact_match/v1`, `toxicity/ratio` … Raises NotComparable."""
    by_name: dict[str, ComparableMetric] = {}
    for reading in quality_metrics(summary):  # a bare name is the scorer's main one
        by_name.setdefault(reading.measure.name, reading)
        by_name.setdefault(_unversioned(reading), reading)
    for measure in summary.measures:
        for reading in (
            (*_paired_metrics(summary, measure), *_reducer_metrics(summary, measure))
            if measure.name not in BUILTIN_NAMES
            else ()
        ):
            by_name[reading.name] = by_name[_unversioned(reading)] = reading
    result: dict[str, ComparableMetric] = {}
    for text in wanted:
        if text not in by_name:
            known = sorted({reading.name for reading in by_name.values()})
            hint = nearest(text, by_name) or f"; choose from {', '.join(known)}"
            raise NotComparable(f"cannot compare by {text!r}{hint}")
        result[by_name[text].name] = by_name[text]
    return tuple(result.values())


def _paired_metrics(summary: Summary, measure: Measure) -> Iterator[ComparableMetric]:
    for name in measure.declaration.aggregates:
        if find_aggregate(name).paired:
            yield ComparableMetric(measure, summary.reducer_of(measure.name), name, measure.metric_name(name))


def _reducer_metrics(summary: Summary, measure: Measure) -> Iterator[ComparableMetric]:
    for reducer in summary.design.other_reducers:
        yield ComparableMetric(measure, reducer, MEAN.name, measure.reducer_name(reducer))


def _unversioned(reading: ComparableMetric) -> str:
    """The metric's name without the version."""
    version = reading.measure.declaration.version
    return reading.name.replace(f"/{version}", "", 1) if version else reading.name


def rank(values: Mapping[str, float | None], better: Iterable[tuple[str, str]], *, higher_is_better: bool) -> Ranking:
    """The ranking by `values`; `better` holds the significant pairs (better, worse).

    Candidates without a value come last and differ from none.
    """
    wins = frozenset(better)

    def key(name: str) -> tuple[bool, float, str]:
        value = values[name]
        if value is None:
            return True, 0.0, name
        return False, -value if higher_is_better else value, name

    order = tuple(sorted(values, key=key))
    signs = tuple(
        SIGNIFICANT_SIGN
        if all((before, after) in wins for before in order[:place] for after in order[place:])
        else NOT_SIGNIFICANT_SIGN
        for place in range(1, len(order))
    )
    best = order[0] if len(order) > 1 and all((order[0], other) in wins for other in order[1:]) else None
    differing = tuple(
        pair
        for group in groups(order, signs)
        for place, one in enumerate(group)
        for other in group[place + 1 :]
        for pair in ((one, other), (other, one))
        if pair in wins
    )
    return Ranking(order=order, signs=signs, letters=compact_letters(order, wins), best=best, differing=differing)


def groups(order: Sequence[str], signs: Sequence[str]) -> list[list[str]]:
    """The order, split at each `>`."""
    result = [list(order[:1])] if order else []
    for sign, name in zip(signs, order[1:], strict=True):
        if sign == SIGNIFICANT_SIGN:
            result.append([name])
        else:
            result[-1].append(name)
    return result


def compact_letters(order: Sequence[str], differ: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two names share one exactly if they do not differ: insert and absorb (Piepho 2004, §3).

    The first name gets `a`.
    """
    columns: list[frozenset[str]] = [frozenset(order)]
    for one, other in sorted({tuple(sorted(pair)) for pair in differ}):
        inserted: list[frozenset[str]] = []
        for column in columns:
            inserted.extend([column - {one}, column - {other}] if {one, other} <= column else [column])
        columns = [
            column
            for place, column in enumerate(inserted)
            if not any(column < other for other in inserted) and column not in inserted[:place]
        ]
    place_of = {name: place for place, name in enumerate(order)}
    columns.sort(key=lambda column: sorted(place_of[name] for name in column))
    return {name: "".join(_letter(place) for place, column in enumerate(columns) if name in column) for name in order}


def _letter(place: int) -> str:
    """a, b … z, then A … Z, then (52) and so on: no two columns share one."""
    letters = string.ascii_letters
    return letters[place] if place < len(letters) else f"({place})"


def pareto_front(
    quality: tuple[str, Mapping[str, float | None]], against: tuple[str, Mapping[str, float | None]], *,
    higher_is_better: bool, ends: Mapping[str, tuple[float, float]] | None = None,
) -> ParetoFront | None:  # fmt: skip
    """The Pareto front of a quality metric and a cost (lower is better); None if no candidate has both.

    Each is the metric's name with the value of every candidate. Candidates that are equal on both are on the front.
    `ends` holds the worst and best quality of candidates that miss scores: one leaves the front only if another one is at
    least as good for every value of the missing scores.
    """
    sign = 1.0 if higher_is_better else -1.0
    points: dict[str, tuple[float, float, float]] = {}  # worst and best quality, negated cost
    for name, value in quality[1].items():
        cost = against[1].get(name)
        if value is not None and cost is not None:
            worst, best = (ends or {}).get(name, (value, value))
            points[name] = (sign * worst, sign * best, -cost)
    if not points:
        return None
    members = tuple(
        name
        for name, point in points.items()
        if not any(other != point and other[0] >= point[1] and other[2] >= point[2] for other in points.values())
    )
    missing = tuple(name for name in quality[1] if name not in points)
    return ParetoFront(quality=quality[0], against=against[0], members=members, missing=missing)
