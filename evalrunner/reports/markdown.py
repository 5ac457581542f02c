"""`summary.md`: a run as a summary of a pull request, in GitHub's Markdown.

Verdict first, then gates, metrics and unscored rows; then rows until the allowed size is used up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evalrunner.domain import BaselineResult, Cell, Completion, GateResult, Metric, Row
from evalrunner.formatting import DASH, HIDDEN, UNSAFE, counted, duration, interval, number, plain_text
from evalrunner.redact import redact_start
from evalrunner.reports.checks import FAILED, check_line, failing_checks
from evalrunner.reports.epochs import next_calls_text, split_text
from evalrunner.reports.metric_tables import label
from evalrunner.reports.missing import ALWAYS, is_marked, missing_texts, other_reading, scored_count, side_by_side
from evalrunner.reports.terminal import interval_notes, judge_warnings, next_step_lines, usage_line
from evalrunner.reports.verdict_sentence import sentence
from evalrunner.reports.view import RunView, TargetView, verdict_word
from evalrunner.reports.worst_rows import BaselineScores, NotableRow, Regressions, WorstRows
from evalrunner.storage import write_text
from evalrunner.tool_calls import tool_calls_text

if TYPE_CHECKING:
    from evalrunner.compare.result import ComparedMetric, Comparison

SUMMARY_BYTES = 512 * 1024  # GitHub drops a step's summary above 1,024 KiB, and the suites of a step share it
ROWS_PER_TARGET = 25
MAX_TEXT = 2_000  # characters of an input or output in a row
CLOSING_BYTES = 200  # bytes reserved for the line that says that something is cut
MARKS = {"PASS": "✅", "DONE": "✅", "FAIL": "❌"}
GATE_COLUMNS = ("verdict", "gate", "target", "value", "95% CI", "bound", "reason", "line")
RIGHT = frozenset(("value", "bound", "line", "scored", "skipped", "unscored", "errors"))

COSTS = ("latency/p50", "cost_usd/mean")
MAX_METRICS = 6  # metrics of the table; all are in the list below it

MAX_REASON = 500  # characters of a scorer's reason
MAX_CHECKS = 20  # failing checks of a row

# Untrusted text stays text on GitHub, whatever is in it. Every mark that Markdown, HTML or GitHub reads something into
# becomes a character reference, and so do line breaks: a text is one line of the file and cannot end its table, tag or
# code. References do not stop what GitHub looks for in the finished page (mentions, issue numbers, addresses, emoji): a
# zero-width space behind the mark does.
LINE_END = re.compile(r"\r\n?|[\n\x0b\x0c\x85\u2028\u2029]")
# Markdown reads nothing into the other marks, but at the start of a line
SPECIAL_CHARACTERS = "&<>\"'\\`*_~[]!|#@${}:^"
REFERENCES = {ord(mark): f"&#{ord(mark)};" for mark in SPECIAL_CHARACTERS}
UNESCAPED = {  # and better to read as they are: no emphasis within a word (CommonMark 0.31, §6.2)
    "_": re.compile(r"(?<=\w)&#95;(?=\w)"),
    ":": re.compile(r"&#58;(?= )"),
}
ZERO_WIDTH_SPACE = "&#8203;"
AUTOLINKED = re.compile(  # what GitHub makes a link or a picture of, each at the place where it can be broken
    r"(?<=&#64;)|(?<=&#58;)(?=[A-Za-z/+-])|(?<=&#35;)(?=\w)|(?i:(?<=\bwww)(?=\.)|(?<=\bgh)(?=-\d))"
)


class SummaryRows:
    """The rows that a summary shows: those that got worse since the baseline, else the worst ones."""

    def __init__(self, run: RunView) -> None:
        baseline = run.find_baseline()
        self.worst = WorstRows(run.measures, keep=ROWS_PER_TARGET)
        self.regressions = Regressions(run.measures, baseline, keep=ROWS_PER_TARGET) if baseline is not None else None

    def add(self, row: Row) -> None:
        """Look at one row."""
        self.worst.add(row)
        if self.regressions is not None:
            self.regressions.add(row)

    def markdown(self, run: RunView, max_bytes: int) -> str:
        """`summary.md` of a run with these rows."""
        rows: dict[str, list[NotableRow]] = {}
        for name in run.targets:
            rows[name] = (self.regressions.rows_of(name) if self.regressions else []) or self.worst.rows_of(name)
        return render_markdown(run, rows, max_bytes=max_bytes)


class MarkdownReporter:
    """Writes `.md`: the summary of a run for a pull request."""

    def __init__(self, path: Path, *, max_bytes: int = SUMMARY_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes

    def on_start(self, run: RunView, /) -> None:
        self.rows = SummaryRows(run)

    def on_row(self, row: Row, /) -> None:
        self.rows.add(row)

    def on_end(self, run: RunView, /) -> None:
        write_text(self.path, self.rows.markdown(run, self.max_bytes))


def render_markdown(view: RunView, rows: Mapping[str, Sequence[NotableRow]], *, max_bytes: int) -> str:
    """The summary of a run, of at most `max_bytes` bytes of UTF-8; `rows` are the worst of each target, worst first."""
    page = Page(max_bytes)
    page.add(f"## {MARKS.get(view.word, '⚠️')} {view.word}: {inline(view.suite, 80)}", "")
    page.add(f"**{inline(sentence(view), 1_200)}**", "")
    planned = counted(view.rows_planned, "row")
    size = planned if view.rows == view.rows_planned else f"{view.rows:,} of {planned}"
    page.add(f"{size} in {duration(view.duration_s)} · run {code(view.run_id, 60)}", "")
    for notice in (*view.notices, *judge_warnings(view.judges), *next_step_lines(view)):
        page.add(f"- note: {inline(notice, 600)}")
    if view.gates:
        page.table("Gates", GATE_COLUMNS, map(_gate, view.gates_worst_first))
    reserved = page.left // 2 if any(rows.values()) else 0  # for rows, however many metrics there are
    page.left -= reserved
    if view.comparison is not None:
        page.table("Comparison", *compared_table(view.comparison))
        page.list("Conclusions", [*conclusion_lines(view.comparison), *comparison_notes(view.comparison)])
    for name, target in view.targets.items():
        title = f"Metrics of {code(name, 80)}" if len(view.targets) > 1 else "Metrics"
        changes = _changes(view.gates, name)
        page.table(title, _metric_columns(changes), _metric_lines(target.metrics, changes))
        page.add("", inline(usage_line(target), 400))
        page.list("Missing answers", _missing(target.metrics, view.answers_planned))
        page.list("Notes", (inline(note, 400) for note in _notes(target)))
        page.list("Epochs", _epochs(target))
    page.left += reserved
    for name, selected in rows.items():
        if selected:
            of = f" of {code(name, 80)}" if len(view.targets) > 1 else ""
            kind = "Regressions" if selected[0].before is not None else "Worst rows"
            share = page.left // (len(rows) - list(rows).index(name))  # so that the last target gets rows too
            page.rows(f"{kind}{of}", (render_row(row, min(MAX_TEXT, max_bytes // 100)) for row in selected), share)
    return page.text()


class Page:
    """Lines, as long as they fit; those that do not are counted."""

    def __init__(self, max_bytes: int) -> None:
        self.lines: list[str] = []
        self.left = max_bytes - CLOSING_BYTES
        self.dropped = 0

    def add(self, *lines: str) -> bool:
        """Add lines, all or none; returns whether they fit."""
        size = sum(len(line.encode()) + 1 for line in lines)
        if size > self.left:
            self.dropped += 1
            return False
        self.lines.extend(lines)
        self.left -= size
        return True

    def heading(self, text: str) -> bool:
        """Add a heading with blank lines around it; returns whether it fits."""
        return self.add(*([""] if self.lines and self.lines[-1] else []), text, "")

    def table(self, title: str, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        """Add a table under a heading."""
        rule = ["---:" if column in RIGHT else "---" for column in columns]
        if self.heading(f"### {title}") and self.add(_line(columns), _line(rule)):
            for cells in lines:
                self.add(_line(cells))

    def list(self, title: str, items: Iterable[str]) -> None:
        """Add a list under a word in bold, if there is anything in it."""
        lines = list(items)
        if lines and self.heading(f"**{title}**"):
            for item in lines:
                self.add(f"- {item}")

    def rows(self, title: str, rows: Iterable[str], share: int) -> None:
        """Add rows, until their share of the bytes is used up."""
        until = self.left - share
        if self.heading(f"### {title}"):
            for row in rows:
                if self.left - len(row.encode()) - 2 < until or not self.add(row, ""):
                    self.dropped += 1
                    break

    def text(self) -> str:
        """The page, with a last line if something is cut."""
        closing = ["", "_Cut to fit: the run folder has the rest._"] if self.dropped else []
        return "\n".join([*self.lines, *closing]).rstrip("\n") + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _gate(gate: GateResult) -> tuple[str, ...]:
    verdict = verdict_word(gate.verdict)
    return (
        f"**{verdict}**" if gate.blocks and gate.verdict != "pass" else verdict,
        code(gate.gate, 120),
        code(gate.target, 60),
        inline(number(gate.value, beside=(gate.low, gate.high, gate.bound)), 40),
        inline(interval(gate.low, gate.high, beside=(gate.value, gate.bound)), 60),
        inline(f"{gate.bound:,.10g}", 20),
        inline(gate.full_reason, 600),
        str(gate.line or DASH),
    )


def _changes(gates: Sequence[GateResult], target: str) -> dict[tuple[str, str], BaselineResult]:
    """The change of a target's metrics since the baseline, by metric and slice."""
    return {
        (gate.metric, _slice(gate.slice)): gate.baseline
        for gate in gates
        if gate.target == target and gate.baseline is not None and gate.baseline.drop is not None
    }


