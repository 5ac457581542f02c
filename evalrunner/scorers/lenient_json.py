"""Objects in texts: JSON as models write it, with prose around it, in single quotes, or as a call in Python.

An object keeps all its pairs, also those of a key that comes twice, so that a reader can see a contradiction.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

MAX_DEPTH = 6
MAX_LENIENT_CHARS = 20_000  # of an object that is not JSON
MAX_OBJECTS = 200  # starts of objects that are tried in one reply
MAX_ENDS = 20  # ends that are tried for one of them
OBJECT_START = re.compile(r"""\{\s*["'“]?\w+["'”]?\s*:""")
TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
UNKNOWN_ESCAPE = re.compile(r"\\(?![\\'\"nrtu])")  # Python would warn of it
STRAIGHT_QUOTES = str.maketrans("“”„‟", '""""')
FENCE = re.compile(r"(?:`{3,}|~{3,})[\w-]*")


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object with all its pairs, also those of a key that comes twice."""

    pairs: Sequence[tuple[str, Any]]


DECODER = json.JSONDecoder(object_pairs_hook=JsonObject, strict=False)


@dataclass(frozen=True, slots=True)
class Span:
    """An object in a text, from `start` to `end`. `is_nested`: it may be a part of something that is broken."""

    value: JsonObject
    start: int
    end: int
    is_nested: bool = False


def decode_nested(text: str) -> Any:
    """The value of a text that is JSON, also as a string inside of a string; the text itself if it is not."""
    for _ in range(MAX_DEPTH):
        try:
            value = DECODER.decode(text)
        except (ValueError, RecursionError):
            return text
        if not isinstance(value, str):
            return value
        text = value
    return text


def with_pairs(value: Any, depth: int = 0) -> Any:
    """Parsed JSON with its objects as pairs."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return JsonObject(tuple((str(name), with_pairs(item, depth + 1)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return [with_pairs(item, depth + 1) for item in value]
    return value


def without_pairs(value: Any) -> Any:
    if isinstance(value, JsonObject):
        return {name: without_pairs(item) for name, item in value.pairs}
    return [without_pairs(item) for item in value] if isinstance(value, list) else value


def find_objects(text: str) -> Iterator[Span]:
    """The objects of a text, in JSON or nearly: with trailing commas, single or curly quotes."""
    place, is_broken = 0, False
    for _ in range(MAX_OBJECTS):
        start = text.find("{", place)
        if start < 0:
            return
        try:
            value, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = _lenient_object(text, start)
        if isinstance(value, JsonObject) and value.pairs:
            yield Span(value, start, end, is_broken)
            place = end
        else:
            is_broken = is_broken or OBJECT_START.match(text, start) is not None
            place = start + 1


def _lenient_object(text: str, start: int) -> tuple[Any, int]:
    """An object that is not strict JSON, and its end; None where it cannot be read in one way only."""
    if OBJECT_START.match(text, start) is None:
        return None, start
    piece = text[start : start + MAX_LENIENT_CHARS]
    for straight in (piece, piece.translate(STRAIGHT_QUOTES)):
        shorter = TRAILING_COMMA.sub(" ", straight)  # as long as before
        try:
            value, size = DECODER.raw_decode(shorter)
            return value, start + size
        except (ValueError, RecursionError):
            pass
    for match in islice(re.finditer(r"\}", piece), MAX_ENDS):
        value = _python_value(piece[: match.end()])
        if value is not None:
            return value, start + match.end()
    return None, start


def _python_value(source: str) -> Any:
    """The value of a Python literal, with its objects as pairs; None if it is none."""
    try:
        return _literal_value(ast.parse(UNKNOWN_ESCAPE.sub(r"\\\\", source), mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def parse_call(text: str) -> Any:
    """The arguments of a text that is a call, `[select_choice(choice="C")]`; None for any other."""
    source = FENCE.sub("", text).strip()
    if len(source) > MAX_LENIENT_CHARS or re.match(r"\[?\s*[\w.]+\(", source) is None:
        return None
    value = _python_value(source)
    return value if isinstance(value, JsonObject | list) else None


def _literal_value(node: ast.expr) -> Any:
    """The value of an expression of constants. Raises ValueError for any other."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        pairs = zip(node.keys, node.values, strict=True)
        return JsonObject(tuple((str(key.value), _literal_value(item)) for key, item in pairs))  # type: ignore[union-attr]
    if isinstance(node, ast.Call) and not node.args and node.keywords:
        return JsonObject(tuple((str(word.arg), _literal_value(word.value)) for word in node.keywords))
    raise ValueError("not a literal")
