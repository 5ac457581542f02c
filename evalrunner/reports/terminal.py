"""A run's results on a terminal: verdict first, gates, metrics with their counts, the worst rows, the files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from evalrunner.domain import Completion, GateResult, Metric, Row
from evalrunner.engine.result import RunResult, TargetResult
from evalrunner.formatting import DASH, age, counted, duration, interval, number, one_line, plain_table, styled
from evalrunner.middleware.cache import CacheTally
from evalrunner.reports.comparison import render_comparison
from evalrunner.stats.intervals import TOO_FEW_VALUES
from evalrunner.verdicts import INTERRUPTED, VERDICTS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

STYLES: Mapping[str, str] = {verdict: rule.style for verdict, rule in VERDICTS.items()}
DONE = "DONE"
ALWAYS = ("latency", "token_count", "cost_usd", "ttft", "output_rate")
SHARES = {"input": 3, "expected": 2, "output": 4}  # of the width that a table of rows has for texts
MOST_SLICES = 20  # values of a column on a terminal
LONGEST_BACKEND = 32  # characters beside a metric; run.json and the report have all of it
LONGEST = 300  # characters of a text in such a table, before its column cuts it


def render_result(
    result: RunResult, worst: dict[str, list[Row]], differing: Sequence[Sequence[Row]] = ()
) -> Iterator[RenderableType]:
    """The whole summary, piece by piece. `differing` are rows on which several targets differ, in place of the worst."""
    from rich.text import Text

    yield headline(result)
    for notice in result.notices:
        yield Text(f"note: {one_line(notice, 400)}", style="yellow")
    if result.gates:
        yield gates_table(result.gates)
    for name, target in result.targets.items():
        yield metrics_table(name, target)
        yield from interval_notes(target)
        yield from slice_tables(name, target)
        yield Text(one_line(" · ".join([usage_line(target), *cache_parts(target.calls.cache)]), 400), style="dim")
    for line in judge_usage_lines(result):
        yield Text(one_line(line, 400), style="dim")
    for line in judge_warnings(result):
        yield Text(line, style="yellow")
    if result.comparison is not None:
        yield from render_comparison(result.comparison, differing)
    for name in result.targets:
        if worst.get(name) and not differing:
            yield rows_table(f"worst rows of {one_line(name, 60)}", worst[name])
    yield Text(f"files: {result.folder}/ (report.html, table.csv, metrics.json, rows.jsonl, run.json)")
    for line in next_step_lines(result):
        yield Text(line, style="bold")


def headline(result: RunResult) -> Any:
    """`PASS qa: 50 rows in 12.3 s`, with the reason where it ended early."""
    from rich.text import Text

    word = run_word(result.verdict, result.exit_code, gated=bool(result.gates))
    style = STYLES[result.verdict] if word != DONE else "bold"
    line = Text(f"{word} ", style=style)
    line.append(f"{one_line(result.suite, 60)}: ", style="bold")
    planned = result.plan.rows
    rows = counted(result.rows, "row") if result.rows == planned else f"{result.rows:,} of {counted(planned, 'row')}"
    line.append(f"{rows} in {duration(result.duration_s)}")
    if result.stopped:
        line.append(f"\nstopped early: {one_line(result.stopped, 600)}", style="bold magenta")
    return line


def run_word(verdict: str | None, exit_code: int | None, *, gated: bool) -> str:
    """A run in one word: that of its verdict, DONE where no gate was there to be judged by."""
    if verdict is None:
        return "NOT FINISHED"
    if exit_code == INTERRUPTED:
        return "INTERRUPTED"
    return verdict_word(verdict) if gated or exit_code else DONE


def verdict_word(verdict: str) -> str:
    """`PASS`, `NO BASELINE`: a verdict as it is shown."""
    return verdict.replace("_", " ").upper()


def gates_table(gates: Sequence[GateResult]) -> Table:
    """A line for each gate and target: verdict, number, bound, and the sentence why."""
    table = plain_table("gates", ("verdict", "gate", "target", "value", "95 % interval", "why"))
    for gate in gates:
        table.add_row(
            styled(verdict_word(gate.verdict), STYLES[gate.verdict]),
            styled(one_line(gate.gate, 80)),
            styled(one_line(gate.target, 40)),
            styled(number(gate.value)),
            styled(interval(gate.low, gate.high)),
            styled(one_line(gate.reason + (f" (line {gate.line})" if gate.line else ""), 600)),
        )
    return table


def metrics_table(name: str, target: TargetResult) -> Table:
    """Every metric of the suite's scorers with its interval and the four counts."""
    columns = ("metric", "value", "95 % interval", "scored", "skipped", "unscored", "errors")
    table = plain_table(one_line(name, 80), columns)
    for metric in target.metrics:
        if metric.scorer in ALWAYS or metric.slice is not None:
            continue
        counts = [str(count) for count in (metric.n, metric.skipped, metric.unscored, metric.errors)]
        value = styled(number(metric.value, metric.unit), None if metric.trusted else "magenta")
        table.add_row(styled(label(metric)), value, styled(interval(metric.low, metric.high)), *map(styled, counts))
        other = (metric.detail or {}).get("other_reading")
        if other is not None:
            reading = "counting no answer as 0" if other["on_no_answer"] == "zero" else "leaving out no answer"
            table.add_row(
                styled(f"  {reading}", "dim"), styled(number(other["value"]), "dim"), "", styled(str(other["n"]), "dim")
            )
    return table


