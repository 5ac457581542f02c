"""What a run came to: verdict, metrics and counts per target, and where it went wrong, if it did."""

from __future__ import annotations

import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.domain import Cell, Completion, Failure, FailureKind, GateResult, Metric, Row
from evalrunner.engine.judge import NOT_CHECKED, JudgeSession
from evalrunner.engine.plan import Plan, provenance_of_plan, tested_provenance
from evalrunner.engine.runner import RunState, ended_in_error
from evalrunner.gates.check import Comparison as GateComparison
from evalrunner.gates.check import check_gates, run_verdict
from evalrunner.gates.regression import CandidateRun
from evalrunner.middleware.stack import CallTally
from evalrunner.middleware.usage import Usage
from evalrunner.runs.provenance import Provenance, TargetProvenance, source_of
from evalrunner.runs.record import (
    JudgeRecord,
    MetricsRecord,
    RunRecord,
    RunStatus,
    ScoredFrom,
    SelfCheckRecord,
    TargetMetrics,
    TargetRecord,
    UsageRecord,
    field_values,
)
from evalrunner.stats.summary import Summary
from evalrunner.suite.options import RunOptions, options_data
from evalrunner.verdicts import INTERRUPTED, Verdict

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison

PACKAGES = ("evalrunner", "autoevals", "litellm", "xllamacpp", "alt-profanity-check", "scikit-learn")


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

    `duration_s` is that of this process: a run that went on began earlier. `comparison` holds several targets side by side,
    `record` is what `run.json` holds.
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
    record: RunRecord | None = None

    @property
    def status(self) -> RunStatus:
        """`finished`, `stopped` where the run ended early, or `interrupted`."""
        if self.exit_code == INTERRUPTED:
            return "interrupted"
        return "finished" if self.stopped is None else "stopped"

    @property
    def unfinished(self) -> int:
        """Rows that were planned and are not there."""
        return max(0, self.plan.rows - self.rows)


def conclude(
    plan: Plan, state: RunState, usage: RowUsage, summary: Summary, *, gates: bool
) -> tuple[tuple[GateResult, ...], Verdict, int]:
    """The verdicts of a run's gates, that of the run, and its exit code."""
    results = check_gates(plan.gates, summary, _compared(plan)) if gates else ()
    unfinished = stopped_early(plan, state, usage) is not None
    return results, *run_verdict(results, unfinished=unfinished, interrupted=state.interrupted)


def _compared(plan: Plan) -> GateComparison:
    """What gates on a baseline compare; the models that served the plan are known by now."""
    if not plan.baselines:
        return GateComparison()
    return GateComparison(CandidateRun(tested_provenance(plan), plan.keys), plan.baselines)


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


def started_record(plan: Plan, options: RunOptions, *, run_id: str, started_at: datetime) -> RunRecord:
    """The record of a run that starts, status `running`."""
    suite, provenance = plan.suite, provenance_of_plan(plan)
    return RunRecord(
        **{**field_values(provenance), "targets": {}, "judges": {}, **_counted_parts(plan, provenance)},
        run_id=run_id,
        suite_file=suite.path,
        status="running",
        started_at=started_at,
        rows_planned=plan.rows,
        notices=tuple(plan.scan.notices),
        streaming=suite.streaming,
        reducers=tuple(reducer.name for reducer in plan.design.reducers),
        cluster=plan.design.cluster,
        slices=tuple(plan.design.slices),
        columns=tuple(plan.scan.columns),
        dataset_from=plan.dataset.origin,
        scored_from=_scored_from(plan),
        versions=package_versions(),
        source=source_of(suite.folder, os.environ),
        options=options_data(options),
        resolved=json.loads(json.dumps(suite.resolved, default=str)),
    )


def ended_record(started: RunRecord, result: RunResult) -> RunRecord:
    """The record of a run that ended, with its calls, served models and verdict."""
    return replace(
        started,
        **_counted_parts(result.plan, provenance_of_plan(result.plan)),
        status=result.status,
        finished_at=result.finished_at,
        duration_s=round(result.duration_s, 3),
        rows=result.rows,
        rows_in_error=result.in_error,
        verdict=result.verdict,
        exit_code=result.exit_code,
        stopped=result.stopped,
        notices=tuple(result.notices),
    )


