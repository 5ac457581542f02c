"""Rows to metrics in one pass: measures, tallies that hold a float and a code per cell, and groups of samples.

Pure, and the same for any order of the rows.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Final, TypeAlias

from evalrunner.domain import Cause, Cell, Completion, Declaration, Failure, Metric, Row, Sample, cell_message
from evalrunner.prompts import ABSENT, find_value
from evalrunner.stats.aggregates import MEAN, MEAN_REDUCER, Estimand, Reducer, find_aggregate, metric_interval
from evalrunner.stats.intervals import Interval

_NOT_REPORTED = Cell("unscored", reason="not reported")
_NOT_CALLED = Cell("skipped", reason="nothing was called")

MIN_COVERAGE: Final = 0.95  # share of the samples a scorer applies to that must have been scored

SCORED: Final = 0
ZEROED: Final = 1  # no answer, counted as zero by on_no_answer: zero
SKIPPED: Final = 2
NO_ANSWER: Final = 3
JUDGE: Final = 4
ERROR: Final = 5
TOO_FEW_EPOCHS: Final = 6  # of a sample: fewer scored epochs than its reducer needs

Reason: TypeAlias = tuple[Cause | None, str | None]
"""Why a cell has no score: cause and reason; for errors the kind alone, as every message may differ."""
MAX_REASONS = 20  # distinct ones to count

UNKNOWN_GROUP: Final = -1  # the group of a sample that was not added yet


@dataclass(frozen=True, slots=True)
class Measure:
    """Something with a value per row: a scorer by its name in the suite, or a built-in measure."""

    name: str
    declaration: Declaration

    @property
    def versioned_name(self) -> str:
        """`exact_match/v1`; the name alone where there is no version."""
        return f"{self.name}/{self.declaration.version}" if self.declaration.version else self.name

    def metric_name(self, aggregate_name: str) -> str:
        """`exact_match/v1`, `toxicity/v1/p90`, `latency/p50`: names as in MLflow."""
        bare = self.declaration.binary and aggregate_name == MEAN.name
        return self.versioned_name if bare else f"{self.versioned_name}/{aggregate_name}"

    def reducer_name(self, reducer: Reducer) -> str:
        """`exact_match/v1/at_least_3`: the mean over samples of the scores of an additional reducer."""
        return f"{self.versioned_name}/{reducer.name}"

    def estimand(self, aggregate_name: str, *, reducer: Reducer = MEAN_REDUCER, epochs: int = 1) -> Estimand:
        """What an aggregate of the reduced scores estimates, which determines its interval."""
        declared = self.declaration
        unit = reducer.counts or declared.binary  # then in 0..1, whatever the scorer's range
        return Estimand(
            aggregate=find_aggregate(aggregate_name),
            binary=reducer.yields_binary(binary=declared.binary, epochs=epochs),
            low=0.0 if unit else declared.low,
            high=1.0 if unit else declared.high,
            threshold=0.5 if declared.threshold is None else declared.threshold,
        )


def _builtin(unit: str, aggregates: tuple[str, ...]) -> Declaration:
    return Declaration(
        high=None, higher_is_better=False, unit=unit, version=None, needs_answer=False, aggregates=aggregates,
        headline=aggregates[0],
    )  # fmt: skip


BUILTIN_MEASURES = (
    Measure("latency", _builtin("s", ("mean", "p50", "p90", "p99"))),
    Measure("token_count", _builtin("tokens", ("mean", "total"))),
    Measure("cost_usd", _builtin("USD", ("mean", "total"))),
)
"""Computed for every run."""

STREAMING_MEASURES = (
    Measure("ttft", _builtin("s", ("mean", "p50", "p90", "p99"))),
    Measure("output_rate", replace(_builtin("tokens/s", ("mean", "p50", "p90", "p99")), higher_is_better=True)),
)
"""Computed in addition if answers are streamed."""

ALL_BUILTIN_MEASURES = (*BUILTIN_MEASURES, *STREAMING_MEASURES)
"""All measures of the answer itself: reduced by the mean, and not in baselines."""


def builtin_measures(*, streaming: bool) -> tuple[Measure, ...]:
    """The measures computed for every run."""
    return (*BUILTIN_MEASURES, *STREAMING_MEASURES) if streaming else BUILTIN_MEASURES


def builtin_cells(answer: Completion | Failure, *, streaming: bool = False) -> Mapping[str, Cell]:
    """Latency (s), completion tokens and cost (US dollars) of one answer as cells; if streamed, also its speed."""
    if isinstance(answer, Failure):
        failed = Cell.of_failure(answer)
        return {measure.name: failed for measure in builtin_measures(streaming=streaming)}
    called = answer.latency_s is not None or answer.cached
    missing = _NOT_REPORTED if called else _NOT_CALLED
    latency = Cell("scored", answer.latency_s) if answer.latency_s is not None else _NOT_CALLED
    tokens = Cell("scored", float(answer.output_tokens)) if answer.output_tokens is not None else missing
    cost = Cell("scored", answer.cost_usd) if answer.cost_usd is not None else missing
    cells = {"latency": latency, "token_count": tokens, "cost_usd": cost}
    if not streaming:
        return cells
    first = Cell("scored", answer.ttft_s) if answer.ttft_s is not None else missing
    return {**cells, "ttft": first, "output_rate": _rate_cell(answer, missing)}


def _rate_cell(answer: Completion, missing: Cell) -> Cell:
    if answer.ttft_s is None or answer.output_tokens is None:
        return missing
    rate = output_rate(answer)
    return Cell("skipped", reason="no token after the first") if rate is None else Cell("scored", rate)


def output_rate(answer: Completion) -> float | None:
    """Completion tokens per second after the first one; None if unknown, or for a single token."""
    if answer.ttft_s is None or answer.latency_s is None or answer.output_tokens is None or answer.output_tokens < 2:
        return None
    seconds = answer.latency_s - answer.ttft_s
    return answer.output_tokens / seconds if seconds > 0 else None


@dataclass(slots=True)
class Tally:
    """The values of one scorer on one target as they arrive, in any order.

    `samples` holds each row's position in the dataset, to group the epochs of a sample; `epochs` is None for a single
    epoch.
    """

    values: array[float] = field(default_factory=lambda: array("d"))
    codes: array[int] = field(default_factory=lambda: array("b"))
    samples: array[int] = field(default_factory=lambda: array("q"))
    reasons: Counter[Reason] = field(default_factory=Counter)
    epochs: array[int] | None = None

    def add(self, sample: int, cell: Cell, *, epoch: int = 1) -> None:
        """Count one cell."""
        code = cell_code(cell)
        self.values.append(cell.value if cell.value is not None else math.nan)
        self.codes.append(code)
        self.samples.append(sample)
        if self.epochs is not None:
            self.epochs.append(epoch)
        if code != SKIPPED and (cell.cause is not None or cell.reason is not None):
            reason = cell.cause, None if code == ERROR else cell.reason
            if reason in self.reasons or len(self.reasons) < MAX_REASONS:
                self.reasons[reason] += 1


def cell_code(cell: Cell) -> int:
    """The code of a cell's state; unscored cells have one code for a missing answer and one for a missing verdict."""
    if cell.state == "scored":
        return SCORED if cell.cause is None else ZEROED
    if cell.state == "skipped":
        return SKIPPED
    if cell.state == "error":
        return ERROR
    return NO_ANSWER if cell.cause == "no_answer" else JUDGE


