"""Rows of the same samples before and after: which changed, and which of them for the worse."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from evalrunner.domain import Cell, Completion, Declaration, Row
from evalrunner.stats.measures import Measure


@dataclass(frozen=True, slots=True)
class Change:
    """A row that changed. `worse` is by how much of a range its scores fell on average, negative where they rose."""

    before: Row
    after: Row
    worse: float
    scores: tuple[str, ...]
    output: bool


@dataclass(slots=True)
class Changes:
    """What changed in all: `rows` are those that got worst, then the others; the counts are of rows.

    `output_changed` changed their output and no score, `state_changed` a score without getting better or worse, such as one that has no
    value any more. `other` are samples that are not the same by now, `before_only` and `after_only` are on one side.
    """

    same: int = 0
    worse: int = 0
    better: int = 0
    state_changed: int = 0
    output_changed: int = 0
    different_sample: int = 0
    before_only: int = 0
    after_only: int = 0
    rows: list[Change] = field(default_factory=list)

    @property
    def changed(self) -> int:
        return self.worse + self.better + self.state_changed + self.output_changed


@dataclass(frozen=True, slots=True)
class RunDiff:
    """What changed from one target to another, each a run's id and its name; `notes` say where they were measured otherwise."""

    before: tuple[str, str]
    after: tuple[str, str]
    scorers: tuple[str, ...]
    changes: Changes
    notes: tuple[str, ...] = ()


def diff_rows(
    after: Iterable[Row], before: Callable[[Row], Row | None], measures: Sequence[Measure], *, keep: int
) -> Changes:
    """The changes of the rows `after`, each against the row that `before` finds for it; the `keep` worst are kept.

    `before_only` is left to whoever knows how many there were.
    """
    found = Changes()
    heap: list[tuple[float, int, int, int, Change]] = []
    declared = {measure.name: measure.declaration for measure in measures}
    for number, row in enumerate(after):
        earlier = before(row)
        if earlier is None:
            found.after_only += 1
        elif (earlier.sample.input, earlier.sample.expected) != (row.sample.input, row.sample.expected):
            found.different_sample += 1
        else:
            change = change_of(earlier, row, declared)
            _count(found, change)
            if change is not None:
                item = (change.worse, -row.sample.index, -row.epoch, -number, change)
                (heapq.heappush if len(heap) < keep else heapq.heappushpop)(heap, item)
    found.rows = [item[-1] for item in sorted(heap, key=lambda item: item[:-1], reverse=True)]
    return found


def change_of(before: Row, after: Row, measures: Mapping[str, Declaration]) -> Change | None:
    """How a row changed, in its output or in any score; None where it did not."""
    shared = [name for name in measures if name in before.cells and name in after.cells]
    state_changed = tuple(name for name in shared if _key(before.cells[name]) != _key(after.cells[name]))
    output = said(before) != said(after)
    if not state_changed and not output:
        return None
    falls = [fall(before.cells[name], after.cells[name], measures[name]) for name in shared]
    return Change(before, after, sum(falls) / len(falls) if falls else 0.0, state_changed, output)


def fall(before: Cell, after: Cell, declared: Declaration) -> float:
    """By how much of its range a score got worse; of an open range, by how much of the larger of both.

    An answer that is not given any more is as bad as can be; a failure of the infrastructure says nothing.
    """
    if before.value is not None and after.value is not None:
        drop = before.value - after.value if declared.higher_is_better else after.value - before.value
        if declared.low is not None and declared.high is not None:
            return drop / ((declared.high - declared.low) or 1.0)
        return drop / (max(abs(before.value), abs(after.value)) or 1.0)
    return float(_unanswered(after)) - float(_unanswered(before))


def said(row: Row) -> str:
    """What the target said, or how its call ended."""
    return row.answer.text if isinstance(row.answer, Completion) else str(row.answer)


def _unanswered(cell: Cell) -> bool:
    return cell.state == "unscored" and cell.cause == "no_answer"


def _key(cell: Cell) -> tuple[str, float | None]:
    return cell.state, cell.value


def _count(found: Changes, change: Change | None) -> None:
    if change is None:
        found.same += 1
    elif not change.scores:
        found.output_changed += 1
    elif change.worse > 0:
        found.worse += 1
    elif change.worse < 0:
        found.better += 1
    else:
        found.state_changed += 1
