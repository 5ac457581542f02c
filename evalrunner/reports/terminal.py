"""A run on a terminal, live or stored: verdict first, then gates, metrics with their counts, rows, files."""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from evalrunner.domain import TOO_FEW_VALUES, GateResult, Metric, Row
from evalrunner.errors import RunNotFoundError
from evalrunner.example_models import HOSTED
from evalrunner.formatting import DASH, age, counted, duration, interval, number, one_line, plain_table, styled
from evalrunner.reports.gate_lines import GateLines
from evalrunner.reports.missing import (
    ALWAYS,
    UNTRUSTED_LEGEND,
    other_reading,
    table_metrics,
    value_cell,
)
from evalrunner.reports.slice_tables import slice_tables
from evalrunner.reports.view import (
    DONE,
    JudgeView,
    RunView,
    TargetView,
    run_word,
    stored_view,
)
from evalrunner.reports.worst_rows import WorstRows, baseline_lookup_of_stored, failed
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.notes import RunNotes
from evalrunner.runs.record import MetricsRecord, RunRecord, to_json
from evalrunner.runs.row_log import read_rows
from evalrunner.verdicts import VERDICTS, Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from evalrunner.middleware.cache import CacheTally

WIDTH_SHARES: Final = {"input": 3, "expected": 2, "output": 4}  # of the width that a table of rows has for texts
MAX_BACKEND: Final = 32  # characters beside a metric; run.json and the report have all of it
MAX_TEXT: Final = 300  # characters of a text in a table, before its column cuts it
PAGE_ROWS: Final = 200  # rows of one table, so that a long list is printed while it is read
IMPORT_AFTER_S: Final = 0.04
FILES: Final = ("report.html", "table.csv", "metrics.json", "rows.jsonl", "run.json")


