"""`junit.xml`: a test suite with a case for every gate; with rows also one for each target with a case for every row.

A run without gates has one case, which fails if it stopped early. A row is an *error* where its call or one of its
scorers failed, a *failure* where a score is on the bad half of its range, *skipped* where a scorer gave no score, or
none of them applies; else it passed. A gate that failed is a failure, one that cannot be trusted an error, one that
decides nothing is skipped unless it blocks.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from evalrunner.domain import Cell, Completion, Failure, GateResult, Row
from evalrunner.formatting import HIDDEN, number, plain_text
from evalrunner.redact import redact_start
from evalrunner.reports.checks import FAILED as FAILED_MARK
from evalrunner.reports.checks import UNJUDGED, check_line, checks_of, row_checks
from evalrunner.reports.csv import SpooledLines
from evalrunner.reports.missing import missing_lines
from evalrunner.reports.view import RunView, gate_sentence
from evalrunner.reports.worst_rows import missed
from evalrunner.stats.summary import Measure
from evalrunner.storage import replacing
from evalrunner.verdicts import FAILED, VERDICTS

MAX_TEXT = 500  # characters of an input or output: CI systems keep cases for ever, and refuse files of 30 MB
MAX_NAME = 200
MAX_START = 60  # characters of the input in the name of a case
FORBIDDEN = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2
LINE_END = re.compile(r"\r\n?")  # which a terminal would take for a way to the start of the line
END_OF_SUITE = b"  </testsuite>\n"
RESULTS = ("failure", "error", "skipped")


@dataclass(slots=True)
class Counts:
    """The results of a test suite and its duration in seconds."""

    tests: int = 0
    failure: int = 0
    error: int = 0
    skipped: int = 0
    time_s: float = 0.0

    def add(self, result: str | None, time_s: float = 0.0) -> None:
        """Count one case; None is a pass."""
        self.tests += 1
        self.time_s += time_s
        if result is not None:
            setattr(self, result, getattr(self, result) + 1)


class JUnitReporter:
    """Writes `.xml`: JUnit, with a test suite for the gates and, with `rows`, one for each target."""

    def __init__(self, path: Path, *, rows: bool = False) -> None:
        self.path, self.rows = path, rows

    def on_start(self, run: RunView, /) -> None:
        self.suite, self.measures, self.targets = run.suite, run.measures, list(run.targets) if self.rows else []
        self.missing: dict[str, list[str]] = {}
        self.counts = {name: Counts() for name in self.targets}
        self.cases = SpooledLines(self.path.parent, self.targets)

    def on_row(self, row: Row, /) -> None:
        if not self.rows:
            return
        result, message, kind = row_result(row, self.measures)
        time_s = row.answer.latency_s or 0.0 if isinstance(row.answer, Completion) else 0.0
        body = _texts(row, self.measures) if result in ("failure", "error") else ""
        case = _case(f"{self.suite}.{row.target}", case_name(row), time_s, _result(result, message, kind, body))
        self.counts[row.target].add(result, time_s)
        self.cases.add(row, case.encode())

    def on_end(self, run: RunView, /) -> None:
        try:
            with replacing(self.path) as part, part.open("wb") as out:
                out.writelines(self._pieces(run))
        finally:
            self.cases.close()

    def _pieces(self, run: RunView) -> Iterator[bytes]:
        planned = run.answers_planned
        self.missing = {name: list(missing_lines(target.metrics, planned)) for name, target in run.targets.items()}
        gates = Counts()
        gate_cases = [_gate_case(self.suite, gate, run, gates) for gate in run.gates] or [_run_case(run, gates)]
        every = [*self.counts.values(), gates]
        totals = Counts(*(sum(getattr(counts, name) for counts in every) for name in ("tests", *RESULTS)))
        yield b"<?xml version='1.0' encoding='UTF-8'?>\n"
        totals.time_s = run.duration_s
        yield f"<testsuites name={_attribute(self.suite)} {_numbers(totals)}>\n".encode()
        stamp = run.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        open_target = -1
        for target, case in self.cases:
            yield from self._heads(open_target, target, stamp)
            open_target = target
            yield case
        yield from self._heads(open_target, len(self.targets), stamp)
        yield _head(f"{self.suite}.gates", gates, stamp)
        yield from (case.encode() for case in gate_cases)
        if not self.rows:  # else beside the rows of each target
            lines = [
                f"{name}: {line}" if len(self.missing) > 1 else line
                for name, each in self.missing.items()
                for line in each
            ]
            yield from _output(lines)
        yield END_OF_SUITE
        yield b"</testsuites>\n"

    def _heads(self, before: int, target: int, stamp: str) -> Iterator[bytes]:
        """The end of one target's suite and the head of the next; targets without a row have an empty one."""
        for place in range(before, target):
            if place >= 0:
                yield from self._missing(self.targets[place])
                yield END_OF_SUITE
            if place + 1 < len(self.targets):
                name = self.targets[place + 1]
                yield _head(f"{self.suite}.{name}", self.counts[name], stamp)

    def _missing(self, target: str) -> Iterator[bytes]:
        """Which scorers of a target lack scores, and why, as output of its suite."""
        yield from _output(self.missing.get(target, ()))


def _output(lines: Sequence[str]) -> Iterator[bytes]:
    if lines:
        text = html.escape("\n".join(_cut(line, MAX_TEXT) for line in lines), quote=False)
        yield f"    <system-out>{text}</system-out>\n".encode()


