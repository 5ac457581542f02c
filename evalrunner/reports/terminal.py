"""A run on a terminal, live or stored: the verdict, one table, what to do next; everything else with `verbose`."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from evalrunner.domain import TOO_FEW_VALUES, Metric, Row
from evalrunner.example_models import HOSTED
from evalrunner.formatting import age, counted, duration, interval, money, number, one_line, styled
from evalrunner.reports.gate_lines import GateLines
from evalrunner.reports.metric_tables import hidden_metrics, metric_table
from evalrunner.reports.missing import ALWAYS, UNTRUSTED_LEGEND
from evalrunner.reports.row_lines import Paragraph, RowLines, command_lines, regression_line, result_line, wrapped
from evalrunner.reports.slice_tables import slice_tables
from evalrunner.reports.verdict_sentence import sentence
from evalrunner.reports.view import DONE, JudgeView, RunView, TargetView
from evalrunner.reports.worst_rows import Regressions, WorstRows, failed
from evalrunner.runs.folder import REPORT_FILE
from evalrunner.runs.row_log import read_rows
from evalrunner.verdicts import VERDICTS, Verdict

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

    from evalrunner.middleware.cache import CacheTally

LOG_WIDTH: Final = 120  # of lines that no terminal shows, unless COLUMNS is set
MAX_ROWS: Final = 3  # lowest scores, and rows that got worse
MAX_ROWS_VERBOSE: Final = 5
MAX_NAMES: Final = 3  # of metrics in a note
PAGE_ROWS: Final = 200  # rows of one list, so that a long one is printed while it is read
IMPORT_AFTER_S: Final = 0.04
FILES: Final = ("report.html", "table.csv", "metrics.json", "rows.jsonl", "run.json")


class TerminalReporter:
    """Prints a run at its end: its summary with the rows that did worst, or one line with `quiet`.

    `diff` is how many samples on which several targets differ most are shown; `failed_only` shows every failed row in
    place of the worst ones. `verbose` adds the details of gates and pairs, intervals of slices, counts, and the worst rows
    of each target.
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
        keep = MAX_ROWS_VERBOSE if self.verbose else MAX_ROWS
        self.worst = WorstRows(run.measures, keep=keep)
        lookup = None if self.quiet or self.failed_only else run.find_baseline()
        self.regressions = None if lookup is None else Regressions(run.measures, lookup, keep=keep)
        self.failed: dict[str, list[Row]] = {}

    def on_row(self, row: Row, /) -> None:
        if self.failed_only:
            if failed(row, self.measures):
                self.failed.setdefault(row.target, []).append(row)
            return
        self.worst.add(row)
        if self.regressions is not None:
            self.regressions.add(row)

    on_replayed_row = on_row

    def on_end(self, run: RunView, /) -> None:
        console = open_console(self.out)
        if self.quiet:
            console.print(quiet_line(run), soft_wrap=True)
            return
        for part in self._parts(run):
            console.print(part)
        print_report_line(console, run)

    def _parts(self, run: RunView) -> Iterator[RenderableType]:
        yield from render_run(run, verbose=self.verbose)
        if self.failed_only:
            yield from _failed_rows(run.targets, self.failed)
        else:
            yield from self._rows(run)
        yield from closing_lines(run, verbose=self.verbose)

    def _rows(self, run: RunView) -> Iterator[RenderableType]:
        """What got worse, else the rows that did worst; of several targets the samples on which they differ most."""
        several = len(run.targets) > 1
        changed = False
        for name in run.targets if self.regressions is not None else ():
            assert self.regressions is not None  # the loop is empty otherwise
            if rows := self.regressions.rows_of(name):
                changed = True
                title = "changed for the worse" + (f": {one_line(name, 60)}" if several else "")
                more = self.regressions.count(name) - len(rows)
                yield styled("")
                yield RowLines(title, [regression_line(row) for row in rows], more=_how_to_see(run, name, more))
        if several and self.diff and (groups := rows_that_differ(run, self.diff)):
            from evalrunner.reports.row_lines import DifferingRows

            yield styled("")
            yield DifferingRows("largest differences between targets", groups, verbose=self.verbose)
        for name in run.targets if self.verbose or not (changed or several) else ():
            if rows := self.worst.rows_of(name):
                title = "lowest scores" + (f": {one_line(name, 60)}" if several else "")
                yield styled("")
                yield RowLines(title, [result_line(row.row, scores=self.verbose) for row in rows])


