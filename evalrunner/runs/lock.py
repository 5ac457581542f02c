"""The lock of a run folder: two processes cannot write one run, and a process that died leaves no lock behind."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from evalrunner.errors import RunError, RunLockedError
from evalrunner.locking import take_lock

NAME = ".lock"  # stays: taking it away would let a third process lock another file of that name
LONGEST = 300  # bytes that are read of what the holder says of itself


class RunLock:
    """Holds a run for this process while it is entered. Raises RunLockedError where another process writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        path = self.folder / NAME
        try:
            self._file = take_lock(path, wait=False)
        except OSError as refused:
            raise RunError(f"cannot lock {str(path)!r}: {refused.strerror or refused}") from None
        if self._file is None:
            raise RunLockedError(f"run {self.folder.name} is being written by {_holder(path)}; wait for it or end it")
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()} {platform.node()}\n".encode())
            self._file.flush()
        except OSError:
            pass  # a full disk: the lock holds all the same, only nobody is told who has it
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass  # what could not be written above; the file is closed, and with it the lock


def _holder(path: Path) -> str:
    """Who has the lock, in words, as far as it has said so."""
    try:
        with path.open("rb") as file:
            pid, _, host = file.read(LONGEST).decode(errors="replace").strip().partition(" ")
    except OSError:
        pid = host = ""
    if not pid.isdecimal():
        return "another process"
    return f"process {pid} on {'this machine' if host in ('', platform.node()) else repr(host)}"
