"""A request to stop the run: no new calls are made, and waits for a call end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class StopSignal:
    """A stop that can be requested from anywhere: once to finish the calls in flight, twice to cancel them.

    A signal with a `parent` belongs to one run of several. It also stops when its parent does, never the other way round.
    `reason` is the first one given; a stop requested at the keyboard has none.
    """

    def __init__(self, parent: StopSignal | None = None) -> None:
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
    def count(self) -> int:
        """How often a stop was requested, of this signal or its parent."""
        return max(self._requests, self._parent.count if self._parent is not None else 0)

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
        self.notify()

    def notify(self) -> None:
        """Wake everything that waits for this signal or its children."""
        self._requested.set()
        for task in tuple(self._waiting):
            task.cancel()
        for child in self.children:
            child.notify()

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
