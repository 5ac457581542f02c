"""The concurrency limit: adapts to what the server accepts, backs off when it refuses, and is never exceeded."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.pace import SCENARIOS, simulate
from evalrunner.domain import Completion, Endpoint, Failure, RateLimitStatus, Request
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.middleware.adaptive_limit import AdaptiveLimit
from evalrunner.middleware.concurrency import ConcurrencyLimitedEndpoint, ConcurrencyLimiter
from evalrunner.middleware.deadline import RowDeadline, StopSignal, Timing
from evalrunner.middleware.retry import RetryEndpoint, RetryRules
from tests.fakes.endpoints import ASKED, PARIS, Playing, numbered, over_http
from tests.fakes.server import Answer, Cut, Hang, Malformed, ScriptedServer, Slow, Status, always
from tests.fakes.virtual_time import CappedServer, VirtualTiming, run_virtual

TIME = VirtualTiming()
BUSY = Failure("rate_limit", "slower", 429)


def auto(ceiling: int = 256, **more: Any) -> ConcurrencyLimiter:
    return ConcurrencyLimiter.auto(ceiling, timing=TIME, **more)


def load(server: Endpoint, limiter: ConcurrencyLimiter, seconds: float, *, workers: int = 300) -> list[Failure]:
    """The failures of constant calls from `workers` tasks, in virtual time."""
    failures: list[Failure] = []

    async def work(endpoint: ConcurrencyLimitedEndpoint) -> None:
        while True:
            answer = await endpoint(ASKED)
            if isinstance(answer, Failure):
                failures.append(answer)
                if answer.fatal:
                    return
                await asyncio.sleep(0.5)

    async def main() -> None:
        endpoint = ConcurrencyLimitedEndpoint(server, limiter, StopSignal())
        workers_ = [asyncio.create_task(work(endpoint)) for _ in range(workers)]
        await asyncio.sleep(seconds)
        for worker in workers_:
            worker.cancel()
        await asyncio.gather(*workers_, return_exceptions=True)

    run_virtual(main())
    return failures


@pytest.mark.parametrize("refused_at", ["once", "late"])
@pytest.mark.parametrize(
    ("cap", "latency_s", "seconds"),
    [
        (1, 0.01, 20), (3, 0.01, 20), (20, 0.01, 15), (1, 0.1, 60), (3, 0.1, 60), (20, 0.1, 40), (100, 0.1, 20),
        (1, 1.0, 120), (3, 1.0, 120), (20, 1.0, 60), (100, 1.0, 60),
    ],
)  # fmt: skip
def test_the_adaptive_limit_finds_the_concurrency_a_server_accepts(
    cap: int, latency_s: float, seconds: float, refused_at: str
) -> None:
    server = CappedServer(cap, latency_s=latency_s, refusal_s=0.001 if refused_at == "once" else latency_s)
    limiter = auto()
    load(server, limiter, seconds)
    answered, refused = server.between(10, seconds)
    assert answered >= 0.8 * (seconds - 10) * cap / latency_s
    assert refused < 0.02 * (answered + refused)
    assert server.most_in_flight <= cap + max(1, cap // 20) + 1


def test_the_adaptive_limit_keeps_up_with_a_fixed_limit_of_twenty() -> None:
    kinds: dict[str, Callable[[], ConcurrencyLimiter]] = {
        "auto": auto,
        "fixed": lambda: ConcurrencyLimiter.fixed(20, timing=TIME),
    }
    result = {}
    for name, make in kinds.items():
        server = CappedServer(20)
        load(server, make(), 30)
        result[name] = server.between(10, 30)
    print(f"answered and refused in twenty seconds: {result}")
    assert result["auto"][0] >= 0.8 * result["fixed"][0]
    assert result["auto"][1] < 0.02 * sum(result["auto"])


def test_the_adaptive_limit_rises_to_its_ceiling_without_refusals() -> None:
    server, limiter = CappedServer(spread=0.9, latency_s=1.0), auto(100)
    load(server, limiter, 20)
    assert (limiter.limit, server.most_in_flight, limiter.max_in_flight) == (100, 100, 100)


def test_an_unused_limit_does_not_rise() -> None:
    server, limiter = CappedServer(), auto()
    load(server, limiter, 20, workers=3)
    assert (limiter.limit, server.most_in_flight) == (4, 3)


@pytest.mark.parametrize("parallel", [1, 8])
def test_the_limit_stops_rising_when_more_calls_bring_no_throughput(parallel: int) -> None:
    server, limiter = CappedServer(parallel=parallel, spread=0.5), auto()
    load(server, limiter, 60)
    answered, _ = server.between(10, 60)
    assert answered >= 0.9 * 50 * parallel / 0.1
    assert limiter.limit <= 8 * max(parallel, 4)


@pytest.mark.parametrize("baseline", [0.02, 0.05, 0.1])
def test_a_baseline_of_refusals_does_not_lower_the_limit(baseline: float) -> None:
    server = CappedServer(baseline=baseline, latency_s=0.2)
    load(server, auto(32), 80, workers=100)
    answered, _ = server.between(40, 80)
    assert answered >= 0.8 * 40 * 32 / 0.2


def simulated(name: str, seeds: int) -> tuple[float, float]:
    """The median time of `auto`, as a share of the fixed limit's, and the share of its calls that were refused."""
    (scenario,) = [one for label, one in SCENARIOS.items() if label == name]
    pairs = [(simulate(scenario, seed, None), simulate(scenario, seed, scenario.fixed)) for seed in range(1, seeds + 1)]
    assert sum(run.failed for pair in pairs for run in pair) == 0
    ratio = statistics.median(auto.seconds for auto, _ in pairs) / statistics.median(
        fixed.seconds for _, fixed in pairs
    )
    return ratio, statistics.median(auto.refused / auto.calls for auto, _ in pairs)