def _counted_parts(plan: Plan, provenance: Provenance) -> dict[str, Any]:
    """Targets and judges with the calls that were counted by now."""
    judges = {scorer.bound.name: scorer.judge for scorer in plan.scorers if scorer.judge is not None}
    return {
        "targets": {
            target.name: TargetRecord.of(provenance.targets[target.name], target.calls.usage) for target in plan.targets
        },
        "judges": {
            name: JudgeRecord.of(provenance.judges[name], judge.calls.usage, _self_check(judge))
            for name, judge in judges.items()
        },
    }


def _self_check(judge: JudgeSession) -> SelfCheckRecord | None:
    check = judge.check
    if check is None:
        return None
    failure = None if check.failure is None else str(check.failure)
    return SelfCheckRecord(
        right=check.right,
        total=check.total,
        needed=check.needed,
        passed=check.passed,
        failure=failure,
        wrong=check.wrong,
    )


def _scored_from(plan: Plan) -> ScoredFrom | None:
    stored = plan.stored
    if stored is None:
        return None
    started_at = None if stored.judged is None else stored.judged.started_at
    targets = {name: TargetProvenance(**_target_fields(target)) for name, target in stored.provenance.targets.items()}
    return ScoredFrom(run_id=stored.run_id, path=stored.label, targets=targets, started_at=started_at)


def _target_fields(target: TargetProvenance) -> dict[str, Any]:
    """The fields that say what a target was, without the calls made for it."""
    return {item.name: getattr(target, item.name) for item in fields(TargetProvenance)}


def metrics_record(result: RunResult) -> MetricsRecord:
    """The numbers of a run."""
    return MetricsRecord(
        run_id=result.run_id,
        suite=result.suite,
        verdict=result.verdict,
        exit_code=result.exit_code,
        targets={
            name: TargetMetrics(metrics=target.metrics, usage=UsageRecord.of(target.usage))
            for name, target in result.targets.items()
        },
        gates=result.gates,
        comparison=result.comparison,
    )


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


NO_REASON = "no reason was given"
KINDS = 3  # of failures that are told of one target


@dataclass(slots=True)
class ErrorGroup:
    """How often it happened, and what was said the first time."""

    row: str
    said: str
    count: int = 0


@dataclass(slots=True)
class ErrorSummary:
    """Failures of a run by target and kind, errors of its scorers and verdicts that could not be read by scorer."""

    failed: dict[str, dict[str, ErrorGroup]] = field(default_factory=lambda: defaultdict(dict))
    errors: dict[str, ErrorGroup] = field(default_factory=dict)
    unread: dict[str, ErrorGroup] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count what went wrong in one row; where its call failed, that alone. Judges say themselves what kept them."""
        answer = row.answer
        if isinstance(answer, Failure):
            _count(self.failed[row.target], answer.kind, row, answer.message)
            return
        for name, cell in row.cells.items():
            if cell.state == "error" and NOT_CHECKED not in (cell.reason or ""):
                _count(self.errors, name, row, cell.message or NO_REASON)
            elif cell.state == "unscored" and cell.cause == "judge":
                _count(self.unread, name, row, cell.reason or NO_REASON)

    def lines(self, *, known: str = "") -> Iterator[str]:
        """A sentence for each kind, the most frequent of a target first; none for what `known` says already."""
        for target, kinds in self.failed.items():
            for kind, trouble in sorted(kinds.items(), key=lambda item: -item[1].count)[:KINDS]:
                if trouble.said in known:
                    continue
                yield f"{target}: {_counted(trouble.count, 'row')} failed ({kind}), such as {trouble.row!r}: {trouble.said}"
        for scorer, trouble in self.errors.items():
            kind, _, said = trouble.said.partition(": ")
            if (said or kind) in known:
                continue
            yield f"{scorer}: {_counted(trouble.count, 'score')} in error, such as that of {trouble.row!r}: {trouble.said}"
        for scorer, trouble in self.unread.items():
            yield f"{scorer}: {_counted(trouble.count, 'verdict')} without a score, such as that on {trouble.row!r}: {trouble.said}"


def _count(found: dict[str, ErrorGroup], name: str, row: Row, said: str) -> None:
    trouble = found.get(name)
    if trouble is None:
        trouble = found[name] = ErrorGroup(row.sample.id, said)
    trouble.count += 1


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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
