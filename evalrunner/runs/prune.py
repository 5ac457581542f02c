"""Delete runs: one, or all but the newest of each suite."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from evalrunner.errors import RunError, RunNotFoundError
from evalrunner.runs.folder import RUN_ID, RunFolder, RunLock, list_runs
from evalrunner.runs.notes import RunNotes

DELETED: Final = re.compile(rf"\.({RUN_ID.pattern})\.deleted")
"""The name of a run folder while it is deleted; one that is left over is deleted by the next pruning."""


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The runs that a pruning deletes, newest first, and how many it keeps only because of their tags."""

    delete: tuple[RunFolder, ...]
    tagged: int


def plan_prune(
    output_dir: Path,
    *,
    keep: int = 0,
    older_than_s: float = 0,
    suite: str | None = None,
    now: datetime | None = None,
) -> PrunePlan:
    """What to delete so that each suite keeps its `keep` newest runs and all that started in the last `older_than_s`.

    Runs with a tag are kept and do not count.
    """
    newest: dict[str, int] = {}
    delete: list[RunFolder] = []
    tagged = 0
    for run in list_runs(output_dir):
        if suite is not None and run.suite != suite:
            continue
        if _has_tags(run):
            tagged += 1
            continue
        newest[run.suite] = newest.get(run.suite, 0) + 1
        if newest[run.suite] > keep and _age_s(run, now or datetime.now(UTC)) >= older_than_s:
            delete.append(run)
    return PrunePlan(tuple(delete), tagged)


def delete_run(run: RunFolder) -> int:
    """Delete the folder of a run; the bytes it had.

    Raises RunLockedError while a process writes the run, and RunError if it cannot be deleted.
    """
    if run.path.is_symlink():
        raise RunError(f"{str(run.path)!r} is a link to another folder; delete the link yourself")
    aside = run.path.with_name(f".{run.id}.deleted")
    with RunLock(run.path):  # no process writes it, and none resumes it
        size = folder_bytes(run.path)
        try:
            run.path.rename(aside)  # at once, so that no half-deleted run is listed
        except OSError as refused:
            raise RunError(f"cannot delete {str(run.path)!r}: {refused.strerror}") from None
    try:
        shutil.rmtree(aside)
    except OSError as refused:
        raise RunError(f"cannot delete all of {str(aside)!r}: {refused.strerror}") from None
    return size


def delete_leftovers(output_dir: Path) -> None:
    """Delete run folders whose deletion was interrupted."""
    for path in output_dir.glob("*/.*.deleted"):
        if DELETED.fullmatch(path.name) and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with suppress(OSError):
            if not path.is_symlink() and path.is_file():
                yield path.stat().st_size


def _has_tags(run: RunFolder) -> bool:
    """Whether a run has tags. One with unreadable notes is kept as if it had."""
    try:
        return bool(RunNotes.load(run.path).tags)
    except RunNotFoundError:
        return True


def _age_s(run: RunFolder, now: datetime) -> float:
    """Seconds since the start of the run, which its id contains."""
    started = datetime.strptime(run.id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return (now - started).total_seconds()
