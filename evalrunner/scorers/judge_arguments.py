"""The arguments of a tool in a judge's reply: a call, or JSON in the text. Read by the tool's schema, and never guessed.

Other than a verdict, which is one of a few labels, these are lists of statements, sentences or entities.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evalrunner.domain import Completion
from evalrunner.scorers.judge_replies import (
    ENDINGS,
    MAX_READ_CHARS,
    WRAPPERS,
    NoVerdict,
    arguments_of,
    quote_reply,
    reply_text,
)
from evalrunner.scorers.lenient_json import FENCE, JsonObject, decode_nested, find_objects, with_pairs

FLAGS: Final = frozenset({"verdict", "attributed", "noncommittal"})
"""Whole numbers that mean yes or no."""
FLAG_WORDS: Final[Mapping[Any, int]] = {"0": 0, "1": 1, "no": 0, "yes": 1, "false": 0, "true": 1}
MAX_DEPTH: Final = 8  # of a schema


class Unfit(ValueError):
    """A value that its schema does not allow. The message says which."""


def read_arguments(answer: Completion, schema: Mapping[str, Any]) -> Mapping[str, Any] | NoVerdict:
    """The arguments of the one call that a reply contains, or why there is none."""
    reply = reply_text(answer)
    if answer.finish_reason in ENDINGS:
        problem = ENDINGS[answer.finish_reason]
        word = "truncated" if problem == "cut off" else problem
        return NoVerdict("judge", f"the judge's reply was {word}", problem, reply)
    if not answer.tool_calls and not answer.text.strip():
        return NoVerdict("judge", "the judge's reply was empty", "empty", reply)
    fitting: list[Mapping[str, Any]] = []
    wrong = ""
    for value in _values(answer):
        try:
            found = fit(value, schema, schema)
        except Unfit as unfit:
            wrong = wrong or str(unfit)
            continue
        if found not in fitting:
            fitting.append(found)
    if len(fitting) > 1:
        return NoVerdict("judge", "two different verdicts in one reply", "two verdicts", reply)
    if not fitting:
        reason = f"unreadable verdict: {wrong + ' in ' if wrong else ''}{quote_reply(reply)}"
        return NoVerdict("judge", reason, "unreadable", reply)
    if any(value == [] and _has_flag(schema["properties"][name], schema) for name, value in fitting[0].items()):
        return NoVerdict("judge", "the judge listed no statements, so there is nothing to score", "empty", reply)
    return fitting[0]


def _has_flag(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether the items of a list have a flag, whose share is the score."""
    items = schema.get("items", {})
    items = _resolved(items["$ref"], root) if "$ref" in items else items
    return not FLAGS.isdisjoint(items.get("properties", ()))


def _values(answer: Completion) -> Iterator[Any]:
    """What may be the arguments: those of calls, then the objects of the text, or a text that is a list."""
    for call in answer.tool_calls:
        arguments = arguments_of(call)
        value = decode_nested(arguments) if isinstance(arguments, str) else with_pairs(arguments)
        yield from _unwrapped(value)
    text: str = answer.text
    if not text.strip() or len(text) > MAX_READ_CHARS:
        return
    whole = decode_nested(FENCE.sub("", text).strip())
    if isinstance(whole, list):
        yield whole
        return
    for span in find_objects(text):
        yield from _unwrapped(span.value)


def _unwrapped(value: Any) -> Iterator[Any]:
    """The value, or what is inside of a call that is written as JSON."""
    if isinstance(value, JsonObject):
        inner = [item for name, item in value.pairs if name.strip().casefold() in WRAPPERS]
        if inner:
            for item in inner:
                yield from _unwrapped(decode_nested(item) if isinstance(item, str) else item)
            return
    yield value


def fit(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """The value as the schema has it. Raises Unfit.

    A text stands for a list of one text, a number for a text, and yes, no, true and false for a flag. A list stands for an
    object whose only field is a list.
    """
    if depth > MAX_DEPTH:
        raise Unfit("too many levels")
    reference = schema.get("$ref")
    if isinstance(reference, str):
        schema = _resolved(reference, root)
    kind = schema.get("type")
    if kind == "object":
        return _fit_object(value, schema, root, depth)
    if kind == "array":
        items = schema.get("items", {})
        if isinstance(value, str) and items.get("type") == "string":
            value = [value] if value else []
        if not isinstance(value, list):
            raise Unfit(f"{name!r} is no list")
        return [fit(item, items, root, name, depth + 1) for item in value]
    if kind == "integer":
        return _whole_number(value, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        raise Unfit(f"{name!r} is no text")
    return value


def _fit_object(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    fields: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    if isinstance(value, list) and len(fields) == 1 and next(iter(fields.values())).get("type") == "array":
        value = JsonObject(((next(iter(fields)), value),))
    if not isinstance(value, JsonObject):
        raise Unfit("no object")
    found: dict[str, Any] = {}
    for written, item in value.pairs:
        key = written.strip()
        if key in fields:
            one = fit(item, fields[key], root, key, depth + 1)
            if key in found and found[key] != one:
                raise Unfit(f"{key!r} comes twice")
            found[key] = one
    required: Sequence[str] = schema.get("required") or tuple(fields)
    if missing := [key for key in required if key not in found]:
        raise Unfit(f"{missing[0]!r} is missing")
    return found


def _whole_number(value: Any, name: str) -> int:
    if isinstance(value, str):
        value = FLAG_WORDS.get(value.strip().casefold(), value) if name in FLAGS else value
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
        if name not in FLAGS or number in (0, 1):
            return number
    raise Unfit(f"{name!r} is not {'0 or 1' if name in FLAGS else 'a whole number'}")


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    part: Any = root
    for step in reference.removeprefix("#/").split("/"):
        part = part.get(step) if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping):
        raise Unfit(f"{reference} is not in the schema")
    return part


def placeholder(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value that fits a schema, with one item in each list."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return placeholder(_resolved(reference, root), root)
    kind = schema.get("type")
    if kind == "object":
        return {name: placeholder(item, root) for name, item in schema.get("properties", {}).items()}
    if kind == "array":
        return [placeholder(schema.get("items", {}), root)]
    return 1 if kind == "integer" else schema.get("enum", ["1"])[0]
