"""Builds rows of several targets, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalrunner.compare.compare import compare
from evalrunner.compare.result import Candidate, Comparison
from evalrunner.domain import Cell, Completion, Declaration, Row, Sample
from evalrunner.stats.summary import Design, Measure, summarize

RIGHT = Measure("right", Declaration(binary=True))
GRADED = Measure("graded", Declaration())
HARM = Measure("harm", Declaration(binary=True, higher_is_better=False))

Scores = Mapping[str, Mapping[str, Sequence[float | None]]]


def cell(value: float | None) -> Cell:
    return Cell("unscored", reason="not read", cause="judge") if value is None else Cell("scored", value)


def rows_of(scores: Scores, *, metadata: Sequence[Any] = (), latency: Mapping[str, float] | None = None) -> list[Row]:
    """One row for each score of each target; `scores` is by target, then by scorer."""
    result: list[Row] = []
    for target, by_scorer in scores.items():
        for index in range(len(next(iter(by_scorer.values())))):
            about = metadata[index] if metadata else {}
            cells = {name: cell(values[index]) for name, values in by_scorer.items()}
            answer = Completion(f"{target} {index}", latency_s=(latency or {}).get(target), output_tokens=5)
            result.append(Row(Sample(f"s{index}", "q", metadata=about, index=index), target, 1, answer, cells))
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
    **options: Any,
) -> Comparison:
    """The comparison of targets with these rows."""
    summary = summarize(rows, measures, names, design=design or Design())
    known = {name: summary.all_metrics(name) for name in names}
    candidates = [Candidate(name=name, target=name, models=((models or {}).get(name, ""),)) for name in names]
    return compare(summary, candidates, known, **options)
