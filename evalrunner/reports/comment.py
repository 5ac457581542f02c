"""The comment on a pull request: the verdicts of runs, changed rows and cost, short enough for GitHub and GitLab.

Totals come first, then suites, worst verdict first; details follow until the allowed size is used up.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalrunner.domain import Completion, GateResult, Row
from evalrunner.formatting import DASH, counted, duration, interval, money, number, plain_text
from evalrunner.reports.checks import failing_text
from evalrunner.reports.markdown import MARKS, Page, code, conclusion_lines, inline
from evalrunner.reports.verdict_sentence import sentence
from evalrunner.reports.view import DONE, NOT_FINISHED, RunView, verdict_word
from evalrunner.reports.worst_rows import BaselineLookup, BaselineScores, WorstRows
from evalrunner.verdicts import PRECEDENCE, UNTRUSTED

if TYPE_CHECKING:
    from evalrunner.compare.result import ComparedMetric, Comparison

COMMENT_BYTES = 60 * 1024  # GitHub refuses comments over 65,536 characters
ROWS_SHOWN = 10
GATES_SHOWN = 12
METRICS_SHOWN = 4
MAX_START = 80  # characters of a text in a row
MAX_SCORES = 8  # of a row
MAX_CHECKS = 400  # characters of its failing checks
OUTCOMES = {
    "PASS": "passed",
    "FAIL": "failed",
    "UNTRUSTED": "is untrusted",
    "INCONCLUSIVE": "is inconclusive",
    "NO BASELINE": "has no baseline",
    "INTERRUPTED": "was interrupted",
    DONE: "has no verdict",
    NOT_FINISHED: "did not finish",
}
Changed = tuple[float, int, int, Row, BaselineScores]


@dataclass(slots=True)
class ChangedRows:
    """The rows of a run that differ from its baseline: how many got worse or better, and those that lost most.

    Without a baseline these are the rows with the lowest scores.
    """

    run: RunView
    compared: bool = False
    worse: int = 0
    better: int = 0
    lowest: WorstRows = field(init=False)
    _find: BaselineLookup | None = field(init=False)
    _heap: list[Changed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lowest = WorstRows(self.run.measures, keep=ROWS_SHOWN)
        self._find = self.run.find_baseline()

    def on_start(self, run: RunView, /) -> None:
        """Nothing: the run is known already."""

    def on_row(self, row: Row, /) -> None:
        """Look at one row."""
        self.lowest.add(row)
        before = self._find(row) if self._find is not None else None
        if before is None:
            return
        self.compared = True
        drop = mean_drop(row, before, self.run)
        self.worse += drop > 0
        self.better += drop < 0
        if drop > 0:
            item = (drop, -row.sample.index, -row.epoch, row, before)
            if len(self._heap) < ROWS_SHOWN:
                heapq.heappush(self._heap, item)
            elif item[:3] > self._heap[0][:3]:
                heapq.heapreplace(self._heap, item)

    def on_end(self, run: RunView, /) -> None:
        """Nothing: the comment is written for all runs at once."""

    def changed(self) -> list[tuple[Row, BaselineScores]]:
        """The rows that lost most, the largest loss first."""
        return [item[3:] for item in sorted(self._heap, key=lambda item: item[:3], reverse=True)]


def mean_drop(row: Row, before: BaselineScores, run: RunView) -> float:
    """The mean drop of a row's scores as a share of their range, negative for gains; 0 without a common score."""
    drops: list[float] = []
    for measure in run.measures:
        previous, value, declared = before.scores.get(measure.name), row.cells[measure.name].value, measure.declaration
        if previous is None or value is None or declared.low is None or declared.high is None:
            continue
        drop = (previous - value) / ((declared.high - declared.low) or 1)
        drops.append(drop if declared.higher_is_better else -drop)
    return sum(drops) / len(drops) if drops else 0.0


def render_comment(runs: Sequence[ChangedRows], *, max_bytes: int = COMMENT_BYTES, link: str | None = None) -> str:
    """The comment for runs, of at most `max_bytes` bytes of UTF-8. `link` is the address of the run folders, if they have one."""
    runs = sorted(runs, key=lambda each: PRECEDENCE.index(_code(each.run)))
    page = Page(max_bytes)
    footer = _footer(runs, link)
    page.left -= len(footer.encode()) + 2
    if len(runs) == 1:
        page.add(f"### {_title(runs[0].run)}", "")
    else:
        _overview(page, runs)
    for each in runs:
        _section(page, each, alone=len(runs) == 1)
    page.left += len(footer.encode()) + 2
    page.add(footer)
    return page.text()


def _code(run: RunView) -> int:
    return UNTRUSTED if run.exit_code is None else run.exit_code


def _title(run: RunView) -> str:
    return f"{MARKS.get(run.word, '⚠️')} evalrun: {inline(run.suite, 80)} {OUTCOMES.get(run.word, run.word.lower())}"


