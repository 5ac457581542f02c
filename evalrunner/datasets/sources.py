"""What a dataset is read from: a file, several, rows in the suite, or a reader of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evalrunner.datasets.json_values import NotJsonError, json_record
from evalrunner.datasets.records import Reader, Record
from evalrunner.datasets.text_files import BrokenLine
from evalrunner.errors import EvalrunError
from evalrunner.plugins import describe_crash
from evalrunner.suite.schema import DatasetSpec


@dataclass(frozen=True, slots=True)
class Source:
    """One reader with the name it has in messages. `file` is what it reads, None where that is no file."""

    reader: Reader
    display_name: str
    file: Path | None = None

    @property
    def text_only(self) -> bool:
        return bool(getattr(self.reader, "text_only", False))

    def records(self) -> Iterator[tuple[Record, str]]:
        """Each record with its place as messages show it: standard input is not called by its copy's name."""
        if self.file is None or self.display_name == str(self.file):
            return self.reader()
        own = str(self.file)
        return (
            (record, self.display_name + place.removeprefix(own) if place.startswith(own) else place)
            for record, place in self.reader()
        )

    def stamp(self) -> tuple[int, int] | None:
        """Size and time of the file, to see that it is still the one that was checked."""
        try:
            found = self.file.stat() if self.file is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_size, found.st_mtime_ns)


def _unchanged(reader: Reader, spec: DatasetSpec) -> Reader:
    return reader


@dataclass(frozen=True, slots=True)
class ExternalDataset:
    """What a `DatasetSource` returns: `records`, or a downloaded `file` that has them.

    `display_name` is its name in messages. `origin` says exactly what was read: the permanent reference, and its name
    and digest if it has them. `adapt` wraps the reader, for example to rename columns as the suite expects them.
    """

    display_name: str
    origin: Mapping[str, str]
    records: tuple[Record, ...] = ()
    file: Path | None = None
    adapt: Callable[[Reader, DatasetSpec], Reader] = _unchanged


class DatasetSource(Protocol):
    """Finds what `dataset: {NAME: REFERENCE}` means. Registered as NAME in the plug-in group `dataset_sources`.

    `address` is that of the tracker NAME in the suite, None if it has none. `downloads` is a folder for files. Its
    keyword-only parameters are further keys of `dataset:`. Raises ValueError if the reference leads nowhere.
    """

    def __call__(self, reference: str, address: str | None, downloads: Path, /, **options: Any) -> ExternalDataset: ...


@dataclass(slots=True)
class InlineRows:
    """The rows that stand in the suite. Places count from 0, as the suite's own messages do."""

    rows: Sequence[Mapping[str, Any]]
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        for number, row in enumerate(self.rows):
            yield _plain(row), f"rows[{number}]"


@dataclass(slots=True)
class CustomReader:
    """People's own reader, made safe: what it raises or yields amiss is a broken line with its name.

    `made` is what their factory returned: a function to call for every pass, or an iterable; for one that can only be
    read once, `make` calls the factory again. Records may come with their place or without.
    """

    made: Any
    make: functools.partial[Any]
    name: str
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        number = 0
        try:
            for item in self._items():
                number += 1
                if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], str):
                    yield _plain(item[0]), item[1]
                else:
                    yield _plain(item), f"{self.name}, row {number}"
        except EvalrunError:
            raise
        except Exception as crash:  # whatever people's code raises is theirs to read
            said = describe_crash(self.make.func, crash)
            yield BrokenLine(f"{said}, after row {number}" if number else said), self.name

    def _items(self) -> Iterable[Any]:
        found: Iterable[Any]
        if callable(self.made):
            found = self.made()
            return found
        found = self.made
        if iter(found) is found:  # a generator: spent after one pass
            self.made = self.make()
        return found


def _plain(row: Any) -> Record:
    if isinstance(row, BrokenLine):
        return row
    if not isinstance(row, Mapping):
        return BrokenLine(f"is of type {type(row).__name__}; a row is a mapping of column to value")
    try:
        return json_record(row)
    except NotJsonError as wrong:
        return BrokenLine(str(wrong))