def _how_to_see(run: RunView, target: str, more: int) -> str:
    """`28 more:  evalrun diff 20261127T1-a b`, with the run of the baseline if that is still there."""
    if more <= 0:
        return ""
    text = f"{more:,} more"
    if run.baseline_run is None or len(run.targets) > 1:
        return f"{text} in the report"
    return f"{text}:  evalrun diff {run.baseline_run} {run.run_id}"


def _import_drawing() -> None:
    from rich import box, console, table, text  # noqa: F401


def open_console(out: TextIO) -> Console:
    """A console that adds nothing of its own: no highlighting, no markup, no emoji; wide enough for a log."""
    from rich.console import Console

    asked = os.environ.get("COLUMNS", "")
    width = None if out.isatty() or (asked.isdigit() and int(asked) > 0) else LOG_WIDTH
    return Console(file=out, highlight=False, markup=False, emoji=False, width=width)


def print_indented(line: str, out: TextIO) -> None:
    """Print a line; on a terminal that is narrower, its rest below it, indented a bit more."""
    if not out.isatty():
        print(line, file=out)  # one line of a log stays one line
        return
    console, indent = open_console(out), len(line) - len(line.lstrip())
    first, *others = wrapped(styled(line.strip()), console.width - 2, indent)
    for part in (first, *(styled("  ").append_text(other) for other in others)):
        console.print(part, soft_wrap=True)


def render_run(run: RunView, *, verbose: bool = False) -> Iterator[RenderableType]:
    """The summary of a run without its rows, piece by piece: verdict, gates, the table, and how to read it.

    `verbose` adds the details of gates, every metric and pair, intervals of slices, and calls.
    """
    yield Title(run)
    for notice in run.notices:
        yield Paragraph(f"note: {notice}", "yellow")
    for line in judge_warnings(run.judges):
        yield Paragraph(line, "yellow")
    if run.gates:
        yield GateLines(run.gates, verbose=verbose, file=_suite_name(run))
        yield styled("")
    else:
        yield styled("")
    if run.comparison is not None:
        from evalrunner.reports.comparison import render_comparison, slice_comparison_tables

        yield from render_comparison(run.comparison, verbose=verbose)
    if run.comparison is None or verbose:
        for name, target in run.targets.items():
            yield from _target_parts(run, name, target, verbose=verbose)
    if any(not metric.trusted for target in run.targets.values() for metric in target.metrics if _is_scored(metric)):
        yield styled(UNTRUSTED_LEGEND, "magenta")
    if run.comparison is not None and not verbose:
        yield from slice_comparison_tables(run.comparison)
        yield from (Paragraph(line, "dim") for line in _retry_lines(run))
    for line in judge_usage_lines(run):
        yield Paragraph(line, "dim")


def _target_parts(run: RunView, name: str, target: TargetView, *, verbose: bool) -> Iterator[RenderableType]:
    """The metrics of a target, notes on them, its slices, and what its calls took."""
    gated = [gate.metric for gate in run.gates]
    if len(run.targets) > 1:
        yield styled(f"\n{one_line(name, 80)}", "bold")
    parts = [each.name for each in run.measures if each.part_of and not each.name.startswith(f"{each.part_of}/")]
    yield metric_table(target, run.answers_planned, headline=run.headline, gated=gated, parts=parts, verbose=verbose)
    if not verbose and (hidden := hidden_metrics(target, gated, parts)):
        yield styled(f"{counted(hidden, 'more metric')}: -v", "dim")
    yield from (Paragraph(note, "dim") for note in interval_notes(target))
    if target.epochs:
        yield from epoch_notes(target, verbose=verbose)
    yield from slice_tables(name, target.metrics, intervals=verbose)
    if usage := usage_line(target) if verbose else short_usage_line(target):
        yield styled("")
        yield Paragraph(usage, "dim")


def _suite_name(run: RunView) -> str:
    return "" if run.suite_file is None else one_line(run.suite_file.name, 60)


def closing_lines(run: RunView, *, verbose: bool = False) -> Iterator[RenderableType]:
    """The commands for the next steps; with `verbose` the files of the run."""
    yield styled("")
    if verbose:
        names = [name for name in FILES if (run.folder / name).is_file()]
        yield Paragraph(f"files: {run.folder}/ ({', '.join(names)})")
    for line in next_step_lines(run):
        yield NextStep(line, run)