class TerminalReporter:
    """Prints a run at its end: its summary with the rows that did worst, or one line with `quiet`.

    `diff` is how many samples on which several targets differ most are shown in place of the worst rows; `failed_only`
    shows every failed row in place of them, `verbose` the details of gates.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        quiet: bool = False,
        diff: int = 0,
        failed_only: bool = False,
        verbose: bool = False,
    ) -> None:
        self.out = sys.stdout if out is None else out
        self.verbose = verbose
        self.quiet, self.diff, self.failed_only = quiet, diff, failed_only

    def on_start(self, run: RunView, /) -> None:
        # Importing what tables are drawn with takes a while: done while the first calls are waited for.
        drawing = threading.Timer(IMPORT_AFTER_S, _import_drawing)
        drawing.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread to be had: imported when it is needed
            drawing.start()
        self.measures = run.measures
        self.worst = WorstRows(run.measures)
        self.failed: dict[str, list[Row]] = {}

    def on_row(self, row: Row, /) -> None:
        if not self.failed_only:
            self.worst.add(row)
        elif failed(row, self.measures):
            self.failed.setdefault(row.target, []).append(row)

    on_replayed_row = on_row

    def on_end(self, run: RunView, /) -> None:
        console = open_console(self.out)
        if self.quiet:
            line = headline(run)
            line.append(f" · {run.folder}")
            console.print(line, *next_step_lines(run), sep="\n", soft_wrap=True)
            return
        for part in self._parts(run):
            console.print(part)

    def _parts(self, run: RunView) -> Iterator[RenderableType]:
        differing = () if self.failed_only else rows_that_differ(run, self.diff)
        yield from render_run(run, differing, verbose=self.verbose)
        for name in run.targets:
            if self.failed_only:
                yield from _failed_tables(name, self.failed.get(name, []))
            elif not differing and (rows := self.worst.of(name)):
                yield rows_table(f"worst rows of {one_line(name, 60)}", rows)
        yield from closing_lines(run)


def _import_drawing() -> None:
    from rich import box, console, table, text  # noqa: F401


def open_console(out: TextIO) -> Console:
    """A console that adds nothing of its own: no highlighting, no markup, no emoji; wide enough for a log."""
    from rich.console import Console

    return Console(file=out, highlight=False, markup=False, emoji=False, width=None if out.isatty() else 120)


def render_run(
    run: RunView, differing: Sequence[Sequence[Row]] = (), *, verbose: bool = False
) -> Iterator[RenderableType]:
    """The summary of a run without its rows, piece by piece; `differing` are rows on which several targets differ.

    `verbose` adds the details of gates and every pair of a comparison.
    """
    yield headline(run)
    for notice in run.notices:
        yield styled(f"note: {one_line(notice, 400)}", "yellow")
    if run.gates:
        yield GateLines(run.gates, verbose=verbose)
    for name, target in run.targets.items():
        yield metrics_table(name, target, run.answers_planned)
        yield from (styled(one_line(note, 400), "dim") for note in interval_notes(target))
        if target.epochs:
            yield from epoch_notes(target)
        yield from slice_tables(name, target.metrics)
        yield styled(one_line(usage_line(target), 400), "dim")
    if any(not metric.trusted for target in run.targets.values() for metric in target.metrics if _is_scored(metric)):
        yield styled(UNTRUSTED_LEGEND, "magenta")
    for line in judge_usage_lines(run):
        yield styled(one_line(line, 400), "dim")
    for line in judge_warnings(run.judges):
        yield styled(line, "yellow")
    if run.comparison is not None:
        from evalrunner.reports.comparison import render_comparison

        yield from render_comparison(run.comparison, differing, pairs=verbose)


def closing_lines(run: RunView) -> Iterator[RenderableType]:
    """The files of a run, and the commands for the next steps."""
    names = [name for name in FILES if (run.folder / name).is_file()]
    yield styled(f"files: {run.folder}/ ({', '.join(names)})")
    for line in next_step_lines(run):
        yield styled(line, "bold")


def headline(run: RunView) -> Any:
    """`PASS qa: 50 rows in 12.3 s`, with the reason where it stopped early."""
    line = styled(f"{run.word} ", word_style(run.word, run.verdict))
    line.append(f"{one_line(run.suite, 60)}: ", style="bold")
    if run.verdict is None:
        line.append("the run did not finish; the numbers cover the rows on disk")
    else:
        planned = counted(run.rows_planned, "row")
        rows = planned if run.rows == run.rows_planned else f"{run.rows:,} of {planned}"
        line.append(f"{rows} in {duration(run.duration_s)}")
    if run.stopped:
        line.append(f"\nstopped early: {one_line(run.stopped, 600)}", style="bold magenta")
    return line


def rows_that_differ(run: RunView, count: int) -> tuple[tuple[Row, ...], ...]:
    """The rows of the samples on which the targets of a run differ most, read from its row log."""
    if run.comparison is None or not run.comparison.most_different or count == 0:
        return ()
    from evalrunner.compare.diff import disagreeing_rows

    return disagreeing_rows(read_rows(run.folder), run.comparison.most_different[:count], list(run.targets))


def metrics_table(name: str, target: TargetView, planned: int) -> Table:
    """Every metric of the suite's scorers with its interval, and how many answers it is of."""
    shown = table_metrics(target.metrics, planned)
    table = plain_table(one_line(name, 80), ("metric", "value", "95% CI", "answers scored"))
    for metric, answers, marked in shown:
        value = number(metric.value, metric.unit, beside=(metric.low, metric.high))
        ends = interval(metric.low, metric.high, beside=(metric.value,))
        table.add_row(styled(label(metric)), value_cell(value, marked), styled(ends), styled(answers))
        other = (metric.detail or {}).get("other_reading")
        if other is not None:
            table.add_row(
                styled(f"  {other_reading(other)}", "dim"), styled(number(other["value"]), "dim"), "",
                styled(counted(other["n"], "sample"), "dim"),
            )  # fmt: skip
    return table


def interval_notes(target: TargetView) -> Iterator[str]:
    """Notes that the table cannot show: too few clusters for an interval, scores that are all 0 or 1."""
    by_note: dict[str, list[str]] = {}
    for metric in target.metrics:
        detail = metric.detail or {}
        for note in (detail.get("interval"), detail.get("scores")):
            if note and metric.slice is None and metric.scorer not in ALWAYS and not note.endswith(TOO_FEW_VALUES):
                by_note.setdefault(note, []).append(metric.name)
    for note, names in by_note.items():
        yield f"{', '.join(names)}: {note}"


def epoch_notes(target: TargetView) -> Iterator[Any]:
    """How scores vary between epochs, and what more calls would gain."""
    from evalrunner.reports.epochs import epoch_lines

    for line in epoch_lines(target.epochs):
        yield styled(line, "dim")


def _is_scored(metric: Metric) -> bool:
    """Whether a metric is one of the suite's scorers and has a value."""
    return metric.scorer not in ALWAYS and metric.value is not None


def label(metric: Metric) -> str:
    """The metric's name with its backend, so that two backends are not confused."""
    backend = (metric.detail or {}).get("backend")
    return f"{metric.name} ({one_line(backend, MAX_BACKEND)})" if backend else metric.name


