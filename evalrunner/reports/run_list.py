"""The list of stored runs on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from evalrunner.errors import RunNotFoundError
from evalrunner.formatting import DASH, duration, interval, number, one_line, styled
from evalrunner.reports.metric_tables import screen_names
from evalrunner.reports.terminal import word_style
from evalrunner.reports.text_table import Column, TextTable
from evalrunner.reports.view import run_word
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.notes import RunNotes
from evalrunner.runs.record import MetricsRecord, RunRecord

EMPTY_IF_UNREADABLE: Final = ("headline metric", "95% CI", "rows", "time", "exit")


def runs_table(runs: Sequence[RunFolder]) -> TextTable:
    """A line for each run: suite, verdict, headline metric; where there is room its interval, rows, time, exit code and tags."""
    heads = ("suite", "verdict", "headline metric", "95% CI", "rows", "time", "exit", "tags")
    columns = {head: Column(head, right=head in ("rows", "time", "exit")) for head in heads}
    for folder in runs:
        for head, cell in _cells(folder).items():
            columns[head].cells.append(cell)
    ids = Column("run", [folder.id for folder in runs])
    return TextTable(ids, [columns[head] for head in heads[:3]], optional=[columns[head] for head in heads[3:]])


def _cells(folder: RunFolder) -> dict[str, Any]:
    suite, tags = one_line(folder.suite, 40), one_line(_tags(folder), 60)
    try:
        run = RunRecord.load(folder.path)
        metrics = run.load_metrics(folder.path)
    except RunNotFoundError:
        unread = styled("unreadable", "red")
        return {"suite": suite, "verdict": unread, "tags": tags} | dict.fromkeys(EMPTY_IF_UNREADABLE, "")
    word = run_word(run.verdict, run.exit_code, gated=metrics is not None and bool(metrics.gates))
    headline, ends = _headline_metric(run, metrics)
    return {
        "suite": suite,
        "verdict": styled(word, word_style(word, run.verdict)),
        "headline metric": headline,
        "tags": tags,
        "95% CI": ends,
        "rows": f"{DASH if run.rows is None else run.rows}/{run.rows_planned}",
        "time": DASH if run.duration_s is None else duration(run.duration_s),
        "exit": DASH if run.exit_code is None else str(run.exit_code),
    }


def _tags(folder: RunFolder) -> str:
    """The tags of a run, separated by commas; empty if it has none or they cannot be read."""
    try:
        return ", ".join(RunNotes.load(folder.path).tags)
    except RunNotFoundError:
        return ""


def _headline_metric(run: RunRecord, metrics: MetricsRecord | None) -> tuple[str, str]:
    """The metric of the headline scorer, and its interval; of several targets that of the best one."""
    if metrics is None:
        return DASH, ""
    scorer = run.headline_scorer
    found = {name: target.headline(scorer, run.scorers[scorer]) for name, target in metrics.targets.items()}
    known = [(name, metric) for name, metric in found.items() if metric is not None and metric.value is not None]
    if not known:
        return DASH, ""
    sign = 1 if run.scorers[scorer].higher_is_better else -1
    _, metric = max(known, key=lambda item: sign * (item[1].value or 0.0))
    text = f"{one_line(screen_names([metric.name])[metric.name], 30)} {number(metric.value)}"
    ends = interval(metric.low, metric.high) if metric.low is not None else ""
    return text + (f" (best of {len(found)})" if len(found) > 1 else ""), ends
