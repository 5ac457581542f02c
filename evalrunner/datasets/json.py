"""JSON Lines, and the JSON in cells. A file need not fit in memory."""

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

from evalrunner.datasets.nesting import checked_path, kind_of, rows_under
from evalrunner.datasets.records import (
    MAX_DEPTH,
    InvalidRecord,
    Reader,
    Record,
    RecordTooLargeError,
    checked_size,
    deeper_than,
    json_value,
    limit_values,
    read_line,
)
from evalrunner.datasets.text_file import UTF8, StructuredFile, checked_encoding, encoding_problem
from evalrunner.limits import STANDARD
from evalrunner.spelling import parse_float, parse_int

MAX_PYTHON_LIST = 1 << 16  # characters; parsing Python takes 100 times the time of JSON
NEGATIVE_ZERO = re.compile(r"-0(?=[\s,}\]]|$)")  # also at the end of some texts, which does no harm

TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep"


def jsonl(
    *,
    path: str,
    records: str | None = None,
    encoding: str = UTF8,
    member: str | None = None,
    max_record_mb: int = STANDARD.record_mb,
) -> Reader:
    """Records of a file with one JSON object a line.

    Args:
        records: Key of the rows in each line, such as data.items. The default is one row a line.
        encoding: Encoding of the text, such as cp1252 or utf-16.
        member: The file to read in a ZIP archive of several.
        max_record_mb: Maximum size of a line, in million characters.
    """
    rest = None if records is None else checked_path(records)
    return JsonLines(path, checked_size(max_record_mb), rest or None, checked_encoding(encoding), member)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}, which is not JSON; write null")


decoder = JSONDecoder(parse_constant=_refuse_constant, parse_float=parse_float)
_exact_decoder = JSONDecoder(parse_constant=_refuse_constant, parse_float=parse_float, parse_int=parse_int)


@dataclass(slots=True)
class JsonLines(StructuredFile):
    """Reads one file. Locations are its lines, from 1."""

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
            record = parse_record(line, self.encoding)
            if self.records is None or isinstance(record, InvalidRecord):
                yield record, location
            else:
                yield from ((row, location) for row in rows_under(record, self.records))


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


def parse_record(line: str, encoding: str = UTF8) -> Record:
    """The object in one line, or an `InvalidRecord`."""
    problem = encoding_problem(line, encoding)
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
    return _exact_decoder if "-0" in text and NEGATIVE_ZERO.search(text) else decoder


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
