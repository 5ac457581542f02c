"""The cells of one scorer on one target, and their reduction to one score per sample, with what is missing at either end.

A verdict may rest on a number only if it holds for every value of the answers that are missing (Manski 2003, §1.2), so
each sample carries its score and the worst and best scores that it could have.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, TypeAlias

from evalrunner.domain import Cause, Cell, Declaration
from evalrunner.stats.aggregates import MEAN_REDUCER, Reducer
from evalrunner.stats.number_column import NumberColumn

SCORED: Final = 0
ZEROED: Final = 1  # no answer, counted as zero by on_no_answer: zero
SKIPPED: Final = 2
NO_ANSWER: Final = 3
JUDGE: Final = 4
ERROR: Final = 5
TOO_FEW_EPOCHS: Final = 6  # of a sample: its scored epochs do not determine its score
NOT_RUN: Final = 7  # the row does not exist

Reason: TypeAlias = tuple[Cause | None, str | None]
"""Why a cell has no score: cause and reason; for errors the kind alone, as every message may differ."""
MAX_REASONS = 20  # distinct ones to count


@dataclass(slots=True)
class Tally:
    """The values of one scorer on one target as they arrive, in any order.

    `samples` holds each row's position in the dataset, to group the epochs of a sample; `epochs` is None for a single
    epoch. The tallies of a target may share both, because each row has a cell of every scorer.
    """

    values: NumberColumn = field(default_factory=NumberColumn)
    codes: array[int] = field(default_factory=lambda: array("b"))
    samples: array[int] = field(default_factory=lambda: array("I"))  # four bytes
    reasons: Counter[Reason] = field(default_factory=Counter)
    epochs: array[int] | None = None
    skip_reasons: Counter[str | None] = field(default_factory=Counter)

    def add(self, sample: int, cell: Cell, *, epoch: int = 1) -> None:
        """Count one cell."""
        self.samples.append(sample)
        if self.epochs is not None:
            self.epochs.append(epoch)
        self.count(cell)

    def count(self, cell: Cell) -> None:
        """Count the cell of a row whose position stands in `samples` already."""
        code = cell_code(cell)
        self.values.append(cell.value if cell.value is not None else math.nan)
        self.codes.append(code)
        if code == SKIPPED:
            if cell.reason in self.skip_reasons or len(self.skip_reasons) < MAX_REASONS:
                self.skip_reasons[cell.reason] += 1
        elif cell.cause is not None or cell.reason is not None:
            # of a missing answer the finish reason alone: what follows the colon is the row's own
            own = cell.reason if cell.cause != "no_answer" or cell.reason is None else cell.reason.partition(":")[0]
            reason = cell.cause, None if code == ERROR else own
            if reason in self.reasons or len(self.reasons) < MAX_REASONS:
                self.reasons[reason] += 1

    @property
    def is_binary(self) -> bool:
        """Whether there are scores, and every one is 0 or 1."""
        scores = {value for value, code in zip(self.values, self.codes, strict=True) if code <= ZEROED}
        return bool(scores) and scores <= {0.0, 1.0}

    def count_codes(self, groups: array[int] | None = None) -> dict[int, Counter[int]]:
        """How many cells have each code, by group of their sample; one group 0 without `groups`."""
        if groups is None:
            return {0: Counter(self.codes)}
        counts: dict[int, Counter[int]] = {}
        for (group, code), count in Counter((groups[sample], code) for sample, code in zip(self.samples, self.codes, strict=True)).items():  # fmt: skip
            counts.setdefault(group, Counter())[code] += count
        return counts


def cell_code(cell: Cell) -> int:
    """The code of a cell's state; unscored cells have one code for a missing answer and one for a missing verdict."""
    if cell.state == "scored":
        return SCORED if cell.cause is None else ZEROED
    if cell.state == "skipped":
        return SKIPPED
    if cell.state == "error":
        return ERROR
    return NO_ANSWER if cell.cause == "no_answer" else JUDGE


