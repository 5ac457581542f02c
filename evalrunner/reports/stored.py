"""Stored runs as they are shown again: read back from the run folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evalrunner.domain import Row
from evalrunner.engine.result import TargetResult
from evalrunner.errors import RunNotFoundError
from evalrunner.formatting import DASH, duration, interval, number, one_line, plain_table, styled
from evalrunner.middleware.usage import Usage
from evalrunner.reports.comparison import render_comparison
from evalrunner.reports.terminal import (
    DONE,
    STYLES,
    gates_table,
    interval_notes,
    metrics_table,
    rows_table,
    run_word,
    slice_tables,
    usage_line,
)
from evalrunner.reports.worst_rows import WorstRows, failed
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import MetricsRecord, RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.measures import Measure
from evalrunner.stats.summary import summarize

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

AT_ONCE = 200  # rows of one table, so that a long list is shown while it is read


def render_run(folder: RunFolder, *, failed_only: bool = False) -> Iterator[RenderableType]:
    """A run as it was shown at its end; with `failed_only`, every row that needs a look instead of the worst."""
    run = RunRecord.load(folder.path)
    measures, names = run.measures, list(run.targets)
    metrics = run.load_metrics(folder.path)
    yield _headline(folder, run, metrics)
    if metrics is not None and metrics.gates:
        yield gates_table(metrics.gates)
    for name, target in stored_targets(folder, run, metrics).items():
        yield metrics_table(name, target)
        yield from interval_notes(target)
        yield from slice_tables(name, target)
        yield styled(one_line(usage_line(target), 300), "dim")
    if metrics is not None and metrics.comparison is not None:
        yield from render_comparison(metrics.comparison)
    if failed_only:
        yield from _failed_tables(folder, names, measures)
    else:
        worst = WorstRows(measures)
        for row in read_rows(folder.path):
            worst.add(row)
        for name in names:
            if worst.of(name):
                yield rows_table(f"worst rows of {one_line(name, 60)}", worst.of(name))
    yield styled(f"files: {folder.path}/")


def _styled_word(run: RunRecord, metrics: MetricsRecord | None) -> Any:
    word = run_word(run.verdict, run.exit_code, gated=metrics is not None and bool(metrics.gates))
    return styled(word, "bold" if word == DONE else STYLES.get(str(run.verdict), "bold yellow"))


def _headline(folder: RunFolder, run: RunRecord, metrics: MetricsRecord | None) -> Any:
    line = _styled_word(run, metrics)
    line.append(" ")
    line.append(f"{one_line(folder.suite, 60)} {folder.id}", style="bold")
    if run.verdict:
        line.append(f": {run.rows or 0:,} of {run.rows_planned:,} rows in {duration(run.duration_s or 0.0)}")
        line.append(f", exit code {run.exit_code}")
    else:
        line.append(": the run did not finish; the numbers are of the rows that are on disk")
    if run.stopped:
        line.append(f"\nstopped early: {one_line(run.stopped, 600)}", style="bold magenta")
    return line


def stored_targets(folder: RunFolder, run: RunRecord, metrics: MetricsRecord | None) -> dict[str, TargetResult]:
    """The targets of a stored run; counted again from its rows where the run did not finish."""
    if metrics is None:
        names = list(run.targets)
        summary = summarize(
            read_rows(folder.path), run.measures, names, epochs=run.epochs, streaming=run.streaming, design=run.design
        )
        return {name: TargetResult(summary.all_metrics(name), Usage(), 0, 0) for name in names}
    return {name: TargetResult(target.metrics, target.usage.usage, 0, 0) for name, target in metrics.targets.items()}


def _failed_tables(folder: RunFolder, names: Sequence[str], measures: Sequence[Measure]) -> Iterator[Any]:
    """The rows that need a look, in the order of the dataset, a table of each target."""
    found: dict[str, list[Row]] = {name: [] for name in names}
    for row in read_rows(folder.path):
        if failed(row, measures):
            found[row.target].append(row)
    for name, rows in found.items():
        ordered = sorted(rows, key=lambda row: (row.sample.index, row.epoch))
        if not ordered:
            yield styled(f"{one_line(name, 60)}: no row needs a look")
        for start in range(0, len(ordered), AT_ONCE):
            yield rows_table(f"{one_line(name, 60)}: {len(ordered)} rows need a look", ordered[start : start + AT_ONCE])


def runs_table(runs: Sequence[RunFolder]) -> Table:
    """A line for each run: suite, id, when, verdict, rows, and its headline metric."""
    table = plain_table("", ("run", "suite", "verdict", "exit", "rows", "headline metric", "time"))
    for folder in runs:
        try:
            run = RunRecord.load(folder.path)
            metrics = run.load_metrics(folder.path)
        except RunNotFoundError:
            table.add_row(styled(folder.id), styled(one_line(folder.suite, 40)), styled("unreadable", "red"))
            continue
        table.add_row(
            styled(folder.id),
            styled(one_line(folder.suite, 40)),
            _styled_word(run, metrics),
            styled(DASH if run.exit_code is None else str(run.exit_code)),
            styled(f"{DASH if run.rows is None else run.rows}/{run.rows_planned}"),
            styled(_headline_metrics(run, metrics)),
            styled(DASH if run.duration_s is None else duration(run.duration_s)),
        )
    return table


def _headline_metrics(run: RunRecord, metrics: MetricsRecord | None) -> str:
    """The first scorer's headline metric with its interval; of several targets a line for each of the first three."""
    if metrics is None:
        return DASH
    scorer, declared = next(iter(run.scorers.items()))
    lines: list[str] = []
    for name, target in metrics.targets.items():
        metric = target.headline(scorer, declared)
        if metric is not None:
            ends = f" {interval(metric.low, metric.high)}" if metric.low is not None else ""
            label = one_line(name if len(metrics.targets) > 1 else metric.name, 30)
            lines.append(f"{label} {number(metric.value)}{ends}")
    return "\n".join([*lines[:3], *([f"and {len(lines) - 3} more"] if len(lines) > 3 else [])])
