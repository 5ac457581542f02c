"""exact_match of lm-evaluation-harness, after its filters. Yours to change: evalrun copied this file into the project.

The filters are applied in their order to the output, as lm-eval does: a regex that finds nothing gives its fallback.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import BaseLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalrunner import Sample

FALLBACK = "[invalid]"
TEMPLATES = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)


def exact_match(
    output: str,
    sample: Sample,
    *,
    target: str,
    filters: Sequence[Mapping[str, Any]] = (),
    ignore: Sequence[str] = (),
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_numbers: bool = False,
) -> bool:
    """Whether the filtered output equals a target. `target` is a template or a column, `ignore` are regexes to remove."""
    answer: Any = output
    for step in filters:
        answer = filtered(answer, step)

    def normalized(text: Any) -> str:
        text = text if isinstance(text, str) else str(text)
        for pattern in ignore:
            text = re.sub(pattern, "", text)
        if ignore_case:
            text = text.lower()
        removed = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")
        return str(text.translate(str.maketrans("", "", removed)))

    return normalized(answer) in [normalized(text) for text in targets(target, sample.metadata)]


def filtered(answer: Any, step: Mapping[str, Any]) -> Any:
    """The answer after one filter."""
    name = step["function"]
    if name == "regex":
        found = re.findall(
            step.get("regex_pattern", r"#### (\-?[0-9\.\,]+)"), answer if isinstance(answer, str) else ""
        )
        fallback = step.get("fallback", FALLBACK)
        if not found:
            return fallback
        match = found[step.get("group_select", 0)]
        if isinstance(match, tuple):
            match = next((group for group in match if group), fallback)
        return match.strip()
    if name == "remove_whitespace":
        return answer.strip()
    if name == "lowercase":
        return answer.lower()
    if name == "uppercase":
        return answer.upper()
    if name == "map":
        return step.get("mapping_dict", {}).get(answer, step.get("default_value"))
    return answer  # take_first and take_first_k: there is one answer


def targets(target: str, row: Mapping[str, Any]) -> list[Any]:
    """The accepted answers: of a column, or of a template, whose text may be a list in Python's notation."""
    if target in row:
        value = row[target]
        return list(value) if isinstance(value, list | tuple) else [value]
    text = TEMPLATES.from_string(target).render(**row)
    if text.startswith("[") and text.endswith("]"):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return [text]
        return list(value) if isinstance(value, list) else [text]
    return [text]