def usage_line(target: TargetView) -> str:
    """Calls, latency, tokens and cost of a target."""
    overall = {(metric.scorer, metric.aggregate): metric for metric in target.metrics if metric.slice is None}
    values = {key: metric.value for key, metric in overall.items()}
    quantiles = {name: number(values.get(("latency", name)), "s") for name in ("p50", "p90", "p99")}
    calls = counted(target.usage.calls, "call") if target.usage.calls else "no calls"
    streamed = [f"first token p50 {number(first, 's')}"] if (first := values.get(("ttft", "p50"))) is not None else []
    tokens = f"{number(values.get(('token_count', 'total')), 'tokens')} output tokens"
    if target.usage.reasoning_tokens:
        tokens += f", {target.usage.reasoning_tokens:,} of them reasoning"
    cost = f"cost {number(values.get(('cost_usd', 'total')), 'USD')}{unknown_cost(target)}"
    latency = [f"{name} {text}{_ends(overall.get(('latency', name)))}" for name, text in quantiles.items()]
    parts = [
        calls + _retries(target.retries),
        "latency " + ", ".join(latency),
        *streamed,
        tokens,
        cost,
        *cache_parts(target.cache),
    ]
    return " · ".join(parts)


def unknown_cost(target: TargetView) -> str:
    """Why the cost of calls to a model is not known, or nothing where it is."""
    usage = target.usage
    if not usage.unpriced_calls or target.model is None:
        return ""
    of = "" if usage.cost_usd is None else f" of {counted(usage.unpriced_calls, 'call')}"
    if not usage.input_tokens and not usage.output_tokens:
        return f" ({'unknown' + of + ': ' if of else ''}the server reports neither tokens nor cost)"
    return f" ({'unknown' + of + ': ' if of else ''}no price for {target.model}; add `prices:`)"


def _retries(count: int) -> str:
    return f" ({counted(count, 'retry', 'retries')})" if count else ""


def _ends(metric: Metric | None) -> str:
    """The interval of a number in the line, or nothing where it has none."""
    if metric is None or (metric.low is None and metric.high is None):
        return ""
    return f" ({interval(metric.low, metric.high, beside=(metric.value,))})"


def cache_parts(tally: CacheTally | None) -> Iterator[str]:
    """Cache hits and the money they saved: `cached 812/1,000, oldest 3 d`."""
    if tally is not None and tally.hits:
        yield f"cached {tally.hits:,}/{tally.lookups:,}, oldest {age(tally.oldest_s)}"
    if tally is not None and tally.saved_usd:
        yield f"saved {number(tally.saved_usd, 'USD')}"


def judge_usage_lines(run: RunView) -> Iterator[str]:
    """Calls, tokens and cost of each judge; then what of a cost cap is spent."""
    for judge in run.judges:
        usage = judge.usage
        cost = None if usage.unpriced_calls else usage.cost_usd
        parts = [
            f"judge of {judge.scorer}: {counted(usage.calls, 'call')}{_retries(judge.retries)}",
            f"{usage.output_tokens:,} output tokens",
            f"cost {number(cost, 'USD')}",
            *cache_parts(judge.cache),
        ]
        yield " · ".join(parts)
    if run.budget:
        targets, judges, cap = (number(run.budget[side], "USD") for side in ("targets", "judges", "cap"))
        yield f"spent: at most {targets} on targets and {judges} on judges, of {cap} allowed"


def next_step_lines(run: RunView) -> Iterator[str]:
    """The commands that finish a run or retry its errors."""
    resume = f"evalrun --resume {shlex.quote(str(run.folder))}"
    if run.verdict is not None and run.unfinished_rows:
        yield f"{counted(run.unfinished_rows, 'row')} unfinished. Resume: {resume}"
    if run.rows_in_error:
        yield f"{counted(run.rows_in_error, 'row')} with errors. Retry: {resume} --retry-errors"


