"""Run suites: plan them, execute each plan, and send the runs to trackers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalrunner import __version__
from evalrunner.baselines.file import RunRef
from evalrunner.commands.execution import NOTHING, execute, nothing_called
from evalrunner.commands.track import check_trackers, send_after_run
from evalrunner.datasets.selection import SampleSelection, Shard, Subset
from evalrunner.datasets.stdin import stored_stdin
from evalrunner.domain import Reporter
from evalrunner.endpoints.factory import EndpointPool, Progress
from evalrunner.engine.assemble import Assembler, prepare_scorers
from evalrunner.engine.plan import Plan, StoredAnswers, find_prices
from evalrunner.engine.result import RunResult
from evalrunner.errors import NotStartedError, Problem, RunError, SuiteError
from evalrunner.limits import STANDARD, TIGHT
from evalrunner.middleware.deadline import StopSignal, Timing, row_real_time_left_s
from evalrunner.redact import register_environment
from evalrunner.reports.outputs import check_distinct, check_junit_rows, check_outputs, in_ci
from evalrunner.runs.folder import RunLock
from evalrunner.storage import spool_folder, try_folder
from evalrunner.suite.loader import open_suite, read_suite
from evalrunner.suite.options import RunOptions
from evalrunner.suite.untrusted import check_location, check_spending

if TYPE_CHECKING:
    import httpx

    from evalrunner.engine.failed_samples import FailedSamples


@dataclass(slots=True)
class Session:
    """What the runs of one command share: the options, the stop signal, and callbacks.

    `trace` receives requests for debugging, `fetching` the progress of downloads of weights in bytes, `notify` messages
    about tracking and downloads, `reading` how many rows of a dataset are read. `listen` is called before the first
    call, to connect the stop signal to Ctrl-C. `resumed` is the folder of a resumed run, `pinned` the origin of its
    dataset, `prefix` the number of its samples, `candidate` that run as the one its gates compare. `stored` are answers
    to score instead of calling targets. `http_client` sends all HTTP requests.
    """

    options: RunOptions
    stop: StopSignal
    trace: Callable[[str], None] | None = None
    listen: Callable[[StopSignal], None] | None = None
    fetching: Progress | None = None
    resumed: Path | None = None
    pinned: Mapping[str, str] | None = None
    prefix: int | None = None
    candidate: RunRef | None = None
    stored: StoredAnswers | None = None
    notify: Callable[[str], None] | None = None
    http_client: httpx.AsyncClient | None = None
    reading: Callable[[int], None] | None = None


async def run_suites(suites: Sequence[str | Path], session: Session, reporters: Sequence[Reporter]) -> list[RunResult]:
    """Run suites one after the other over one connection pool.

    All are loaded, checked and scanned before the first call. Raises SuiteError with the problems of all of them.
    """
    if session.options.resume is not None:
        if session.options.failed_from is not None:
            raise SuiteError("--failed-from starts a new run, and --resume continues one; leave one of them out")
        return [await _resume(suites, session, session.options.resume, reporters)]
    if session.options.retry_errors:
        raise SuiteError("--retry-errors requires --resume RUN: it runs the failed rows of that run again")
    if session.options.failed_from is not None and session.stored is None:
        from evalrunner.commands.failed import options_to_repeat

        suites, options = options_to_repeat(suites, session.options)
        session = replace(session, options=options)
    if session.options.shard is not None:  # gates are checked on all shards together
        session = replace(session, options=replace(session.options, gates=False))
    if not suites:
        raise SuiteError("name a suite: evalrun SUITE…, or a run to resume: evalrun --resume last")
    check_outputs(session.options.outputs, suites=len(suites))
    if session.options.junit_rows:
        check_junit_rows(session.options.outputs, ci=in_ci(os.environ))
    results: list[RunResult] = []
    try:
        async with _planned(suites, session) as plans:
            names = [plan.suite.name for plan in plans]
            check_distinct(session.options.outputs, names)
            check_places(session.options, names)
            for plan in plans:
                if session.stop.count:
                    break
                try:
                    results.append(await execute(plan, session.options, reporters))
                except NotStartedError as refused:
                    if results:  # something was called
                        raise RunError(f"{plan.suite.name}: {str(refused).partition(NOTHING)[0]}") from None
                    raise
    finally:  # after all runs, so that none waits for another to be sent; also if the next one fails
        results = [await _sent(result, session) for result in results]
    return results


def check_places(options: RunOptions, suites: Sequence[str], *, folders: bool = True) -> None:
    """Refuse folders in which no file can be written, before the first call. Raises NotStartedError.

    Without `folders` only those of the outputs are tried.
    """
    places = [(options.output_dir / name, "pass another folder: --output-dir FOLDER") for name in suites if folders]
    for output in options.outputs:
        for path in {Path(output.replace("{suite}", name)) for name in suites}:
            if path.is_dir():
                raise NotStartedError(f"-o {output!r}: it is a folder; name a file")
            places.append((path.parent, f"pass another path for -o {output}"))
    for folder, remedy in places:
        try:
            try_folder(folder)
        except OSError as refused:
            raise NotStartedError(f"cannot write to {str(folder)!r}: {refused.strerror or refused}; {remedy}") from None


async def _resume(
    suites: Sequence[str | Path], session: Session, reference: str, reporters: Sequence[Reporter]
) -> RunResult:
    """The result of a resumed run. Raises SuiteError if its suite has changed."""
    if len(suites) > 1:
        raise SuiteError("--resume takes at most one suite, because it resumes one run")
    from evalrunner.commands.resume import find_resumable_run, load_resume_state

    stored = find_resumable_run(reference, session.options)
    suite = Path() if suites else stored.find_suite()
    check_location(suite, session.options)
    session = replace(
        session, options=stored.options, resumed=stored.folder.path, prefix=stored.record.dataset.rows,
        candidate=RunRef.of(stored.record), pinned=stored.record.dataset_from,
    )  # fmt: skip
    check_outputs(session.options.outputs, suites=1)
    if session.options.junit_rows:
        check_junit_rows(session.options.outputs, ci=in_ci(os.environ))
    with contextlib.ExitStack() as stack:
        with nothing_called():
            stack.enter_context(RunLock(stored.folder.path))
        async with _planned(suites or [suite], session) as (plan,):
            check_places(session.options, [plan.suite.name], folders=False)
            result = await execute(plan, session.options, reporters, load_resume_state(stored, plan))
    return await _sent(result, session)


async def _sent(result: RunResult, session: Session) -> RunResult:
    return await send_after_run(result, session.options, session.stop, session.notify)


@asynccontextmanager
async def _planned(suites: Sequence[str | Path], session: Session) -> AsyncIterator[list[Plan]]:
    """The plans of suites, ready for their first call: models fetched and loaded, packages imported, Ctrl-C connected."""
    check_spending(session.options)
    user_agent = f"evalrunner/{__version__}"
    async with EndpointPool(
        http_client=session.http_client, user_agent=user_agent, time_left_s=row_real_time_left_s
    ) as pool:
        with spool_folder() as spool:
            plans = [await priced(plan) for plan in plan_suites(suites, session, pool, spool)]
            check_trackers(plans, session.options)
            await prepare_scorers(plans, session.notify or (lambda _: None))
            await pool.prepare(session.fetching)
            if session.listen is not None:
                session.listen(session.stop)
            yield plans


async def priced(plan: Plan, *, ask_servers: bool | None = None) -> Plan:
    """The plan with the prices of its models. By default servers are asked only if there is a cost cap.

    With `ask_servers` they are also asked from which date they no longer serve their models.

    Raises SuiteError if a cost cap cannot be enforced.
    """
    asks = plan.suite.run.max_cost is not None if ask_servers is None else ask_servers
    return replace(
        plan, prices=await find_prices(plan.suite, plan.models, ask_servers=asks, ask_dates=bool(ask_servers))
    )


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
        raise SuiteError(list(dict.fromkeys(problems)))  # suites may share an env file
    return plans


def plan_suite(suite: str | Path, session: Session, pool: EndpointPool, spool: Path) -> Plan:
    """The plan of a suite file with the options of the session. Raises SuiteError with every problem."""
    register_environment()
    document = open_suite(suite, session.options)
    if session.stored is not None:
        session.stored.apply(document)
    read = read_suite(document)
    if read is None:
        document.raise_problems()
    assert read is not None  # None is a problem
    assembler = Assembler(
        document, pool, session.options.output_dir, spool, stdin=sys.stdin.buffer if sys.stdin else None,
        trace=session.trace, stop=session.stop, timing=Timing(session.options.wait_scale),
        refresh=session.options.refresh, stored_stdin=stored_stdin(session.resumed) if session.resumed else None,
        pinned=session.pinned,
        gating=session.options.gates, stored=session.stored, prefix=session.prefix, reading=session.reading,
        candidate=session.stored.candidate if session.stored is not None else session.candidate,
        limits=TIGHT if document.restrictions is not None else STANDARD, failed=_failed_samples(session),
        subset=subset_of(session.options),
    )  # fmt: skip
    return assembler.assemble(read)


def subset_of(options: RunOptions) -> Subset:
    """The samples of `--rows` and of `--shard`. Raises SuiteError."""
    return Subset(named=_named_samples(options), shard=shard_of(options))


def _named_samples(options: RunOptions) -> SampleSelection | None:
    """The samples that `--rows` names, None without it. An id with a comma is quoted as in CSV."""
    if not options.rows:
        return None
    import csv

    ids = frozenset(name.strip() for line in csv.reader(options.rows) for name in line if name.strip())
    if not ids:
        raise SuiteError("--rows: names no id; write --rows q1,q2")
    return SampleSelection(ids, "were named by --rows")


def shard_of(options: RunOptions) -> Shard | None:
    """The shard of `--shard`, None without it."""
    return None if options.shard is None else Shard.parse(options.shard)


def _failed_samples(session: Session) -> FailedSamples | None:
    """The samples that `--failed-from` selects, None without it; stored answers are selected already."""
    if session.options.failed_from is None or session.stored is not None:
        return None
    from evalrunner.commands.failed import load_failed_samples

    return load_failed_samples(session.options.failed_from, session.options.output_dir)