def _metric_columns(changes: Mapping[tuple[str, str], BaselineResult]) -> tuple[str, ...]:
    baseline = ("vs baseline",) if changes else ()
    return ("metric", "value", "95% CI", *baseline, "scored", "skipped", "unscored", "errors")


def _metric_lines(
    metrics: Sequence[Metric], changes: Mapping[tuple[str, str], BaselineResult]
) -> Iterator[tuple[str, ...]]:
    """A line for each metric, the whole dataset before its slices."""
    for metric in sorted(metrics, key=lambda metric: metric.slice is not None):
        if metric.scorer in ALWAYS:
            continue
        change = changes.get((metric.name, _slice(metric.slice)))
        counts = [f"{count:,}" for count in (metric.skipped, metric.unscored, metric.errors)]
        value = number(metric.value, metric.unit, beside=(metric.low, metric.high))
        yield (
            code(label(metric) + _slice(metric.slice), 160),
            inline(value, 40) + (" (untrusted)" if is_marked(metric) else ""),
            inline(interval(metric.low, metric.high, beside=(metric.value,)), 60),
            *([_change(change)] if changes else []),
            inline(scored_count(metric), 60),
            *counts,
        )
        if (other := (metric.detail or {}).get("other_reading")) is not None:
            samples = counted(other["n"], "sample")
            yield (
                other_reading(other),
                inline(number(other["value"]), 40),
                "",
                *[""] * bool(changes),
                samples,
                "",
                "",
                "",
            )


