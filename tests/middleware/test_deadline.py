"""The row deadline and the call timeout: calls and backoff count, queues do not, and calls end with their row."""

from __future__ import annotations

import asyncio

import pytest

from evalrunner.domain import Completion, Endpoint, Failure
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import DeadlineTransport
from evalrunner.middleware.deadline import (
    RowDeadline,
    TimeoutEndpoint,
    Timing,
    pause_deadline,
    row_real_time_left_s,
)
from tests.fakes.endpoints import ASKED, PARIS, Playing
from tests.fakes.server import Hang, ScriptedServer, always
from tests.fakes.virtual_time import VirtualTiming, run_virtual

TIME = VirtualTiming()


def test_a_row_times_out_at_its_deadline() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with RowDeadline(10.0, TIME):
                await asyncio.sleep(100)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 10.0


def test_overlapping_pauses_do_not_count() -> None:
    async def waiting(seconds: float) -> None:
        with pause_deadline():
            await asyncio.sleep(seconds)

    async def main() -> tuple[float, float]:
        async with RowDeadline(10.0, TIME) as clock:
            await asyncio.sleep(3)
            await asyncio.gather(waiting(50), waiting(20), waiting(70))
            left = clock.left_s()
            await asyncio.sleep(6.5)
            return left, clock.left_s()

    assert run_virtual(main()) == (7.0, 0.5)


def test_without_a_deadline_the_time_left_is_infinite() -> None:
    with pause_deadline():
        assert row_real_time_left_s() == float("inf")


def test_real_time_left_is_scaled() -> None:
    async def main() -> tuple[float, float]:
        async with RowDeadline(600.0, Timing(scale=0.01)) as deadline:
            return deadline.left_s(), row_real_time_left_s()

    left, real = asyncio.run(main())
    assert left == pytest.approx(600, rel=0.01)
    assert real == pytest.approx(6, rel=0.01)


def limited(inner: Endpoint, timeout_s: float, row_s: float | None) -> tuple[Completion | Failure, float]:
    async def main() -> tuple[Completion | Failure, float]:
        endpoint = TimeoutEndpoint(inner, timeout_s, TIME)
        if row_s is None:
            return await endpoint(ASKED), asyncio.get_running_loop().time()
        async with RowDeadline(row_s, TIME):
            await asyncio.sleep(row_s / 2)
            return await endpoint(ASKED), asyncio.get_running_loop().time()

    return run_virtual(main())


def test_a_call_times_out_after_its_own_timeout() -> None:
    result = limited(Playing(PARIS, latency_s=1000), 60.0, None)
    assert result == (Failure("timeout", "no answer within 60 s"), 60.0)


def test_a_call_within_its_timeout_succeeds() -> None:
    assert limited(Playing(PARIS, latency_s=59), 60.0, 600.0) == (PARIS, 359.0)


def test_a_call_times_out_with_its_row() -> None:
    with pytest.raises(TimeoutError):  # because the row's own deadline has passed too
        limited(Playing(PARIS, latency_s=1000), 60.0, 30.0)


def test_a_timeout_message_names_the_time_left_of_the_row() -> None:
    async def main() -> Completion | Failure:
        clock = RowDeadline(30.0, TIME)
        await asyncio.sleep(20)
        async with clock:
            endpoint = TimeoutEndpoint(Playing(PARIS, latency_s=1000), 60.0, Timing(scale=0.5))
            return await endpoint(ASKED)

    assert run_virtual(main()) == Failure("timeout", "no answer within the 10 s left of the row timeout of 30 s")


def test_the_connection_of_a_timed_out_row_is_dropped() -> None:
    async def main(base_url: str) -> None:
        transport = DeadlineTransport(PyreqwestTransport(), row_real_time_left_s)
        endpoint = OpenAIEndpoint(transport, base_url, timeout_s=600.0)
        try:
            with pytest.raises(TimeoutError):
                async with RowDeadline(10.0, Timing(scale=0.005)):
                    await endpoint(ASKED)
            await asyncio.sleep(0.5)
        finally:
            await transport.aclose()

    with ScriptedServer(always(Hang())) as server:
        asyncio.run(main(server.base_url))
        assert server.settle() == (1, 1, 0)
