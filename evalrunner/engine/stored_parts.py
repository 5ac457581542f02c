"""What `run.json` says of a stored run's scorers and samples, as the parts that count its rows take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalrunner.domain import Declaration
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.measures import Measure
from evalrunner.stats.summary import Design


def stored_measures(run: Mapping[str, Any]) -> tuple[Measure, ...]:
    """The scorers of a stored run with what they declared."""
    found: list[Measure] = []
    for name, said in run["scorers"].items():
        low, high = said["range"]
        kept = (
            "version",
            "backend",
            "higher_is_better",
            "binary",
            "unit",
            "threshold",
            "needs_answer",
            "needs_expected",
            "headline",
        )
        declared = {key: said[key] for key in kept}
        found.append(Measure(name, Declaration(low=low, high=high, aggregates=tuple(said["aggregates"]), **declared)))
    return tuple(found)


def stored_design(run: Mapping[str, Any]) -> Design:
    """How the samples of a stored run are put together."""
    return Design(
        reducers=tuple(parse_reducer(name) for name in run.get("reducers", ["mean"])),
        cluster=run.get("cluster"),
        slices=tuple(run.get("slices", ())),
        seed=run["seed"],
    )
