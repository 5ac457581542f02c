"""One run from its plan to its files: the folder and its lock, rows as they come, the verdict, and every report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from evalrunner.datasets.file_lookup import store_stdin
from evalrunner.domain import EarlierRows, Reporter, Row
from evalrunner.engine.comparing import compare_targets
from evalrunner.engine.costs import add_spent
from evalrunner.engine.plan import Job, Plan
from evalrunner.engine.result import RunResult, TargetResult, conclude, stopped_early
from evalrunner.engine.resume import remaining
from evalrunner.engine.row_usage import RowUsage
from evalrunner.engine.run_state import RunState
from evalrunner.engine.runner import run_plan
from evalrunner.errors import RunError
from evalrunner.going_on import Earlier
from evalrunner.middleware.ledger import Side
from evalrunner.redact import redact
from evalrunner.reports.ci import CiFiles
from evalrunner.reports.earlier import earlier_of_plan
from evalrunner.reports.html.page import write_report
from evalrunner.reports.metrics_file import metrics_data
from evalrunner.reports.outputs import write_outputs
from evalrunner.reports.run_file import run_data
from evalrunner.reports.table import TableWriter, shape_of
from evalrunner.runs.folder import METRICS_FILE, REPORT_FILE, RUN_FILE, RunFolder, create_run_folder, write_json
from evalrunner.runs.lock import RunLock
from evalrunner.runs.row_log import RowLog, finished_rows
from evalrunner.stats.summary import Summary
from evalrunner.suite.options import RunOptions


async def execute(
    plan: Plan, options: RunOptions, reporters: Sequence[Reporter], earlier: Earlier | None = None
) -> RunResult:
    """The result of a run, with every file written. Raises RunError where the disk refuses."""
    if earlier is not None:  # whoever found it holds its lock
        plan = replace(plan, earlier=plan.rows - earlier.to_do)
        return await Execution(plan, options, reporters, earlier.folder, earlier.started_at, earlier).run()
    started_at = datetime.now(UTC)
    folder = create_run_folder(options.output_dir, plan.suite.name, now=started_at)
    with RunLock(folder.path):
        if plan.dataset.spooled is not None:
            store_stdin(plan.dataset.spooled, folder.path)
        return await Execution(plan, options, reporters, folder, started_at).run()


class Execution:
    """A run under way: where it writes, and what its rows come to."""

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        reporters: Sequence[Reporter],
        folder: RunFolder,
        started_at: datetime,
        earlier: Earlier | None = None,
    ) -> None:
        names = [target.name for target in plan.targets]
        self.plan, self.options, self.reporters = plan, options, reporters
        self.folder, self.started_at, self.earlier = folder, started_at, earlier
        self.begun, self.rows = time.monotonic(), 0
        self.summary = Summary(plan.measures, tuple(names), plan.suite.run.epochs, plan.suite.streaming, plan.design)
        self.table = TableWriter(folder.path, shape_of(plan), names)
        self.usage = RowUsage.of(plan)
        self.earlier_of = earlier_of_plan(plan)
        self.ci = CiFiles(folder.path, plan.measures, names, options.outputs, earlier=self.earlier_of)

    async def run(self) -> RunResult:
        """The result, with every file written. Raises RunError where the disk refuses."""
        plan, folder = self.plan, self.folder
        write_json(folder.path / RUN_FILE, run_data(plan, self.options, run_id=folder.id, started_at=self.started_at))
        plan.calls.begin(folder.path, folder.id, spent=self._spent())
        for reporter in self.reporters:
            reporter.on_start(plan, folder)
        try:
            with RowLog(folder.path) as log:
                state = await run_plan(plan, self._jobs(), emit=partial(self._emit, log), stop=plan.calls.stop)
            self._include_earlier()
        finally:
            plan.calls.end(folder.path, complete=self.rows >= plan.rows)
        result = self.ci.finish(self._result(state))
        self._write_all(result)
        for reporter in self.reporters:
            reporter.on_end(result)
        return result

    def _spent(self) -> dict[Side, float]:
        """What the rows from before had cost, asked only where a cap is to hold."""
        spent: dict[Side, float] = {"targets": 0.0, "judges": 0.0}
        if self.earlier is not None and self.plan.suite.run.max_cost is not None:
            for row in finished_rows(self.folder.path, self.earlier.finished):
                add_spent(row, spent)
        return spent

    def _jobs(self) -> Iterator[Job]:
        jobs = self.plan.jobs()
        if self.earlier is None:
            return jobs
        return remaining(jobs, self.earlier.finished, self.folder.path, retry_errors=self.options.retry_errors)

    def _emit(self, log: RowLog, row: Row) -> None:
        log.write(row)  # on disk before anyone sees it
        if self.earlier is not None:
            self.earlier.finished.drop(row.sample.id, row.target, row.epoch)
        self._count(row)
        for reporter in self.reporters:
            reporter.on_row(row)

    def _count(self, row: Row) -> None:
        self.summary.add(row)
        self.table.add(row)
        self.usage.add(row)
        self.ci.add(row)
        self.rows += 1

    def _include_earlier(self) -> None:
        """Count in the rows from before that were not made again: after the calls, so that those need not wait."""
        if self.earlier is None:
            return
        for row in finished_rows(self.folder.path, self.earlier.finished):
            self._count(row)
            for reporter in self.reporters:
                if isinstance(reporter, EarlierRows):
                    reporter.on_earlier_row(row)

    def _write_all(self, result: RunResult) -> None:
        """Every file of the run; one that cannot be written does not keep the others from being so."""
        run = run_data(self.plan, self.options, run_id=result.run_id, started_at=result.started_at, result=result)
        refused: list[str] = []
        writers: list[Callable[[], object]] = [
            self.table.finish,
            lambda: write_json(result.folder / METRICS_FILE, metrics_data(result)),
            lambda: write_json(result.folder / RUN_FILE, run),
            partial(
                write_report, result.folder, result.folder / REPORT_FILE, earlier=self.earlier_of
            ),  # reads those above
            *[partial(write_outputs, result, [output]) for output in self.options.outputs],
        ]
        for write in writers:
            try:
                write()
            except (RunError, OSError) as problem:
                refused.append(str(problem))
        if refused:
            raise RunError("; ".join(refused) + f"; the rows are safe in {str(result.folder)!r}")

    def _result(self, state: RunState) -> RunResult:
        plan, usage = self.plan, self.usage
        gates, verdict, code = conclude(plan, state, usage, self.summary, gates=self.options.gates)
        targets = {
            target.name: TargetResult(
                self.summary.all_metrics(target.name),
                usage.of_target(target.name),
                usage.counts[target.name].answered,
                usage.counts[target.name].failed,
                target.breaker.open_reason,
                target.calls,
            )
            for target in plan.targets
        }
        stopped = stopped_early(plan, state, usage)
        if state.interrupted:
            stopped = "interrupted" + (f"; {stopped}" if stopped else "")
        notices = (
            *plan.scan.notices,
            *plan.calls.notices,
            *(self.earlier.notices if self.earlier is not None else ()),
            *usage.troubles.lines(known=stopped or ""),
        )
        return RunResult(
            plan.suite.name, self.folder.id, self.folder.path, plan, targets, gates, verdict, code, self.rows,
            self.started_at, datetime.now(UTC), time.monotonic() - self.begun, redact(stopped) if stopped else None, notices,
            usage.in_error,
            compare_targets(plan, self.summary, {name: target.metrics for name, target in targets.items()}, usage),
        )  # fmt: skip
