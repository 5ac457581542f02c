"""Where the fields of samples come from: the `columns` of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evalrunner.suite.key import key


def is_template(text: str) -> bool:
    """Whether a text in place of a column is a template over the row."""
    return "{{" in text or "{%" in text


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Where a value comes from: a source column or dotted path, several, a template over the row, or a constant `value`.

    `split` divides one text. `json` is None where the data decides: cells of a text format that are all JSON lists are read as lists.
    """

    column: str | tuple[str, ...] = key(
        "Source column, dotted path into JSON, or template such as {{ choices[answer] }}; or a list of them", default=""
    )
    value: str | int | float | bool | tuple[str | int | float | bool, ...] | None = key(
        "The same value for every row, in place of a column"
    )
    default: str | int | float | bool | None = key("Of input and expected: value of a cell that is empty or missing")
    split: str | None = key("Separator of several values in one text")
    json: bool | None = key("Whether texts of the column are JSON; default: only lists, if every cell is one")
    role: str | None = key("Of messages: key of who speaks, such as from (default: role, or from beside value)")
    content: str | None = key("Of messages: key of the text, such as value (default: content, or value beside from)")
    answer: bool = key(
        "Of messages: whether a last message of the assistant is the accepted answer and not sent", default=False
    )
    shuffle: int | None = key("Of choices: seed of their order, random for every sample; default: as in the data")
    right: Literal["text", "letter", "index"] | None = key(
        "Of choices: what the right one is given as; default: any of them"
    )
    first_index: Literal[0, 1] = key("Of choices: index of the first one", default=0)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, paths and templates; an empty name for none."""
        return (self.column,) if isinstance(self.column, str) else self.column


@dataclass(frozen=True, slots=True)
class ColumnsSpec:
    id: ColumnSpec | None = key("Source of the stable sample id")
    input: ColumnSpec | None = key("Source of the input (default: the column `input`)")
    expected: ColumnSpec | None = key("Source of the accepted answers (default: the column `expected`)")
    messages: ColumnSpec | None = key("Source of a conversation: a list of {role, content}")
    checks: ColumnSpec | None = key("Source of the checks of a row (default: the column `checks`)")
    choices: ColumnSpec | None = key("Source of multiple choices, which get letters: a list, or a list of columns")

    def optional(self) -> dict[str, str]:
        """The columns that some rows may lack, though not all, with their places in a dataset."""
        specs = {"input": self.input, "expected": self.expected, "choices": self.choices}
        return {
            name: f"columns.{role}"
            for role, spec in specs.items()
            if spec is not None and (spec.default is not None or (role == "choices" and isinstance(spec.column, tuple)))
            for name in spec.columns
            if name and not is_template(name)
        }

    def named(self) -> Iterator[tuple[str, ColumnSpec]]:
        """The columns that are mapped, by what they are for."""
        for name in ("id", "input", "expected", "messages", "checks", "choices"):
            if (spec := getattr(self, name)) is not None:
                yield name, spec
