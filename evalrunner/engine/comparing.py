"""The targets of one run side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from evalrunner.domain import Metric
from evalrunner.engine.plan import Plan
from evalrunner.engine.provenance import provenance_of_plan
from evalrunner.engine.row_usage import RowUsage
from evalrunner.runs.provenance import part_differences
from evalrunner.stats.summary import Summary

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison  # imported where there is something to compare


def compare_targets(
    plan: Plan, summary: Summary, known: Mapping[str, Sequence[Metric]], usage: RowUsage
) -> Comparison | None:
    """The comparison of a run's targets, None where there is but one. `known` holds all metrics of each.

    Models are those that the rows tell of, so that a run that was broken off comes to the same in the end.
    """
    if len(plan.targets) < 2:
        return None
    from evalrunner.compare.compare import compare
    from evalrunner.compare.result import Candidate

    defined = provenance_of_plan(plan).definition()["targets"]
    first = defined[plan.targets[0].name]
    candidates = [
        Candidate(
            name=target.name,
            target=target.name,
            models=_names(target.model, usage.of_target(target.name).served_models),
            differs=tuple(part_differences(first, defined[target.name])),
        )
        for target in plan.targets
    ]
    judges = {
        scorer.bound.name: _names(
            scorer.judge.name, {scorer.judge.model, *usage.judges[scorer.bound.name].served_models}
        )
        for scorer in plan.scorers
        if scorer.judge is not None
    }
    return compare(summary, candidates, known, judges=judges)


def _names(name: str | None, others: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, [name, *sorted(others)])))
