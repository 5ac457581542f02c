"""Models of a run that have a date from which their provider no longer serves them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from evalrunner.endpoints.pricing import price_from_table
from evalrunner.engine.plan import Plan
from evalrunner.formatting import one_line


def deprecation_notices(plan: Plan, *, today: date | None = None) -> Iterator[str]:
    """A sentence for each target, judge and baseline whose model retires: by its server's list, else LiteLLM's table.

    No server is asked: the dates are those that came with the prices.
    """
    today = datetime.now(UTC).date() if today is None else today
    for model in plan.models:
        known = plan.prices.get((model.context.side, model.name))
        retires = None if known is None else known.retires or (known.price and known.price.retires)
        retires = retires or retirement(model.spec.model)
        if retires is not None:
            kind = "target" if not model.is_judge else "judge of" if model.chats else "model of"
            yield _notice(f"{kind} {one_line(model.name, 60)!r}", model.spec.model, retires, today)
    for name, baseline in plan.baselines.items():
        for target in baseline.head.provenance.targets.values():
            named = dict.fromkeys(filter(None, (target.model, *target.served_models)))
            dates = [(name_of_model, found) for name_of_model in named if (found := retirement(name_of_model))]
            for name_of_model, found in dates[:1]:
                yield _notice(f"baseline {one_line(name, 60)!r}", name_of_model, found, today)


def retirement(model: str) -> date | None:
    """The date from which a model is no longer served, by LiteLLM's table, None if it has none or is not installed."""
    price = price_from_table(model)
    return None if price is None else price.retires


def _notice(whose: str, model: str, retires: date, today: date) -> str:
    verb = "retires" if retires > today else "was to retire"
    return f"{whose}: {one_line(model, 80)} {verb} on {retires.isoformat()}; choose its successor in time"
