"""Records to the fields of samples, as `columns:` of the suite says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from unicodedata import category

from evalrunner.datasets.conditions import Getter, getter
from evalrunner.datasets.identity import Fields, RowProblem, canonical
from evalrunner.datasets.records import Record
from evalrunner.domain import Message
from evalrunner.errors import nearest
from evalrunner.prompts import ABSENT, BrokenConversation, read_conversation
from evalrunner.suite.schema import ColumnSpec, ColumnsSpec

MOST_NAMED = 12  # columns listed in an error; a wide table has hundreds
USUAL_INPUTS = ("question", "prompt", "query", "instruction", "problem", "text", "user_input", "q")
DELIMITERS = {";": "';'", "\t": '"\\t"', "|": "'|'"}
PLAIN_YAML = re.compile(r"[^\W\d][\w ./?-]*")  # what needs no quotes as a value
UNWELCOME = frozenset({"Cc", "Cs", "Zl", "Zp"})  # in ids, which become lines of logs and names in reports


class MissingColumn(RowProblem):
    """A record lacks a column. `role` is what it was wanted for; `hint` says what to do."""

    def __init__(self, role: str, column: str, hint: str) -> None:
        super().__init__(f"no column {column!r}{hint}")
        self.role, self.column, self.hint = role, column, hint


class Mapper:
    """Reads records; one for text formats, where a cell without text is nothing, and one for the others."""

    def __init__(self, columns: ColumnsSpec, *, text_only: bool) -> None:
        self._columns = columns
        self._text_only = text_only
        self._get_id = _one(columns.id, "id")
        self._get_input = _one(columns.input, "input")
        self._get_messages = _one(columns.messages, "messages")
        self._get_expected = [(name, getter(name)) for name in _names(columns.expected, "expected")]
        self._split = columns.expected.split if columns.expected is not None else None

    def fields(self, record: Record) -> Fields:
        """The fields of a sample. Raises RowProblem for the first thing that is wrong."""
        messages = self._messages(record)
        return Fields(self._id(record), self._input(record, messages), self._expected(record), messages)

    def problems(self, record: Record) -> list[RowProblem]:
        """Everything that is wrong with a record whose fields could not be read."""
        found: list[RowProblem] = []
        messages: tuple[Message, ...] | None = None
        try:
            messages = self._messages(record)
        except RowProblem as wrong:
            found.append(wrong)
        if messages is not None or not found:  # else the input may only be missing with the conversation
            try:
                self._input(record, messages)
            except RowProblem as wrong:
                found.append(wrong)
        for read in (self._id, self._expected):
            try:
                read(record)
            except RowProblem as wrong:
                found.append(wrong)
        return found

    def _id(self, record: Record) -> str | None:
        spec = self._columns.id
        value = self._get_id(record)
        if value is ABSENT:
            if spec is None or not spec.column:
                return None
            raise _missing("id", spec, record)
        if isinstance(value, str):
            text = value
        elif isinstance(value, bool | int | float):
            text = _text(value)
        else:
            raise RowProblem(f"has an id that is {_kind(value)}; it should be text or a number")
        if not text or text.isspace():
            raise RowProblem("has an empty id")
        if not text.isprintable() and any(category(sign) in UNWELCOME for sign in text):
            raise RowProblem(f"has an id with a control character in it: {text!r}")
        return text

    def _input(self, record: Record, messages: tuple[Message, ...] | None) -> Any:
        spec = self._columns.input
        value = self._get_input(record)
        if value is ABSENT:
            if spec is not None:
                raise _missing("input", spec, record)
            if messages is None:
                raise MissingColumn("input", "input", _input_hint(record, text_only=self._text_only))
            return _last_user_text(messages)
        if value is None or (self._text_only and value == ""):
            name = spec.column if spec is not None else "input"
            raise RowProblem(f"has nothing in {name!r}, the input")
        return value

    def _expected(self, record: Record) -> tuple[str, ...]:
        texts: list[str] = []
        for name, get in self._get_expected:
            value = get(record)
            if value is ABSENT:
                if self._columns.expected is not None:
                    raise _missing("expected", ColumnSpec(name), record)
            elif isinstance(value, str) and self._split is None:
                if value:
                    texts.append(value)
            else:
                texts.extend(self._accepted(value))
        return tuple(texts)

    def _accepted(self, value: Any) -> Iterable[str]:
        for item in value if isinstance(value, list | tuple) else [value]:
            text = "" if item is None else _text(item)
            if self._split is None:
                parts = [text]
            else:
                parts = [part.strip() for part in text.split(self._split)]
            yield from (part for part in parts if part)

    def _messages(self, record: Record) -> tuple[Message, ...] | None:
        spec = self._columns.messages
        value = self._get_messages(record)
        if spec is None:
            if value is ABSENT or not self._is_conversation(value, record):
                return None
        elif value is ABSENT:
            raise _missing("messages", spec, record)
        name = spec.column if spec is not None else "messages"
        try:
            return read_conversation(value)
        except BrokenConversation as broken:
            raise RowProblem(f"the column {name!r} {broken}") from None

    def _is_conversation(self, value: Any, record: Record) -> bool:
        """Whether a column that only happens to be called `messages` is one: where it has roles, or is the input."""
        if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
            return True
        listed = isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))
        return listed and self._get_input(record) is ABSENT


def known_columns(names: Iterable[str]) -> str:
    """The names for a message, cut short."""
    listed = list(names)
    return (", ".join(listed[:MOST_NAMED]) + (", …" if len(listed) > MOST_NAMED else "")) or "no columns at all"


def _names(spec: ColumnSpec | None, default: str) -> tuple[str, ...]:
    if spec is None:
        return (default,)
    return (spec.column,) if isinstance(spec.column, str) else spec.column


def _one(spec: ColumnSpec | None, default: str) -> Getter:
    """The getter of a single column; an empty name means that there is none, whatever the file has."""
    name = _names(spec, default)[0]
    return getter(name) if name else lambda record: ABSENT


def _missing(role: str, spec: ColumnSpec, record: Record) -> MissingColumn:
    name = _names(spec, role)[0]
    return MissingColumn(role, name, f"; it has: {known_columns(record)}{nearest(name, record)}")


def _input_hint(record: Record, *, text_only: bool) -> str:
    """What the record has, and the likeliest column to say in the suite."""
    names = list(record)
    if not names:
        return f"; it has: {known_columns(names)}"
    for sign, written in DELIMITERS.items():
        if text_only and len(names) == 1 and sign in names[0]:
            return f"; it has: {names[0]!r}. Say what stands between the columns: delimiter: {written}"
    lowered = {name.lower(): name for name in names}
    likely = next((lowered[usual] for usual in ("input", *USUAL_INPUTS) if usual in lowered), None)
    likely = likely or next((name for name in names if name not in ("id", "expected")), names[0])
    written = likely if PLAIN_YAML.fullmatch(likely) else json.dumps(likely, ensure_ascii=False)
    return f"; it has: {known_columns(names)}. Say which one it is: columns: {{input: {written}}}"


def _text(value: Any) -> str:
    """A value as an answer or an id: numbers as JSON has them, lists and mappings as their canonical JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else canonical(value).decode()


def _kind(value: Any) -> str:
    return "null" if value is None else "a list" if isinstance(value, list | tuple) else "a mapping"


def _last_user_text(messages: tuple[Message, ...]) -> str:
    """The text of the last message of the user. Raises RowProblem where there is none."""
    for message in reversed(messages):
        if message["role"] == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            texts = [part.get("text") for part in content or () if isinstance(part, dict)]
            return "\n".join(text for text in texts if isinstance(text, str))
    raise RowProblem("has a conversation without a message of the user; say what the input is: columns: {input: …}")
