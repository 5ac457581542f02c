"""Parquet files, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.datasets.packing import HEAD, packed_with
from evalrunner.datasets.records import (
    MIB,
    InvalidRecord,
    NotJsonError,
    Reader,
    Record,
    RecordTooLargeError,
    checked_size,
    json_record,
    names_problem,
)
from evalrunner.datasets.text_file import other_format
from evalrunner.errors import MissingExtraError
from evalrunner.limits import STANDARD

BATCH_BYTES = 64 * MIB
UNPACKED_PER_MB = 16 * MIB  # bytes that a small file may unpack to, for each MiB of a record
MAX_EXPANSION = 200  # times the size of a large one
MIN_ROWS = 2**20  # that every file may have; a larger one has a byte or more for each
MAX_RATIO = 200  # of unpacked to packed bytes of a large column
BATCH = 256  # rows converted to Python values at a time; rows of wide tables hold whole documents


def parquet(*, path: str, max_record_mb: int = STANDARD.record_mb) -> Reader:
    """Records of a Parquet file. Raises MissingExtraError if pyarrow is not installed.

    Args:
        max_record_mb: Maximum size of a row, in million bytes.
    """
    try:
        import pyarrow.parquet  # noqa: F401  reported now, not in the first pass
    except ImportError:
        raise MissingExtraError("Parquet files", "parquet") from None
    return ParquetRecords(path, checked_size(max_record_mb))


@dataclass(slots=True)
class ParquetRecords:
    """Reads one file. Locations count its rows, from 1."""

    path: str
    max_record_mb: int
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        import pyarrow
        import pyarrow.parquet

        number, read, size = 0, 0, Path(self.path).stat().st_size
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                if (rows := file.metadata.num_rows) > max(MIN_ROWS, size):
                    raise ValueError(f"has {rows:,} rows in {size:,} bytes; write it as JSON Lines")
                if problem := names_problem(file.schema_arrow.names):
                    yield InvalidRecord(problem), self.path
                    return
                for batch in file.iter_batches(
                    batch_size=_batch_rows(file.metadata, self.max_record_mb), use_threads=False
                ):  # where memory is short, threads of Arrow end the process
                    read += batch.nbytes
                    if read > MAX_EXPANSION * size + UNPACKED_PER_MB * self.max_record_mb:
                        raise ValueError(
                            f"its first {number:,} rows unpack to {read / MIB:,.0f} MiB, more than {MAX_EXPANSION} times "
                            "the size of the file; set dataset.max_record_mb"
                        )
                    for row in self._rows(_readable(batch)):
                        number += 1
                        yield _record(row), f"{self.path}:{number}"
        except RecordTooLargeError as wrong:
            yield InvalidRecord(str(wrong)), f"{self.path}:{number + 1}" if number else self.path
        except (pyarrow.ArrowException, OSError, ValueError) as broken:
            reason = str(broken).strip().partition("\n")[0]
            problem = None if number else self._other_format()
            yield (
                InvalidRecord(problem or f"cannot be read as Parquet: {reason}"),
                f"{self.path}:{number + 1}" if number else self.path,
            )

    def _rows(self, batch: Any) -> Iterator[dict[str, object]]:
        """The rows as Python values; one by one where all at once could take much memory."""
        if batch.nbytes <= min(BATCH_BYTES, self.max_record_mb * MIB):
            yield from batch.to_pylist()
            return
        for place in range(batch.num_rows):
            row = batch.slice(place, 1)
            if row.nbytes > self.max_record_mb * MIB:
                raise RecordTooLargeError(self.max_record_mb)
            yield from row.to_pylist()

    def _other_format(self) -> str | None:
        """What the file is, if it is no Parquet file."""
        try:
            with Path(self.path).open("rb") as file:
                head = file.read(HEAD)
        except OSError:
            return None
        if name := packed_with(head):
            return f"is packed with {name}, from which Parquet is not read; unpack it"
        return None if head.startswith(b"PAR1") else other_format(head)


def _batch_rows(metadata: Any, max_record_mb: int) -> int:
    """How many rows to read at a time. Raises RecordTooLargeError, and ValueError for a file that unpacks to far more than it has.

    A value may stand for all rows of a batch, so a batch may take its number of rows times the size of a column.
    """
    rows = BATCH
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            size, packed = column.total_uncompressed_size, max(1, column.total_compressed_size)
            if size > max_record_mb * MIB * group.num_rows or column.num_values > max_record_mb * MIB * group.num_rows:
                raise RecordTooLargeError(max_record_mb)
            bomb = size > MAX_RATIO * packed
            if bomb and size > BATCH_BYTES:
                raise ValueError(
                    f"the column {column.path_in_schema!r} unpacks to {size / MIB:,.0f} MiB from {packed / MIB:.2g}; write it without compression"
                )
            fewest = 1 if size > 20 * packed else 8
            rows = min(rows, max(fewest, BATCH_BYTES // max(1, size)))
    return rows


def _readable(batch: Any) -> Any:
    """The batch with columns that Python's types show as they are: 0.1 of 32 bits is no 0.10000000149011612."""
    import pyarrow

    for place, column in enumerate(batch.schema):
        if column.type == pyarrow.time64("ns"):  # Python's time has microseconds
            steps = [pyarrow.string()]
        else:  # through the shortest text of the number
            steps = [_floats_as(leaf, column.type) for leaf in (pyarrow.string(), pyarrow.float64())]
        if steps[0] != column.type:
            values = batch.column(place)
            for kind in steps:
                values = values.cast(kind)
            batch = batch.set_column(place, column.name, values)
    return batch


def _floats_as(leaf: Any, kind: Any) -> Any:
    """The type with `leaf` in place of its 32-bit floats, also in lists and structs."""
    import pyarrow
    from pyarrow import types

    if types.is_float32(kind):
        return leaf
    if types.is_list(kind) or types.is_large_list(kind):
        make = pyarrow.list_ if types.is_list(kind) else pyarrow.large_list
        return make(kind.value_field.with_type(_floats_as(leaf, kind.value_type)))
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_floats_as(leaf, field.type)) for field in kind])
    return kind


def _record(row: dict[str, object]) -> Record:
    try:
        return json_record(row)
    except NotJsonError as wrong:
        return InvalidRecord(str(wrong))
