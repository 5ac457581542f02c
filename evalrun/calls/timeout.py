"""A time limit on every call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from evalrun.domain import Completion, Endpoint, Failure, Request


@dataclass(frozen=True, slots=True)
class TimeoutEndpoint:
    """An endpoint that gives up after `timeout_s` seconds and drops the connection."""

    inner: Endpoint
    timeout_s: float

    async def __call__(self, request: Request, /) -> Completion | Failure:
        limit = asyncio.timeout(self.timeout_s)
        try:
            async with limit:
                return await self.inner(request)
        except TimeoutError:
            if not limit.expired():  # somebody else's, from below
                raise
            return Failure("timeout", f"no answer within {self.timeout_s:g} s")
