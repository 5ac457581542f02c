"""The worst rows of a run and its regressions against a baseline, selected while rows arrive."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from evalrunner.domain import Cell, Failure, GateResult, Row
from evalrunner.errors import EvalrunError

if TYPE_CHECKING:
    from evalrunner.baselines.file import Baseline, BaselineRow
    from evalrunner.engine.plan import Plan
    from evalrunner.stats.summary import Measure


@dataclass(frozen=True, slots=True)
class BaselineScores:
    """The baseline of a row: scorer to score, and the output where the baseline has outputs."""

    scores: Mapping[str, float]
    output: str | None = None


BaselineLookup: TypeAlias = Callable[[Row], BaselineScores | None]


@dataclass(frozen=True, slots=True)
class NotableRow:
    """A row of a summary, with its baseline where it got worse."""

    row: Row
    before: BaselineScores | None = None


class WorstRows:
    """Holds the worst row of each of the `keep` worst samples of a target; of equals, those that come first in the dataset."""

    def __init__(self, measures: Sequence[Measure], *, keep: int = 5) -> None:
        self.measures = tuple(measures)
        self.keep = keep
        self.heaps: dict[str, list[tuple[float, int, int, NotableRow]]] = {}

    def add(self, row: Row) -> None:
        """Look at one row."""
        self._offer(mean_shortfall(row, self.measures), row)

    def of(self, target: str) -> list[Row]:
        """The worst rows of a target, the worst first."""
        return [notable.row for notable in self.rows_of(target)]

    def rows_of(self, target: str) -> list[NotableRow]:
        """The same, with their baseline."""
        return [item[3] for item in sorted(self.heaps.get(target, []), key=lambda item: item[:3], reverse=True)]

    def _offer(self, bad: float, row: Row, before: BaselineScores | None = None) -> None:
        if bad <= 0:
            return
        heap = self.heaps.setdefault(row.target, [])
        rank = (bad, -row.sample.index, -row.epoch)
        if len(heap) >= self.keep and rank <= heap[0][:3]:
            return
        other_epoch = next((place for place, item in enumerate(heap) if item[1] == rank[1]), None)
        if other_epoch is not None:
            if rank > heap[other_epoch][:3]:
                heap[other_epoch] = (*rank, NotableRow(row, before))
                heapq.heapify(heap)
        elif len(heap) < self.keep:
            heapq.heappush(heap, (*rank, NotableRow(row, before)))
        else:
            heapq.heapreplace(heap, (*rank, NotableRow(row, before)))


class Regressions(WorstRows):
    """Holds the largest regressions of each target since the baseline, one row of each sample."""

    def __init__(self, measures: Sequence[Measure], baseline: BaselineLookup, *, keep: int = 5) -> None:
        super().__init__(measures, keep=keep)
        self.baseline = baseline
        self.counts: Counter[str] = Counter()
        self._flags: dict[str, bytearray] = {}  # target to a flag for each sample, by its position in the dataset

    def add(self, row: Row) -> None:
        """Look at one row."""
        before = self.baseline(row)
        if before is not None:
            drop = largest_drop(row, before, self.measures)
            self._count(row, drop)
            self._offer(drop, row, before)

    def count(self, target: str) -> int:
        """How many samples of a target got worse, in any epoch."""
        return self.counts[target]

    def _count(self, row: Row, drop: float) -> None:
        if drop <= 0:
            return
        flags, place = self._flags.setdefault(row.target, bytearray()), row.sample.index
        if len(flags) <= place:
            flags.extend(bytes(place + 1 - len(flags)))
        self.counts[row.target] += not flags[place]
        flags[place] = 1


def largest_drop(row: Row, before: BaselineScores, measures: Sequence[Measure]) -> float:
    """The largest drop of a row's scores, in 0..1 of their range; 0 if none dropped."""
    falls = [0.0]
    for measure in measures:
        previous, value = before.scores.get(measure.name), row.cells[measure.name].value
        declaration = measure.declaration
        if previous is None or value is None or declaration.low is None or declaration.high is None:
            continue
        drop = (previous - value) / ((declaration.high - declaration.low) or 1)
        falls.append(drop if declaration.higher_is_better else -drop)
    return max(falls)


