"""An event loop whose clock jumps to the next scheduled event: hours pass in a moment, deterministically."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from evalrunner.domain import Completion, Failure, RateLimitStatus, Request
from evalrunner.middleware.deadline import Timing

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("all wait, and nothing is to happen any more")
        self.loop.passed += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.passed = 0.0
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed


class VirtualTiming(Timing):
    """The clock of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class CappedServer:
    """Accepts `cap` calls in flight and rejects others after `refusal_s`; answers take about `latency_s`.

    With `parallel` it works on so many at a time and lets the rest queue. `rpm` is a limit for each minute of the
    clock, `baseline` the share that is refused whatever is in flight. `down` are (from, to) seconds in which it refuses all.
    """

    def __init__(
        self, cap: int = 10_000, *, latency_s: float = 0.1, refusal_s: float = 0.001, spread: float = 0.2,
        parallel: int = 10_000, rpm: int | None = None, baseline: float = 0.0, retry_after_s: float | None = None,
        down: tuple[float, float] = (0.0, 0.0), sends_headers: bool = False,
    ) -> None:  # fmt: skip
        self.cap, self.latency_s, self.refusal_s, self.spread = cap, latency_s, refusal_s, spread
        self.rpm, self.baseline, self.retry_after_s, self.down, self.sends_headers = (
            rpm,
            baseline,
            retry_after_s,
            down,
            sends_headers,
        )
        self.at_work = asyncio.Semaphore(parallel)
        self.draw = random.Random(1)
        self.in_flight = self.most_in_flight = self.calls = self.refused = self.answered = 0
        self.minute = self.in_minute = 0
        self.log: list[tuple[float, bool]] = []

    async def __call__(self, request: Request, /) -> Completion | Failure:
        now = asyncio.get_running_loop().time()
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if refusal := self._refusal(now):
                self.refused += 1
                self.log.append((now, False))
                self.in_flight -= 1  # rejected calls do not count
                await asyncio.sleep(self.refusal_s)
                self.in_flight += 1
                return refusal
            async with self.at_work:
                await asyncio.sleep(self.latency_s * (1 + self.draw.uniform(-self.spread, self.spread)))
            self.answered += 1
            self.log.append((asyncio.get_running_loop().time(), True))
            return Completion("ok", rate_limit=self._allowance(now))
        finally:
            self.in_flight -= 1

    def _refusal(self, now: float) -> Failure | None:
        busy = Failure("rate_limit", "slower", 429, self.retry_after_s)
        if self.down[0] <= now < self.down[1] or self.in_flight > self.cap or self.draw.random() < self.baseline:
            return busy
        if self.rpm is None:
            return None
        if now // 60 != self.minute:
            self.minute, self.in_minute = int(now // 60), 0
        self.in_minute += 1
        if self.in_minute <= self.rpm:
            return None
        return Failure("rate_limit", "slower", 429, self.retry_after_s, rate_limit=self._allowance(now))

    def _allowance(self, now: float) -> RateLimitStatus | None:
        if not self.sends_headers or self.rpm is None:
            return None
        return RateLimitStatus(max(0, self.rpm - self.in_minute), 60 - now % 60)

    def between(self, begin: float, end: float) -> tuple[int, int]:
        """Calls answered and rejected in that time."""
        result = [answered for when, answered in self.log if begin <= when < end]
        return sum(result), len(result) - sum(result)
