"""Going on with a run: its folder, the options it was started with, and whether it is still the same run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from evalrunner.engine.plan import Plan, count_remaining_jobs
from evalrunner.errors import SuiteError
from evalrunner.runs.folder import RunFolder, find_run
from evalrunner.runs.provenance import differences
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import FinishedRows, cut_torn_line, scan_keys
from evalrunner.suite.options import RunOptions, merge_options, options_from, require_redacted_options


@dataclass(frozen=True, slots=True)
class ResumableRun:
    """A run to go on with. `options` are those it was started with, and those given now over them."""

    folder: RunFolder
    record: RunRecord
    options: RunOptions

    def find_suite(self) -> Path:
        """The file of its suite, from wherever the run goes on. Raises SuiteError where it is not there any more."""
        file, begun_in = self.record.suite_file, self.folder.path.absolute().parents[2]
        if begun_in != Path.cwd() and (begun_in / file).is_file():  # runs/ stands in the folder a run was begun in
            return begun_in / file
        if not file.is_file():
            said = f"the suite of run {self.folder.id}, {str(file)!r}, is not there; say where it is"
            raise SuiteError(f"{said}: evalrun SUITE --resume {shlex.quote(str(self.folder.path))}")
        return file


@dataclass(slots=True)
class ResumeState:
    """What a run had done before: which of its rows are finished, and what is worth saying of it."""

    folder: RunFolder
    started_at: datetime
    finished: FinishedRows
    to_do: int
    notices: tuple[str, ...] = ()


def find_resumable_run(reference: str, given: RunOptions) -> ResumableRun:
    """The run that is to go on. Raises RunNotFoundError, or SuiteError where an option has to be given again."""
    folder = find_run(reference, given.output_dir)
    record = RunRecord.load(folder.path)
    require_redacted_options(record.options, given)
    options = merge_options(options_from(record.options), given)
    return ResumableRun(folder, record, replace(options, output_dir=folder.path.parent.parent))


def load_resume_state(stored: ResumableRun, plan: Plan) -> ResumeState:
    """What the run had done. Raises SuiteError that names what differs where it is another run by now.

    Call it with the run's lock held: a last line that was torn is cut off.
    """
    found = differences(stored.record.definition(), plan.provenance.definition())
    if found:
        listed = "\n".join(f"  {line}" for line in found)
        raise SuiteError(
            f"run {stored.folder.id} cannot go on, for the suite is not what it was:\n{listed}\n"
            f"run it anew: evalrun {plan.suite.path}"
        )
    torn = cut_torn_line(stored.folder.path)
    finished = scan_keys(stored.folder.path)
    to_do = count_remaining_jobs(plan.rows, finished, retry_errors=stored.options.retry_errors)
    said = f"gone on with run {stored.folder.id}: {len(finished):,} of {plan.rows:,} rows were there, {to_do:,} to do"
    notices = [said, *([f"the last line of the row log was torn, and {torn} bytes of it cut off"] if torn else [])]
    return ResumeState(stored.folder, stored.record.started_at, finished, to_do, tuple(notices))
