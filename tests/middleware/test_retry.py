"""Retries of transient failures: backoff, Retry-After, restarts and the row deadline."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.formatting import long_duration
from evalrunner.middleware.deadline import RowDeadline, StopSignal, Timing
from evalrunner.middleware.retry import RetryEndpoint, RetryRules, is_retryable, retry_refusal
from tests.fakes.endpoints import ASKED, PARIS, Playing, over_http
from tests.fakes.server import Answer, Cut, Malformed, ScriptedServer, Status, in_order

FAST = Timing(scale=0.001)
BUSY = Failure("rate_limit", "the server's rate limit is reached (HTTP 429)", 429)
DOWN = Failure("connection", "cannot connect to http://127.0.0.1:1 (…); is the server running?", fatal=True)


def retrying(inner: Endpoint, *, retries: int = 5, stop: StopSignal | None = None, **more: Any) -> RetryEndpoint:
    more.setdefault("timing", FAST)
    more.setdefault("draw", random.Random(7))
    return RetryEndpoint(inner, RetryRules(retries), stop=stop or StopSignal(), **more)


class Waits(Timing):
    """A clock that records its waits and takes no time for them."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "seen", [])

    async def sleep(self, seconds: float) -> None:
        self.seen.append(seconds)


class Longest(random.Random):
    """Draws the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


def waits(*answers: Completion | Failure, retries: int = 5, **more: Any) -> list[float]:
    timing = Waits()
    asyncio.run(retrying(Playing(*answers), retries=retries, timing=timing, **more)(ASKED))
    return timing.seen


def test_transient_failures_are_retried_and_reported() -> None:
    inner, retried = Playing(BUSY, BUSY, PARIS), []
    answer = asyncio.run(retrying(inner, on_retry=retried.append)(ASKED))
    assert (answer, inner.calls, retried) == (PARIS, 3, [BUSY, BUSY])


def test_the_last_failure_names_the_number_of_attempts() -> None:
    inner = Playing(BUSY)
    answer = asyncio.run(retrying(inner)(ASKED))
    assert inner.calls == 6
    assert answer == Failure("rate_limit", "the server's rate limit is reached (HTTP 429) (6 attempts)", 429)


def test_one_retry_is_two_attempts() -> None:
    inner = Playing(BUSY)
    answer = asyncio.run(retrying(inner, retries=1)(ASKED))
    assert isinstance(answer, Failure)
    assert (inner.calls, answer.message) == (2, f"{BUSY.message} (2 attempts)")


def test_zero_retries_is_one_attempt() -> None:
    inner = Playing(BUSY)
    assert asyncio.run(retrying(inner, retries=0)(ASKED)) == BUSY
    assert inner.calls == 1


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (Failure("timeout", ""), True),
        (Failure("timeout", "", 504), True),
        (Failure("rate_limit", "", 429), True),
        (Failure("rate_limit", "no quota", 429, fatal=True), False),
        (Failure("server", "", 500), True),
        (Failure("server", "", 529), True),
        (Failure("server", "", 409), True),
        (Failure("server", "", 425), True),
        (Failure("timeout", "", 408), True),
        (Failure("server", "the model has crashed", 400), True),  # LM Studio's
        (Failure("connection", ""), True),
        (Failure("malformed", ""), True),
        (Failure("malformed", "", 200), True),
        (Failure("malformed", "", 299), True),
        (Failure("malformed", "", 300), False),
        (Failure("malformed", "", 404), False),
        (Failure("auth", "", 401, fatal=True), False),
        (Failure("auth", "", 500), False),
        (Failure("bad_request", "", 400), False),
        (Failure("context_length", "", 500), False),
        (Failure("function", ""), False),
        (Failure("missing", ""), False),
    ],
)
def test_only_transient_failures_are_retried(failure: Failure, *, again: bool) -> None:
    assert is_retryable(failure, answered=True) is again


def test_a_server_that_was_never_reached_is_not_retried() -> None:
    inner = Playing(DOWN)
    assert asyncio.run(retrying(inner)(ASKED)) == DOWN
    assert inner.calls == 1


@pytest.mark.parametrize("first", [PARIS, Failure("bad_request", "no", 400), Failure("malformed", "is not JSON")])
def test_a_server_that_answered_before_is_retried(first: Completion | Failure) -> None:
    async def go() -> list[Completion | Failure]:
        inner = Playing(first, *[PARIS] * (first is not PARIS and first.kind == "malformed"), DOWN, DOWN, PARIS)
        endpoint = retrying(inner)
        return [await endpoint(ASKED), await endpoint(ASKED)]

    assert asyncio.run(go())[1] == PARIS


def test_a_malformed_reply_shows_that_the_server_was_reached() -> None:
    inner = Playing(Failure("malformed", "is not JSON"), DOWN, PARIS)
    assert asyncio.run(retrying(inner)(ASKED)) == PARIS


@pytest.mark.parametrize(("second_s", "calls"), [(29.9, 4), (30.0, 3)])
def test_the_grace_period_of_a_restart_is_30_seconds(second_s: float, calls: int) -> None:
    class Clock(Waits):
        times = iter((0.0, second_s, 99.0))

        def now(self) -> float:
            return next(self.times)

    async def go() -> int:
        inner = Playing(PARIS, DOWN)
        endpoint = retrying(inner, retries=1, timing=Clock())
        await endpoint(ASKED)
        await endpoint(ASKED)
        return inner.calls

    assert asyncio.run(go()) == calls


def test_a_restarting_server_is_asked_at_least_every_5_seconds() -> None:
    async def go() -> list[float]:
        timing = Waits()
        endpoint = retrying(Playing(PARIS, *[DOWN] * 6, PARIS), timing=timing, draw=Longest())
        await endpoint(ASKED)
        await endpoint(ASKED)
        return timing.seen

    assert asyncio.run(go()) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("away_s", "retries", "answered"), [(20.0, 2, True), (20.0, 1, True), (20.0, 0, False), (90.0, 2, False)]
)
def test_a_restarting_server_is_retried_for_the_grace_period(away_s: float, retries: int, *, answered: bool) -> None:
    async def go() -> Completion | Failure:
        back = 0.0

        async def restarting(request: Request, /) -> Completion | Failure:
            return DOWN if FAST.now() < back else PARIS

        endpoint = retrying(restarting, retries=retries)
        await endpoint(ASKED)
        back = FAST.now() + away_s
        return await endpoint(ASKED)

    assert (asyncio.run(go()) == PARIS) is answered


def test_the_number_of_retries_applies_once_a_server_is_back() -> None:
    async def go() -> tuple[Completion | Failure, int]:
        inner = Playing(PARIS, DOWN, BUSY)
        endpoint = retrying(inner, retries=3)
        await endpoint(ASKED)
        return await endpoint(ASKED), inner.calls

    answer, calls = asyncio.run(go())
    assert isinstance(answer, Failure) and answer.message.endswith("(4 attempts)")
    assert calls == 1 + 4


def test_backoff_grows_to_its_cap_with_full_jitter() -> None:
    seen = waits(BUSY, retries=200)
    assert all(wait <= min(30.0, 0.5 * 2**nth) for nth, wait in enumerate(seen))
    late = seen[10:]
    assert 12 < sum(late) / len(late) < 18  # uniform in 0..30
    assert len(set(seen)) == 200


def test_the_backoff_doubles_from_half_a_second_to_30_seconds() -> None:
    assert waits(BUSY, retries=9, draw=Longest()) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize("asked", [0.2, 7.0, 100.0])
def test_retry_after_is_the_minimum_wait(asked: float) -> None:
    seen = waits(Failure("rate_limit", "", 429, retry_after_s=asked), retries=50)
    assert min(seen) >= asked
    assert max(seen) <= max(30.0, asked + 0.5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (19_200.0, "the server asks to wait 5 h 20 min, longer than the row timeout of 600 s; no more today"),
        (1e300, "the server asks to wait"),
    ],
)
def test_a_wait_longer_than_the_row_timeout_fails_at_once(asked: float, message: str) -> None:
    async def go() -> Completion | Failure:
        async with RowDeadline(600.0, FAST):
            return await retrying(Playing(Failure("rate_limit", "no more today", 429, retry_after_s=asked)))(ASKED)

    answer = asyncio.run(go())
    assert isinstance(answer, Failure)
    assert (answer.kind, answer.status, answer.message[: len(message)]) == ("rate_limit", 429, message)


def test_a_wait_longer_than_the_time_left_of_the_row_fails_at_once() -> None:
    async def go() -> Completion | Failure:
        timing = Timing(scale=0.01)
        async with RowDeadline(10.0, timing):
            await timing.sleep(5.0)
            return await retrying(Playing(Failure("server", "full", 503, retry_after_s=9.0)), timing=timing)(ASKED)

    assert asyncio.run(go()) == Failure(
        "server", "the server asks to wait 9 s, longer than the time left of the row timeout of 10 s; full", 503,
        retry_after_s=9.0,
    )  # fmt: skip


def test_without_a_row_deadline_the_longest_wait_is_an_hour() -> None:
    answer = asyncio.run(retrying(Playing(Failure("rate_limit", "quota", 429, retry_after_s=90_000.0)))(ASKED))
    assert str(answer) == ("rate_limit: the server asks to wait 1 d 1 h, longer than the longest wait of 3600 s; quota")


def test_a_retry_needs_more_time_than_its_wait() -> None:
    assert retry_refusal(3599.9, None) is None
    assert retry_refusal(3600.0, None) == "the longest wait of 3600 s leaves no time for a retry"
    assert retry_refusal(3600.2, 3599.9) == "the longest wait of 3600 s leaves no time for a retry"


def test_a_stop_ends_the_backoff() -> None:
    async def go() -> int:
        stop, inner = StopSignal(), Playing(Failure("rate_limit", "", 429, retry_after_s=3000.0))
        task = asyncio.create_task(retrying(inner, stop=stop, timing=Timing())(ASKED))
        await asyncio.sleep(0.01)
        stop.request()
        with pytest.raises(asyncio.CancelledError):
            await task
        return inner.calls

    assert asyncio.run(go()) == 1


def test_retries_recover_from_transient_server_faults() -> None:
    script = in_order(
        Status(429, headers={"retry-after": "1"}), Status(500), Malformed(), Cut(0), Status(503), Answer("Paris")
    )

    async def go(server: ScriptedServer) -> Completion | Failure:
        result: list[Completion | Failure] = []

        async def use(endpoint: OpenAIEndpoint) -> None:
            result.append(await retrying(endpoint)(ASKED))

        await over_http(server.base_url, use)
        return result[0]

    with ScriptedServer(script) as server:
        answer = asyncio.run(go(server))
        assert isinstance(answer, Completion)
        assert (answer.text, server.calls) == ("Paris", 6)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.25, "0.25 s"), (9, "9 s"), (60, "1 min"), (90, "1 min 30 s"), (3600, "1 h"), (19_200, "5 h 20 min"),
        (3599.7, "1 h"), (7170, "2 h"), (86_400, "1 d"), (172_800 - 1, "2 d"), (180_000, "2 d 2 h"),
    ],
)  # fmt: skip
def test_long_durations_in_words(seconds: float, words: str) -> None:
    assert long_duration(seconds) == words
