"""The stop signal: it wakes waiting tasks, rejects new ones and leaves none behind."""

from __future__ import annotations

import asyncio

import pytest

from evalrunner.middleware.deadline import StopSignal


def test_unless_stopped_returns_the_result() -> None:
    async def main() -> str:
        return await StopSignal().unless_stopped(asyncio.sleep(0, "done"))

    assert asyncio.run(main()) == "done"


def test_a_stop_cancels_waits_of_the_signal_and_its_children() -> None:
    async def main() -> list[object]:
        signal = StopSignal()
        below = StopSignal(signal)
        waits = [asyncio.create_task(one.unless_stopped(asyncio.sleep(1000))) for one in (signal, below, below)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        signal.request()
        result: list[object] = [type(one) for one in await asyncio.gather(*waits, return_exceptions=True)]
        assert len(asyncio.all_tasks()) == 1
        return result

    assert asyncio.run(main()) == [asyncio.CancelledError] * 3


def test_no_wait_starts_after_a_stop() -> None:
    async def main() -> None:
        signal = StopSignal()
        signal.request("enough")
        with pytest.raises(asyncio.CancelledError):
            signal.check()
        with pytest.raises(asyncio.CancelledError):
            await signal.unless_stopped(asyncio.sleep(1000))

    asyncio.run(main())


def test_a_result_ready_at_the_time_of_a_stop_is_discarded() -> None:
    async def main() -> None:
        signal = StopSignal()
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(signal.unless_stopped(ready))
        await asyncio.sleep(0)
        ready.set_result(1)
        signal.request()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_unless_stopped_raises_the_exception_of_the_awaited_task() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def main() -> None:
        with pytest.raises(ValueError, match="broken"):
            await StopSignal().unless_stopped(fail())

    asyncio.run(main())


def test_canceling_the_caller_cancels_the_awaited_task() -> None:
    async def main() -> bool:
        waited = asyncio.ensure_future(asyncio.sleep(1000))
        task = asyncio.create_task(StopSignal().unless_stopped(waited))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waited.cancelled()

    assert asyncio.run(main())
