"""Parquet files, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evalrunner.datasets.json_values import NotJsonError, json_record
from evalrunner.datasets.records import Reader, Record
from evalrunner.datasets.text_files import BrokenLine
from evalrunner.errors import MissingExtraError

BATCH = 256  # rows turned into Python values at a time; wide tables hold whole documents in a row


def parquet(*, path: str) -> Reader:
    """Records of a Parquet file. Raises MissingExtraError where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401  asked for now, so that it is missed before the first pass
    except ImportError:
        raise MissingExtraError("Parquet files", "parquet") from None
    return ParquetRecords(path)


@dataclass(slots=True)
class ParquetRecords:
    """Reads one file. Places count its rows, from 1."""

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
            said = str(broken).strip().partition("\n")[0]
            yield BrokenLine(f"cannot be read as Parquet: {said}"), f"{self.path}:{number + 1}" if number else self.path


def _record(row: dict[str, object]) -> Record:
    try:
        return json_record(row)
    except NotJsonError as wrong:
        return BrokenLine(str(wrong))
