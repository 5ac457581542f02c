"""GitHub Actions: annotations on the lines of a suite, and the summary of a step."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from evalrunner.domain import GateResult, Row
from evalrunner.errors import Problem, RunError
from evalrunner.formatting import one_line
from evalrunner.reports.markdown import SUMMARY_BYTES, SummaryRows
from evalrunner.reports.missing import missing_lines
from evalrunner.reports.view import RunView, gate_sentence
from evalrunner.verdicts import VERDICTS, WORST_FIRST

MAX_ANNOTATIONS = 10  # annotations of one kind that GitHub shows of a step
STEP_BYTES = 1024 * 1024  # a step's summary that is larger is dropped as a whole
RESERVED_BYTES = 16 * 1024  # bytes of it that are left to whatever else the step writes
MIN_SUMMARY_BYTES = 2_000  # bytes below which a summary says too little
MAX_MESSAGE = 600
LOCATION = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")

Kind: TypeAlias = Literal["error", "warning", "notice"]
KINDS: tuple[Kind, ...] = ("error", "warning", "notice")


def workspace_of(environ: Mapping[str, str]) -> Path | None:
    """The folder that GitHub's paths are relative to, or None outside GitHub Actions."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return None
    return Path(environ.get("GITHUB_WORKSPACE") or ".")


def gate_annotations(views: Sequence[RunView], workspace: Path) -> Iterator[str]:
    """Workflow commands for the gates of runs and for answers without a score, at most ten of a kind.

    The worst come first; the last says how many more there are.
    """
    by_kind: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for view in views:
        if view.stopped:
            title = f"{view.suite} stopped early"
            by_kind["error"].append(command("error", title, view.stopped, file=_relative(view.suite_file, workspace)))
    for view, gate in _worst_first(views):
        kind = kind_of(gate)
        if kind is not None:
            title = f"{view.suite}: {gate.verdict.replace('_', ' ')}"
            file = _relative(view.suite_file, workspace)
            by_kind[kind].append(command(kind, title, gate_sentence(gate, view), file=file, line=gate.line))
    for view in views:
        title, file = f"{view.suite}: answers without a score", _relative(view.suite_file, workspace)
        for name, target in view.targets.items():
            if text := "; ".join(missing_lines(target.metrics, view.answers_planned)):
                of = f"{name}: " if len(view.targets) > 1 else ""
                by_kind["notice"].append(command("notice", title, of + text, file=file))
    for kind, lines in by_kind.items():
        yield from _at_most(kind, lines)


def problem_annotations(problems: Sequence[Problem], workspace: Path) -> Iterator[str]:
    """Workflow commands for the problems of suites, at most ten."""
    lines = []
    for problem in problems:
        location = LOCATION.fullmatch(problem.where)
        named = Path(location["file"] if location else problem.where)
        file = _relative(named, workspace) if named.is_file() else None
        message = ": ".join(part for part in (problem.key, problem.message) if part)
        lines.append(command("error", "suite", message, file=file, line=int(location["line"]) if location else None))
    yield from _at_most("error", lines)


def kind_of(gate: GateResult) -> Kind | None:
    """The kind of a gate's annotation: an error if it fails the run; None if it needs none."""
    if gate.verdict == "pass":
        return None
    return "error" if gate.blocks else VERDICTS[gate.verdict].severity


def command(kind: Kind, title: str, message: str, *, file: str | None = None, line: int | None = None) -> str:
    """`::error file=…,line=…,title=…::…`, escaped as GitHub's runner reads it back."""
    properties = {
        "file": file,
        "line": None if line is None or file is None else str(line),
        "title": one_line(title, 120),
    }
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value is not None)
    return f"::{kind} {listed}::{_data(one_line(message, MAX_MESSAGE))}"


class StepSummaryReporter:
    """Appends the summary of a run to that of GitHub's step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        self.rows = SummaryRows(run)

    def on_row(self, row: Row, /) -> None:
        self.rows.add(row)

    def on_end(self, run: RunView, /) -> None:
        room = room_for_summary(self.path)
        if room < MIN_SUMMARY_BYTES:
            raise RunError("the step summary is full; the summary of this run is in its folder")
        add_to_summary(self.path, self.rows.markdown(run, min(SUMMARY_BYTES, room)))


def room_for_summary(path: Path) -> int:
    """Bytes that one more run may add to the summary of a step: half of what is left, as other runs may follow."""
    taken = path.stat().st_size if path.exists() else 0
    return (STEP_BYTES - RESERVED_BYTES - taken) // 2


def add_to_summary(path: Path, text: str) -> None:
    """Append to the summary of the step, a file that other programs write to as well. Raises OSError."""
    with path.open("ab") as file:
        file.write(text.encode("utf-8") + b"\n")


def _worst_first(views: Sequence[RunView]) -> Iterator[tuple[RunView, GateResult]]:
    for verdict in WORST_FIRST:
        for view in views:
            for gate in view.gates_worst_first:
                if gate.verdict == verdict != "pass":
                    yield view, gate


def _at_most(kind: Kind, lines: Sequence[str]) -> Iterator[str]:
    if len(lines) <= MAX_ANNOTATIONS:
        yield from lines
        return
    yield from lines[: MAX_ANNOTATIONS - 1]
    more = len(lines) - MAX_ANNOTATIONS + 1
    yield command(kind, "evalrun", f"and {more} more; the log and the summary list all")


def _relative(path: Path | None, workspace: Path) -> str | None:
    """The path as GitHub names files, or None for one outside of the checkout."""
    if path is None:
        return None
    relative = os.path.relpath(path.resolve(), workspace.resolve())
    return None if relative.startswith("..") else Path(relative).as_posix()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
