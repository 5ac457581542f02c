"""One metric's raw material: arrays of floats and codes, one entry a row, and nothing else held."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, TypeAlias

from evalrunner.domain import Cause, Cell
from evalrunner.stats.reducers import MEAN, Reducer

SCORED: Final = 0
ZEROED: Final = 1  # no answer, counted as zero because the suite says so
SKIPPED: Final = 2
NO_ANSWER: Final = 3
JUDGE: Final = 4
ERROR: Final = 5
TOO_FEW_EPOCHS: Final = 6  # of a sample: fewer of its epochs are there than its reducer needs

Reason: TypeAlias = tuple[Cause | None, str | None]
"""Why cells have no score: the cause, and what was said of it; of errors the kind alone, as their messages all differ."""
MAX_REASONS = 20  # kept apart; error messages of a storm can all differ


@dataclass(slots=True)
class Tally:
    """The values of one scorer on one target as they arrive, in any order.

    `samples` holds each row's place in the dataset, so that epochs of one sample can be put together; `epochs` is None
    where there is but one.
    """

    values: array[float] = field(default_factory=lambda: array("d"))
    codes: array[int] = field(default_factory=lambda: array("b"))
    samples: array[int] = field(default_factory=lambda: array("q"))
    reasons: Counter[Reason] = field(default_factory=Counter)
    epochs: array[int] | None = None

    def add(self, sample: int, cell: Cell, *, epoch: int = 1) -> None:
        """Count one cell in."""
        code = code_of(cell)
        self.values.append(cell.value if cell.value is not None else math.nan)
        self.codes.append(code)
        self.samples.append(sample)
        if self.epochs is not None:
            self.epochs.append(epoch)
        if code != SKIPPED and (cell.cause is not None or cell.reason is not None):
            reason = cell.cause, None if code == ERROR else cell.reason
            if reason in self.reasons or len(self.reasons) < MAX_REASONS:
                self.reasons[reason] += 1


def code_of(cell: Cell) -> int:
    """The code of a cell's state; unscored cells have one code for a missing answer and one for a missing verdict."""
    if cell.state == "scored":
        return SCORED if cell.cause is None else ZEROED
    if cell.state == "skipped":
        return SKIPPED
    if cell.state == "error":
        return ERROR
    return NO_ANSWER if cell.cause == "no_answer" else JUDGE


@dataclass(frozen=True, slots=True)
class ReducedScores:
    """One score per sample. `values` are those of the scored samples; the counts are of samples.

    `samples` holds the place of each value's sample in the dataset, `clusters` its cluster where samples are related;
    `absent` the places of the samples that should have a value and have none. `zeroed` of the scored ones have no
    answer and count as zero.
    """

    values: array[float]
    samples: array[int]
    absent: array[int]
    zeroed: int
    skipped: int
    no_answer: int
    judge: int
    errors: int
    clusters: array[int] | None = None

    @property
    def applicable(self) -> int:
        """Samples that the scorer applies to, scored or not."""
        return len(self.values) + self.missing

    @property
    def missing(self) -> int:
        """Samples that the scorer applies to and that have no value."""
        return self.no_answer + self.judge + self.errors


@dataclass(frozen=True, slots=True)
class SampleScores:
    """A value and a code for each sample, aligned: all that a reducer leaves of a tally."""

    samples: array[int]
    values: array[float]
    codes: array[int]

    def split(self, groups: array[int]) -> dict[int, SampleScores]:
        """The parts by group, `groups` holding that of each place in the dataset."""
        parts: dict[int, SampleScores] = {}
        for sample, value, code in zip(self.samples, self.values, self.codes, strict=True):
            part = parts.get(groups[sample])
            if part is None:
                part = parts[groups[sample]] = SampleScores(array("q"), array("d"), array("b"))
            part.samples.append(sample)
            part.values.append(value)
            part.codes.append(code)
        return parts

    def partition_states(self, clusters: array[int] | None = None) -> ReducedScores:
        """The scored ones apart from the others, which are counted; `clusters` holds that of each place."""
        values, samples, absent = array("d"), array("q"), array("q")
        for sample, value, code in zip(self.samples, self.values, self.codes, strict=True):
            if code <= ZEROED:
                values.append(value)
                samples.append(sample)
            elif code != SKIPPED:
                absent.append(sample)
        count = Counter(self.codes)
        return ReducedScores(
            values, samples, absent, count[ZEROED], count[SKIPPED], count[NO_ANSWER], count[JUDGE],
            count[ERROR] + count[TOO_FEW_EPOCHS],
            None if clusters is None else array("q", (clusters[sample] for sample in samples)),
        )  # fmt: skip


def reduce_tally(tally: Tally, reducer: Reducer = MEAN) -> SampleScores:
    """Epochs to one score per sample; one with fewer scored epochs than the reducer needs takes its worst state."""
    if tally.epochs is None:
        if reducer.kind in ("mean", "median", "mode", "max"):  # of one epoch they are that epoch
            return SampleScores(tally.samples, tally.values, tally.codes)
        epochs = array("i", [1]) * len(tally.values)
    else:
        epochs = tally.epochs
    keys = [sample << 24 | epoch for sample, epoch in zip(tally.samples, epochs, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # by sample, then epoch, whatever the order of arrival
    found = SampleScores(array("q"), array("d"), array("b"))
    for sample, places in groupby(order, key=tally.samples.__getitem__):
        scores: list[float] = []
        codes: list[int] = []
        for place in places:
            codes.append(tally.codes[place])
            if codes[-1] <= ZEROED:
                scores.append(tally.values[place])
        value = reducer.reduce(scores)
        found.samples.append(sample)
        found.values.append(math.nan if value is None else value)
        found.codes.append(SCORED if value is not None else _worst(codes))
    return found


def _worst(codes: Sequence[int]) -> int:
    """The worst state of a sample without a value; all its epochs scored, they were too few."""
    worst = max(codes)
    return worst if worst > ZEROED else TOO_FEW_EPOCHS
