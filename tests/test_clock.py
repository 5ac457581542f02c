"""The clock that stands still while the process is suspended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from evalrunner.clock import ProcessClock
from evalrunner.domain import Completion, Failure, Request
from evalrunner.middleware.deadline import StopSignal, SuspensionEndpoint


@dataclass
class Machine:
    """The time, the CPU time of the process and the uptime of a scripted machine, in seconds."""

    time_s: float = 100.0
    cpu_s: float = 5.0
    asleep_s: float = 0.0

    def clock(self) -> ProcessClock:
        return ProcessClock(
            monotonic=lambda: self.time_s, cpu=lambda: self.cpu_s, uptime=lambda: self.time_s + self.asleep_s
        )

    def run(self, clock: ProcessClock, seconds: float) -> None:
        """Let time pass with a beat every quarter of a second."""
        for _ in range(round(seconds * 4)):
            self.time_s += 0.25
            clock.beat()


def watched(clock: ProcessClock, steps: object) -> list[str]:
    """What the clock has to say after `steps` ran while somebody watched it."""
    lines: list[str] = []

    async def main() -> None:
        with clock.watching(lines.append):
            steps()  # type: ignore[operator]

    asyncio.run(main())
    return lines


def test_a_suspension_does_not_count_and_is_one_sentence() -> None:
    machine = Machine()
    clock = machine.clock()
    seen: list[float] = []

    def steps() -> None:
        machine.run(clock, 2)
        seen.append(clock.now())
        machine.time_s += 42
        seen.append(clock.now())
        machine.run(clock, 1)
        seen.append(clock.now())

    (line,) = watched(clock, steps)
    assert line.startswith("the process did not run for 42 s (suspended, or the computer was asleep)")
    assert [later - seen[0] for later in seen] == [0.0, 0.0, 1.0]
    assert (clock.pauses, clock.suspended_s) == (1, 42.0)


def test_short_gaps_and_busy_processes_are_no_suspension() -> None:
    machine = Machine()
    clock = machine.clock()

    def steps() -> None:
        machine.time_s += 0.9  # a busy machine
        clock.now()
        machine.time_s += 60  # a search that holds the interpreter's lock
        machine.cpu_s += 55
        clock.now()

    assert watched(clock, steps) == []
    assert (clock.pauses, clock.now()) == (0, 160.9)


def test_the_clock_never_goes_back() -> None:
    machine = Machine()
    clock = machine.clock()
    seen: list[float] = []

    def steps() -> None:
        for step in (0.125, 5.0, 0.25, 0.75, 3000.0, 0.0625, 1.125, 0.0):  # exact in binary
            machine.time_s += step
            seen.append(clock.now())

    watched(clock, steps)
    assert seen == sorted(seen)


def test_pauses_are_summed_and_short_ones_are_not_reported() -> None:
    machine = Machine()
    clock = machine.clock()

    def steps() -> None:
        for pause in (2.0, 10.0, 20.0):
            machine.time_s += pause
            clock.now()
            machine.run(clock, 1)

    (line,) = watched(clock, steps)
    assert "did not run for 30 s in 2 pauses" in line
    assert clock.suspended_s == 32.0


def test_the_sleep_of_a_computer_is_noticed_although_the_monotonic_clock_stands_still() -> None:
    machine = Machine()
    clock = machine.clock()

    def steps() -> None:
        machine.run(clock, 1)
        machine.asleep_s += 3600
        machine.run(clock, 1)

    (line,) = watched(clock, steps)
    assert "did not run for 3,600 s" in line
    assert (clock.pauses, clock.suspended_s) == (1, 0.0)


def test_timers_of_the_event_loop_follow_the_clock_and_the_loop_gets_its_own_back() -> None:
    machine = Machine()
    clock = machine.clock()

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        with clock.watching(print):
            inside = loop.time()
        assert loop.time() - before < 60
        return before, inside

    assert asyncio.run(main())[1] == 100.0


def test_a_clock_that_nobody_watches_reports_nothing() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.time_s += 1000
    assert (clock.now(), clock.pauses) == (1100.0, 0)


LOST = Failure("connection", "the connection closed before the reply was complete")
REFUSED = Failure("auth", "no", status=401)


@pytest.mark.parametrize(
    ("first", "pause", "calls"),
    [
        (Failure("timeout", "no answer within 2 s"), True, 2),
        (LOST, True, 2),
        (Failure("bad_request", "too slow", status=408), True, 2),
        (LOST, False, 1),
        (REFUSED, True, 1),
    ],
)
def test_a_call_is_repeated_if_a_suspension_broke_it_off(first: Failure, pause: bool, calls: int) -> None:
    clock = Machine().clock()
    asked: list[Request] = []

    async def endpoint(request: Request, /) -> Completion | Failure:
        asked.append(request)
        if len(asked) > 1:
            return Completion("Paris")
        clock.pauses += pause
        return first

    answer = asyncio.run(SuspensionEndpoint(endpoint, StopSignal(), clock)(Request("m", messages=())))
    assert (len(asked), isinstance(answer, Completion)) == (calls, calls == 2)


def test_the_latency_of_an_answer_does_not_count_a_suspension() -> None:
    clock = Machine().clock()

    async def endpoint(_request: Request, /) -> Completion | Failure:
        clock.pauses += 1
        clock.suspended_s += 40.0
        return Completion("Paris", latency_s=41.5, ttft_s=41.0)

    answer = asyncio.run(SuspensionEndpoint(endpoint, StopSignal(), clock)(Request("m", messages=())))
    assert answer == Completion("Paris", latency_s=1.5)


def test_a_stop_ends_the_repetition() -> None:
    clock = Machine().clock()

    async def main() -> None:
        stop = StopSignal()

        async def endpoint(_request: Request, /) -> Completion | Failure:
            clock.pauses += 1
            stop.request()
            return LOST

        await SuspensionEndpoint(endpoint, stop, clock)(Request("m", messages=()))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
