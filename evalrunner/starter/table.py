"""Data files of any shape as rows: other encodings and delimiters, no header, JSON under a key, sheets of Excel."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import SuiteError
from evalrunner.formatting import counted
from evalrunner.starter.columns import is_known_name
from evalrunner.storage import FileTooLargeError, read_file

MAX_BYTES: Final = 64 * 2**20  # `init` reads the whole file; a larger one is described by a suite written by hand
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
PROBE_ROWS: Final = 200  # from which the delimiter is guessed
LONG_NAME: Final = 40  # characters; a longer first cell is a value, not a name


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a file with the names of their columns.

    `direct` says that a suite reads the file as it is, with `options` of its reader; a copy is needed otherwise.
    `notes` say what was guessed.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[Mapping[str, Any]]
    notes: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    direct: bool = True

    def values(self, column: str) -> list[str]:
        """The values of a column as text."""
        return [as_text(row.get(column)) for row in self.rows]


def as_text(value: Any) -> str:
    """A value as the text of a cell: JSON for lists and objects, empty for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def read_table(path: Path) -> Table:
    """The rows of a file. Raises SuiteError if it holds none, or cannot be read."""
    if path.is_dir():
        raise SuiteError(f"--from {str(path)!r} is a folder; name a file: .csv, .tsv, .json, .jsonl or .xlsx")
    if not path.exists():
        from evalrunner.datasets.files import nearest_file

        raise SuiteError(f"--from {str(path)!r}: file not found{nearest_file(path, Path())}")
    if path.suffix.lower() in (".xlsx", ".parquet"):
        table = _read_binary(path)
    else:
        try:
            data = read_file(path, max_bytes=MAX_BYTES)
        except FileTooLargeError:
            raise SuiteError(
                f"--from {str(path)!r} is larger than {MAX_BYTES // 2**20} MB; use a part of it, and then set "
                "dataset.path in the suite to the whole file"
            ) from None
        except OSError as refused:
            raise SuiteError(f"--from {str(path)!r}: {refused.strerror or refused}") from None
        text, note = _decode(path, data)
        is_json = path.suffix.lower() in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "[")
        table = _read_json(path, text, note) if is_json else _read_delimited(path, text, note)
    if not table.rows:
        raise SuiteError(f"--from {str(path)!r} has no rows; it needs a line with names and a line for each sample")
    return table


