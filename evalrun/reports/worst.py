"""The rows that did worst, kept while the rows go by."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from evalrun.domain import Failure, Row
from evalrun.stats.summary import Measure


class WorstRows:
    """Holds the `keep` worst rows of each target; of equals, those that come first in the dataset."""

    def __init__(self, measures: Sequence[Measure], *, keep: int = 5) -> None:
        self.measures = tuple(measures)
        self.keep = keep
        self.heaps: dict[str, list[tuple[float, int, int, Row]]] = {}

    def add(self, row: Row) -> None:
        """Look at one row."""
        bad = badness(row, self.measures)
        if bad <= 0:
            return
        heap = self.heaps.setdefault(row.target, [])
        item = (bad, -row.sample.index, -row.epoch, row)
        if len(heap) < self.keep:
            heapq.heappush(heap, item)
        elif item[:3] > heap[0][:3]:
            heapq.heapreplace(heap, item)

    def of(self, target: str) -> list[Row]:
        """The worst rows of a target, the worst first."""
        return [item[3] for item in sorted(self.heaps.get(target, []), key=lambda item: item[:3], reverse=True)]


def badness(row: Row, measures: Sequence[Measure]) -> float:
    """How far a row's scores lie from the best, in 0..1, on average over those whose range is known; no answer is worst."""
    parts: list[float] = []
    for measure in measures:
        declaration = measure.declaration
        cell = row.cells[measure.name]
        if cell.state == "unscored" and (cell.reason or "").startswith("no_answer"):
            parts.append(1.0)
        if cell.value is None or declaration.low is None or declaration.high is None:
            continue
        share = (cell.value - declaration.low) / ((declaration.high - declaration.low) or 1)
        parts.append(1 - share if declaration.higher_is_better else share)
    return sum(parts) / len(parts) if parts else 0.0


def failed(row: Row, measures: Sequence[Measure]) -> bool:
    """Whether a row needs a look: its call failed, a cell has no value, or a score is on the bad half of its range."""
    if isinstance(row.answer, Failure):
        return True
    if any(cell.state in ("error", "unscored") for cell in row.cells.values()):
        return True
    return any(badness(row, [measure]) > 0.5 for measure in measures)
