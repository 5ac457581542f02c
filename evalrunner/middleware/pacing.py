"""Calls in turn, no more at once than their endpoint bears."""

from __future__ import annotations

from dataclasses import dataclass

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.controller import ConcurrencyLimiter


@dataclass(frozen=True, slots=True)
class ConcurrencyLimitedEndpoint:
    """An endpoint whose calls wait for a turn of `controller`, which all who call the same server share.

    Once a stop is asked for nothing is sent any more: who waits, and who comes, gets CancelledError.
    """

    inner: Endpoint
    controller: ConcurrencyLimiter
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
