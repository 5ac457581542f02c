"""Sheets of Excel. A cell reads as it is shown, but never rounded."""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from evalrunner.datasets.csv import header_problem
from evalrunner.datasets.records import (
    MIB,
    InvalidRecord,
    Reader,
    Record,
    RecordTooLargeError,
    checked_size,
    is_own_table,
    json_value,
)
from evalrunner.errors import MissingExtraError, nearest
from evalrunner.limits import STANDARD
from evalrunner.spelling import parse_float, parse_int

MAX_ROWS = 1_048_576  # of a sheet
UNPACKED_PER_MB = 8  # MiB of a workbook, whose texts are all held in memory, for each MiB of a record
ELEMENTS_PER_MB = 262_144  # XML elements for each MiB of a record: a cell has two or three, and a million take seconds
BLOCK = 2**20
DIGITS = 15  # that Excel keeps of a number; its files may have 17
LITERALS = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')  # texts, conditions, colors and spaces in a number format
ZEROS = re.compile(r"(?P<whole>0*)(?:\.(?P<part>0*))?")
HOURS = re.compile(r"[hHsS]")
ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")  # as Excel writes what XML cannot hold


def xlsx(*, path: str, sheet: str | None = None, max_record_mb: int = STANDARD.record_mb) -> Reader:
    """Records of a sheet of Excel whose first row has the names. Raises MissingExtraError if openpyxl is not installed.

    Args:
        sheet: Name of the sheet. The default is the first one.
        max_record_mb: Maximum size of a row, in million characters.
    """
    try:
        import openpyxl  # noqa: F401  reported now, not in the first pass
    except ImportError:
        raise MissingExtraError("Excel files", "xlsx") from None
    return ExcelSheet(path, sheet, checked_size(max_record_mb))


@dataclass(slots=True)
class ExcelSheet:
    """Reads one sheet. Locations count its rows, from 1."""

    path: str
    sheet: str | None
    max_record_mb: int
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        try:
            with _open_book(self.path, self.max_record_mb) as book:
                if self.sheet is not None and self.sheet not in book.sheetnames:
                    known = f"; it has: {', '.join(book.sheetnames)}{nearest(self.sheet, book.sheetnames)}"
                    yield InvalidRecord(f"no sheet {self.sheet!r}{known}"), self.path
                    return
                yield from self._records(book[self.sheet or book.sheetnames[0]])
        except UnpackedTooLargeError as wrong:
            yield InvalidRecord(str(wrong)), self.path
        except (
            zipfile.BadZipFile,
            zlib.error,
            KeyError,
            OSError,
            SyntaxError,
            ValueError,
        ) as broken:  # of openpyxl, for other files
            reason = str(broken).strip().partition("\n")[0]
            yield InvalidRecord(f"cannot be read as Excel: {reason}"), self.path

    def _records(self, sheet: Any) -> Iterator[tuple[Record, str]]:
        sheet.reset_dimensions()  # other programs write wrong ones
        names: dict[int, str] = {}
        for number, row in enumerate(sheet.iter_rows(), 1):
            if number > MAX_ROWS:
                yield (
                    InvalidRecord(f"has more than {MAX_ROWS:,} rows, as no sheet of Excel has"),
                    f"{self.path}:{number}",
                )
                return
            cells = {place: cell for place, cell in enumerate(row) if cell.value is not None}
            location = f"{self.path}:{number}"
            if not cells:
                continue
            if not names:
                names = {place: str(_value(cell)) for place, cell in cells.items()}
                if not is_own_table(names.values()):
                    names = {place: name.strip() for place, name in names.items()}
                if problem := header_problem(list(names.values())):
                    yield InvalidRecord(problem), location
                    return
            elif (
                sum(len(cell.value) for cell in cells.values() if isinstance(cell.value, str))
                > self.max_record_mb * MIB
            ):
                yield InvalidRecord(str(RecordTooLargeError(self.max_record_mb))), location
            else:
                yield _record(names, cells), location


class UnpackedTooLargeError(Exception):
    """A workbook that is larger than it looks. The message continues its name."""


@contextmanager
def _open_book(path: str, max_record_mb: int) -> Iterator[Any]:
    import openpyxl

    with zipfile.ZipFile(path) as packed:
        _limit_parts(packed, max_record_mb)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that have no values: styles, validations
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        yield book
    finally:
        book.close()


def _limit_parts(packed: zipfile.ZipFile, max_record_mb: int) -> None:
    """Raises UnpackedTooLargeError for a workbook with more bytes or elements of XML than openpyxl reads in seconds."""
    advice = "save the sheet as CSV, or set dataset.max_record_mb"
    size, most_mb = sum(part.file_size for part in packed.infolist()), UNPACKED_PER_MB * max_record_mb
    if size > most_mb * MIB:  # no more of a part is unpacked than its size here
        raise UnpackedTooLargeError(f"unpacks to {size / MIB:,.0f} MiB, but at most {most_mb:,} are read; {advice}")
    elements, most = 0, ELEMENTS_PER_MB * max_record_mb
    for part in packed.infolist():
        with packed.open(part) as file:
            while block := file.read(BLOCK):
                elements += block.count(b"<") - block.count(b"</")
                if elements > most:
                    raise UnpackedTooLargeError(f"has more than {most:,} XML elements (a cell has 2 or 3); {advice}")


def _record(names: dict[int, str], cells: dict[int, Any]) -> Record:
    for place, cell in cells.items():
        if place not in names:
            return InvalidRecord(f"has a value in {cell.coordinate}, whose column has no name in the first row")
        if cell.data_type == "e":
            return InvalidRecord(f"has the error {cell.value} in {cell.coordinate}; correct the cell or clear it")
    return {name: _value(cells[place]) if place in cells else None for place, name in names.items()}


def _value(cell: Any) -> Any:
    """The value of a cell: text, a number or a boolean; dates as ISO 8601, percentages as text."""
    value = cell.value
    if isinstance(value, str):
        return ESCAPED.sub(lambda found: _character(int(found[1], 16)) or found[0], value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, cell.number_format)
    if isinstance(value, datetime) and value == datetime(value.year, value.month, value.day):  # noqa: DTZ001  Excel has no zones
        hours = HOURS.search(LITERALS.sub("", cell.number_format))
        return value.isoformat() if hours else value.date().isoformat()
    return json_value(value)


def _character(code: int) -> str | None:
    return None if 0xD800 <= code <= 0xDFFF else chr(code)


def _number(value: float, number_format: str) -> Any:
    """The number with the zeros that its format adds, and a percentage as text; other formats do not count."""
    section = LITERALS.sub("", number_format.partition(";")[0]).strip()
    percent = section.endswith("%")
    exact = Decimal(value) if isinstance(value, int) else Decimal(f"{value:.{DIGITS}g}")
    whole, _, part = f"{exact * 100 if percent else exact:f}".partition(".")
    if percent:  # 0.25 * 100 is 25.00
        part = part.rstrip("0")
    zeros = ZEROS.search(section.lstrip("#,")) if "E" not in section and "/" not in section else None
    if zeros:
        digits = whole.lstrip("-")
        fill = len(zeros["whole"]) if not section.startswith(("#", ",")) else 1
        whole = "-" * (len(whole) - len(digits)) + digits.zfill(fill)
        part = part.ljust(len(zeros["part"] or ""), "0")
    text = f"{whole}.{part}" if part else whole
    if percent:
        return f"{text}%"
    return parse_float(text) if part else parse_int(text)
