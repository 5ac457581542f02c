"""Patterns of JavaScript as patterns of Python's `re`."""

from __future__ import annotations

import re
import warnings
from typing import Final

from evalrunner.imports.promptfoo.javascript_syntax import Unreadable

PIECE: Final = re.compile(
    r"\\(?:u[\da-fA-F]{4}|x[\da-fA-F]{2}|k<\w+>|c[A-Za-z]|[pP]\{[^}]*\}|.)|\(\?<(?![=!])|.", re.DOTALL
)
CLASSES: Final = {"d": "0-9", "w": "A-Za-z0-9_"}
PLAIN: Final = frozenset("dDwWsSbBnrtfv0123456789xuk")
FLAGS: Final = {"m": "m", "s": "s"}


def python_pattern(pattern: str, flags: str = "") -> tuple[str, bool]:
    """The same pattern for Python's `re`, and whether it ignores case. Raises Unreadable for one that has no equal."""
    if unknown := set(flags) - set("gimsu"):
        raise Unreadable(f"the flag {min(unknown)!r} of a regular expression")
    if re.search(r"\(\?[a-zA-Z-]+[):]", pattern):
        raise Unreadable("a flag inside a regular expression")
    # \d, \w and \b are ASCII in JavaScript; \s is not, in both
    ascii_only = bool(re.search(r"\\[dDwWbB]", pattern)) and not re.search(r"\\[sS]", pattern) and pattern.isascii()
    ascii_only = ascii_only and "i" not in flags
    translated = "".join(_pieces(pattern, multiline="m" in flags, expand=not ascii_only))
    inline = ("a" if ascii_only else "") + "".join(FLAGS[flag] for flag in flags if flag in FLAGS)
    translated = f"(?{inline})" * bool(inline) + translated
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(translated, re.IGNORECASE * ("i" in flags))
    except (re.error, RecursionError, OverflowError, Warning) as wrong:
        raise Unreadable(f"a regular expression that Python does not know ({wrong})") from None
    return translated, "i" in flags


def _pieces(pattern: str, *, multiline: bool, expand: bool) -> list[str]:
    every: list[str] = []
    inside = False
    pieces = PIECE.findall(pattern)
    for number, piece in enumerate(pieces):
        if piece.startswith("\\"):
            every.append(_escape(piece, inside, expand))
        elif inside:
            inside = piece != "]"
            every.append("\\[" if piece == "[" else f"\\{piece}" if piece in "&~|" else piece)
        elif piece == "[":
            if pieces[number + 1 : number + 2] == ["]"] or pieces[number + 1 : number + 3] == ["^", "]"]:
                raise Unreadable("an empty set in a regular expression")
            inside = True
            every.append(piece)
        elif piece == "(?<":
            every.append("(?P<")
        elif piece == "$" and not multiline:
            every.append(r"\Z")  # Python's $ also stands before a final line break
        else:
            every.append(piece)
    return every


def _escape(piece: str, inside: bool, expand: bool) -> str:
    code = piece[1:]
    if code[0] in "pPc":
        raise Unreadable(f"{piece!r} in a regular expression")
    if code.startswith("k<"):
        return f"(?P={code[2:-1]})"
    if code[0] in "xu" and len(code) == 1:
        return code
    if expand and code in CLASSES:
        return CLASSES[code] if inside else f"[{CLASSES[code]}]"
    if expand and code in ("D", "W"):
        if inside:
            raise Unreadable(f"{piece!r} in a set of a regular expression")
        return f"[^{CLASSES[code.lower()]}]"
    if expand and code in ("b", "B") and not inside:
        return f"(?a:{piece})"
    if code[0].isalpha() and code[0] not in PLAIN:
        return code  # JavaScript ignores the backslash
    return code if code in "/'\"`" else piece


def groups_of(pattern: str) -> int:
    """Groups of a Python pattern."""
    return re.compile(pattern).groups
