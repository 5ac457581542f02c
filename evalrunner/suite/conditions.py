"""The conditions of `where:`: which forms they have, what is wrong with one, and the columns they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from evalrunner.errors import SuiteError, nearest
from evalrunner.matching import compiles_soon
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.validate import describe_value
from evalrunner.suite.yaml import parse_document

COMPARISONS: Final = (">", ">=", "<", "<=")
GROUPS: Final = ("any", "all")
OPERATORS: Final = ("not", "contains", "matches", *COMPARISONS, *GROUPS)
MAX_DEPTH: Final = 20  # of conditions in conditions
MAX_PATTERN: Final = 1_000  # characters
SIGN: Final = re.compile(r"!=|>=|<=|=|>|<")  # between the column and the value of `--where`
EXAMPLE: Final = "{contains: a}"

PathProblems: TypeAlias = Iterator[tuple[KeyPath, str]]
"""The path of a problem below the conditions, and the problem."""


def condition_problems(where: Mapping[str, Any], path: KeyPath = (), depth: int = 1) -> PathProblems:
    """What is wrong with conditions on columns."""
    if depth > MAX_DEPTH:
        yield path, f"is nested more than {MAX_DEPTH} levels deep"
        return
    for name, wanted in where.items():
        if is_group(name, wanted):
            for place, part in enumerate(wanted):
                yield from condition_problems(part, (*path, name, place), depth + 1)
        elif is_negation(name, wanted):
            yield from condition_problems(wanted, (*path, name), depth + 1)
        else:
            yield from _problems(wanted, (*path, name), depth)


def _problems(wanted: Any, path: KeyPath, depth: int) -> PathProblems:
    """What is wrong with the condition on one column."""
    if not isinstance(wanted, Mapping):
        yield from _value_problems(wanted, path)
        return
    if depth > MAX_DEPTH:
        yield path, f"is nested more than {MAX_DEPTH} levels deep"
        return
    if not wanted:
        yield path, f"is an empty mapping; write a value, a list of them, or an operator such as {EXAMPLE}"
    for name, item in wanted.items():
        here = (*path, name)
        if name not in OPERATORS:
            hint = nearest(str(name), OPERATORS) or f"; operators: {', '.join(OPERATORS)}"
            yield path, f"has the unknown operator {str(name)!r}{hint}"
        elif name == "not":
            yield from _problems(item, here, depth + 1)
        elif name in GROUPS:
            yield from _group_problems(item, here, depth)
        elif name == "matches":
            yield from _pattern_problems(item, here)
        elif name in COMPARISONS:
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                yield here, f"is {describe_value(item)}; it should be a number, or text such as a date"
        else:
            yield from _value_problems(item, here)


def _value_problems(wanted: Any, path: KeyPath) -> PathProblems:
    for item in wanted if isinstance(wanted, list | tuple) else [wanted]:
        if isinstance(item, list | tuple | Mapping):
            yield path, f"is {describe_value(item)}; it should be a plain value or a list of them"


def _group_problems(wanted: Any, path: KeyPath, depth: int) -> PathProblems:
    if not isinstance(wanted, list | tuple) or not wanted:
        yield path, f"is {describe_value(wanted)}; it should be a list of conditions such as [{EXAMPLE}]"
        return
    for place, item in enumerate(wanted):
        yield from _problems(item, (*path, place), depth + 1)


def _pattern_problems(pattern: Any, path: KeyPath) -> PathProblems:
    if not isinstance(pattern, str):
        yield path, f"is {describe_value(pattern)}; it should be a regular expression"
    elif len(pattern) > MAX_PATTERN:
        yield path, f"has {len(pattern):,} characters; at most {MAX_PATTERN:,} are allowed"
    elif "{" in pattern and not compiles_soon(pattern, 0):
        yield path, "takes too long to compile; use smaller repetitions"
    else:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as wrong:
            yield path, f"is no regular expression: {wrong}"


def is_group(name: str, wanted: Any) -> bool:
    """Whether an entry of `where` is `any` or `all` of several conditions, not a column of that name."""
    listed = isinstance(wanted, list | tuple) and bool(wanted)
    return name in GROUPS and listed and all(isinstance(item, Mapping) for item in wanted)


def is_negation(name: str, wanted: Any) -> bool:
    """Whether an entry of `where` is `not` of conditions on columns."""
    return name == "not" and isinstance(wanted, Mapping) and bool(wanted) and not wanted.keys() <= set(OPERATORS)


def has_pattern(where: Any) -> bool:
    """Whether a condition has a pattern, whose search may be too slow."""
    if isinstance(where, Mapping):
        return "matches" in where or any(map(has_pattern, where.values()))
    return isinstance(where, list | tuple) and any(map(has_pattern, where))


def condition_columns(where: Mapping[str, Any]) -> list[str]:
    """The columns that conditions name, each once."""
    return list(dict.fromkeys(_columns(where)))


def _columns(where: Mapping[str, Any]) -> Iterator[str]:
    for name, wanted in where.items():
        if is_group(name, wanted):
            for part in wanted:
                yield from _columns(part)
        elif is_negation(name, wanted):
            yield from _columns(wanted)
        else:
            yield name


def parse_conditions(texts: Iterable[str]) -> dict[str, Any]:
    """The conditions of several `--where COLUMN=VALUE`. Operators on one column apply together; the last value wins."""
    where: dict[str, Any] = {}
    for text in texts:
        column, wanted = parse_condition(text)
        before = where.get(column)
        if (column in where and isinstance(before, Mapping) and not is_negation(column, before)) or (
            column in where and isinstance(wanted, Mapping)
        ):
            wanted = {"all": [before, wanted]}
        where[column] = wanted
    return where


def parse_condition(text: str) -> tuple[str, Any]:
    """Column and condition of one `--where`; the value is typed as YAML, so `[a, b]` means either."""
    sign = SIGN.search(text)
    column = text[: sign.start()].strip() if sign is not None else ""
    if sign is None or not column:
        raise SuiteError(f"--where {text!r}: should read column=value, or have !=, >, >=, < or <= in place of =")
    flag = f"--where {text!r}"
    try:
        value = parse_document(text[sign.end() :], file=flag, base=("dataset", "where")).data
    except SuiteError as broken:
        raise SuiteError(f"{flag}: {broken.problems[0].message}") from None
    if sign[0] == "=":
        return column, value
    return column, {"not" if sign[0] == "!=" else sign[0]: value}
