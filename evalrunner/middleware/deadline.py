"""How long a row may take: its calls, the waits between tries and its scorers, but not its waiting for a turn.

A row that queues behind others because the provider bears no more is not slow, so its clock stands still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from evalrunner.middleware.timing import Timing

CURRENT: ContextVar[RowDeadline | None] = ContextVar("row_clock", default=None)


class RowDeadline:
    """The time of one row; entered by whoever works on it, in the task that is to be broken off at its end.

    async with RowDeadline(600, timing) as clock:
        ...  # raises TimeoutError after 600 s, those in `queued()` left out
    """

    def __init__(self, limit_s: float, timing: Timing) -> None:
        self.limit_s = limit_s
        self.timing = timing
        self._end = timing.now() + limit_s
        self._queued = 0
        self._queued_since = 0.0
        self._limit: asyncio.Timeout | None = None

    def left_s(self) -> float:
        """Seconds that the row has left."""
        now = self._queued_since if self._queued else self.timing.now()
        return self._end - now

    @contextmanager
    def queued(self) -> Iterator[None]:
        """The clock stands still inside, also where several wait at once."""
        self._pause()
        try:
            yield
        finally:
            self._go_on()

    def _pause(self) -> None:
        self._queued += 1
        if self._queued == 1:
            self._queued_since = self.timing.now()
            self._set(None)

    def _go_on(self) -> None:
        self._queued -= 1
        if self._queued == 0:
            self._end += self.timing.now() - self._queued_since
            self._set(self.left_s())

    def _set(self, left_s: float | None) -> None:
        if self._limit is None or self._limit.expired():
            return
        when = None if left_s is None else asyncio.get_running_loop().time() + left_s * self.timing.scale
        self._limit.reschedule(when)

    async def __aenter__(self) -> Self:
        self._limit = asyncio.timeout(max(0.0, self.left_s()) * self.timing.scale)
        self._token = CURRENT.set(self)
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._limit is not None  # entered before
        limit, self._limit = self._limit, None
        CURRENT.reset(self._token)
        await limit.__aexit__(kind, error, trace)  # raises TimeoutError where it was the limit that ended it


@contextmanager
def pause_deadline() -> Iterator[None]:
    """The clock of the row that is worked on stands still inside; nothing where there is none."""
    clock = CURRENT.get()
    if clock is None:
        yield
        return
    with clock.queued():
        yield


def row_time_left_s() -> float:
    """Seconds that the row in work has left, without end where no clock runs."""
    clock = CURRENT.get()
    return float("inf") if clock is None else clock.left_s()


def row_real_time_left_s() -> float:
    """The same in real seconds, for whoever keeps time by another clock than ours."""
    clock = CURRENT.get()
    return float("inf") if clock is None else clock.left_s() * clock.timing.scale
