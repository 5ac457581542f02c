"""The Python door: `run_suite` wires suite, engine and reports together and prints nothing."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from evalrun import __version__
from evalrun.calls.stopping import StopSignal
from evalrun.domain import Reporter, Row
from evalrun.endpoints.opening import EndpointPool
from evalrun.endpoints.weights import Progress
from evalrun.engine.assemble import Assembler
from evalrun.engine.plan import Plan
from evalrun.engine.result import RunResult, TargetResult, conclude, stopped_early
from evalrun.engine.runner import RunState, run_plan
from evalrun.errors import Problem, RunError, SuiteError
from evalrun.metrics import GateResult, Verdict
from evalrun.redact import redact, register_environment
from evalrun.reports.metrics_file import metrics_data
from evalrun.reports.outputs import check_outputs, write_outputs
from evalrun.reports.run_file import run_data
from evalrun.reports.table import TableShape, TableWriter, shape_of, table_frame
from evalrun.runs.folder import METRICS_FILE, RUN_FILE, RunFolder, create_run_folder, write_json
from evalrun.runs.row_log import RowLog, read_rows
from evalrun.stats.summary import Summary
from evalrun.suite.load import open_suite, read_suite
from evalrun.suite.options import RunOptions


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What `run_suite` returns: verdict, numbers and the table of one run, with `details` behind them."""

    details: RunResult

    @property
    def verdict(self) -> Verdict:
        return self.details.verdict

    @property
    def exit_code(self) -> int:
        """What the command line would have ended with."""
        return self.details.exit_code

    @property
    def gates(self) -> tuple[GateResult, ...]:
        return self.details.gates

    @property
    def run_id(self) -> str:
        return self.details.run_id

    @property
    def folder(self) -> Path:
        return self.details.folder

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metric name to value; with several targets the name has the target's in front, `gateway/exact_match/v1`."""
        several = len(self.details.targets) > 1
        return {
            f"{name}/{metric.name}" if several else metric.name: metric.value
            for name, target in self.details.targets.items()
            for metric in target.metrics
        }

    @property
    def table(self) -> Any:
        """A pandas DataFrame with a row for every answer, as in `table.csv`."""
        return table_frame(read_rows(self.folder), shape_of(self.details), list(self.details.targets))


@dataclass(slots=True)
class Session:
    """What the runs of one command share: options, the wish to stop, and where requests are told for debugging.

    `listen` is called when the first call is about to be made, to connect the wish to stop with Ctrl-C. `fetching` is
    told of weights that are being fetched, in bytes.
    """

    options: RunOptions
    stop: StopSignal
    trace: Callable[[str], None] | None = None
    listen: Callable[[StopSignal], None] | None = None
    fetching: Progress | None = None


def run_suite(
    suite: str | Path, *, options: RunOptions | None = None, reporters: Sequence[Reporter] = ()
) -> SuiteResult:
    """Run a suite file and return its result. Raises SuiteError before the first call if anything is wrong with it.

    Works inside a running event loop too, such as a notebook's.
    """
    session = Session(options or RunOptions(), StopSignal())
    (result,) = _run_anywhere(lambda: run_suites([suite], session, reporters))
    return SuiteResult(result)


