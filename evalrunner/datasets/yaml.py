"""YAML files: a list of mappings, mappings under ids, or either under a key. The whole file is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from evalrunner.datasets.nesting import checked_path, find_key, kind_of, no_key, no_row, row_of_id, rows_under
from evalrunner.datasets.records import MIB, InvalidRecord, Reader, Record, checked_size
from evalrunner.datasets.text_file import UTF8, StructuredFile, checked_encoding, encoding_problem
from evalrunner.errors import Problem, SuiteError
from evalrunner.limits import STANDARD
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.yaml import Document, parse_document

DATA = ("dataset", "rows")  # where a suite has rows, whose scalars keep their spelling


def yaml(
    *,
    path: str,
    records: str | None = None,
    encoding: str = UTF8,
    member: str | None = None,
    max_record_mb: int = STANDARD.record_mb,
) -> Reader:
    """Records of a YAML file: a list of mappings, or mappings under ids.

    Args:
        records: Key of the rows, such as data.items, or $ for rows under ids in the whole file. The default is one list.
        encoding: Encoding of the text, such as cp1252 or utf-16.
        member: The file to read in a ZIP archive of several.
        max_record_mb: Maximum size of the file, in million characters.
    """
    rest = None if records is None else checked_path(records)
    return YamlFile(path, checked_size(max_record_mb), rest, checked_encoding(encoding), member)


@dataclass(slots=True)
class YamlFile(StructuredFile):
    """Reads one file. Locations are the lines where rows start, from 1.

    `records` is the path of the rows: None for one list, empty for a list or rows under ids.
    """

    newline = ""

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        content = text.read(self.max_record_mb * MIB + 1)
        if len(content) > self.max_record_mb * MIB:
            problem = f"has more than {self.max_record_mb} MiB; save it as JSON Lines, or set dataset.max_record_mb"
            yield InvalidRecord(problem), self.path
            return
        if problem := encoding_problem(content, self.encoding) or "":
            yield InvalidRecord(problem), self.path
            return
        try:
            document = parse_document(content, file=self.path, base=DATA)
            document.raise_problems()
        except SuiteError as broken:
            for each in broken.problems:
                yield InvalidRecord(_message(each)), each.where
            return
        if document.data is None:
            return
        if isinstance(document.data, list) or self.records is not None:
            yield from self._rows(document, document.data, self.records or "", ())
            return
        yield InvalidRecord(f"must be a list of mappings, such as - input: …{_hint(document.data)}"), f"{self.path}:1"

    def _rows(self, document: Document, value: Any, path: str, place: KeyPath) -> Iterator[tuple[Record, str]]:
        """The rows at a path below a value, which is at `place` in the file."""
        if isinstance(value, list):
            for number, item in enumerate(value):
                location = self._location(document, (*place, number))
                if path:
                    yield from ((row, location) for row in rows_under(item, path))
                else:
                    yield item if isinstance(item, dict) else InvalidRecord(no_row(item)), location
        elif path and isinstance(value, dict):
            found = find_key(value, path)
            if found is None:
                yield InvalidRecord(no_key(path, value)), self._location(document, place)
            else:
                yield from self._rows(document, value[found[0]], found[1], (*place, found[0]))
        elif isinstance(value, dict):
            for key, item in value.items():
                yield row_of_id(key, item), self._location(document, (*place, key))
        else:
            expected = f"an object with {path!r}" if path else "a list of objects"
            yield InvalidRecord(f"has {kind_of(value)} in place of {expected}"), self._location(document, place)

    def _location(self, document: Document, place: KeyPath) -> str:
        mark = document.mark(place)
        return f"{self.path}:{mark.line}" if mark else self.path


def _message(problem: Problem) -> str:
    return f"{problem.key}: {problem.message}" if problem.key else problem.message


def _hint(data: Any) -> str:
    """What to do about a file that is no list."""
    if not isinstance(data, dict):
        return ""
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return f"; the rows are under a key: set records: {key}"
    if data and all(isinstance(value, dict) for value in data.values()):
        return "; for rows under ids, set records: $"
    return ""
