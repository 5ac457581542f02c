"""How samples belong together: clusters of related ones, slices by a column, epochs of one."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import Any, Final

from evalrunner.domain import Sample
from evalrunner.prompts import ABSENT, find_value
from evalrunner.stats.reducers import MEAN, Reducer

UNKNOWN: Final = -1  # the group of a sample that was not seen yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a suite says of how its samples are put together. `cluster` and `slices` are columns."""

    reducers: tuple[Reducer, ...] = (MEAN,)
    cluster: str | None = None
    slices: tuple[str, ...] = ()
    seed: int = 0

    @property
    def plain(self) -> Reducer:
        """The reducer behind the plain names: the mean where it is listed, else the first."""
        return MEAN if MEAN in self.reducers else self.reducers[0]

    @property
    def further(self) -> tuple[Reducer, ...]:
        """The reducers that stand beside it under their own names."""
        return tuple(reducer for reducer in self.reducers if reducer != self.plain)


@dataclass(slots=True)
class Groups:
    """Which value of a column each sample has: a code by its place in the dataset, and the text of every code.

    With `apart` a sample without a value is a group of its own, else all those are one, whose text is empty.
    """

    column: str
    apart: bool = False
    codes: array[int] = field(default_factory=lambda: array("i"))
    texts: list[str] = field(default_factory=list)
    _known: dict[str, int] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Note the value of one sample; seen again it changes nothing."""
        index = sample.index
        if index >= len(self.codes):
            self.codes.extend([UNKNOWN] * (index + 1 - len(self.codes)))
        elif self.codes[index] != UNKNOWN:
            return
        text = self.text_of(sample)
        if self.apart and not text:
            self.codes[index] = len(self.texts)
            self.texts.append(text)
            return
        code = self._known.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        self.codes[index] = code

    def text_of(self, sample: Sample) -> str:
        """The value of the column in a sample, empty where there is none."""
        return value_text(find_value(sample.metadata, self.column))

    def code_of(self, text: str) -> int | None:
        """The code of a value, or None where no sample has it."""
        return self._known.get(text)


def value_text(value: Any) -> str:
    """The value of a column as a group's name: text as it is, anything else as JSON, nothing as nothing."""
    if value is ABSENT or value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
