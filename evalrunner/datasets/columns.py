"""Records to samples: the fields that `columns:` maps, and the ids.

Given ids must be unique. The others are a hash of input and expected, never of the position, so that a sample keeps its
id when rows are added, sorted or removed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple
from unicodedata import category

from evalrunner.datasets.choices import CHOICES, ChoiceReader, Choices
from evalrunner.datasets.getters import (
    MissingColumnError,
    RecordError,
    is_empty,
    names_of,
    source_of,
    sources_of,
)
from evalrunner.datasets.json import parse_cell, parse_list, parse_python_list
from evalrunner.datasets.records import Record
from evalrunner.domain import Message, Sample
from evalrunner.errors import SuiteError, nearest
from evalrunner.prompts import ABSENT, ConversationError, read_conversation
from evalrunner.storage import KeyTable, canonical_json
from evalrunner.suite.columns import ColumnSpec, ColumnsSpec, is_template
from evalrunner.suite.yaml import parse_document

CHECKS = "checks"  # the role of a column, and its name unless `columns:` maps another
MAX_COLUMNS_NAMED = 12  # in an error; a wide table has hundreds
COMMON_INPUT_NAMES = ("question", "prompt", "query", "instruction", "problem", "text", "user_input", "q")
JSON_STARTS = frozenset('["{')  # of what is no plain answer; numbers and words are their own text
DELIMITERS = {";": "';'", "\t": '"\\t"', "|": "'|'"}
PLAIN_YAML = re.compile(r"[^\W\d][\w ./?-]*")  # what needs no quotes as a value
UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # not in ids, which become lines of logs and names in reports
MAX_DUPLICATES_NAMED = 20  # given ids that are looked up again to name both lines; more are only counted


class SampleFields(NamedTuple):
    """The fields of a sample; `id` is None if the record gives none."""

    id: str | None
    input: Any
    expected: tuple[str, ...]
    messages: tuple[Message, ...] | None
    checks: Any = None
    choices: Choices | None = None


class ColumnMapper:
    """Maps records to fields: for text formats, where an empty cell is no value, or for typed formats."""

    def __init__(self, columns: ColumnsSpec, *, text_only: bool) -> None:
        self._columns = columns
        self._text_only = text_only
        self._get_id = source_of(columns.id, "id")
        self._get_input = source_of(columns.input, "input")
        self._get_messages = source_of(columns.messages, "messages")
        self.checks_column = names_of(columns.checks, CHECKS)[0]
        self._get_checks = source_of(columns.checks, CHECKS)
        if columns.checks is None and any(CHECKS in names_of(one, "") for one in _other_roles(columns)):
            self._get_checks, self.checks_column = _absent, ""  # the column is something else
        self._get_expected = sources_of(columns.expected, "expected")
        self._choices = None if columns.choices is None else ChoiceReader(columns.choices, text_only)
        self._split = columns.expected.split if columns.expected is not None else None
        self._json = columns.expected is not None and columns.expected.json is True
        self._json_input = columns.input is not None and columns.input.json is True
        self._has_default = columns.expected is not None and columns.expected.default is not None
        self.lists: frozenset[str] = frozenset()  # the columns of accepted answers whose lists are answers each

    @property
    def detects_lists(self) -> bool:
        """Whether the data decides if a cell with a list is several accepted answers."""
        spec = self._columns.expected
        if spec is not None and (spec.value is not None or any(map(is_template, names_of(spec, "")))):
            return False
        return self._split is None and (spec is None or spec.json is None)

    @property
    def expected_columns(self) -> tuple[str, ...]:
        """The columns that accepted answers are read from."""
        return names_of(self._columns.expected, "expected")

    def fields(self, record: Record) -> SampleFields:
        """The fields of a sample. Raises RecordError for the first problem."""
        messages = self._messages(record)
        checks = self._checks(record)
        expected = self._expected(record)
        if self._columns.messages is not None and self._columns.messages.answer:
            messages, expected = _split_answer(messages or ())
        choices = None if self._choices is None else self._read_choices(self._choices, record, expected)
        if choices is not None:
            expected = tuple(choices.texts[place] for place in choices.right)
        return SampleFields(self._id(record), self._input(record, messages), expected, messages, checks, choices)

    def problems(self, record: Record) -> list[RecordError]:
        """All problems of a record whose fields could not be read."""
        problems: list[RecordError] = []
        messages: tuple[Message, ...] | None = None
        try:
            messages = self._messages(record)
        except RecordError as wrong:
            problems.append(wrong)
        if messages is not None or not problems:  # else the input may be missing only because the conversation is
            try:
                self._input(record, messages)
            except RecordError as wrong:
                problems.append(wrong)
        for read in (self._id, self._expected, self._checks, self.fields):
            if read == self.fields and problems:
                break  # of the choices, unless they lack what was reported
            try:
                read(record)
            except RecordError as wrong:
                problems.append(wrong)
        return problems

    def _id(self, record: Record) -> str | None:
        spec = self._columns.id
        value = self._get_id(record)
        if value is ABSENT:
            if spec is None or not spec.column:
                return None
            raise _missing("id", spec, record, text_only=self._text_only)
        if isinstance(value, str):
            text = value
        elif isinstance(value, bool | int | float):
            text = _text(value)
        else:
            kind = "null" if value is None else "a list" if isinstance(value, list | tuple) else "a mapping"
            raise RecordError(f"has an id that is {kind}; it must be text or a number")
        if not text or text.isspace():
            raise RecordError("has an empty id")
        if not text.isprintable() and any(category(character) in UNSAFE_CATEGORIES for character in text):
            raise RecordError(f"has an id with a control character in it: {text!r}")
        return text

    def _input(self, record: Record, messages: tuple[Message, ...] | None) -> Any:
        spec = self._columns.input
        value = self._get_input(record)
        if spec is None and messages is not None and names_of(self._columns.messages, "messages")[0] == "input":
            return _last_user_text(messages)
        if value is ABSENT:
            if spec is not None:
                raise _missing("input", spec, record, text_only=self._text_only)
            if messages is None or (not messages and self._get_messages(record) is ABSENT):
                raise MissingColumnError("input", "input", _input_hint(record, text_only=self._text_only))
            return _last_user_text(messages)
        if value is None or (value == "" and (self._text_only or (spec is not None and is_template(str(spec.column))))):
            name = spec.column if spec is not None else "input"
            raise RecordError(f"has an empty input (column {name!r})")
        if self._json_input and isinstance(value, str):
            return _structured(spec.column if spec is not None else "input", value)
        return value

    def _expected(self, record: Record) -> tuple[str, ...]:
        texts: list[str] = []
        for name, get in self._get_expected:
            value = get(record)
            if value is ABSENT:
                if self._columns.expected is not None:
                    if self._has_default:
                        continue
                    raise _missing("expected", ColumnSpec(name), record, text_only=self._text_only)
            elif isinstance(value, str) and self._split is None:
                if self._json or name in self.lists:
                    answers = _answers(name, value) if self._json else parse_list(value)
                    texts.extend(self._accepted(value if answers is None and not self._json else answers))
                elif value and not (self._has_default and is_empty(value)):
                    texts.append(value)
            else:
                texts.extend(self._accepted(value))
        if self._has_default and not texts and self._columns.expected is not None:
            texts.extend(self._accepted(self._columns.expected.default))
        return tuple(texts)

    def _read_choices(self, reader: ChoiceReader, record: Record, expected: tuple[str, ...]) -> Choices:
        """The choices of a record. Right ones that are numbers in the data are indexes first."""
        raw = [item for _, get in self._get_expected for item in _listed(get(record))]
        typed = bool(raw) and all(isinstance(item, int) and not isinstance(item, bool) for item in raw)
        try:
            return reader.read(record, expected, typed=typed)
        except MissingColumnError as missing:
            raise _missing(CHOICES, ColumnSpec(missing.column), record, text_only=self._text_only) from None

    def _accepted(self, value: Any) -> Iterable[str]:
        for item in value if isinstance(value, list | tuple) else [value]:
            text = "" if item is None else _text(item)
            if self._split is None:
                answers = [text]
            else:
                answers = [answer.strip() for answer in text.split(self._split)]
            yield from (answer for answer in answers if answer)

    def sample(self, name: str, fields: SampleFields, record: Record, index: int) -> Sample:
        """The sample of a record. Its checks are no data of the sample; its choices have their letters, as expected has."""
        column, expected = self.checks_column, fields.expected
        if column in record:
            record = {name: item for name, item in record.items() if name != column}
        if fields.choices is not None and self._columns.choices is not None:
            choices, expected = fields.choices.lettered(name, self._columns.choices.shuffle)
            record = {**record, CHOICES: choices}
        return Sample(name, fields.input, expected, record, fields.messages, index, fields.checks)

    def _checks(self, record: Record) -> Any:
        """The checks of a row as data: a cell of text holds them in YAML or JSON. None where there are none."""
        value = self._get_checks(record)
        if value is ABSENT:
            if self._columns.checks is not None and self._text_only:
                raise _missing("checks", self._columns.checks, record, text_only=True)
            return None
        return parse_checks(self.checks_column, value) if isinstance(value, str) else value

    def _messages(self, record: Record) -> tuple[Message, ...] | None:
        spec = self._columns.messages
        value = self._get_messages(record)
        if spec is None:
            if value is ABSENT or not self._is_conversation(value, record):
                return None
        elif value is ABSENT:
            return ()
        name = spec.column if spec is not None else "messages"
        try:
            if spec is not None:
                return read_conversation(value, role=spec.role, content=spec.content)
            return read_conversation(value)
        except ConversationError as wrong:
            raise RecordError(f"the column {name!r} {wrong}") from None

    def _is_conversation(self, value: Any, record: Record) -> bool:
        """Whether a column named `messages` that is not mapped is a conversation: it has roles, or is the only input."""
        if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].keys() & {"role", "from"}:
            return True
        listed = isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))
        return listed and self._get_input(record) is ABSENT


def sample_columns(columns: Iterable[str], spec: ColumnsSpec) -> tuple[str, ...]:
    """The columns of samples, in which the column of checks has the name of its role, unless another one has it."""
    column, names = ColumnMapper(spec, text_only=False).checks_column, tuple(columns)
    if spec.choices is not None and CHOICES not in names:
        names = (*names, CHOICES)
    return names if CHECKS in names else tuple(CHECKS if name == column else name for name in names)


def parse_checks(column: str, text: str) -> Any:
    """The checks in a cell, as YAML or JSON; None for an empty one. Raises RecordError with the line inside the cell."""
    if not text or text.isspace():
        return None
    try:
        data = _parsed_checks(text)
    except SuiteError as broken:
        problem = broken.problems[0]
        line = problem.where.split(":")[1:2]
        place = f" (line {line[0]} of the cell)" if line and "\n" in text.strip() else ""
        message = problem.message.removeprefix("is not valid YAML: ")
        key = f"{problem.key}: " if problem.key else ""
        raise RecordError(f"has a column {column!r} that is not YAML{place}: {key}{message}") from None
    if isinstance(data, str):
        return [data]
    if not isinstance(data, list | dict):
        raise RecordError(f"has a column {column!r} that holds no checks; write a list such as [{{contains: 30 days}}]")
    return data


@functools.lru_cache(maxsize=256)
def _parsed_checks(text: str) -> Any:
    """The data in a cell; cells of one text share it, as nothing changes it."""
    if text.lstrip()[:1] in JSON_STARTS:
        try:
            value = parse_cell(text)
            json.loads(text, object_pairs_hook=_without_repeats)
            return value
        except ValueError:  # a list of YAML in one line begins as one of JSON; a repeated key is reported by its reader
            pass
    document = parse_document(text, file="cell", base=("dataset", "rows"))
    document.raise_problems()  # such as a repeated key
    return document.data


def _without_repeats(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("duplicate key")


def _structured(column: Any, text: str) -> Any:
    """The JSON of a cell."""
    try:
        return parse_cell(text)
    except ValueError as wrong:
        raise RecordError(f"has a column {column!r} that {wrong}") from None


def _answers(column: str, text: str) -> Any:
    """The accepted answers in a cell that may be JSON: a list of JSON or Python, a JSON text, or the cell as it is."""
    if text.lstrip()[:1] not in JSON_STARTS:
        return None if text.strip() == "null" else text
    try:
        return parse_cell(text)
    except ValueError as wrong:
        answers = parse_python_list(text)
        if answers is not None:
            return answers
        raise RecordError(f"has a column {column!r} that {wrong}; it begins as JSON, and 'json' is true") from None


def is_list(text: str) -> bool:
    """Whether a text is a list as JSON or Python writes it."""
    return text.lstrip()[:1] == "[" and (parse_list(text) is not None or parse_python_list(text) is not None)


def known_columns(names: Iterable[str]) -> str:
    """Column names for a message, at most MAX_COLUMNS_NAMED."""
    listed = list(names)
    more = ", …" if len(listed) > MAX_COLUMNS_NAMED else ""
    return (", ".join(listed[:MAX_COLUMNS_NAMED]) + more) or "no columns"


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _absent(record: Record) -> Any:
    return ABSENT


def _other_roles(columns: ColumnsSpec) -> tuple[ColumnSpec | None, ...]:
    """The columns that are mapped to something else than checks."""
    return columns.id, columns.input, columns.expected, columns.messages, columns.choices


def _missing(role: str, spec: ColumnSpec, record: Record, *, text_only: bool) -> MissingColumnError:
    name = names_of(spec, role)[0]
    hint = _delimiter_hint(record, name) if text_only else None
    return MissingColumnError(role, name, hint or f"; it has: {known_columns(record)}{nearest(name, record)}")


def _delimiter_hint(record: Record, wanted: str) -> str | None:
    """The delimiter to set, if it is in the single column of a record of text, or cuts the wanted column out of others."""
    header = ",".join(record)
    for character, literal in DELIMITERS.items():
        parts = [part.strip() for part in header.split(character)]
        if len(parts) > 1 and (len(record) == 1 or wanted in parts):
            return f"; it has: {header!r}. Set the delimiter: delimiter: {literal}"
    return None


def _input_hint(record: Record, *, text_only: bool) -> str:
    """The columns of the record, and the most likely mapping of the input."""
    names = list(record)
    if not names:
        return f"; it has: {known_columns(names)}"
    if text_only and (hint := _delimiter_hint(record, "input")) is not None:
        return hint
    lowered = {name.lower(): name for name in names}
    likely = next((lowered[usual] for usual in ("input", *COMMON_INPUT_NAMES) if usual in lowered), None)
    likely = likely or next((name for name in names if name not in ("id", "expected")), names[0])
    literal = likely if PLAIN_YAML.fullmatch(likely) else json.dumps(likely, ensure_ascii=False)
    return f"; it has: {known_columns(names)}. Map the input: columns: {{input: {literal}}}"


def _text(value: Any) -> str:
    """A value as an answer or an id: numbers as in JSON, lists and mappings as their canonical JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else canonical(value).decode()


