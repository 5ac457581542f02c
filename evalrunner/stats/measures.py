"""What is measured of every row: scorers by what they declare, and what is there without being listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evalrunner.domain import Cell, Completion, Declaration, Failure
from evalrunner.stats.aggregates import MEAN, MEAN_REDUCER, Estimand, Reducer, find_aggregate


@dataclass(frozen=True, slots=True)
class Measure:
    """Something every row has a value of: a scorer by its name in the suite, or one of the three always there."""

    name: str
    declaration: Declaration

    def metric_name(self, aggregate_name: str) -> str:
        """`exact_match/v1`, `toxicity/v1/p90`, `latency/p50`: MLflow's way of naming."""
        version = f"/{self.declaration.version}" if self.declaration.version else ""
        bare = self.declaration.binary and aggregate_name == MEAN.name
        return f"{self.name}{version}" if bare else f"{self.name}{version}/{aggregate_name}"

    def reducer_name(self, reducer: Reducer) -> str:
        """`exact_match/v1/at_least_3`: the mean over samples of what a further reducer makes of their epochs."""
        version = f"/{self.declaration.version}" if self.declaration.version else ""
        return f"{self.name}{version}/{reducer.name}"

    def estimand(self, aggregate_name: str, *, reducer: Reducer = MEAN_REDUCER, epochs: int = 1) -> Estimand:
        """What an aggregate of the reduced scores estimates, which says what interval it takes."""
        said = self.declaration
        unit = reducer.counts or said.binary  # then in 0..1, whatever the scorer's range
        return Estimand(
            aggregate=find_aggregate(aggregate_name),
            binary=reducer.yields_binary(binary=said.binary, epochs=epochs),
            low=0.0 if unit else said.low,
            high=1.0 if unit else said.high,
            threshold=0.5 if said.threshold is None else said.threshold,
        )


def _always(unit: str, aggregates: tuple[str, ...]) -> Declaration:
    return Declaration(
        high=None, higher_is_better=False, unit=unit, version=None, needs_answer=False, aggregates=aggregates,
        headline=aggregates[0],
    )  # fmt: skip


BUILTIN_MEASURES = (
    Measure("latency", _always("s", ("mean", "p50", "p90", "p99"))),
    Measure("token_count", _always("tokens", ("mean", "total"))),
    Measure("cost_usd", _always("USD", ("mean", "total"))),
)
"""Computed for every run without being listed."""

STREAMING_MEASURES = (
    Measure("ttft", _always("s", ("mean", "p50", "p90", "p99"))),
    Measure("output_rate", replace(_always("tokens/s", ("mean", "p50", "p90", "p99")), higher_is_better=True)),
)
"""Computed besides where answers are streamed."""

ALL_BUILTIN_MEASURES = (*BUILTIN_MEASURES, *STREAMING_MEASURES)
"""All that no suite lists: of the answer itself, reduced by the mean whatever the suite says, and in no baseline."""


def builtin_measures(*, streaming: bool) -> tuple[Measure, ...]:
    """What is computed without being listed."""
    return (*BUILTIN_MEASURES, *STREAMING_MEASURES) if streaming else BUILTIN_MEASURES


_UNKNOWN = Cell("unscored", reason="not reported")
_NOT_CALLED = Cell("skipped", reason="nothing was called")


def builtin_cells(answer: Completion | Failure, *, streaming: bool = False) -> Mapping[str, Cell]:
    """Latency (s), completion tokens and cost (US dollars) of one answer, as cells; if streamed, its pace as well."""
    if isinstance(answer, Failure):
        failed = Cell.of_failure(answer)
        return {measure.name: failed for measure in builtin_measures(streaming=streaming)}
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
