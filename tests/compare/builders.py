"""Builds rows of several targets, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalrunner.compare.compare import compare
from evalrunner.compare.result import Candidate, Comparison
from evalrunner.domain import Cell, Completion, Declaration, Failure, Row, Sample
from evalrunner.stats.summary import Design, Measure, summarize

RIGHT = Measure("right", Declaration(binary=True))
GRADED = Measure("graded", Declaration())
HARM = Measure("harm", Declaration(binary=True, higher_is_better=False))

NO_ANSWER = Cell("unscored", reason="refused", cause="no_answer")
SKIPPED = Cell("skipped", reason="the scorer returned None")
FAILURE = Failure("timeout", "no reply")
FAILED = Cell.of_failure(FAILURE)

Scores = Mapping[str, Mapping[str, Sequence[float | Cell | None]]]


def cell(value: float | Cell | None) -> Cell:
    """A cell as it is; a number as a score; None as a verdict that could not be read."""
    if isinstance(value, Cell):
        return value
    return Cell("unscored", reason="not read", cause="judge") if value is None else Cell("scored", value)


def rows_of(
    scores: Scores, *, metadata: Sequence[Any] = (), latency: Mapping[str, float] | None = None, epoch: int = 1
) -> list[Row]:
    """One row for each score of each target; `scores` is by target, then by scorer."""
    result: list[Row] = []
    for target, by_scorer in scores.items():
        for index in range(len(next(iter(by_scorer.values())))):
            about = metadata[index] if metadata else {}
            cells = {name: cell(values[index]) for name, values in by_scorer.items()}
            completion = Completion(f"{target} {index}", latency_s=(latency or {}).get(target), output_tokens=5)
            answer = FAILURE if FAILED in cells.values() else completion
            result.append(Row(Sample(f"s{index}", "q", metadata=about, index=index), target, epoch, answer, cells))
    return result


def compared(
    scores: Scores,
    measures: Sequence[Measure],
    *,
    metadata: Sequence[Any] = (),
    design: Design | None = None,
    models: Mapping[str, str] | None = None,
    latency: Mapping[str, float] | None = None,
    **options: Any,
) -> Comparison:
    """The comparison of targets with these scores."""
    rows = rows_of(scores, metadata=metadata, latency=latency)
    return compared_rows(rows, list(scores), measures, design=design, models=models, **options)


def compared_rows(
    rows: Sequence[Row],
    names: Sequence[str],
    measures: Sequence[Measure],
    *,
    design: Design | None = None,
    models: Mapping[str, str] | None = None,
    epochs: int = 1,
    **options: Any,
) -> Comparison:
    """The comparison of targets with these rows."""
    summary = summarize(rows, measures, names, design=design or Design(), epochs=epochs)
    known = {name: summary.all_metrics(name) for name in names}
    candidates = [Candidate(name=name, target=name, models=((models or {}).get(name, ""),)) for name in names]
    return compare(summary, candidates, known, **options)
