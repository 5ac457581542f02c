"""Parquet files, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.datasets.records import (
    GZIP_MAGIC,
    HEAD,
    InvalidRecord,
    NotJsonError,
    Reader,
    Record,
    json_record,
    other_format,
)
from evalrunner.errors import MissingExtraError

BATCH = 256  # rows converted to Python values at a time; rows of wide tables hold whole documents


def parquet(*, path: str) -> Reader:
    """Records of a Parquet file. Raises MissingExtraError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401  reported now, not in the first pass
    except ImportError:
        raise MissingExtraError("Parquet files", "parquet") from None
    return ParquetRecords(path)


@dataclass(slots=True)
class ParquetRecords:
    """Reads one file. Locations count its rows, from 1."""

    path: str
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        import pyarrow
        import pyarrow.parquet

        number = 0
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=BATCH):
                    for row in _readable(batch).to_pylist():
                        number += 1
                        yield _record(row), f"{self.path}:{number}"
        except (pyarrow.ArrowException, OSError, ValueError) as broken:
            reason = str(broken).strip().partition("\n")[0]
            problem = None if number else self._other_format()
            yield (
                InvalidRecord(problem or f"cannot be read as Parquet: {reason}"),
                f"{self.path}:{number + 1}" if number else self.path,
            )

    def _other_format(self) -> str | None:
        """What the file is, if it is no Parquet file."""
        try:
            with Path(self.path).open("rb") as file:
                head = file.read(HEAD)
        except OSError:
            return None
        if head.startswith(GZIP_MAGIC):
            return "is packed with gzip, from which Parquet is not read; unpack it"
        return None if head.startswith(b"PAR1") else other_format(head)


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
