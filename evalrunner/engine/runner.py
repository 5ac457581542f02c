"""Run the jobs of a plan: N workers pull from one lazy iterator, and each row is emitted as it finishes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar

from evalrunner.clock import CLOCK
from evalrunner.domain import Cell, Completion, Failure, Row, Sample
from evalrunner.engine.plan import Job, Plan, PlannedScorer
from evalrunner.engine.row_checks import NAME as CHECKS
from evalrunner.engine.row_checks import Evaluation, RowChecks
from evalrunner.matching import close_processes
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.deadline import RowDeadline, StopSignal, pause_deadline
from evalrunner.plugins import name_of
from evalrunner.reasoning import strip_reasoning
from evalrunner.redact import redact_message
from evalrunner.scorers.call import (
    BoundScorer,
    call_parts,
    call_parts_async,
    call_sync,
    cell_without_call,
    cells_from,
    offer,
    parts_without_call,
)
from evalrunner.scorers.extraction import extracted_answer
from evalrunner.suite.schema import FailOnError

if TYPE_CHECKING:
    from evalrunner.engine.panel import JudgePanel
    from evalrunner.gates.sequential import RunMonitor

T = TypeVar("T")

GRACE_S = 5.0  # for calls in flight to finish after a stop request
MAX_AUTO_WORKERS = 256  # while endpoints adapt their own concurrency; a waiting row costs a few kilobytes
MAX_AUTO_THREADS = 64
MAX_TURN_S = 0.02  # of all workers, until signals and timers get their chance


async def run_plan(
    plan: Plan,
    jobs: Iterator[Job],
    *,
    emit: Callable[[Row], None],
    stop: StopSignal,
    monitor: RunMonitor | None = None,
) -> RunState:
    """Run the jobs and pass each row to `emit` in order of completion.

    With a `monitor` the workers stay close to the complete first samples, which decide its gates. A target whose
    circuit is open is not called again; the others finish. A stop request ends the run after the calls in flight: they
    get GRACE_S seconds if the user interrupted, the timeout of a call otherwise.
    """
    state = RunState.of(plan)
    requested = plan.suite.run.concurrency
    concurrency = max(1, min(MAX_AUTO_WORKERS if requested == "auto" else requested, plan.rows))
    loop = asyncio.get_running_loop()
    threads = min(concurrency, MAX_AUTO_THREADS) if requested == "auto" else concurrency
    executor = DaemonExecutor(threads)
    loop.set_default_executor(executor)
    try:
        scorer = RowScorer(plan.scorers, executor, stop)
        pool = WorkerPool(jobs, plan, scorer, state, emit, stop, monitor, concurrency)
        workers = [asyncio.create_task(pool.work()) for _ in range(concurrency)]
        await _until_done(workers, plan, state, stop)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        close_processes()
        # a thread that hangs in user-defined code must not block the end of the loop
        loop.set_default_executor(ThreadPoolExecutor(1))
    return state


async def _until_done(workers: list[asyncio.Task[None]], plan: Plan, state: RunState, stop: StopSignal) -> None:
    limit_s = plan.suite.run.run_timeout
    alarm = None
    if limit_s is not None:
        alarm = asyncio.get_running_loop().call_later(limit_s, stop.request, _timeout_reason(limit_s))
    waiter = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[None]] = set(workers)
    try:
        while pending and not waiter.done():
            done, rest = await asyncio.wait({*pending, waiter}, return_when=asyncio.FIRST_COMPLETED)
            pending = rest - {waiter}
            _raise_errors(done - {waiter})
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
    """Wait for the calls in flight: they are paid for, so a run that stops by itself waits for the timeout of a call."""
    started_s, limit_s = CLOCK.now(), plan.suite.run.run_timeout
    while pending:
        urgent = stop.interrupted or (limit_s is not None and stop.reason == _timeout_reason(limit_s))
        remaining_s = started_s + (GRACE_S if urgent else plan.suite.run.timeout) - CLOCK.now()
        if stop.force or remaining_s <= 0:
            return
        done, pending = await asyncio.wait(pending, timeout=min(0.05, remaining_s))
        _raise_errors(done)


def _timeout_reason(limit_s: float) -> str:
    return f"run timeout of {limit_s:g} s reached"


def _raise_errors(finished: set[asyncio.Task[None]]) -> None:
    """Raise the exception that ended a worker, such as a full disk; a canceled worker has none."""
    for worker in finished:
        if not worker.cancelled():
            worker.result()


@dataclass(slots=True)
class WorkerPool:
    """What the workers of a run share: jobs, scorers, state, and where rows go; `busy` of them have a job."""

    jobs: Iterator[Job]
    plan: Plan
    scorer: RowScorer
    state: RunState
    emit: Callable[[Row], None]
    stop: StopSignal
    monitor: RunMonitor | None = None
    workers: int = 1
    busy: int = 0
    turn_ends_at: float = 0.0
    turn_requested: bool = False
    row_done: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self) -> None:
        """One worker: job after job until none is left or a stop is requested."""
        while not self.stop.count:
            if self.monitor is not None and self._holds(self.monitor):
                await self.row_done.wait()
                continue
            job = next(self.jobs, None)
            if job is None:
                return
            self.busy += 1
            breaker = job.target.breaker
            deadline = RowDeadline(self.plan.suite.run.row_timeout, self.plan.calls.timing)
            if job.stored is not None:
                answer = job.stored.answer
            else:
                answer = await breaker.call(partial(_call_target, job, deadline, self.stop))
            if answer is breaker.open_reason:  # not a row of this run; a resume calls the target again
                self._end_job()
                if self.state.all_aborted:
                    return
                continue
            cells = await self.scorer.score(job, answer, deadline)
            row = Row(job.sample, job.target.name, job.epoch, answer, cells, job.attempt)
            self.emit(row)
            self._end_job()
            reason = self.state.add(row)
            if reason is not None:
                self.stop.request(reason)
            if time.monotonic() > self.turn_ends_at:  # stored answers and fast scorers never wait for anything
                if not self.turn_requested:
                    self.turn_requested = True
                    asyncio.get_running_loop().call_soon(self._begin_turn)
                await asyncio.sleep(0)

    def _begin_turn(self) -> None:
        """Let the workers run for a moment. Called before them in a pass of the loop, so that all share the moment."""
        self.turn_requested = False
        self.turn_ends_at = time.monotonic() + MAX_TURN_S

    def _holds(self, monitor: RunMonitor) -> bool:
        """Whether no job should start now: rows in flight may decide the run, which looks at its complete samples only.

        The workers run ahead of these by one row each, unless most of them wait for a few slow rows.
        """
        busy = self.busy > 0
        return busy and (monitor.about_to_decide or (4 * self.busy >= self.workers and monitor.is_ahead(self.workers)))

    def _end_job(self) -> None:
        """Count a job that ended, and wake the workers that wait for its row."""
        self.busy -= 1
        if self.monitor is not None:
            self.row_done.set()
            self.row_done.clear()


def _is_canceled(stop: StopSignal) -> bool:
    """Whether a CancelledError in the current task is the runner's, not one that user-defined code raised."""
    task = asyncio.current_task()
    return stop.count > 0 or task is None or task.cancelling() > 0


