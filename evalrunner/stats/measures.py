"""Measures of every row: scorers, and the built-in latency, tokens and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evalrunner.domain import Cell, Completion, Declaration, Failure
from evalrunner.stats.aggregates import MEAN, MEAN_REDUCER, Estimand, Reducer, find_aggregate


@dataclass(frozen=True, slots=True)
class Measure:
    """Something with a value per row: a scorer by its name in the suite, or a built-in measure."""

    name: str
    declaration: Declaration

    def metric_name(self, aggregate_name: str) -> str:
        """`exact_match/v1`, `toxicity/v1/p90`, `latency/p50`: names as in MLflow."""
        version = f"/{self.declaration.version}" if self.declaration.version else ""
        bare = self.declaration.binary and aggregate_name == MEAN.name
        return f"{self.name}{version}" if bare else f"{self.name}{version}/{aggregate_name}"

    def reducer_name(self, reducer: Reducer) -> str:
        """`exact_match/v1/at_least_3`: the mean over samples of the scores of an additional reducer."""
        version = f"/{self.declaration.version}" if self.declaration.version else ""
        return f"{self.name}{version}/{reducer.name}"

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


_NOT_REPORTED = Cell("unscored", reason="not reported")
_NOT_CALLED = Cell("skipped", reason="nothing was called")


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
