"""The circuit breaker: what opens it, what it counts, and what calls get once it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from evalrunner.domain import Completion, Failure
from evalrunner.middleware.circuit_breaker import MAX_CONSECUTIVE_FAILURES, CircuitBreaker

REJECTED = Failure("auth", "the server rejected the key", 401, fatal=True)
DOWN = Failure("server", "HTTP 500", 500)


def answers(breaker: CircuitBreaker, outcomes: Sequence[Completion | Failure]) -> list[Completion | Failure]:
    def ask(outcome: Completion | Failure) -> Callable[[], Awaitable[Completion | Failure]]:
        async def asked() -> Completion | Failure:
            return outcome

        return asked

    async def run() -> list[Completion | Failure]:
        return [await breaker.call(ask(outcome)) for outcome in outcomes]

    return asyncio.run(run())


def test_a_fatal_failure_before_any_answer_opens_the_circuit() -> None:
    breaker = CircuitBreaker()
    first, second = answers(breaker, [REJECTED, Completion("never asked")])
    assert first is REJECTED and first is not breaker.open_reason
    assert second is breaker.open_reason and second == REJECTED


def test_a_fatal_failure_after_an_answer_counts_as_one_failure() -> None:
    breaker = CircuitBreaker()
    answers(breaker, [Completion("hi"), REJECTED])
    assert (breaker.open_reason, breaker.consecutive_failures) == (None, 1)


def test_consecutive_failures_open_the_circuit_and_an_answer_resets_the_count() -> None:
    breaker = CircuitBreaker()
    most = MAX_CONSECUTIVE_FAILURES
    answers(breaker, [DOWN] * (most - 1) + [Completion("hi")] + [DOWN] * (most - 1))
    assert breaker.open_reason is None
    (last,) = answers(breaker, [DOWN])
    assert last is DOWN and breaker.open_reason is not None
    assert breaker.open_reason.message == f"{most} consecutive calls failed; the last one: HTTP 500"


def test_failures_of_the_row_itself_do_not_open_the_circuit() -> None:
    breaker = CircuitBreaker()
    answers(breaker, [Failure("function", "crashed")] * (2 * MAX_CONSECUTIVE_FAILURES))
    assert (breaker.open_reason, breaker.consecutive_failures) == (None, 0)


def test_calls_in_flight_when_the_circuit_opens_return_the_reason_if_they_fail() -> None:
    async def run() -> tuple[CircuitBreaker, list[Completion | Failure]]:
        breaker, opened = CircuitBreaker(), asyncio.Event()

        async def late(outcome: Completion | Failure) -> Completion | Failure:
            await opened.wait()
            return outcome

        async def first() -> Completion | Failure:
            return REJECTED

        waiting = [asyncio.create_task(breaker.call(lambda o=o: late(o))) for o in (DOWN, REJECTED, Completion("hi"))]
        await asyncio.sleep(0)
        await breaker.call(first)
        opened.set()
        return breaker, await asyncio.gather(*waiting)

    breaker, (failed, same, answered) = asyncio.run(run())
    assert failed is breaker.open_reason and same is breaker.open_reason
    assert answered == Completion("hi")