def case_name(row: Row) -> str:
    """`31d6fad9 (epoch 2) Ticket #1021: which team…`: the id, and the start of the input on one line."""
    epoch = f" (epoch {row.epoch})" if row.epoch > 1 else ""
    start = " ".join(_cut(plain_text(row.sample.input), MAX_START).split())
    return f"{_cut(row.sample.id, MAX_NAME - MAX_START - 20)}{epoch} {start}".rstrip()


def row_result(row: Row, measures: Sequence[Measure]) -> tuple[str | None, str, str]:
    """The result of a row: `error`, `failure`, `skipped` or None for a pass, then the message and its type."""
    if isinstance(row.answer, Failure):
        return "error", row.answer.message, row.answer.kind
    cells = [(measure, row.cells[measure.name]) for measure in measures]
    for measure, cell in cells:
        if cell.state == "error":
            return "error", f"{measure.name}: {cell.message}", "scorer"
    misses = list(_misses(cells))
    if misses:
        return "failure", ", ".join(misses), "quality"
    without = [f"{measure.name}: {cell.message or cell.state}" for measure, cell in cells if cell.state == "unscored"]
    if without:
        return "skipped", "; ".join(without), "unscored"
    if not any(cell.state == "scored" for _, cell in cells):
        return "skipped", "no scorer applies", "skipped"
    return None, "", ""


def _misses(cells: Sequence[tuple[Measure, Cell]]) -> Iterator[str]:
    """`contains is 0.000`; of checks what failed, once: `checks failed: contains: 30 days, refusal_tone`."""
    said: set[str] = set()
    for measure, cell in cells:
        if failing := [check for check in checks_of(cell) if check.decides and check.passed is False]:
            said.update((f"{measure.name}/share", *(check.name for check in checks_of(cell))))
            yield f"{measure.name} failed: {', '.join(check.label for check in failing)}"
        elif missed(cell, measure) and measure.name not in said:
            yield f"{measure.name} is {number(cell.value)}"


def gate_result(gate: GateResult) -> str | None:
    """The result of a gate as a test case."""
    if gate.verdict == "pass":
        return None
    rule = VERDICTS[gate.verdict]
    if rule.exit_code == FAILED:
        return "failure"
    return "error" if gate.blocks or rule.severity == "error" else "skipped"


def _gate_case(suite: str, gate: GateResult, view: RunView, counts: Counts) -> str:
    result = gate_result(gate)
    counts.add(result)
    line = f"\nline {gate.line} of the suite" if gate.line else ""
    body = "\n".join((gate_sentence(gate, view), *gate.details)) + line
    name = gate.gate if len(view.targets) == 1 else f"{gate.gate} ({gate.target})"
    return _case(f"{suite}.gates", name, 0.0, _result(result, gate.reason, gate.verdict, body))


def _run_case(view: RunView, counts: Counts) -> str:
    """The case of a run without gates: CI systems refuse a report without a test."""
    result = "error" if view.stopped else None
    counts.add(result)
    return _case(f"{view.suite}.gates", "the run finished", 0.0, _result(result, view.stopped or "", "stopped", ""))


def _head(name: str, counts: Counts, stamp: str) -> bytes:
    attributes = f'{_numbers(counts)} skipped="{counts.skipped}" timestamp="{stamp}"'
    return f"  <testsuite name={_attribute(name)} {attributes}>\n".encode()


def _numbers(counts: Counts) -> str:
    ended = f'tests="{counts.tests}" failures="{counts.failure}" errors="{counts.error}"'
    return f'{ended} time="{counts.time_s:.3f}"'


def _case(classname: str, name: str, time_s: float, inside: str) -> str:
    attributes = f'classname={_attribute(classname)} name={_attribute(name)} time="{time_s:.3f}"'
    return f"    <testcase {attributes}>{inside}</testcase>\n" if inside else f"    <testcase {attributes}/>\n"


def _result(result: str | None, message: str, kind: str, body: str) -> str:
    if result is None:
        return ""
    if result == "skipped":
        return f"<skipped message={_attribute(message)}/>"
    return f"<{result} message={_attribute(message)} type={_attribute(kind)}>{html.escape(_cut(body, 4_000), quote=False)}</{result}>"


def _texts(row: Row, measures: Sequence[Measure]) -> str:
    """The failing checks with their reasons, a line each, then the texts of the row."""
    checks = [
        f"{FAILED_MARK if check.passed is False else UNJUDGED} {check_line(check, label=MAX_NAME, why=MAX_TEXT)}"
        for check in row_checks(row.cells)
        if check.decides and (check.passed is False or check.is_unjudged)
    ]
    for measure in measures:
        cell = row.cells.get(measure.name)
        if cell is not None and (cell.state == "error" or missed(cell, measure)):
            reason = cell.message or str((cell.detail or {}).get("explanation") or "")
            value = number(cell.value) if cell.state == "scored" else cell.state
            checks.append(f"{measure.name}: {value}{f', {_cut(reason, MAX_TEXT)}' if reason else ''}")
    answer = row.answer
    output = answer.text if isinstance(answer, Completion) else str(answer)
    texts = {"input": plain_text(row.sample.input), "expected": " | ".join(row.sample.expected), "output": output}
    return "\n".join([*checks, *(f"{name}: {_cut(text, MAX_TEXT)}" for name, text in texts.items() if text)])


def _attribute(text: str) -> str:
    return f'"{html.escape(" ".join(_cut(text, MAX_NAME).split()))}"'


def _cut(text: str, limit: int) -> str:
    """The first `limit` characters that are safe in XML and on a terminal, keys redacted."""
    start = HIDDEN.sub("", FORBIDDEN.sub("", LINE_END.sub("\n", redact_start(text, limit))))
    return start if len(text) <= limit else start + "…"
