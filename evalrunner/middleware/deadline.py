"""Deadlines and cancellation: the clock of all waits, the deadline of a row, the timeout of a call, the stop signal.

A row's deadline covers its calls, the waits between retries and its scorers. It is paused while the row waits in a
queue: a row that queues because the provider limits the rate is not slow. An HTTP endpoint enforces the timeout of a
call itself (`endpoints.transport`), other endpoints get `TimeoutEndpoint`. The timeout of a run is the runner's. No
limit counts the time in which the process was suspended: `SuspensionEndpoint` repeats what that broke off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

from evalrunner.clock import CLOCK, ProcessClock
from evalrunner.domain import Completion, Endpoint, Failure, Request

T = TypeVar("T")

BROKEN_OFF_KINDS = frozenset({"timeout", "connection"})  # of failures that a suspension can cause

CURRENT: ContextVar[RowDeadline | None] = ContextVar("row_deadline", default=None)


@dataclass(frozen=True, slots=True)
class Timing:
    """A clock and its sleep. Each of its seconds takes `scale` real seconds, so a test can shorten a minute."""

    scale: float = 1.0

    def now(self) -> float:
        """Seconds on the clock of this process, which stands still while the process is suspended."""
        return CLOCK.now() / self.scale

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        await asyncio.sleep(seconds * self.scale)


class RowDeadline:
    """The deadline of one row. Enter it in the task to cancel when the time is up.

    async with RowDeadline(600, timing) as deadline:
        ...  # raises TimeoutError after 600 s, pauses not counted
    """

    def __init__(self, limit_s: float, timing: Timing) -> None:
        self.limit_s = limit_s
        self.timing = timing
        self._end = timing.now() + limit_s
        self._pauses = 0
        self._paused_at = 0.0
        self._limit: asyncio.Timeout | None = None

    def left_s(self) -> float:
        """Seconds left."""
        now = self._paused_at if self._pauses else self.timing.now()
        return self._end - now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside the block. Several blocks may overlap."""
        self._pause()
        try:
            yield
        finally:
            self._resume()

    def _pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            self._paused_at = self.timing.now()
            self._reschedule(None)

    def _resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self._end += self.timing.now() - self._paused_at
            self._reschedule(self.left_s())

    def _reschedule(self, left_s: float | None) -> None:
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
        await limit.__aexit__(kind, error, trace)  # raises TimeoutError if this limit expired


@contextmanager
def pause_deadline() -> Iterator[None]:
    """Pause the deadline of the current row, if there is one, inside the block."""
    deadline = CURRENT.get()
    if deadline is None:
        yield
        return
    with deadline.paused():
        yield


def row_real_time_left_s() -> float:
    """Real seconds left for the current row, for code that uses another clock; infinite without a deadline."""
    deadline = CURRENT.get()
    return float("inf") if deadline is None else deadline.left_s() * deadline.timing.scale


@dataclass(frozen=True, slots=True)
class TimeoutEndpoint:
    """An endpoint that cancels a call after `timeout_s` seconds, or when its row has no time left."""

    inner: Endpoint
    timeout_s: float
    timing: Timing = Timing()

    async def __call__(self, request: Request, /) -> Completion | Failure:
        deadline = CURRENT.get()
        left_s = self.timeout_s if deadline is None else deadline.left_s()
        limit = asyncio.timeout(max(0.0, min(self.timeout_s, left_s)) * self.timing.scale)
        try:
            async with limit:
                return await self.inner(request)
        except TimeoutError:
            if not limit.expired():  # raised by the endpoint itself
                raise
            if deadline is None or self.timeout_s <= left_s:
                return Failure("timeout", f"no answer within {self.timeout_s:g} s")
            remaining = f"the {max(0.0, left_s):.3g} s left of the row timeout of {deadline.limit_s:g} s"
            return Failure("timeout", f"no answer within {remaining}")


class StopSignal:
    """A stop that can be requested from anywhere: once to finish the calls in flight, twice to cancel them.

    A signal with a `parent` belongs to one run of several. It also stops when its parent does, never the other way round.
    `count` is how often a stop was requested, of this signal or its parent. `reason` is the first one given; a stop
    requested at the keyboard has none.
    """

    def __init__(self, parent: StopSignal | None = None) -> None:
        self.count: int = 0 if parent is None else parent.count
        self._requests = 0
        self._parent = parent
        self.children: list[StopSignal] = []
        self._requested = asyncio.Event()
        self._waiting: set[asyncio.Future[Any]] = set()
        self.reason: str | None = None
        if parent is not None:
            parent.children.append(self)
            if parent.count:
                self._requested.set()

    @property
    def interrupted(self) -> bool:
        """Whether a person or the system requested the stop, not the run itself."""
        return self._parent.count > 0 if self._parent is not None else self._requests > 0 and self.reason is None

    @property
    def force(self) -> bool:
        """Whether a stop was requested twice: calls in flight are canceled as well."""
        return (self._parent.count if self._parent is not None else self._requests) > 1

    def request(self, reason: str | None = None) -> None:
        """Request a stop. Call it from the thread of the event loop."""
        self._requests += 1
        if self.reason is None:
            self.reason = reason
        self.update_count()
        self.notify()

    def notify(self) -> None:
        """Wake everything that waits for this signal or its children."""
        self._requested.set()
        for task in tuple(self._waiting):
            task.cancel()
        for child in self.children:
            child.notify()

    def update_count(self) -> None:
        """Bring `count` up to date, here and in the children. It is a plain number because every call reads it."""
        self.count = max(self._requests, 0 if self._parent is None else self._parent.count)
        for child in self.children:
            child.update_count()

    async def wait(self) -> None:
        """Return when a stop is requested."""
        await self._requested.wait()

    def check(self) -> None:
        """Raise CancelledError if a stop was requested: the caller's row is dropped."""
        if self.count:
            raise asyncio.CancelledError

    async def unless_stopped(self, waiting: Awaitable[T]) -> T:
        """The result of `waiting`. Raises CancelledError as soon as a stop is requested."""
        task = asyncio.ensure_future(waiting)
        if not self.count:
            self._waiting.add(task)
            try:
                result = await task  # canceled with its caller, and by `notify`
                self.check()
                return result
            finally:
                self._waiting.discard(task)
                task.cancel()
        task.cancel()
        raise asyncio.CancelledError


@dataclass(frozen=True, slots=True)
class SuspensionEndpoint:
    """An endpoint that repeats a call that was broken off because the process was suspended during it.

    The latency of an answer does not count that time. A stop ends the repetition with CancelledError.
    """

    inner: Endpoint
    stop: StopSignal
    clock: ProcessClock = CLOCK

    async def __call__(self, request: Request, /) -> Completion | Failure:
        while True:
            pauses, suspended_s = self.clock.pauses, self.clock.suspended_s
            answer = await self.inner(request)
            if self.clock.pauses == pauses:
                return answer
            if isinstance(answer, Completion):
                if answer.latency_s is None:
                    return answer
                latency_s = max(0.0, answer.latency_s - (self.clock.suspended_s - suspended_s))
                return replace(
                    answer, latency_s=latency_s, ttft_s=None
                )  # the first token may have come before or after
            if answer.kind not in BROKEN_OFF_KINDS and answer.status != HTTPStatus.REQUEST_TIMEOUT:
                return answer
            self.stop.check()
