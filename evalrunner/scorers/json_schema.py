"""JSON Schema for answers: a schema of a suite to a function from a document to what is wrong. Bounded, and without network.

The package jsonschema validates. Its searches for patterns, its test for unique items and its references can take very long on
some answers, so these are replaced or counted. References outside of the schema are refused, never fetched.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import SuiteError
from evalrunner.json_path import MISSING
from evalrunner.limits import Limits
from evalrunner.matching import MAX_STEPS_HERE, Pattern, SearchFailed, most_steps
from evalrunner.redact import redact_start
from evalrunner.scorers.regex import compile_pattern
from evalrunner.storage import FileTooLargeError, read_file
from evalrunner.suite.yaml import parse_document

DRAFTS: Final = {
    "http://json-schema.org/draft-04/schema": "Draft4Validator",
    "http://json-schema.org/draft-06/schema": "Draft6Validator",
    "http://json-schema.org/draft-07/schema": "Draft7Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
}
SCHEMAS_BY_NAME: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
DATA: Final = frozenset({"enum", "const", "default", "examples", "example"})  # keywords whose values are no schemas

MAX_SCHEMA_BYTES: Final = 1_000_000
MAX_SCHEMA_PARTS: Final = 20_000
MAX_REFERENCES: Final = 100_000  # followed for one document: a schema can refer to itself in ways that never end
MAX_NAME_LENGTH: Final = 200  # characters of a name that patterns of patternProperties are searched in
MAX_ERRORS: Final = 3  # in a reason
MAX_SHOWN: Final = 160  # characters of one error
MAX_REGEX_LENGTH: Final = 1_000

DATE_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\S+)", re.ASCII)
TIME: Final = re.compile(r"(\d\d:\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII)
EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)*")
LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
DURATION: Final = re.compile(
    r"P(?!$)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)", re.ASCII
)
POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")

_counter = threading.local()


class TooManyReferences(Exception):
    """A document for which a schema follows too many references."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema, as a function from a document to its first problems; none if it is valid. It ends after `limit_s` of CPU time.

    Raises SearchFailed, TooManyReferences and RecursionError.
    """

    validator: Any
    has_patterns: bool
    limit_s: float

    def __call__(self, document: Any) -> list[str]:
        if self.has_patterns and any(len(name) > MAX_NAME_LENGTH for name in _names(document)):
            raise SearchFailed(f"a name has more than {MAX_NAME_LENGTH} characters, in which no pattern is searched")
        _counter.references, _counter.limit_s = 0, self.limit_s
        _counter.deadline = time.thread_time() + self.limit_s
        return [_describe(error) for error in islice(self.validator.iter_errors(document), MAX_ERRORS)]


def compile_schema(schema: Any, limits: Limits) -> Schema:
    """The schema, checked. Raises ValueError for what is no schema, unknown references and slow patterns."""
    import jsonschema
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    if not isinstance(schema, Mapping | bool):
        raise ValueError("'schema' should be a mapping, or the path of a file that has one")  # noqa: TRY004  of the suite
    declared = schema.get("$schema") if isinstance(schema, Mapping) else None
    draft = "Draft202012Validator" if declared is None else DRAFTS.get(str(declared).rstrip("#"))
    if draft is None:
        raise ValueError(f"'schema' declares the unknown version {declared!r}; known are {', '.join(DRAFTS)}")
    base = getattr(jsonschema, draft)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about future syntax of regular expressions
            base.check_schema(schema)
    except SchemaError as wrong:
        raise ValueError(f"'schema' is no JSON Schema: {_describe(wrong)}") from None
    except RecursionError:
        raise ValueError("'schema' is nested too deeply") from None
    parts = list(islice(_subschemas(schema), MAX_SCHEMA_PARTS + 1))
    if len(parts) > MAX_SCHEMA_PARTS:
        raise ValueError(f"'schema' has more than {MAX_SCHEMA_PARTS:,} parts")
    _check_references(schema, parts)
    patterns = _patterns(parts, limits.match_s)
    own = jsonschema.validators.extend(base, _keywords(base, patterns))
    has_patterns = any("patternProperties" in part for part in parts)
    return Schema(own(schema, registry=Registry(), format_checker=_format_checker()), has_patterns, limits.match_s)


def read_schema(path: Path, written: str) -> Any:
    """The schema in a JSON or YAML file. Raises ValueError."""
    try:
        content = read_file(path, max_bytes=MAX_SCHEMA_BYTES)
    except FileTooLargeError:
        raise ValueError(
            f"'schema' names the file {written!r}, which has more than {MAX_SCHEMA_BYTES:,} bytes"
        ) from None
    except OSError as refused:
        reason = refused.strerror or refused
        raise ValueError(f"'schema' names the file {written!r}, which cannot be read: {reason}") from None
    try:
        return json.loads(content) if path.suffix == ".json" else parse_document(content.decode(), file=written).data
    except SuiteError as wrong:  # too many aliases, too
        raise ValueError(f"'schema' names the file {written!r}, which is not YAML: {wrong}") from None
    except (ValueError, RecursionError):
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ValueError(f"'schema' names the file {written!r}, which is not {kind}") from None


def _describe(error: Any) -> str:
    """`$.items[0].price: 'free' is not of type 'number'`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    return redact_start(f"${''.join(steps)}: {' '.join(str(error.message).split())}", MAX_SHOWN)


