"""Where the value of a field comes from: a column, a dotted path, a template over the row, or a constant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evalrunner.datasets.records import Record
from evalrunner.prompts import ABSENT, find_value
from evalrunner.suite.columns import ColumnSpec, is_template
from evalrunner.templates import PromptError
from evalrunner.value_templates import compile_value

if TYPE_CHECKING:
    from evalrunner.templates import ValueRenderer

Getter: TypeAlias = Callable[[Record], Any]
MAX_TEMPLATES: Final = 256


class RecordError(ValueError):
    """What is wrong with one record. The message continues its location."""


class MissingColumnError(RecordError):
    """A record lacks a column. `role` is the field it is for; `hint` says what to do."""

    def __init__(self, role: str, column: str, hint: str) -> None:
        super().__init__(f"no column {column!r}{hint}")
        self.role, self.column, self.hint = role, column, hint


class TemplateFailedError(RecordError):
    """The template of a field cannot be rendered for a record."""

    def __init__(self, role: str, problem: str) -> None:
        super().__init__(f"columns.{role}: {problem}")
        self.role, self.problem = role, problem


def names_of(spec: ColumnSpec | None, default: str) -> tuple[str, ...]:
    """The columns, paths and templates of a field; none of a constant."""
    if spec is None:
        return (default,)
    if spec.value is not None:
        return ()
    return (spec.column,) if isinstance(spec.column, str) else spec.column


def sources_of(spec: ColumnSpec | None, role: str) -> list[tuple[str, Getter]]:
    """Name and getter of everything that a field is read from. An empty name means that there is none."""
    if spec is not None and spec.value is not None:
        constant = spec.value
        return [("", lambda record: constant)]
    return [(name, _source(name, role)) for name in names_of(spec, role)]


def source_of(spec: ColumnSpec | None, role: str) -> Getter:
    """The getter of a field that has one source, with its default for empty and missing cells."""
    get = sources_of(spec, role)[0][1]
    if spec is None or spec.default is None:
        return get
    default = spec.default

    def with_default(record: Record) -> Any:
        value = get(record)
        return default if value is ABSENT or is_empty(value) else value

    return with_default


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def _source(name: str, role: str) -> Getter:
    if not name:
        return lambda record: ABSENT
    return _template_getter(name, role) if is_template(name) else getter(name)


def _template_getter(template: str, role: str) -> Getter:
    render = compiled(template)

    def get(record: Record) -> Any:
        context = dict(record) if "metadata" in record else {**record, "metadata": record}
        try:
            return render(context)
        except PromptError as broken:
            raise TemplateFailedError(role, str(broken)) from None

    return get


@functools.lru_cache(maxsize=MAX_TEMPLATES)
def compiled(template: str) -> ValueRenderer:
    """The template of a field, compiled once for all files: one expression has its value, else it is text."""
    return compile_value("the template", template)


def getter(column: str) -> Getter:
    """A function from a record to the value of a column or dotted path, `ABSENT` if it has none.

    `[]` after a list takes a value of each of its items: `answers[].text`.
    """
    if "[]" in column:
        return lambda record: record[column] if column in record else _collect(record, column)
    if "." in column:
        return lambda record: find_value(record, column)
    return lambda record: record.get(column, ABSENT)


def _collect(data: Any, path: str) -> Any:
    """The values at a path below every item of the lists that have `[]`, as one list."""
    before, _, rest = path.partition("[]")
    items = find_value(data, before) if before else data
    if not isinstance(items, list | tuple):
        return ABSENT if items is not None else None
    rest = rest.removeprefix(".")
    values = list[Any]()
    for item in items:
        value = item if not rest else _collect(item, rest) if "[]" in rest else find_value(item, rest)
        if value is not ABSENT:
            values.extend(value if isinstance(value, list | tuple) else [value])
    return values
