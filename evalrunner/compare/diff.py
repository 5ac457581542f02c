"""Differences between rows of the same samples in two runs, and the samples on which candidates disagree most."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from evalrunner.domain import Cell, Completion, Declaration, Row
from evalrunner.stats.summary import Measure


@dataclass(frozen=True, slots=True)
class Change:
    """A changed row. `worse` is the mean drop of its scores as a share of their range, negative for gains."""

    before: Row
    after: Row
    worse: float
    scores: tuple[str, ...]
    output: bool


@dataclass(slots=True)
class Changes:
    """All changes: `rows` has the worst first; the others are counts of rows.

    `output_changed` rows have another output and equal scores, `state_changed` rows a score that got neither better nor
    worse, such as one without a value now. `different_sample` counts samples that changed, `before_only` and `after_only`
    those in one run only.
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
    """The changes from one target to another, each a run id and a target name. `notes` say how scorers differ."""

    before: tuple[str, str]
    after: tuple[str, str]
    scorers: tuple[str, ...]
    changes: Changes
    notes: tuple[str, ...] = ()


def diff_rows(
    after: Iterable[Row], before: Callable[[Row], Row | None], measures: Sequence[Measure], *, keep: int
) -> Changes:
    """The changes of the rows `after`, each against the row that `before` finds for it; with the `keep` worst in `rows`.

    The caller sets `before_only`, as it knows how many rows there were.
    """
    result = Changes()
    heap: list[tuple[float, int, int, int, Change]] = []
    declared = {measure.name: measure.declaration for measure in measures}
    for number, row in enumerate(after):
        earlier = before(row)
        if earlier is None:
            result.after_only += 1
        elif (earlier.sample.input, earlier.sample.expected) != (row.sample.input, row.sample.expected):
            result.different_sample += 1
        else:
            change = change_of(earlier, row, declared)
            _count(result, change)
            if change is not None:
                item = (change.worse, -row.sample.index, -row.epoch, -number, change)
                (heapq.heappush if len(heap) < keep else heapq.heappushpop)(heap, item)
    result.rows = [item[-1] for item in sorted(heap, key=lambda item: item[:-1], reverse=True)]
    return result


def change_of(before: Row, after: Row, measures: Mapping[str, Declaration]) -> Change | None:
    """How a row changed, in its output or a score; None if it did not."""
    shared = [name for name in measures if name in before.cells and name in after.cells]
    state_changed = tuple(name for name in shared if _key(before.cells[name]) != _key(after.cells[name]))
    output = output_text(before) != output_text(after)
    if not state_changed and not output:
        return None
    drops = [score_drop(before.cells[name], after.cells[name], measures[name]) for name in shared]
    return Change(before, after, sum(drops) / len(drops) if drops else 0.0, state_changed, output)


def score_drop(before: Cell, after: Cell, declared: Declaration) -> float:
    """The drop of a score as a share of its range; of an open range, as a share of the larger score.

    A missing answer is the largest drop; a failed call is none.
    """
    if before.value is not None and after.value is not None:
        drop = before.value - after.value if declared.higher_is_better else after.value - before.value
        if declared.low is not None and declared.high is not None:
            return drop / ((declared.high - declared.low) or 1.0)
        return drop / (max(abs(before.value), abs(after.value)) or 1.0)
    return float(_unanswered(after)) - float(_unanswered(before))


def output_text(row: Row) -> str:
    """The output of the target, or the failure of its call."""
    return row.answer.text if isinstance(row.answer, Completion) else str(row.answer)


def _unanswered(cell: Cell) -> bool:
    return cell.state == "unscored" and cell.cause == "no_answer"


def _key(cell: Cell) -> tuple[str, float | None]:
    return cell.state, cell.value


def _count(result: Changes, change: Change | None) -> None:
    if change is None:
        result.same += 1
    elif not change.scores:
        result.output_changed += 1
    elif change.worse > 0:
        result.worse += 1
    elif change.worse < 0:
        result.better += 1
    else:
        result.state_changed += 1


def disagreeing_rows(rows: Iterable[Row], places: Sequence[int], names: Sequence[str]) -> tuple[tuple[Row, ...], ...]:
    """For each place in the dataset the rows of one epoch, of the candidates in the order of their `names`.

    The epoch is the first in which scores differ. One pass; only the rows of those positions are held.
    """
    result: dict[int, dict[int, list[Row]]] = {place: {} for place in places}
    order = {name: place for place, name in enumerate(names)}
    for row in rows:
        if row.sample.index in result:
            result[row.sample.index].setdefault(row.epoch, []).append(row)
    picked: list[tuple[Row, ...]] = []
    for epochs in result.values():
        together = [epochs[epoch] for epoch in sorted(epochs)]
        if together:
            differing = next((group for group in together if _differ(group)), together[0])
            picked.append(tuple(sorted(differing, key=lambda row: order[row.target])))
    return tuple(picked)


def _differ(rows: Sequence[Row]) -> bool:
    names = {name for row in rows for name in row.cells}
    return any(len({row.cells[name].value for row in rows if name in row.cells}) > 1 for name in names)
