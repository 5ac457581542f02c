"""A time limit on every call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.deadline import CURRENT
from evalrunner.middleware.timing import Timing


@dataclass(frozen=True, slots=True)
class TimeoutEndpoint:
    """An endpoint that gives up after `timeout_s` seconds, or what its row has left, and drops the connection."""

    inner: Endpoint
    timeout_s: float
    timing: Timing = Timing()

    async def __call__(self, request: Request, /) -> Completion | Failure:
        clock = CURRENT.get()
        left_s = self.timeout_s if clock is None else clock.left_s()
        limit = asyncio.timeout(max(0.0, min(self.timeout_s, left_s)) * self.timing.scale)
        try:
            async with limit:
                return await self.inner(request)
        except TimeoutError:
            if not limit.expired():  # somebody else's, from below
                raise
            if clock is None or self.timeout_s <= left_s:
                return Failure("timeout", f"no answer within {self.timeout_s:g} s")
            left = f"the {max(0.0, left_s):.3g} s that the row had left of its {clock.limit_s:g} s"
            return Failure("timeout", f"no answer within {left}")