def interval_notes(target: TargetResult) -> Iterator[Any]:
    """What is to be known of intervals that the table does not show itself, such as too few clusters."""
    found: dict[str, list[str]] = {}
    for metric in target.metrics:
        note = (metric.detail or {}).get("interval")
        if note and metric.slice is None and metric.scorer not in ALWAYS and not note.endswith(TOO_FEW_VALUES):
            found.setdefault(note, []).append(metric.name)
    for note, names in found.items():
        yield styled(one_line(f"{', '.join(names)}: {note}", 400), "dim")


def slice_tables(name: str, target: TargetResult) -> Iterator[Table]:
    """A table for each slice column: a line for each of its values, with every scorer's first metric."""
    found: dict[str, dict[str, dict[str, Metric]]] = {}
    for metric in target.metrics:
        for column, text in (metric.slice or {}).items():
            if metric.scorer not in ALWAYS:
                found.setdefault(column, {}).setdefault(text, {}).setdefault(metric.scorer, metric)
    for column, values in found.items():
        first = next(iter(values.values()))
        heads = [column, *(metric.name for metric in first.values())]
        title = f"{one_line(name, 80)} by {one_line(column, 40)}"
        table = plain_table(title, [one_line(head, 40) for head in heads], wraps=True)
        for text, metrics in list(values.items())[:MOST_SLICES]:
            cells = [
                styled(
                    f"{number(metric.value, metric.unit)} {interval(metric.low, metric.high)} n={metric.n}",
                    None if metric.trusted else "magenta",
                )
                for metric in metrics.values()
            ]
            table.add_row(styled(one_line(text, 40) or DASH), *cells)
        if len(values) > MOST_SLICES:
            table.add_row(styled(f"… and {len(values) - MOST_SLICES} more in metrics.json", "dim"))
        yield table


def label(metric: Metric) -> str:
    """The metric's name with the backend that made it, so that nobody takes one for the other."""
    backend = (metric.detail or {}).get("backend")
    return f"{metric.name} ({one_line(backend, LONGEST_BACKEND)})" if backend else metric.name


def usage_line(target: TargetResult) -> str:
    """Time, tokens and cost of a target's calls."""
    whole = [metric for metric in target.metrics if metric.slice is None]
    found = {(metric.scorer, metric.aggregate): metric for metric in whole}
    values = {key: metric.value for key, metric in found.items()}
    latency = [
        f"{name} {number(values.get(('latency', name)), 's')}{_ends(found.get(('latency', name)))}"
        for name in ("p50", "p90", "p99")
    ]
    tokens = f"{number(values.get(('token_count', 'total')), 'tokens')} tokens out"
    cost = f"cost {number(values.get(('cost_usd', 'total')), 'USD')}"
    made, retries = target.calls.usage.calls, target.calls.retries
    again = f" ({retries:,} tried again)" if retries else ""
    calls = counted(made or target.usage.calls, "call") + again if made or target.usage.calls else "nothing was called"
    streamed = [f"first token p50 {number(first, 's')}"] if (first := values.get(("ttft", "p50"))) is not None else []
    return " · ".join([calls, "latency " + ", ".join(latency), *streamed, tokens, cost])