@pytest.mark.parametrize(
    "name",
    [
        "random 2%, 450 ms, retry-after 1", "random 2%, 450 ms, refused late",
        "random 15%, 80 ms, retry-after 1", "random 15%, 80 ms, refused late", "random 503, 5%, 200 ms",
    ],
)  # fmt: skip
def test_random_refusals_with_retry_after_hold_back_only_the_refused_calls(name: str) -> None:
    assert simulated(name, 5)[0] <= 1.5


@pytest.mark.parametrize(
    ("name", "slowest", "most_refused"),
    [
        ("cap 20, refused at once", 1.25, 0.02),
        ("cap 20, refused late", 1.25, 0.02),
        ("cap 20 and random 3%", 1.25, 0.06),
        pytest.param("cap 60, 10, 60 (every 15 s)", 1.1, 0.02, marks=pytest.mark.slow),
        pytest.param("cap 60, 10, 60, refused late", 1.1, 0.02, marks=pytest.mark.slow),
        ("300 calls per 10 s", 1.1, 0.2),
        ("300 calls per 10 s, retry-after", 1.1, 0.2),
        ("300 calls per 10 s, headers", 1.1, 0.01),
        ("100 calls per second", 1.0, 0.2),
        ("storm of 429, 10 s", 1.25, 0.02),
    ],
)
def test_refusals_that_fall_with_the_pace_lower_it(name: str, slowest: float, most_refused: float) -> None:
    ratio, refused = simulated(name, 1)
    assert ratio <= slowest
    assert refused <= most_refused


def test_the_limit_goes_back_up_when_half_the_pace_is_refused_as_often() -> None:
    limit = AdaptiveLimit(64)
    server = CappedServer(baseline=0.1, latency_s=0.2)
    load(server, ConcurrencyLimiter(limit, timing=TIME), 30, workers=100)
    assert 0.03 <= limit.baseline_refusal_rate <= 0.25
    assert limit.value >= 60


def test_a_baseline_ends_with_the_refusals() -> None:
    limit, server = AdaptiveLimit(64), CappedServer(30, baseline=0.1)

    async def ask(request: Request, /) -> Completion | Failure:
        server.baseline = 0.1 if asyncio.get_running_loop().time() < 30 else 0.0
        return await server(request)

    load(ask, ConcurrencyLimiter(limit, timing=TIME), 90, workers=100)
    answered, refused = server.between(60, 90)
    assert answered >= 0.8 * 30 * 30 / 0.1
    assert refused < 0.02 * answered


def test_backoff_during_an_outage_and_recovery_after_it() -> None:
    server, limiter = CappedServer(20, down=(15, 45)), auto()
    load(server, limiter, 80)
    _, refused = server.between(15, 45)
    assert refused < 60  # the server refuses within a millisecond
    answered, _ = server.between(60, 80)
    assert answered >= 0.9 * 20 * 20 / 0.1


