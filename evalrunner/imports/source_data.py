"""The data files of other tools: JSON, JSON Lines, CSV and YAML that somebody exported, with limits."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import Problem, SuiteError
from evalrunner.imports.migration import Place
from evalrunner.storage import EncodingError, FileTooLargeError, decode_utf8, dump_json, load_json, read_file
from evalrunner.suite.yaml import Document, parse_document

MAX_BYTES: Final = 512 * 2**20  # of an export: answers with their messages, of many thousand samples
MAX_CELL: Final = 16 * 2**20  # characters of a cell of CSV, as of a record of a dataset
MAX_DEPTH: Final = 100  # levels of nesting, as in suites
NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a source file. Raises SuiteError that says why it cannot be read."""
    try:
        return decode_utf8(read_file(path, max_bytes=max_bytes))
    except FileNotFoundError:
        raise unreadable(path, "file not found") from None
    except FileTooLargeError as large:
        raise unreadable(path, str(large.strerror or large)) from None
    except IsADirectoryError:
        raise unreadable(path, "is a folder; name a file in it") from None
    except OSError as refused:
        raise unreadable(path, f"cannot be read: {refused.strerror or refused}") from None
    except EncodingError as wrong:
        raise unreadable(path, str(wrong), wrong.line) from None


def unreadable(path: Path, message: str, line: int | None = None) -> SuiteError:
    """The error of a source that nothing can be made of (exit code 2)."""
    return SuiteError([Problem(f"{path}:{line}" if line else str(path), "", message)])


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises SuiteError."""
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path, line: int | None = None) -> Any:
    """The value of a JSON text; numbers that are none are None, as `dump_json` could not write them."""
    try:
        value = load_json(text.encode("utf-8", "replace"))
    except json.JSONDecodeError as wrong:
        at = line or wrong.lineno
        raise unreadable(path, f"is not JSON: {wrong.msg} (column {wrong.colno})", at) from None
    except (ValueError, RecursionError) as wrong:
        reason = "nested too deeply" if isinstance(wrong, RecursionError) else str(wrong)
        raise unreadable(path, f"is not JSON: {reason}", line) from None
    return _finite(value, path, 0)


def _finite(value: Any, path: Path, depth: int) -> Any:
    """The value without NaN and infinity, which Python writes in JSON and nobody else reads."""
    if depth > MAX_DEPTH:
        raise unreadable(path, f"is nested more than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_finite(item, path, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item, path, depth + 1) for key, item in value.items()}
    return value


def read_records(path: Path, *, keys: Iterable[str] = ()) -> list[tuple[int | None, dict[str, Any]]]:
    """The records of JSON (a list, or one under one of `keys`), JSON Lines or CSV, with their lines where they have one.

    Raises SuiteError if the file has none of these forms, or a record is no mapping.
    """
    text = read_text(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return list(_csv_records(text, path))
    try:
        value = parse_json(text, path)
    except SuiteError:
        if path.suffix.lower() not in (".jsonl", ".ndjson") and "\n{" not in text.strip():
            raise
        return list(_json_lines(text, path))
    if isinstance(value, dict):
        value = next((value[key] for key in keys if isinstance(value.get(key), list)), [value])
    if not isinstance(value, list):
        raise unreadable(path, f"holds {kind(value)}, not a list of records")
    for index, record in enumerate(value):
        if not isinstance(record, dict):
            raise unreadable(path, f"record {index + 1} is {kind(record)}, not an object")
    return [(None, record) for record in value]


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            value = parse_json(line, path, number)
            if not isinstance(value, dict):
                raise unreadable(path, f"holds {kind(value)}, not an object", number)
            yield number, value


def _csv_records(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        for row in reader:
            if None in row:
                raise unreadable(path, "has more cells than the header has columns", reader.line_num)
            yield reader.line_num, {str(name): cell for name, cell in row.items() if cell is not None}
    except csv.Error as wrong:
        raise unreadable(path, f"is not CSV: {wrong}", reader.line_num) from None


def read_yaml(path: Path, text: str | None = None) -> Document:
    """A YAML file with the lines of its values. Raises SuiteError."""
    return parse_document(read_text(path, max_bytes=16 * 2**20) if text is None else text, file=str(path))


def line_of(document: Document, path: tuple[str | int, ...]) -> int | None:
    """The line of a value in a YAML file."""
    mark = document.keys.get(path) or document.mark(path)
    return mark.line if mark else None


def plain(value: Any) -> Any:
    """A value of YAML as plain Python: numbers without their spelling."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return value if type(value) is base else base(value)
    return value


def kind(value: Any) -> str:
    """What a value is, for messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def text_of(value: Any) -> str:
    """A value as text: text as it is, None as nothing, others as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)


def message_text(content: Any) -> str:
    """The text of a message's content: text, or a list of parts of which those without text are left out."""
    if isinstance(content, list):
        parts = [
            part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | dict)
        ]
        return "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    return text_of(content)


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """Records as JSON Lines."""
    return "".join(dump_json(dict(record)) + "\n" for record in records)


def slug(text: Any, fallback: str, *, taken: Iterable[str] = ()) -> str:
    """A name of letters, digits, `_`, `.` and `-` for suites, files, targets and metrics, that is not `taken`."""
    base = NAME.sub("-", text_of(text)).strip("-._")[:60] or fallback
    names = set(taken)
    name, number = base, 2
    while name in names:
        name, number = f"{base}-{number}", number + 1
    return name


def unread(place: Place, record: Mapping[str, Any], read: Iterable[str]) -> list[tuple[Place, str]]:
    """Place and name of the keys of a mapping that nobody has read."""
    known = set(read)
    prefix = f"{place.path}." if place.path else ""
    return [(Place(place.file, place.line, prefix + key), key) for key in record if key not in known]
