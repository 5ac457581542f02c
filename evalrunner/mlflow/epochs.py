"""Epochs as steps: at step k a metric over the epochs up to k, so that the last step is the metric itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from evalrunner.domain import Row
from evalrunner.mlflow.payload import StoredRun, Values, target_metrics
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.summary import Design, Summary


def earlier_steps(stored: StoredRun) -> dict[str, dict[int, Values]]:
    """By target, the metrics at each step before the last; nothing where there was one epoch."""
    found: dict[str, dict[int, Values]] = {name: {} for name in stored.targets}
    if stored.epochs < 2:
        return found
    design = stored.run.design
    steps = range(design.primary_reducer.k, stored.epochs)  # of fewer epochs the reducer has nothing to say
    summaries = {step: _summary(stored, design, step) for step in steps}
    _count(read_rows(stored.folder), summaries)
    for step, summary in summaries.items():
        for name in stored.targets:
            found[name][step] = target_metrics(summary.metrics(name))
    return found


def _summary(stored: StoredRun, design: Design, epochs: int) -> Summary:
    few = tuple(reducer for reducer in design.reducers if reducer.k <= epochs)
    return Summary(
        stored.run.measures,
        tuple(stored.targets),
        epochs,
        stored.run.streaming,
        replace(design, slices=(), reducers=few),
    )


def _count(rows: Iterable[Row], summaries: Mapping[int, Summary]) -> None:
    for row in rows:
        for step, summary in summaries.items():
            if row.epoch <= step:
                summary.add(row)