def _ends(metric: Metric | None) -> str:
    """The interval behind a number of the line, or nothing where it has none."""
    if metric is None or (metric.low is None and metric.high is None):
        return ""
    return f" {interval(metric.low, metric.high)}"


def cache_parts(tally: CacheTally) -> Iterator[str]:
    """What the cache had: `cached 812/1,000, oldest 3 d`, and the money that this saved."""
    if tally.hits:
        yield f"cached {tally.hits:,}/{tally.lookups:,}, oldest {age(tally.oldest_s)}"
    if tally.saved_usd:
        yield f"saved {number(tally.saved_usd, 'USD')}"


def judge_usage_lines(result: RunResult) -> Iterator[str]:
    """Calls, tokens and cost of each judge, apart from what the targets took; under a cap what of it is spent."""
    for scorer in result.plan.scorers:
        if scorer.judge is None:
            continue
        tally = scorer.judge.calls
        usage, again = tally.usage, f" ({tally.retries:,} tried again)" if tally.retries else ""
        cost = None if usage.unpriced or usage.calls == usage.failures else usage.cost_usd
        parts = [
            f"judge of {scorer.bound.name}: {counted(usage.calls, 'call')}{again}",
            f"{usage.output_tokens:,} tokens out",
            f"cost {number(cost, 'USD')}",
            *cache_parts(tally.cache),
        ]
        yield " · ".join(parts)
    budget = result.plan.calls.budget
    if budget is not None:
        targets, judges = (number(budget.ledger.spent[side], "USD") for side in ("targets", "judges"))
        yield f"spent at the most: targets {targets}, judges {judges}, of {number(budget.cap_usd, 'USD')} allowed"


def next_step_lines(result: RunResult) -> Iterator[str]:
    """The commands that do what the run has left to do."""
    resume = f"evalrun --resume {shlex.quote(str(result.folder))}"
    if result.unfinished:
        yield f"{counted(result.unfinished, 'row')} to go: {resume}"
    if result.in_error:
        yield f"{counted(result.in_error, 'row')} with errors, to be run again: {resume} --retry-errors"


def judge_warnings(result: RunResult) -> Iterator[str]:
    """What became of each judge that was checked and not believed."""
    for scorer in result.plan.scorers:
        desk = scorer.judge
        if desk is None or desk.check is None or desk.check.passed:
            continue
        if desk.check.failure is not None:
            said = one_line(desk.check.failure.message, 300)
            yield f"{scorer.bound.name}: the judge {one_line(desk.name, 80)} could not be checked, so it gave no verdict: {said}"
            continue
        score = f"{desk.check.right} of {desk.check.total} known pairs right, {desk.check.needed} needed"
        kept = (
            "its verdicts are shown all the same (judge_check: warn)"
            if desk.mode == "warn"
            else "its verdicts are not used"
        )
        yield (
            f"{scorer.bound.name}: the judge {one_line(desk.name, 80)} failed its self-check ({score}); {kept}. "
            "Set a real one: --judge openai/gpt-5-mini, or judge: in the suite"
            " (suites that read it: EVALRUN_JUDGE=openai/gpt-5-mini)."
        )


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """Rows with input, accepted answers, output and scores, cut short."""
    names = list(rows[0].cells) if rows else []
    table = plain_table(title, ("id", *SHARES, *names))
    table.expand = True
    for column in table.columns[1:4]:
        column.no_wrap, column.overflow = True, "ellipsis"
        column.ratio = SHARES[str(column.header)]
    for row in rows:
        answer = row.answer
        output = answer.text if isinstance(answer, Completion) else f"[{answer}]"
        if isinstance(answer, Completion) and answer.finish_reason != "stop":
            output = f"{output} [{answer.finish_reason}]"
        table.add_row(
            styled(one_line(row.sample.id, 24)),
            styled(one_line(str(row.sample.input), LONGEST)),
            styled(one_line(" | ".join(row.sample.expected), LONGEST)),
            styled(one_line(output, LONGEST)),
            *[styled(number(cell.value) if cell.state == "scored" else cell.state) for cell in row.cells.values()],
        )
    return table


def open_console(out: TextIO) -> Console:
    """A console that adds nothing of its own: no highlighting, no markup, no emoji; wide enough for a log."""
    from rich.console import Console

    return Console(file=out, highlight=False, markup=False, emoji=False, width=None if out.isatty() else 120)
