"""The files that CI shows, `summary.md` and `junit.xml`, gathered while a run's rows go by."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalrunner.domain import Row
from evalrunner.engine.result import RunResult
from evalrunner.errors import RunError
from evalrunner.reports.worst_rows import BaselineLookup, Regressions, ShownRow, WorstRows
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.measures import Measure
from evalrunner.storage import write_text

if TYPE_CHECKING:  # the rest is imported where such files are wanted
    from evalrunner.reports.junit import JUnitWriter
    from evalrunner.reports.view import RunView

SUMMARY_FILE = "summary.md"
JUNIT_FILE = "junit.xml"
SUMMARY_BYTES = 512 * 1024  # GitHub drops the whole of a step's summary above 1,024 KiB, and suites share it
KEPT = 25  # rows of each target
NO = ("", "0", "false")


def in_ci(environ: Mapping[str, str]) -> bool:
    """Whether a CI system runs us: all of them say so by `CI`."""
    return environ.get("CI", "").lower() not in NO or environ.get("GITHUB_ACTIONS") == "true"


class SummaryRows:
    """The rows that a summary shows: those that got worse where there is something to compare with, else the worst."""

    def __init__(self, measures: Sequence[Measure], earlier: BaselineLookup | None) -> None:
        self.worst = WorstRows(measures, keep=KEPT)
        self.fallen = Regressions(measures, earlier, keep=KEPT) if earlier is not None else None

    def add(self, row: Row) -> None:
        """Look at one row."""
        self.worst.add(row)
        if self.fallen is not None:
            self.fallen.add(row)

    def markdown(self, view: RunView, max_bytes: int) -> str:
        """`summary.md` of a run with these rows."""
        from evalrunner.reports.markdown import render_markdown

        rows: dict[str, list[ShownRow]] = {}
        for name in view.targets:
            rows[name] = (self.fallen.shown(name) if self.fallen is not None else []) or self.worst.shown(name)
        return render_markdown(view, rows, max_bytes=max_bytes)


class CiFiles:
    """Takes every row of a run; at its end writes what was asked for by `outputs`, or by being in CI."""

    def __init__(
        self,
        folder: Path,
        measures: Sequence[Measure],
        targets: Sequence[str],
        outputs: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        earlier: BaselineLookup | None = None,
    ) -> None:
        self.environ = os.environ if environ is None else environ
        self.folder = folder
        wanted = {Path(output).suffix.lower() for output in outputs} | (
            {".md", ".xml"} if in_ci(self.environ) else set()
        )
        self.rows = SummaryRows(measures, earlier) if ".md" in wanted else None
        self.junit: JUnitWriter | None = None
        if ".xml" in wanted:
            from evalrunner.reports.junit import JUnitWriter

            self.junit = JUnitWriter(folder, folder.parent.name, measures, targets)

    def add(self, row: Row) -> None:
        """Take one row."""
        if self.rows is not None:
            self.rows.add(row)
        if self.junit is not None:
            self.junit.add(row)

    def finish(self, result: RunResult) -> RunResult:
        """Write the files. What cannot be written is a notice of the result that comes back, not the loss of the run."""
        if self.rows is None and self.junit is None:
            return result
        from evalrunner.reports.view import view_of

        refused: list[str] = []
        for write in self._writers(view_of(result)):
            try:
                write()
            except (OSError, RunError) as problem:
                refused.append(f"a report could not be written: {problem}")
        return replace(result, notices=(*result.notices, *refused)) if refused else result

    def _writers(self, view: RunView) -> list[Callable[[], object]]:
        found: list[Callable[[], object]] = []
        rows, junit = self.rows, self.junit
        if junit is not None:
            found.append(lambda: junit.finish(view, self.folder / JUNIT_FILE))
        if rows is not None:
            found.append(lambda: write_text(self.folder / SUMMARY_FILE, rows.markdown(view, SUMMARY_BYTES)))
            step = self.environ.get("GITHUB_STEP_SUMMARY")
            if step:
                found.append(lambda: _add_to_step(Path(step), view, rows))
        return found


def _add_to_step(path: Path, view: RunView, rows: SummaryRows) -> None:
    """Append the summary to that of GitHub's step."""
    from evalrunner.reports.github import SMALLEST, add_to_summary, room_for_summary

    room = room_for_summary(path)
    if room < SMALLEST:
        raise RunError("the summary of the step is full; this run's is in its folder")
    add_to_summary(path, rows.markdown(view, min(SUMMARY_BYTES, room)))


def add_stored_to_step(folder: RunFolder, view: RunView, runs: Path) -> None:
    """Append the summary of a stored run to that of GitHub's step, if there is one. Raises OSError and RunError."""
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if not step:
        return
    from evalrunner.reports.baseline_rows import baseline_lookup_of_stored

    rows = SummaryRows(view.measures, baseline_lookup_of_stored(view, runs))
    for row in read_rows(folder.path):
        rows.add(row)
    _add_to_step(Path(step), view, rows)


def stored_markdown(
    folder: RunFolder, view: RunView, *, max_bytes: int = SUMMARY_BYTES, earlier: BaselineLookup | None = None
) -> str:
    """`summary.md` of a stored run."""
    rows = SummaryRows(view.measures, earlier)
    for row in read_rows(folder.path):
        rows.add(row)
    return rows.markdown(view, max_bytes)