def _slice(values: Mapping[str, str] | None) -> str:
    return "" if not values else f"[{', '.join(f'{name}={value}' for name, value in values.items())}]"


def _change(change: BaselineResult | None) -> str:
    """`0.032 worse than main (0.847), n=200`, or a dash."""
    if change is None or change.drop is None:
        return DASH
    direction = "worse than" if change.drop > 0 else "better than" if change.drop < 0 else "as"
    size = "" if change.drop == 0 else f"{number(abs(change.drop))} "
    return inline(f"{size}{direction} {change.name} ({number(change.value)}), n={change.n:,}", 120)


def _missing(metrics: Sequence[Metric], planned: int) -> Iterator[str]:
    """The scorers that lack scores, with the most common reasons in full."""
    for metric, text in missing_texts(metrics, planned):
        reasons = (metric.detail or {}).get("reasons") or {}
        by_count = sorted(reasons.items(), key=lambda item: -item[1])
        more = f" and {len(by_count) - 5} other reasons" if len(by_count) > 5 else ""
        listed = ", ".join(f"{count:,} × {inline(str(reason), 200)}" for reason, count in by_count[:5])
        yield f"{code(metric.scorer, 80)}: {inline(text, 400)}{f': {listed}{more}' if listed else ''}"


def _notes(target: TargetView) -> Iterator[str]:
    """What the table cannot show of its intervals."""
    yield from interval_notes(target)
    shown = [metric for metric in target.metrics if metric.slice is not None and metric.scorer not in ALWAYS]
    if (intervals := sum(metric.low is not None or metric.high is not None for metric in shown)) > 1:
        yield f"slices: {side_by_side(intervals)}"