def _decode(path: Path, data: bytes) -> tuple[str, str]:
    """The text of a file and the name of its encoding, empty for UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        pass
    if b"\0" in data[:4096]:
        raise SuiteError(f"--from {str(path)!r} is no text; name a file: .csv, .tsv, .json, .jsonl or .xlsx")
    try:
        return data.decode("cp1252"), "Windows-1252 (Latin-1)"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1"


def _read_binary(path: Path) -> Table:
    """The rows of a workbook or a Parquet file, with the reader that a run uses."""
    from evalrunner.datasets.records import InvalidRecord
    from evalrunner.plugins import load

    rows: list[Mapping[str, Any]] = []
    for record, location in load("datasets", path.suffix[1:].lower())(path=str(path))():
        if isinstance(record, InvalidRecord):
            raise SuiteError(f"--from {location} {record.message}")
        rows.append(record)
    return Table(path, _names_of(rows), rows)


def _read_json(path: Path, text: str, encoding: str) -> Table:
    """JSON lines, a list of objects, or an object with such a list under one of its keys."""
    notes = [f"the file is {encoding}"] if encoding else []
    direct, suffix = not encoding, path.suffix.lower()
    try:
        data = json.loads(text)
        is_lines = isinstance(data, dict) and suffix in (".jsonl", ".ndjson")
    except ValueError:
        is_lines, data = True, None
    if is_lines:
        data, direct = list(_json_lines(path, text)), direct and suffix in (".jsonl", ".ndjson")
    elif isinstance(data, dict):
        direct, key = False, max(data, key=lambda name: _size(data[name]), default="")
        if _size(data.get(key)) == 0:
            data = [data]
        else:
            notes.append(f"the rows are the list {key!r}")
            data = data[key]
    else:
        direct = direct and suffix == ".json"
    if not isinstance(data, list):
        raise SuiteError(f"--from {str(path)!r} is one JSON value; it needs a list of objects, or one object per line")
    rows: list[Mapping[str, Any]] = [row for row in data if isinstance(row, dict)]
    if pairs := [row for row in data if isinstance(row, list) and len(row) == 2]:
        rows, direct = [{"input": first, "expected": second} for first, second in pairs], False
        notes.append("each row is a pair: input, expected")
    if dropped := len(data) - len(rows):
        notes.append(f"{counted(dropped, 'entry', 'entries')} left out: no object")
        direct = False
    return Table(path, _names_of(rows), rows, tuple(notes), direct=direct)


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                raise SuiteError(f"--from {path}:{number} is not JSON; each line should hold one object") from None


def _size(value: Any) -> int:
    """The number of objects in a list."""
    return sum(isinstance(item, dict) for item in value) if isinstance(value, list) else 0


def _names_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _read_delimited(path: Path, text: str, encoding: str) -> Table:
    """A table with any delimiter, with or without a line of names; short rows are filled, long ones left out."""
    notes = [f"the file is {encoding}"] if encoding else []
    first, _, rest = text.partition("\n")
    sets = first.strip().strip('"')
    declared = sets[4] if sets.lower().startswith("sep=") and len(sets) == 5 else None
    delimiter = declared or guess_delimiter(text)
    split = split_rows(rest if declared else text, delimiter)
    lines = [row for row in split if any(cell.strip() for cell in row)]
    if not lines:
        return Table(path, (), [])
    if empty := sum(len(row) > 1 for row in split) - sum(len(row) > 1 for row in lines):
        notes.append(f"{counted(empty, 'row')} left out: no text in any column")
    width = len(lines[0])
    if has_header(lines):
        names = [cell.strip() for cell in lines[0]]
        body = lines[1:]
    else:
        names, body = [f"column{place}" for place in range(1, width + 1)], lines
        notes.append("the first line is data, so the columns have numbers for names")
    whole = len(set(names)) == len(names) and all(names) and body is not lines
    names = _distinct(names)
    fitting = [row for row in body if len(row) <= width]
    if dropped := len(body) - len(fitting):
        notes.append(f"{counted(dropped, 'row')} left out: more cells than the first line")
    if short := sum(len(row) < width for row in fitting):
        notes.append(f"{counted(short, 'row')} with fewer cells filled up")
    rows: list[Mapping[str, Any]] = [
        dict(zip(names, [*row, *[""] * (width - len(row))], strict=True)) for row in fitting
    ]
    if delimiter != ",":
        notes.append(f"columns are separated by {DELIMITERS.get(delimiter, repr(delimiter))}")
    is_tsv = path.suffix.lower() == ".tsv"
    direct = whole and not encoding and not dropped and not short and (not is_tsv or delimiter == "\t")
    options = {}
    if path.suffix.lower() not in (".csv", ".tsv"):
        options["type"] = "csv"
    if delimiter != "," and not is_tsv and declared is None:
        options["delimiter"] = delimiter
    return Table(path, tuple(names), rows, tuple(notes), options, direct)


def split_rows(text: str, delimiter: str) -> list[list[str]]:
    """The cells of each line."""
    csv.field_size_limit(2**31 - 1)  # as the reader of a run has it
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def guess_delimiter(text: str) -> str:
    """The delimiter with which most of the first rows have the same number of cells, and more than one; else a comma."""
    head = "\n".join(text.split("\n", PROBE_ROWS)[:PROBE_ROWS])
    best, delimiter = (0.0, 0), ","
    for candidate in DELIMITERS:
        widths = [len(row) for row in split_rows(head, candidate) if row]
        if not widths or widths[0] < 2:
            continue
        share = widths.count(widths[0]) / len(widths)
        if (share, widths[0]) > best:
            best, delimiter = (share, widths[0]), candidate
    return delimiter


def has_header(lines: Sequence[Sequence[str]]) -> bool:
    """Whether the first line holds names: short, distinct texts, none of them a number or a question."""
    first = [cell.strip() for cell in lines[0]]
    if any(map(is_known_name, first)):
        return True
    named = [cell for cell in first if cell]
    if len(lines) == 1 or len(set(named)) < len(named):
        return False
    return not any(len(cell) > LONG_NAME or cell[-1:] in "?!.？。" or _is_number(cell) for cell in named)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where they are empty or repeat."""
    seen: dict[str, int] = {}
    distinct = []
    for place, name in enumerate(names, 1):
        name = name or f"column{place}"  # noqa: PLW2901
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return distinct
