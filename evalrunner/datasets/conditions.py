"""`where`: which records are kept. Text formats compare as text, the others by type and value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from evalrunner.datasets.records import Record
from evalrunner.prompts import ABSENT, find_value

Getter: TypeAlias = Callable[[Record], Any]
Keeps: TypeAlias = Callable[[Record], bool]


def getter(column: str) -> Getter:
    """What finds the value of a column or dotted path in a record; `ABSENT` where there is none."""
    if "." in column:
        return lambda record: find_value(record, column)
    return lambda record: record.get(column, ABSENT)


def compile_where(where: Mapping[str, Any], *, text_only: bool) -> Keeps:
    """What says whether a record has, in every column named, the value or one of those listed."""
    allowed = as_texts if text_only else as_keys
    tests = [(getter(column), allowed(wanted)) for column, wanted in where.items()]
    if text_only:
        return lambda record: all(isinstance(cell := get(record), str) and cell in wanted for get, wanted in tests)
    return lambda record: all(key_of(get(record)) in wanted for get, wanted in tests)


def as_texts(wanted: Any) -> frozenset[str]:
    """What the cells of a text format may say: `true` and Python's own `True` for true, nothing for null."""
    texts: set[str] = set()
    for item in wanted if isinstance(wanted, list | tuple) else [wanted]:
        if isinstance(item, bool):
            word = str(item)
            texts.update((word.lower(), word, word.upper()))
        else:
            texts.add("" if item is None else str(item))
    return frozenset(texts)


def as_keys(wanted: Any) -> frozenset[Any]:
    return frozenset(key_of(item) for item in (wanted if isinstance(wanted, list | tuple) else [wanted]))


def key_of(value: Any) -> Any:
    """What typed values are compared by: 1 is 1.0 but not true; lists, mappings and what is absent equal nothing."""
    if value is ABSENT or isinstance(value, list | dict):
        return ABSENT
    return (isinstance(value, bool), value)
