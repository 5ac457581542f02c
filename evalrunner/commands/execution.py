"""One run in progress: its folder, its counters, its gates and its files, from the first row to the result."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from evalrunner.clock import CLOCK
from evalrunner.datasets.stdin import store_stdin
from evalrunner.domain import EpochVariance, Metric, Reporter, Row
from evalrunner.engine.deprecation import deprecation_notices
from evalrunner.engine.jobs import remaining_jobs
from evalrunner.engine.label_assembly import label_matcher
from evalrunner.engine.plan import Job, Plan
from evalrunner.engine.result import (
    RowUsage,
    RunResult,
    TargetResult,
    aborted_judge_notices,
    baseline_context,
    conclude,
    current_look,
    decided_record,
    early_stop_notices,
    ended_record,
    started_record,
    stopped_early,
)
from evalrunner.engine.runner import RunState, run_plan
from evalrunner.engine.spending import add_spent
from evalrunner.errors import NotStartedError, RunError, exhausted
from evalrunner.redact import redact
from evalrunner.reports.outputs import open_outputs
from evalrunner.reports.view import RunView, view_at_start, view_of
from evalrunner.runs.folder import ROWS_FILE, RUN_FILE, RunFolder, RunLock, create_run_folder
from evalrunner.runs.provenance import part_differences
from evalrunner.runs.record import RunRecord, add_look, first_look
from evalrunner.runs.row_log import RowLog, finished_rows
from evalrunner.stats.summary import Summary
from evalrunner.storage import is_file, working_folder_restored
from evalrunner.suite.options import RunOptions

if TYPE_CHECKING:
    from evalrunner.commands.failed import RepeatTally
    from evalrunner.commands.resume import ResumeState
    from evalrunner.compare.result import Comparison  # imported where there is something to compare
    from evalrunner.gates.sequential import RunMonitor
    from evalrunner.middleware.budget import Side

NOTHING = "; nothing was called"


@runtime_checkable
class ReplayReporter(Protocol):
    """A reporter that also receives the rows of a resumed run from before its resume, after the new ones."""

    def on_replayed_row(self, row: Row, /) -> None: ...


async def execute(
    plan: Plan, options: RunOptions, reporters: Sequence[Reporter], resume_state: ResumeState | None = None
) -> RunResult:
    """The result of a run, with every file written. Raises RunError if the disk refuses."""
    if resume_state is not None:  # the caller holds its lock
        plan, folder = replace(plan, rows_before=plan.rows - resume_state.remaining), resume_state.folder
        with _system_errors(folder), plan.suite.run.egress.active():
            return await Execution(plan, options, reporters, folder, resume_state.started_at, resume_state).run()
    started_at = datetime.now(UTC)
    with new_run(plan, options, started_at) as folder, _system_errors(folder), plan.suite.run.egress.active():
        return await Execution(plan, options, reporters, folder, started_at).run()


@contextmanager
def new_run(plan: Plan, options: RunOptions, now: datetime) -> Iterator[RunFolder]:
    """A new run folder, locked, with the standard input that was read. It is removed if the run cannot start.

    Raises NotStartedError.
    """
    with nothing_called():
        folder = create_run_folder(options.output_dir, plan.suite.name, now=now)
    try:
        with contextlib.ExitStack() as stack:
            with nothing_called():
                stack.enter_context(RunLock(folder.path))
                if plan.dataset.spooled is not None:
                    store_stdin(plan.dataset.spooled, folder.path)
            yield folder
    except NotStartedError:
        shutil.rmtree(folder.path, ignore_errors=True)  # no row counts, and no file describes it
        raise


@contextmanager
def nothing_called() -> Iterator[None]:
    """Raise NotStartedError for what the system refuses before the first call."""
    try:
        yield
    except RunError as problem:
        raise NotStartedError(f"{problem}{NOTHING}") from None
    except OSError as refused:
        raise NotStartedError(f"{_refusal(refused)}{NOTHING}") from None


def _refusal(refused: OSError, where: Path | None = None) -> str:
    name = where if refused.filename is None else os.fsdecode(refused.filename)
    return f"{str(name)!r}: {refused.strerror or refused}" if name is not None else str(refused.strerror or refused)


@contextmanager
def _system_errors(folder: RunFolder) -> Iterator[None]:
    """Raise RunError for what the system refuses while a run is in progress, with the command to resume the run."""
    try:
        yield
    except RunError as problem:
        raise RunError(f"{problem}{_how_to_resume(folder)}") from problem
    except OSError as refused:
        raise RunError(f"{_refusal(refused, folder.path)}{_how_to_resume(folder)}") from refused
    except (MemoryError, ImportError, RuntimeError) as crash:
        if (reason := exhausted(crash)) is None:
            raise
        raise RunError(f"{reason}{_how_to_resume(folder)}") from crash


def _how_to_resume(folder: RunFolder) -> str:
    """The end of a sentence about a run that cannot continue: the command that does, if the run has begun."""
    if not is_file(folder.path / RUN_FILE) or not is_file(folder.path / ROWS_FILE):
        return ""
    return f"; finished rows are saved. Resume: evalrun --resume {shlex.quote(str(folder.path))}"


class Execution:
    """One run in progress: its folder, counters and reporters."""

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        reporters: Sequence[Reporter],
        folder: RunFolder,
        started_at: datetime,
        resume_state: ResumeState | None = None,
    ) -> None:
        names = [target.name for target in plan.targets]
        self.plan, self.options, self.reporters = plan, options, reporters
        self.folder, self.started_at, self.resume_state = folder, started_at, resume_state
        self.begun_at, self.started_s, self.rows = datetime.now(UTC), time.monotonic(), 0
        self.monitor: RunMonitor | None = None
        self.repeat: RepeatTally | None = _repeat_tally(plan)
        self.labels = label_matcher(plan.labels)
        self.summary = Summary(
            plan.measures, tuple(names), plan.suite.run.epochs, plan.suite.streaming, plan.design, plan.population,
            labels=self.labels,
        )  # fmt: skip
        self.usage = RowUsage.of(plan)
        self.record = started_record(plan, options, run_id=folder.id, started_at=started_at)
        if resume_state is not None:
            self.record = replace(self.record, looks=resume_state.looks)
        elif plan.stored is not None:
            self.record = replace(self.record, looks=plan.stored.looks)
        self.view = view_at_start(plan, folder, self.record)
        self.outputs = open_outputs(self.view, options.outputs, os.environ, rows=options.junit_rows)

    async def run(self) -> RunResult:
        """The result, with every file written. Raises RunError if the disk refuses, NotStartedError before the first call."""
        plan, folder = self.plan, self.folder
        with nothing_called():
            row_log = self._begin()
        try:
            with CLOCK.watching(plan.calls.notices.append), working_folder_restored(), row_log as log:
                state = await run_plan(
                    plan, self._jobs(), emit=partial(self._emit, log), stop=plan.calls.stop, monitor=self.monitor
                )
                self._log_decision(log)
            self._count_rows_before()
        finally:
            plan.calls.end(folder.path, complete=self.rows >= plan.rows or self.decided)
        result = _with_record(self._result(state), self.record)
        view = view_of(result)
        if problems := self.outputs.write_optional(view):
            result = _with_record(replace(result, notices=(*result.notices, *problems)), self.record)
            view = view_of(result)
        result = self._write_all(result, view)
        view = view_of(result)
        for reporter in self.reporters:
            reporter.on_end(view)
        return result

    def _begin(self) -> RowLog:
        """The open row log, after everything else that a run needs before its first call."""
        self.record.write(self.folder.path)
        self.plan.calls.begin(self.folder.path, self.record.run_id, spent=self._spent())
        for reporter in (self.outputs, *self.reporters):
            reporter.on_start(self.view)
        if self.options.gates and self.plan.stops_early:
            self._follow_gates()
        return RowLog(self.folder.path)

    def _spent(self) -> dict[Side, float]:
        """The cost of the rows of a resumed run; counted only if there is a cost cap."""
        spent: dict[Side, float] = {"targets": 0.0, "judges": 0.0, "users": 0.0}
        if self.resume_state is not None and self.plan.suite.run.max_cost is not None:
            for row in finished_rows(self.folder.path, self.resume_state.finished):
                add_spent(row, spent)
        return spent

    def _jobs(self) -> Iterator[Job]:
        jobs = self.plan.jobs()
        if self.resume_state is not None:
            finished, retry = self.resume_state.finished, self.options.retry_errors
            jobs = remaining_jobs(jobs, finished, self.folder.path, retry_errors=retry)
        return jobs if self.monitor is None else self._undecided(jobs, self.monitor)

    def _undecided(self, jobs: Iterator[Job], monitor: RunMonitor) -> Iterator[Job]:
        """The jobs until every gate is decided."""
        for job in jobs:
            if monitor.decided:
                return
            monitor.started = job.sample.index + 1
            yield job

    @property
    def decided(self) -> bool:
        """Whether the run can end because every gate is decided."""
        return self.monitor is not None and self.monitor.decided

    def _follow_gates(self) -> None:
        """Let the gates see every row, those of a resumed run first: some may be decided already."""
        from evalrunner.gates.check import gates_by_target
        from evalrunner.gates.sequential import run_monitor

        pairs = gates_by_target(self.plan.gates, self.summary, self.plan.baselines)
        self.monitor = run_monitor(pairs, self.summary, baseline_context(self.plan))
        if self.resume_state is None:
            return
        finished = self.resume_state.finished
        for row in finished_rows(self.folder.path, finished):
            entry = finished.find(row.sample.id, row.target, row.epoch)
            runs_again = self.options.retry_errors and entry is not None and (entry.failed or entry.errors)
            if not runs_again:
                self.monitor.add(row)

    def _log_decision(self, log: RowLog) -> None:
        """Note in the row log that the gates ended the run, if it has rows since the last such note."""
        before = 0 if self.resume_state is None else len(self.resume_state.finished)
        if self.decided and self.rows and self.rows + before < self.plan.rows:
            log.write_event("decided", rows=self.rows + before, rows_planned=self.plan.rows)

    def _emit(self, log: RowLog, row: Row) -> None:
        log.write(row)  # on disk before any reporter sees it
        if self.resume_state is not None:
            self.resume_state.finished.drop(row.sample.id, row.target, row.epoch)
        self._count(row)
        if self.monitor is not None:
            self.monitor.add(row)
        for reporter in self.reporters:
            reporter.on_row(row)

    def _count(self, row: Row) -> None:
        self.summary.add(row)
        self.usage.add(row)
        self.outputs.on_row(row)
        if self.repeat is not None:
            self.repeat.add(row)
        self.rows += 1

    def _count_rows_before(self) -> None:
        """Count the rows that were finished before the resume: after the calls, so that those need not wait."""
        if self.resume_state is None:
            return
        for row in finished_rows(self.folder.path, self.resume_state.finished):
            self._count(row)
            for reporter in self.reporters:
                if isinstance(reporter, ReplayReporter):
                    reporter.on_replayed_row(row)

    def _write_all(self, result: RunResult, view: RunView) -> RunResult:
        """Write every file of the run; one that fails does not prevent the others. Returns the result with their notices."""
        refused: list[str] = []
        try:
            self.outputs.on_end(view)
        except RunError as problem:
            refused.append(str(problem))
        if notices := self.outputs.notices():
            result = _with_record(replace(result, notices=(*result.notices, *notices)), self.record)
        assert result.record is not None  # set with the result
        try:
            result.record.write(result.folder)
        except RunError as problem:
            refused.append(str(problem))
        if refused:
            raise RunError("; ".join(refused))
        return result

    def _finished_at(self) -> datetime:
        """When the run ended by the clock with which it began: a clock that is set meanwhile makes no run end before that."""
        return max(self.started_at, self.begun_at + timedelta(seconds=time.monotonic() - self.started_s))

    def _epoch_variances(self, target: str) -> tuple[EpochVariance, ...]:
        if self.summary.epochs == 1:
            return ()
        from evalrunner.stats.epochs import epoch_variances

        return epoch_variances(self.summary, target)

    def _result(self, state: RunState) -> RunResult:
        plan, usage = self.plan, self.usage
        decided = decided_record(plan, usage, self.rows, self.monitor) if self.decided else None
        self.summary.decided = decided is not None
        look, looks = None, self.record.looks
        if self.options.gates and plan.gates:
            look = current_look(plan, self.rows, decided=decided is not None)
        gates, verdict, code = conclude(
            plan, state, usage, self.summary, gates=self.options.gates, first_look=first_look(looks, look)
        )
        targets = {
            target.name: TargetResult(
                self.summary.all_metrics(target.name),
                usage.of_target(target.name),
                usage.counts[target.name].answered,
                usage.counts[target.name].failed,
                target.calls,
                self._epoch_variances(target.name),
            )
            for target in plan.targets
        }
        stopped = stopped_early(plan, state, usage)
        if state.interrupted:
            stopped = "interrupted" + (f"; {stopped}" if stopped else "")
        notices = (
            *plan.scan.notices,
            *deprecation_notices(plan),
            *plan.calls.notices,
            *aborted_judge_notices(plan),
            *early_stop_notices(plan, decided),
            *(() if self.labels is None else self.labels.notices()),
            *(self.resume_state.notices if self.resume_state is not None else ()),
            *(self.repeat.notices() if self.repeat is not None else ()),
            *shard_notices(plan),
            *usage.errors.lines(known=stopped or ""),
        )
        return RunResult(
            plan.suite.name, self.record.run_id, self.folder.path, plan, targets, gates, verdict, code, self.rows,
            self.started_at, self._finished_at(), time.monotonic() - self.started_s, redact(stopped) if stopped else None, notices,
            usage.in_error,
            compare_targets(plan, self.summary, {name: target.metrics for name, target in targets.items()}, usage),
            decided=decided, looks=add_look(looks, look),
        )  # fmt: skip


def shard_notices(plan: Plan) -> Iterator[str]:
    """Which part of the samples the run has, and how it becomes one with the others."""
    dataset = plan.provenance.dataset
    if dataset.shard is not None and dataset.whole_rows is not None:
        yield (
            f"shard {dataset.shard}: {dataset.rows:,} of {dataset.whole_rows:,} samples; gates are checked when all shards "
            "are merged: evalrun merge RUN…"
        )


def _repeat_tally(plan: Plan) -> RepeatTally | None:
    if plan.failed is None:
        return None
    from evalrunner.commands.failed import RepeatTally

    return RepeatTally(plan.failed, plan.measures)


def compare_targets(
    plan: Plan, summary: Summary, known: Mapping[str, Sequence[Metric]], usage: RowUsage
) -> Comparison | None:
    """The comparison of the targets of a run, None if there is one. `known` holds all metrics of each.

    Served models are read from the rows, so a resumed run gives the same comparison.
    """
    if len(plan.targets) < 2:
        return None
    from evalrunner.compare.compare import compare
    from evalrunner.compare.result import Candidate

    defined = plan.provenance.definition()["targets"]
    asked = (plan.provenance if plan.stored is None else plan.stored.provenance).targets
    candidates = [
        Candidate(
            name=target.name,
            target=target.name,
            models=_names(target.model, usage.of_target(target.name).served_models),
            differs=tuple(part_differences(defined[plan.targets[0].name], defined[target.name])),
            prompt=asked[target.name].prompt_name if target.name in asked else None,
        )
        for target in plan.targets
    ]
    judges = {
        scorer.bound.name: _names(
            ", ".join(judge.name for judge in scorer.judges),
            {*(judge.model for judge in scorer.judges), *usage.judges[scorer.bound.name].served_models},
        )
        for scorer in plan.scorers
        if scorer.judges and scorer.judges[0].role == "judge"
    }
    comparison = compare(summary, candidates, known, judges=judges).led_by(plan.headline)
    notes = []
    if summary.decided:
        notes.append(
            "the run stopped when its gates were decided; p-values assume a number of samples that was fixed before"
        )
    if plan.failed is not None:
        notes.append(
            f"only samples that failed in run {plan.failed.run_id}: which target is better here may not hold for the suite"
        )
    return replace(comparison, notes=(*notes, *comparison.notes)) if notes else comparison


def _names(name: str | None, others: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, [name, *sorted(others)])))


def _with_record(result: RunResult, started: RunRecord) -> RunResult:
    return replace(result, record=ended_record(started, result))
