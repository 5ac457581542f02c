"""The row log: append-only, one line a row in order of arrival, on disk before anyone sees the row."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from evalrun.domain import Row
from evalrun.errors import RunError
from evalrun.runs.row_codec import BrokenRecord, decode_row, encode_row

NAME = "rows.jsonl"
SYNC_EVERY_S = 1.0  # a write survives the end of the process without it; this is for the end of the machine


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


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows of a run in order of arrival, the last record of a key only. A torn last line is left out.

    Raises RunError for a line in the middle that is broken: something else has written there.
    """
    path = folder / NAME
    try:
        last = _last_records(path)
        with path.open("rb") as file:
            place = 0
            for line in file:
                if place in last:
                    yield decode_row(line)
                place += len(line)
    except FileNotFoundError:
        return


def _last_records(path: Path) -> set[int]:
    """The byte offsets of the last record of each key."""
    places: dict[tuple[str, str, int], int] = {}
    place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = decode_row(line)
            except (BrokenRecord, ValueError, KeyError) as broken:
                if not line.endswith(b"\n"):  # cut off while it was written
                    break
                raise RunError(f"{path}:{number}: {broken}; the row log was changed by something else") from None
            places[row.sample.id, row.target, row.epoch] = place
            place += len(line)
    return set(places.values())
