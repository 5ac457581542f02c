"""Rows to metrics in one pass, holding a float and a code per cell: pure, in any order of rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalrunner.domain import Declaration, Metric, Row, cell_message
from evalrunner.stats.aggregates import QUANTILE, aggregate
from evalrunner.stats.grouping import Design, Groups
from evalrunner.stats.intervals import Estimand, Interval, metric_interval
from evalrunner.stats.measures import (
    BUILTIN_MEASURES,
    STREAMING_MEASURES,
    Measure,
    builtin_cells,
    builtin_measures,
    output_rate,
)
from evalrunner.stats.reducers import MEAN, Reducer
from evalrunner.stats.tally import ReducedScores, SampleScores, Tally, reduce_tally

__all__ = [
    "BUILTIN_MEASURES",
    "MIN_COVERAGE",
    "STREAMING_MEASURES",
    "Measure",
    "Summary",
    "builtin_measures",
    "coverage",
    "output_rate",
    "summarize",
]

MIN_COVERAGE = 0.95  # share of the samples a scorer applies to that must have been scored


@dataclass(slots=True)
class Summary:
    """What is known of a run's numbers so far. Rows go in by `add`; metrics can be asked for at any time."""

    measures: tuple[Measure, ...]
    targets: tuple[str, ...]
    epochs: int = 1
    streaming: bool = False
    design: Design = Design()
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    clusters: Groups | None = None
    slices: dict[str, Groups] = field(default_factory=dict)
    _known: dict[str, tuple[Metric, ...]] = field(default_factory=dict)  # until the next row

    def __post_init__(self) -> None:
        self.measures = (*self.measures, *builtin_measures(streaming=self.streaming))
        for target in self.targets:
            for measure in self.measures:
                self.tallies[target, measure.name] = Tally(epochs=array("i") if self.epochs > 1 else None)
        self.slices = {column: Groups(column) for column in self.design.slices}
        if self.design.cluster is not None:
            self.clusters = Groups(self.design.cluster, apart=True)

    def add(self, row: Row) -> None:
        """Count one row in."""
        self._known.clear()
        index = row.sample.index
        for name, cell in row.cells.items():
            self.tallies[row.target, name].add(index, cell, epoch=row.epoch)
        for name, cell in builtin_cells(row.answer, streaming=self.streaming).items():
            self.tallies[row.target, name].add(index, cell, epoch=row.epoch)
        for groups in self.slices.values():
            groups.add(row.sample)
        if self.clusters is not None:
            self.clusters.add(row.sample)

    def reduced(
        self, target: str, measure: str, *, reducer: Reducer | None = None, slice: Mapping[str, str] | None = None
    ) -> ReducedScores:
        """One score per sample of a measure, by the plain reducer or the one asked for, of all samples or of a slice.

        A slice that no sample is in has no values and no counts. Raises KeyError for a column that is no slice.
        """
        found = reduce_tally(self.tallies[target, measure], reducer or self.reducer_of(measure))
        for column, text in (slice or {}).items():
            groups = self.slices[column]
            code = groups.code_of(text)
            parts = found.split(groups.codes)
            found = parts.get(-2 if code is None else code) or SampleScores(array("q"), array("d"), array("b"))
        return found.partition_states(None if self.clusters is None else self.clusters.codes)

    def reducer_of(self, measure: str) -> Reducer:
        """The reducer behind a measure's plain names: that of the suite, the mean for what is always there."""
        return (
            MEAN
            if any(always.name == measure for always in (*BUILTIN_MEASURES, *STREAMING_MEASURES))
            else self.design.plain
        )

    def estimand(self, measure: Measure, aggregate_name: str, *, reducer: Reducer | None = None) -> Estimand:
        """What a metric estimates: hand it to `gate_bounds` with the reduced values."""
        return measure.estimand(aggregate_name, reducer=reducer or self.reducer_of(measure.name), epochs=self.epochs)

    def metrics(self, target: str) -> tuple[Metric, ...]:
        """Every metric of a target over all its samples, in the order of the suite."""
        if target not in self._known:
            self._known[target] = tuple(
                self._metric(target, measure, reduced, (name, reducer, None))
                for measure, reducer, names in self._readings()
                for reduced in [self.reduced(target, measure.name, reducer=reducer)]
                for name in names
            )
        return self._known[target]

    def sliced(self, target: str) -> tuple[Metric, ...]:
        """The same metrics for each value of each slice column, the values in the order of their text."""
        found: dict[tuple[str, str], list[Metric]] = {
            (column, text): [] for column, groups in self.slices.items() for text in sorted(groups.texts)
        }
        clusters = None if self.clusters is None else self.clusters.codes
        for measure, reducer, names in self._readings() if found else ():
            per_sample = reduce_tally(self.tallies[target, measure.name], reducer)
            for column, groups in self.slices.items():
                for code, part in per_sample.split(groups.codes).items():
                    reduced, text = part.partition_states(clusters), groups.texts[code]
                    what = [(name, reducer, {column: text}) for name in names]
                    found[column, text].extend(self._metric(target, measure, reduced, each) for each in what)
        return tuple(metric for metrics in found.values() for metric in metrics)

    def all_metrics(self, target: str) -> tuple[Metric, ...]:
        """Those over all samples, then those of the slices."""
        return (*self.metrics(target), *self.sliced(target))

    def _readings(self) -> Iterator[tuple[Measure, Reducer, tuple[str, ...]]]:
        """Each measure with its plain reducer and its aggregates, then with each further one and the mean."""
        for measure in self.measures:
            yield measure, self.reducer_of(measure.name), measure.declaration.aggregates
            if measure not in (*BUILTIN_MEASURES, *STREAMING_MEASURES):
                for further in self.design.further:
                    yield measure, further, ("mean",)

    def _metric(
        self, target: str, measure: Measure, reduced: ReducedScores, what: tuple[str, Reducer, Mapping[str, str] | None]
    ) -> Metric:
        name, reducer, where = what
        further = reducer in self.design.further
        said, values = measure.declaration, reduced.values
        if reduced.clusters is None and QUANTILE.fullmatch(name):
            values = array("d", sorted(values))
        value = aggregate(name, values, threshold=said.threshold)
        estimand = measure.estimand(name, reducer=reducer, epochs=self.epochs)
        found = metric_interval(estimand, values, clusters=reduced.clusters, seed=self.design.seed)
        return Metric(
            name=measure.reducer_name(reducer) if further else measure.metric_name(name),
            scorer=measure.name,
            aggregate=name,
            value=value,
            n=len(values),
            skipped=reduced.skipped,
            unscored=reduced.no_answer + reduced.judge,
            errors=reduced.errors,
            version=said.version,
            reducer=reducer.name,
            slice=where,
            low=found.low,
            high=found.high,
            level=found.level if found.method else None,
            method=found.method,
            n_effective=found.n_effective,
            unit=said.unit,
            higher_is_better=said.higher_is_better,
            trusted=len(values) > 0 and coverage(reduced) >= MIN_COVERAGE,
            detail=_detail(measure, name, reduced, found, None if where else self.tallies[target, measure.name]),
        )


