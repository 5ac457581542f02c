"""What kept rows from their answers and scores, in the words of whoever failed: one example of each kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from evalrunner.domain import Failure, Row
from evalrunner.engine.judge import NOT_CHECKED

NO_REASON = "no reason was given"
KINDS = 3  # of failures that are told of one target


@dataclass(slots=True)
class ErrorGroup:
    """How often it happened, and what was said the first time."""

    row: str
    said: str
    count: int = 0


@dataclass(slots=True)
class ErrorSummary:
    """Failures of a run by target and kind, errors of its scorers and verdicts that could not be read by scorer."""

    failed: dict[str, dict[str, ErrorGroup]] = field(default_factory=lambda: defaultdict(dict))
    errors: dict[str, ErrorGroup] = field(default_factory=dict)
    unread: dict[str, ErrorGroup] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count what went wrong in one row; where its call failed, that alone. Judges say themselves what kept them."""
        answer = row.answer
        if isinstance(answer, Failure):
            _count(self.failed[row.target], answer.kind, row, answer.message)
            return
        for name, cell in row.cells.items():
            if cell.state == "error" and NOT_CHECKED not in (cell.reason or ""):
                _count(self.errors, name, row, cell.message or NO_REASON)
            elif cell.state == "unscored" and cell.cause == "judge":
                _count(self.unread, name, row, cell.reason or NO_REASON)

    def lines(self, *, known: str = "") -> Iterator[str]:
        """A sentence for each kind, the most frequent of a target first; none for what `known` says already."""
        for target, kinds in self.failed.items():
            for kind, trouble in sorted(kinds.items(), key=lambda item: -item[1].count)[:KINDS]:
                if trouble.said in known:
                    continue
                yield f"{target}: {_counted(trouble.count, 'row')} failed ({kind}), such as {trouble.row!r}: {trouble.said}"
        for scorer, trouble in self.errors.items():
            kind, _, said = trouble.said.partition(": ")
            if (said or kind) in known:
                continue
            yield f"{scorer}: {_counted(trouble.count, 'score')} in error, such as that of {trouble.row!r}: {trouble.said}"
        for scorer, trouble in self.unread.items():
            yield f"{scorer}: {_counted(trouble.count, 'verdict')} without a score, such as that on {trouble.row!r}: {trouble.said}"


def _count(found: dict[str, ErrorGroup], name: str, row: Row, said: str) -> None:
    trouble = found.get(name)
    if trouble is None:
        trouble = found[name] = ErrorGroup(row.sample.id, said)
    trouble.count += 1


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
