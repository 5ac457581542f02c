"""Look into a data file: its columns, its first rows, and the `dataset:` of a suite that reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from evalrunner.datasets.columns import PLAIN_YAML
from evalrunner.datasets.csv import DelimitedReader
from evalrunner.datasets.nesting import kind_of
from evalrunner.datasets.packing import UnreadableFileError
from evalrunner.datasets.records import InvalidRecord, Record
from evalrunner.datasets.resolve import DatasetResolver, type_of
from evalrunner.datasets.text_file import open_text
from evalrunner.errors import SuiteError
from evalrunner.formatting import one_line
from evalrunner.starter.choices import guess_choices
from evalrunner.starter.columns import fold, guess_roles, is_known_name
from evalrunner.starter.table import Table, guess_delimiter, has_header, split_rows
from evalrunner.suite.data_address import is_address
from evalrunner.suite.schema import DatasetSpec

ROWS: Final = 200  # that are looked at
HEAD: Final = 1 << 16  # characters of a text file that are looked at
MAX_STEPS: Final = 8  # corrections of how a file is read
EXAMPLE: Final = 48  # characters of a value that are shown
ADVICE: Final = re.compile(r"set (type|records|encoding|quoting|delimiter): ([^;,\s]+)(?=$|[;,\s])")
LETTERS: Final = "ABCDEFGHIJ"
WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
ANSWER_KEYS: Final = ("aliases", "texts", "text", "answers", "answer", "values", "value", "label")


@dataclass(frozen=True, slots=True)
class Peek:
    """What was seen of a file: its first rows, and the dataset to paste, as YAML lines. `notes` say what to look at."""

    columns: Mapping[str, str]
    rows: Sequence[Record]
    block: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Probe:
    """How a file is read, as far as is known."""

    path: str
    kind: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    is_delimited: bool = False
    has_layout: bool = False

    def rows(self) -> list[Record]:
        """The first rows. Raises SuiteError if the dataset cannot be opened."""
        if is_address(self.path):
            raise SuiteError(f"{self.path!r} is an address, and peek reads files; download it, and name the file")
        spec = DatasetSpec(path=self.path, type=self.kind, options=self.options)
        sources = DatasetResolver(spec, Path(), Path(), None).sources()
        self.is_delimited = all(isinstance(source.reader, DelimitedReader) for source in sources)
        return [record for record, _ in islice((item for source in sources for item in source.records()), ROWS)]

    def readable_rows(self) -> list[Record]:
        """The first rows, after the advice of the messages was followed. Raises SuiteError for what cannot be read."""
        for _ in range(MAX_STEPS):
            try:
                rows = self.rows()
            except SuiteError as refused:
                if self.kind is not None or not any(problem.key == "dataset.type" for problem in refused.problems):
                    raise
                self.kind = _guess_kind(self.path)
                continue
            wrong = next((row for row in rows if isinstance(row, InvalidRecord)), None)
            if self.is_delimited and not (wrong and "encoding" in wrong.message) and self._guess_layout():
                continue
            if wrong is None:
                return rows
            if not self._follow(wrong.message):
                raise SuiteError(f"{self.path} {wrong.message}")
        raise SuiteError(f"{self.path} cannot be read as any of the formats of datasets")

    def _guess_layout(self) -> bool:
        """Whether the delimiter or the header of delimited text has to be set; asked once."""
        if self.has_layout:
            return False
        self.has_layout = True
        head = _head(self.path, self.options.get("encoding", "utf-8"))
        head = head[: head.rfind("\n") + 1] or head
        if not head or head.lstrip('"').lower().startswith("sep="):
            return False
        is_tsv = self.kind == "tsv" or type_of(self.path) == "tsv"
        delimiter = "\t" if is_tsv else guess_delimiter(head)
        if not is_tsv and delimiter != ",":
            self.options["delimiter"] = delimiter
        lines = [line for line in split_rows(head, delimiter)[:ROWS] if line]
        width = len(lines[0]) if lines else 0
        choices = LETTERS[: max(width - 2, 0)]
        if 4 <= width <= len(LETTERS) + 2 and all(line[-1].strip() and line[-1].strip() in choices for line in lines):
            self.options["header"] = ["question", *choices, "answer"]
        elif width > 1 and not has_header(lines):
            self.options["header"] = [f"column{place}" for place in range(1, width + 1)]
        return "delimiter" in self.options or "header" in self.options

    def _follow(self, message: str) -> bool:
        """Whether a message says what to set, which is not set yet."""
        if "is not UTF-8 (" in message and "encoding" not in self.options:
            self.options["encoding"] = "cp1252"
            return True
        found = ADVICE.search(message)
        if found is None or found[1] in self.options or (found[1] == "type" and self.kind == found[2]):
            return False
        if found[1] == "type":
            self.kind = found[2]
        else:
            self.options[found[1]] = found[2] if found[1] != "quoting" else found[2] == "true"
        return True


def peek(path: str) -> Peek:
    """What is in a file, and how a suite reads it. Raises SuiteError for a file that cannot be read or has no rows."""
    probe = _Probe(path)
    rows = probe.readable_rows()
    rows = _descend(probe, rows)
    if not rows:
        raise SuiteError(f"{path} has no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    types = {name: _type_of([row[name] for row in rows if name in row], len(rows)) for name in names}
    columns, notes = _map_columns(names, rows)
    return Peek(types, rows[:3], tuple(_block(probe, columns)), notes)


def _guess_kind(path: str) -> str:
    """The format of a file whose name does not say it."""
    start = _head(path, "utf-8")[:1]
    return {"[": "json", "{": "jsonl"}.get(start, "csv")


def _head(path: str, encoding: str, member: str | None = None) -> str:
    """The start of a text file, empty if it cannot be read."""
    try:
        with open_text(path, newline="", encoding=encoding, member=member) as text:
            return text.read(HEAD)
    except (OSError, UnreadableFileError, UnicodeError):
        return ""


def _descend(probe: _Probe, rows: list[Record]) -> list[Record]:
    """The rows inside of rows that have no input, such as the questions of a passage."""
    for _ in range(MAX_STEPS):
        if not rows or any(is_known_name(name) and name not in ("id", "context", "title") for name in rows[0]):
            return rows
        lists = [name for name, value in rows[0].items() if _objects(value) and not _is_conversation(value)]
        if len(lists) != 1 or ("records" not in probe.options and probe.options.get("header")):
            return rows
        before = dict(probe.options)
        above = probe.options.get("records", "$")
        probe.options["records"] = lists[0] if above == "$" else f"{above}.{lists[0]}"
        try:
            rows = probe.readable_rows()
        except SuiteError:
            probe.options = before
            return probe.readable_rows()
    return rows


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages."""
    keys = ({"role", "content"}, {"from", "value"})
    return _objects(value) and all(any(wanted <= item.keys() for wanted in keys) for item in value)


