"""Requests and tokens per minute: never exceeded, nearly used up, and waits can be stopped."""

from __future__ import annotations

import asyncio

import pytest

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.deadline import RowDeadline, StopSignal
from evalrunner.middleware.rate_limit import RateLimitedEndpoint
from tests.fakes.endpoints import ASKED, PARIS, Playing
from tests.fakes.virtual_time import VirtualTiming, run_virtual

TIME = VirtualTiming()


class Timed:
    """Records the time of each call."""

    def __init__(self, answer: Completion | Failure = PARIS, latency_s: float = 0.1) -> None:
        self.answer, self.latency_s = answer, latency_s
        self.came: list[float] = []

    async def __call__(self, request: Request, /) -> Completion | Failure:
        self.came.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.latency_s)
        return self.answer


def rated(
    inner: Endpoint, rpm: float | None = None, tpm: float | None = None, stop: StopSignal | None = None
) -> RateLimitedEndpoint:
    return RateLimitedEndpoint(inner, rpm, tpm, timing=TIME, stop=stop or StopSignal())


def times(
    inner: Timed, count: int, *, rpm: float | None = None, tpm: float | None = None, asked: Request = ASKED
) -> list[float]:
    async def main() -> None:
        endpoint = rated(inner, rpm, tpm)
        await asyncio.gather(*(endpoint(asked) for _ in range(count)))

    run_virtual(main())
    return inner.came


@pytest.mark.parametrize(("rpm", "burst"), [(6, 1), (60, 1), (600, 10), (0.5, 1)])
def test_requests_are_spread_over_the_minute(rpm: float, burst: int) -> None:
    count = 40
    came = times(Timed(), count, rpm=rpm)
    assert came == sorted(came)
    assert came[-1] == pytest.approx((count - burst) * 60 / rpm, rel=0.01)
    for first in range(count):
        assert sum(came[first] <= when < came[first] + 60 for when in came) <= rpm + burst


def test_estimated_tokens_are_corrected_by_usage() -> None:
    requested = Request("m", ({"role": "user", "content": "x" * 400},), params={"max_tokens": 900})  # 1,000 at most
    inner = Timed(Completion("ok", input_tokens=100, output_tokens=100))
    came = times(inner, 120, tpm=6000, asked=requested)
    spent = 120 * 200 / 100  # seconds at 100 tokens a second
    assert 0.85 * spent <= came[-1] + 6 <= 1.1 * spent


def test_usage_above_the_estimate_delays_later_calls() -> None:
    async def main() -> list[float]:
        inner = Timed(Completion("ok", input_tokens=0, output_tokens=6000), latency_s=1.0)
        endpoint = rated(inner, tpm=6000)
        for _ in range(3):
            await endpoint(Request("m"))
        return inner.came

    first, second, third = run_virtual(main())
    assert first == 0.0
    assert 50 <= second <= 60  # a minute's worth, less the burst
    assert 110 <= third <= 130


def test_a_call_larger_than_tpm_is_still_made() -> None:
    requested = Request("m", ({"role": "user", "content": "x"},), params={"max_tokens": 100_000})
    assert len(times(Timed(Failure("rate_limit", "slower", 429)), 3, tpm=60, asked=requested)) == 3


def test_without_rate_limits_nothing_waits() -> None:
    assert times(Timed(), 100) == [0.0] * 100


def test_a_canceled_wait_uses_no_tokens() -> None:
    async def main() -> list[float]:
        inner = Timed()
        endpoint = rated(inner, rpm=60)
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(21)]
        await asyncio.sleep(0.5)
        for task in tasks[1:20]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return inner.came

    assert run_virtual(main()) == pytest.approx([0.0, 1.0])


def test_a_stop_ends_the_wait_for_a_rate_limit() -> None:
    async def main() -> tuple[int, int]:
        stop, inner = StopSignal(), Playing(PARIS)
        endpoint = rated(inner, 60, stop=stop)
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(10)]
        await asyncio.sleep(2.5)
        stop.request()
        result = await asyncio.gather(*tasks, return_exceptions=True)
        return inner.calls, sum(isinstance(answer, asyncio.CancelledError) for answer in result)

    assert run_virtual(main()) == (3, 7)


def test_waiting_for_a_rate_limit_pauses_the_row_deadline() -> None:
    async def main() -> list[Completion | Failure]:
        endpoint = rated(Timed(), 60)

        async def row() -> Completion | Failure:
            async with RowDeadline(0.5, TIME):
                return await endpoint(ASKED)

        return await asyncio.gather(*(row() for _ in range(5)))

    assert run_virtual(main()) == [PARIS] * 5
