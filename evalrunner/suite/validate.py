"""Checks values against type annotations, and makes the JSON Schema of the same annotations.

Used for the keys of a suite (dataclass fields) and for the options of every factory (its signature), so that an
editor completes exactly what the check accepts. Known annotations: str, int, float, bool, Any, None, unions,
Literal, list, tuple, Sequence, Mapping and dict of these. `SectionReader` reads whole sections by their keys.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from evalrunner.domain import EMPTY
from evalrunner.errors import nearest
from evalrunner.json_path import MISSING
from evalrunner.redact import may_be_secret
from evalrunner.suite.environment import VARIABLE, SuiteEnvironment, UnsetVariable, interpolate
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.yaml import Document

Report = Callable[[KeyPath, str], None]
NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
SCHEMA = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
ADDRESS_KEYS = (("base_url",), ("url",), ("uri",))  # the last step of paths with an address
LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
MAPPINGS = (dict, Mapping, collections.abc.Mapping, collections.abc.MutableMapping)

FORMS: dict[Any, Callable[[SectionReader, Any, KeyPath], Any]] = {}
"""Annotations of keys that have a reader of their own, because a file writes them in more than one form."""

Reader = TypeVar("Reader", bound="Callable[[SectionReader, Any, KeyPath], Any]")


def check_value(value: Any, annotation: Any, path: KeyPath, report: Report) -> Any:
    """`value` converted to its annotation (an int becomes a float where one is declared); problems go to `report`."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation is Any or annotation is inspect.Parameter.empty:
        return value
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        return check_value(value, annotation.__value__, path, report)
    if origin in (typing.Union, types.UnionType):
        return _check_union(value, inside, path, report)
    if origin is Literal:
        return _check_literal(value, inside, path, report)
    if origin in LISTS or annotation in LISTS:
        return _check_list(value, annotation, path, report)
    if origin in MAPPINGS or annotation in MAPPINGS:
        if not isinstance(value, Mapping):
            report(path, f"is {describe_value(value)}; it should be a mapping")
            return value
        inner = inside[1] if len(inside) == 2 else Any
        return {name: check_value(item, inner, (*path, name), report) for name, item in value.items()}
    return _check_plain(value, annotation, path, report)


def _check_plain(value: Any, annotation: Any, path: KeyPath, report: Report) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:
            return float(value)
        report(path, "is a number with too many digits; it should be at most 1.8e308")
        return value
    if annotation is None:
        annotation = type(None)
    fits = (
        type(value) is annotation
        if annotation in NAMES
        else isinstance(annotation, type) and isinstance(value, annotation)
    )
    if not fits:
        hint = "; put it in quotes" if annotation is str and isinstance(value, int | float) else ""
        report(path, f"is {describe_value(value)}; it should be {describe_type(annotation)}{hint}")
    elif isinstance(value, float) and not math.isfinite(value):
        report(path, f"is {value}; it should be a finite number")
    return value


def _check_union(value: Any, choices: tuple[Any, ...], path: KeyPath, report: Report) -> Any:
    closest: list[tuple[KeyPath, str]] | None = None
    for choice in choices:
        problems: list[tuple[KeyPath, str]] = []
        checked = check_value(value, choice, path, lambda at, what, problems=problems: problems.append((at, what)))  # type: ignore[misc]
        if not problems:
            return checked
        if any(at != path for at, _ in problems) or get_origin(choice) is Literal:
            closest = problems  # a problem inside the right type says more than "is no X"
    if closest is not None:
        for at, what in closest:
            report(at, what)
    else:
        names = [describe_type(choice) for choice in choices if choice not in (None, type(None))]
        report(path, f"is {describe_value(value)}; it should be {' or '.join(names)}")
    return value


def _check_literal(value: Any, choices: tuple[Any, ...], path: KeyPath, report: Report) -> Any:
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        names = [str(choice) for choice in choices]
        hint = nearest(value, names) if isinstance(value, str) else ""
        report(path, f"is {describe_value(value)}; it should be one of {', '.join(names)}{hint}")
    return value