class NextStep:
    """A sentence that ends with a command, in bold; a command that does not fit has a line of its own, unbroken."""

    def __init__(self, text: str, run: RunView) -> None:
        self.text, self.run = text, run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The lines, as rich asks for them."""
        from rich.cells import cell_len

        text, width = self.text, options.max_width
        if cell_len(text.partition(": ")[2]) + 2 > width and self.run.folder.parent.parent == Path("runs"):
            text = text.replace(shlex.quote(str(self.run.folder)), self.run.run_id)
        yield from command_lines(text, width, "bold")


def print_report_line(console: Console, run: RunView) -> None:
    """Print the path of the report, or of the folder without one, unbroken; a link in terminals that know links."""
    from rich.cells import cell_len
    from rich.style import Style

    path = run.folder / REPORT_FILE
    word, path = ("report", path) if path.is_file() else ("folder", run.folder)
    text = one_line(str(path), 4096)
    head = f"{word}  "
    if cell_len(head) + cell_len(text) > console.width:
        console.print(styled(word))
        head = ""
    line = styled(head)
    link = console.is_terminal and not console.is_dumb_terminal
    line.append(text, style=Style(link=path.resolve().as_uri()) if link else None)
    console.print(line, soft_wrap=True)


class Title:
    """`PASS  qa · gateway · 50 samples in 12.3 s · $0.02`, with the reason where the run stopped early."""

    def __init__(self, run: RunView) -> None:
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The lines, as rich asks for them; broken between the parts."""
        from rich.cells import cell_len

        run = self.run
        line = styled("" if run.word == DONE else f"{run.word}  ", word_style(run.word, run.verdict))
        indent = line.cell_len
        for place, part in enumerate(title_parts(run)):
            if place and line.cell_len + 3 + cell_len(part) > options.max_width:
                yield line
                line = styled(" " * indent)
            elif place:
                line.append(" · ", style="dim")
            line.append(part, style="bold" if place == 0 else "")
        yield line
        if run.verdict is None:
            yield styled("the run did not finish; the numbers cover the rows on disk", "bold yellow")
        if run.stopped:
            yield Paragraph(f"stopped early: {run.stopped}", "bold magenta")


def title_parts(run: RunView) -> Iterator[str]:
    """The suite, its target, its size with the duration, rows with errors, and the cost."""
    yield one_line(run.suite, 60)
    if len(run.targets) == 1:
        yield one_line(next(iter(run.targets)), 60)
    took = f" in {duration(run.duration_s)}" if run.verdict is not None else ""
    yield f"{_size(run)}{took}"
    if run.rows_in_error:
        yield f"{run.rows_in_error:,} with errors"
    if cost := _cost(run):
        yield cost


