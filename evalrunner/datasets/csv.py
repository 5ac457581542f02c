"""CSV and TSV files: a header line, then records whose values are all text."""

from __future__ import annotations

import csv as csv_module
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from evalrunner.datasets.records import (
    InvalidRecord,
    Reader,
    Record,
    RecordTooLargeError,
    checked_size,
    is_own_table,
    names_problem,
    read_line,
)
from evalrunner.datasets.text_file import UTF8, checked_encoding, encoding_problem, read_records
from evalrunner.formatting import counted, unguard_formula
from evalrunner.limits import STANDARD

SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?[,;\t ]*[\r\n]*', re.IGNORECASE)
MAX_FIELD_LENGTH = 2**31 - 1  # characters; csv's own limit is 128 KiB, and a larger number is no C long everywhere


def csv(
    *,
    path: str,
    quoting: bool = True,
    delimiter: str = ",",
    header: tuple[str, ...] | None = None,
    skip_blank_rows: bool = True,
    encoding: str = UTF8,
    member: str | None = None,
    max_record_mb: int = STANDARD.record_mb,
) -> Reader:
    """Records of a CSV file (RFC 4180) with a header line.

    Args:
        quoting: Whether double quotes enclose fields. If false, they are ordinary characters.
        delimiter: The character between fields.
        header: Names of the columns, for a file without a header line.
        skip_blank_rows: Whether rows of nothing but delimiters are left out. If false, they are rows with empty cells.
        encoding: Encoding of the text, such as cp1252 or utf-16.
        member: The file to read in a ZIP archive of several.
        max_record_mb: Maximum size of a row, in million characters.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"the delimiter is {delimiter!r}; it must be one character, such as ',' or ';'")
    return DelimitedReader(
        path=path, quoting=quoting, delimiter=delimiter, header=_checked_header(header), skip_blank_rows=skip_blank_rows,
        encoding=checked_encoding(encoding), member=member, max_record_mb=checked_size(max_record_mb),
    )  # fmt: skip


def tsv(
    *,
    path: str,
    quoting: bool = True,
    header: tuple[str, ...] | None = None,
    skip_blank_rows: bool = True,
    encoding: str = UTF8,
    member: str | None = None,
    max_record_mb: int = STANDARD.record_mb,
) -> Reader:
    """Records of a file with a header line and tabs between fields.

    Args:
        quoting: Whether double quotes enclose fields. If false, they are ordinary characters.
        header: Names of the columns, for a file without a header line.
        skip_blank_rows: Whether rows of nothing but tabs are left out. If false, they are rows with empty cells.
        encoding: Encoding of the text, such as cp1252 or utf-16.
        member: The file to read in a ZIP archive of several.
        max_record_mb: Maximum size of a row, in million characters.
    """
    return csv(
        path=path, quoting=quoting, delimiter="\t", header=header, skip_blank_rows=skip_blank_rows,
        encoding=encoding, member=member, max_record_mb=max_record_mb,
    )  # fmt: skip


def _checked_header(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and (not names or not all(name.strip() for name in names)):
        raise ValueError(
            "the header has no name for a column; list the names of all columns: header: [input, expected]"
        )
    if names is not None and (problem := header_problem(list(names))):
        raise ValueError(f"the header {problem}")
    return names


@dataclass(slots=True, kw_only=True)
class DelimitedReader:
    """Reads one file. Locations are the lines where records start, from 1."""

    path: str
    quoting: bool
    delimiter: str
    max_record_mb: int
    header: tuple[str, ...] | None = None
    skip_blank_rows: bool = True
    encoding: str = UTF8
    member: str | None = None
    text_only: bool = True
    _nameless: list[int] = field(default_factory=list)
    _blank_rows: int = 0
    _first_blank: int = 0

    def __call__(self) -> Iterator[tuple[Record, str]]:
        csv_module.field_size_limit(MAX_FIELD_LENGTH)
        self._nameless, self._blank_rows = [], 0
        return read_records(self.path, self._records, newline="", encoding=self.encoding, member=self.member)

    @property
    def notices(self) -> Iterator[str]:
        """What the last pass has left out."""
        if self._blank_rows:
            verb = "was" if self._blank_rows == 1 else "were"
            yield f"{counted(self._blank_rows, 'row')} of delimiters alone {verb} skipped (first: line {self._first_blank})"
        if self._nameless:
            numbers = ", ".join(str(place + 1) for place in self._nameless)
            one = len(self._nameless) == 1
            which, verb = (f"column {numbers} has", "was") if one else (f"columns {numbers} have", "were")
            yield f"{which} neither a name nor values and {verb} left out"

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        header = list(self.header or ())
        header_line = 1
        guarded = False  # a table of evalrun, whose formulas begin with an apostrophe
        for row, line in self._rows(text):
            location = f"{self.path}:{line}"
            broken = row if isinstance(row, str) else None
            if not isinstance(row, str):
                joined = "".join(row)
                if len(row) > 1 and (not joined or joined.isspace()) and (self.skip_blank_rows or not header):
                    self._first_blank = self._first_blank if self._blank_rows else line
                    self._blank_rows += 1
                    continue
                broken = None if joined.isascii() else encoding_problem(joined, self.encoding)
            if not header:
                header_line = line
                names = [] if isinstance(row, str) else [unguard_formula(name) for name in row]
                guarded = is_own_table(names)
                header = names if guarded or isinstance(row, str) else [name.strip() for name in row]
                self._nameless = [place for place, name in enumerate(header) if not name]
                broken = broken or header_problem([name for name in header if name])
                if broken:  # without a header no record has column names
                    yield InvalidRecord(broken), location
                    return
            elif broken:
                yield InvalidRecord(broken), location
            elif len(row) != len(header):
                if len(row) > 1 or row[0].strip():  # a line of spaces is a blank line
                    yield InvalidRecord(self._length_problem(len(row), len(header))), location
            elif self._nameless:
                for place in self._nameless:
                    if row[place].strip():
                        problem = f"has no name for column {place + 1}, which has a value on line {line}"
                        yield InvalidRecord(f"{problem}; name the column or remove it"), f"{self.path}:{header_line}"
                        return
                yield {name: cell for name, cell in zip(header, row, strict=True) if name}, location
            elif guarded:
                yield dict(zip(header, map(unguard_formula, row), strict=True)), location
            else:
                yield dict(zip(header, row, strict=True)), location

    def _rows(self, text: TextIO) -> Iterator[tuple[list[str] | str, int]]:
        """Each row with its first line; a message in place of a row that cannot be parsed. Blank lines are skipped."""
        lines = _Lines(text, self.max_record_mb)
        try:
            first = next(lines, "")
        except RecordTooLargeError as wrong:
            yield str(wrong), 1
            return
        sets = SEPARATOR_LINE.fullmatch(first)  # written by Excel, and read by it
        rows = csv_module.reader(
            lines if sets else itertools.chain([first] if first else [], lines),
            delimiter=sets[1] if sets else self.delimiter,
            quoting=csv_module.QUOTE_MINIMAL if self.quoting else csv_module.QUOTE_NONE,
            strict=True,
        )
        while True:
            line = rows.line_num + (2 if sets else 1)
            try:
                row = next(rows, None)
                lines.length = 0
            except RecordTooLargeError as wrong:
                yield f"{wrong}; or a quote is not closed" if self.quoting else str(wrong), line
                return
            except csv_module.Error as broken:
                yield self._parse_problem(str(broken)), line
                continue
            if row is None:
                return
            if row:
                yield row, line

    def _parse_problem(self, message: str) -> str:
        off = "if the file does not use quotes, set quoting: false"
        if "unexpected end of data" in message:
            return f"opens a quote that is never closed; {off}"
        if "expected after" in message:
            return f'has text after a closing quote (a quote inside a quoted field is written ""); {off}'
        return f"cannot be read: {message}"

    def _length_problem(self, count: int, expected: int) -> str:
        fields = "1 field" if count == 1 else f"{count} fields"
        hint = f"; a field with {self.delimiter!r} in it needs quotes" if count > expected and self.quoting else ""
        return f"has {fields}, but the header has {expected}{hint}"


@dataclass(slots=True)
class _Lines:
    """The lines of a file. Raises RecordTooLargeError; `length` counts the characters of the row so far."""

    text: TextIO
    max_record_mb: int
    length: int = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = read_line(self.text, max_record_mb=self.max_record_mb, before=self.length)
        if not line:
            raise StopIteration
        self.length += len(line)
        return line


def header_problem(names: list[str]) -> str | None:
    """What is wrong with the names of the columns, or None."""
    if names and names[0].startswith(('{"', "[{")):
        return "is JSON, not a header of column names; set type: jsonl, or json for one array"
    if problem := names_problem(names):
        return problem
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        return f"has the column {repeated[0]!r} twice; column names must be unique"
    return None