def mean_shortfall(row: Row, measures: Sequence[Measure]) -> float:
    """The mean distance of a row's scores from the best, in 0..1, over those with a known range; no answer is worst.

    Parts do not count beside their scorers.
    """
    parts: list[float] = []
    for measure in measures:
        if measure.part_of is not None:
            continue
        declaration = measure.declaration
        cell = row.cells[measure.name]
        if cell.state == "unscored" and cell.cause == "no_answer":
            parts.append(1.0)
        if cell.value is None or declaration.low is None or declaration.high is None:
            continue
        share = (cell.value - declaration.low) / ((declaration.high - declaration.low) or 1)
        parts.append(1 - share if declaration.higher_is_better else share)
    return sum(parts) / len(parts) if parts else 0.0


def failed(row: Row, measures: Sequence[Measure]) -> bool:
    """Whether a row is a failure: its call failed, a score is missing, or that of a scorer is in the lower half of its range."""
    if isinstance(row.answer, Failure):
        return True
    if any(cell.state in ("error", "unscored") for cell in row.cells.values()):
        return True
    return any(mean_shortfall(row, [measure]) > 0.5 for measure in measures)


def missed(cell: Cell, measure: Measure) -> bool:
    """Whether a score is in the lower half of its range; never for an open range."""
    declaration = measure.declaration
    if cell.state != "scored" or cell.value is None or declaration.low is None or declaration.high is None:
        return False
    share = (cell.value - declaration.low) / ((declaration.high - declaration.low) or 1)
    return share < 0.5 if declaration.higher_is_better else share > 0.5


def baseline_lookup_of_plan(plan: Plan) -> BaselineLookup | None:
    """The lookup in the first baseline of a plan's gates; None where there is none."""
    baseline = next(iter(plan.baselines.values()), None)
    return None if baseline is None else baseline_lookup(baseline, [target.name for target in plan.targets])


def baseline_lookup_of_stored(
    suite: str, suite_file: Path | None, gates: Sequence[GateResult], targets: Sequence[str], runs: Path
) -> BaselineLookup | None:
    """The same for a stored run, from the baseline of its first gate that has one, if that is still there."""
    names = [gate.baseline.name for gate in gates if gate.baseline is not None]
    if not names or suite_file is None:
        return None
    from evalrunner.baselines.resolve import BadBaselineReference, BaselineResolver

    try:
        baseline = BaselineResolver(suite_file.parent, suite, runs).resolve(names[0])
    except (EvalrunError, BadBaselineReference):  # a report shows the worst rows then
        return None
    return None if baseline is None else baseline_lookup(baseline, targets)


def baseline_lookup(baseline: Baseline, targets: Sequence[str]) -> BaselineLookup:
    """The lookup of a row in a baseline that has the same sample: scores averaged over epochs, and an output."""

    from evalrunner.baselines.file import sample_key

    def find(row: Row) -> BaselineScores | None:
        target = baseline.target_for(row.target, targets)
        stored = baseline.rows.get((target, row.sample.id)) if target is not None else None
        if stored is None or stored.key != sample_key(row.sample):
            return None
        return BaselineScores(_means(stored), _output(stored.content, row.epoch))

    return find


def _means(stored: BaselineRow) -> dict[str, float]:
    known = {name: [value for value in values if value is not None] for name, values in stored.scores.items()}
    return {name: math.fsum(values) / len(values) for name, values in known.items() if values}


def _output(content: Mapping[str, Any] | None, epoch: int) -> str | None:
    outputs = content["outputs"] if content is not None else []
    answer = outputs[epoch - 1] if epoch <= len(outputs) else None
    return str(answer["text"]) if answer is not None else None