def _size(run: RunView) -> str:
    """`300 samples`, `3 targets × 120 samples × 5 epochs`, `182 of 300 samples`."""
    targets, epochs = len(run.targets), run.epochs
    noun = "sample" if targets == epochs == 1 else "row"
    if run.rows != run.rows_planned:
        return f"{run.rows:,} of {counted(run.rows_planned, noun)}"
    size = counted(run.rows_planned // max(1, targets * epochs), "sample")
    return (f"{targets} targets × " if targets > 1 else "") + size + (f" × {epochs} epochs" if epochs > 1 else "")


def _cost(run: RunView) -> str:
    """What the calls of a run cost, `at least` where the price of some is unknown; nothing for what is free."""
    usages = [target.usage for target in run.targets.values()] + [judge.usage for judge in run.judges]
    total = sum(usage.cost_usd or 0.0 for usage in usages if usage.calls)
    for target in run.targets.values():
        if not target.usage.calls:  # a function that states what its answers cost
            costs = (each.value for each in target.metrics if each.name == "cost_usd/total" and each.slice is None)
            total += next(costs, None) or 0.0
    if not total:
        return ""
    return ("at least " if any(usage.unpriced_calls for usage in usages) else "") + money(total)


def quiet_line(run: RunView) -> Any:
    """`FAIL qa: contains is 0.740; the gate needs at least 0.8 · runs/qa/…`: the verdict, its reason, and where it is."""
    line = styled(run.word, word_style(run.word, run.verdict))
    line.append(f" {one_line(run.suite, 60)}: ", style="bold")
    line.append(one_line(sentence(run), 400).removesuffix("."))
    if run.verdict == "pass":
        line.append(f" · {_size(run)} in {duration(run.duration_s)}")
    steps = list(next_step_lines(run))
    return line.append(f" · {'; '.join(steps) if steps else run.folder}")


def rows_that_differ(run: RunView, count: int) -> tuple[tuple[Row, ...], ...]:
    """The rows of the samples on which the targets of a run differ most, read from its row log."""
    if run.comparison is None or not run.comparison.most_different or count == 0:
        return ()
    from evalrunner.compare.diff import disagreeing_rows

    return disagreeing_rows(read_rows(run.folder), run.comparison.most_different[:count], list(run.targets))


def interval_notes(target: TargetView) -> Iterator[str]:
    """Notes that the table cannot show: too few clusters for an interval, scores that are all 0 or 1."""
    by_note: dict[str, list[str]] = {}
    for metric in target.metrics:
        detail = metric.detail or {}
        for note in (detail.get("interval"), detail.get("scores")):
            if note and metric.slice is None and metric.scorer not in ALWAYS and not note.endswith(TOO_FEW_VALUES):
                by_note.setdefault(note, []).append(metric.name)
    for note, names in by_note.items():
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        yield f"{', '.join(names[:MAX_NAMES])}{more}: {note}"


def epoch_notes(target: TargetView, *, verbose: bool) -> Iterator[Any]:
    """How scores vary between epochs; with `verbose` also what more calls would gain."""
    from evalrunner.reports.epochs import epoch_lines

    for line in islice(epoch_lines(target.epochs), None, None, 1 if verbose else 2):
        yield Paragraph(line, "dim")


def _is_scored(metric: Metric) -> bool:
    """Whether a metric is one of the suite's scorers and has a value."""
    return metric.scorer not in ALWAYS and metric.value is not None


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


def short_usage_line(target: TargetView) -> str:
    """`latency p50 0.47 s, p90 0.73 s · $0.063 per 1,000 answers · 7 retries`: what the answers of a target took."""
    values = {(each.scorer, each.aggregate): each.value for each in target.metrics if each.slice is None}
    p50, p90 = (values.get(("latency", name)) for name in ("p50", "p90"))
    cost = values.get(("cost_usd", "mean"))
    parts = []
    if p50 is not None:
        parts.append(f"latency p50 {number(p50, 's')}, p90 {number(p90, 's')}")
    if (first := values.get(("ttft", "p50"))) is not None:
        parts.append(f"first token p50 {number(first, 's')}")
    if cost:
        parts.append(f"{money(1000 * cost)} per 1,000 answers")
    if unknown := unknown_cost(target).strip().removeprefix("(").removesuffix(")"):
        parts.append(f"cost unknown: {unknown.removeprefix('unknown').strip()}".replace(":  ", ": "))
    if target.retries:
        parts.append(counted(target.retries, "retry", "retries"))
    return " · ".join([*parts, *cache_parts(target.cache)])


def _retry_lines(run: RunView) -> Iterator[str]:
    """The retries and cache hits of each target that has some, where only the leaderboard is shown."""
    for name, target in run.targets.items():
        parts = [counted(target.retries, "retry", "retries")] if target.retries else []
        if parts := [*parts, *cache_parts(target.cache)]:
            yield f"{one_line(name, 60)}: {' · '.join(parts)}"


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
            f"{judge.owner}: {counted(usage.calls, 'call')}{_retries(judge.retries)}",
            *([f"{usage.output_tokens:,} output tokens"] if judge.role != "model" else []),
            f"cost {number(cost, 'USD')}",
            *cache_parts(judge.cache),
        ]
        yield " · ".join(parts)
    if run.budget:
        targets, judges, cap = (number(run.budget[side], "USD") for side in ("targets", "judges", "cap"))
        spent = f"{targets} on targets and {judges} on judges"
        if any(judge.role == "user" for judge in run.judges):
            spent = f"{targets} on targets, {judges} on judges and {number(run.budget['users'], 'USD')} on the user"
        yield f"spent: at most {spent}, of {cap} allowed"


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


def _failed_rows(targets: Iterable[str], found: dict[str, list[Row]]) -> Iterator[RenderableType]:
    """Every failed row of each target in the order of the dataset."""
    for name in targets:
        rows = sorted(found.get(name, []), key=lambda row: (row.sample.index, row.epoch))
        yield styled("")
        if not rows:
            yield styled(f"{one_line(name, 60)}: no failed rows")
        for start in range(0, len(rows), PAGE_ROWS):
            page = rows[start : start + PAGE_ROWS]
            title = f"failed rows of {one_line(name, 60)} ({len(rows):,})"
            yield RowLines(title, [result_line(row, scores=True) for row in page])


def word_style(word: str, verdict: Verdict | None) -> str:
    """The style of a run's word."""
    return "bold" if word == DONE else VERDICTS[verdict].style if verdict is not None else "bold yellow"