def _names(document: Any) -> Iterator[str]:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _subschemas(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and every schema in it; data such as that of `enum` is none."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, Mapping):
            yield value
            for name, item in value.items():
                if name in SCHEMAS_BY_NAME and isinstance(item, Mapping):
                    waiting.extend(item.values())
                elif name not in DATA:
                    waiting.append(item)


def _check_references(schema: Any, parts: list[Mapping[str, Any]]) -> None:
    """Raises ValueError for a reference that leads out of the schema, or to nothing."""
    anchors = {part.get(name) for part in parts for name in ("$anchor", "$dynamicAnchor") if part.get(name)}
    for part in parts:
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = part.get(name)
            if not isinstance(reference, str):
                continue
            if not reference.startswith("#"):
                advice = "copy what it needs under $defs and refer to it by #/$defs/NAME"
                raise ValueError(f"'schema' refers to {reference!r} outside of itself, which is not fetched; {advice}")
            pointer = urllib.parse.unquote(reference[1:])
            if pointer and pointer not in anchors and _at_pointer(schema, pointer) is MISSING:
                raise ValueError(f"'schema' refers to {reference!r}, which it does not have")


def _at_pointer(value: Any, pointer: str) -> Any:
    """What a JSON pointer leads to; MISSING if nothing."""
    if not pointer.startswith("/"):
        return MISSING
    for step in pointer[1:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def _patterns(parts: list[Mapping[str, Any]], limit_s: float) -> dict[str, Pattern]:
    """Every regular expression of the schema, compiled. Raises ValueError for one that takes exponential time."""
    texts = [part["pattern"] for part in parts if isinstance(part.get("pattern"), str)]
    of_names = [text for part in parts for text in part.get("patternProperties") or ()]
    patterns = {
        text: compile_pattern(text, 0, "pattern", limit_s, None) for text in dict.fromkeys([*texts, *of_names]) if text
    }
    if any("unevaluatedProperties" in part for part in parts):  # which searches for all patterns of names by itself
        for text in of_names:
            if text and most_steps(patterns[text].compiled, MAX_NAME_LENGTH) > MAX_STEPS_HERE:
                raise ValueError(
                    f"'schema' has the pattern {text!r}, too slow beside 'unevaluatedProperties'; narrow it"
                )
    return patterns


def _keywords(base: Any, patterns: Mapping[str, Pattern]) -> dict[str, Callable[..., Any]]:
    """The keywords that are replaced: patterns are searched within limits, items compared by a set, references counted."""
    from jsonschema.exceptions import ValidationError

    def finds(text: str, where: str) -> bool:
        return not text or patterns[text].find(where) is not None

    def pattern(validator: Any, text: str, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not finds(text, instance):
            yield ValidationError(f"{redact_start(repr(instance), MAX_SHOWN)} does not match {text!r}")

    def pattern_properties(validator: Any, given: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for text, part in given.items() if isinstance(instance, dict) else ():
            for name, value in instance.items():
                _check_time()
                if finds(text, name):
                    yield from validator.descend(value, part, path=name, schema_path=text)

    def additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        known, texts = schema.get("properties", {}), schema.get("patternProperties", {})
        for name in instance if isinstance(instance, dict) else ():
            _check_time()
            if name in known or any(finds(text, name) for text in texts):
                continue
            if isinstance(wanted, Mapping):
                yield from validator.descend(instance[name], wanted, path=name)
            elif not wanted:
                yield ValidationError(f"additional properties are not allowed: {redact_start(repr(name), MAX_SHOWN)}")

    def unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(instance, list) and len({canonical(item) for item in instance}) < len(instance):
            yield ValidationError("has equal items")

    replaced: dict[str, Callable[..., Any]] = {
        **base.VALIDATORS,
        "additionalProperties": additional_properties,
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "uniqueItems": unique_items,
    }
    for name in ("$ref", "$dynamicRef", "$recursiveRef"):
        if name in base.VALIDATORS:
            replaced[name] = _counted(base.VALIDATORS[name])
    return {name: _timed(keyword) for name, keyword in replaced.items()}


def _check_time() -> None:
    """Raises SearchFailed beyond the time of a document: the parts of a schema and those of a document multiply."""
    if time.thread_time() > _counter.deadline:
        raise SearchFailed(f"the schema takes more than {_counter.limit_s:g} s of CPU time on this output")


def _timed(keyword: Callable[..., Any]) -> Callable[..., Any]:
    """The keyword, which does nothing beyond the time of a document."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _check_time()
        return keyword(validator, value, instance, schema)

    return check


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    """The keyword, whose uses for one document are counted."""

    def follow(validator: Any, reference: str, instance: Any, schema: Any) -> Any:
        _counter.references += 1
        if _counter.references > MAX_REFERENCES:
            raise TooManyReferences
        return keyword(validator, reference, instance, schema)

    return follow


def canonical(value: Any) -> str:
    """A text that equal documents share: keys in order, 1.0 as 1."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@functools.cache
def _format_checker() -> Any:
    """The formats that are checked; others are notes, as the standard has it."""
    from jsonschema import Draft202012Validator, FormatChecker

    checker = FormatChecker(formats=())
    for name in ("date", "ipv4", "ipv6", "uuid"):
        checker.checkers[name] = Draft202012Validator.FORMAT_CHECKER.checkers[name]
    for name, check in FORMATS.items():
        checker.checks(name)(lambda value, check=check: not isinstance(value, str) or check(value))
    return checker


def _is_time(text: str) -> bool:
    match = TIME.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.time.fromisoformat(match[1])
    except ValueError:
        return False
    return int(match[2]) < 60 or (match[2] == "60" and match[1][-2:] in ("59", "29", "44", "14"))  # a leap second


def _is_date_time(text: str) -> bool:
    match = DATE_TIME.fullmatch(text)
    if match is None or not _is_time(match[2]):
        return False
    try:
        datetime.date.fromisoformat(match[1])
    except ValueError:
        return False
    return True


def _is_uri(text: str) -> bool:
    if re.search(r'[\s<>"{}|\\^`\x00-\x1f\x7f-\U0010ffff]|%(?![0-9A-Fa-f]{2})', text):
        return False
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:.", text, re.ASCII) is not None


def _is_hostname(text: str) -> bool:
    return len(text) <= 253 and all(LABEL.fullmatch(label) for label in text.split("."))


def _is_regex(text: str) -> bool:
    if len(text) > MAX_REGEX_LENGTH:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "date-time": _is_date_time,
    "duration": lambda text: DURATION.fullmatch(text) is not None,
    "email": lambda text: EMAIL.fullmatch(text) is not None,
    "hostname": _is_hostname,
    "json-pointer": lambda text: POINTER.fullmatch(text) is not None,
    "regex": _is_regex,
    "time": _is_time,
    "uri": _is_uri,
}
