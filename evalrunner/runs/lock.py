"""The lock of a run folder: one process writes a run, and a process that died leaves no lock behind."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from evalrunner.errors import RunError, RunLockedError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock-holder"  # beside the lock: on Windows nobody else can read the locked file
MAX_HOLDER_BYTES = 300


class RunLock:
    """Locks a run folder for this process while entered. Raises RunLockedError if another process writes the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        from filelock import FileLock, Timeout

        path = self.folder / LOCK_FILE
        lock = FileLock(path, thread_local=False)
        try:
            os.stat(self.folder)  # noqa: PTH116  some versions of filelock create a missing folder
            lock.acquire(blocking=False)
        except Timeout:
            raise RunLockedError(
                f"run {self.folder.name} is being written by {_holder(self.folder)}; wait for it to finish or stop it"
            ) from None
        except OSError as refused:
            raise RunError(f"cannot lock {str(path)!r}: {refused.strerror or refused}") from None
        self._lock = lock
        try:
            (self.folder / HOLDER_FILE).write_text(f"{os.getpid()} {platform.node()}\n", encoding="utf-8")
        except OSError:
            pass  # a full disk: the lock holds, only the message of a second process cannot name this one
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                (self.folder / HOLDER_FILE).unlink(missing_ok=True)
            except OSError:
                pass
            lock.release()


def _holder(folder: Path) -> str:
    """The process that holds the lock, in words, as far as its file names it."""
    try:
        with (folder / HOLDER_FILE).open("rb") as file:
            pid, _, host = file.read(MAX_HOLDER_BYTES).decode(errors="replace").strip().partition(" ")
    except OSError:
        pid = host = ""
    if not pid.isdecimal():
        return "another process"
    return f"process {pid} on {'this machine' if host in ('', platform.node()) else repr(host)}"