def _overview(page: Page, runs: Sequence[ChangedRows]) -> None:
    """The heading of several suites and a line for each."""
    words = [each.run.word for each in runs]
    bad = [word for word in words if MARKS.get(word) != "✅"]
    state = f"{len(bad)} of {len(runs)} suites did not pass" if bad else f"all {len(runs)} suites passed"
    page.add(f"### {MARKS.get(words[0], '⚠️')} evalrun: {state}", "")
    page.add("| suite | result | samples | cost |", "| --- | --- | ---: | ---: |")
    for each in runs:
        run = each.run
        result = f"{MARKS.get(run.word, '⚠️')} {run.word.lower()}"
        page.add(f"| {inline(run.suite, 80)} | {result} | {_samples(run)} | {_cost([run])} |")
    page.add("")


def _section(page: Page, each: ChangedRows, *, alone: bool) -> None:
    """The details of one run: why, gates, leaderboard, changed rows. Suites that passed are folded up."""
    run = each.run
    lines: list[str] = []
    if run.word != "PASS" or alone:
        lines += [inline(sentence(run), 600), ""]
    lines += _gates(run)
    if run.comparison is not None:
        lines += [*_leaderboard(run.comparison), ""]
        lines += [*(f"- {line}" for line in list(conclusion_lines(run.comparison))[:6]), ""]
    elif not run.gates:
        lines += [*_headlines(run), ""]
    folded = not alone and MARKS.get(run.word) == "✅"
    if folded:
        lines = [f"<details><summary>{_title(run)}</summary>", "", *lines, "</details>", ""]
    elif not alone:
        lines = [f"#### {_title(run)}", "", *lines]
    for notice in () if folded else run.notices[:5]:
        lines.append(f"- note: {inline(notice, 300)}")
    page.add(*_without_double_blanks(lines))
    if not folded:
        _rows(page, each)


def _without_double_blanks(lines: Sequence[str]) -> list[str]:
    """The lines with single blank lines between them and one at the end."""
    single = [line for place, line in enumerate(lines) if line or (place and lines[place - 1])]
    return single if single and not single[-1] else [*single, ""]


def _gates(run: RunView) -> list[str]:
    if not run.gates:
        return []
    several = len(run.targets) > 1
    gates = run.gates_worst_first
    cells = [_gate(gate, several) for gate in gates[:GATES_SHOWN]]
    more = len(gates) - GATES_SHOWN
    lines = _table(("gate", *(["target"] if several else []), "value", "verdict"), cells)
    if more > 0:
        lines += ["", f"{counted(more, 'more gate')} in the report."]
    others = [gate for gate in gates[1:] if gate.verdict != "pass"][:5]  # the reason of the first is above the table
    return [*lines, "", *(f"- {inline(f'{gate.gate}: {gate.full_reason}', 400)}" for gate in others), ""]


def _gate(gate: GateResult, several: bool) -> tuple[str, ...]:
    mark = MARKS.get(verdict_word(gate.verdict), "⚠️")
    before = gate.baseline
    value = inline(number(gate.value, beside=(gate.low, gate.high, gate.bound)), 40)
    if before is not None and before.value is not None:
        value = f"{number(before.value)} → {value}"
    elif gate.low is not None or gate.high is not None:
        value += f" (95% CI {interval(gate.low, gate.high, beside=(gate.value, gate.bound))})"
    target = (code(gate.target, 60),) if several else ()
    return (code(gate.gate, 120), *target, value, f"{mark} {verdict_word(gate.verdict).lower()}")


def _leaderboard(comparison: Comparison) -> list[str]:
    """Targets in the order of the first metric: quality with its CI, p50, cost of 1,000 answers, missing scores."""
    from evalrunner.reports.metric_tables import cost_columns, missing_columns, ranked, screen_names

    order = ranked(comparison)
    metrics = comparison.metrics[:METRICS_SHOWN]
    names = screen_names(metric.name for metric in comparison.metrics)
    columns = [(inline(names[metric.name], 60), [_quality(metric, name) for name in order]) for metric in metrics]
    for column in (*cost_columns(comparison, order), *missing_columns(comparison, order)):
        columns.append((column.head, [str(cell).strip() for cell in column.cells]))
    rows = zip([code(name, 60) for name in order], *(cells for _, cells in columns), strict=True)
    return _table(("target", *(head for head, _ in columns)), rows)


def _quality(metric: ComparedMetric, name: str) -> str:
    """`0.742 (0.718–0.766)`, in bold if it is significantly better than all others."""
    value = metric.values.get(name)
    if value is None or value.value is None:
        return DASH
    ends = (
        ""
        if value.low is None and value.high is None
        else f" ({interval(value.low, value.high, beside=(value.value,))})"
    )
    text = f"{number(value.value, metric.unit, beside=(value.low, value.high))}{ends}"
    return f"**{text}**" if metric.ranking is not None and metric.ranking.best == name else text


