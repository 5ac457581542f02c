"""What a run came to: verdict, metrics and counts per target, and where it went wrong, if it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evalrunner.domain import Failure, GateResult, Metric
from evalrunner.engine.fingerprints import baseline_context_of
from evalrunner.engine.plan import Plan
from evalrunner.engine.row_usage import RowUsage
from evalrunner.engine.run_state import RunState
from evalrunner.gates.check import check_gates, run_verdict
from evalrunner.middleware.stack import CallTally
from evalrunner.middleware.usage import Usage
from evalrunner.stats.summary import Summary
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One target's numbers. `usage` is what its rows took, `ended` is why it was given up, `failed` counts failed rows.

    `calls` is what this process did for them: tries, answers that were kept from before.
    """

    metrics: tuple[Metric, ...]
    usage: Usage
    answered: int
    failed: int
    ended: Failure | None = None
    calls: CallTally = field(default_factory=CallTally)


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run. `stopped` says in one sentence why it ended early, `notices` what else is worth knowing.

    `duration_s` is that of this process: a run that went on began earlier. `comparison` holds several targets side by side.
    """

    suite: str
    run_id: str
    folder: Path
    plan: Plan
    targets: Mapping[str, TargetResult]
    gates: tuple[GateResult, ...]
    verdict: Verdict
    exit_code: int
    rows: int
    started_at: datetime
    finished_at: datetime
    duration_s: float
    stopped: str | None = None
    notices: tuple[str, ...] = field(default=())
    in_error: int = 0
    comparison: Comparison | None = None

    @property
    def unfinished(self) -> int:
        """Rows that were planned and are not there."""
        return max(0, self.plan.rows - self.rows)


def conclude(
    plan: Plan, state: RunState, usage: RowUsage, summary: Summary, *, gates: bool
) -> tuple[tuple[GateResult, ...], Verdict, int]:
    """The verdicts of a run's gates, that of the run, and its exit code."""
    results = check_gates(plan.gates, summary, baseline_context_of(plan)) if gates else ()
    unfinished = stopped_early(plan, state, usage) is not None
    return results, *run_verdict(results, unfinished=unfinished, interrupted=state.interrupted)


def stopped_early(plan: Plan, state: RunState, usage: RowUsage) -> str | None:
    """Why a run did not do all it was to do, in one sentence, or None: a limit, an endpoint given up, no answer at all."""
    said: list[str] = []
    if plan.calls.stop.reason is not None:
        said.append(plan.calls.stop.reason)
    for target in plan.targets:
        breaker, counts = target.breaker, usage.counts[target.name]
        if breaker.open_reason is not None:
            said.append(f"target {target.name!r} was given up: {breaker.open_reason.message}")
        elif counts.failed and not counts.answered and not state.interrupted:
            none = (
                "did not answer its only row" if counts.failed == 1 else f"answered none of its {counts.failed:,} rows"
            )
            said.append(f"target {target.name!r} {none}")
    for scorer in plan.scorers:
        if scorer.judge is not None and scorer.judge.ended is not None:
            said.append(
                f"the judge of {scorer.bound.name!r}, {scorer.judge.name}, was given up: {scorer.judge.ended.message}"
            )
    return "; ".join(said) or None
