"""The run folder, `runs/<suite>/<run id>/`: create it, find it by path, id, prefix or `last`, and lock it."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from evalrunner.errors import RunError, RunLockedError, RunNotFoundError
from evalrunner.storage import NO_LOCK, acquire_lock, is_running, open_file, read_file, remove_leftovers

if TYPE_CHECKING:
    from filelock import BaseFileLock

RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
STAMP = "%Y%m%dT%H%M%SZ"  # of a run id, in UTC
RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
ROWS_FILE = "rows.jsonl"
TABLE_FILE = "table.csv"
REPORT_FILE = "report.html"

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock-holder"  # beside the lock: on Windows nobody else can read the locked file
MAX_HOLDER_BYTES = 300
MAX_JSON_BYTES = 2**27  # of run.json and metrics.json; 100,000 metrics have about 50 MB
LOCKLESS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
"""What network file systems answer that have no locks."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def suite(self) -> str:
        return self.path.parent.name


def create_run_folder(output_dir: Path, suite: str, *, now: datetime) -> RunFolder:
    """A new folder whose id is the time (UTC) and four hex digits. Raises RunError if it cannot be created.

    Ids sort by age: if the clock was set back, the time is the second after that of the newest run.
    """
    stamp = now.astimezone(UTC).strftime(STAMP)
    if (newest := _newest_stamp(output_dir)) > stamp:
        with suppress(ValueError, OverflowError):  # no time, or the last second of the year 9999
            newest_at = datetime.strptime(newest, STAMP).replace(tzinfo=UTC)
            stamp = (newest_at + timedelta(seconds=1)).strftime(STAMP)
    while True:
        path = output_dir / suite / f"{stamp}-{secrets.token_hex(2)}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if path.is_dir():
                continue
            raise RunError(f"cannot create run folder {str(path)!r}: a file of that name exists") from None
        except OSError as refused:
            raise RunError(f"cannot create run folder {str(path)!r}: {refused.strerror}") from None
        return RunFolder(path)


def _newest_stamp(output_dir: Path) -> str:
    """The latest time in the ids of runs, empty without runs."""
    try:
        return max((path.name[:16] for path in output_dir.glob("*/*") if RUN_ID.fullmatch(path.name)), default="")
    except OSError:
        return ""


def list_runs(output_dir: Path) -> list[RunFolder]:
    """All runs below a folder, newest first."""
    runs = [RunFolder(path) for path in output_dir.glob("*/*") if RUN_ID.fullmatch(path.name) and _is_run(path)]
    return sorted(runs, key=_age, reverse=True)


def _is_run(path: Path) -> bool:
    """Whether a folder has the file of a run. One that may not be read does not hide the others."""
    try:
        return (path / RUN_FILE).is_file()
    except OSError:
        return False


def _age(run: RunFolder) -> tuple[str, int, str]:
    """The sort key for age: the second of the start, then the time of the last write."""
    return run.id.partition("-")[0], (run.path / RUN_FILE).stat().st_mtime_ns, run.suite


def find_run(reference: str, output_dir: Path) -> RunFolder:
    """The run of a path, an id, a unique prefix of an id, or `last`. Raises RunNotFoundError."""
    path = Path(reference)
    if (path / RUN_FILE).is_file():
        return RunFolder(path)
    if (path / ROWS_FILE).is_file():
        raise RunNotFoundError(
            f"{reference!r} has no {RUN_FILE}, which describes the run; restore it or name another run"
        )
    runs = list_runs(output_dir)
    if reference == "last":
        if not runs:
            raise RunNotFoundError(f"no runs in {str(output_dir)!r} yet; start one: evalrun SUITE")
        return runs[0]
    matching = [run for run in runs if run.id == reference] or [run for run in runs if run.id.startswith(reference)]
    if not matching or not reference:
        hint = f"; the newest is {runs[0].id}" if runs else ""
        raise RunNotFoundError(f"no run {reference!r} in {str(output_dir)!r}{hint} ('evalrun runs' lists them)")
    if len(matching) > 1:
        names = ", ".join(run.id for run in matching[:5])
        raise RunNotFoundError(
            f"{reference!r} is ambiguous: {names}{' …' if len(matching) > 5 else ''}; give more of the id"
        )
    return matching[0]


def read_json(path: Path) -> dict[str, Any]:
    """The data of a JSON file in a run folder. Raises RunNotFoundError if it is missing or broken."""
    try:
        data = json.loads(read_file(path, max_bytes=MAX_JSON_BYTES).decode())
    except (OSError, ValueError, RecursionError) as broken:
        raise RunNotFoundError(f"{str(path)!r} cannot be read: {getattr(broken, 'strerror', None) or broken}") from None
    if not isinstance(data, dict):
        raise RunNotFoundError(f"{str(path)!r} is not a valid run file")
    return data


class RunLock:
    """Locks a run folder for this process while entered. Raises RunLockedError if another process writes the run.

    On a file system without locks the file that names the holder is the lock. A killed process leaves it behind: on this
    machine the next process replaces it, on others somebody has to remove it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        from filelock import Timeout

        path = self.folder / LOCK_FILE
        try:
            os.stat(self.folder)  # noqa: PTH116  some versions of filelock create a missing folder
            self._lock = acquire_lock(path)
        except Timeout:
            raise RunLockedError(
                f"run {self.folder.name} is being written by {_holder(self.folder)}; wait for it to finish or stop it"
            ) from None
        except NO_LOCK as refused:
            if isinstance(refused, OSError) and refused.errno not in LOCKLESS:
                raise RunError(f"cannot lock {str(path)!r}: {refused.strerror or refused}") from None
            self._create_holder_file()
        remove_leftovers(self.folder)
        try:
            if self._lock is not None:  # without locks the file is the lock, and new
                (self.folder / HOLDER_FILE).unlink(missing_ok=True)  # writing to a pipe would wait for its reader
            (self.folder / HOLDER_FILE).write_text(f"{os.getpid()} {platform.node()}\n", encoding="utf-8")
        except OSError:
            pass  # a full disk: the lock holds, only the message of a second process cannot name this one
        return self

    def _create_holder_file(self) -> None:
        """Create the file of the holder, in place of one whose process has ended."""
        path = self.folder / HOLDER_FILE
        while True:
            try:
                path.open("xb").close()
                return
            except FileExistsError:
                pid, host = _read_holder(self.folder)
            except OSError as refused:
                raise RunError(f"cannot lock {str(path)!r}: {refused.strerror or refused}") from None
            if not pid.isdecimal() or host != platform.node() or is_running(int(pid)):
                raise RunLockedError(
                    f"run {self.folder.name} is being written by {_holder(self.folder)}; wait for it to finish or stop it. "
                    f"This file system has no locks: if that process was killed, remove {str(path)!r}"
                )
            path.unlink(missing_ok=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        lock, self._lock = self._lock, None
        try:
            (self.folder / HOLDER_FILE).unlink(missing_ok=True)
        except OSError:
            pass
        if lock is not None:
            lock.release()


def _read_holder(folder: Path) -> tuple[str, str]:
    """The number and the host of the process in the holder's file, empty where it has none."""
    try:
        with open_file(folder / HOLDER_FILE) as file:
            pid, _, host = file.read(MAX_HOLDER_BYTES).decode(errors="replace").strip().partition(" ")
    except OSError:
        return "", ""
    return pid, host


def _holder(folder: Path) -> str:
    """The process that holds the lock, in words, as far as its file names it."""
    pid, host = _read_holder(folder)
    if not pid.isdecimal():
        return "another process"
    return f"process {pid} on {'this machine' if host in ('', platform.node()) else repr(host)}"