def _type_of(values: Sequence[Any], count: int) -> str:
    """The types of the values of a column, and whether some rows lack it."""
    names = list(dict.fromkeys(kind_of(value).removeprefix("a ").removeprefix("an ") for value in values))
    missing = f", missing in {count - len(values)}" if len(values) < count else ""
    return " or ".join(names) + missing


def _map_columns(names: Sequence[str], rows: Sequence[Record]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns of a suite, and what to look at."""
    everywhere = [name for name in names if all(name in row for row in rows)]
    talk = next((name for name in everywhere if all(_is_conversation(row[name]) for row in rows)), None)
    table = Table(Path(), tuple(name for name in everywhere if name != talk), list(rows))
    roles = guess_roles(table)
    columns: dict[str, Any] = {}
    notes = [f"{name!r} is a guess; have a look" for name in sorted(roles.guesses) if talk is None]
    if roles.id is not None and roles.id != "id" and all(isinstance(row[roles.id], str | int) for row in rows):
        columns["id"] = roles.id
    if talk is None:
        if roles.input is not None and roles.input != "input":
            columns["input"] = roles.input
        elif roles.input is None:
            notes.append("no column looks like the input; set columns: {input: …}")
    expected = None if roles.expected is None or (talk and roles.expected in roles.guesses) else roles.expected
    if expected is not None:
        path = _answer_path(expected, [row[expected] for row in rows])
        if path != "expected":
            columns["expected"] = path
        if talk is None and (choices := guess_choices(names, rows, path)) is not None:
            columns["choices"] = choices
    if talk is not None:
        answers = expected is None and any(_last_role(row[talk]) in ("assistant", "gpt") for row in rows)
        columns["messages"] = {"column": talk, "answer": True} if answers else talk
    elif expected is None:
        notes.append("no column looks like the accepted answer; set columns: {expected: …}, or score without one")
    return columns, tuple(notes)


def _last_role(messages: Sequence[Mapping[str, Any]]) -> Any:
    last = messages[-1]
    return last.get("role", last.get("from"))


def _answer_path(column: str, values: Sequence[Any]) -> str:
    """The path of the answers in a column whose values are objects or lists of objects; else the column."""
    lists = all(isinstance(value, list) for value in values)
    items = [item for value in values for item in (value if lists else [value])]
    if not items or not all(isinstance(item, Mapping) for item in items):
        return column
    shared = [key for key in items[0] if all(key in item for item in items)]
    key = min(
        (key for key in shared if fold(key) in ANSWER_KEYS), key=lambda key: ANSWER_KEYS.index(fold(key)), default=None
    )
    if key is None:
        return column
    return f"{column}[].{key}" if lists else f"{column}.{key}"


def _block(probe: _Probe, columns: Mapping[str, Any]) -> Iterator[str]:
    yield "dataset:"
    yield f"  path: {_yaml(probe.path)}"
    if probe.kind is not None:
        yield f"  type: {probe.kind}"
    for name, value in probe.options.items():
        yield f"  {name}: {_yaml(value)}"
    if columns:
        yield "  columns:"
        yield from (f"    {name}: {_yaml(value)}" for name, value in columns.items())


def _yaml(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_yaml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = PLAIN_YAML.fullmatch(value) and value.isascii() and value.lower() not in WORDS and not value.endswith(" ")
    return value if plain else json.dumps(value.replace("$", "$$") if "$" in value and value != "$" else value)


def peek_lines(seen: Peek) -> Iterator[str]:
    """What `evalrun datasets peek` prints."""
    width = min(max(map(len, seen.columns)), 30)
    yield "columns:"
    for name, kind in seen.columns.items():
        yield f"  {one_line(name, 30):<{width}}  {kind}"
    for number, row in enumerate(seen.rows, 1):
        yield ""
        yield f"row {number}:"
        for name, value in row.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"  {one_line(name, 30):<{width}}  {one_line(text, EXAMPLE)}"
    yield ""
    yield "to paste into a suite:"
    yield ""
    yield from seen.block
    if seen.notes:
        yield ""
        yield from (f"note: {one_line(note, 200)}" for note in seen.notes)