def test_backoff_during_an_outage_follows_retry_after() -> None:
    server = CappedServer(20, down=(15, 45), retry_after_s=20.0)
    load(server, auto(), 60)
    assert server.between(17, 45)[1] <= 4
    assert server.between(56.5, 60)[0] >= 500


def test_a_fixed_limit_backs_off_at_a_rate_limit_too() -> None:
    server = CappedServer(rpm=300, retry_after_s=5.0)
    load(server, ConcurrencyLimiter.fixed(20, timing=TIME), 180)
    assert server.answered >= 880
    assert server.refused < 240


def test_rate_limit_headers_hold_calls_before_they_are_refused() -> None:
    server = CappedServer(rpm=600, sends_headers=True)
    load(server, auto(), 180)
    assert server.answered >= 1790
    assert server.refused <= 4  # one of them to see whether the headers are right


def test_remaining_tokens_are_converted_to_remaining_calls() -> None:
    async def main() -> int:
        limited = Completion(
            "", input_tokens=90, output_tokens=10, rate_limit=RateLimitStatus(tokens=250, tokens_reset_s=30)
        )
        inner = Playing(limited, PARIS)
        endpoint = ConcurrencyLimitedEndpoint(inner, ConcurrencyLimiter.fixed(8, timing=TIME), StopSignal())
        await endpoint(ASKED)
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(8)]
        await asyncio.sleep(1.9)  # then one more goes out, to see whether the headers are right
        before = inner.calls
        await asyncio.gather(*tasks)
        return before

    assert run_virtual(main()) == 3


NONE_LEFT = Completion("ok", rate_limit=RateLimitStatus(0, 99_999.0))


def test_rate_limit_headers_that_answers_contradict_are_ignored_and_reported() -> None:
    notices: list[str] = []
    limiter, inner = auto(label="gateway", notify=notices.append), Playing(NONE_LEFT, latency_s=0.1)

    async def main() -> float:
        endpoint = ConcurrencyLimitedEndpoint(inner, limiter, StopSignal())
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(300)]
        await asyncio.sleep(0.2)
        assert 1.0 < limiter.hold_s <= 2.0
        await asyncio.gather(*tasks)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) < 15
    assert notices == [
        "gateway: its rate-limit headers allow no call for a long time; calls waited for them",
        "gateway: its rate-limit headers allow no call, but it answers; they are ignored",
    ]


def test_rate_limit_headers_that_a_refusal_confirmed_are_obeyed() -> None:
    none_left = RateLimitStatus(0, 50.0)
    refused = Failure("rate_limit", "slower", 429, rate_limit=none_left)
    inner = Playing(*[Completion("ok", rate_limit=none_left)] * 4, refused, PARIS, latency_s=0.1)

    async def main() -> int:
        endpoint = ConcurrencyLimitedEndpoint(inner, auto(), StopSignal())
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(20)]
        await asyncio.sleep(50)
        before = inner.calls
        await asyncio.gather(*tasks)
        return before

    assert run_virtual(main()) == 5


@pytest.mark.parametrize("left", [1, 5, 64])
def test_headers_that_leave_calls_are_no_reason_for_a_notice(left: int) -> None:
    notices: list[str] = []
    inner = Playing(Completion("ok", rate_limit=RateLimitStatus(left, 99_999.0)), latency_s=0.1)

    async def main() -> None:
        endpoint = ConcurrencyLimitedEndpoint(inner, auto(notify=notices.append), StopSignal())
        await asyncio.gather(*(endpoint(ASKED) for _ in range(4)))

    run_virtual(main())
    assert len(notices) == (left < 4)


def test_a_provider_that_refuses_every_call_for_ten_minutes_is_a_fatal_failure() -> None:
    failures = load(CappedServer(down=(0, 10_000)), auto(label="the provider at example"), 900, workers=20)
    last = failures[-1]
    assert last.kind == "rate_limit"
    assert last.fatal
    assert last.message == "the provider at example rejected every call for 10 min; no more calls are made"
    assert sum(failure.fatal for failure in failures) == 20
    assert 10 <= sum(not failure.fatal for failure in failures) < 200


def test_server_errors_do_not_cause_backoff() -> None:
    inner, limiter = Playing(Failure("server", "down", 500), latency_s=0.1), auto()

    async def main() -> None:
        endpoint = ConcurrencyLimitedEndpoint(inner, limiter, StopSignal())
        await asyncio.gather(*(endpoint(ASKED) for _ in range(400)))
        assert asyncio.get_running_loop().time() < 400 / 4 * 0.1 + 1

    run_virtual(main())
    assert limiter.limit == 4


