"""CSV and TSV files: a header line, then records whose values are all text."""

from __future__ import annotations

import csv as csv_module
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from evalrunner.datasets.records import Reader, Record
from evalrunner.datasets.text_files import BrokenLine, read_records, undecoded

LARGEST_FIELD = 2**31 - 1  # characters; csv itself stops at 128 KiB, and more than this is no C long everywhere


def csv(*, path: str, quoting: bool = True, delimiter: str = ",") -> Reader:
    """Records of a CSV file (RFC 4180) with a header line.

    Args:
        quoting: Whether double quotes hold fields together; off, they are characters like any other.
        delimiter: The one character between fields.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"the delimiter is {delimiter!r}; it should be one character, such as ',' or ';'")
    return Delimited(path=path, quoting=quoting, delimiter=delimiter)


def tsv(*, path: str, quoting: bool = True) -> Reader:
    """Records of a file with a header line and tabs between fields.

    Args:
        quoting: Whether double quotes hold fields together; off, they are characters like any other.
    """
    return Delimited(path=path, quoting=quoting, delimiter="\t")


@dataclass(slots=True, kw_only=True)
class Delimited:
    """Reads one file. Places are the lines where records start, from 1."""

    path: str
    quoting: bool
    delimiter: str
    text_only: bool = True

    def __call__(self) -> Iterator[tuple[Record, str]]:
        csv_module.field_size_limit(LARGEST_FIELD)
        return read_records(self.path, self._records, newline="")

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        header: list[str] = []
        for row, line in self._rows(text):
            place = f"{self.path}:{line}"
            broken = row if isinstance(row, str) else undecoded("".join(row))
            if not header:
                header = [] if isinstance(row, str) else [name.strip() for name in row]
                broken = broken or wrong_header(header)
                if broken:  # without a header there are no names to go on with
                    yield BrokenLine(broken), place
                    return
            elif broken:
                yield BrokenLine(broken), place
            elif len(row) != len(header):
                if len(row) > 1 or row[0].strip():  # a line of blanks is a blank line
                    yield BrokenLine(self._ragged(len(row), len(header))), place
            else:
                yield dict(zip(header, row, strict=True)), place

    def _rows(self, text: TextIO) -> Iterator[tuple[list[str] | str, int]]:
        """Each row with its first line; text in place of a row that cannot be parsed. Blank lines are left out."""
        rows = csv_module.reader(
            text,
            delimiter=self.delimiter,
            quoting=csv_module.QUOTE_MINIMAL if self.quoting else csv_module.QUOTE_NONE,
            strict=True,
        )
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv_module.Error as broken:
                yield self._unparsed(str(broken)), line
                continue
            if row is None:
                return
            if row:
                yield row, line

    def _unparsed(self, said: str) -> str:
        off = "if the file does not use quotes, say quoting: false"
        if "unexpected end of data" in said:
            return f"opens a quote that is never closed; {off}"
        if "expected after" in said:
            return f'has text after a closing quote (a quote inside a quoted field is written ""); {off}'
        return f"cannot be read: {said}"

    def _ragged(self, found: int, wanted: int) -> str:
        fields = "1 field" if found == 1 else f"{found} fields"
        hint = f"; a field with {self.delimiter!r} in it needs quotes" if found > wanted and self.quoting else ""
        return f"has {fields} where the header has {wanted}{hint}"


def wrong_header(names: list[str]) -> str | None:
    """What is wrong with the names of the columns, or None."""
    said = undecoded("".join(names))
    if said:
        return said
    for place, name in enumerate(names, 1):
        if not name:
            return f"has no name for column {place}; give it one, or take the column out"
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        return f"names the column {double[0]!r} twice; names have to differ"
    return None