def _split_answer(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages before the last one of the assistant, and its text; all of them and nothing if another one is last."""
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return messages, ()
    text = message_text(messages[-1])
    return messages[:-1], (text,) if text else ()


def message_text(message: Message) -> str:
    """The text of a message, also of one with parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content or () if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _last_user_text(messages: tuple[Message, ...]) -> str:
    """The text of the last user message. Raises RecordError if there is none."""
    if not messages:
        raise RecordError("has neither an input nor messages; a conversation that begins needs its input")
    for message in reversed(messages):
        if message["role"] == "user":
            return message_text(message)
    raise RecordError("has a conversation without a user message; map the input: columns: {input: …}")


def canonical(value: Any) -> bytes:
    """The canonical JSON of a value: sorted keys, no spaces. Raises RecordError for a value that has no JSON form."""
    try:
        return canonical_json(value)
    except UnicodeEncodeError:
        raise RecordError("has half of a surrogate pair (\\ud800 to \\udfff), which is not a character") from None
    except RecursionError:
        raise RecordError("is nested too deep") from None
    except ValueError:
        raise RecordError("has a number that is not finite or exceeds a 64-bit float") from None
    except TypeError as wrong:
        raise RecordError(f"has a value that JSON cannot express: {wrong}") from None


def content_id(fields: SampleFields) -> str:
    """16 hex digits of input and expected, of the conversation if that is the input, and of the choices."""
    content: list[Any] = [fields.input, fields.expected]
    if fields.messages is not None:
        content.append(fields.messages)
    if fields.choices is not None:
        content.append(fields.choices.texts)
    return blake2b(canonical(content), digest_size=8).hexdigest()


def digest_line(sample: Sample) -> bytes:
    """The canonical JSON of a sample, of which the digest of a dataset is made."""
    fields = [sample.id, sample.input, sample.expected, sample.metadata, sample.messages]
    return canonical(fields if sample.checks is None else [*fields, sample.checks])


@dataclass(frozen=True, slots=True)
class PossibleDuplicate:
    """A given id whose 64-bit key was there before. `number` counts the samples before it."""

    number: int
    id: str
    location: str


@dataclass(slots=True)
class FirstPassIds:
    """Assigns ids while a dataset is read for the first time. `repeats` counts contents that occur more than once.

    Given ids that differ only in spaces at their ends are duplicates: no report shows the difference.
    """

    repeats: dict[str, int] = field(default_factory=dict)
    duplicates: list[PossibleDuplicate] = field(default_factory=list)
    duplicate_count: int = 0
    _names: KeyTable = field(default_factory=KeyTable)
    _number: int = -1

    def assign(self, fields: SampleFields, location: str) -> str:
        """The id of the next sample. Raises RecordError if the content has no JSON form."""
        name = fields.id if fields.id is not None else content_id(fields)
        self._number += 1
        if self._names.add(int.from_bytes(blake2b(name.strip().encode(), digest_size=8).digest())):
            return name
        if fields.id is None:
            self.repeats[name] = self.repeats.get(name, 1) + 1
            return f"{name}-{self.repeats[name]}"
        self.duplicate_count += 1
        if len(self.duplicates) < MAX_DUPLICATES_NAMED:
            self.duplicates.append(PossibleDuplicate(self._number, name, location))
        return name


@dataclass(slots=True)
class LaterPassIds:
    """Assigns the same ids again; `repeats` are those of the first pass."""

    repeats: Mapping[str, int]
    _counts: dict[str, int] = field(default_factory=dict)

    def assign(self, fields: SampleFields, location: str) -> str:
        """The id of the next sample."""
        if fields.id is not None:
            return fields.id
        name = content_id(fields)
        if name not in self.repeats:
            return name
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"
