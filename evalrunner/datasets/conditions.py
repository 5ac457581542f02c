"""Conditions of `where:` as functions: whether a record is selected, whether a check applies to a sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any, Final, Literal, TypeAlias

from evalrunner.datasets.json import parse_list, parse_python_list
from evalrunner.datasets.records import Record
from evalrunner.matching import Pattern, SearchFailed
from evalrunner.prompts import ABSENT, find_value
from evalrunner.spelling import Spelled, SpelledBool
from evalrunner.suite.conditions import is_group, is_negation

COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {">": gt, ">=": ge, "<": lt, "<=": le}
NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\s*", re.ASCII)
MAX_NUMBER: Final = 1_000  # characters

Mode: TypeAlias = Literal["text", "typed", "either"]
"""How values are compared: as text, as in text formats; by type and value; or either, where the format is not known."""
Test: TypeAlias = Callable[[Any], bool]
"""Whether a value, `ABSENT` where there is none, meets a condition. May raise SearchFailed."""

__all__ = ["SearchFailed", "as_keys", "as_texts", "compile_where", "key_of"]


def compile_where(where: Mapping[str, Any], mode: Mode) -> Callable[[Record], bool]:
    """A function that says whether a record meets every condition. It raises SearchFailed for a pattern that is too slow."""
    tests = [_part(name, wanted, mode) for name, wanted in where.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda record: all(test(record) for test in tests)


def _part(name: str, wanted: Any, mode: Mode) -> Callable[[Record], bool]:
    """One entry of `where`: a column with its condition, or conditions of which any, all or none are to be met."""
    if is_group(name, wanted):
        parts = [compile_where(part, mode) for part in wanted]
        combine = any if name == "any" else all
        return lambda record: combine(part(record) for part in parts)
    if is_negation(name, wanted):
        inner = compile_where(wanted, mode)
        return lambda record: not inner(record)
    test = _condition(wanted, mode)
    if "." in name:
        return lambda record: test(find_value(record, name))
    return lambda record: test(record.get(name, ABSENT))


def _condition(wanted: Any, mode: Mode) -> Test:
    if not isinstance(wanted, Mapping):
        return _equals(wanted, mode)
    tests = [_operator(name, value, mode) for name, value in wanted.items()]
    return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)


def _operator(name: str, wanted: Any, mode: Mode) -> Test:
    if name == "not":
        inner, missing = _condition(wanted, mode), "" if mode == "text" else None
        return lambda value: not inner(missing if value is ABSENT else value)
    if name in ("any", "all"):
        tests, combine = [_condition(item, mode) for item in wanted], any if name == "any" else all
        return lambda value: combine(test(value) for test in tests)
    if name == "contains":
        return _contains(wanted)
    if name == "matches":
        return _matches(Pattern(re.compile(wanted), "matches"))
    return _compares(COMPARE[name], wanted)


def _equals(wanted: Any, mode: Mode) -> Test:
    texts, keys = as_texts(wanted), as_keys(wanted)
    if mode == "text":
        return lambda value: isinstance(value, str) and value in texts
    if mode == "typed":
        return lambda value: key_of(value) in keys
    return lambda value: (isinstance(value, str) and value in texts) or (value is not ABSENT and key_of(value) in keys)


def _contains(wanted: Any) -> Test:
    """Whether a list has an item, a mapping a key, or a text a part: any of several. A cell with a list is a list."""
    texts = [str(item) for item in (wanted if isinstance(wanted, list | tuple) else [wanted])]
    is_item = _equals(wanted, "either")

    def test(value: Any) -> bool:
        if isinstance(value, str):
            items = (parse_list(value) or parse_python_list(value)) if value.lstrip()[:1] == "[" else None
            if items is None:
                return any(text in value for text in texts)
            value = items
        if isinstance(value, Mapping):
            return any(text in value for text in texts)
        return isinstance(value, list | tuple) and any(is_item(item) for item in value)

    return test


def _matches(pattern: Pattern) -> Test:
    """Whether a pattern is found in a text or a number, or in an item of a list."""

    def test(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(not isinstance(item, list | tuple) and test(item) for item in value)
        if isinstance(value, bool | SpelledBool):
            return pattern.find("true" if value else "false") is not None
        if isinstance(value, str | int | float):
            return pattern.find(str(value)) is not None
        return False

    return test


def _compares(compare: Callable[[Any, Any], bool], wanted: Any) -> Test:
    """A comparison of numbers, or of texts such as dates. A value of another kind does not meet it."""
    if isinstance(wanted, str):
        return lambda value: isinstance(value, str) and value != "" and compare(value, wanted)
    bound = number_of(wanted)

    def test(value: Any) -> bool:
        number = number_of(value)
        return number is not None and compare(number, bound)

    return test


def number_of(value: Any) -> Decimal | None:
    """The exact number that a value is, or a text holds; None for anything else."""
    if isinstance(value, bool | SpelledBool):
        return None
    if isinstance(value, str):
        return Decimal(value) if len(value) <= MAX_NUMBER and NUMBER.fullmatch(value) else None
    if isinstance(value, int):
        return Decimal(int(value))
    if isinstance(value, float):
        return number_of(str(value))
    return None


def as_texts(wanted: Any) -> frozenset[str]:
    """The cells of a text format that match: `true`, `True` and `TRUE` for true, the empty cell for null."""
    texts: set[str] = set()
    for item in wanted if isinstance(wanted, list | tuple) else [wanted]:
        if isinstance(item, bool | SpelledBool):
            word = str(bool(item))
            texts.update((word.lower(), word, word.upper()))
        else:
            texts.add("" if item is None else str(item))
    return frozenset(texts)


def as_keys(wanted: Any) -> frozenset[Any]:
    """The keys of typed values that match. A number that is not written as Python does, such as 007, also means its text."""
    items = wanted if isinstance(wanted, list | tuple) else [wanted]
    return frozenset(
        key for item in items for key in (key_of(item), *([key_of(str(item))] if isinstance(item, Spelled) else ()))
    )


def key_of(value: Any) -> Any:
    """A key to compare typed values by: 1 equals 1.0 but not true; lists, mappings and absent values equal nothing."""
    if value is ABSENT or isinstance(value, list | dict):
        return ABSENT
    if isinstance(value, float):
        return (False, Decimal(str(value)))  # exact, and equal to an integer of the same value
    return (isinstance(value, bool | SpelledBool), value)
