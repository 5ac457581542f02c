"""Calls in turn, no more at once than their endpoint bears."""

from __future__ import annotations

from dataclasses import dataclass

from evalrunner.calls.controller import Controller
from evalrunner.calls.stopping import StopSignal
from evalrunner.domain import Completion, Endpoint, Failure, Request


@dataclass(frozen=True, slots=True)
class PacedEndpoint:
    """An endpoint whose calls wait for a turn of `controller`, which all who call the same server share.

    Once a stop is asked for nothing is sent any more: who waits, and who comes, gets CancelledError.
    """

    inner: Endpoint
    controller: Controller
    stop: StopSignal

    async def __call__(self, request: Request, /) -> Completion | Failure:
        self.stop.check()
        turn = self.controller.take(request)
        if turn is None:
            turn = await self.controller.wait(request, self.stop)
        if isinstance(turn, Failure):
            return turn
        try:
            answer = await self.inner(request)
        except BaseException:
            self.controller.drop()
            raise
        self.controller.settle(turn, request, answer)
        return answer
