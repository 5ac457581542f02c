"""Contestants of one summary to a comparison: every pair on every quality metric, corrected for being so many.

The family of Holm's correction is all pairs × quality metrics. Slices, latency, tokens and money stand outside of it:
they are shown with what each test alone says, and rank nobody.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, TypeAlias

from evalrunner.compare.metrics import ComparableMetric, cost_metrics, find_metrics, quality_metrics
from evalrunner.compare.pairing import Scale, Scores, pair_scores, unpaired_scores
from evalrunner.compare.pareto import pareto_front
from evalrunner.compare.ranking import rank
from evalrunner.compare.result import ALPHA, Candidate, ComparedMetric, Comparison, Pair, ParetoFront
from evalrunner.compare.warnings import comparison_warnings
from evalrunner.domain import Metric
from evalrunner.stats.hypothesis_tests import holm
from evalrunner.stats.summary import Summary

MAX_DISAGREEING_SAMPLES: Final = 100  # samples whose scores differ most that are kept
AGAINST: Final = ("cost_usd/mean", "latency/p50")  # what quality is weighed against
SHOWN: Final = ("latency/p50", "latency/p90")  # without a test: no paired test belongs to a quantile

Where: TypeAlias = tuple[tuple[str, str], ...]


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

    `known` holds what `summary.all_metrics` says of each, `judges` the names that the judge of a scorer goes by.
    `wanted` names metrics; without it all quality metrics are compared. Raises NotComparable for one that cannot be.
    """
    readings = find_metrics(wanted, summary) if wanted else quality_metrics(summary)
    table = _Table(summary, tuple(item.name for item in candidates), _Known(known), paired)
    scores = {reading.name: table.scores(reading) for reading in readings}
    metrics, family = _decided([table.compared(reading, scores[reading.name]) for reading in readings])
    costs = tuple(_costs(table))
    return Comparison(
        candidates=tuple(candidates),
        metrics=metrics,
        costs=costs,
        slices=tuple(item for reading in readings for item in table.sliced(reading, scores[reading.name])),
        pareto_fronts=tuple(_pareto_fronts(metrics, costs)),
        paired=paired,
        family=family,
        warnings=tuple(comparison_warnings(metrics, candidates, judges or {})),
        notes=tuple(_notes(summary, metrics, costs, paired=paired)),
        most_different=_most_different(metrics, scores) if paired else (),
    )


class _Known:
    """The metrics of each candidate by name, reducer and slice."""

    def __init__(self, known: Mapping[str, Sequence[Metric]]) -> None:
        self._found: dict[tuple[str, str, str, Where], Metric] = {
            (candidate, metric.name, metric.reducer, tuple((metric.slice or {}).items())): metric
            for candidate, metrics in known.items()
            for metric in metrics
        }

    def of(self, names: Sequence[str], reading: tuple[str, str], where: Where = ()) -> dict[str, Metric]:
        """Each candidate's metric of this name and reducer, where it has one."""
        found = {name: self._found.get((name, *reading, where)) for name in names}
        return {name: metric for name, metric in found.items() if metric is not None}


@dataclass(frozen=True, slots=True)
class _Table:
    """All candidates' numbers, and how two of them are held against each other."""

    summary: Summary
    names: tuple[str, ...]
    known: _Known
    paired: bool

    def scores(self, reading: ComparableMetric) -> dict[str, Scores]:
        return {name: reading.values(self.summary, name) for name in self.names}

    def sliced(self, reading: ComparableMetric, scores: Mapping[str, Scores]) -> Iterator[ComparedMetric]:
        """The metric in each value of each slice column, in the order of their text."""
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
        """The metric of all candidates with every pair, none of them decided yet."""
        said = reading.measure.declaration
        clusters = None if self.summary.clusters is None else self.summary.clusters.codes
        scale = Scale(reading.binary(self.summary), reading.width(self.summary), said.higher_is_better, clusters)
        held = pair_scores if self.paired else unpaired_scores
        return ComparedMetric(
            name=reading.name,
            scorer=reading.measure.name,
            aggregate=reading.aggregate,
            reducer=reading.reducer.name,
            unit=said.unit,
            higher_is_better=said.higher_is_better,
            values=self.known.of(self.names, (reading.name, reading.reducer.name), tuple((where or {}).items())),
            pairs=tuple(held(two, scores[two[0]], scores[two[1]], scale) for two in combinations(self.names, 2)),
            slice=where,
        )


