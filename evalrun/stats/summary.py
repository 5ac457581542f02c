"""Rows to metrics in one pass, holding a float and a code per cell: pure, in any order of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evalrun.domain import Cell, Completion, Declaration, Failure, Row
from evalrun.metrics import Metric
from evalrun.stats.aggregates import aggregate
from evalrun.stats.intervals import LEVEL, wilson
from evalrun.stats.tally import Reduced, Tally, reduce_tally

MIN_COVERAGE = 0.95  # share of the samples a scorer applies to that must have been scored


@dataclass(frozen=True, slots=True)
class Measure:
    """Something every row has a value of: a scorer by its name in the suite, or one of the three always there."""

    name: str
    declaration: Declaration

    def metric_name(self, aggregate_name: str) -> str:
        """`exact_match/v1`, `toxicity/v1/p90`, `latency/p50`: MLflow's way of naming."""
        version = f"/{self.declaration.version}" if self.declaration.version else ""
        bare = self.declaration.binary and aggregate_name == "mean"
        return f"{self.name}{version}" if bare else f"{self.name}{version}/{aggregate_name}"


def _always(unit: str, aggregates: tuple[str, ...]) -> Declaration:
    return Declaration(
        high=None, higher_is_better=False, unit=unit, version=None, needs_answer=False, aggregates=aggregates,
        headline=aggregates[0],
    )  # fmt: skip


ALWAYS = (
    Measure("latency", _always("s", ("mean", "p50", "p90", "p99"))),
    Measure("token_count", _always("tokens", ("mean", "total"))),
    Measure("cost_usd", _always("USD", ("mean", "total"))),
)
"""Computed for every run without being listed."""

STREAMED = (
    Measure("ttft", _always("s", ("mean", "p50", "p90", "p99"))),
    Measure("output_rate", replace(_always("tokens/s", ("mean", "p50", "p90", "p99")), higher_is_better=True)),
)
"""Computed besides where answers are streamed."""


def always_measures(*, streaming: bool) -> tuple[Measure, ...]:
    """What is computed without being listed."""
    return (*ALWAYS, *STREAMED) if streaming else ALWAYS


@dataclass(slots=True)
class Summary:
    """What is known of a run's numbers so far. Rows go in by `add`; metrics can be asked for at any time."""

    measures: tuple[Measure, ...]
    targets: tuple[str, ...]
    epochs: int = 1
    streaming: bool = False
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    _known: dict[str, tuple[Metric, ...]] = field(default_factory=dict)  # until the next row

    def __post_init__(self) -> None:
        self.measures = (*self.measures, *always_measures(streaming=self.streaming))
        for target in self.targets:
            for measure in self.measures:
                self.tallies[target, measure.name] = Tally()

    def add(self, row: Row) -> None:
        """Count one row in."""
        self._known.clear()
        index = row.sample.index
        for name, cell in row.cells.items():
            self.tallies[row.target, name].add(index, cell)
        for name, cell in always_cells(row.answer, streaming=self.streaming).items():
            self.tallies[row.target, name].add(index, cell)

    def reduced(self, target: str, measure: str) -> Reduced:
        """One score per sample of a measure."""
        return reduce_tally(self.tallies[target, measure], epochs=self.epochs)

    def metrics(self, target: str) -> tuple[Metric, ...]:
        """Every metric of a target, in the order of the suite."""
        if target in self._known:
            return self._known[target]
        found: list[Metric] = []
        for measure in self.measures:
            tally = self.tallies[target, measure.name]
            reduced = self.reduced(target, measure.name)
            for name in measure.declaration.aggregates:
                found.append(_metric(measure, name, reduced, tally, epochs=self.epochs))
        self._known[target] = tuple(found)
        return self._known[target]


def summarize(
    rows: Iterable[Row],
    measures: Sequence[Measure],
    targets: Sequence[str],
    *,
    epochs: int = 1,
    streaming: bool = False,
) -> Summary:
    """The summary of `rows`: one pass, in any order."""
    summary = Summary(tuple(measures), tuple(targets), epochs, streaming)
    for row in rows:
        summary.add(row)
    return summary


