"""The rows that a resumed run still has to produce."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from evalrunner.engine.plan import Job
from evalrunner.runs.row_log import FinishedRows, row_at


def remaining_jobs(
    jobs: Iterable[Job], finished: FinishedRows, folder: Path, *, retry_errors: bool = False
) -> Iterator[Job]:
    """The jobs without a finished row, lazily and in order; finished rows are skipped without reading them.

    `retry_errors` adds jobs whose call failed, as a new attempt, and jobs with cells in error, with their stored row and
    the scorers to call again. `folder` is that of the run. Raises RunError if a row that is needed cannot be read.
    """
    for job in jobs:
        entry = finished.find(job.sample.id, job.target.name, job.epoch)
        if entry is None:
            yield job
        elif retry_errors and entry.failed:
            yield replace(job, attempt=entry.attempt + 1)
        elif retry_errors and entry.errors:
            stored = row_at(folder, entry.offset)
            yield replace(job, attempt=entry.attempt, stored=stored, scorers=entry.errors)


def count_remaining_jobs(rows: int, finished: FinishedRows, *, retry_errors: bool = False) -> int:
    """How many jobs `remaining_jobs` yields for a plan with that number of rows."""
    again = finished.failed + finished.in_error if retry_errors else 0
    return max(0, rows - len(finished)) + again
