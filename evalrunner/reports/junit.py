"""`junit.xml`: a test suite for each target with a case for every row, and one for the gates.

A row is an *error* where its call or one of its scorers failed, a *failure* where a score is on the bad half of its
range, *skipped* where a scorer gave no score, or none of them applies; else it passed. A gate that failed is a
failure, one that cannot be trusted an error, one that decides nothing is skipped unless it blocks.

Rows arrive in any order, so their cases go to a temporary file as they come, and are put in order at the end.
"""

from __future__ import annotations

import html
import re
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import IO

from evalrunner.domain import Completion, Failure, GateResult, Row
from evalrunner.formatting import number
from evalrunner.redact import redact
from evalrunner.reports.csv import plain_text
from evalrunner.reports.markdown_escaping import LONGEST_KEY
from evalrunner.reports.view import RunView, gate_sentence
from evalrunner.reports.worst_rows import missed
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.measures import Measure
from evalrunner.verdicts import FAILED, VERDICTS

LONGEST_TEXT = 500  # characters of an input or output: CI systems keep cases for ever, and refuse files of 30 MB
LONGEST_NAME = 200
FORBIDDEN = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2
STEER = re.compile(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # allowed, but no good in a page or a terminal
RESULTS = ("failure", "error", "skipped")


@dataclass(slots=True)
class Counts:
    """How the cases of a test suite ended, and seconds that they took."""

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


@dataclass(slots=True)
class JUnitWriter:
    """Takes rows in any order and writes `junit.xml` when it is finished."""

    folder: Path
    suite: str
    measures: Sequence[Measure]
    targets: Sequence[str]
    counts: dict[str, Counts] = field(init=False)
    places: dict[str, list[tuple[int, int, int]]] = field(init=False)
    offsets: array[int] = field(init=False)
    file: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = {name: Counts() for name in self.targets}
        self.places = {name: [] for name in self.targets}
        self.offsets = array("q", [0])
        self.file = tempfile.TemporaryFile(dir=self.folder, prefix=".junit.")  # noqa: SIM115  lives with the run

    def add(self, row: Row) -> None:
        """Take one row."""
        result, message, kind = row_result(row, self.measures)
        time_s = row.answer.latency_s or 0.0 if isinstance(row.answer, Completion) else 0.0
        name = row.sample.id if row.epoch == 1 else f"{row.sample.id} (epoch {row.epoch})"
        body = _texts(row) if result in ("failure", "error") else ""
        case = _case(f"{self.suite}.{row.target}", name, time_s, _result(result, message, kind, body))
        encoded = case.encode()
        self.file.write(encoded)
        self.counts[row.target].add(result, time_s)
        self.places[row.target].append((row.sample.index, row.epoch, len(self.offsets) - 1))
        self.offsets.append(self.offsets[-1] + len(encoded))

    def finish(self, view: RunView, path: Path) -> None:
        """Write the file, under a temporary name, and rename it. Raises OSError."""
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as out:
                for piece in self._pieces(view):
                    out.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
            self.file.close()

    def _pieces(self, view: RunView) -> Iterator[bytes]:
        gates = Counts()
        cases = [_gate_case(self.suite, gate, view, gates) for gate in view.gates]
        every = [*self.counts.values(), gates]
        totals = Counts(*(sum(getattr(counts, name) for counts in every) for name in ("tests", *RESULTS)))
        yield b"<?xml version='1.0' encoding='UTF-8'?>\n"
        totals.time_s = view.duration_s
        yield f"<testsuites name={_attribute(self.suite)} {_numbers(totals)}>\n".encode()
        stamp = view.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        for target in self.targets:
            yield _head(f"{self.suite}.{target}", self.counts[target], stamp)
            for _, _, place in sorted(self.places[target]):
                self.file.seek(self.offsets[place])
                yield self.file.read(self.offsets[place + 1] - self.offsets[place])
            yield b"  </testsuite>\n"
        if cases:
            yield _head(f"{self.suite}.gates", gates, stamp)
            yield from (case.encode() for case in cases)
            yield b"  </testsuite>\n"
        yield b"</testsuites>\n"


def write_junit(folder: RunFolder, view: RunView, path: Path) -> None:
    """Write `junit.xml` of a stored run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = JUnitWriter(path.parent, view.suite, view.measures, list(view.targets))
    for row in read_rows(folder.path):
        writer.add(row)
    writer.finish(view, path)


def row_result(row: Row, measures: Sequence[Measure]) -> tuple[str | None, str, str]:
    """How a row ended: `error`, `failure`, `skipped` or None for a pass, the message, and its type."""
    if isinstance(row.answer, Failure):
        return "error", row.answer.message, row.answer.kind
    cells = [(measure, row.cells[measure.name]) for measure in measures]
    for measure, cell in cells:
        if cell.state == "error":
            return "error", f"{measure.name}: {cell.message}", "scorer"
    misses = [f"{measure.name} is {number(cell.value)}" for measure, cell in cells if missed(cell, measure)]
    if misses:
        return "failure", ", ".join(misses), "quality"
    without = [f"{measure.name}: {cell.message or cell.state}" for measure, cell in cells if cell.state == "unscored"]
    if without:
        return "skipped", "; ".join(without), "unscored"
    if not any(cell.state == "scored" for _, cell in cells):
        return "skipped", "no scorer applies", "skipped"
    return None, "", ""


def gate_result(gate: GateResult) -> str | None:
    """How a gate ended as a case."""
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
    body = f"{gate_sentence(gate, view)}{line}"
    name = gate.gate if len(view.targets) == 1 else f"{gate.gate} ({gate.target})"
    return _case(f"{suite}.gates", name, 0.0, _result(result, gate.reason, gate.verdict, body))


def _head(name: str, counts: Counts, stamp: str) -> bytes:
    said = f'{_numbers(counts)} skipped="{counts.skipped}" timestamp="{stamp}"'
    return f"  <testsuite name={_attribute(name)} {said}>\n".encode()


def _numbers(counts: Counts) -> str:
    ended = f'tests="{counts.tests}" failures="{counts.failure}" errors="{counts.error}"'
    return f'{ended} time="{counts.time_s:.3f}"'


def _case(classname: str, name: str, time_s: float, inside: str) -> str:
    said = f'classname={_attribute(classname)} name={_attribute(name)} time="{time_s:.3f}"'
    return f"    <testcase {said}>{inside}</testcase>\n" if inside else f"    <testcase {said}/>\n"


def _result(result: str | None, message: str, kind: str, body: str) -> str:
    if result is None:
        return ""
    if result == "skipped":
        return f"<skipped message={_attribute(message)}/>"
    return f"<{result} message={_attribute(message)} type={_attribute(kind)}>{html.escape(_cut(body, 4_000), quote=False)}</{result}>"


def _texts(row: Row) -> str:
    answer = row.answer
    output = answer.text if isinstance(answer, Completion) else str(answer)
    texts = {"input": plain_text(row.sample.input), "expected": " | ".join(row.sample.expected), "output": output}
    return "\n".join(f"{name}: {_cut(text, LONGEST_TEXT)}" for name, text in texts.items() if text)


def _attribute(text: str) -> str:
    return f'"{html.escape(" ".join(_cut(text, LONGEST_NAME).split()))}"'


def _cut(text: str, limit: int) -> str:
    """The first `limit` characters that XML and a terminal may see, without keys."""
    shown = STEER.sub("", FORBIDDEN.sub("", redact(text[: limit + LONGEST_KEY])[:limit]))
    return shown if len(text) <= limit else shown + "…"
