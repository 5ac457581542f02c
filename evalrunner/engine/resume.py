"""What is left to do of a run: every job, less what the row log already holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from evalrunner.domain import EMPTY, Cell
from evalrunner.engine.plan import Job
from evalrunner.runs.row_log import FinishedRows, row_at


def remaining(
    jobs: Iterable[Job], finished: FinishedRows, folder: Path, *, retry_errors: bool = False
) -> Iterator[Job]:
    """The jobs without a finished row, lazily and in order; no row is made of what is skipped.

    `retry_errors` adds those whose call failed, as a new attempt, and those with cells in error: these with their
    stored row and the names of the scorers to call again. `folder` is the run's. Raises RunError where a row that
    is needed cannot be read.
    """
    for job in jobs:
        found = finished.find(job.sample.id, job.target.name, job.epoch)
        if found is None:
            yield job
        elif retry_errors and found.failed:
            yield replace(job, attempt=found.attempt + 1)
        elif retry_errors and found.errors:
            stored = row_at(folder, found.offset)
            yield replace(job, attempt=found.attempt, stored=stored, scorers=found.errors)


def count_remaining_jobs(rows: int, finished: FinishedRows, *, retry_errors: bool = False) -> int:
    """How many jobs `remaining` yields of a plan of so many rows."""
    again = finished.failed + finished.in_error if retry_errors else 0
    return max(0, rows - len(finished)) + again


def stored_cells(job: Job) -> Mapping[str, Cell]:
    """The cells of a job's stored row that stay as they are, none where the whole row is to be made."""
    if job.stored is None:
        return EMPTY
    again = job.scorers or frozenset()
    return {name: cell for name, cell in job.stored.cells.items() if name not in again}