@pytest.mark.parametrize(
    "failure",
    [
        Failure("auth", "the server rejected the API key", 401, fatal=True),
        Failure("connection", "nothing answers there", fatal=True),
    ],
)
def test_a_fatal_first_failure_is_returned_to_all_waiting_calls(failure: Failure) -> None:
    inner = Playing(failure, latency_s=0.1)

    async def main() -> set[Completion | Failure]:
        endpoint = ConcurrencyLimitedEndpoint(inner, auto(), StopSignal())
        result = set(await asyncio.gather(*(endpoint(ASKED) for _ in range(50))))
        return result | {await endpoint(ASKED)}

    assert run_virtual(main()) == {failure}
    assert inner.calls == 4


def test_a_fatal_failure_of_one_model_does_not_affect_another() -> None:
    async def ask(request: Request, /) -> Completion | Failure:
        return PARIS if request.model == "m" else Failure("bad_request", "no such model", 404, fatal=True)

    async def main() -> list[Completion | Failure]:
        endpoint = ConcurrencyLimitedEndpoint(ask, auto(), StopSignal())
        return [await endpoint(Request("gone")), await endpoint(ASKED), await endpoint(Request("gone"))]

    assert [isinstance(answer, Failure) for answer in run_virtual(main())] == [True, False, True]


def test_permits_are_granted_in_order() -> None:
    seen: list[str] = []

    async def inner(request: Request, /) -> Completion | Failure:
        await asyncio.sleep(0.1)
        seen.append(request.model)
        return PARIS

    async def main() -> None:
        endpoint = ConcurrencyLimitedEndpoint(inner, ConcurrencyLimiter.fixed(1, timing=TIME), StopSignal())
        await asyncio.gather(*(endpoint(Request(str(number))) for number in range(30)))

    run_virtual(main())
    assert seen == [str(number) for number in range(30)]


def test_canceled_callers_lose_no_permit() -> None:
    draw = random.Random(3)

    async def main() -> tuple[int, int, int]:
        inner, limiter = Playing(PARIS, latency_s=0.1), ConcurrencyLimiter.fixed(5, timing=TIME)
        endpoint = ConcurrencyLimitedEndpoint(inner, limiter, StopSignal())
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(2000)]
        given_up = draw.sample(tasks, 1200)
        for task in given_up:
            asyncio.get_running_loop().call_later(draw.choice((0.1, 0.2, draw.uniform(0, 30))), task.cancel)
        result = await asyncio.gather(*tasks, return_exceptions=True)
        stayed = set(tasks) - set(given_up)
        assert all(task.result() == PARIS for task in stayed)
        assert any(isinstance(answer, asyncio.CancelledError) for answer in result)
        return limiter.in_flight, inner.in_flight, inner.most_in_flight

    assert run_virtual(main()) == (0, 0, 5)


def test_a_stop_cancels_waiting_and_new_calls() -> None:
    async def main() -> tuple[int, list[Any]]:
        stop, inner = StopSignal(), Playing(PARIS, latency_s=1.0)
        endpoint = ConcurrencyLimitedEndpoint(inner, ConcurrencyLimiter.fixed(2, timing=TIME), stop)
        tasks = [asyncio.create_task(endpoint(ASKED)) for _ in range(10)]
        await asyncio.sleep(0.5)
        stop.request()
        result = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await endpoint(ASKED)
        assert asyncio.get_running_loop().time() == 1.0
        return inner.calls, [type(answer) for answer in result]

    calls, result = run_virtual(main())
    assert calls == 2
    assert result == [Completion] * 2 + [asyncio.CancelledError] * 8


def test_waiting_for_a_permit_pauses_the_row_deadline() -> None:
    async def main() -> list[Completion | Failure]:
        endpoint = ConcurrencyLimitedEndpoint(
            Playing(PARIS, latency_s=1.0), ConcurrencyLimiter.fixed(1, timing=TIME), StopSignal()
        )

        async def row() -> Completion | Failure:
            async with RowDeadline(1.5, TIME):
                return await endpoint(ASKED)

        return await asyncio.gather(*(row() for _ in range(10)))

    assert run_virtual(main()) == [PARIS] * 10