def _decided(metrics: Sequence[ComparedMetric]) -> tuple[tuple[ComparedMetric, ...], int]:
    """The metrics with p-values adjusted over all their pairs, who is better, and the ranking; and the family's size."""
    family = [pair for metric in metrics for pair in metric.pairs]
    # a pair that nothing can be said of stays in the family, so that its size does not hang on the data
    adjusted = iter(holm([1.0 if pair.p_value is None else pair.p_value for pair in family]))
    found: list[ComparedMetric] = []
    for metric in metrics:
        pairs = tuple(_judged(pair, next(adjusted), metric) for pair in metric.pairs)
        better = [(pair.better, pair.worse) for pair in pairs if pair.better is not None and pair.worse is not None]
        values = {name: value.value for name, value in metric.values.items()}
        ranking = rank(values, better, higher_is_better=metric.higher_is_better)
        found.append(replace(metric, pairs=pairs, ranking=ranking))
    return tuple(found), len(family)


def _judged(pair: Pair, adjusted: float, metric: ComparedMetric) -> Pair:
    if pair.p_value is None or pair.difference is None:
        return pair
    first = (pair.difference > 0) == metric.higher_is_better
    better = (pair.first if first else pair.second) if adjusted < ALPHA and pair.difference != 0 else None
    return replace(pair, p_adjusted=adjusted, better=better)


def _costs(table: _Table) -> Iterator[ComparedMetric]:
    """Latency, tokens and money by their means, and the quantiles of latency, where there are any numbers."""
    for reading in cost_metrics(table.summary):
        scores = table.scores(reading)
        if any(scores.values()):
            whole = table.compared(reading, scores)
            yield whole
            for name in SHOWN:
                if name.startswith(f"{reading.measure.name}/"):
                    values = table.known.of(table.names, (name, reading.reducer.name))
                    yield replace(whole, name=name, aggregate=name.partition("/")[2], values=values, pairs=())


def _pareto_fronts(metrics: Sequence[ComparedMetric], costs: Sequence[ComparedMetric]) -> Iterator[ParetoFront]:
    kept = _kept_answers(costs)
    for metric in metrics:
        quality = {name: value.value for name, value in metric.values.items()}
        for cost in costs:
            if cost.name in AGAINST:
                free = kept if cost.scorer == "cost_usd" else {}  # what was paid for in another run is not cheap
                spent = {name: None if name in free else value.value for name, value in cost.values.items()}
                found = pareto_front(
                    (metric.name, quality), (cost.name, spent), higher_is_better=metric.higher_is_better
                )
                if found is not None:
                    yield found


def _kept_answers(costs: Sequence[ComparedMetric]) -> dict[str, int]:
    """How many answers of each candidate came from the cache: they have a cost, nothing, and no latency."""
    by_name = {cost.name: cost.values for cost in costs}
    paid, timed = by_name.get("cost_usd/mean", {}), by_name.get("latency/mean", {})
    kept = {name: value.n - (timed[name].n if name in timed else 0) for name, value in paid.items()}
    return {name: count for name, count in kept.items() if count > 0}


def _notes(
    summary: Summary, metrics: Sequence[ComparedMetric], costs: Sequence[ComparedMetric], *, paired: bool
) -> Iterator[str]:
    if not paired:
        yield "unpaired: the samples differ, so how hard they are is part of the noise; only large differences show"
    if summary.clusters is not None:
        yield f"samples are related by {summary.clusters.column!r}; the tests take the error over those clusters"
    for name, count in _kept_answers(costs).items():
        yield f"{count:,} answers of {name} came from the cache and cost nothing, so its cost cannot be compared"
    said = {pair.note for metric in metrics for pair in metric.pairs if pair.note is not None and pair.n}
    yield from sorted(said)


def _most_different(metrics: Sequence[ComparedMetric], scores: Mapping[str, Mapping[str, Scores]]) -> tuple[int, ...]:
    """The places of the samples whose scores differ most between candidates, on average over the metrics.

    Each metric by the range that was seen of it, so that one with large numbers does not outweigh the others.
    """
    spread: dict[int, float] = {}
    for metric in metrics:
        sides = list(scores[metric.name].values())
        seen = [value for side in sides for value in side.values()]
        width = (max(seen) - min(seen)) if seen else 0.0
        if width == 0:
            continue
        for place in {place for side in sides for place in side}:
            found = [side[place] for side in sides if place in side]
            gap = max(found) - min(found)
            if gap > 0:
                spread[place] = spread.get(place, 0.0) + gap / width
    return tuple(heapq.nsmallest(MAX_DISAGREEING_SAMPLES, spread, key=lambda place: (-spread[place], place)))
