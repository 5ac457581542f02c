"""Check the models that the README, the docs, the suites and messages name: none retires within six months.

    make models

The dates are those of LiteLLM's table, which is installed with the package. A name without a date is checked by its dated
versions (`gpt-5-mini` by `gpt-5-mini-2025-08-07`): if all of them retire, so does what the name stands for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from evalrunner.endpoints.pricing import price_from_table, price_names, price_of
from evalrunner.example_models import EXAMPLE_MODELS

HORIZON = timedelta(days=183)


def problems(models: tuple[str, ...], today: date) -> Iterator[str]:
    """A sentence for each model that is unknown or retires before the horizon."""
    if not price_names():
        yield "litellm is not installed, so no date is known: pip install litellm"
        return
    for model in models:
        price = price_from_table(model)
        if price is None:
            yield f"{model}: not in LiteLLM's table"
            continue
        retires = price.retires or last_version_retires(model)
        if retires is not None and retires - today < HORIZON:
            yield f"{model}: retires on {retires.isoformat()}; name its successor in evalrunner/example_models.py"


def last_version_retires(model: str) -> date | None:
    """The date of the dated version of a model that retires last, None if one of them has no date."""
    provider, _, name = map(re.escape, model.partition("/"))
    dated = re.compile(rf"(?:{provider}/)?{name}-(?:\d{{8}}|\d{{4}}-\d{{2}}-\d{{2}})")
    found = [price_of(known) for known in price_names() if dated.fullmatch(known)]
    dates = [price.retires for price in found if price is not None and price.retires is not None]
    return max(dates) if dates and len(dates) == len(found) else None


def main() -> int:
    found = list(problems(EXAMPLE_MODELS, datetime.now(UTC).date()))
    print("\n".join(found) or f"{len(EXAMPLE_MODELS)} models, none retires within six months")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
