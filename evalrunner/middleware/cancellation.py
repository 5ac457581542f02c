"""The wish to stop, as those see it who are about to call: no new calls, and no waiting for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class StopSignal:
    """A wish to stop that anyone can utter: once to finish what is in flight, twice to drop it.

    One made with a `parent` is a run's own: it also stops when its parent is asked to, never the other way round.
    `reason` is the first one given; a wish of the person at the keyboard has none.
    """

    def __init__(self, parent: StopSignal | None = None) -> None:
        self._own = 0
        self._parent = parent
        self.children: list[StopSignal] = []
        self._changed = asyncio.Event()
        self._waiting: set[asyncio.Future[Any]] = set()
        self.reason: str | None = None
        if parent is not None:
            parent.children.append(self)
            if parent.count:
                self._changed.set()

    @property
    def count(self) -> int:
        """How often it was asked, of this signal or its parent."""
        return max(self._own, self._parent.count if self._parent is not None else 0)

    @property
    def interrupted(self) -> bool:
        """Whether it was a person or the system that asked, not the run itself."""
        return self._parent.count > 0 if self._parent is not None else self._own > 0 and self.reason is None

    @property
    def force(self) -> bool:
        """Whether somebody asked twice: then what is in flight is dropped as well."""
        return (self._parent.count if self._parent is not None else self._own) > 1

    def request(self, reason: str | None = None) -> None:
        """Ask to stop; call from the thread of the event loop."""
        self._own += 1
        if self.reason is None:
            self.reason = reason
        self.notify()

    def notify(self) -> None:
        """Wake whoever waits, of this signal and those below it."""
        self._changed.set()
        for task in tuple(self._waiting):
            task.cancel()
        for child in self.children:
            child.notify()

    async def wait(self) -> None:
        """Until somebody asks to stop."""
        await self._changed.wait()

    def check(self) -> None:
        """Raises CancelledError where a stop was asked for: whoever is about to call is dropped, and its row with it."""
        if self.count:
            raise asyncio.CancelledError

    async def unless_stopped(self, waiting: Awaitable[T]) -> T:
        """What `waiting` comes to. Raises CancelledError as soon as a stop is asked for."""
        task = asyncio.ensure_future(waiting)
        if not self.count:
            self._waiting.add(task)
            try:
                found = await task  # cancelled with whoever waits here, and by `notify`
                self.check()
                return found
            finally:
                self._waiting.discard(task)
                task.cancel()
        task.cancel()
        raise asyncio.CancelledError
