"""Which columns of a table hold the choices of multiple-choice questions, and how the right one is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evalrunner.starter.columns import fold
from evalrunner.template_filters import LETTERS

LIST_NAMES: Final = ("choices", "options", "possibleanswers", "answerchoices", "alternatives")
PREFIXES: Final = ("", "option", "choice", "answer", "opt")


def guess_choices(names: Sequence[str], rows: Sequence[Mapping[str, Any]], expected: str | None) -> Any:
    """What `columns.choices` of a suite says, None where the rows are no multiple-choice questions.

    Only where the expected answer of each row is a letter, an index or a text of one of its choices.
    """
    if expected is None or "[" in expected or "." in expected:
        return None
    for found in (_list_column(names, rows), _lettered_columns(names)):
        if found is None or expected == found or expected in found:
            continue
        first = _first_index([row.get(expected) for row in rows], [_texts(row, found) for row in rows])
        if first is not None:
            return found if first == 0 else {"column": found, "first_index": first}
    return None


def _list_column(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column that has a list of at least two texts in every row."""
    for name in names:
        if fold(name) in LIST_NAMES and all(
            isinstance(row.get(name), list)
            and 2 <= len(row[name]) <= len(LETTERS)
            and all(isinstance(text, str) for text in row[name])
            for row in rows
        ):
            return name
    return None


def _lettered_columns(names: Sequence[str]) -> list[str] | None:
    """Columns such as A, B, C, or option_a, option_b, or choice1, choice2: at least two, in order."""
    folded = {fold(name): name for name in names}
    for prefix in PREFIXES:
        for marks in (LETTERS.lower(), tuple(map(str, range(1, 10))) if prefix else ()):
            found = list[str]()
            for mark in marks:
                if (name := folded.get(prefix + mark)) is None:
                    break
                found.append(name)
            if len(found) >= 2:
                return found
    return None


def _texts(row: Mapping[str, Any], found: str | list[str]) -> list[str]:
    values = row.get(found) if isinstance(found, str) else [row.get(name) for name in found]
    return [str(value) for value in values or () if value not in (None, "")]


def _first_index(answers: Sequence[Any], choices: Sequence[Sequence[str]]) -> int | None:
    """The index of the first choice where answers are indexes, 0 for letters and texts; None if they are neither."""
    pairs = [(str(answer).strip(), texts) for answer, texts in zip(answers, choices, strict=True)]
    if all(answer.upper() in LETTERS[: len(texts)] and len(answer) == 1 for answer, texts in pairs):
        return 0
    if all(answer.isdecimal() and answer.isascii() and len(answer) <= 2 for answer, _ in pairs):
        return next(
            (first for first in (0, 1) if all(first <= int(answer) < first + len(texts) for answer, texts in pairs)),
            None,
        )
    return 0 if all([text.strip() for text in texts].count(answer) == 1 for answer, texts in pairs) else None