def _epochs(target: TargetView) -> Iterator[str]:
    """How the scores of each scorer vary between epochs, and what more calls would gain."""
    for split in target.epochs:
        if split.between + split.within > 0:
            yield f"{code(split.scorer, 60)}: {inline(split_text(split), 300)}; {next_calls_text(split)}"


def compared_table(comparison: Comparison) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """The columns of targets × metrics and a line for each target; the best in bold where that is significant."""
    metrics = list(comparison.metrics[:MAX_METRICS]) + [cost for cost in comparison.costs if cost.name in COSTS]
    columns = ["target", *(inline(metric.name, 60) for metric in metrics)]
    lines = [(code(item.name, 60), *(_cell(metric, item.name) for metric in metrics)) for item in comparison.candidates]
    return columns, lines


def conclusion_lines(comparison: Comparison) -> Iterator[str]:
    """For each metric the order with its signs, then what its pairs show; then cost and Pareto-optimality."""
    from evalrunner.reports.comparison import pareto_lines
    from evalrunner.reports.conclusions import conclusions_of, cost_conclusion

    for metric in comparison.metrics:
        ranking = metric.ranking
        if ranking is None:
            continue
        parts = [code(ranking.order[0], 60)]
        for sign, name in zip(ranking.signs, ranking.order[1:], strict=True):
            parts += ["&gt;" if sign == ">" else sign, code(name, 60)]
        sentences = [inline(line, 600) for line in conclusions_of(comparison, metric)]
        yield " ".join([f"{inline(metric.name, 60)}: {' '.join(parts)}.", *sentences])
    cost = cost_conclusion(comparison)
    if cost is not None:
        yield f"cost: {inline(cost, 300)}"
    yield from (inline(line, 600) for line in pareto_lines(comparison))


def comparison_notes(comparison: Comparison) -> Iterator[str]:
    """The warnings of a comparison, then how to read it."""
    from evalrunner.reports.comparison import reading_notes

    yield from (f"warning: {inline(text, 400)}" for text in comparison.warnings)
    yield from (inline(text, 400) for text in reading_notes(comparison))


def _cell(metric: ComparedMetric, name: str) -> str:
    """`0.742 0.718–0.766 ab`, with the counts where answers have no score."""
    from evalrunner.reports.comparison import amount, missing_counts

    value, ranking = metric.values.get(name), metric.ranking
    if value is None or value.value is None:
        return DASH
    if ranking is None:
        return inline(amount(value.value, metric.unit), 40)
    ends = "" if value.low is None and value.high is None else f" {interval(value.low, value.high)}"
    text = inline(f"{number(value.value)}{ends}", 40)
    text = f"**{text}**" if ranking.best == name else text
    return " ".join(filter(None, [text, ranking.letters.get(name, ""), inline(missing_counts(value), 60)]))