def _run_anywhere(run: Callable[[], Any]) -> Any:
    """The result of a coroutine function, in a thread of its own where a loop is already running here."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001  the public one raises, and would stand in every traceback
        return asyncio.run(run())
    found: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(run()))
        except BaseException as error:  # handed on to the caller's thread, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="evalrun-run")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


async def run_suites(suites: Sequence[str | Path], session: Session, reporters: Sequence[Reporter]) -> list[RunResult]:
    """Run suites one after the other over one pool of connections; each has its run.

    All are loaded, checked and scanned before the first call. Raises SuiteError with the problems of all of them.
    """
    check_outputs(session.options.outputs, suites=len(suites))
    results: list[RunResult] = []
    async with EndpointPool(user_agent=f"evalrun/{__version__}") as pool:
        with tempfile.TemporaryDirectory(prefix="evalrun-") as spool:
            plans = plan_suites(suites, session, pool, Path(spool))
            await pool.prepare(session.fetching)
            if session.listen is not None:
                session.listen(session.stop)
            for plan in plans:
                if session.stop.times:
                    break
                results.append(await _execute(plan, session, reporters))
    return results


def plan_suites(suites: Sequence[str | Path], session: Session, pool: EndpointPool, spool: Path) -> list[Plan]:
    """The plan of every suite. Raises SuiteError with the problems of all of them."""
    plans: list[Plan] = []
    problems: list[Problem] = []
    for place, suite in enumerate(suites):
        folder = spool / str(place)
        folder.mkdir()
        try:
            plans.append(plan_suite(suite, session, pool, folder))
        except SuiteError as wrong:
            problems.extend(wrong.problems)
    if problems:
        raise SuiteError(problems)
    return plans


def plan_suite(suite: str | Path, session: Session, pool: EndpointPool, spool: Path) -> Plan:
    """The plan of a suite file with the session's options. Raises SuiteError with everything that is wrong."""
    register_environment()
    document = open_suite(suite, session.options)
    read = read_suite(document)
    if read is None:
        document.raise_problems()
    assert read is not None  # or it had problems
    assembler = Assembler(
        document, pool, session.options.output_dir, spool, stdin=sys.stdin.buffer if sys.stdin else None,
        trace=session.trace,
    )  # fmt: skip
    return assembler.assemble(read)


async def _execute(plan: Plan, session: Session, reporters: Sequence[Reporter]) -> RunResult:
    started_at, begun = datetime.now(UTC), time.monotonic()
    folder = create_run_folder(session.options.output_dir, plan.suite.name, now=started_at)
    if plan.dataset.spooled is not None:
        shutil.copyfile(plan.dataset.spooled, folder.path / plan.dataset.spooled.name)
    write_json(folder.path / RUN_FILE, run_data(plan, run_id=folder.id, started_at=started_at))
    names = [target.name for target in plan.targets]
    summary = Summary(plan.measures, tuple(names), plan.suite.run.epochs, plan.suite.streaming)
    shape = TableShape(plan.scan.columns, plan.measures, streaming=plan.suite.streaming)
    table = TableWriter(folder.path, shape, names)
    for reporter in reporters:
        reporter.on_start(plan, folder)
    with RowLog(folder.path) as log:

        def emit(row: Row) -> None:
            log.write(row)  # on disk before anyone sees it
            summary.add(row)
            table.add(row)
            for reporter in reporters:
                reporter.on_row(row)

        state = await run_plan(plan, emit=emit, stop=session.stop)
    result = _result(plan, folder, state, summary, session.options, (started_at, time.monotonic() - begun))
    _write_all(plan, result, table, session.options)
    for reporter in reporters:
        reporter.on_end(result)
    return result


def _write_all(plan: Plan, result: RunResult, table: TableWriter, options: RunOptions) -> None:
    """Every file of the run; one that cannot be written does not keep the others from being so."""
    run = run_data(plan, run_id=result.run_id, started_at=result.started_at, result=result)
    refused: list[str] = []
    writers: list[Callable[[], object]] = [
        table.finish,
        lambda: write_json(result.folder / METRICS_FILE, metrics_data(result)),
        lambda: write_json(result.folder / RUN_FILE, run),
        *[partial(write_outputs, result, [output]) for output in options.outputs],
    ]
    for write in writers:
        try:
            write()
        except (RunError, OSError) as problem:
            refused.append(str(problem))
    if refused:
        raise RunError("; ".join(refused) + f"; the rows are safe in {str(result.folder)!r}")


def _result(
    plan: Plan, folder: RunFolder, state: RunState, summary: Summary, options: RunOptions, times: tuple[datetime, float]
) -> RunResult:
    gates, verdict, code = conclude(plan, state, summary, gates=options.gates)
    targets = {
        target.name: TargetResult(
            summary.metrics(target.name),
            target.usage,
            state.targets[target.name].answered,
            state.targets[target.name].failed,
            state.targets[target.name].ended,
        )
        for target in plan.targets
    }
    stopped = stopped_early(plan, state)
    if state.interrupted:
        stopped = "interrupted" + (f"; {stopped}" if stopped else "")
    return RunResult(
        plan.suite.name, folder.id, folder.path, plan, targets, gates, verdict, code, state.rows, times[0], times[1],
        redact(stopped) if stopped else None, plan.scan.notices,
    )  # fmt: skip
