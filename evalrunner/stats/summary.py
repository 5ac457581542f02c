"""Rows to metrics in one pass: measures, tallies that hold a float and a code per cell, and groups of samples.

Pure, and the same for any order of the rows.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from evalrunner.domain import Cell, Completion, Declaration, Failure, Metric, Row, Sample, cell_message
from evalrunner.prompts import ABSENT, find_value
from evalrunner.spelling import Spelled, exact_json
from evalrunner.stats.aggregates import MEAN, MEAN_REDUCER, Estimand, Reducer, find_aggregate, metric_interval
from evalrunner.stats.corrected import (
    JUDGE_STATISTICS,
    JudgedTarget,
    LabelSource,
    has_statistics,
    judge_metrics,
    judged_target,
    labeled_verdicts,
)
from evalrunner.stats.intervals import Interval
from evalrunner.stats.tally import (
    ERROR,
    JUDGE,
    NO_ANSWER,
    SCORED,
    SKIPPED,
    ZEROED,
    FillRange,
    ReducedScores,
    SampleScores,
    Tally,
    fill_range,
    reduce_tally,
)

_NOT_REPORTED = Cell("unscored", reason="not reported")
_NOT_CALLED = Cell("skipped", reason="nothing was called")

MIN_COVERAGE: Final = 0.95  # share of the answers a scorer applies to that must have been scored
ALL_BINARY: Final = "all scores are 0 or 1, so they are treated as pass or fail"

UNKNOWN_GROUP: Final = -1  # the group of a sample that was not added yet


@dataclass(frozen=True, slots=True)
class Measure:
    """Something with a value per row: a scorer by its name in the suite, a part of one, or a built-in measure.

    `part_of` names the scorer of a part. `labeled`: people's labels of its scores are known.
    """

    name: str
    declaration: Declaration
    part_of: str | None = None
    labeled: bool = False

    @property
    def versioned_name(self) -> str:
        """`exact_match/v1`; the name alone where there is no version."""
        return f"{self.name}/{self.declaration.version}" if self.declaration.version else self.name

    def as_binary(self) -> Measure:
        """The measure with scores that are all 0 or 1."""
        return replace(self, declaration=replace(self.declaration, binary=True))

    def metric_name(self, aggregate_name: str) -> str:
        """`exact_match/v1`, `toxicity/v1/p90`, `latency/p50`: names as in MLflow; `factuality.corrected` of labels."""
        if aggregate_name in JUDGE_STATISTICS:
            return f"{self.name}.{aggregate_name}"
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
    if isinstance(value, str | Spelled):
        return str(value)
    return exact_json(value, ensure_ascii=False, sort_keys=True, default=str)


@dataclass(slots=True)
class Population:
    """The samples of a dataset, asked or not: the group of each by its position, and their number if it is known."""

    clusters: Groups | None
    slices: dict[str, Groups]
    count: int | None = None

    @classmethod
    def of(cls, design: Design) -> Population:
        """Without samples."""
        clusters = None if design.cluster is None else Groups(design.cluster, singletons=True)
        return cls(clusters, {column: Groups(column) for column in design.slices})

    def add(self, sample: Sample) -> None:
        """Add the groups of one sample; adding it again changes nothing."""
        for groups in self.slices.values():
            groups.add(sample)
        if self.clusters is not None:
            self.clusters.add(sample)


@dataclass(slots=True)
class _Positions:
    """The tallies of a target, and what they share: the position of each row in the dataset, and its epoch."""

    samples: array[int]
    epochs: array[int] | None
    tallies: dict[str, Tally] = field(default_factory=dict)
    _shared: bool = True

    def add(self, sample: int, epoch: int, cells: Mapping[str, Cell]) -> None:
        """Count the cells of one row."""
        if self._shared and len(cells) == len(self.tallies):
            self.samples.append(sample)
            if self.epochs is not None:
                self.epochs.append(epoch)
            for name, cell in cells.items():
                self.tallies[name].count(cell)
            return
        if self._shared:  # a row without the cell of a scorer, which none has that evalrun has written
            self._shared = False
            for tally in self.tallies.values():
                tally.samples, tally.epochs = tally.samples[:], None if tally.epochs is None else tally.epochs[:]
        for name, cell in cells.items():
            self.tallies[name].add(sample, cell, epoch=epoch)


@dataclass(slots=True)
class Summary:
    """The metrics of the rows so far. Rows are added with `add`; metrics are available at any time.

    `population` are the samples of the dataset, so that those without a row count as missing; without it only the
    samples of rows are known. `ids` are the samples' by their position, with several epochs only. `labels` are those of
    people, which are matched to the rows.
    """

    measures: tuple[Measure, ...]
    targets: tuple[str, ...]
    epochs: int = 1
    streaming: bool = False
    design: Design = Design()
    population: Population | None = None
    decided: bool = False
    labels: LabelSource | None = None
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    clusters: Groups | None = None
    slices: dict[str, Groups] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    _positions: dict[str, _Positions] = field(default_factory=dict)
    _known: dict[str, tuple[Metric, ...]] = field(default_factory=dict)  # until the next row
    _binary: dict[str, bool] = field(default_factory=dict)  # until the next row

    def __post_init__(self) -> None:
        self.measures = (*self.measures, *builtin_measures(streaming=self.streaming))
        for target in self.targets:
            positions = _Positions(array("I"), array("i") if self.epochs > 1 else None)
            self._positions[target] = positions
            for measure in self.measures:
                tally = Tally(samples=positions.samples, epochs=positions.epochs)
                self.tallies[target, measure.name] = positions.tallies[measure.name] = tally
        population = self.population or Population.of(self.design)
        self.slices, self.clusters = population.slices, population.clusters

    def add(self, row: Row) -> None:
        """Count one row."""
        self._known.clear()
        self._binary.clear()
        index = row.sample.index
        cells = {**row.cells, **builtin_cells(row.answer, streaming=self.streaming)}
        self._positions[row.target].add(index, row.epoch, cells)
        for groups in self.slices.values():
            groups.add(row.sample)
        if self.clusters is not None:
            self.clusters.add(row.sample)
        if self.epochs > 1:
            self.ids[index] = row.sample.id
        if self.labels is not None:
            self.labels.see(row)

    def judged(self, target: str, measure: Measure) -> JudgedTarget | None:
        """The rows of a target with people's labels; None for a measure without labels, or without bounds."""
        labels = None if self.labels is None else self.labels.labels_of(target, measure.name)
        if self.labels is None or labels is None or not has_statistics(measure.declaration):
            return None
        clusters = None if self.clusters is None else self.clusters.codes
        recorded = list(self.labels.recorded(measure.name))
        for other in self.targets:
            if other != target:
                recorded += labeled_verdicts(
                    self.tallies[other, measure.name], self.labels.labels_of(other, measure.name) or {}
                )
        return judged_target(self.tallies[target, measure.name], measure.declaration, labels, recorded, clusters)

    def _judge_metrics(self, target: str) -> tuple[Metric, ...]:
        """What people's labels say of the judges of a target."""
        return tuple(
            metric
            for measure in self.measures
            if (judged := self.judged(target, measure)) is not None
            for metric in judge_metrics(measure.name, measure.declaration, judged)
        )

    @property
    def quality_measures(self) -> tuple[Measure, ...]:
        """The measures of the suite's scorers."""
        return tuple(measure for measure in self.measures if measure not in ALL_BUILTIN_MEASURES)

    def sample_scores(self, target: str, measure: Measure, *, reducer: Reducer | None = None) -> SampleScores:
        """The score of every sample of a target that has a row, with its worst and best ends."""
        chosen = reducer or self.reducer_of(measure.name)
        tally = self.tallies[target, measure.name]
        return reduce_tally(tally, chosen, self.fill_range(measure, chosen), epochs=self.epochs)

    def fill_range(self, measure: Measure, reducer: Reducer) -> FillRange:
        """What a missing score of a measure could be."""
        return fill_range((measure.as_binary() if self.observed_binary(measure) else measure).declaration, reducer)

    def observed_binary(self, measure: Measure) -> bool:
        """Whether the scores of a measure that may be graded are all 0 or 1, for every target."""
        declaration = measure.declaration
        if declaration.binary or not declaration.infer_binary:
            return False
        if measure.name not in self._binary:
            tallies = [self.tallies[target, measure.name] for target in self.targets]
            scored = [tally for tally in tallies if any(code <= ZEROED for code in tally.codes)]
            self._binary[measure.name] = bool(scored) and all(tally.is_binary for tally in scored)
        return self._binary[measure.name]

    def reduced(
        self, target: str, measure: str, *, reducer: Reducer | None = None, slice: Mapping[str, str] | None = None
    ) -> ReducedScores:
        """One score per sample of a measure, by its primary reducer or the given one, of all samples or of a slice.

        An empty slice has no values and no counts. Raises KeyError for a column that is not a slice.
        """
        scores = self.sample_scores(target, self.measure(measure), reducer=reducer)
        for column, text in (slice or {}).items():
            groups = self.slices[column]
            code = groups.code_of(text)
            scores = scores.split(groups.codes).get(-2 if code is None else code) or SampleScores.empty()
        return scores.partition_states(None if self.clusters is None else self.clusters.codes)

    def measure(self, name: str) -> Measure:
        """The measure with this name. Raises KeyError."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(name)

    def samples_in(self, slice: Mapping[str, str] | None = None) -> int:
        """How many samples the dataset has, or a slice of it: those that are known, asked or not."""
        if slice is None:
            count = None if self.population is None else self.population.count
            if count is not None:
                return count
            first = self.measures[-1].name
            return len({sample for target in self.targets for sample in self.tallies[target, first].samples})
        ((column, text),) = slice.items()
        code = self.slices[column].code_of(text)
        return 0 if code is None else self.slices[column].codes.count(code)

    def reducer_of(self, measure: str) -> Reducer:
        """The reducer of metric names without a reducer: the suite's, or the mean for built-in measures."""
        return (
            MEAN_REDUCER
            if any(builtin.name == measure for builtin in ALL_BUILTIN_MEASURES)
            else self.design.primary_reducer
        )

    def estimand(self, measure: Measure, aggregate_name: str, *, reducer: Reducer | None = None) -> Estimand:
        """What a metric estimates; goes into `gate_bounds` with the reduced values."""
        if self.observed_binary(measure):
            measure = measure.as_binary()
        return measure.estimand(aggregate_name, reducer=reducer or self.reducer_of(measure.name), epochs=self.epochs)

    def metrics(self, target: str) -> tuple[Metric, ...]:
        """Every metric of a target over all its samples, in the order of the suite."""
        if target not in self._known:
            clusters = None if self.clusters is None else self.clusters.codes
            samples = 0 if self.decided else self.samples_in()
            self._known[target] = tuple(
                self._metric(target, measure, group, (name, reducer, None))
                for measure, reducer, names in self._reduced_measures()
                for scores in [self.sample_scores(target, measure, reducer=reducer)]
                for group in [
                    _Group(
                        scores.partition_states(clusters),
                        self.tallies[target, measure.name].count_codes()[0],
                        samples * self.epochs,
                    )
                ]
                for name in names
            )
        return self._known[target]

    def sliced(self, target: str) -> tuple[Metric, ...]:
        """The same metrics for each value of each slice column, sorted by text."""
        result: dict[tuple[str, str], list[Metric]] = {
            (column, text): [] for column, groups in self.slices.items() for text in sorted(groups.texts)
        }
        sizes = {column: Counter(groups.codes) for column, groups in self.slices.items()}
        clusters = None if self.clusters is None else self.clusters.codes
        for measure, reducer, names in self._reduced_measures() if result else ():
            per_sample = self.sample_scores(target, measure, reducer=reducer)
            for column, groups in self.slices.items():
                counts = self.tallies[target, measure.name].count_codes(groups.codes)
                for code, part in per_sample.split(groups.codes).items():
                    planned = 0 if self.decided else sizes[column][code] * self.epochs
                    group, text = _Group(part.partition_states(clusters), counts[code], planned), groups.texts[code]
                    what = [(name, reducer, {column: text}) for name in names]
                    result[column, text].extend(self._metric(target, measure, group, each) for each in what)
        return tuple(metric for metrics in result.values() for metric in metrics)

    def all_metrics(self, target: str) -> tuple[Metric, ...]:
        """The metrics over all samples with those of labels, then those of the slices."""
        return (*self.metrics(target), *self._judge_metrics(target), *self.sliced(target), *self._judged_slices(target))

    def _judged_slices(self, target: str) -> Iterator[Metric]:
        """The corrected metric of each slice."""
        for measure in self.measures if self.slices else ():
            if (judged := self.judged(target, measure)) is None:
                continue
            for column, groups in self.slices.items():
                for code, text in sorted(enumerate(groups.texts), key=lambda each: each[1]):
                    part = judged.in_group(groups.codes, code)
                    yield next(judge_metrics(measure.name, measure.declaration, part, where={column: text}))

    def _reduced_measures(self) -> Iterator[tuple[Measure, Reducer, tuple[str, ...]]]:
        """Each measure with its primary reducer and its aggregates, then with each other reducer and the mean."""
        for measure in self.measures:
            yield measure, self.reducer_of(measure.name), measure.declaration.aggregates
            if measure not in ALL_BUILTIN_MEASURES:
                for reducer in self.design.other_reducers:
                    yield measure, reducer, (MEAN.name,)

    def _metric(
        self, target: str, measure: Measure, group: _Group, what: tuple[str, Reducer, Mapping[str, str] | None]
    ) -> Metric:
        name, reducer, where = what
        reduced, declaration = group.reduced, measure.declaration
        values = reduced.values
        estimand = self.estimand(measure, name, reducer=reducer)
        if reduced.clusters is None and estimand.aggregate.order_based:
            values = array("d", sorted(values))
        result = self.interval(estimand, values, reduced)
        detail = _detail(measure, estimand, reduced, result, None if where else self.tallies[target, measure.name])
        if where is None and measure.part_of is None and self.observed_binary(measure):
            detail = {**(detail or {}), "scores": ALL_BINARY}
        return Metric(
            name=measure.reducer_name(reducer) if reducer in self.design.other_reducers else measure.metric_name(name),
            scorer=measure.name,
            aggregate=name,
            value=estimand.value(values),
            n=len(values),
            scored=group.scored,
            skipped=group.codes[SKIPPED],
            unscored=group.codes[NO_ANSWER] + group.codes[JUDGE],
            errors=group.codes[ERROR],
            version=declaration.version,
            reducer=reducer.name,
            slice=where,
            low=result.low,
            high=result.high,
            level=result.level if result.method else None,
            method=result.method,
            n_effective=result.n_effective,
            unit=declaration.unit,
            higher_is_better=declaration.higher_is_better,
            trusted=len(values) > 0 and group.coverage >= MIN_COVERAGE,
            detail=detail,
        )

    def interval(self, estimand: Estimand, values: Sequence[float], reduced: ReducedScores) -> Interval:
        """The 95% interval of a metric with these values; it holds at any time if the run ended when its gates were decided."""
        if not self.decided:
            return metric_interval(estimand, values, clusters=reduced.clusters)
        from evalrunner.stats.sequential import anytime_interval

        return anytime_interval(estimand, reduced.values, reduced.samples, reduced.clusters)


@dataclass(frozen=True, slots=True)
class _Group:
    """The samples behind a metric: their scores, how many answers have each code, and how many answers were planned."""

    reduced: ReducedScores
    codes: Counter[int]
    planned: int

    @property
    def scored(self) -> int:
        return self.codes[SCORED] + self.codes[ZEROED]

    @property
    def coverage(self) -> float:
        """Share of the answers that the scorer applies to that have a score."""
        applicable = max(self.planned, self.codes.total()) - self.codes[SKIPPED]
        return self.scored / applicable if applicable else 0.0


def summarize(
    rows: Iterable[Row],
    measures: Sequence[Measure],
    targets: Sequence[str],
    *,
    epochs: int = 1,
    streaming: bool = False,
    design: Design | None = None,
    samples: int | None = None,
    labels: LabelSource | None = None,
) -> Summary:
    """The summary of `rows`: one pass, in any order. `samples` is how many the dataset has, if it is known."""
    design = design or Design()
    population = replace(Population.of(design), count=samples)
    summary = Summary(tuple(measures), tuple(targets), epochs, streaming, design, population, labels=labels)
    for row in rows:
        summary.add(row)
    return summary


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
