"""The cells of a row: cheap scorers inline, async ones on the loop, all others in one hop to a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from evalrun.domain import EMPTY, Cell, Completion, Failure, Sample
from evalrun.engine.judges import JudgeDesk
from evalrun.engine.plan import PlannedScorer
from evalrun.scorers.calling import BoundScorer, call_async, call_sync, cell_from, cell_without_call


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

    async def score(
        self, sample: Sample, answer: Completion | Failure, *, kept: Mapping[str, Cell] = EMPTY
    ) -> dict[str, Cell]:
        """A cell per scorer, in the order of the suite. Scorers whose cell is `kept` from before are not called."""
        cells: dict[str, Cell] = {name: cell for name, cell in kept.items() if name in self.names}
        for bound in self.bound:
            settled = None if bound.name in cells else cell_without_call(bound, sample, answer)
            if settled is not None:
                cells[bound.name] = settled
        if isinstance(answer, Failure) or len(cells) == len(self.bound):
            return {name: cells[name] for name in self.names}
        for bound in self.inline:
            if bound.name not in cells:
                cells[bound.name] = call_sync(bound, sample, answer)
        threaded = [bound for bound in self.threaded if bound.name not in cells]
        awaited = [(bound, desk) for bound, desk in self.awaited if bound.name not in cells]
        waiting = [_call_awaited(bound, desk, sample, answer) for bound, desk in awaited]
        if threaded:
            loop = asyncio.get_running_loop()
            hop = loop.run_in_executor(self.executor, _call_all, threaded, sample, answer)
            later, found = await asyncio.gather(asyncio.gather(*waiting), hop)
            cells.update(zip((bound.name for bound in threaded), found, strict=True))
        else:
            later = await asyncio.gather(*waiting) if waiting else []
        cells.update(zip((bound.name for bound, _ in awaited), later, strict=True))
        return {name: cells[name] for name in self.names}


def _call_all(scorers: Sequence[BoundScorer], sample: Sample, completion: Completion) -> list[Cell]:
    return [call_sync(bound, sample, completion) for bound in scorers]


async def _call_awaited(bound: BoundScorer, desk: JudgeDesk | None, sample: Sample, completion: Completion) -> Cell:
    if desk is None:
        return await call_async(bound, sample, completion, None)
    refused = await desk.admit()
    if refused is not None:
        return cell_from(refused, bound.scorer.declaration)
    return await call_async(bound, sample, completion, desk.open())
