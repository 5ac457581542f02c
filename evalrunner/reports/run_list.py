"""The list of stored runs on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalrunner.errors import RunNotFoundError
from evalrunner.formatting import DASH, duration, interval, number, one_line, plain_table, styled
from evalrunner.reports.terminal import word_style
from evalrunner.reports.view import run_word
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.notes import RunNotes
from evalrunner.runs.record import MetricsRecord, RunRecord

if TYPE_CHECKING:
    from rich.table import Table


def runs_table(runs: Sequence[RunFolder]) -> Table:
    """A line for each run: suite, id, when, verdict, rows, its headline metric, and its tags if any run has some."""
    tags = [_tags(folder) for folder in runs]
    columns = ("run", "suite", "verdict", "exit", "rows", "headline metric", "time")
    table = plain_table("", (*columns, "tags") if any(tags) else columns)
    for folder, names in zip(runs, tags, strict=True):
        try:
            run = RunRecord.load(folder.path)
            metrics = run.load_metrics(folder.path)
        except RunNotFoundError:
            table.add_row(styled(folder.id), styled(one_line(folder.suite, 40)), styled("unreadable", "red"))
            continue
        word = run_word(run.verdict, run.exit_code, gated=metrics is not None and bool(metrics.gates))
        cells = [
            styled(folder.id),
            styled(one_line(folder.suite, 40)),
            styled(word, word_style(word, run.verdict)),
            styled(DASH if run.exit_code is None else str(run.exit_code)),
            styled(f"{DASH if run.rows is None else run.rows}/{run.rows_planned}"),
            styled(_headline_metrics(run, metrics)),
            styled(DASH if run.duration_s is None else duration(run.duration_s)),
        ]
        table.add_row(*cells, *([styled(one_line(names, 60))] if any(tags) else []))
    return table


def _tags(folder: RunFolder) -> str:
    """The tags of a run, separated by commas; empty if it has none or they cannot be read."""
    try:
        return ", ".join(RunNotes.load(folder.path).tags)
    except RunNotFoundError:
        return ""


def _headline_metrics(run: RunRecord, metrics: MetricsRecord | None) -> str:
    """The metric of the headline scorer with its interval; of several targets a line for each of the first three."""
    if metrics is None:
        return DASH
    scorer = run.headline_scorer
    declared = run.scorers[scorer]
    lines: list[str] = []
    for name, target in metrics.targets.items():
        metric = target.headline(scorer, declared)
        if metric is not None:
            ends = f" ({interval(metric.low, metric.high)})" if metric.low is not None else ""
            label = one_line(name if len(metrics.targets) > 1 else metric.name, 30)
            lines.append(f"{label} {number(metric.value)}{ends}")
    return "\n".join([*lines[:3], *([f"and {len(lines) - 3} more"] if len(lines) > 3 else [])])
