"""Translated values: the code of an expression, how tightly it binds, and what is known of its value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

CONDITION, OR, AND, NOT, COMPARE, ADD, MULTIPLY, UNARY, POSTFIX = 0, 1, 2, 3, 4, 6, 8, 9, 10
"""How tightly operators of expressions bind; `~` stands between ADD and MULTIPLY."""


@dataclass(frozen=True, slots=True)
class Value:
    """Code of an expression and its kind: text, number, bool, list, match, nothing, or any, as a value of JSON is."""

    code: str
    kind: str
    level: int
    constant: Any = None
    integer: bool = False
    absent: bool = False
    """Whether it is null in JavaScript where the code gives an empty list, as that of `match` is."""
    pattern: str = ""
    """That of a match."""
    item: str = "any"
    """The kind of the items of a list."""
    pieces: bool = False
    """Whether the code gives the separators of a list, whose length is one less."""

    def at(self, level: int) -> str:
        """The code for a place that binds as tightly as a level."""
        return self.code if self.level >= level else f"({self.code})"


def boolean(code: str, level: int) -> Value:
    return Value(code, "bool", level)


def text(code: str, level: int, constant: Any = None) -> Value:
    return Value(code, "text", level, constant)


def number(code: str, level: int, *, constant: Any = None, integer: bool = False, absent: bool = False) -> Value:
    return Value(code, "number", level, constant, integer or isinstance(constant, int), absent)


TRUE: Final = Value("true", "bool", POSTFIX, True)
FALSE: Final = Value("false", "bool", POSTFIX, False)


def quoted(value: str) -> str:
    """A text as a literal of an expression."""
    body = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    # a template mark inside a literal would be refused, as it usually is a mistake
    for mark in ("{{", "}}", "{%", "%}", "{#", "#}"):
        body = body.replace(mark, f"{mark[0]}\\x{ord(mark[1]):02x}")
    return '"' + body + '"' if "'" in body and '"' not in body else "'" + body.replace("'", "\\'") + "'"


def literal(value: Any) -> str:
    """A text, number, bool, None or a list of them as a literal of an expression."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    return "none" if value is None else json.dumps(value)
