"""Values of other software (Parquet, YAML, people's own readers) as plain JSON data."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from evalrunner.datasets.records import Record

DEEPEST = 100  # levels of nesting: far from where Python's own recursion limit would end a run


class NotJsonError(ValueError):
    """A value that has no place in a row. The message goes on from the name of its column."""


def json_record(record: Mapping[Any, Any]) -> Record:
    """The record as JSON data. Raises NotJsonError with the column in its message."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if not isinstance(name, str):
            raise NotJsonError(f"has a column {name!r} whose name is not text; put it in quotes")
        try:
            found[name] = json_value(value)
        except NotJsonError as wrong:
            raise NotJsonError(f"has a column {name!r} that {wrong}") from None
    return found


def json_value(value: Any, *, depth: int = 1) -> Any:
    """The value as JSON data: dates as ISO 8601 text, NaN as null, bytes as text or else base64."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if depth > DEEPEST:
        raise NotJsonError(f"is nested more than {DEEPEST} levels deep")
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(name): json_value(item, depth=depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, depth=depth + 1) for item in value]
    if isinstance(value, Decimal):
        return _finite(float(value)) if value % 1 or not value.is_finite() else int(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if callable(getattr(value, "tolist", None)):  # numpy's scalars and arrays, without importing numpy
        return json_value(value.tolist(), depth=depth + 1)
    raise NotJsonError(
        f"holds a value of type {type(value).__name__}; rows are made of text, numbers, lists and mappings"
    )


def deeper_than(value: Any, limit: int) -> bool:
    """Whether lists and mappings are nested more than `limit` levels deep."""
    if not isinstance(value, dict | list):
        return False
    if limit <= 0:
        return True
    return any(deeper_than(item, limit - 1) for item in (value.values() if isinstance(value, dict) else value))


def _finite(number: float) -> float | None:
    """The number; None for NaN, which is how tables say that nothing is there."""
    if math.isinf(number):
        raise NotJsonError("holds an infinite number")
    return None if math.isnan(number) else number
