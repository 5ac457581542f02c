"""What a run's baseline has for each of its rows, so that reports can show the rows that got worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.baselines.file import Baseline, BaselineRow, sample_key
from evalrunner.baselines.resolve import BadBaselineReference, BaselineResolver
from evalrunner.domain import Row
from evalrunner.engine.plan import Plan
from evalrunner.errors import EvalrunError
from evalrunner.reports.worst_rows import BaselineLookup, BaselineScores

if TYPE_CHECKING:
    from evalrunner.reports.view import RunView


def baseline_lookup_of_plan(plan: Plan) -> BaselineLookup | None:
    """What the first baseline that the gates of a plan name has of a row; None where there is none."""
    baseline = next(iter(plan.baselines.values()), None)
    return None if baseline is None else baseline_lookup(baseline, [target.name for target in plan.targets])


def baseline_lookup_of_stored(view: RunView, runs: Path) -> BaselineLookup | None:
    """The same for a stored run, from the baseline of its first gate that has one, if that is still there."""
    names = [gate.baseline.name for gate in view.gates if gate.baseline is not None]
    if not names or view.suite_file is None:
        return None
    try:
        baseline = BaselineResolver(view.suite_file.parent, view.suite, runs).find(names[0])
    except (EvalrunError, BadBaselineReference):  # a report shows the worst rows then
        return None
    return None if baseline is None else baseline_lookup(baseline, list(view.targets))


def baseline_lookup(baseline: Baseline, targets: Sequence[str]) -> BaselineLookup:
    """What a baseline has of a row, where it has the same sample: its scores, averaged over epochs, and an output."""

    def find(row: Row) -> BaselineScores | None:
        target = baseline.target_for(row.target, targets)
        found = baseline.rows.get((target, row.sample.id)) if target is not None else None
        if found is None or found.key != sample_key(row.sample):
            return None
        return BaselineScores(_means(found), _output(found.kept, row.epoch))

    return find


def _means(found: BaselineRow) -> dict[str, float]:
    known = {name: [value for value in values if value is not None] for name, values in found.scores.items()}
    return {name: math.fsum(values) / len(values) for name, values in known.items() if values}


def _output(kept: Mapping[str, Any] | None, epoch: int) -> str | None:
    outputs = kept["outputs"] if kept is not None else []
    answer = outputs[epoch - 1] if epoch <= len(outputs) else None
    return str(answer["text"]) if answer is not None else None
