"""JSON files: one array of objects, objects under ids, or either under a key. They need not fit in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, Final, TextIO

from evalrunner.datasets.json import TOO_DEEP, decoder, decoder_for, explain, is_too_deep
from evalrunner.datasets.nesting import checked_path, kind_of, no_key, no_row, rest_after, row_of_id, rows_under
from evalrunner.datasets.records import (
    MIB,
    InvalidRecord,
    Reader,
    Record,
    RecordTooLargeError,
    checked_size,
    limit_values,
)
from evalrunner.datasets.text_file import UTF8, StructuredFile, checked_encoding, encoding_problem
from evalrunner.limits import STANDARD

CHUNK: Final = 1 << 16  # characters read at a time
BLANKS: Final = re.compile(r"[ \t\r\n]+")
PLAIN: Final = re.compile(
    r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL
)  # up to a bracket, or text that goes on
TEXT: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
SCALAR: Final = re.compile(r'[^\s\[\]{}",:]*+')
MAX_HINT_STEPS: Final = 3
MAX_KEYS: Final = 1_000  # that are remembered for the message about a missing one


def json(
    *,
    path: str,
    records: str | None = None,
    encoding: str = UTF8,
    member: str | None = None,
    max_record_mb: int = STANDARD.record_mb,
) -> Reader:
    """Records of a JSON file: an array of objects, or objects under ids.

    Args:
        records: Key of the rows, such as data.items, or $ for rows under ids in the whole file. The default is one array.
        encoding: Encoding of the text, such as cp1252 or utf-16.
        member: The file to read in a ZIP archive of several.
        max_record_mb: Maximum size of an object, in million characters.
    """
    rest = None if records is None else checked_path(records)
    return JsonFile(path, checked_size(max_record_mb), rest, checked_encoding(encoding), member)


@dataclass(slots=True)
class JsonFile(StructuredFile):
    """Reads one file, element by element. Locations are the lines where elements start, from 1.

    `records` is the path of the rows: None for one array, empty for an array or rows under ids.
    """

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        buffer = _Buffer(text, self.max_record_mb, self.encoding)
        sign = buffer.next_sign()
        if not sign:
            return
        if sign != "[" and (sign != "{" or self.records is None):
            location = self._location(buffer)
            yield (
                InvalidRecord(f"must be one array of objects: [{{…}}, {{…}}]{_hint(buffer) if sign == '{' else ''}"),
                location,
            )
            return
        try:
            yield from self._rows(buffer, self.records or "")
            if buffer.next_sign():
                closing = "]" if sign == "[" else "}"
                what = f"the closing {closing} of the {'array' if sign == '[' else 'object'}"
                yield InvalidRecord(f"has text after {what}"), self._location(buffer)
        except (ValueError, RecursionError) as broken:  # the start of the next element is unknown
            yield InvalidRecord(explain(broken)), f"{self.path}:{buffer.start_line}"

    def _location(self, buffer: _Buffer) -> str:
        return f"{self.path}:{buffer.line}"

    def _rows(self, buffer: _Buffer, path: str) -> Iterator[tuple[Record, str]]:
        """The rows at a path below the next value. Raises ValueError where the JSON is broken."""
        sign = buffer.next_sign()
        if sign == "[":
            yield from self._elements(buffer, path)
        elif sign != "{":
            found = f"has {kind_of(buffer.take_value())} in place of " if sign else "ends in place of "
            expected = f"an object with {path!r}" if path else "a list of objects"
            yield InvalidRecord(f"{found}{expected}"), self._location(buffer)
        elif path:
            yield from self._members(buffer, path)
        else:
            for key in buffer.members():
                location = self._location(buffer)
                item = buffer.take_value()
                yield item if isinstance(item, InvalidRecord) else row_of_id(key, item), location

    def _elements(self, buffer: _Buffer, path: str) -> Iterator[tuple[Record, str]]:
        """The rows of an array, or those at a path below each of its elements."""
        for line in buffer.elements():
            location = f"{self.path}:{line}"
            item = buffer.take_value()
            if isinstance(item, InvalidRecord):
                yield item, location
            elif path:
                yield from ((row, location) for row in rows_under(item, path))
            else:
                yield item if isinstance(item, dict) else InvalidRecord(no_row(item)), location

    def _members(self, buffer: _Buffer, path: str) -> Iterator[tuple[Record, str]]:
        """The rows at a path below the first key of an object that it starts with. Other values are passed over."""
        location, known, found = self._location(buffer), dict[str, None](), False
        for key in buffer.members():
            rest = None if found else rest_after(path, key)
            if rest is None:
                if len(known) < MAX_KEYS:
                    known[key] = None
                buffer.skip_value()
            else:
                found = True
                yield from self._rows(buffer, rest)
        if not found:
            yield InvalidRecord(no_key(path, known)), location


def _hint(buffer: _Buffer) -> str:
    """What to do about a file that starts with an object: it has one per line, or the rows are inside of it."""
    try:
        found = _find_rows(buffer, "")
        if buffer.next_sign():
            return "; for one object per line, set type: jsonl"
    except (ValueError, RecursionError):
        return ""
    if found == "$":
        return "; for rows under ids, set records: $"
    return (
        f"; the rows are under a key: set records: {found}" if found else "; for one object per line, set type: jsonl"
    )


def _find_rows(buffer: _Buffer, above: str) -> str:
    """The path of the first list of objects in the object that comes next; `$` for objects under ids; else empty."""
    lists, inner = "", ""
    objects = total = 0
    for key in buffer.members():
        total += 1
        sign = buffer.next_sign()
        objects += sign == "{"
        path = f"{above}{key}"
        if sign == "[" and not lists and buffer.begins_objects():
            lists = path
        if sign == "{" and not lists and not inner and path.count(".") < MAX_HINT_STEPS:
            below = _find_rows(buffer, f"{path}.")
            inner = path if below == "$" else below
        else:
            buffer.skip_value()
    if not lists and objects == total > 1:
        return "$"
    return lists or inner


class _Buffer:
    """The part of a file that is being parsed. `line` is the line of the next character, `start_line` that of the value."""

    def __init__(self, text: TextIO, max_record_mb: int, encoding: str) -> None:
        self.line = self.start_line = 1
        self._max_record_mb = max_record_mb
        self._encoding = encoding
        self._file = text
        self._buffered = ""
        self._decoder = decoder
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

    def elements(self) -> Iterator[int]:
        """The line of each element of the array that comes next; take or skip the element before asking for the next."""
        return self._items("]", "array")

    def members(self) -> Iterator[str]:
        """Each key of the object that comes next; take or skip its value before asking for the next."""
        for _ in self._items("}", "object"):
            key = self.take_value() if self.next_sign() == '"' else None
            if not isinstance(key, str) or self.next_sign() != ":":
                problem = f"is not JSON: Expecting a key and a colon at line {self.line}"
                raise ValueError(key.message if isinstance(key, InvalidRecord) else problem)
            self._at += 1
            yield key

    def begins_objects(self) -> bool:
        """Whether the array that comes next begins with an object, as far as the file has been read."""
        while not re.match(r"\[\s*[^\s]", self._buffered[self._at : self._at + CHUNK]):
            if len(self._buffered) - self._at > CHUNK or not self._read_more():
                return False
        return re.match(r"\[\s*\{", self._buffered[self._at : self._at + CHUNK]) is not None

    def _items(self, closing: str, kind: str) -> Iterator[int]:
        """The line of each item of the array or object that comes next. Raises ValueError if it does not end."""
        self._at += 1
        sign = ""
        if self.next_sign() == closing:
            sign = closing
        while sign != closing:
            self.next_sign()
            self.start_line = self.line
            yield self.line
            sign = self.next_sign()
            self.start_line = self.line
            if not sign:
                raise ValueError(f"ends before the closing {closing}{'' if kind == 'array' else ' of an object'}")
            if sign not in (",", closing):
                raise ValueError(f"has {sign!r} in place of a comma or the closing {closing}")
            if sign == ",":
                self._at += 1
        self._at += 1

    def take_value(self) -> Any:
        """The next value, or an `InvalidRecord`. Raises ValueError if it is not JSON."""
        self.next_sign()
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
        problem = encoding_problem(text, self._encoding)
        if problem:
            return InvalidRecord(problem)
        return InvalidRecord(TOO_DEEP) if is_too_deep(text, value) else value

    def skip_value(self) -> None:
        """Pass over the next value, of any size, without building it. Raises ValueError if it does not end."""
        sign = self.next_sign()
        if sign == '"':
            self._skip_text()
            return
        if sign not in ("[", "{"):
            if not self._skip(SCALAR):
                raise ValueError(f"is not JSON: Expecting value at line {self.line}")
            return
        depth = 0
        while True:
            sign = self.next_sign()
            if not sign:
                raise ValueError("ends before all brackets are closed")
            if sign in "[{]}":
                depth += 1 if sign in "[{" else -1
                self._at += 1
                if depth == 0:
                    return
            elif not self._skip(PLAIN):
                self._skip_text()

    def _skip_text(self) -> None:
        while (match := TEXT.match(self._buffered, self._at)) is None:
            self._limit(len(self._buffered))
            if not self._read_more():
                raise ValueError('has text that is not closed with "')
        self.line += self._buffered.count("\n", self._at, match.end())
        self._at = match.end()

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Whether something was passed over that matches, also in the next chunks."""
        moved = False
        while (match := pattern.match(self._buffered, self._at)) and match.end() > self._at:
            moved = True
            self.line += self._buffered.count("\n", self._at, match.end())
            self._at = match.end()
            if self._at < len(self._buffered) or not self._read_more():
                break
        return moved

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
