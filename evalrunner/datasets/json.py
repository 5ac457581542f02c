"""JSON Lines, and JSON files that are one array of objects. Neither must fit in memory."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn, TextIO

from evalrunner.datasets.records import (
    MAX_DEPTH,
    MIB,
    InvalidRecord,
    Reader,
    Record,
    RecordTooLargeError,
    checked_size,
    deeper_than,
    encoding_problem,
    json_value,
    limit_values,
    read_line,
    read_records,
)
from evalrunner.limits import STANDARD
from evalrunner.spelling import parse_float, parse_int

MAX_PYTHON_LIST = 1 << 16  # characters; parsing Python takes 100 times the time of JSON
CHUNK = 1 << 16  # characters read at a time from a JSON file
BLANKS = re.compile(r"[ \t\r\n]+")
NEGATIVE_ZERO = re.compile(r"-0(?=[\s,}\]]|$)")  # also at the end of some texts, which does no harm

TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep"


def jsonl(*, path: str, max_record_mb: int = STANDARD.record_mb) -> Reader:
    """Records of a file with one JSON object a line.

    Args:
        max_record_mb: Maximum size of a line, in million characters.
    """
    return JsonLines(path, checked_size(max_record_mb))


def json(*, path: str, max_record_mb: int = STANDARD.record_mb) -> Reader:
    """Records of a file that is one JSON array of objects.

    Args:
        max_record_mb: Maximum size of an object, in million characters.
    """
    return JsonArray(path, checked_size(max_record_mb))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}, which is not JSON; write null")


_decoder = JSONDecoder(parse_constant=_refuse_constant, parse_float=parse_float)
_exact_decoder = JSONDecoder(parse_constant=_refuse_constant, parse_float=parse_float, parse_int=parse_int)


@dataclass(slots=True)
class JsonLines:
    """Reads one file. Locations are its lines, from 1."""

    path: str
    max_record_mb: int
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        return read_records(self.path, self._records, newline="\n")

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        first, number = True, 0
        while True:
            number += 1
            try:
                line = read_line(text, max_record_mb=self.max_record_mb)
                limit_values(line, self.max_record_mb)
            except RecordTooLargeError as wrong:  # the rest of the line may have no end
                yield InvalidRecord(str(wrong)), f"{self.path}:{number}"
                return
            if not line:
                return
            if line.isspace():
                continue
            location = f"{self.path}:{number}"
            if first and (problem := other_layout(line)):  # every other line would be invalid too
                yield InvalidRecord(problem), location
                return
            first = False
            yield parse_record(line), location


def other_layout(line: str) -> str | None:
    """What the file is instead of one object per line, by its first line; None if that begins with an object."""
    start = line.strip()
    if start == "[":
        return "starts an array, but each line must be one object; for one array, set type: json"
    if start == "{":
        return (
            "starts an object of several lines, but each must be on one line; for one array of objects, set type: json"
        )
    if start[:1].isalpha() and start not in ("true", "false", "null") and any(sign in start for sign in ",;\t|"):
        return f"is not JSON: {start[:60]!r}; if the file is a table with a header, set type: csv"
    return None


def parse_record(line: str) -> Record:
    """The object in one line, or an `InvalidRecord`."""
    problem = encoding_problem(line)
    if problem:
        return InvalidRecord(problem)
    try:
        value = decoder_for(line).decode(line)
    except (ValueError, RecursionError) as broken:
        return InvalidRecord(explain(broken))
    if not isinstance(value, dict):
        hint = "; for a file that is one array, set type: json" if isinstance(value, list) else ""
        return InvalidRecord(f'is {kind_of(value)}, but each line must be an object, such as {{"input": …}}{hint}')
    return InvalidRecord(TOO_DEEP) if is_too_deep(line, value) else value


def decoder_for(text: str) -> JSONDecoder:
    """The decoder that keeps how numbers are written. Of integers, only -0 needs the slower one."""
    return _exact_decoder if "-0" in text and NEGATIVE_ZERO.search(text) else _decoder


def explain(broken: ValueError | RecursionError) -> str:
    """What is wrong with JSON that could not be parsed."""
    if isinstance(broken, JSONDecodeError):
        return f"is not JSON: {broken.msg.removesuffix(' at')} at character {broken.pos + 1}"
    if isinstance(broken, RecursionError):
        return TOO_DEEP
    if "digits" in str(broken):  # Python's guard against integers that take forever (CVE-2020-10735)
        return "has an integer of more than 4,300 digits; write it as text"
    return str(broken)


def is_too_deep(text: str, value: Any) -> bool:
    """Whether parsed JSON is nested too deep for a later step; counting brackets first is cheap."""
    return text.count("[") + text.count("{") > MAX_DEPTH and deeper_than(value, MAX_DEPTH)


def kind_of(value: Any) -> str:
    """The JSON name of a value, with its article."""
    names = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def parse_cell(text: str) -> Any:
    """The JSON in a cell, numbers as written. Raises ValueError that says what is wrong with it."""
    try:
        value = decoder_for(text).decode(text)
    except (ValueError, RecursionError) as broken:
        raise ValueError(explain(broken)) from None
    if is_too_deep(text, value):
        raise ValueError(TOO_DEEP)
    return value


def parse_list(text: str) -> list[Any] | None:
    """The JSON list in a cell; None if it is another text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = parse_cell(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def parse_python_list(text: str) -> list[Any] | None:
    """The list that Python prints in this way, such as `['x', 'y']`; None for other texts.

    Texts without a comma between them are no list: numpy prints arrays so, and Python would join them.
    """
    if not text.lstrip().startswith("[") or len(text) > MAX_PYTHON_LIST:
        return None
    try:
        value = ast.literal_eval(text.strip())
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
        joined = any(pair == (tokenize.STRING, tokenize.STRING) for pair in pairwise(kinds))
        return json_value(value) if isinstance(value, list) and not joined else None
    except (ValueError, SyntaxError, tokenize.TokenError, MemoryError, RecursionError):
        return None


@dataclass(slots=True)
class JsonArray:
    """Reads one file, element by element. Locations are the lines where elements start, from 1."""

    path: str
    max_record_mb: int
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        return read_records(self.path, self._records, newline="\n")

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        buffer = _Buffer(text, self.max_record_mb)
        sign = buffer.next_sign()
        if not sign:
            return
        if sign != "[":
            location = f"{self.path}:{buffer.line}"
            hint = _array_hint(buffer) if sign == "{" else ""
            yield InvalidRecord(f"must be one array of objects: [{{…}}, {{…}}]{hint}"), location
            return
        buffer.skip()
        if buffer.next_sign() == "]":
            sign = "]"
        while sign != "]":
            buffer.next_sign()
            location = f"{self.path}:{buffer.line}"
            try:
                yield buffer.take_record(), location
            except (ValueError, RecursionError) as broken:  # the start of the next element is unknown
                yield InvalidRecord(explain(broken)), location
                return
            sign = buffer.next_sign()
            if sign not in (",", "]"):
                problem = f"has {sign!r} in place of a comma or the closing ]" if sign else "ends before the closing ]"
                yield InvalidRecord(problem), f"{self.path}:{buffer.line}"
                return
            if sign == ",":
                buffer.skip()
        buffer.skip()
        if buffer.next_sign():
            yield InvalidRecord("has text after the closing ] of the array"), f"{self.path}:{buffer.line}"


def _array_hint(buffer: _Buffer) -> str:
    """What to do about a file that starts with an object: it has one per line, or the array is inside of it."""
    try:
        record = buffer.take_record()
    except (ValueError, RecursionError):
        return ""
    if buffer.next_sign():
        return "; for one object per line, set type: jsonl"
    names = [name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if names:
        return f"; it is one object, save the array in {names[0]!r} alone"
    return "; for one object per line, set type: jsonl"


class _Buffer:
    """The part of a file that is being parsed. `line` is the line of the next character."""

    def __init__(self, text: TextIO, max_record_mb: int) -> None:
        self.line = 1
        self._max_record_mb = max_record_mb
        self._file = text
        self._buffered = ""
        self._decoder = _decoder
        self._at = 0

    def next_sign(self) -> str:
        """The next character that is not white space, without taking it; empty at the end of the file."""
        while True:
            blanks = BLANKS.match(self._buffered, self._at)
            if blanks is not None:
                self.line += blanks[0].count("\n")
                self._at = blanks.end()
            if self._at < len(self._buffered):
                return self._buffered[self._at]
            if not self._read_more():
                return ""

    def skip(self) -> None:
        self._at += 1

    def take_record(self) -> Record:
        """The next element if it is an object, else an `InvalidRecord`. Raises ValueError if it is not JSON."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffered, self._at)
            except JSONDecodeError as broken:
                self._limit(len(self._buffered))
                if self._read_more():
                    continue
                line = self.line + self._buffered.count("\n", self._at, broken.pos)
                raise ValueError(f"is not JSON: {broken.msg.removesuffix(' at')} at line {line}") from broken
            if end < len(self._buffered) or not self._read_more():  # a number may continue in the next chunk
                break
        self._limit(end)
        text = self._buffered[self._at : end]
        self._at = end
        self.line += text.count("\n")
        problem = encoding_problem(text)
        if problem:
            return InvalidRecord(problem)
        if not isinstance(value, dict):
            return InvalidRecord(f'is {kind_of(value)}, but each element must be an object, such as {{"input": …}}')
        return InvalidRecord(TOO_DEEP) if is_too_deep(text, value) else value

    def _limit(self, end: int) -> None:
        """Raise RecordTooLargeError if the current element, up to `end`, is too large."""
        if end - self._at > self._max_record_mb * MIB:
            raise RecordTooLargeError(self._max_record_mb)

    def _read_more(self) -> bool:
        """Whether there was more of the file. Doubles what is buffered, so that long elements stay linear."""
        more = self._file.read(max(CHUNK, len(self._buffered) - self._at))
        self._buffered = self._buffered[self._at :] + more
        limit_values(self._buffered, self._max_record_mb)
        self._decoder = decoder_for(self._buffered)
        self._at = 0
        return bool(more)