_UNKNOWN = Cell("unscored", reason="not reported")
_NOT_CALLED = Cell("skipped", reason="nothing was called")


def always_cells(answer: Completion | Failure, *, streaming: bool = False) -> Mapping[str, Cell]:
    """Latency (s), completion tokens and cost (US dollars) of one answer, as cells; if streamed, its pace as well."""
    if isinstance(answer, Failure):
        failed = Cell("error", reason=str(answer))
        return {measure.name: failed for measure in always_measures(streaming=streaming)}
    called = answer.latency_s is not None or answer.cached
    absent = _UNKNOWN if called else _NOT_CALLED
    latency = Cell("scored", answer.latency_s) if answer.latency_s is not None else _NOT_CALLED
    tokens = Cell("scored", float(answer.output_tokens)) if answer.output_tokens is not None else absent
    cost = Cell("scored", answer.cost_usd) if answer.cost_usd is not None else absent
    cells = {"latency": latency, "token_count": tokens, "cost_usd": cost}
    if not streaming:
        return cells
    first = Cell("scored", answer.ttft_s) if answer.ttft_s is not None else absent
    return {**cells, "ttft": first, "output_rate": _rate_cell(answer, absent)}


def _rate_cell(answer: Completion, absent: Cell) -> Cell:
    if answer.ttft_s is None or answer.output_tokens is None:
        return absent
    rate = output_rate(answer)
    return Cell("skipped", reason="nothing came after the first token") if rate is None else Cell("scored", rate)


def output_rate(answer: Completion) -> float | None:
    """Completion tokens a second from the first one on, or None where it is not known or there was but one."""
    if answer.ttft_s is None or answer.latency_s is None or answer.output_tokens is None or answer.output_tokens < 2:
        return None
    seconds = answer.latency_s - answer.ttft_s
    return answer.output_tokens / seconds if seconds > 0 else None


def coverage(reduced: Reduced) -> float:
    """Share of the samples a scorer applies to that were scored; 0 where it applies to none."""
    return len(reduced.values) / reduced.applicable if reduced.applicable else 0.0


def _metric(measure: Measure, name: str, reduced: Reduced, tally: Tally, *, epochs: int) -> Metric:
    declaration = measure.declaration
    values = reduced.values
    value = aggregate(name, values, threshold=declaration.threshold)
    low = high = None
    if value is not None and (name == "ratio" or (name == "mean" and declaration.binary and epochs == 1)):
        low, high = wilson(round(value * len(values)), len(values))
    interval = low is not None
    return Metric(
        name=measure.metric_name(name),
        scorer=measure.name,
        aggregate=name,
        value=value,
        n=len(values),
        skipped=reduced.skipped,
        unscored=reduced.no_answer + reduced.judge,
        errors=reduced.errors,
        version=declaration.version,
        low=low,
        high=high,
        level=LEVEL if interval else None,
        method="wilson" if interval else None,
        n_effective=float(len(values)) if interval else None,
        unit=declaration.unit,
        higher_is_better=declaration.higher_is_better,
        trusted=len(values) > 0 and coverage(reduced) >= MIN_COVERAGE,
        detail=_detail(measure, name, reduced, tally),
    )


def _detail(measure: Measure, name: str, reduced: Reduced, tally: Tally) -> Mapping[str, Any] | None:
    declaration = measure.declaration
    detail: dict[str, Any] = {}
    if declaration.backend:
        detail["backend"] = declaration.backend
    if name == "ratio":
        detail["threshold"] = declaration.threshold
    if tally.reasons:
        detail["reasons"] = dict(sorted(tally.reasons.items()))
    other = other_reading(reduced, name, declaration)
    if other is not None:
        detail["other_reading"] = other
    return detail or None


def other_reading(reduced: Reduced, name: str, declaration: Declaration) -> Mapping[str, Any] | None:
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
