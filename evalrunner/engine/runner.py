"""Rows out of a plan: N workers pull jobs from one lazy iterator, and each row is handed on as it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from evalrunner.domain import Completion, Failure, Row
from evalrunner.engine.plan import Job, Plan
from evalrunner.engine.scoring import RowScorer
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.deadline import RowDeadline, pause_deadline
from evalrunner.plugins import name_of
from evalrunner.suite.schema import FailOnError

GRACE_S = 5.0  # what calls in flight get to finish once somebody asked to stop
AUTO_ROWS = 256  # under way at once where the endpoints find their own pace: a row that queues costs a few kilobytes
AUTO_THREADS = 64


async def run_plan(plan: Plan, jobs: Iterator[Job], *, emit: Callable[[Row], None], stop: StopSignal) -> RunState:
    """Run the jobs, handing each row to `emit` in order of completion.

    A target that cannot work, or has failed many rows in a row, is not asked again; the others finish. A stop ends the
    run after the calls in flight: GRACE_S seconds where somebody waits for it, the time of a call otherwise.
    """
    state = RunState.of(plan)
    asked = plan.suite.run.concurrency
    concurrency = max(1, min(AUTO_ROWS if asked == "auto" else asked, plan.rows))
    loop = asyncio.get_running_loop()
    threads = min(concurrency, AUTO_THREADS) if asked == "auto" else concurrency
    executor = ThreadPoolExecutor(threads, thread_name_prefix="evalrun-worker")
    loop.set_default_executor(executor)
    try:
        scorer = RowScorer(plan.scorers, executor)
        work = Work(jobs, plan, scorer, state, emit, stop)
        workers = [asyncio.create_task(work.pull()) for _ in range(concurrency)]
        await _until_done(workers, plan, state, stop)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        # A thread that hangs in someone's function must not hold the loop's own end.
        loop.set_default_executor(ThreadPoolExecutor(1))
    return state


async def _until_done(workers: list[asyncio.Task[None]], plan: Plan, state: RunState, stop: StopSignal) -> None:
    limit_s = plan.suite.run.run_timeout
    alarm = None
    if limit_s is not None:
        alarm = asyncio.get_running_loop().call_later(limit_s, stop.request, _out_of_time(limit_s))
    waiter = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[None]] = set(workers)
    try:
        while pending and not waiter.done():
            done, rest = await asyncio.wait({*pending, waiter}, return_when=asyncio.FIRST_COMPLETED)
            pending = rest - {waiter}
            _raise_of(done - {waiter})
        if stop.count:
            state.interrupted = stop.interrupted
            await _let_finish(pending, plan, stop)
    finally:
        if alarm is not None:
            alarm.cancel()
        waiter.cancel()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, waiter, return_exceptions=True)


async def _let_finish(pending: set[asyncio.Task[None]], plan: Plan, stop: StopSignal) -> None:
    """Wait for what is in flight: it is paid for, so a run that stops by itself has the patience of a call."""
    begun, limit_s = time.monotonic(), plan.suite.run.run_timeout
    while pending:
        hurried = stop.interrupted or (limit_s is not None and stop.reason == _out_of_time(limit_s))
        left_s = begun + (GRACE_S if hurried else plan.suite.run.timeout) - time.monotonic()
        if stop.force or left_s <= 0:
            return
        done, pending = await asyncio.wait(pending, timeout=min(0.05, left_s))
        _raise_of(done)


def _out_of_time(limit_s: float) -> str:
    return f"the run's time limit of {limit_s:g} s is reached"


def _raise_of(done: set[asyncio.Task[None]]) -> None:
    """Raise what ended a worker: a full disk, or a dataset that changed. One that was dropped by a stop is none."""
    for worker in done:
        if not worker.cancelled():
            worker.result()


@dataclass(slots=True)
class Work:
    """What the workers of a run share."""

    jobs: Iterator[Job]
    plan: Plan
    scorer: RowScorer
    state: RunState
    emit: Callable[[Row], None]
    stop: StopSignal

    async def pull(self) -> None:
        """One worker: job after job until there is none left, or nobody wants more."""
        while not self.stop.count:
            job = next(self.jobs, None)
            if job is None:
                return
            breaker = job.target.breaker
            if breaker.is_open():
                if self.state.all_ended:
                    return
                continue
            deadline = RowDeadline(self.plan.suite.run.row_timeout, self.plan.calls.timing)
            if job.stored is not None:
                answer = job.stored.answer
            else:
                answer = await breaker.call(partial(_call_target, job, deadline))
            if answer is breaker.open_reason:
                continue  # not a row of this run; a resume calls the target again
            cells = await self.scorer.score(job, answer, deadline)
            row = Row(job.sample, job.target.name, job.epoch, answer, cells, job.attempt)
            self.emit(row)
            reason = self.state.note(row)
            if reason is not None:
                self.stop.request(reason)


async def _call_target(job: Job, deadline: RowDeadline) -> Completion | Failure:
    try:
        async with deadline:
            try:
                if job.target.turns is None:
                    return await job.target.call(job.sample, job.epoch)
                return await _call_in_turn(job, job.target.turns)
            except Exception as crash:  # a target of someone's own that raises is a failure of its row, not of the run
                said = f"{type(crash).__name__}: {crash}"
                return Failure("function", f"{name_of(type(job.target.call))} raised {said}"[:500])
    except TimeoutError:
        return Failure("timeout", f"no answer within the row timeout of {deadline.limit_s:g} s")


async def _call_in_turn(job: Job, turns: asyncio.Semaphore) -> Completion | Failure:
    """The answer of a target that bounds how many calls are under way; the row's clock stands still until its turn."""
    with pause_deadline():
        await turns.acquire()
    try:
        return await job.target.call(job.sample, job.epoch)
    finally:
        turns.release()


@dataclass(slots=True)
class RunState:
    """How a run fares, kept up to date while it goes. `rows` counts those of this process."""

    targets: dict[str, CircuitBreaker] = field(default_factory=dict)
    rows: int = 0
    errors: int = 0
    most_errors: int | None = None
    allowed: str = ""
    interrupted: bool = False

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The state of a run that has not begun."""
        rule = plan.suite.run.fail_on_error
        most = rule.rows(plan.rows) if rule is not None else None
        return cls({target.name: target.breaker for target in plan.targets}, most_errors=most, allowed=said_of(rule))

    @property
    def all_ended(self) -> bool:
        """Whether no target is asked any more."""
        return all(target.open_reason is not None for target in self.targets.values())

    def note(self, row: Row) -> str | None:
        """Count one row in; the sentence why the run should stop, if it should."""
        self.rows += 1
        if not ended_in_error(row):
            return None
        self.errors += 1
        if self.most_errors is None or self.errors < self.most_errors:
            return None
        rows = "1 row" if self.errors == 1 else f"{self.errors:,} rows"
        return f"{rows} ended in error, and fail_on_error is {self.allowed}"


def said_of(rule: FailOnError | None) -> str:
    """The rule as people write it."""
    if rule is None:
        return ""
    return str(rule.count) if rule.count is not None else f"{100 * (rule.share or 0):g}%"


def ended_in_error(row: Row) -> bool:
    """Whether infrastructure kept the row from its answer or from one of its scores."""
    if isinstance(row.answer, Failure):
        return True
    for cell in row.cells.values():  # noqa: SIM110  any() takes three times as long for so few, and every row comes here
        if cell.state == "error":
            return True
    return False
