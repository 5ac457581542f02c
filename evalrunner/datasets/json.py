"""JSON Lines, and JSON files that are one array of objects. Neither has to fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn, TextIO

from evalrunner.datasets.json_values import DEEPEST, deeper_than
from evalrunner.datasets.records import Reader, Record
from evalrunner.datasets.text_files import BrokenLine, read_records, undecoded

CHUNK = 1 << 16  # characters read at a time from a JSON file
BLANKS = " \t\r\n"


def jsonl(*, path: str) -> Reader:
    """Records of a file with one JSON object a line."""
    return JsonLines(path)


def json(*, path: str) -> Reader:
    """Records of a file that is one JSON array of objects."""
    return JsonArray(path)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no JSON; write null")


_decoder = JSONDecoder(parse_constant=_refuse_constant)


@dataclass(slots=True)
class JsonLines:
    """Reads one file. Places are its lines, from 1."""

    path: str
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        return read_records(self.path, self._records, newline="\n")

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        for number, line in enumerate(text, 1):
            if line.isspace():
                continue
            place = f"{self.path}:{number}"
            if line.strip() == "[":  # the other lines would only be more of the same
                yield BrokenLine("opens an array; each line should be one object; for one array say type: json"), place
                return
            yield parse_record(line), place


def parse_record(line: str) -> Record:
    """The object in one line, or a `BrokenLine`."""
    said = undecoded(line)
    if said:
        return BrokenLine(said)
    try:
        value = _decoder.decode(line)
    except (ValueError, RecursionError) as broken:
        return BrokenLine(explain(broken))
    if not isinstance(value, dict):
        hint = "; for a file that is one array, say type: json" if isinstance(value, list) else ""
        return BrokenLine(f'is {kind_of(value)} where each line should be an object, such as {{"input": …}}{hint}')
    return BrokenLine(TOO_DEEP) if is_too_deep(line, value) else value


def explain(broken: ValueError | RecursionError) -> str:
    """What is wrong with JSON that could not be parsed."""
    if isinstance(broken, JSONDecodeError):
        return f"is not JSON: {broken.msg} at character {broken.pos + 1}"
    if isinstance(broken, RecursionError):
        return TOO_DEEP
    if "digits" in str(broken):  # Python's guard against integers that take forever (CVE-2020-10735)
        return "holds a whole number of more than 4,300 digits; write it as text"
    return str(broken)


TOO_DEEP = f"is nested more than {DEEPEST} levels deep"


def is_too_deep(text: str, value: Any) -> bool:
    """Whether parsed JSON is nested so deep that a later step would fail over it; counting brackets is cheap."""
    return text.count("[") + text.count("{") > DEEPEST and deeper_than(value, DEEPEST)


def kind_of(value: Any) -> str:
    """The JSON name of a value, with its article."""
    names = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


@dataclass(slots=True)
class JsonArray:
    """Reads one file, element by element. Places are the lines where elements start, from 1."""

    path: str
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        return read_records(self.path, self._records, newline="\n")

    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        window = _Window(text)
        sign = window.next_sign()
        if not sign:
            return
        if sign != "[":
            hint = "; for one object a line, say type: jsonl" if sign == "{" else ""
            yield BrokenLine(f"should be one array of objects: [{{…}}, {{…}}]{hint}"), f"{self.path}:{window.line}"
            return
        window.skip()
        if window.next_sign() == "]":
            sign = "]"
        while sign != "]":
            window.next_sign()
            place = f"{self.path}:{window.line}"
            try:
                yield window.take_record(), place
            except (ValueError, RecursionError) as broken:  # where the next element starts cannot be told
                yield BrokenLine(explain(broken)), place
                return
            sign = window.next_sign()
            if sign not in (",", "]"):
                said = f"has {sign!r} where a comma or the closing ] should be" if sign else "ends before the closing ]"
                yield BrokenLine(said), f"{self.path}:{window.line}"
                return
            if sign == ",":
                window.skip()
        window.skip()
        if window.next_sign():
            yield BrokenLine("has text after the closing ] of the array"), f"{self.path}:{window.line}"


class _Window:
    """The part of a file that is being parsed. `line` is where the next thing stands."""

    def __init__(self, text: TextIO) -> None:
        self.line = 1
        self._text = text
        self._held = ""
        self._at = 0

    def next_sign(self) -> str:
        """The next character that is not blank, not taken yet; empty at the end of the file."""
        while True:
            while self._at < len(self._held):
                sign = self._held[self._at]
                if sign not in BLANKS:
                    return sign
                self.line += sign == "\n"
                self._at += 1
            if not self._read_on():
                return ""

    def skip(self) -> None:
        self._at += 1

    def take_record(self) -> Record:
        """The next element if it is an object, else a `BrokenLine`. Raises ValueError where it is no JSON."""
        while True:
            try:
                value, end = _decoder.raw_decode(self._held, self._at)
            except JSONDecodeError as broken:
                if self._read_on():
                    continue
                line = self.line + self._held.count("\n", self._at, broken.pos)
                raise ValueError(f"is not JSON: {broken.msg} at line {line}") from broken
            if end < len(self._held) or not self._read_on():  # a number may go on in the next chunk
                break
        taken = self._held[self._at : end]
        self._at = end
        self.line += taken.count("\n")
        said = undecoded(taken)
        if said:
            return BrokenLine(said)
        if not isinstance(value, dict):
            return BrokenLine(f'is {kind_of(value)} where each element should be an object, such as {{"input": …}}')
        return BrokenLine(TOO_DEEP) if is_too_deep(taken, value) else value

    def _read_on(self) -> bool:
        """Whether there was more of the file. Reads as much again as is held, so long elements cost no more."""
        more = self._text.read(max(CHUNK, len(self._held) - self._at))
        self._held = self._held[self._at :] + more
        self._at = 0
        return bool(more)
