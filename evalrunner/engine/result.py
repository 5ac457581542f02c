"""The result of a run: verdict, metrics and counts per target, a summary of its errors, and its records for the disk.

Calls and money are counted in four places, each for its own question:

- `MiddlewareStack` counts the calls of this process, retries included (`CallTally`; `targets` and `judges` of `run.json`).
- `RowUsage`, here, counts what the rows took, so that a resumed run comes to the same total (`usage` of `metrics.json`).
- `Summary` makes the metrics `cost_usd` and `token_count`: a distribution over samples, with its interval.
- `Budget` adds up what a cost cap has reserved and spent, before a call is made.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.domain import (
    Completion,
    EpochVariance,
    Failure,
    FailureKind,
    GateResult,
    JudgeCall,
    Metric,
    Row,
)
from evalrunner.engine.plan import NOT_CHECKED, Plan, served_provenance, tested_provenance
from evalrunner.engine.runner import RunState, ended_in_error
from evalrunner.formatting import counted, number
from evalrunner.gates.check import BaselineContext, check_gates, run_verdict
from evalrunner.middleware.stack import CallTally
from evalrunner.middleware.usage import Usage
from evalrunner.runs.provenance import TargetProvenance, source_of
from evalrunner.runs.record import (
    DecidedRecord,
    JudgeRecord,
    LookRecord,
    MetricsRecord,
    RunRecord,
    RunStatus,
    SanityCheckRecord,
    ScoredFrom,
    SideRecord,
    TargetMetrics,
    TargetRecord,
    UsageRecord,
    field_values,
)
from evalrunner.runs.row_log import read_rows
from evalrunner.spelling import exact_json
from evalrunner.stats.summary import Summary, summarize
from evalrunner.suite.options import RunOptions, options_data
from evalrunner.verdicts import INTERRUPTED, Verdict

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison
    from evalrunner.engine.judge import JudgeSession
    from evalrunner.gates.sequential import RunMonitor
    from evalrunner.targets.simulated_user import SimulatedUser

PACKAGES = ("evalrunner", "autoevals", "litellm", "xllamacpp", "alt-profanity-check", "scikit-learn")

NO_REASON = "no reason given"
MAX_FAILURE_KINDS = 3  # reported for one target

NOT_CALLED: frozenset[FailureKind] = frozenset({"function", "missing"})


@dataclass(frozen=True, slots=True)
class TargetResult:
    """The numbers of one target. `usage` is what its rows took, `failed` counts failed rows.

    `calls` counts the calls of this process, retries and cache hits included.
    """

    metrics: tuple[Metric, ...]
    usage: Usage
    answered: int
    failed: int
    calls: CallTally = field(default_factory=CallTally)
    epochs: tuple[EpochVariance, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that ended. `stopped` says in one sentence why it ended early; `in_error` counts rows with an error.

    `duration_s` is that of this process, so a resumed run started earlier. `comparison` compares several targets,
    `record` is the content of `run.json`. `decided` is set if the run ended because every gate was decided,
    `looks` are the verdicts that were given so far.
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
    decided: DecidedRecord | None = None
    looks: tuple[LookRecord, ...] = ()

    @property
    def status(self) -> RunStatus:
        """`finished`, `stopped` if the run ended early, or `interrupted`."""
        if self.exit_code == INTERRUPTED:
            return "interrupted"
        return "finished" if self.stopped is None else "stopped"


def conclude(
    plan: Plan, state: RunState, usage: RowUsage, summary: Summary, *, gates: bool, first_look: LookRecord | None = None
) -> tuple[tuple[GateResult, ...], Verdict, int]:
    """The gate results of a run, its verdict and its exit code. `first_look` is its first verdict, if that had fewer rows."""
    context = baseline_context(plan)
    if first_look is not None:
        from evalrunner.gates.sequential import SequentialContext

        context = replace(context, sequential=SequentialContext(first_look=first_look))
    results = check_gates(plan.gates, summary, context) if gates else ()
    unfinished = stopped_early(plan, state, usage) is not None
    return results, *run_verdict(results, unfinished=unfinished, interrupted=state.interrupted)


def baseline_context(plan: Plan) -> BaselineContext:
    """The sides of gates on a baseline, with the models that have served the plan so far, and the order of its samples."""
    if not plan.baselines:
        return BaselineContext(random_order=plan.random_order)
    from evalrunner.gates.pairing import CandidateRun

    return BaselineContext(
        CandidateRun(tested_provenance(plan), plan.keys, plan.limited), plan.baselines, random_order=plan.random_order
    )


def current_look(plan: Plan, rows: int, *, decided: bool) -> LookRecord | None:
    """The look at the data that a verdict now is; None where the run is unfinished, so that it has no verdict to trust."""
    if rows < plan.rows and not decided:
        return None
    epochs = plan.suite.run.epochs
    return LookRecord(samples=rows // (len(plan.targets) * epochs), epochs=epochs, at=datetime.now(UTC))


def stopped_early(plan: Plan, state: RunState, usage: RowUsage) -> str | None:
    """Why a run ended early, in one sentence, or None: a limit, an aborted target or judge, no answer at all."""
    reasons: list[str] = []
    if plan.calls.stop.reason is not None:
        reasons.append(plan.calls.stop.reason)
    for target in plan.targets:
        failure, counts = target.breaker.open_reason, usage.counts[target.name]
        if failure is not None:
            reasons.append(f"target {target.name!r} aborted: {failure.message}")
        elif counts.failed and not counts.answered and not state.interrupted:
            rows = "its only row" if counts.failed == 1 else f"any of its {counts.failed:,} rows"
            reasons.append(f"target {target.name!r} did not answer {rows}")
    for scorer in plan.scorers:
        for judge in () if scorer.panel is None or scorer.panel.decides else scorer.panel.aborted:
            failure = judge.open_reason
            assert failure is not None  # it was aborted
            reasons.append(f"{judge.role} {judge.name!r} of {scorer.bound.name!r} aborted: {failure.message}")
    return "; ".join(reasons) or None


def aborted_judge_notices(plan: Plan) -> Iterator[str]:
    """Judges of panels that were aborted while the others went on deciding."""
    panels = [scorer.panel for scorer in plan.scorers if scorer.panel is not None]
    for panel in panels:
        for judge in panel.aborted if panel.decides else ():
            failure = judge.open_reason
            assert failure is not None  # it was aborted
            rest = len(panel.sessions) - len(panel.aborted)
            yield f"{judge.role} of {judge.label} aborted: {failure.message}; the other {rest} judges decide"


def decided_record(plan: Plan, usage: RowUsage, rows: int, monitor: RunMonitor | None) -> DecidedRecord | None:
    """What was saved because the gates are decided; None if all rows were run, or if something else ended the run."""
    if monitor is None or rows >= plan.rows or plan.calls.stop.count:
        return None
    costs = [part.cost_usd for part in (*usage.targets.values(), *usage.judges.values(), usage.user)]
    saved = math.fsum(costs) / rows * (plan.rows - rows) if rows else 0.0
    return DecidedRecord(rows=rows, rows_planned=plan.rows, saved_usd=saved or None, units=monitor.units)


def early_stop_notices(plan: Plan, decided: DecidedRecord | None) -> Iterator[str]:
    """What a run that may stop early tells: what it saved, or which gates made it run to its end."""
    if decided is not None:
        saved = counted(decided.rows_planned - decided.rows, "row")
        if decided.saved_usd is not None:
            saved += f" and about {number(decided.saved_usd, 'USD')}"
        verb = "were" if decided.rows_planned - decided.rows > 1 or decided.saved_usd is not None else "was"
        yield (
            f"every gate was decided after {decided.rows:,} of {counted(decided.rows_planned, 'row')}; {saved} {verb} saved"
        )
    if plan.suite.run.stop_early and (others := [gate.spec.text for gate in plan.gates if not gate.spec.sequential]):
        yield f"stop_early has no effect: {', '.join(others)} {'need' if len(others) > 1 else 'needs'} all samples"


def started_record(plan: Plan, options: RunOptions, *, run_id: str, started_at: datetime) -> RunRecord:
    """The record of a run that starts, with status `running`."""
    suite = plan.suite
    return RunRecord(
        **{**field_values(plan.provenance), **_counted_parts(plan)},
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
        headline=plan.headline,
        columns=tuple(plan.scan.columns),
        dataset_from=plan.dataset.origin,
        scored_from=_scored_from(plan),
        versions=package_versions(),
        source=source_of(suite.folder, os.environ),
        options=options_data(options),
        resolved=json.loads(exact_json(suite.resolved, default=str)),
    )


def ended_record(started: RunRecord, result: RunResult) -> RunRecord:
    """The record of a run that ended, with its calls, served models and verdict."""
    return replace(
        started,
        **_counted_parts(result.plan),
        status=result.status,
        finished_at=result.finished_at,
        duration_s=round(result.duration_s, 3),
        rows=result.rows,
        rows_in_error=result.in_error,
        verdict=result.verdict,
        exit_code=result.exit_code,
        stopped=result.stopped,
        decided=result.decided,
        looks=result.looks,
        notices=tuple(result.notices),
    )


def _counted_parts(plan: Plan) -> dict[str, Any]:
    """Targets and judges with the models that served them and the calls counted so far."""
    provenance = served_provenance(plan)
    judges = plan.judges
    return {
        "targets": {
            target.name: TargetRecord.of(provenance.targets[target.name], target.calls.usage) for target in plan.targets
        },
        "judges": {
            name: JudgeRecord.of(provenance.judges[name], judge.calls.usage, _sanity_check(judge))
            for name, judge in judges.items()
        },
    }


def _sanity_check(judge: JudgeSession | SimulatedUser) -> SanityCheckRecord | None:
    check = judge.check
    if check is None:
        return None
    failure = None if check.failure is None else str(check.failure)
    return SanityCheckRecord(
        right=check.right,
        total=check.total,
        good=SideRecord(right=check.good.right, total=check.good.total, needed=check.good.needed),
        bad=SideRecord(right=check.bad.right, total=check.bad.total, needed=check.bad.needed),
        coin=check.coin,
        passed=check.passed,
        failure=failure,
        wrong=check.wrong,
        unread=check.unread,
        note=check.note,
    )


def _scored_from(plan: Plan) -> ScoredFrom | None:
    stored = plan.stored
    if stored is None:
        return None
    started_at = None if stored.candidate is None else stored.candidate.started_at
    targets = {name: _without_calls(target) for name, target in stored.provenance.targets.items()}
    return ScoredFrom(run_id=stored.run_id, path=stored.label, targets=targets, started_at=started_at)


def _without_calls(target: TargetProvenance) -> TargetProvenance:
    """What a target was, without the calls made for it."""
    return TargetProvenance(**{item.name: getattr(target, item.name) for item in fields(TargetProvenance)})


def unfinished_metrics(run: RunRecord, folder: Path) -> dict[str, tuple[Metric, ...]]:
    """The metrics of a stored run that did not finish, by target, from the rows on disk."""
    names = list(run.targets)
    summary = summarize(
        read_rows(folder), run.measures, names, epochs=run.epochs, streaming=run.streaming, design=run.design,
        samples=run.dataset.rows,
    )  # fmt: skip
    return {name: summary.all_metrics(name) for name in names}


def metrics_record(result: RunResult) -> MetricsRecord:
    """The numbers of a run, for `metrics.json`."""
    return MetricsRecord(
        run_id=result.run_id,
        suite=result.suite,
        verdict=result.verdict,
        exit_code=result.exit_code,
        targets={
            name: TargetMetrics(metrics=target.metrics, usage=UsageRecord.of(target.usage), epochs=target.epochs)
            for name, target in result.targets.items()
        },
        gates=result.gates,
        decided=result.decided,
        comparison=result.comparison,
    )


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


@dataclass(slots=True)
class ErrorGroup:
    """Errors of one kind: how many, and the first one as an example."""

    sample_id: str
    message: str
    reason: str | None = None
    count: int = 0


@dataclass(slots=True)
class ErrorSummary:
    """Errors of a run: failed calls by target and kind, scorer errors and unreadable judge verdicts by scorer."""

    failures: dict[str, dict[str, ErrorGroup]] = field(default_factory=lambda: defaultdict(dict))
    scorer_errors: dict[str, ErrorGroup] = field(default_factory=dict)
    unreadable: dict[str, ErrorGroup] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count the errors of one row; of a failed call the failure only. Judges that were not checked report that themselves."""
        answer = row.answer
        if isinstance(answer, Failure):
            _count_error(self.failures[row.target], answer.kind, row, answer.message)
            return
        for name, cell in row.cells.items():
            if cell.state == "error" and NOT_CHECKED not in (cell.reason or ""):
                _count_error(self.scorer_errors, name, row, cell.message or NO_REASON, cell.reason)
            elif cell.state == "unscored" and cell.cause == "judge":
                _count_error(self.unreadable, name, row, cell.reason or NO_REASON)

    def lines(self, *, known: str = "") -> Iterator[str]:
        """A sentence for each kind, the most frequent of a target first; none for what `known` already says."""
        for target, kinds in self.failures.items():
            for kind, group in sorted(kinds.items(), key=lambda item: -item[1].count)[:MAX_FAILURE_KINDS]:
                if group.message not in known:
                    yield f"{target}: {counted(group.count, 'row')} failed ({kind}), {_example(group)}"
        for scorer, group in self.scorer_errors.items():
            if (group.reason or group.message) not in known:
                yield f"{scorer}: {counted(group.count, 'score')} in error, {_example(group)}"
        for scorer, group in self.unreadable.items():
            yield f"{scorer}: {counted(group.count, 'verdict')} without a score, {_example(group)}"