def summarize(
    rows: Iterable[Row],
    measures: Sequence[Measure],
    targets: Sequence[str],
    *,
    epochs: int = 1,
    streaming: bool = False,
    design: Design | None = None,
) -> Summary:
    """The summary of `rows`: one pass, in any order."""
    summary = Summary(tuple(measures), tuple(targets), epochs, streaming, design or Design())
    for row in rows:
        summary.add(row)
    return summary


def coverage(reduced: ReducedScores) -> float:
    """Share of the samples a scorer applies to that were scored; 0 where it applies to none."""
    return len(reduced.values) / reduced.applicable if reduced.applicable else 0.0


def _detail(
    measure: Measure, name: str, reduced: ReducedScores, found: Interval, tally: Tally | None
) -> Mapping[str, Any] | None:
    declaration = measure.declaration
    detail: dict[str, Any] = {}
    if declaration.backend:
        detail["backend"] = declaration.backend
    if name == "ratio":
        detail["threshold"] = declaration.threshold
    if found.note is not None:
        detail["interval"] = found.note
    if tally is not None and tally.reasons:
        texts = ((cell_message(*reason) or "", count) for reason, count in tally.reasons.items())
        detail["reasons"] = dict(sorted(texts))
    other = other_reading(reduced, name, declaration)
    if other is not None:
        detail["other_reading"] = other
    return detail or None


def other_reading(reduced: ReducedScores, name: str, declaration: Declaration) -> Mapping[str, Any] | None:
    """What the metric would be with the other meaning of answers that were not given, where it differs."""
    values = list(reduced.values)
    if reduced.zeroed:
        zeros = sum(1 for value in values if value == 0)
        values = [value for value in values if value != 0] + [0.0] * (zeros - reduced.zeroed)
        reading = "unscored"
    elif reduced.no_answer and declaration.needs_answer:
        values += [0.0] * reduced.no_answer
        reading = "zero"
    else:
        return None
    value = aggregate(name, values, threshold=declaration.threshold)
    return {"on_no_answer": reading, "value": value, "n": len(values)}
