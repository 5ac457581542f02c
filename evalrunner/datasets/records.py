"""Records of a dataset: what readers yield, their limits, and values as JSON data."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Protocol, TextIO, TypeAlias

from evalrunner.spelling import Spelled, parse_float, parse_int

MIB = 2**20
VALUES_PER_MB = 2**16  # of JSON: an empty list has 3 characters, and takes 64 bytes of memory
MAX_RECORD_MB = 2_000  # that can be set; csv counts a field in 31 bits
MAX_COLUMNS = 50_000  # a sheet of Excel has 16,384
MAX_COLUMN_NAME = 1_000  # characters
MAX_DEPTH = 100  # levels of nesting, far below Python's recursion limit

TABLE_START = ("id", "target", "epoch", "input")
TABLE_END = ("latency", "token_count", "cost_usd", "finish_reason")

Record: TypeAlias = Mapping[str, Any]
"""One record of a dataset as its file has it: column name to value."""


class Reader(Protocol):
    """What a dataset factory returns. Each call reads from the start and yields records with their locations.

    The location is for error messages, such as `data/qa.csv:7`. `text_only` says that every value is text.
    """

    text_only: bool

    def __call__(self) -> Iterator[tuple[Record, str]]: ...


def is_own_table(columns: Iterable[str]) -> bool:
    """Whether these are the columns of a table of rows that evalrun wrote."""
    names = tuple(columns)
    return names[: len(TABLE_START)] == TABLE_START and names[-len(TABLE_END) :] == TABLE_END


class InvalidRecord(dict[str, Any]):
    """What a reader yields in place of a record that cannot be read: no columns, and a message.

    A reader does not raise for one record, so that all invalid lines of a file are reported at once.
    """

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message


def names_problem(names: Collection[str]) -> str | None:
    """What is wrong with the number or the length of column names, or None."""
    if len(names) > MAX_COLUMNS:
        return f"has {len(names):,} columns; at most {MAX_COLUMNS:,} are read"
    longest = max(map(len, names), default=0)
    if longest > MAX_COLUMN_NAME:
        return f"has a column name of {longest:,} characters; at most {MAX_COLUMN_NAME:,} are read"
    return None


class RecordTooLargeError(ValueError):
    """A record that is larger than a dataset may have. The message continues its location."""

    def __init__(self, max_record_mb: int, what: str = "") -> None:
        what = what or f"{max_record_mb} MiB"
        super().__init__(f"has more than {what} in one record; if that is right, set dataset.max_record_mb")


def checked_size(max_record_mb: int) -> int:
    """The option as it is. Raises ValueError where it is no size."""
    if not 1 <= max_record_mb <= MAX_RECORD_MB:
        raise ValueError(f"max_record_mb is {max_record_mb}; it must be between 1 and {MAX_RECORD_MB:,}")
    return max_record_mb


def limit_values(text: str, max_record_mb: int) -> None:
    """Raise RecordTooLargeError for JSON of so many lists, objects and values that they would fill the memory."""
    limit = max_record_mb * VALUES_PER_MB
    if len(text) > limit and text.count(",") + text.count("[") + text.count("{") > limit:
        raise RecordTooLargeError(max_record_mb, f"{limit:,} values")


def read_line(text: TextIO, *, max_record_mb: int, before: int = 0) -> str:
    """The next line, empty at the end. Raises RecordTooLargeError if it is too long, with `before` characters before it."""
    limit = max_record_mb * MIB - before
    line = text.readline(limit + 1)
    if len(line) > limit:
        raise RecordTooLargeError(max_record_mb)
    return line


class NotJsonError(ValueError):
    """A value that has no JSON form. The message continues the name of its column."""


def json_record(record: Mapping[Any, Any]) -> Record:
    """A record of another library (Parquet, YAML, a custom reader) as JSON data. Raises NotJsonError."""
    values: dict[str, Any] = {}
    for name, value in record.items():
        if not isinstance(name, str):
            raise NotJsonError(f"has a column {name!r} whose name is not text; put it in quotes")
        try:
            values[name] = json_value(value)
        except NotJsonError as wrong:
            raise NotJsonError(f"has a column {name!r} that {wrong}") from None
    return values


def json_value(value: Any, *, depth: int = 1) -> Any:
    """The value as JSON data: dates as ISO 8601 text, NaN as null, bytes as text or else base64."""
    if value is None or isinstance(value, str | bool | int | Spelled):
        return value
    if depth > MAX_DEPTH:
        raise NotJsonError(f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(name): json_value(item, depth=depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, depth=depth + 1) for item in value]
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return _seconds(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if callable(getattr(value, "tolist", None)):  # numpy's scalars and arrays, without importing numpy
        return json_value(value.tolist(), depth=depth + 1)
    raise NotJsonError(f"has a value of type {type(value).__name__}; use text, numbers, lists and mappings")


def deeper_than(value: Any, limit: int) -> bool:
    """Whether lists and mappings are nested more than `limit` levels deep."""
    if not isinstance(value, dict | list):
        return False
    if limit <= 0:
        return True
    return any(deeper_than(item, limit - 1) for item in (value.values() if isinstance(value, dict) else value))


def _seconds(value: timedelta) -> float:
    """The seconds of a duration, exactly; those of pandas count nanoseconds."""
    nanoseconds = getattr(value, "nanoseconds", 0)
    if not nanoseconds:
        return value.total_seconds()
    microseconds = value // timedelta(microseconds=1)
    return parse_float(f"{Decimal(microseconds * 1000 + nanoseconds).scaleb(-9):f}")


def _decimal(value: Decimal) -> float | int | None:
    """The number with all its digits, as the column's scale has them: 1.50 stays 1.50."""
    if not value.is_finite():
        return _finite(float(value))
    text = f"{value:f}"
    return parse_float(text) if "." in text else parse_int(text)


def _finite(number: float) -> float | None:
    """The number; None for NaN, by which tables mark a missing value."""
    if math.isinf(number):
        raise NotJsonError("has an infinite number")
    return None if math.isnan(number) else number
