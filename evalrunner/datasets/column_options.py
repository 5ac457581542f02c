"""Which options the fields of `columns:` can have."""

from __future__ import annotations

from collections.abc import Iterator

from evalrunner.suite.columns import ColumnsSpec, is_template

ROLES = {
    "value": ("input", "expected", "choices"),
    "default": ("input", "expected"),
    "split": ("expected", "choices"),
    "json": ("input", "expected"),
    "role": ("messages",),
    "content": ("messages",),
    "answer": ("messages",),
    "shuffle": ("choices",),
    "right": ("choices",),
    "first_index": ("choices",),
}
"""The fields that have each option."""
REASONS = {
    ("id", "value"): "gives all samples the same id; name a column or a template",
    ("id", "split"): "splits 'id'; only 'expected' and 'choices' can have several values",
    ("input", "split"): "splits 'input'; only 'expected' and 'choices' can have several values",
    ("messages", "split"): "splits 'messages'; only 'expected' and 'choices' can have several values",
}


def column_problems(columns: ColumnsSpec) -> Iterator[tuple[str, str]]:
    """Key below `columns` and message for each option that a field cannot have, or not with another one."""
    for role, spec in columns.named():
        for option, roles in ROLES.items():
            given = getattr(spec, option)
            is_set = bool(given) if option in ("answer", "first_index") else given is not None
            if is_set and role not in roles:
                allowed = ", ".join(map(repr, roles[:-1])) + (" and " if len(roles) > 1 else "") + repr(roles[-1])
                yield f"{role}.{option}", REASONS.get((role, option), f"is only for {allowed}")
        if spec.split == "":
            yield f"{role}.split", "is empty; set the separator of the values, such as '|'"
        if spec.json is not None and any(map(is_template, spec.columns)):
            yield f"{role}.json", "is not for templates; write the filter fromjson in it"
        if spec.value is not None and spec.default is not None:
            yield f"{role}.default", "is not needed beside 'value', which is the same in every row"
    expected, messages = columns.expected, columns.messages
    if messages is not None and messages.answer and expected is not None:
        yield "expected", "cannot be combined with 'answer' of messages; keep one of them"
    if expected is not None and expected.split is not None and expected.json:
        yield "expected.json", "cannot be combined with 'split'; keep one of them"