@dataclass(frozen=True, slots=True)
class ReducedScores:
    """One score per sample. `values` are those of the scored samples; the counts are of samples.

    `samples` holds the position of each value's sample, `clusters` its cluster if samples are clustered, `absent` the
    positions of the samples that should have a value and have none. `zeroed` of the scored ones have no answer and
    count as zero.
    """

    values: array[float]
    samples: array[int]
    absent: array[int]
    zeroed: int
    skipped: int
    no_answer: int
    judge: int
    errors: int
    clusters: array[int] | None = None

    @property
    def applicable(self) -> int:
        """Samples that the scorer applies to, scored or not."""
        return len(self.values) + self.missing

    @property
    def missing(self) -> int:
        """Samples that the scorer applies to and that have no value."""
        return self.no_answer + self.judge + self.errors


@dataclass(frozen=True, slots=True)
class SampleScores:
    """A value and a code for each sample, aligned: a tally after reducing epochs."""

    samples: array[int]
    values: array[float]
    codes: array[int]

    def split(self, groups: array[int]) -> dict[int, SampleScores]:
        """The parts by group; `groups` holds the group of each position in the dataset."""
        parts: dict[int, SampleScores] = {}
        for sample, value, code in zip(self.samples, self.values, self.codes, strict=True):
            part = parts.get(groups[sample])
            if part is None:
                part = parts[groups[sample]] = SampleScores(array("q"), array("d"), array("b"))
            part.samples.append(sample)
            part.values.append(value)
            part.codes.append(code)
        return parts

    def partition_states(self, clusters: array[int] | None = None) -> ReducedScores:
        """The scored samples, and counts of the others; `clusters` holds the cluster of each position."""
        values, samples, absent = array("d"), array("q"), array("q")
        for sample, value, code in zip(self.samples, self.values, self.codes, strict=True):
            if code <= ZEROED:
                values.append(value)
                samples.append(sample)
            elif code != SKIPPED:
                absent.append(sample)
        count = Counter(self.codes)
        return ReducedScores(
            values, samples, absent, count[ZEROED], count[SKIPPED], count[NO_ANSWER], count[JUDGE],
            count[ERROR] + count[TOO_FEW_EPOCHS],
            None if clusters is None else array("q", (clusters[sample] for sample in samples)),
        )  # fmt: skip


