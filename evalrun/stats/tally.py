"""One metric's raw material: arrays of floats and codes, one entry a row, and nothing else held."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from evalrun.domain import Cell

SCORED: Final = 0
ZEROED: Final = 1  # no answer, counted as zero because the suite says so
SKIPPED: Final = 2
NO_ANSWER: Final = 3
JUDGE: Final = 4
ERROR: Final = 5

MOST_REASONS = 20  # kept apart; error messages of a storm can all differ


@dataclass(slots=True)
class Tally:
    """The values of one scorer on one target as they arrive, in any order.

    `samples` holds each row's place in the dataset, so that epochs of one sample can be put together.
    """

    values: array[float] = field(default_factory=lambda: array("d"))
    codes: array[int] = field(default_factory=lambda: array("b"))
    samples: array[int] = field(default_factory=lambda: array("q"))
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, sample: int, cell: Cell) -> None:
        """Count one cell in."""
        code = code_of(cell)
        self.values.append(cell.value if cell.value is not None else math.nan)
        self.codes.append(code)
        self.samples.append(sample)
        if cell.reason is not None and code != SKIPPED:
            reason = cell.reason.partition(":")[0] if code == ERROR else cell.reason
            if reason in self.reasons or len(self.reasons) < MOST_REASONS:
                self.reasons[reason] += 1


def code_of(cell: Cell) -> int:
    """The code of a cell's state, the two families of unscored apart."""
    if cell.state == "scored":
        return ZEROED if cell.reason is not None and cell.reason.startswith("no_answer") else SCORED
    if cell.state == "skipped":
        return SKIPPED
    if cell.state == "error":
        return ERROR
    return NO_ANSWER if (cell.reason or "").startswith("no_answer") else JUDGE


@dataclass(frozen=True, slots=True)
class Reduced:
    """One score per sample. `values` are those of the scored samples; the counts are of samples.

    `zeroed` of the scored ones have no answer and count as zero.
    """

    values: array[float]
    zeroed: int
    skipped: int
    no_answer: int
    judge: int
    errors: int

    @property
    def applicable(self) -> int:
        """Samples that the scorer applies to, scored or not."""
        return len(self.values) + self.missing

    @property
    def missing(self) -> int:
        """Samples that the scorer applies to and that have no value."""
        return self.no_answer + self.judge + self.errors


def reduce_tally(tally: Tally, *, epochs: int) -> Reduced:
    """Epochs to one score per sample, their mean; a sample none of whose epochs was scored takes its worst state."""
    if epochs > 1:
        values, codes = _mean_per_sample(tally)
    else:
        values, codes = tally.values, tally.codes
    scored = array("d", (value for value, code in zip(values, codes, strict=True) if code <= ZEROED))
    count = Counter(codes)
    return Reduced(scored, count[ZEROED], count[SKIPPED], count[NO_ANSWER], count[JUDGE], count[ERROR])


def _mean_per_sample(tally: Tally) -> tuple[array[float], array[int]]:
    grouped: dict[int, list[float]] = {}
    worst: dict[int, int] = {}
    for sample, value, code in zip(tally.samples, tally.values, tally.codes, strict=True):
        found = grouped.setdefault(sample, [])
        if code <= ZEROED:
            found.append(value)
        else:
            worst[sample] = max(worst.get(sample, code), code)
    values, codes = array("d"), array("b")
    for sample in sorted(grouped):
        found = grouped[sample]
        values.append(math.fsum(found) / len(found) if found else math.nan)
        codes.append(SCORED if found else worst[sample])
    return values, codes
