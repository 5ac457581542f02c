"""A growing column of numbers in as few bytes as they need: most scores are 0 or 1, and most counts are small."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final

WIDTHS: Final = (("b", 7), ("h", 15), ("i", 31))
"""Type codes of integers with the bits that hold a magnitude; the lowest value of each stands for NaN."""


class NumberColumn:
    """Numbers and NaN, exact as floats: integers take 1, 2 or 4 bytes each until another number needs 8."""

    __slots__ = ("_bound", "_data", "_missing")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._data: array[Any] = array("b")
        self._bound = 128
        self._missing = -128  # stands for NaN
        for value in values:
            self.append(value)

    def append(self, value: float) -> None:
        """Add a number."""
        data = self._data
        if not self._bound:
            data.append(value)
        elif value != value:  # noqa: PLR0124  NaN, faster than math.isnan
            data.append(self._missing)
        elif -self._bound < value < self._bound and (whole := int(value)) == value and (whole or _is_positive(value)):
            data.append(whole)
        else:
            self._widen(value)
            self.append(value)

    def doubles(self) -> array[float]:
        """A copy as doubles."""
        if not self._bound:
            return array("d", self._data)
        return array("d", self)

    def _widen(self, value: float) -> None:
        """Take the next wider type."""
        codes = [code for code, _ in WIDTHS]
        place = codes.index(self._data.typecode) + 1
        if place == len(WIDTHS) or not _is_whole(value):
            self._data, self._bound = self.doubles(), 0
            return
        code, bits = WIDTHS[place]
        missing = -(1 << bits)
        old = self._missing
        self._data = array(code, (missing if number == old else int(number) for number in self._data))
        self._bound, self._missing = 1 << bits, missing

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, place: int) -> float:
        value = self._data[place]
        return math.nan if self._bound and value == self._missing else float(value)

    def __iter__(self) -> Iterator[float]:
        if not self._bound:
            return iter(self._data)
        missing = self._missing
        return (math.nan if value == missing else float(value) for value in self._data)

    def __repr__(self) -> str:
        return f"NumberColumn({list(self)})"


def _is_positive(zero: float) -> bool:
    return math.copysign(1.0, zero) > 0


def _is_whole(value: float) -> bool:
    return float(value).is_integer() and (value != 0 or _is_positive(value))
