"""What the rows of a run have cost, by who was paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalrunner.domain import Completion, Row

if TYPE_CHECKING:
    from evalrunner.middleware.budget import Side


def add_spent(row: Row, spent: dict[Side, float]) -> None:
    """Add the cost of a row of the row log."""
    if isinstance(row.answer, Completion):
        spent["targets"] += row.answer.cost_usd or 0.0
        spent["users"] += sum(call.cost_usd or 0.0 for call in row.answer.user_calls)
    spent["judges"] += sum(call.cost_usd or 0.0 for cell in row.cells.values() for call in cell.calls)