def judge_warnings(judges: Sequence[JudgeView]) -> Iterator[str]:
    """A line for each judge that failed its sanity check, or could not be checked."""
    for judge in judges:
        check = judge.check
        if check is None or check.passed:
            continue
        name = one_line(judge.name, 80)
        if check.failure is not None:
            others = f" ({one_line(check.note, 300)})" if check.note and len(check.unread) > 1 else ""
            failure = one_line(check.failure, 300)
            yield f"{judge.scorer}: judge {name} could not be checked and gives no scores: {failure}{others}"
            continue
        used = "Its scores are used anyway (judge_check: warn)." if judge.mode == "warn" else "Its scores are not used."
        other = (
            f" Choose another judge: --judge {HOSTED}, or judge: in the suite"
            f" (suites that read it: EVALRUN_JUDGE={HOSTED})."
        )
        summary = one_line(check.summary, 400)
        is_unread = check.summary == check.note  # which says what to do
        yield f"{judge.scorer}: judge {name} failed its sanity check ({summary}). {used}{'' if is_unread else other}"


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """Rows with input, accepted answers, output and scores, cut short."""
    from evalrunner.reports.comparison import output_with_status

    names = list(rows[0].cells) if rows else []
    table = plain_table(title, ("id", *WIDTH_SHARES, *names))
    table.expand = True
    for column in table.columns[1:4]:
        column.no_wrap, column.overflow = True, "ellipsis"
        column.ratio = WIDTH_SHARES[str(column.header)]
    for row in rows:
        table.add_row(
            styled(one_line(row.sample.id, 24)),
            styled(one_line(str(row.sample.input), MAX_TEXT)),
            styled(one_line(" | ".join(row.sample.expected), MAX_TEXT)),
            styled(one_line(output_with_status(row), MAX_TEXT)),
            *[styled(number(cell.value) if cell.state == "scored" else cell.state) for cell in row.cells.values()],
        )
    return table


def _failed_tables(name: str, rows: list[Row]) -> Iterator[RenderableType]:
    """Every failed row of a target in the order of the dataset."""
    rows.sort(key=lambda row: (row.sample.index, row.epoch))
    if not rows:
        yield styled(f"{one_line(name, 60)}: no failed rows")
    for start in range(0, len(rows), PAGE_ROWS):
        yield rows_table(f"failed rows of {one_line(name, 60)} ({len(rows):,})", rows[start : start + PAGE_ROWS])


def word_style(word: str, verdict: Verdict | None) -> str:
    """The style of a run's word."""
    return "bold" if word == DONE else VERDICTS[verdict].style if verdict is not None else "bold yellow"


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
    """The first scorer's headline metric with its interval; of several targets a line for each of the first three."""
    if metrics is None:
        return DASH
    scorer, declared = next(iter(run.scorers.items()))
    lines: list[str] = []
    for name, target in metrics.targets.items():
        metric = target.headline(scorer, declared)
        if metric is not None:
            ends = f" ({interval(metric.low, metric.high)})" if metric.low is not None else ""
            label = one_line(name if len(metrics.targets) > 1 else metric.name, 30)
            lines.append(f"{label} {number(metric.value)}{ends}")
    return "\n".join([*lines[:3], *([f"and {len(lines) - 3} more"] if len(lines) > 3 else [])])


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gates of a stored run, evaluated again. `gates_of` names the file that the gates are from."""

    folder: RunFolder
    suite: str
    gates_of: str
    gates: tuple[GateResult, ...]
    verdict: Verdict
    exit_code: int
    stopped: str | None = None


def render_gate_report(report: GateReport, *, verbose: bool = False) -> Iterator[RenderableType]:
    """The verdict, the source of the gates, and each gate; `verbose` adds their details."""
    word = run_word(report.verdict, report.exit_code, gated=bool(report.gates))
    line = styled(f"{word} ", word_style(word, report.verdict))
    line.append(f"{one_line(report.suite, 60)} {report.folder.id}", style="bold")
    line.append(f", gates of {one_line(report.gates_of, 200)}")
    if report.stopped is not None:
        line.append(f"\nnot finished: {one_line(report.stopped, 600)}", style="bold magenta")
    yield line
    if report.gates:
        yield GateLines(report.gates, verbose=verbose)
    else:
        yield styled("there are no gates")


def gate_report_view(report: GateReport, suite_file: Path | None, runs: Path) -> RunView:
    """The stored run with its new verdicts. `suite_file` has the gates, if they are of another file; `runs` baselines."""
    view = stored_view(report.folder, runs)
    file = suite_file or view.suite_file
    return replace(
        view,
        gates=report.gates,
        verdict=report.verdict,
        exit_code=report.exit_code,
        suite_file=file,
        stopped=report.stopped,
        find_baseline=partial(baseline_lookup_of_stored, view.suite, file, report.gates, tuple(view.targets), runs),
    )


def gate_report_data(report: GateReport) -> dict[str, Any]:
    """The verdicts as JSON has them, under the names of `metrics.json`."""
    return {
        "schema_version": 1,
        "run_id": report.folder.id,
        "suite": report.suite,
        "gates_of": report.gates_of,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "stopped": report.stopped,
        "gates": [to_json(gate) for gate in report.gates],
    }
