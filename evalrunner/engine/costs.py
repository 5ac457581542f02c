"""What calls of a plan cost, found before the first one, and whether a cap on it can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from evalrunner.domain import Completion, Row
from evalrunner.endpoints.cost_bounds import WorstCase, check_cap
from evalrunner.endpoints.factory import EndpointHandle
from evalrunner.endpoints.pricing import KnownPrice, PriceBook, PricedEndpoint
from evalrunner.errors import Problem, SuiteError
from evalrunner.middleware.budget import Side
from evalrunner.middleware.stack import CallContext
from evalrunner.suite.schema import ModelSpec, Suite


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model that a plan asks: for the target of that name, or for the scorer of that name as its judge.

    `say` makes a problem of a sentence, at the model's place in the suite.
    """

    name: str
    context: CallContext
    spec: ModelSpec
    opened: EndpointHandle
    params: Mapping[str, Any]
    say: Callable[[str], Problem]

    @property
    def is_judge(self) -> bool:
        return self.context.side == "judges"


async def find_prices(
    suite: Suite, models: tuple[PlannedModel, ...], *, ask_servers: bool
) -> dict[tuple[Side, str], KnownPrice]:
    """The price of each model by its side and name, put on its answers as well.

    With `ask_servers` the server of a model is asked where only that can know. Raises SuiteError where a cap is set
    that cannot hold: a price that nobody knows, or answers without end.
    """
    book, found, problems = PriceBook(suite.prices), {}, []
    for model in models:
        known = await book.find(model.spec, model.opened) if ask_servers else book.look_up(model.spec, model.opened)
        found[model.context.side, model.name] = known
        if known.price is not None:
            model.context.price = partial(_priced, known)
            model.context.worst_case = WorstCase(known.price)
        if suite.run.max_cost is None:
            continue
        said = check_cap(model.spec.model, known.price, model.params, judge=model.is_judge)
        if said is not None:
            problems.append(model.say(said))
    if problems:
        raise SuiteError(problems)
    return found


def _priced(known: KnownPrice, endpoint: Any) -> PricedEndpoint:
    return PricedEndpoint(endpoint, known)


def add_spent(row: Row, spent: dict[Side, float]) -> None:
    """Count in what a row of the row log had cost."""
    if isinstance(row.answer, Completion):
        spent["targets"] += row.answer.cost_usd or 0.0
    spent["judges"] += sum(call.cost_usd or 0.0 for cell in row.cells.values() for call in cell.calls)