def drive(
    server: ScriptedServer, limiter: ConcurrencyLimiter, rows: int, *, workers: int = 64, timeout_s: float = 5.0
) -> int:
    """The number of rows answered, over real sockets."""
    timing = Timing(scale=0.02)
    answered = 0

    async def use(http: OpenAIEndpoint) -> None:
        stop = StopSignal()
        paced = ConcurrencyLimitedEndpoint(http, limiter, stop)
        endpoint = RetryEndpoint(paced, RetryRules(8), timing=timing, stop=stop, draw=random.Random(2))
        numbers = iter(range(rows))

        async def work() -> None:
            nonlocal answered
            for number in numbers:
                answer = await endpoint(numbered(number))
                answered += isinstance(answer, Completion)

        await asyncio.gather(*(work() for _ in range(workers)))

    asyncio.run(over_http(server.base_url, use, timeout_s=timeout_s))
    return answered


@pytest.mark.parametrize("bound", [1, 7, 30])
def test_a_fixed_limit_is_never_exceeded_at_the_server(bound: int) -> None:
    def script(_request: Any, nth: int) -> Any:
        return Status(503) if nth % 11 == 0 else Status(429) if nth % 17 == 0 else Slow(0.002 * (nth % 3))

    with ScriptedServer(script) as server:
        assert drive(server, ConcurrencyLimiter.fixed(bound, timing=Timing(scale=0.02)), 300) == 300
        assert 0.6 * bound <= server.most_in_flight <= bound


def test_the_adaptive_limit_against_a_real_server() -> None:
    with ScriptedServer(always(Slow(0.02, Answer())), capacity=20) as server:
        limiter = ConcurrencyLimiter.auto(timing=Timing(scale=0.02))
        assert drive(server, limiter, 2000) == 2000
        print(f"{server.calls} calls, {server.refused} refused, at most {server.most_in_flight} in flight")
        assert server.refused < 0.05 * server.calls  # the first seconds included
        assert server.most_in_flight <= 45
        assert 10 <= limiter.limit <= 22


def test_refusals_at_random_do_not_lower_the_limit_of_a_real_server() -> None:
    def script(_request: Any, nth: int) -> Any:
        return Status(429, headers={"retry-after": "1"}) if nth * 37 % 50 == 0 else Slow(0.02)

    with ScriptedServer(script) as server:
        limiter = ConcurrencyLimiter.auto(timing=Timing(scale=0.02))
        assert drive(server, limiter, 2000) == 2000
        assert 0.01 * server.calls < limiter.refused < 0.03 * server.calls
        assert limiter.max_in_flight >= 48


def troubles(_request: Any, nth: int) -> Any:
    """Mixed faults: of 200 calls 10 are refused, 4 fail, 2 are cut, 2 are not JSON, 1 hangs."""
    place = nth * 37 % 200
    if place < 10:
        return Status(429, headers={"retry-after": "1"})
    if place < 14:
        return Status(500)
    if place < 16:
        return Cut(0)
    if place < 18:
        return Malformed()
    return Hang() if place == 18 else Slow(0.005, Answer("Paris"))


@pytest.mark.parametrize("kind", ["auto", "fixed"])
def test_all_rows_are_answered_under_mixed_faults(kind: str) -> None:
    timing = Timing(scale=0.02)
    limiter = (
        ConcurrencyLimiter.auto(64, timing=timing) if kind == "auto" else ConcurrencyLimiter.fixed(32, timing=timing)
    )
    with ScriptedServer(troubles) as server:
        answered = drive(server, limiter, 2000, timeout_s=0.5)
        print(f"{kind}: {answered} of 2000 answered with {server.calls} calls, {limiter.refused} of them refused")
        print(f"at most {limiter.max_in_flight} in flight by our count, {server.most_in_flight} by the server's")
        assert answered == 2000
        assert limiter.max_in_flight <= (64 if kind == "auto" else 32)
        assert 2000 < server.calls < 2400
        assert limiter.in_flight == 0


def test_a_request_that_is_too_large_is_no_refusal_of_the_pace() -> None:
    too_large = Failure("context_length", "the request exceeds the model's context length", 429)
    limiter = auto()

    async def main() -> None:
        endpoint = ConcurrencyLimitedEndpoint(Playing(too_large), limiter, StopSignal())
        await asyncio.gather(*(endpoint(ASKED) for _ in range(20)))

    before = limiter.limit
    run_virtual(main())
    assert (limiter.refused, limiter.limit) == (0, before)
