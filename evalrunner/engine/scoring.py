"""The cells of a row: cheap scorers inline, async ones on the loop, all others in one hop to a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Executor

from evalrunner.domain import Cell, Completion, Failure, Sample
from evalrunner.engine.judge import JudgeSession
from evalrunner.engine.plan import Job, PlannedScorer, stored_cells
from evalrunner.middleware.deadline import RowDeadline
from evalrunner.scorers.call import BoundScorer, call_async, call_sync, cell_from, cell_without_call, offer


class RowScorer:
    """Scores rows with the scorers of a plan. The way each scorer is called is settled once."""

    def __init__(self, scorers: Sequence[PlannedScorer], executor: Executor) -> None:
        self.names = [scorer.bound.name for scorer in scorers]
        self.bound = [scorer.bound for scorer in scorers]
        self.inline = [
            item.bound for item in scorers if item.bound.scorer.declaration.inline and not item.bound.is_async
        ]
        self.awaited = [(item.bound, item.judge) for item in scorers if item.bound.is_async]
        placed = {bound.name for bound in self.inline} | {bound.name for bound, _ in self.awaited}
        self.threaded = [bound for bound in self.bound if bound.name not in placed]
        self.executor = executor

    async def score(self, job: Job, answer: Completion | Failure, clock: RowDeadline) -> dict[str, Cell]:
        """A cell per scorer, in the order of the suite; of a job that keeps its answer those kept as well.

        A scorer that is not done when the row's time is up gives an error.
        """
        cells: dict[str, Cell] = dict(stored_cells(job))
        for bound in self.bound:
            settled = None if bound.name in cells else cell_without_call(bound, job.sample, answer)
            if settled is not None:
                cells[bound.name] = settled
        if isinstance(answer, Completion) and len(cells) < len(self.bound):
            offered = offer(job.sample, answer)
            for bound in self.inline:
                if bound.name not in cells:
                    cells[bound.name] = call_sync(bound, offered)
            if len(cells) < len(self.bound):
                cells.update(await self._waited_for(job, answer, clock, cells))
        return {name: cells[name] for name in self.names}

    async def _waited_for(
        self, job: Job, answer: Completion, clock: RowDeadline, settled: Collection[str]
    ) -> dict[str, Cell]:
        """The cells of the scorers that take their time, all at once."""
        threaded = [bound for bound in self.threaded if bound.name not in settled]
        awaited = [(bound, session) for bound, session in self.awaited if bound.name not in settled]
        cells: dict[str, Cell] = {}

        async def keep(bound: BoundScorer, session: JudgeSession | None) -> None:
            cells[bound.name] = await _call_awaited(bound, session, job, answer)

        async def hop() -> None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self.executor, _call_all, threaded, job.sample, answer)
            cells.update(zip((bound.name for bound in threaded), found, strict=True))

        try:
            async with clock:
                await asyncio.gather(
                    *[keep(bound, session) for bound, session in awaited], *([hop()] if threaded else [])
                )
        except TimeoutError:
            late = Cell("error", reason=f"not done within the row timeout of {clock.limit_s:g} s", cause="timeout")
            for name in (*[bound.name for bound in threaded], *[bound.name for bound, _ in awaited]):
                cells.setdefault(name, late)
        return cells


def _call_all(scorers: Sequence[BoundScorer], sample: Sample, completion: Completion) -> list[Cell]:
    offered = offer(sample, completion)
    return [call_sync(bound, offered) for bound in scorers]


async def _call_awaited(bound: BoundScorer, session: JudgeSession | None, job: Job, completion: Completion) -> Cell:
    if session is None:
        return await call_async(bound, job.sample, completion, None)
    refused = await session.ensure_calibrated()
    if refused is not None:
        return cell_from(refused, bound.scorer.declaration)
    return await call_async(bound, job.sample, completion, session.for_row(job.row))