@dataclass(frozen=True, slots=True)
class FillRange:
    """What a missing score could be, in the direction of the metric; infinite where the range is open.

    `worst` and `best` are for answers lost to a provider, a judge or a crash. `no_answer` is the least favorable score
    of an answer that the model itself did not give; at its best such an answer is left out, as it never counts as right.
    """

    worst: float
    best: float
    no_answer: float

    def ends_of(self, code: int) -> tuple[float, float]:
        """The worst and best score of a cell with this code; NaN: left out."""
        return (self.no_answer, math.nan) if code == NO_ANSWER else (self.worst, self.best)


ANY_SCORE: Final = FillRange(-math.inf, math.inf, -math.inf)


def fill_range(declaration: Declaration, reducer: Reducer = MEAN_REDUCER) -> FillRange:
    """The range of missing scores of a scorer. With a counting reducer a missing epoch passes, or does not."""
    if reducer.counts:
        return ANY_SCORE
    low = 0.0 if declaration.binary else -math.inf if declaration.low is None else declaration.low
    high = 1.0 if declaration.binary else math.inf if declaration.high is None else declaration.high
    if declaration.higher_is_better:
        return FillRange(low, high, min(max(0.0, low), high))
    return FillRange(high, low, high)


@dataclass(frozen=True, slots=True)
class ReducedScores:
    """One score per sample. `values` are those of the scored samples; the counts are of samples.

    `samples` holds the position of each value's sample, `clusters` its cluster if samples are clustered. `zeroed` of the
    scored ones have no answer and count as zero.
    """

    values: array[float]
    samples: array[int]
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
    """One entry per sample, aligned: a tally after reducing epochs.

    `values` is NaN without a score, and then `codes` says why. `worst` and `best` are the scores with everything that is
    missing at its worst and at its best (see `FillRange`); NaN where the sample would be left out, and where it is
    skipped. `scored` and `applicable` count the answers of a sample: those with a score, and those that the scorer
    applies to, epochs that never ran among them.
    """

    samples: array[int]
    values: array[float]
    codes: array[int]
    worst: array[float]
    best: array[float]
    scored: array[int]
    applicable: array[int]

    @classmethod
    def empty(cls) -> SampleScores:
        """Without samples."""
        return cls(array("q"), array("d"), array("b"), array("d"), array("d"), array("i"), array("i"))

    @property
    def complete(self) -> bool:
        """Whether no answer is missing."""
        return self.scored == self.applicable

    def split(self, groups: array[int]) -> dict[int, SampleScores]:
        """The parts by group; `groups` holds the group of each position in the dataset."""
        places: dict[int, list[int]] = {}
        for place, sample in enumerate(self.samples):
            places.setdefault(groups[sample], []).append(place)
        return {group: self.take(chosen) for group, chosen in places.items()}

    def take(self, places: Sequence[int]) -> SampleScores:
        """The entries at these places, in this order."""

        def floats(column: array[float]) -> array[float]:
            return array("d", [column[place] for place in places])

        def integers(column: array[int]) -> array[int]:
            return array(column.typecode, [column[place] for place in places])

        return SampleScores(
            integers(self.samples), floats(self.values), integers(self.codes), floats(self.worst), floats(self.best),
            integers(self.scored), integers(self.applicable),
        )  # fmt: skip

    def partition_states(self, clusters: array[int] | None = None) -> ReducedScores:
        """The scored samples, and counts of the others; `clusters` holds the cluster of each position."""
        values, samples = array("d"), array("q")
        for sample, value, code in zip(self.samples, self.values, self.codes, strict=True):
            if code <= ZEROED:
                values.append(value)
                samples.append(sample)
        count = Counter(self.codes)
        return ReducedScores(
            values, samples, count[ZEROED], count[SKIPPED], count[NO_ANSWER], count[JUDGE],
            count[ERROR] + count[TOO_FEW_EPOCHS] + count[NOT_RUN],
            None if clusters is None else array("q", (clusters[sample] for sample in samples)),
        )  # fmt: skip


