"""The Python door: `run_suite` wires suite, engine and reports together and prints nothing."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalrunner import __version__
from evalrunner.baselines.run_ref import RunRef
from evalrunner.datasets.file_lookup import stored_stdin
from evalrunner.domain import Reporter
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.endpoints.local_weights import Progress
from evalrunner.engine.assemble import Assembler
from evalrunner.engine.costs import find_prices
from evalrunner.engine.plan import Plan
from evalrunner.engine.preparing import prepare_scorers
from evalrunner.engine.result import RunResult
from evalrunner.engine.stored_answers import StoredAnswers
from evalrunner.errors import Problem, SuiteError
from evalrunner.execution import execute
from evalrunner.going_on import find_stored, take_up
from evalrunner.metrics import GateResult, Verdict
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.deadline import row_real_time_left_s
from evalrunner.middleware.timing import Timing
from evalrunner.redact import register_environment
from evalrunner.reports.outputs import check_apart, check_outputs
from evalrunner.reports.table import shape_of, table_frame
from evalrunner.runs.folder import RUN_FILE, read_json
from evalrunner.runs.lock import RunLock
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.loader import open_suite, read_suite
from evalrunner.suite.options import RunOptions
from evalrunner.tracking.after_run import check_tracking, send_after_run
from evalrunner.tracking.table import TABLE, evaluation_frame


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
            if metric.slice is None
        }

    @property
    def table(self) -> Any:
        """A pandas DataFrame with a row for every answer, as in `table.csv`."""
        return table_frame(read_rows(self.folder), shape_of(self.details.plan), list(self.details.targets))

    @property
    def tables(self) -> dict[str, Any]:
        """`eval_results_table`: a pandas DataFrame with the columns that `mlflow.evaluate` gave it."""
        run = read_json(self.folder / RUN_FILE)
        return {TABLE: evaluation_frame(read_rows(self.folder), run, list(self.details.targets))}


@dataclass(slots=True)
class Session:
    """What the runs of one command share: options, the wish to stop, and where requests are told for debugging.

    `listen` is called when the first call is about to be made, to connect the wish to stop with Ctrl-C. `fetching` is
    told of weights that are being fetched, in bytes. `resumed` is the folder of a run that goes on, `judged` that run,
    `stored` are answers to score in place of asking targets, `tell` is told where runs were sent, or that they were not,
    and of models that scorers fetch.
    """

    options: RunOptions
    stop: StopSignal
    trace: Callable[[str], None] | None = None
    listen: Callable[[StopSignal], None] | None = None
    fetching: Progress | None = None
    resumed: Path | None = None
    judged: RunRef | None = None
    stored: StoredAnswers | None = None
    tell: Callable[[str], None] | None = None


def run_suite(
    suite: str | Path | None = None, *, options: RunOptions | None = None, reporters: Sequence[Reporter] = ()
) -> SuiteResult:
    """Run a suite file and return its result. Raises SuiteError before the first call if anything is wrong with it.

    With `RunOptions(resume=RUN)` a run goes on; its suite need not be named then.

    Works inside a running event loop too, such as a notebook's.
    """
    session = Session(options or RunOptions(), StopSignal())
    (result,) = _run_anywhere(lambda: run_suites([suite] if suite is not None else [], session, reporters))
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
    if session.options.resume is not None:
        return [await _resume(suites, session, session.options.resume, reporters)]
    if session.options.retry_errors:
        raise SuiteError("--retry-errors goes with --resume RUN: it runs again what ended in error there")
    if not suites:
        raise SuiteError("name a suite: evalrun SUITE…, or a run to go on with: evalrun --resume last")
    check_outputs(session.options.outputs, suites=len(suites))
    results: list[RunResult] = []
    try:
        async with _planned(suites, session) as plans:
            check_apart(session.options.outputs, [plan.suite.name for plan in plans])
            for plan in plans:
                if session.stop.count:
                    break
                results.append(await execute(plan, session.options, reporters))
    finally:  # no run waits until another is sent, and what ended is sent whatever became of the next one
        results = [await _sent(result, session) for result in results]
    return results


async def _resume(
    suites: Sequence[str | Path], session: Session, reference: str, reporters: Sequence[Reporter]
) -> RunResult:
    """The result of a run that goes on. Raises SuiteError where its suite is another one by now."""
    if len(suites) > 1:
        raise SuiteError("--resume goes on with one run, so it takes one suite at the most")
    stored = find_stored(reference, session.options)
    session = replace(session, options=stored.options, resumed=stored.folder.path, judged=RunRef.of(stored.data))
    check_outputs(session.options.outputs, suites=1)
    with RunLock(stored.folder.path):
        async with _planned(suites or [stored.find_suite()], session) as (plan,):
            result = await execute(plan, session.options, reporters, take_up(stored, plan))
    return await _sent(result, session)


async def _sent(result: RunResult, session: Session) -> RunResult:
    return await send_after_run(result, session.options, session.stop, session.tell)


@asynccontextmanager
async def _planned(suites: Sequence[str | Path], session: Session) -> AsyncIterator[list[Plan]]:
    """The plans of suites with all that their first calls need: models fetched and loaded, packages imported, Ctrl-C heard."""
    async with EndpointPool(user_agent=f"evalrunner/{__version__}", time_left_s=row_real_time_left_s) as pool:
        with tempfile.TemporaryDirectory(prefix="evalrun-") as spool:
            plans = [await priced(plan) for plan in plan_suites(suites, session, pool, Path(spool))]
            check_tracking(plans, session.options)
            await prepare_scorers(plans, session.tell or (lambda _: None))
            await pool.prepare(session.fetching)
            if session.listen is not None:
                session.listen(session.stop)
            yield plans


async def priced(plan: Plan, *, ask_servers: bool | None = None) -> Plan:
    """The plan with what its models cost. Servers are asked where a cap has to hold, unless said otherwise.

    Raises SuiteError where a cap cannot hold.
    """
    asks = plan.suite.run.max_cost is not None if ask_servers is None else ask_servers
    return replace(plan, prices=await find_prices(plan.suite, plan.models, ask_servers=asks))


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
    if session.stored is not None:
        session.stored.apply(document)
    read = read_suite(document)
    if read is None:
        document.raise_problems()
    assert read is not None  # or it had problems
    assembler = Assembler(
        document, pool, session.options.output_dir, spool, stdin=sys.stdin.buffer if sys.stdin else None,
        trace=session.trace, stop=session.stop, timing=Timing(session.options.wait_scale),
        refresh=session.options.refresh, stored_stdin=stored_stdin(session.resumed) if session.resumed else None,
        judging=session.options.gates, stored=session.stored,
        judged=session.stored.judged if session.stored is not None else session.judged,
    )  # fmt: skip
    return assembler.assemble(read)
