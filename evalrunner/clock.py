"""The clock of all timeouts: seconds in which this process could run.

A stopped process (SIGSTOP, Ctrl-Z, a frozen container) and a sleeping computer answer nothing, so this time counts for
no timeout. A thread wakes up every `BEAT_S` seconds. If it does not for more than `GAP_S` seconds, and the process did
not spend them computing, it was suspended. While `watching`, the event loop uses this clock too, so its timers move.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

BEAT_S = 0.25
GAP_S = 1.0  # four beats; a busy machine delays one or two
REPORT_S = 3.0  # shorter pauses do not count either, but are not worth a line

UPTIME_CLOCKS = {"linux": "CLOCK_BOOTTIME", "darwin": "CLOCK_MONOTONIC"}
"""The clock of each system that also counts the sleep of the computer; on Windows the monotonic clock does."""


def _uptime() -> float:
    name = UPTIME_CLOCKS.get(sys.platform)
    return time.monotonic() if name is None else time.clock_gettime(getattr(time, name))


class ProcessClock:
    """A monotonic clock that stands still while the process is suspended.

    `pauses` counts the suspensions so far, `suspended_s` are their seconds that a monotonic clock counts. Computers that
    sleep are noticed too; the monotonic clock of Linux and macOS stands still then by itself.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        uptime: Callable[[], float] = _uptime,
    ) -> None:
        self.pauses = 0
        self._monotonic, self._cpu, self._uptime = monotonic, cpu, uptime
        self.suspended_s = 0.0
        self._reported: list[float] = []  # the length of each pause that is worth a line
        self._limit_s = math.inf  # GAP_S while somebody watches
        self._ran_at = self._cpu_s = self._asleep_s = 0.0  # when it certainly ran; CPU time and sleep until then
        self._lock = threading.Lock()
        self._watchers = 0
        self._end: threading.Event | None = None

    def now(self) -> float:
        """Seconds on this clock."""
        now = self._monotonic()
        if now - self._ran_at > self._limit_s:
            self._skip_gap(now)
        if now > self._ran_at:  # noqa: PLR1730  half the time of max()
            self._ran_at = now
        return now - self.suspended_s

    def timer(self) -> float:
        """Seconds for the measurement of a short time, as precise as `time.perf_counter`, without suspensions."""
        return time.perf_counter() - self.suspended_s

    def beat(self) -> None:
        """Note that the process runs, and whether the computer was asleep."""
        self.now()
        self._cpu_s = self._cpu()
        asleep_s = self._uptime() - self._monotonic()
        if asleep_s - self._asleep_s > GAP_S:
            self._note(asleep_s - self._asleep_s)
        self._asleep_s = asleep_s

    def _skip_gap(self, now: float) -> None:
        """Leave a gap out, unless the process was busy: a thread that computes can keep the others waiting."""
        with self._lock:
            gap_s = now - self._ran_at
            if gap_s <= self._limit_s:  # another thread was here first
                return
            cpu_s = self._cpu()
            if cpu_s - self._cpu_s < gap_s / 2:
                self.suspended_s += gap_s
                self._note(gap_s)
            self._ran_at, self._cpu_s = now, cpu_s

    def _note(self, seconds: float) -> None:
        self.pauses += 1
        if seconds >= REPORT_S:
            self._reported.append(seconds)

    @contextmanager
    def watching(self, notify: Callable[[str], None]) -> Iterator[None]:
        """Notice suspensions inside the block, in the running event loop; `notify` gets a sentence about them at its end."""
        loop = asyncio.get_running_loop()
        with suppress(AttributeError):  # of an event loop in C, whose timers are then late by themselves
            loop.time = self.now  # type: ignore[method-assign]
        self._begin()
        before = len(self._reported)
        try:
            yield
        finally:
            if line := _sentence(self._reported[before:]):
                notify(line)
            self._stop()
            with suppress(AttributeError):
                del loop.time

    def _begin(self) -> None:
        with self._lock:
            self._watchers += 1
            if self._watchers > 1:
                return
            self._ran_at, self._cpu_s = self._monotonic(), self._cpu()
            self._asleep_s = self._uptime() - self._monotonic()
            end = threading.Event()
            with suppress(RuntimeError):  # no thread can be started: suspensions are not noticed
                threading.Thread(target=self._beat_until, args=(end,), name="evalrun-clock", daemon=True).start()
                self._end, self._limit_s = end, GAP_S

    def _stop(self) -> None:
        with self._lock:
            self._watchers -= 1
            if self._watchers == 0 and self._end is not None:
                self._end.set()
                self._end, self._limit_s = None, math.inf

    def _beat_until(self, end: threading.Event) -> None:
        while not end.wait(BEAT_S):
            self.beat()


def _sentence(pauses: list[float]) -> str:
    if not pauses:
        return ""
    times = "" if len(pauses) == 1 else f" in {len(pauses)} pauses"
    return (
        f"the process did not run for {sum(pauses):,.0f} s{times} (suspended, or the computer was asleep); "
        "timeouts do not count this time, and calls that it broke off were repeated"
    )


CLOCK = ProcessClock()
