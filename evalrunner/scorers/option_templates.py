"""Options of scorers whose text is a template over the row's columns.

Only the options are templates; the data that fills them in is never read as one. What a template makes is converted to the
type that the factory declares, so factories get plain values.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

from evalrunner.domain import Sample
from evalrunner.errors import SuiteError
from evalrunner.limits import Limits
from evalrunner.prompts import template_context
from evalrunner.spelling import Spelled, SpelledBool, SpelledFloat, SpelledInt
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.validate import LISTS, MAPPINGS
from evalrunner.suite.yaml import dotted, parse_document
from evalrunner.templates import PromptError, compile_template, single_name, value_text

MARKS: Final = (("{{", "}}"), ("{%", "%}"))
MAX_TEMPLATES: Final = 4_096  # compiled templates that are kept
MAX_KEPT: Final = 8_192  # characters of such a template
CONSTANT_TYPES: Final = frozenset({"mlflow", "python"})
"""Scorers whose options are never templates: metrics of MLflow have their own, and functions read the row themselves."""

Fill: TypeAlias = Callable[[dict[str, Any]], Any]


class RenderedText(str):
    """What a template made, to be converted to the type of its option."""

    __slots__ = ()


@functools.lru_cache(maxsize=MAX_TEMPLATES)
def compiled(text: str, limits: Limits) -> Fill:
    """A function from the names of a row to the value of a template. Raises PromptError.

    One name alone stands for its value, so that a list stays a list.
    """
    render = compile_template("the option", text, limits=limits)
    name = single_name(text)
    if name is not None:
        return lambda names: _bounded(names[name], limits) if name in names else render(names)
    return lambda names: RenderedText(_bounded(render(names), limits))


def _bounded(value: Any, limits: Limits) -> Any:
    if isinstance(value, str) and len(value) > limits.text:
        raise PromptError(f"it makes a text of more than {limits.text:,} characters")
    return value


@dataclass(frozen=True, slots=True)
class OptionTemplates:
    """The options of one scorer. `fill` is None if they are the same for every row."""

    options: Mapping[str, Any]
    fill: Fill | None

    def of(self, names: dict[str, Any]) -> Mapping[str, Any]:
        """The options for a row, by the names that its templates can use. Raises PromptError."""
        return self.options if self.fill is None else self.fill(names)


def names_of(sample: Sample) -> dict[str, Any]:
    """The names that templates in options can use: those of prompts."""
    return template_context(sample)


def compile_options(options: Mapping[str, Any], limits: Limits, *, constant: Collection[str] = ()) -> OptionTemplates:
    """The options, compiled; those in `constant` are passed as they are. Raises PromptError that names the option."""
    fill = _compile({name: item for name, item in options.items() if name not in constant}, (), limits)
    if fill is None:
        return OptionTemplates(options, None)
    fixed = {name: item for name, item in options.items() if name in constant}
    return OptionTemplates(options, (lambda names: {**fill(names), **fixed}) if fixed else fill)


def is_template(text: str) -> bool:
    """Whether a text has `{{ … }}` or `{% … %}`; other braces are text."""
    return any((start := text.find(opening)) >= 0 and text.find(closing, start + 2) >= 0 for opening, closing in MARKS)


def _compile(value: Any, path: KeyPath, limits: Limits) -> Fill | None:
    """A function that fills a value in; None if it holds no template."""
    if isinstance(value, str):
        if not is_template(value):
            return None
        try:
            fill = compiled(value, limits) if len(value) <= MAX_KEPT else compiled.__wrapped__(value, limits)
            return _named(fill, path)
        except PromptError as wrong:
            raise PromptError(f"{dotted(path)}: {wrong}") from None
    if isinstance(value, Mapping):
        parts = {name: _compile(item, (*path, name), limits) for name, item in value.items()}
        if not any(parts.values()):
            return None
        return lambda names: {name: value[name] if part is None else part(names) for name, part in parts.items()}
    if isinstance(value, list | tuple):
        items = [_compile(item, (*path, place), limits) for place, item in enumerate(value)]
        if not any(items):
            return None
        return lambda names: [item if part is None else part(names) for item, part in zip(value, items, strict=True)]
    return None


def _named(fill: Fill, path: KeyPath) -> Fill:
    """The function, whose problems name the option."""

    def named(names: dict[str, Any]) -> Any:
        try:
            return fill(names)
        except PromptError as wrong:
            raise PromptError(f"{dotted(path)}: {wrong}") from None

    return named


def accepts_text(annotation: Any) -> bool:
    """Whether any text is a value of an annotation."""
    union = get_origin(annotation) in (typing.Union, types.UnionType)
    return annotation is str or (union and str in get_args(annotation))


def fit(value: Any, annotation: Any, *, texts: bool = True) -> Any:
    """The value as an option of that type: numbers as text and text as numbers or lists, where only these are accepted.

    With `texts` a plain number is text for an option that takes only text, as `contains: 30`. What fits no type is
    unchanged, and is reported by the check of the option.
    """
    if isinstance(value, str) and type(value) is not RenderedText:
        return value
    kinds = _kinds(annotation)
    if type(value) is RenderedText:
        plain = str(value)
        return plain if "text" in kinds or "any" in kinds else fit(_parsed(plain), annotation, texts=False)
    if isinstance(value, bool | int | float):
        wants = {"true or false"} if isinstance(value, bool | SpelledBool) else {"number", "whole number"}
        if texts and "text" in kinds and not wants & kinds and "any" not in kinds:
            return (
                str(value)
                if isinstance(value, Spelled)
                else value_text(value)
                if isinstance(value, bool)
                else str(value)
            )
        return _plain(value)
    if isinstance(value, Mapping):
        inner = _inner(annotation, MAPPINGS)
        return {name: fit(item, inner, texts=texts) for name, item in value.items()}
    if isinstance(value, list | tuple):
        inner = _inner(annotation, LISTS)
        return [fit(item, inner, texts=texts) for item in value]
    return value


def _plain(value: Any) -> Any:
    """A number or boolean without its spelling."""
    if isinstance(value, SpelledBool):
        return bool(value)
    if isinstance(value, SpelledInt):
        return int(value)
    return float(value) if isinstance(value, SpelledFloat) else value


def _parsed(text: str) -> Any:
    """The number, boolean or list that a text is in YAML; the text itself if it is none."""
    try:
        data = parse_document(text, file="option").data
    except SuiteError:
        return text
    return text if data is None else data


@functools.lru_cache(maxsize=1024)
def _kinds(annotation: Any) -> frozenset[str]:
    """The kinds of plain values that an annotation accepts."""
    if annotation is Any or annotation is inspect.Parameter.empty:
        return frozenset({"any"})
    origin = get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return frozenset().union(*(_kinds(choice) for choice in get_args(annotation)))
    if origin is Literal:
        return frozenset().union(*(_kinds(_type_of(choice)) for choice in get_args(annotation)))
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return frozenset({names[annotation]}) if annotation in names else frozenset({"other"})


def _type_of(value: Any) -> Any:
    return type(value)


def _inner(annotation: Any, origins: tuple[Any, ...]) -> Any:
    """The type of the items of the list or mapping that an annotation accepts."""
    for choice in get_args(annotation) if get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,):
        if get_origin(choice) in origins and get_args(choice):
            inside = get_args(choice)
            return inside[1] if origins is MAPPINGS and len(inside) == 2 else inside[0]
    return Any
