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

from evalrunner.compare.result import (
    ALPHA,
    Candidate,
    ComparedMetric,
    Comparison,
    Pair,
    ParetoFront,
    Ranking,
    comparison_warnings,
)
from evalrunner.domain import Metric
from evalrunner.errors import nearest
from evalrunner.stats.aggregates import MEAN, Estimand, Reducer, find_aggregate
from evalrunner.stats.hypothesis_tests import Difference, holm, paired_difference, two_sample_difference
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, Measure, Summary

MAX_DISAGREEING_SAMPLES: Final = 100  # samples whose scores differ most
COSTS: Final = ("cost_usd/mean", "latency/p50")  # the other axis of Pareto fronts
QUANTILES: Final = ("latency/p50", "latency/p90")  # without a test: there is no paired test of a quantile

Where: TypeAlias = tuple[tuple[str, str], ...]

BUILTIN_NAMES: Final = frozenset(measure.name for measure in ALL_BUILTIN_MEASURES)  # cost and latency, not quality

Scores = Mapping[int, float]  # by the position of the sample in the dataset

SIGNIFICANT_SIGN, NOT_SIGNIFICANT_SIGN = ">", "≈"


def compare(
    summary: Summary,
    candidates: Sequence[Candidate],
    known: Mapping[str, Sequence[Metric]],
    *,
    judges: Mapping[str, Sequence[str]] | None = None,
    wanted: Sequence[str] = (),
    paired: bool = True,
) -> Comparison:
    """The comparison of the summary's targets, which are the candidates by name.

    `known` holds `summary.all_metrics` of each, `judges` the names of each scorer's judge. `wanted` names metrics;
    without it all quality metrics are compared. Raises NotComparable for a metric that cannot be compared.
    """
    compared_metrics = find_metrics(wanted, summary) if wanted else quality_metrics(summary)
    table = _Table(summary, tuple(item.name for item in candidates), _MetricIndex(known), paired)
    scores = {reading.name: table.scores(reading) for reading in compared_metrics}
    metrics, family = _adjusted([table.compared(reading, scores[reading.name]) for reading in compared_metrics])
    costs = tuple(_costs(table))
    return Comparison(
        candidates=tuple(candidates),
        metrics=metrics,
        costs=costs,
        slices=tuple(item for reading in compared_metrics for item in table.sliced(reading, scores[reading.name])),
        pareto_fronts=tuple(_pareto_fronts(metrics, costs)),
        paired=paired,
        family=family,
        warnings=tuple(comparison_warnings(metrics, candidates, judges or {})),
        notes=tuple(_notes(summary, metrics, costs, paired=paired)),
        most_different=_most_different(metrics, scores) if paired else (),
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
    """The scores of all candidates, and how two of them are compared."""

    summary: Summary
    names: tuple[str, ...]
    known: _MetricIndex
    paired: bool

    def scores(self, reading: ComparableMetric) -> dict[str, Scores]:
        return {name: reading.values(self.summary, name) for name in self.names}

    def sliced(self, reading: ComparableMetric, scores: Mapping[str, Scores]) -> Iterator[ComparedMetric]:
        """The metric for each value of each slice column, sorted by text."""
        for column, groups in self.summary.slices.items():
            parts: dict[int, dict[str, dict[int, float]]] = {}
            for name, side in scores.items():
                for place, value in side.items():
                    part = parts.setdefault(groups.codes[place], {each: {} for each in self.names})
                    part[name][place] = value
            for code in sorted(parts, key=groups.texts.__getitem__):
                yield self.compared(reading, parts[code], {column: groups.texts[code]})

    def compared(
        self, reading: ComparableMetric, scores: Mapping[str, Scores], where: Mapping[str, str] | None = None
    ) -> ComparedMetric:
        """The metric of all candidates with every pair, before correction."""
        declaration = reading.measure.declaration
        clusters = None if self.summary.clusters is None else self.summary.clusters.codes
        scale = Scale(reading.binary(self.summary), reading.width(self.summary), declaration.higher_is_better, clusters)
        compare_two = pair_scores if self.paired else unpaired_scores
        return ComparedMetric(
            name=reading.name,
            scorer=reading.measure.name,
            aggregate=reading.aggregate,
            reducer=reading.reducer.name,
            unit=declaration.unit,
            higher_is_better=declaration.higher_is_better,
            values=self.known.of(self.names, (reading.name, reading.reducer.name), tuple((where or {}).items())),
            pairs=tuple(compare_two(two, scores[two[0]], scores[two[1]], scale) for two in combinations(self.names, 2)),
            slice=where,
        )


def _adjusted(metrics: Sequence[ComparedMetric]) -> tuple[tuple[ComparedMetric, ...], int]:
    """The metrics with Holm-adjusted p-values, the better of each pair, and rankings; and the size of the family."""
    family = [pair for metric in metrics for pair in metric.pairs]
    # a pair without a p-value stays in the family, so that its size does not depend on the data
    adjusted = iter(holm([1.0 if pair.p_value is None else pair.p_value for pair in family]))
    result: list[ComparedMetric] = []
    for metric in metrics:
        pairs = tuple(_corrected(pair, next(adjusted), metric) for pair in metric.pairs)
        better = [(pair.better, pair.worse) for pair in pairs if pair.better is not None and pair.worse is not None]
        values = {name: value.value for name, value in metric.values.items()}
        ranking = rank(values, better, higher_is_better=metric.higher_is_better)
        result.append(replace(metric, pairs=pairs, ranking=ranking))
    return tuple(result), len(family)


def _corrected(pair: Pair, adjusted: float, metric: ComparedMetric) -> Pair:
    if pair.p_value is None or pair.difference is None:
        return pair
    first = (pair.difference > 0) == metric.higher_is_better
    better = (pair.first if first else pair.second) if adjusted < ALPHA and pair.difference != 0 else None
    return replace(pair, p_adjusted=adjusted, better=better)


def _costs(table: _Table) -> Iterator[ComparedMetric]:
    """Latency, tokens and cost by their means, and the quantiles of latency, where there are values."""
    for reading in cost_metrics(table.summary):
        scores = table.scores(reading)
        if any(scores.values()):
            mean_cost = table.compared(reading, scores)
            yield mean_cost
            for name in QUANTILES:
                if name.startswith(f"{reading.measure.name}/"):
                    values = table.known.of(table.names, (name, reading.reducer.name))
                    yield replace(mean_cost, name=name, aggregate=name.partition("/")[2], values=values, pairs=())


def _pareto_fronts(metrics: Sequence[ComparedMetric], costs: Sequence[ComparedMetric]) -> Iterator[ParetoFront]:
    cached = _cached_answers(costs)
    for metric in metrics:
        quality = {name: value.value for name, value in metric.values.items()}
        for cost in costs:
            if cost.name in COSTS:
                free = cached if cost.scorer == "cost_usd" else {}  # answers paid for in another run are not cheap
                spent = {name: None if name in free else value.value for name, value in cost.values.items()}
                result = pareto_front(
                    (metric.name, quality), (cost.name, spent), higher_is_better=metric.higher_is_better
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
    summary: Summary, metrics: Sequence[ComparedMetric], costs: Sequence[ComparedMetric], *, paired: bool
) -> Iterator[str]:
    if not paired:
        yield "unpaired: the samples differ, so their difficulty adds noise; only large differences are significant"
    if summary.clusters is not None:
        yield f"samples are clustered by {summary.clusters.column!r}; tests use the standard error over clusters"
    for name, count in _cached_answers(costs).items():
        yield f"{count:,} answers of {name} are cached and cost nothing, so its cost cannot be compared"
    notes = {pair.note for metric in metrics for pair in metric.pairs if pair.note is not None and pair.n}
    yield from sorted(notes)


def _most_different(metrics: Sequence[ComparedMetric], scores: Mapping[str, Mapping[str, Scores]]) -> tuple[int, ...]:
    """The places of the samples whose scores differ most between candidates, on average over the metrics.

    Each metric by the range that was seen of it, so that one with large numbers does not outweigh the others.
    """
    spread: dict[int, float] = {}
    for metric in metrics:
        sides = list(scores[metric.name].values())
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

    def values(self, summary: Summary, target: str) -> dict[int, float]:
        """The number of each scored sample by its place in the dataset."""
        reduced = summary.reduced(target, self.measure.name, reducer=self.reducer)
        result = dict(zip(reduced.samples, reduced.values, strict=True))
        estimand = self.estimand(summary)
        return {place: estimand.of_sample(value) for place, value in result.items()}

    def estimand(self, summary: Summary) -> Estimand:
        """What the metric estimates."""
        return summary.estimand(self.measure, self.aggregate, reducer=self.reducer)

    def binary(self, summary: Summary) -> bool:
        """Whether the number of every sample is 0 or 1 by construction."""
        return self.estimand(summary).is_share

    def width(self, summary: Summary) -> float | None:
        """The width of the range of the numbers; None if it is open."""
        return self.estimand(summary).sample_width


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


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale of scores: 0 or 1 by construction (`binary`), or in a range of this `width`, None if it is open.

    `clusters` holds the cluster of each position.
    """

    binary: bool
    width: float | None
    higher_is_better: bool
    clusters: Sequence[int] | None = None

    def span(self, *sides: Scores) -> float | None:
        """The width for tests of graded scores, that of the observed scores if the range is open; None for 0/1 scores."""
        if self.binary:
            return None
        if self.width is not None:
            return self.width
        values = [value for side in sides for value in side.values()]
        return (max(values) - min(values) if values else 0.0) or 1.0  # for constant scores any width gives the same


def pair_scores(names: tuple[str, str], first: Scores, second: Scores, scale: Scale) -> Pair:
    """The paired difference of two candidates; samples with a score on one side only are excluded and counted."""
    places = sorted(first.keys() & second.keys())
    differences = [first[place] - second[place] for place in places]
    clusters = None if scale.clusters is None else [scale.clusters[place] for place in places]
    result = paired_difference(differences, span=scale.span(first, second), clusters=clusters)
    up, down = sum(1 for item in differences if item > 0), sum(1 for item in differences if item < 0)
    wins, losses = (up, down) if scale.higher_is_better else (down, up)
    excluded = len(first) + len(second) - 2 * len(places)
    return _pair(names, result, excluded=excluded, counts=(wins, len(places) - wins - losses, losses))


def unpaired_scores(names: tuple[str, str], first: Scores, second: Scores, scale: Scale) -> Pair:
    """The difference of two candidates on different samples."""
    sides = [[side[place] for place in sorted(side)] for side in (first, second)]
    clusters = None
    if scale.clusters is not None:
        of = scale.clusters
        clusters = [of[place] for place in sorted(first)], [of[place] for place in sorted(second)]
    result = two_sample_difference(sides[0], sides[1], span=scale.span(first, second), clusters=clusters)
    return _pair(names, result)


def _pair(
    names: tuple[str, str], result: Difference, *, excluded: int = 0, counts: tuple[int, int, int] | None = None
) -> Pair:
    wins, ties, losses = counts or (None, None, None)
    return Pair(
        first=names[0], second=names[1], difference=result.estimate, low=result.low, high=result.high,
        p_value=result.p_value, method=result.method, n=result.n, wins=wins, ties=ties, losses=losses,
        excluded=excluded, note=result.note,
    )  # fmt: skip


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
    higher_is_better: bool,
) -> ParetoFront | None:  # fmt: skip
    """The Pareto front of a quality metric and a cost (lower is better); None if no candidate has both.

    Each is the metric's name with the value of every candidate. Candidates that are equal on both are on the front.
    """
    sign = 1.0 if higher_is_better else -1.0
    points: dict[str, tuple[float, float]] = {}
    for name, value in quality[1].items():
        cost = against[1].get(name)
        if value is not None and cost is not None:
            points[name] = (sign * value, -cost)
    if not points:
        return None
    members = tuple(
        name
        for name, point in points.items()
        if not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points.values())
    )
    missing = tuple(name for name in quality[1] if name not in points)
    return ParetoFront(quality=quality[0], against=against[0], members=members, missing=missing)
