"""The row log: append-only, one line a row in order of arrival, on disk before anyone sees the row."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from evalrunner.domain import Row
from evalrunner.errors import RunError
from evalrunner.runs.finished import FinishedRows
from evalrunner.runs.folder import ROWS_FILE
from evalrunner.runs.row_codec import decode_head, decode_row, encode_row

NAME = ROWS_FILE
SYNC_EVERY_S = 1.0  # a write survives the end of the process without it; this is for the end of the machine
BLOCK = 1 << 16  # bytes that are looked through at a time for the last newline
BROKEN = (ValueError, KeyError, AttributeError, TypeError)  # what a line that is no record is refused with


class RowLog:
    """Appends rows to `rows.jsonl` of a run folder, each with one write of its whole line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._synced = time.monotonic()

    def write(self, row: Row) -> None:
        """Append one row. Raises RunError where the disk refuses."""
        line = encode_row(row)
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a full disk or a signal can cut a write short
                written += os.write(self._file, line[written:])
            if time.monotonic() - self._synced > SYNC_EVERY_S:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as refused:
            raise RunError(
                f"cannot write {str(self.path)!r}: {refused.strerror}; the rows before it are safe"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.fsync(self._file)
        os.close(self._file)


def cut_torn_line(folder: Path) -> int:
    """How many bytes of a last line that was cut off while it was written have been taken off the log, 0 for none.

    A line that lacks nothing but its newline gets it. Only for whoever holds the run's lock. Raises RunError.
    """
    path = folder / NAME
    try:
        with path.open("r+b") as file:
            start = _last_line(file)
            file.seek(start)
            line = file.read()
            if not line:
                return 0
            if whole := _is_whole(line):
                file.write(b"\n")
            else:
                file.truncate(start)
            file.flush()
            os.fsync(file.fileno())
            return 0 if whole else len(line)
    except FileNotFoundError:
        return 0
    except OSError as refused:
        raise RunError(f"cannot mend {str(path)!r}: {refused.strerror}") from None


def scan_keys(folder: Path) -> FinishedRows:
    """The last record of every key of a run, each line read once and no row made of it.

    A torn last line is left out. Raises RunError for a line in the middle that is broken: something else has
    written there.
    """
    path, finished = folder / NAME, FinishedRows()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    finished.add(decode_head(line), finished.size)
                except BROKEN as broken:
                    if not line.endswith(b"\n"):  # cut off while it was written
                        break
                    raise RunError(
                        f"{path}:{number}: {broken}; the row log was changed by something else: "
                        "restore it, or take the line out, and a resume makes its row again"
                    ) from None
                finished.size += len(line)
    except FileNotFoundError:
        pass
    return finished


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows of a run in order of arrival, the last record of a key only. A torn last line is left out.

    Raises RunError for a line in the middle that is broken.
    """
    yield from finished_rows(folder, scan_keys(folder))


def finished_rows(folder: Path, finished: FinishedRows) -> Iterator[Row]:
    """The rows whose records count, in order of arrival; what was written after the scan is not read."""
    return _rows_at(folder / NAME, finished.offsets())


def row_at(folder: Path, offset: int) -> Row:
    """The row whose line begins at this byte of the log. Raises RunError."""
    (row,) = _rows_at(folder / NAME, [offset])
    return row


def _rows_at(path: Path, offsets: Iterable[int]) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                try:
                    yield decode_row(file.readline())
                except BROKEN as broken:
                    said = f"{path}: the line from byte {offset} on: {broken}"
                    raise RunError(f"{said}; the row log was changed by something else") from None
    except FileNotFoundError:
        return


def _last_line(file: BinaryIO) -> int:
    """Where what comes after the last newline begins."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        start = max(0, place - BLOCK)
        file.seek(start)
        found = file.read(place - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        place = start
    return 0


def _is_whole(line: bytes) -> bool:
    try:
        decode_head(line)
    except BROKEN:
        return False
    return True
