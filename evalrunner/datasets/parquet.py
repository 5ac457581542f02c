"""Parquet files, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
                    for row in batch.to_pylist():
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


def _record(row: dict[str, object]) -> Record:
    try:
        return json_record(row)
    except NotJsonError as wrong:
        return InvalidRecord(str(wrong))