def _check_list(value: Any, annotation: Any, path: KeyPath, report: Report) -> Any:
    if not isinstance(value, list | tuple):
        report(path, f"is {describe_value(value)}; it should be a list")
        return value
    inside = get_args(annotation)
    inner = inside[0] if inside else Any
    items = [check_value(item, inner, (*path, place), report) for place, item in enumerate(value)]
    return tuple(items) if (get_origin(annotation) or annotation) is tuple else items


def describe_value(value: Any) -> str:
    """`value` as written in the suite, shortened, for a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "empty"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + ("…'" if isinstance(value, str) else "…")


def describe_type(annotation: Any) -> str:
    """The values that an annotation accepts, in words."""
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if origin in LISTS or annotation in LISTS:
        return "a list"
    if origin in MAPPINGS or annotation in MAPPINGS:
        return "a mapping"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(choice) for choice in get_args(annotation) if choice is not type(None))
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an annotation."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(choice) for choice in inside]}
    if origin is Literal:
        return {"enum": list(inside)}
    if origin in LISTS or annotation in LISTS:
        return {"type": "array", "items": schema_of(inside[0]) if inside else {}}
    if origin in MAPPINGS or annotation in MAPPINGS:
        return {"type": "object", "additionalProperties": schema_of(inside[1]) if len(inside) == 2 else True}
    if annotation is None:
        annotation = type(None)
    return {"type": SCHEMA[annotation]} if annotation in SCHEMA else {}


def check_options(
    given: Mapping[str, Any], options: Mapping[str, inspect.Parameter], path: KeyPath, report: Report
) -> dict[str, Any]:
    """The options of a factory, checked against its signature: unknown, missing and wrong ones are reported."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in options:
            known = f"; it takes {', '.join(options)}" if options else "; it takes no options"
            report((*path, name), f"unknown option{nearest(name, options) or known}")
        else:
            checked[name] = check_value(value, options[name].annotation, (*path, name), report)
    for name, option in options.items():
        if option.default is inspect.Parameter.empty and name not in given:
            report(path, f"needs {name!r} ({describe_type(option.annotation)})")
    return checked


