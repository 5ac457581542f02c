"""How a run fares while it goes: who answers, who is given up, and when too much has failed to go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from evalrunner.domain import Failure, Row
from evalrunner.engine.plan import Plan
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.suite.schema import FailOnError


@dataclass(slots=True)
class RunState:
    """How a run fares, kept up to date while it goes. `rows` counts those of this process."""

    targets: dict[str, CircuitBreaker] = field(default_factory=dict)
    rows: int = 0
    errors: int = 0
    most_errors: int | None = None
    allowed: str = ""
    interrupted: bool = False

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The state of a run that has not begun."""
        rule = plan.suite.run.fail_on_error
        most = rule.rows(plan.rows) if rule is not None else None
        return cls({target.name: target.breaker for target in plan.targets}, most_errors=most, allowed=said_of(rule))

    @property
    def all_ended(self) -> bool:
        """Whether no target is asked any more."""
        return all(target.open_reason is not None for target in self.targets.values())

    def note(self, row: Row) -> str | None:
        """Count one row in; the sentence why the run should stop, if it should."""
        self.rows += 1
        if not ended_in_error(row):
            return None
        self.errors += 1
        if self.most_errors is None or self.errors < self.most_errors:
            return None
        rows = "1 row" if self.errors == 1 else f"{self.errors:,} rows"
        return f"{rows} ended in error, and fail_on_error is {self.allowed}"


def said_of(rule: FailOnError | None) -> str:
    """The rule as people write it."""
    if rule is None:
        return ""
    return str(rule.count) if rule.count is not None else f"{100 * (rule.share or 0):g}%"


def ended_in_error(row: Row) -> bool:
    """Whether infrastructure kept the row from its answer or from one of its scores."""
    if isinstance(row.answer, Failure):
        return True
    for cell in row.cells.values():  # noqa: SIM110  any() takes three times as long for so few, and every row comes here
        if cell.state == "error":
            return True
    return False
