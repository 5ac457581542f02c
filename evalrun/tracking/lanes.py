"""Requests side by side to one server, as many as make it faster: one far away bears more than one that is busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

FIRST = 8
MOST = 64
WORTH_IT = 1.3  # how much faster twice as many requests have to be to be kept


class Lanes:
    """Threads for short requests; a context manager. `limit` of them are under way at a time, at first `FIRST`.

    The limit doubles while that pays. A server that has its hands full answers no faster for being asked more at once,
    and goes back to what it had; MLflow's own refuses what is far beyond its pool of fifteen connections.
    """

    def __init__(self, limit: int = FIRST, most: int = MOST) -> None:
        self.limit, self.most = min(limit, most), most
        self._pool = ThreadPoolExecutor(most, "evalrun-traces")
        self._free = threading.Condition()
        self._under_way = 0
        self._rate = 0.0  # requests a second with half the limit
        self._done, self._since = 0, time.monotonic()
        self._settled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, actions: Sequence[Callable[[], None]]) -> None:
        """Run all actions. Raises what one of them raised; those that had not begun by then are left out."""
        running: list[Future[None]] = [self._pool.submit(self._in_lane, action) for action in actions]
        try:
            for one in running:
                one.result()
        except BaseException:
            for one in running:
                one.cancel()
            wait(running)
            raise

    def _in_lane(self, action: Callable[[], None]) -> None:
        with self._free:
            self._free.wait_for(lambda: self._under_way < self.limit)
            self._under_way += 1
        try:
            action()
        finally:
            with self._free:
                self._under_way -= 1
                self._count()
                self._free.notify_all()

    def _count(self) -> None:
        self._done += 1
        if self._settled or self._done < 2 * self.limit:
            return
        now = time.monotonic()
        rate = self._done / max(now - self._since, 1e-6)
        if rate < self._rate * WORTH_IT:
            self.limit //= 2
            self._settled = True
        elif self.limit * 2 > self.most:
            self._settled = True
        else:
            self._rate = rate
            self.limit *= 2
        self._done, self._since = 0, now