async def _call_target(job: Job, deadline: RowDeadline, stop: StopSignal) -> Completion | Failure:
    try:
        async with deadline:
            try:
                if job.target.slots is None:
                    answer = await job.target.call(job.sample, job.epoch)
                else:
                    answer = await _call_limited(job, job.target.slots)
                answer = strip_reasoning(answer) if job.target.strips_reasoning else answer
                extract = job.target.extract
                if extract is None or isinstance(answer, Failure) or extract.is_quick(answer.text):
                    return extracted_answer(answer, extract)
                return await asyncio.to_thread(extracted_answer, answer, extract)
            except BaseException as crash:  # whatever a user-defined target raises fails its row, not the run
                if isinstance(crash, asyncio.CancelledError) and _is_canceled(stop):
                    raise
                message = f"{name_of(type(job.target.call))} raised {type(crash).__name__}: {crash}".removesuffix(": ")
                return Failure("function", redact_message(message)[:500])
    except TimeoutError:
        return Failure("timeout", f"no answer within the row timeout of {deadline.limit_s:g} s")


async def _call_limited(job: Job, slots: asyncio.Semaphore) -> Completion | Failure:
    """The answer of a target whose concurrency is limited; the deadline of the row pauses while it waits."""
    with pause_deadline():
        await slots.acquire()
    try:
        return await job.target.call(job.sample, job.epoch)
    finally:
        slots.release()


