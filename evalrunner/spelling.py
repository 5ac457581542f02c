"""Numbers and booleans that keep how they were written: `1.10`, `1E5`, `007`, `True`.

They compute and compare as other numbers do. Prompts, accepted answers, ids and tables show them as written. Readers use
them only where Python would write the value differently, so that most numbers stay plain.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Mapping
from math import isinf
from typing import Any, Self

JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+")
PLAIN = frozenset({str, int, float, bool, type(None)})  # values that hold no spelling
WORDS = frozenset({"true", "false"})


class Spelled:
    """A number or boolean with its text."""

    __slots__ = ()
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __reduce__(self) -> tuple[Any, ...]:
        return spelled, (self.text,)


class SpelledFloat(Spelled, float):
    __slots__ = ("text",)

    def __new__(cls, text: str) -> Self:
        value = float.__new__(cls, text)
        value.text = text
        return value


class SpelledInt(Spelled, int):
    def __new__(cls, text: str) -> Self:
        value = int.__new__(cls, text, 16 if text.startswith("0x") else 10)
        value.text = text
        return value


class SpelledBool(Spelled, int):
    """`True` or `FALSE`. Not a bool, which has no subclasses."""

    def __new__(cls, text: str) -> Self:
        value = int.__new__(cls, text.lower() == "true")
        value.text = text
        return value


def json_text(value: Spelled) -> str:
    """The JSON of a value: as written where JSON can write it so, else the value in JSON's spelling.

    An integer with leading zeros, or in hexadecimal, is a text in JSON: it is more often a code than a quantity.
    """
    text = value.text
    if JSON_NUMBER.fullmatch(text):
        return text
    if isinstance(value, SpelledBool):
        return text.lower()
    if isinstance(value, SpelledInt):
        return int.__repr__(value) if "+" in text else f'"{text}"'
    return repr(float(text))


def spelled(text: str) -> Spelled:
    """The number or boolean that `text` is. Raises ValueError if it is neither."""
    if text.lower() in WORDS:
        return SpelledBool(text)
    return SpelledInt(text) if INTEGER.fullmatch(text) else SpelledFloat(text)


def parse_float(text: str) -> float:
    """The number, with its spelling unless Python writes it the same. Raises ValueError if it exceeds 64 bits."""
    value = float(text)
    if repr(value) == text:
        return value
    if isinf(value):
        raise ValueError("has a number that is not finite or exceeds a 64-bit float")
    return SpelledFloat(text)


def parse_int(text: str) -> int:
    """The number, with its spelling unless Python writes it the same."""
    value = int(text)
    return SpelledInt(text) if text[:1] in "-0" and str(value) != text else value


def spellings(value: Any) -> Any:
    """The texts of the spelled values in JSON data: a text, or a mapping of key or index to such; None without any."""
    kind = type(value)
    if kind in PLAIN:
        return None
    if kind is dict or kind is list:  # nearly all: a comprehension takes twice as long where there are none
        texts_of: dict[Any, Any] | None = None
        for key, item in value.items() if kind is dict else enumerate(value):
            if type(item) not in PLAIN and (texts := spellings(item)):
                texts_of = texts_of or {}
                texts_of[key if kind is dict else str(key)] = texts
        return texts_of
    if isinstance(value, Spelled):
        return value.text
    if isinstance(value, Mapping):
        return {
            key: texts for key, item in value.items() if type(item) not in PLAIN and (texts := spellings(item))
        } or None
    if isinstance(value, list | tuple):
        return {
            str(at): texts for at, item in enumerate(value) if type(item) not in PLAIN and (texts := spellings(item))
        } or None
    return None


def respell(value: Any, texts: Any) -> Any:
    """JSON data with the spellings that `spellings` returned."""
    if texts is None:
        return value
    if isinstance(texts, str):
        return spelled(texts)
    if isinstance(value, Mapping):
        return {**value, **{key: respell(value[key], inner) for key, inner in texts.items() if key in value}}
    return [respell(item, texts.get(str(at))) for at, item in enumerate(value)]


@functools.lru_cache(maxsize=64)
def _encoder(**options: Any) -> json.JSONEncoder:
    """The encoder of `json.dumps` with these options."""
    return json.JSONEncoder(**options)


def exact_json(value: Any, **options: Any) -> str:
    """`json.dumps` with the numbers as they were written."""
    if spellings(value) is None:
        return json.dumps(value, **options) if "indent" in options else _encoder(**options).encode(value)
    texts: list[str] = []
    mark = secrets.token_hex(8)  # stands for a number until the rest is written; no data can hold it

    def marked(item: Any) -> Any:
        if isinstance(item, Spelled):
            texts.append(json_text(item))
            return f"{mark}{len(texts) - 1}"
        if isinstance(item, Mapping):
            return {key: marked(inner) for key, inner in item.items()}
        return [marked(inner) for inner in item] if isinstance(item, list | tuple) else item

    return re.sub(rf'"{mark}(\d+)"', lambda found: texts[int(found[1])], json.dumps(marked(value), **options))
