"""Where a suite can name columns: mappings, conditions, groups, templates and options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from evalrunner.prompts import MESSAGES
from evalrunner.suite.columns import ColumnSpec, is_template
from evalrunner.suite.conditions import condition_columns
from evalrunner.suite.schema import Suite

TEMPLATE_CODE: Final = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)


def column_names(spec: ColumnSpec | None) -> tuple[str, ...]:
    """The columns that accepted answers, or another field, are read from."""
    return ("expected",) if spec is None else tuple(name for name in spec.columns if not is_template(name))


def _codes(text: str) -> list[str]:
    """The code of the templates in a text; what follows the last end of one is not searched, however often one begins."""
    codes: list[str] = TEMPLATE_CODE.findall(text, 0, max(text.rfind("%}"), text.rfind("}}")) + 2)
    return codes


def texts_that_name_columns(suite: Suite) -> Iterator[str]:
    """The parts of a suite in which a column can be named: mappings, conditions, groups, templates and options."""
    dataset = suite.dataset
    for _, spec in dataset.columns.named():
        yield from (part for name in spec.columns for part in (_codes(name) if is_template(name) else [name]))
    yield from (
        *condition_columns(dataset.where),
        *suite.slices,
        *([dataset.cluster] if dataset.cluster is not None else []),
    )
    for prompt in (suite.prompt, *(target.prompt for target in suite.targets)):
        for part in prompt.parts if prompt is not None else ():
            yield from [part.template] if part.role == MESSAGES else TEMPLATE_CODE.findall(part.template)
    if suite.user is not None:
        stop = suite.user.stop_when
        for text in (suite.user.goal, suite.user.persona, None if stop is None else stop.condition):
            yield from _codes(text or "")
    options = [
        *((spec.options, spec.args) for spec in suite.targets),
        *((spec.options, spec.args) for spec in suite.scorers),
    ]
    for given in options:
        for text in texts_in(given):
            yield from _codes(text) or ([text] if re.fullmatch(r"\S+", text) else [])


def texts_in(data: Any) -> Iterator[str]:
    """Every text in plain data, keys left out."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for item in data.values():
            yield from texts_in(item)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from texts_in(item)