def _count_error(groups: dict[str, ErrorGroup], name: str, row: Row, message: str, reason: str | None = None) -> None:
    group = groups.setdefault(name, ErrorGroup(row.sample.id, message, reason))
    group.count += 1


def _example(group: ErrorGroup) -> str:
    return f"e.g. {group.sample_id!r}: {group.message}"


@dataclass(slots=True)
class RowCounts:
    """How many rows of a target were answered and how many failed."""

    answered: int = 0
    failed: int = 0


@dataclass(slots=True)
class RowUsage:
    """What the rows took, by target that is called over the network and by scorer that asks a judge.

    It is counted from the rows alone, so a run that was resumed comes to the same as one that was not. `in_error` counts
    the rows that lack their answer or a score because of an error; `errors` summarizes those errors.
    """

    targets: dict[str, Usage]
    judges: dict[str, Usage]
    counts: dict[str, RowCounts]
    user: Usage = field(default_factory=Usage)
    in_error: int = 0
    errors: ErrorSummary = field(default_factory=ErrorSummary)

    @classmethod
    def of(cls, plan: Plan) -> RowUsage:
        """The totals of a plan before its first row."""
        return cls(
            {target.name: Usage() for target in plan.targets if target.host is not None},
            {scorer.bound.name: Usage() for scorer in plan.scorers if scorer.judges},
            {target.name: RowCounts() for target in plan.targets},
        )

    def add(self, row: Row) -> None:
        """Count one row; a cached answer took nothing."""
        counts = self.counts[row.target]
        counts.failed += (failed := isinstance(row.answer, Failure))
        counts.answered += not failed
        in_error = failed or ended_in_error(row)
        self.in_error += in_error
        if in_error or self.judges:  # a judge's verdict may be unreadable
            self.errors.add(row)
        target = self.targets.get(row.target)
        if target is not None and _was_called(row.answer):
            target.add(row.answer)
        if isinstance(row.answer, Completion):
            _add_calls(self.user, row.answer.user_calls)
        for name, usage in self.judges.items():
            _add_calls(usage, row.cells[name].calls)

    def of_target(self, name: str) -> Usage:
        """The totals of a target; zero for one that is not called over the network."""
        return self.targets.get(name) or Usage()


def _was_called(answer: Completion | Failure) -> bool:
    if isinstance(answer, Failure):
        return answer.kind not in NOT_CALLED and not answer.of_user
    return not answer.cached


def _add_calls(usage: Usage, calls: Iterable[JudgeCall]) -> None:
    for call in calls:
        if call.cached:
            continue
        usage.add(
            Completion(
                "", input_tokens=call.input_tokens, output_tokens=call.output_tokens, cost_usd=call.cost_usd,
                served_model=call.model,
            )
        )  # fmt: skip
