"""Locks on files that end with the process that holds them, however it ends. The file may stay, the lock does not."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PLACE = 1 << 30  # Windows locks bytes against reading too, so the locked one is far behind what a file may say


def take_lock(path: Path, *, wait: bool) -> BinaryIO | None:
    """The open file that holds the lock, or None where another process has it and `wait` is false.

    Closing the file gives the lock back. Raises OSError where the file cannot be opened or locked at all.
    """
    file = path.open("a+b")
    try:
        while not _lock(file, wait=wait):
            if not wait:
                file.close()
                return None
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, after waiting for whoever has it. Raises OSError where it cannot be had at all."""
    file = take_lock(path, wait=True)
    assert file is not None  # it was waited for
    with file:
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO, *, wait: bool) -> bool:
        file.seek(PLACE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError as refused:  # LK_LOCK gives up after ten seconds, and is asked again
            if refused.errno in (errno.EACCES, errno.EDEADLOCK):
                return False
            raise
        return True

else:
    import fcntl

    def _lock(file: BinaryIO, *, wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as refused:
            if refused.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True