def _headlines(run: RunView) -> list[str]:
    """The metrics of a run without gates, without slices."""
    cells = []
    for target in run.targets.values():
        for metric in target.metrics:
            if metric.slice is None and any(metric.scorer == measure.name for measure in run.measures):
                value = number(metric.value, metric.unit, beside=(metric.low, metric.high))
                cells.append((code(metric.name, 120), value, interval(metric.low, metric.high, beside=(metric.value,))))
    return _table(("metric", "value", "95% CI"), cells[:GATES_SHOWN])


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [columns, ["---"] * len(columns), *lines]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _rows(page: Page, each: ChangedRows) -> None:
    """The rows that got worse, or without a baseline those with the lowest scores, as a folded table within the budget."""
    columns: Sequence[str]
    if each.compared:
        changed = each.changed()
        title = f"{counted(each.worse, 'row')} got worse, {each.better:,} got better than the baseline"
        columns, cells = ("sample", "input", "was", "now"), [_change(row, before) for row, before in changed]
    else:
        lowest = [row for name in each.run.targets for row in each.lowest.of(name)][:ROWS_SHOWN]
        title = "lowest scores"
        columns, cells = ("sample", "input", "expected", "output", "scores"), [_low(row) for row in lowest]
    if not cells:
        if each.compared:
            page.add(f"{title}.", "")
        return
    if each.compared and len(cells) < each.worse:
        title += f"; {len(cells)} shown"
    several = len(each.run.targets) > 1
    if several:
        columns = ("target", *columns)
        rows = [row for row, _ in each.changed()] if each.compared else lowest
        cells = [(code(row.target, 40), *cell) for row, cell in zip(rows, cells, strict=True)]
    for count in (len(cells), 3):  # all of them or, in little room, a few
        if page.add(f"<details><summary>{title}</summary>", "", *_table(columns, cells[:count]), "", "</details>", ""):
            return


def _change(row: Row, before: BaselineScores) -> tuple[str, ...]:
    scores = {name: (before.scores[name], cell.value) for name, cell in row.cells.items() if name in before.scores}
    was, now = (
        _scores({name: old for name, (old, _) in scores.items()}),
        _scores({name: new for name, (_, new) in scores.items()}),
    )
    if before.output is not None:
        was = f"{_start(before.output)}<br>{was}"
    now = "<br>".join(filter(None, [_output(row), now, inline(failing_text(row), MAX_CHECKS)]))
    return code(row.sample.id, 40), _start(plain_text(row.sample.input)), was, now


def _low(row: Row) -> tuple[str, ...]:
    scores = _scores({name: cell.value for name, cell in row.cells.items()})
    scores = "<br>".join(filter(None, [scores, inline(failing_text(row), MAX_CHECKS)]))
    expected = _start(" | ".join(row.sample.expected))
    return code(row.sample.id, 40), _start(plain_text(row.sample.input)), expected, _output(row), scores


def _scores(values: Mapping[str, float | None]) -> str:
    parts = [f"{inline(name, 40)} {number(value)}" for name, value in values.items()]
    more = len(parts) - MAX_SCORES
    return ", ".join([*parts[:MAX_SCORES], *([f"{more} more"] if more > 0 else [])])


def _output(row: Row) -> str:
    return _start(row.answer.text if isinstance(row.answer, Completion) else str(row.answer))


def _start(text: str) -> str:
    return inline(text, MAX_START) or DASH


def _footer(runs: Sequence[ChangedRows], link: str | None) -> str:
    """`300 samples · $0.019 · 9.6 s · run 2026… · [report](…)`."""
    views = [each.run for each in runs]
    parts = [_cost(views), duration(sum(view.duration_s for view in views))]
    if len(views) == 1:
        parts = [_samples(views[0]), *parts, f"run {inline(views[0].run_id, 60)}"]
    if link is not None:
        parts.append(f"[reports and answers]({_address(link)})")
    return " · ".join(parts)


def _samples(run: RunView) -> str:
    epochs = run.record.epochs if run.record is not None else 1
    samples = counted(run.answers_planned // max(1, epochs), "sample")
    return samples if run.rows == run.rows_planned else f"{run.rows:,} of {counted(run.rows_planned, 'row')}"


def _cost(runs: Sequence[RunView]) -> str:
    usages = [target.usage for run in runs for target in run.targets.values()]
    usages += [judge.usage for run in runs for judge in run.judges]
    known = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
    if not known:
        return "cost unknown" if any(usage.calls for usage in usages) else "no calls"
    more = " and calls without a known price" if any(usage.unpriced_calls for usage in usages) else ""
    return f"{money(sum(known))}{more}"


def _address(link: str) -> str:
    """An address for a Markdown link; what could end the link is percent-encoded."""
    from urllib.parse import quote

    return quote(link, safe=":/?#[]@!$&'*+,;=%-._~")
