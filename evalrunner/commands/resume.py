"""Resume a run: its folder, the options it was started with, and whether its suite is still the same."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from evalrunner.engine.jobs import count_remaining_jobs
from evalrunner.engine.plan import Plan
from evalrunner.errors import RunError, SuiteError
from evalrunner.runs.folder import LOCK_FILE, ROWS_FILE, RunFolder, find_run
from evalrunner.runs.provenance import differences
from evalrunner.runs.record import LookRecord, RunRecord
from evalrunner.runs.row_log import FinishedRows, remove_truncated_line, scan_keys
from evalrunner.suite.options import (
    RunOptions,
    merge_options,
    options_from,
    require_own_options,
    require_redacted_options,
)

LIMITED = ("digest", "rows", "limit", "attachments")  # of a dataset: what changes if its limit does


@dataclass(frozen=True, slots=True)
class ResumableRun:
    """A run to resume. `options` are those it was started with, overridden by those given now."""

    folder: RunFolder
    record: RunRecord
    options: RunOptions

    def find_suite(self) -> Path:
        """The suite file of the run, also from another working folder. Raises SuiteError if it does not exist."""
        file, started_in = self.record.suite_file, self.folder.path.absolute().parents[2]
        if started_in != Path.cwd() and (started_in / file).is_file():  # the folder that contains runs/
            return started_in / file
        if not file.is_file():
            command = f"evalrun SUITE --resume {shlex.quote(str(self.folder.path))}"
            raise SuiteError(f"suite {str(file)!r} of run {self.folder.id} not found; name its file: {command}")
        return file


@dataclass(slots=True)
class ResumeState:
    """The finished rows of a run that is resumed; `remaining` counts the rows to run, `looks` are its verdicts so far."""

    folder: RunFolder
    started_at: datetime
    finished: FinishedRows
    remaining: int
    notices: tuple[str, ...] = ()
    looks: tuple[LookRecord, ...] = ()


def find_resumable_run(reference: str, given: RunOptions) -> ResumableRun:
    """The run to resume. Raises RunNotFoundError, or SuiteError if it is read-only or an option has to be given again."""
    folder = find_run(reference, given.output_dir)
    for path in (folder.path, folder.path / ROWS_FILE, folder.path / LOCK_FILE):
        if path.exists() and not os.access(path, os.W_OK):
            raise SuiteError(f"cannot resume run {folder.id}: {str(path)!r} is read-only; change that or copy the run")
    record = RunRecord.load(folder.path)
    require_redacted_options(record.options, given)
    started_with = options_from(record.options)
    if given.untrusted:
        require_own_options(started_with, given)
    options = merge_options(started_with, given)
    return ResumableRun(folder, record, replace(options, output_dir=folder.path.parent.parent))


def load_resume_state(stored: ResumableRun, plan: Plan) -> ResumeState:
    """The rows that are finished. Raises SuiteError that lists the changes if the suite has changed.

    The caller holds the lock of the run: a truncated last line is removed.
    """
    changes = _changes(stored.record, plan)
    if changes:
        lines = "\n".join(f"  {line}" for line in changes)
        raise SuiteError(
            f"cannot resume run {stored.folder.id}: the suite has changed:\n{lines}\n"
            f"start a new run: evalrun {plan.suite.path}"
        )
    try:
        removed = remove_truncated_line(stored.folder.path)
    except RunError as refused:  # nothing was called yet
        raise SuiteError(f"cannot resume run {stored.folder.id}: {refused}") from None
    finished = scan_keys(stored.folder.path)
    remaining = count_remaining_jobs(plan.rows, finished, retry_errors=stored.options.retry_errors)
    notices = [
        f"resumed run {stored.folder.id}: {len(finished):,} of {plan.rows:,} rows were finished, {remaining:,} remaining"
    ]
    if removed:
        notices.append(f"the last line of the row log was truncated; its {removed} bytes were removed")
    return ResumeState(
        stored.folder, stored.record.started_at, finished, remaining, tuple(notices), stored.record.looks
    )


def _changes(run: RunRecord, plan: Plan) -> list[str]:
    """How the suite differs from that of the run, a line each. A larger limit is no change if it only adds samples."""
    before, now = run.definition(), plan.provenance.definition()
    old, new = run.dataset, plan.provenance.dataset
    if old.limit == new.limit:
        return differences(before, now)
    larger = old.limit is not None and (new.limit is None or new.limit > old.limit)
    same = (plan.scan.prefix_digest, plan.scan.attachments[1]) == (old.digest, old.attachments)
    changes = differences(
        {**before, "dataset": {**before["dataset"], **dict.fromkeys(LIMITED)}},
        {**now, "dataset": {**now["dataset"], **dict.fromkeys(LIMITED)}},
    )
    if not larger:
        changes.append(
            f"dataset.limit: {_limit(old.limit)} → {_limit(new.limit)} (a larger limit is allowed, a smaller one is not)"
        )
    elif not same:
        changes.append(f"dataset: its first {old.rows:,} samples are not those of the run")
    return changes


def _limit(limit: int | None) -> str:
    return "not set" if limit is None else str(limit)
