"""Repeat the samples that failed in an earlier run: which they are, and how many pass now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evalrunner.domain import Row
from evalrunner.engine.failed_samples import FailedSamples
from evalrunner.errors import RunNotFoundError, SuiteError, listed
from evalrunner.formatting import counted
from evalrunner.reports.worst_rows import failed
from evalrunner.runs.folder import RunFolder, find_run
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.summary import Measure
from evalrunner.suite.options import RunOptions


def options_to_repeat(suites: Sequence[str | Path], options: RunOptions) -> tuple[list[str | Path], RunOptions]:
    """The suite and the options of a run with `failed_from`: that run by its id, and without gates.

    Gates would be checked on samples that were selected because they failed, which says nothing about the suite. Raises
    SuiteError, and RunNotFoundError if there is no such run.
    """
    assert options.failed_from is not None  # the caller has checked
    if len(suites) > 1:
        raise SuiteError("--failed-from takes one suite, because the failed rows are those of one run")
    folder = find_run(options.failed_from, options.output_dir)
    suite = suites[0] if suites else RunRecord.load(folder.path).suite_file
    if not suites and not Path(suite).is_file():
        raise SuiteError(f"suite {str(suite)!r} of run {folder.id} not found; name its file before --failed-from")
    return [suite], replace(options, failed_from=_permanent(folder, options.output_dir), gates=False)


def _permanent(folder: RunFolder, output_dir: Path) -> str:
    """A reference to a run that means the same later: `last` would not."""
    try:
        found = find_run(folder.id, output_dir)
    except RunNotFoundError:
        return str(folder.path)
    return folder.id if found.path.resolve() == folder.path.resolve() else str(folder.path)


def load_failed_samples(reference: str, runs: Path) -> FailedSamples:
    """The samples with a failed row in a run, by target. Raises RunNotFoundError, and SuiteError if no row failed."""
    folder = find_run(reference, runs)
    run = RunRecord.load(folder.path)
    ids: dict[str, set[str]] = {name: set() for name in run.targets}
    rows = 0
    for row in read_rows(folder.path):
        rows += 1
        if failed(row, run.measures):
            ids.setdefault(row.target, set()).add(row.sample.id)
    if not any(ids.values()):
        raise SuiteError(
            f"--failed-from: none of the {counted(rows, 'row')} of run {folder.id} failed; nothing to repeat"
        )
    return FailedSamples(folder.id, run.suite, {name: frozenset(each) for name, each in ids.items()})


class RepeatTally:
    """Counts which of the samples that failed in an earlier run fail again."""

    def __init__(self, before: FailedSamples, measures: Sequence[Measure]) -> None:
        self.before, self.measures = before, measures
        self.rows: dict[str, set[str]] = {}
        self.failing: dict[str, set[str]] = {}

    def add(self, row: Row) -> None:
        """Look at one row."""
        self.rows.setdefault(row.target, set()).add(row.sample.id)
        if failed(row, self.measures):
            self.failing.setdefault(row.target, set()).add(row.sample.id)

    def notices(self) -> Iterator[str]:
        """How many samples pass now, and why there is no verdict."""
        passing = [text for name, ids in self._repeated().items() if (text := self._text(name, ids))]
        if passing:
            yield f"of the samples that failed in run {self.before.run_id}, {listed(passing, 'and')}"
        yield "gates were not checked: samples that were selected because they failed say nothing about the suite"

    def _repeated(self) -> Mapping[str, frozenset[str]]:
        """For each target the samples that failed for it; for another model those that failed for any."""
        every = frozenset().union(*self.before.ids.values())
        return {name: self.before.ids.get(name, every) for name in self.rows}

    def _text(self, target: str, ids: frozenset[str]) -> str:
        again = ids & self.rows[target]
        if not again:
            return ""
        of = f" with {target}" if len(self.rows) > 1 else ""
        return f"{len(again - self.failing.get(target, set())):,} of {len(again):,} pass now{of}"
