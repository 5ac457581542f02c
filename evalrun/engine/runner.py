"""Rows out of a plan: N workers pull jobs from one lazy iterator, and each row is handed on as it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from evalrun.calls.stopping import StopSignal
from evalrun.domain import Completion, Failure, Row
from evalrun.engine.plan import Job, Plan
from evalrun.engine.scoring import RowScorer
from evalrun.signatures import name_of

GRACE_S = 5.0  # what calls in flight get to finish once a stop was asked for


@dataclass(slots=True)
class TargetState:
    """How a target fares. `ended` is why it is not asked any more, if it is not."""

    answered: int = 0
    failed: int = 0
    ended: Failure | None = None


@dataclass(slots=True)
class RunState:
    """How a run fares, kept up to date while it goes."""

    targets: dict[str, TargetState] = field(default_factory=dict)
    rows: int = 0
    interrupted: bool = False


async def run_plan(plan: Plan, *, emit: Callable[[Row], None], stop: StopSignal) -> RunState:
    """Run every job of the plan, handing each row to `emit` in order of completion.

    A target whose first calls fail for good is not asked again; the others finish. A stop ends the run after
    the calls in flight, or GRACE_S seconds.
    """
    state = RunState({target.name: TargetState() for target in plan.targets})
    asked = plan.suite.run.concurrency
    concurrency = max(1, min(16 if asked == "auto" else asked, plan.rows))
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(concurrency, thread_name_prefix="evalrun-worker")
    loop.set_default_executor(executor)
    try:
        scorer = RowScorer(plan.scorers, executor)
        jobs = iter(plan.jobs())
        workers = [asyncio.create_task(_work(jobs, scorer, state, emit=emit, stop=stop)) for _ in range(concurrency)]
        await _until_done(workers, state, stop)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        # A thread that hangs in someone's function must not hold the loop's own end.
        loop.set_default_executor(ThreadPoolExecutor(1))
    return state


async def _until_done(workers: list[asyncio.Task[None]], state: RunState, stop: StopSignal) -> None:
    waiter = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[None]] = set(workers)
    try:
        while pending and not waiter.done():
            done, rest = await asyncio.wait({*pending, waiter}, return_when=asyncio.FIRST_COMPLETED)
            pending = rest - {waiter}
            for worker in done - {waiter}:
                worker.result()  # a full disk or a dataset that changed ends the run here
        if waiter.done():
            state.interrupted = True
            deadline = time.monotonic() + GRACE_S
            while pending and stop.times < 2 and time.monotonic() < deadline:
                _, pending = await asyncio.wait(pending, timeout=0.05)
    finally:
        waiter.cancel()
        for worker in pending:
            worker.cancel()
        await asyncio.gather(*workers, waiter, return_exceptions=True)


async def _work(
    jobs: Iterator[Job], scorer: RowScorer, state: RunState, *, emit: Callable[[Row], None], stop: StopSignal
) -> None:
    while not stop.times:
        job = next(jobs, None)
        if job is None or all(target.ended for target in state.targets.values()):
            return
        target = state.targets[job.target.name]
        if target.ended is not None:
            continue
        answer = await _call_target(job)
        if isinstance(answer, Completion):
            target.answered += 1
        else:
            target.failed += 1
            if answer.fatal and not target.answered and target.ended is None:
                target.ended = answer
        cells = await scorer.score(job.sample, answer)
        state.rows += 1
        emit(Row(job.sample, job.target.name, job.epoch, answer, cells))


async def _call_target(job: Job) -> Completion | Failure:
    try:
        return await job.target.call(job.sample, job.epoch)
    except Exception as crash:  # a target of someone's own that raises is a failure of its row, not of the run
        said = f"{type(crash).__name__}: {crash}"
        return Failure("function", f"{name_of(type(job.target.call))} raised {said}"[:500])
