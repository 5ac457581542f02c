"""JSON and fenced blocks in answers: the whole text, a block in a fence, or the first value in prose. Bounded, and never raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from evalrunner.json_path import MISSING

MAX_STARTS: Final = 50  # places in a text at which a value is tried
FENCE: Final = re.compile(r"[ \t>]*(?P<sign>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n]*", re.ASCII)
ONE_LINE: Final = re.compile(r"`{3,}(?P<language>[a-zA-Z0-9+#.-]*)[ \t]*(?P<content>[^`\n]+)`{3,}[ \t]*")
START: Final = re.compile(r"[{\[]")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: its language in lower case, "" without one, and its content."""

    language: str
    content: str


def find_fences(text: str) -> Iterator[Fence]:
    """The fenced blocks of a text, in order. One that does not end reaches to the end of the text."""
    sign, language, lines = "", "", list[str]()
    for line in text.split("\n"):
        stripped = line.strip(" \t\r>") if sign else line.strip()
        if sign:
            if stripped.startswith(sign) and not stripped.strip(sign[0]):
                yield Fence(language, "\n".join(lines))
                sign, lines = "", []
            else:
                lines.append(line)
        elif "```" in line or "~~~" in line:
            single = ONE_LINE.fullmatch(stripped)
            if single is not None:
                yield Fence(single["language"].lower(), single["content"])
            elif (opening := FENCE.match(line)) is not None:
                sign, language = opening["sign"], opening["language"].lower()
    if sign:
        yield Fence(language, "\n".join(lines))


def parse_answer(text: str) -> Any:
    """The JSON value of an answer, MISSING if there is none.

    The whole text goes first, then blocks in fences (those marked json before others), then the first object or array
    in the text. Only JSON counts: no NaN, no single quotes, no comments. Of a key that comes twice the last value counts.
    """
    stripped = text.strip()
    value = parse_strict(stripped)
    if value is not MISSING:
        return value
    if "```" in text or "~~~" in text:
        fences = list(find_fences(text))
        for fence in sorted(fences, key=lambda one: not one.language.startswith("json")):
            value = parse_strict(fence.content.strip())
            if value is not MISSING and isinstance(value, dict | list):
                return value
    return _first_value(stripped)


def parse_strict(text: str) -> Any:
    """The value of a text that is JSON and nothing else; MISSING otherwise."""
    if not text:
        return MISSING
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        return MISSING


def _first_value(text: str) -> Any:
    """The first object or array in a text."""
    place = 0
    for _ in range(MAX_STARTS):
        start = START.search(text, place)
        if start is None:
            return MISSING
        try:
            value, end = DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            place = start.end()
            continue
        if value or start[0] == "{":  # [] in prose is a checkbox or code
            return value
        place = end
    return MISSING


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number beyond 64 bits")
    return number


DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_refuse_constant, parse_float=_finite_number)