def schema_of_options(options: Mapping[str, inspect.Parameter], docs: Mapping[str, str]) -> dict[str, Any]:
    """The `properties` of a factory's options, with the description in its docstring."""
    properties: dict[str, Any] = {}
    for name, option in options.items():
        properties[name] = schema_of(option.annotation)
        if name in docs:
            properties[name]["description"] = docs[name]
        if option.default not in (inspect.Parameter.empty, None, MISSING):
            properties[name]["default"] = option.default
    return properties


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section: its name in the file, the field that holds it, and what that field declares.

    `field` is empty for a key that another section reads. `kind` is the annotation without None. `part` is the field
    and the dataclass that hold the value of a key written in their place.
    """

    name: str
    field: str
    annotation: Any
    kind: Any
    rules: Mapping[str, Any]
    default: Any
    part: tuple[str, Any] | None = None

    @property
    def doc(self) -> str:
        """What the key means, for editors."""
        doc: str = self.rules["doc"]
        return doc


@functools.cache
def keys_of(kind: Any, form: str | None = None) -> Mapping[str, Key]:
    """The keys that a mapping for the dataclass `kind` may have, in order; with `form`, those of that form."""
    hints = typing.get_type_hints(kind)
    keys: dict[str, Key] = {}
    for item in dataclasses.fields(kind):
        rules = item.metadata
        if "doc" not in rules or (form is not None and form not in rules.get("forms", (form,))):
            continue
        nested = without_none(hints[item.name])
        if rules.get("flat"):
            inner_keys = keys_of(nested, form).values()
            keys.update((each.name, dataclasses.replace(each, part=(item.name, nested))) for each in inner_keys)
            continue
        name = rules.get("alias", item.name)
        keys[name] = Key(name, item.name, hints[item.name], nested, rules, item.default)
        if "single" in rules:
            one = typing.get_args(nested)[0]
            keys[rules["single"]] = Key(rules["single"], item.name, one, one, rules, item.default)
        if dataclasses.is_dataclass(nested):
            inner = top_keys(nested).values()
            keys.update((each.name, dataclasses.replace(each, field="")) for each in inner)
    return keys


def top_keys(kind: Any) -> dict[str, Key]:
    """The keys of a section that may also be written at the top of the suite."""
    return {name: inner for name, inner in keys_of(kind).items() if inner.rules.get("top")}


def is_section(annotation: Any) -> bool:
    """Whether a key holds a mapping whose keys are the fields of a dataclass."""
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def without_none(annotation: Any) -> Any:
    """`X` for `X | None`; any other annotation as it is."""
    choices = [choice for choice in typing.get_args(annotation) if choice is not type(None)]
    optional = len(choices) == 1 and type(None) in typing.get_args(annotation)
    return choices[0] if optional else annotation


def reads(annotation: Any) -> Callable[[Reader], Reader]:
    """A decorator: the function reads the keys of this annotation, from data and path to its typed form or None."""

    def register(function: Reader) -> Reader:
        FORMS[annotation] = function
        return function

    return register


@dataclass(frozen=True, slots=True)
class SectionReader:
    """A document being read; problems are reported to it. `environ` fills `${VAR}`; by default the document's does.

    `files` are the prompt files that led to this document.
    """

    document: Document
    folder: Path
    environ: Mapping[str, str] = EMPTY
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.environ is EMPTY:
            object.__setattr__(self, "environ", self.document.environ)

    def report(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        self.document.problem(path, message, at_key=at_key)

    def mapping(self, data: Any, path: KeyPath) -> Mapping[str, Any] | None:
        """`data` if it is a mapping, else None and a problem."""
        if isinstance(data, Mapping):
            return data
        self.report(path, f"is {describe_value(data)}; it should be a mapping")
        return None

    def check_keys(self, data: Mapping[str, Any], path: KeyPath, known: Collection[str]) -> None:
        """Report every unknown key, with the nearest known one."""
        for name in data:
            if name not in known:
                hint = nearest(name, known) or f"; valid keys: {', '.join(known)}"
                self.report((*path, name), f"unknown key{hint}", at_key=True)

    def value(self, data: Any, annotation: Any, path: KeyPath) -> Any:
        """`data` checked against an annotation; None where it did not fit."""
        before = len(self.document.problems)
        checked = check_value(data, annotation, path, self.report)
        return checked if len(self.document.problems) == before else None

    def text(self, data: Any, path: KeyPath, *, fill: bool = False) -> str | None:
        """`data` as text, with its variables filled in where `fill` allows it; None and a problem otherwise."""
        checked: str | None = self.value(data, str, path)
        if checked is None or not fill:
            return checked
        restrictions = None if self.document.is_owners(path) else self.document.restrictions
        if restrictions is not None and (names := restrictions.refused_variables(checked)):
            for name in names:
                message = f"reads the variable {name}, which --untrusted refuses; allow it with --allow-env {name}"
                self.report(path, message)
            secret = any(may_be_secret(str(step)) or step == "headers" for step in path)
            return None if secret else VARIABLE.sub(lambda match: (match[1] or "$").partition(":-")[0], checked)
        try:
            filled = interpolate(checked, self.environ)
        except UnsetVariable as unset:
            self.report(path, str(unset))
            return None
        if isinstance(self.environ, SuiteEnvironment) and not any(may_be_secret(str(step)) for step in path):
            self.environ.disclose(checked, address=path[-1:] in ADDRESS_KEYS)
        return filled

    def section(self, kind: Any, data: Any, path: KeyPath, *, nulls: bool = False) -> dict[str, Any] | None:
        """The fields of the dataclass `kind` that a mapping sets; None and a problem where `data` is no mapping.

        Reports unknown keys and required keys that are missing. With `nulls`, null means the same as no key.
        """
        mapping = self.mapping(data, path)
        if mapping is None:
            return None
        keys = keys_of(kind)
        self.check_keys(mapping, path, keys)
        self.check_needed(keys, mapping, path)
        return self.fields(keys, without_nulls(keys, mapping) if nulls else mapping, path)

    def check_needed(self, keys: Mapping[str, Key], data: Mapping[str, Any], path: KeyPath) -> None:
        """Report the required keys that `data` lacks, except one that `check_keys` names as what was meant."""
        corrections = "".join(nearest(name, keys) for name in data if name not in keys)
        for name, key in keys.items():
            names = {name, key.rules.get("single", name)}
            if "needed" in key.rules and names.isdisjoint(data) and name != key.rules.get("single"):
                if any(repr(spelling) in corrections for spelling in names):
                    continue
                example = key.rules["needed"]
                shortest = min(names, key=len)
                self.report(path, f"needs {shortest!r}{' ' if example[:1] == '(' else ''}{example}")

    def fields(self, keys: Mapping[str, Key], data: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        """Field to value of the keys that `data` has, each checked by its annotation and rules."""
        fields: dict[str, Any] = {}
        parts: dict[tuple[str, Any], dict[str, Any]] = {}
        for name, key in keys.items():
            if name not in data or not key.field:
                continue
            place = (*path, name)
            checked = self.read(key, data[name], place)
            if checked is not None and self._follows_rules(checked, key.rules, place):
                values = fields if key.part is None else parts.setdefault(key.part, {})
                values[key.field] = (checked,) if name == key.rules.get("single") else checked
        return {**fields, **{name: kind(**values) for (name, kind), values in parts.items()}}

    def read(self, key: Key, data: Any, path: KeyPath) -> Any:
        """The value of one key; None and its problems where it is wrong."""
        kind = key.kind
        if kind in FORMS:
            return FORMS[kind](self, data, path)
        if key.rules.get("path"):
            return self.text(data, path, fill=True)
        if is_section(kind):
            fields = self.section(kind, data, path)
            return None if fields is None else kind(**fields)
        return self.value(data, key.annotation, path)

    def _follows_rules(self, value: Any, rules: Mapping[str, Any], path: KeyPath) -> bool:
        before = len(self.document.problems)
        if isinstance(value, int | float) and (wanted := out_of_range(value, rules)):
            percent = "; write a percentage as a share, such as 0.95" if 1 < value <= 100 and is_share(rules) else ""
            shown = f"{value:g}" if isinstance(value, float) else describe_value(value)
            self.report(path, f"is {shown}; it should be {wanted}{percent}")
        if "pattern" in rules and isinstance(value, str) and not re.fullmatch(rules["pattern"], value):
            self.report(path, f"{describe_value(value)} should be {rules['pattern_hint']}")
        if rules.get("unique") and isinstance(value, tuple):
            for place, item in enumerate(value):
                if item in value[:place]:
                    self.report((*path, place), f"duplicate {item!r}; remove one")
        return len(self.document.problems) == before


def without_nulls(keys: Mapping[str, Key], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` without the keys that are null, except required ones."""
    return {
        name: item for name, item in data.items() if item is not None or (name in keys and "needed" in keys[name].rules)
    }


def out_of_range(value: float, rules: Mapping[str, Any]) -> str:
    """The range that `rules` ask for if `value` is outside of it, else nothing."""
    low, above, high, below = (rules.get(name) for name in ("minimum", "above", "maximum", "below"))
    fits = (
        (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and (below is None or value < below)
    )
    if fits:
        return ""
    lower = f"at least {low}" if low is not None else f"above {above}" if above is not None else ""
    upper = f"at most {high}" if high is not None else f"below {below}" if below is not None else ""
    return " and ".join(filter(None, (lower, upper)))


def is_share(rules: Mapping[str, Any]) -> bool:
    """Whether the rules allow values up to 1 only."""
    return bool(rules.get("maximum", rules.get("below")) == 1)
