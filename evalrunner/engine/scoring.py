"""Score a row: cheap scorers inline, async ones on the event loop, all others together in one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Executor

from evalrunner.domain import Cell, Completion, Failure, Sample
from evalrunner.engine.judge import JudgeSession
from evalrunner.engine.plan import Job, PlannedScorer
from evalrunner.middleware.deadline import RowDeadline
from evalrunner.scorers.call import BoundScorer, call_async, call_sync, cell_from, cell_without_call, offer


class RowScorer:
    """The scorers of a plan, grouped once by how they are called."""

    def __init__(self, scorers: Sequence[PlannedScorer], executor: Executor) -> None:
        self.names = [scorer.bound.name for scorer in scorers]
        self.bound = [scorer.bound for scorer in scorers]
        self.inline = [
            item.bound for item in scorers if item.bound.scorer.declaration.inline and not item.bound.is_async
        ]
        self.awaited = [(item.bound, item.judge) for item in scorers if item.bound.is_async]
        grouped = {bound.name for bound in self.inline} | {bound.name for bound, _ in self.awaited}
        self.threaded = [bound for bound in self.bound if bound.name not in grouped]
        self.executor = executor

    async def score(self, job: Job, answer: Completion | Failure, deadline: RowDeadline) -> dict[str, Cell]:
        """A cell per scorer, in the order of the suite; cells of a stored row are reused.

        A scorer that has not finished at the deadline of the row gives an error.
        """
        cells: dict[str, Cell] = dict(job.stored_cells)
        for bound in self.bound:
            cell = None if bound.name in cells else cell_without_call(bound, job.sample, answer)
            if cell is not None:
                cells[bound.name] = cell
        if isinstance(answer, Completion) and len(cells) < len(self.bound):
            offered = offer(job.sample, answer)
            for bound in self.inline:
                if bound.name not in cells:
                    cells[bound.name] = call_sync(bound, offered)
            if len(cells) < len(self.bound):
                cells.update(await self._score_slow(job, answer, deadline, cells))
        return {name: cells[name] for name in self.names}

    async def _score_slow(
        self, job: Job, answer: Completion, deadline: RowDeadline, done: Collection[str]
    ) -> dict[str, Cell]:
        """The cells of async and threaded scorers, run concurrently."""
        threaded = [bound for bound in self.threaded if bound.name not in done]
        awaited = [(bound, session) for bound, session in self.awaited if bound.name not in done]
        cells: dict[str, Cell] = {}

        async def call(bound: BoundScorer, session: JudgeSession | None) -> None:
            cells[bound.name] = await _call_awaited(bound, session, job, answer)

        async def call_threaded() -> None:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self.executor, _call_all, threaded, job.sample, answer)
            cells.update(zip((bound.name for bound in threaded), results, strict=True))

        try:
            async with deadline:
                await asyncio.gather(
                    *[call(bound, session) for bound, session in awaited], *([call_threaded()] if threaded else [])
                )
        except TimeoutError:
            timed_out = Cell(
                "error", reason=f"not done within the row timeout of {deadline.limit_s:g} s", cause="timeout"
            )
            for name in (*[bound.name for bound in threaded], *[bound.name for bound, _ in awaited]):
                cells.setdefault(name, timed_out)
        return cells


def _call_all(scorers: Sequence[BoundScorer], sample: Sample, completion: Completion) -> list[Cell]:
    offered = offer(sample, completion)
    return [call_sync(bound, offered) for bound in scorers]


async def _call_awaited(bound: BoundScorer, session: JudgeSession | None, job: Job, completion: Completion) -> Cell:
    if session is None:
        return await call_async(bound, job.sample, completion, None)
    refusal = await session.ensure_calibrated()
    if refusal is not None:
        return cell_from(refusal, bound.scorer.declaration)
    return await call_async(bound, job.sample, completion, session.for_row(job.row))