def render_row(selected: NotableRow, limit: int) -> str:
    """The row as one `<details>`, each of its texts cut to `limit` characters."""
    row = selected.row
    epoch = f" epoch {row.epoch}" if row.epoch > 1 else ""
    scores = " · ".join(_score(name, cell, selected.before) for name, cell in row.cells.items())
    texts = "".join(f"<b>{title}</b>{block(text, limit)}" for title, text in _texts(selected))
    reasons = "".join(f"<b>reason</b> {code(name, 60)}{block(text, MAX_REASON)}" for name, text in _reasons(row))
    checks = _failing(row)
    return f"<details><summary>{code(row.sample.id, 60)}{epoch} · {scores}</summary>{checks}{texts}{reasons}</details>"


def _failing(row: Row) -> str:
    """The checks that a row fails, with their reasons, as one block; nothing where it fails none."""
    failing = failing_checks(row)
    lines = [f"{FAILED} {check_line(check, why=MAX_REASON // 4)}" for check in failing[:MAX_CHECKS]]
    if len(failing) > MAX_CHECKS:
        lines.append(f"{len(failing) - MAX_CHECKS} more in the report")
    return f"<b>failing checks</b>{block(chr(10).join(lines), MAX_CHECKS * MAX_REASON)}" if lines else ""


def _score(name: str, cell: Cell, before: BaselineScores | None) -> str:
    value = number(cell.value) if cell.state == "scored" else cell.state
    previous = before.scores.get(name) if before is not None else None
    return f"{code(name, 60)} {value}" + (f" (was {number(previous)})" if previous is not None else "")


def _texts(selected: NotableRow) -> Iterator[tuple[str, str]]:
    sample, answer = selected.row.sample, selected.row.answer
    yield "input", plain_text(sample.input)
    if sample.expected:
        yield "expected", "\n".join(sample.expected)
    if selected.before is not None and selected.before.output is not None:
        yield "baseline output", selected.before.output
    if isinstance(answer, Completion):
        yield "output" if answer.finish_reason == "stop" else f"output ({answer.finish_reason})", answer.text
        if answer.tool_calls:
            yield "tool calls", tool_calls_text(answer.tool_calls)
    else:
        yield "no output", str(answer)


def _reasons(row: Row) -> Iterator[tuple[str, str]]:
    """The reasons that scorers gave."""
    for name, cell in row.cells.items():
        reason = cell.message or (cell.detail or {}).get("explanation")
        if reason:
            yield name, str(reason)


def inline(text: str, limit: int) -> str:
    """`text` on one line for a paragraph or a cell of a table, cut to `limit` characters."""
    line = " ".join(UNSAFE.sub(" ", HIDDEN.sub("", _cut(text, limit))).split())
    return AUTOLINKED.sub(ZERO_WIDTH_SPACE, _escaped(line))


def code(text: str, limit: int) -> str:
    """`text` on one line as code, cut to `limit` characters; a dash where there is nothing to show."""
    line = inline(text, limit)
    return f"<code>{line}</code>" if line else DASH


def block(text: str, limit: int) -> str:
    """`text` with its line breaks as `<pre>`, on one line, for inside an element of HTML; cut to `limit` characters."""
    lines = [UNSAFE.sub("", HIDDEN.sub("", line.replace("\t", "    "))) for line in LINE_END.split(_cut(text, limit))]
    content = "&#10;".join(_escaped(line) for line in lines)
    return f"<pre>{content}</pre>"


def _escaped(text: str) -> str:
    text = text.translate(REFERENCES)
    for mark, place in UNESCAPED.items():
        text = place.sub(mark, text)
    return text


def _cut(text: str, limit: int) -> str:
    """The first `limit` characters without keys; an ellipsis says that there are more."""
    start = redact_start(text, limit)
    return start if len(text) <= limit else start + "…"