def reduce_tally(
    tally: Tally, reducer: Reducer = MEAN_REDUCER, fill: FillRange = ANY_SCORE, *, epochs: int = 1
) -> SampleScores:
    """Epochs to one score per sample; a sample without one takes the worst state of its epochs.

    `epochs` are those of the run: a row that never ran is a missing epoch. With missing epochs the unbiased reducers use
    the scored ones; the others give a value only if no score of the missing ones could change it.
    """
    if tally.epochs is None and not reducer.counts:  # of one epoch every other reducer returns its score
        return _single_epochs(tally, fill)
    numbers = tally.epochs if tally.epochs is not None else array("i", [1]) * len(tally.values)
    keys = [sample << 24 | epoch for sample, epoch in zip(tally.samples, numbers, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # by sample, then epoch, whatever the order of arrival
    result = SampleScores.empty()
    for sample, places in groupby(order, key=tally.samples.__getitem__):
        every = [(tally.codes[place], tally.values[place]) for place in places]
        every += [(NOT_RUN, math.nan)] * (epochs - len(every))
        cells = [cell for cell in every if cell[0] != SKIPPED]
        value, ends = reduce_cells(cells, reducer, fill)
        codes = [code for code, _ in cells] or [SKIPPED]
        result.samples.append(sample)
        result.values.append(math.nan if value is None else value)
        result.codes.append(_sample_code(codes) if value is None else SCORED)
        result.worst.append(ends[0])
        result.best.append(ends[1])
        result.scored.append(sum(1 for code in codes if code <= ZEROED))
        result.applicable.append(len(cells))
    return result


def reduce_cells(
    cells: Sequence[tuple[int, float]], reducer: Reducer, fill: FillRange
) -> tuple[float | None, tuple[float, float]]:
    """The score of one sample from the codes and values of its epochs, and its worst and best score (NaN: left out)."""
    scores = [value for code, value in cells if code <= ZEROED]
    if len(scores) == len(cells):
        value = reducer.reduce(scores) if scores else None
        return value, (math.nan, math.nan) if value is None else (value, value)
    sign = 1.0 if fill.worst < fill.best else -1.0
    any_score = dict.fromkeys(scores) if reducer.kind == "mode" else ()  # each can become the most common one
    fillings = [_reduced(cells, reducer, fill, lost) for lost in (fill.worst, fill.best, *any_score)]
    worst = min((low for low, _ in fillings if not math.isnan(low)), key=sign.__mul__, default=math.nan)
    best = max((high for _, high in fillings if not math.isnan(high)), key=sign.__mul__, default=math.nan)
    determined = worst if worst == best else None
    value = reducer.reduce(scores) if reducer.unbiased and scores else None
    return (determined if value is None else value), (worst, best)


def _reduced(cells: Iterable[tuple[int, float]], reducer: Reducer, fill: FillRange, lost: float) -> tuple[float, float]:
    """The score with every lost epoch at `lost`: with those that the model did not answer at their worst, and left out."""
    filled: list[float] = []
    answered: list[float] = []
    for code, value in cells:
        score = value if code <= ZEROED else fill.no_answer if code == NO_ANSWER else lost
        filled.append(score)
        if code != NO_ANSWER:
            answered.append(score)
    ends = reducer.reduce(filled), reducer.reduce(answered) if answered else None
    return math.nan if ends[0] is None else ends[0], math.nan if ends[1] is None else ends[1]


def _single_epochs(tally: Tally, fill: FillRange) -> SampleScores:
    values, codes = tally.values.doubles(), tally.codes
    ones = array("i", [1]) * len(values)
    if not codes or max(codes) <= ZEROED:
        return SampleScores(tally.samples, values, codes, values, values, ones, ones)
    ends = {code: fill.ends_of(code) for code in (NO_ANSWER, JUDGE, ERROR)} | {SKIPPED: (math.nan, math.nan)}
    worst = array("d", (ends[code][0] if code > ZEROED else value for value, code in zip(values, codes, strict=True)))
    best = array("d", (ends[code][1] if code > ZEROED else value for value, code in zip(values, codes, strict=True)))
    scored = array("i", (int(code <= ZEROED) for code in codes))
    return SampleScores(
        tally.samples, values, codes, worst, best, scored, array("i", (int(code != SKIPPED) for code in codes))
    )


def _sample_code(codes: Sequence[int]) -> int:
    """The worst state of a sample without a value; too few epochs if all of them are scored."""
    worst = max(codes)
    return worst if worst > ZEROED else TOO_FEW_EPOCHS
