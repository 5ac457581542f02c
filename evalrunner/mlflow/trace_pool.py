"""Requests side by side, few enough for a server that keeps its runs in a small database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

# MLflow's server has fifteen connections to its database and takes two for a trace. Fifteen requests at a time each get
# one, wait for their second, and nobody gets on for half a minute, other users neither. So these and the four targets
# that are sent at a time stay below that; more would not be faster either, as one process writes.
AT_ONCE = 8


class Lanes:
    """Threads that all targets of a run share for their traces; a context manager."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._pool = ThreadPoolExecutor(at_once, "evalrun-traces")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, actions: Sequence[Callable[[], None]]) -> None:
        """Run all actions. Raises what one of them raised; those that had not begun by then are left out."""
        running: list[Future[None]] = [self._pool.submit(action) for action in actions]
        try:
            for one in running:
                one.result()
        except BaseException:
            for one in running:
                one.cancel()
            wait(running)
            raise