@dataclass(slots=True)
class RunState:
    """The counts of a run while it runs. `rows` counts those of this process, `max_errors` comes from `fail_on_error`."""

    targets: dict[str, CircuitBreaker] = field(default_factory=dict)
    rows: int = 0
    errors: int = 0
    max_errors: int | None = None
    rule: str = ""
    interrupted: bool = False

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The state of a run before its first row."""
        rule = plan.suite.run.fail_on_error
        limit = rule.rows(plan.rows) if rule is not None else None
        return cls({target.name: target.breaker for target in plan.targets}, max_errors=limit, rule=rule_text(rule))

    @property
    def all_aborted(self) -> bool:
        """Whether every target was aborted."""
        return all(target.open_reason is not None for target in self.targets.values())

    def add(self, row: Row) -> str | None:
        """Count one row; the reason why the run should stop, if any."""
        self.rows += 1
        if not ended_in_error(row):
            return None
        self.errors += 1
        if self.max_errors is None or self.errors < self.max_errors:
            return None
        rows = "1 row" if self.errors == 1 else f"{self.errors:,} rows"
        return f"{rows} ended in error, and fail_on_error is {self.rule}"


def rule_text(rule: FailOnError | None) -> str:
    """The rule as the suite spells it."""
    if rule is None:
        return ""
    return str(rule.count) if rule.count is not None else f"{100 * (rule.share or 0):g}%"


def ended_in_error(row: Row) -> bool:
    """Whether an error left the row without its answer or without one of its scores."""
    if isinstance(row.answer, Failure):
        return True
    for cell in row.cells.values():  # noqa: SIM110  any() takes three times as long for a few cells, for every row
        if cell.state == "error":
            return True
    return False


class DaemonExecutor(ThreadPoolExecutor):
    """Runs functions in threads that do not keep the process alive: one of a user may never end.

    A subclass, because asyncio accepts no other default executor; it uses nothing of its base.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(1)
        self._limit, self._started = threads, 0
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._started < self._limit:
            self._start_thread()
        return future

    def _start_thread(self) -> None:
        """Start one more thread. If the system starts no more, those that run take the calls. Raises RuntimeError without any."""
        thread = threading.Thread(target=self._work, name=f"evalrun-worker-{self._started + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if self._started == 0:
                raise
            self._limit = self._started
        else:
            self._started += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after their calls; with `cancel_futures` those that have not begun are canceled."""
        while cancel_futures and not self._calls.empty():
            if (call := self._calls.get()) is not None:
                call[0].cancel()
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._next_call()) is not None:
            future, function = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as crash:  # it belongs to the caller
                    future.set_exception(crash)
            del call, future, function  # a waiting thread keeps nothing alive

    def _next_call(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        try:
            return self._calls.get_nowait()
        except Empty:
            self._idle.release()
            return self._calls.get()


class RowScorer:
    """The scorers of a plan, grouped once by how they are called."""

    def __init__(self, scorers: Sequence[PlannedScorer], executor: Executor, stop: StopSignal) -> None:
        self.names = [name for scorer in scorers for name in scorer.bound.cell_names]
        functions: list[object] = [scorer.bound.scorer.function for scorer in scorers]
        self.checks = next((function for function in functions if isinstance(function, RowChecks)), None)
        scorers = [
            scorer for scorer, function in zip(scorers, functions, strict=True) if not isinstance(function, RowChecks)
        ]
        self.bound = [scorer.bound for scorer in scorers]
        self.inline = [
            item.bound for item in scorers if item.bound.scorer.declaration.inline and not item.bound.is_async
        ]
        self.awaited = [(item.bound, item.panel) for item in scorers if item.bound.is_async]
        grouped = {bound.name for bound in self.inline} | {bound.name for bound, _ in self.awaited}
        self.threaded = [bound for bound in self.bound if bound.name not in grouped]
        self.executor = executor
        self.stop = stop

    async def score(self, job: Job, answer: Completion | Failure, deadline: RowDeadline) -> dict[str, Cell]:
        """A cell per scorer and part, in the order of the suite; cells of a stored row are reused.

        A scorer that has not finished at the deadline of the row gives an error.
        """
        cells: dict[str, Cell] = {} if job.stored is None else self._reusable(job.stored_cells)
        for bound in self.bound:
            cell = None if bound.name in cells else cell_without_call(bound, job.sample, answer)
            if cell is not None:
                cells[bound.name] = cell
                if bound.parts:
                    cells.update(parts_without_call(bound, cell))
        evaluation = None
        if self.checks is not None and CHECKS not in cells:
            evaluation = self.checks.evaluate(job.sample, answer)
            if not evaluation.pending:
                cells.update(evaluation.cells(self.checks.names))
        if isinstance(answer, Completion) and len(cells) < len(self.names):
            offered = offer(job.sample, answer)
            for bound in self.inline:
                if bound.name not in cells and (bound.extract is None or bound.extract.is_quick(answer.output)):
                    if bound.parts:
                        cells.update(call_parts(bound, offered))
                    else:
                        cells[bound.name] = call_sync(bound, offered)
            if len(cells) < len(self.names):
                cells.update(await self._score_slow(job, answer, deadline, cells, evaluation))
        return {name: cells[name] for name in self.names}

    def _reusable(self, stored: Mapping[str, Cell]) -> dict[str, Cell]:
        """The stored cells, without those of a scorer that lacks its cell or that of a part: it is called again."""
        cells = dict(stored)
        if self.checks is not None and not cells.keys() >= {CHECKS, *self.checks.names}:
            cells.pop(CHECKS, None)
        for bound in self.bound:
            if bound.parts and not cells.keys() >= {*bound.cell_names}:
                for name in bound.cell_names:
                    cells.pop(name, None)
        return cells

    async def _score_slow(
        self,
        job: Job,
        answer: Completion,
        deadline: RowDeadline,
        finished: Collection[str],
        evaluation: Evaluation | None = None,
    ) -> dict[str, Cell]:
        """The cells of async and threaded scorers, and of those with a slow `extract`, run concurrently."""
        threaded = [bound for bound in (*self.threaded, *self.inline) if bound.name not in finished]
        awaited = [(bound, panel) for bound, panel in self.awaited if bound.name not in finished]
        cells: dict[str, Cell] = {}

        async def call(bound: BoundScorer, panel: JudgePanel | None) -> None:
            try:
                cells.update(await _call_awaited(bound, panel, job, answer))
            except asyncio.CancelledError:
                if _is_canceled(self.stop):
                    raise
                reason = f"{name_of(bound.call.function)} raised CancelledError"
                cells.update(cells_from(Failure("function", reason), bound))

        async def call_threaded() -> None:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self.executor, _call_all, threaded, job.sample, answer)
            for result in results:
                cells.update(result)

        run = partial(asyncio.get_running_loop().run_in_executor, self.executor)
        waiting = [call(bound, panel) for bound, panel in awaited] + ([call_threaded()] if threaded else [])
        if evaluation is not None and evaluation.pending:
            waiting.append(evaluation.finish(job.row, run, lambda: _is_canceled(self.stop)))
        try:
            async with deadline:
                await (waiting[0] if len(waiting) == 1 else asyncio.gather(*waiting))
        except TimeoutError:
            timed_out = Failure("timeout", f"not done within the row timeout of {deadline.limit_s:g} s")
            if evaluation is not None:
                evaluation.give_up(timed_out)
            for bound in (*threaded, *[bound for bound, _ in awaited]):
                if bound.name not in cells:
                    cells.update(cells_from(timed_out, bound))
        if evaluation is not None and self.checks is not None:
            cells.update(evaluation.cells(self.checks.names))
        return cells


def _call_all(scorers: Sequence[BoundScorer], sample: Sample, completion: Completion) -> list[dict[str, Cell]]:
    offered = offer(sample, completion)
    return [call_parts(bound, offered) for bound in scorers]


async def _call_awaited(
    bound: BoundScorer, panel: JudgePanel | None, job: Job, completion: Completion
) -> dict[str, Cell]:
    if panel is None:
        return await call_parts_async(bound, job.sample, completion, None)
    return await panel.cells(bound, job.sample, completion, job.row)