def reduce_tally(tally: Tally, reducer: Reducer = MEAN_REDUCER) -> SampleScores:
    """Epochs to one score per sample; a sample with too few scored epochs takes its worst state."""
    if tally.epochs is None:
        if reducer.kind in ("mean", "median", "mode", "max"):  # of one epoch these are its score
            return SampleScores(tally.samples, tally.values, tally.codes)
        epochs = array("i", [1]) * len(tally.values)
    else:
        epochs = tally.epochs
    keys = [sample << 24 | epoch for sample, epoch in zip(tally.samples, epochs, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # by sample, then epoch, whatever the order of arrival
    result = SampleScores(array("q"), array("d"), array("b"))
    for sample, places in groupby(order, key=tally.samples.__getitem__):
        scores: list[float] = []
        codes: list[int] = []
        for place in places:
            codes.append(tally.codes[place])
            if codes[-1] <= ZEROED:
                scores.append(tally.values[place])
        value = reducer.reduce(scores)
        result.samples.append(sample)
        result.values.append(math.nan if value is None else value)
        result.codes.append(SCORED if value is not None else _worst(codes))
    return result


def _worst(codes: Sequence[int]) -> int:
    """The worst state of a sample without a value; too few epochs if all of them are scored."""
    worst = max(codes)
    return worst if worst > ZEROED else TOO_FEW_EPOCHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How samples and epochs are grouped, as the suite says. `cluster` and `slices` are columns."""

    reducers: tuple[Reducer, ...] = (MEAN_REDUCER,)
    cluster: str | None = None
    slices: tuple[str, ...] = ()
    seed: int = 0

    @property
    def primary_reducer(self) -> Reducer:
        """The reducer behind metric names without a reducer: the mean where it is listed, else the first."""
        return MEAN_REDUCER if MEAN_REDUCER in self.reducers else self.reducers[0]

    @property
    def other_reducers(self) -> tuple[Reducer, ...]:
        """The other reducers, whose metrics carry their names."""
        return tuple(reducer for reducer in self.reducers if reducer != self.primary_reducer)


@dataclass(slots=True)
class Groups:
    """The value of a column for each sample: a code by its position in the dataset, and the text of every code.

    With `singletons` each sample without a value is its own group, else they form one group with an empty text.
    """

    column: str
    singletons: bool = False
    codes: array[int] = field(default_factory=lambda: array("i"))
    texts: list[str] = field(default_factory=list)
    _known: dict[str, int] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Add the value of one sample; adding it again changes nothing."""
        index = sample.index
        if index >= len(self.codes):
            self.codes.extend([UNKNOWN_GROUP] * (index + 1 - len(self.codes)))
        elif self.codes[index] != UNKNOWN_GROUP:
            return
        text = self.text_of(sample)
        if self.singletons and not text:
            self.codes[index] = len(self.texts)
            self.texts.append(text)
            return
        code = self._known.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        self.codes[index] = code

    def text_of(self, sample: Sample) -> str:
        """The value of the column in a sample, empty if there is none."""
        return value_text(find_value(sample.metadata, self.column))

    def code_of(self, text: str) -> int | None:
        """The code of a value, or None where no sample has it."""
        return self._known.get(text)


def value_text(value: Any) -> str:
    """The value of a column as a group's name: text unchanged, other values as JSON, a missing value as empty text."""
    if value is ABSENT or value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


@dataclass(slots=True)
class Summary:
    """The metrics of the rows so far. Rows are added with `add`; metrics are available at any time."""

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
            self.clusters = Groups(self.design.cluster, singletons=True)

    def add(self, row: Row) -> None:
        """Count one row."""
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
        """One score per sample of a measure, by its primary reducer or the given one, of all samples or of a slice.

        An empty slice has no values and no counts. Raises KeyError for a column that is not a slice.
        """
        result = reduce_tally(self.tallies[target, measure], reducer or self.reducer_of(measure))
        for column, text in (slice or {}).items():
            groups = self.slices[column]
            code = groups.code_of(text)
            parts = result.split(groups.codes)
            result = parts.get(-2 if code is None else code) or SampleScores(array("q"), array("d"), array("b"))
        return result.partition_states(None if self.clusters is None else self.clusters.codes)

    def reducer_of(self, measure: str) -> Reducer:
        """The reducer of metric names without a reducer: the suite's, or the mean for built-in measures."""
        return (
            MEAN_REDUCER
            if any(builtin.name == measure for builtin in ALL_BUILTIN_MEASURES)
            else self.design.primary_reducer
        )

    def estimand(self, measure: Measure, aggregate_name: str, *, reducer: Reducer | None = None) -> Estimand:
        """What a metric estimates; goes into `gate_bounds` with the reduced values."""
        return measure.estimand(aggregate_name, reducer=reducer or self.reducer_of(measure.name), epochs=self.epochs)

    def metrics(self, target: str) -> tuple[Metric, ...]:
        """Every metric of a target over all its samples, in the order of the suite."""
        if target not in self._known:
            self._known[target] = tuple(
                self._metric(target, measure, reduced, (name, reducer, None))
                for measure, reducer, names in self._reduced_measures()
                for reduced in [self.reduced(target, measure.name, reducer=reducer)]
                for name in names
            )
        return self._known[target]

    def sliced(self, target: str) -> tuple[Metric, ...]:
        """The same metrics for each value of each slice column, sorted by text."""
        result: dict[tuple[str, str], list[Metric]] = {
            (column, text): [] for column, groups in self.slices.items() for text in sorted(groups.texts)
        }
        clusters = None if self.clusters is None else self.clusters.codes
        for measure, reducer, names in self._reduced_measures() if result else ():
            per_sample = reduce_tally(self.tallies[target, measure.name], reducer)
            for column, groups in self.slices.items():
                for code, part in per_sample.split(groups.codes).items():
                    reduced, text = part.partition_states(clusters), groups.texts[code]
                    what = [(name, reducer, {column: text}) for name in names]
                    result[column, text].extend(self._metric(target, measure, reduced, each) for each in what)
        return tuple(metric for metrics in result.values() for metric in metrics)

    def all_metrics(self, target: str) -> tuple[Metric, ...]:
        """The metrics over all samples, then those of the slices."""
        return (*self.metrics(target), *self.sliced(target))

    def _reduced_measures(self) -> Iterator[tuple[Measure, Reducer, tuple[str, ...]]]:
        """Each measure with its primary reducer and its aggregates, then with each other reducer and the mean."""
        for measure in self.measures:
            yield measure, self.reducer_of(measure.name), measure.declaration.aggregates
            if measure not in ALL_BUILTIN_MEASURES:
                for reducer in self.design.other_reducers:
                    yield measure, reducer, (MEAN.name,)

    def _metric(
        self, target: str, measure: Measure, reduced: ReducedScores, what: tuple[str, Reducer, Mapping[str, str] | None]
    ) -> Metric:
        name, reducer, where = what
        further = reducer in self.design.other_reducers
        declaration, values = measure.declaration, reduced.values
        estimand = measure.estimand(name, reducer=reducer, epochs=self.epochs)
        if reduced.clusters is None and estimand.aggregate.order_based:
            values = array("d", sorted(values))
        result = metric_interval(estimand, values, clusters=reduced.clusters, seed=self.design.seed)
        value, reducer_name = estimand.value(values), reducer.name
        return Metric(
            name=measure.reducer_name(reducer) if further else measure.metric_name(name),
            scorer=measure.name,
            aggregate=name,
            value=value,
            n=len(values),
            skipped=reduced.skipped,
            unscored=reduced.no_answer + reduced.judge,
            errors=reduced.errors,
            version=declaration.version,
            reducer=reducer_name,
            slice=where,
            low=result.low,
            high=result.high,
            level=result.level if result.method else None,
            method=result.method,
            n_effective=result.n_effective,
            unit=declaration.unit,
            higher_is_better=declaration.higher_is_better,
            trusted=len(values) > 0 and coverage(reduced) >= MIN_COVERAGE,
            detail=_detail(measure, estimand, reduced, result, None if where else self.tallies[target, measure.name]),
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
    measure: Measure, estimand: Estimand, reduced: ReducedScores, result: Interval, tally: Tally | None
) -> Mapping[str, Any] | None:
    declaration = measure.declaration
    detail: dict[str, Any] = {}
    if declaration.backend:
        detail["backend"] = declaration.backend
    if estimand.aggregate.needs_threshold:
        detail["threshold"] = declaration.threshold
    if result.note is not None:
        detail["interval"] = result.note
    if tally is not None and tally.reasons:
        texts = ((cell_message(*reason) or "", count) for reason, count in tally.reasons.items())
        detail["reasons"] = dict(sorted(texts))
    other = other_reading(reduced, estimand, declaration)
    if other is not None:
        detail["other_reading"] = other
    return detail or None


def other_reading(reduced: ReducedScores, estimand: Estimand, declaration: Declaration) -> Mapping[str, Any] | None:
    """The metric with the other setting of `on_no_answer`, if it differs."""
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
    return {"on_no_answer": reading, "value": estimand.value(values), "n": len(values)}
