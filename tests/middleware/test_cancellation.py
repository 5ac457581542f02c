"""The wish to stop: who waits is woken, who comes is turned away, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from evalrunner.middleware.cancellation import StopSignal


def test_what_is_waited_for_comes() -> None:
    async def main() -> str:
        return await StopSignal().unless_stopped(asyncio.sleep(0, "done"))

    assert asyncio.run(main()) == "done"


def test_a_stop_wakes_those_who_wait_also_below_it() -> None:
    async def main() -> list[object]:
        signal = StopSignal()
        below = StopSignal(signal)
        waits = [asyncio.create_task(one.unless_stopped(asyncio.sleep(1000))) for one in (signal, below, below)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        signal.request()
        found: list[object] = [type(one) for one in await asyncio.gather(*waits, return_exceptions=True)]
        assert len(asyncio.all_tasks()) == 1
        return found

    assert asyncio.run(main()) == [asyncio.CancelledError] * 3


def test_after_a_stop_nobody_begins_to_wait() -> None:
    async def main() -> None:
        signal = StopSignal()
        signal.request("enough")
        with pytest.raises(asyncio.CancelledError):
            signal.check()
        with pytest.raises(asyncio.CancelledError):
            await signal.unless_stopped(asyncio.sleep(1000))

    asyncio.run(main())


def test_what_is_ready_when_a_stop_is_asked_for_is_not_used() -> None:
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


def test_a_failure_of_what_is_waited_for_goes_on() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def main() -> None:
        with pytest.raises(ValueError, match="broken"):
            await StopSignal().unless_stopped(fail())

    asyncio.run(main())


def test_cancelling_who_waits_cancels_what_is_waited_for() -> None:
    async def main() -> bool:
        waited = asyncio.ensure_future(asyncio.sleep(1000))
        task = asyncio.create_task(StopSignal().unless_stopped(waited))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waited.cancelled()

    assert asyncio.run(main())
