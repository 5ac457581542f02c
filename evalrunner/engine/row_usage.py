"""What the rows of a run took, counted from the rows alone: the same however often the run was broken off.

What was asked besides, tries that failed and answers that were lost with a process, is counted where calls are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evalrunner.domain import Cell, Completion, Failure, FailureKind, Row
from evalrunner.engine.error_summary import ErrorSummary
from evalrunner.engine.plan import Plan
from evalrunner.engine.run_state import ended_in_error
from evalrunner.middleware.usage import Usage

NOT_CALLED: frozenset[FailureKind] = frozenset({"function", "missing"})


@dataclass(slots=True)
class RowCounts:
    """How many rows of a target have an answer, and how many calls failed."""

    answered: int = 0
    failed: int = 0


@dataclass(slots=True)
class RowUsage:
    """Totals for each target that is called over the network, and for each scorer that asks a judge.

    `in_error` counts the rows that infrastructure kept from their answer or from one of their scores, `troubles` says
    what did.
    """

    targets: dict[str, Usage]
    judges: dict[str, Usage]
    counts: dict[str, RowCounts]
    in_error: int = 0
    troubles: ErrorSummary = field(default_factory=ErrorSummary)

    @classmethod
    def of(cls, plan: Plan) -> RowUsage:
        """Nothing counted yet."""
        return cls(
            {target.name: Usage() for target in plan.targets if target.host is not None},
            {scorer.bound.name: Usage() for scorer in plan.scorers if scorer.judge is not None},
            {target.name: RowCounts() for target in plan.targets},
        )

    def add(self, row: Row) -> None:
        """Count one row in; an answer kept from before took nothing."""
        counts = self.counts[row.target]
        counts.failed += (failed := isinstance(row.answer, Failure))
        counts.answered += not failed
        in_error = failed or ended_in_error(row)
        self.in_error += in_error
        if in_error or self.judges:  # whose verdict may be one that cannot be read
            self.troubles.add(row)
        target = self.targets.get(row.target)
        if target is not None and _was_called(row.answer):
            target.add(row.answer)
        for name, usage in self.judges.items():
            _add_calls(usage, row.cells[name])

    def of_target(self, name: str) -> Usage:
        """The totals of a target; nothing for one that is not called over the network."""
        return self.targets.get(name) or Usage()


def _was_called(answer: Completion | Failure) -> bool:
    return answer.kind not in NOT_CALLED if isinstance(answer, Failure) else not answer.cached


def _add_calls(usage: Usage, cell: Cell) -> None:
    for call in cell.calls:
        if call.cached:
            continue
        usage.add(
            Completion(
                "", input_tokens=call.input_tokens, output_tokens=call.output_tokens, cost_usd=call.cost_usd,
                served_model=call.model,
            )
        )  # fmt: skip
