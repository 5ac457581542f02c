"""The overhead per call of each middleware in `evalrunner/middleware/`, around an endpoint that does nothing.

    python benchmarks/middleware.py [--calls 20000 --repeats 5]

Calls are sequential, so no call waits for another. Each middleware is timed in turn with the bare endpoint, whose time is
subtracted; the median of the repeats counts. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from evalrunner.domain import Completion, Endpoint, Request
from evalrunner.endpoints.pricing import KnownPrice, Price, PricedEndpoint, WorstCase
from evalrunner.middleware.budget import Budget, BudgetedEndpoint, SpendLedger
from evalrunner.middleware.cache import CachedEndpoint, CacheTally, ResponseCache
from evalrunner.middleware.circuit_breaker import CircuitBreaker, CircuitBreakerEndpoint
from evalrunner.middleware.concurrency import ConcurrencyLimitedEndpoint, ConcurrencyLimiter
from evalrunner.middleware.deadline import RowDeadline, StopSignal, TimeoutEndpoint, Timing
from evalrunner.middleware.rate_limit import RateLimitedEndpoint
from evalrunner.middleware.retry import RetryEndpoint, RetryRules
from evalrunner.middleware.stack import CallContext, MiddlewareStack
from evalrunner.middleware.usage import CountingEndpoint, Usage
from evalrunner.suite.schema import PaceSpec, RunSpec

ANSWER = Completion("Paris", "stop", latency_s=0.1, input_tokens=20, output_tokens=5, served_model="mock-1")
PRICE = KnownPrice(Price(1.5e-7, 6e-7), "suite")
UNLIMITED = 1e9  # US dollars or calls per minute: a limit that is never reached
TIMING = Timing()
STOP = StopSignal()
Make = Callable[[Path], Endpoint]
"""Builds a middleware around an endpoint that does nothing, with a folder for its files."""


async def nothing(request: Request, /) -> Completion:
    return ANSWER


def requests(number: int, begin: int) -> list[Request]:
    """Distinct requests of the usual size."""
    system = {"role": "system", "content": "Answer with a number."}
    return [
        Request(
            "mock",
            (system, {"role": "user", "content": f"What is {place} plus one?"}),
            {"temperature": 0, "max_tokens": 64},
            row=f"q{place}/mock/1",
        )
        for place in range(begin, begin + number)
    ]


def cached(folder: Path) -> CachedEndpoint:
    return CachedEndpoint(
        nothing, ResponseCache(folder / "answers.sqlite", exclusive=True), "mock", run_id="run", tally=CacheTally()
    )


def stack(run: RunSpec, *, capped: bool = False, enforces_timeout: bool = True) -> Make:
    """All middleware, combined as in a run."""

    def make(folder: Path) -> Endpoint:
        calls = MiddlewareStack(run, STOP, TIMING, folder / "users.sqlite")
        context = CallContext("mock", "targets", "mock", "mock", PaceSpec(), enforces_timeout=enforces_timeout)
        context.price = lambda endpoint: PricedEndpoint(endpoint, PRICE)
        context.worst_case = WorstCase(PRICE.price) if capped and PRICE.price is not None else None
        wrapped = calls.wrap(nothing, context)
        calls.begin(folder, "run", spent={})
        return wrapped

    return make


def paced(limiter: ConcurrencyLimiter) -> Endpoint:
    return ConcurrencyLimitedEndpoint(nothing, limiter, STOP)


MIDDLEWARE: dict[str, Make] = {
    "retry": lambda _: RetryEndpoint(nothing, RetryRules(5), timing=TIMING, stop=STOP, draw=random.Random(0)),
    "concurrency, fixed": lambda _: paced(ConcurrencyLimiter.fixed(64)),
    "concurrency, auto": lambda _: paced(ConcurrencyLimiter.auto()),
    "rate limit (rpm and tpm)": lambda _: RateLimitedEndpoint(nothing, UNLIMITED, UNLIMITED, timing=TIMING, stop=STOP),
    "circuit breaker": lambda _: CircuitBreakerEndpoint(nothing, CircuitBreaker()),
    "usage": lambda _: CountingEndpoint(nothing, Usage()),
    "price": lambda _: PricedEndpoint(nothing, PRICE),
    "budget, with its ledger": lambda folder: BudgetedEndpoint(
        nothing, Budget(UNLIMITED, SpendLedger(folder), STOP), lambda request: 1e-4, side="targets"
    ),
    "timeout": lambda _: TimeoutEndpoint(nothing, 60.0),
    "cache, miss": cached,
    "cache, hit": cached,
    "all, as in a run": stack(RunSpec()),
    "all, without the cache": stack(RunSpec(cache=RunSpec().cache.__class__("off"))),
    "all, with a cost cap": stack(RunSpec(max_cost=UNLIMITED), capped=True),
}
HIT = "cache, hit"


async def seconds(endpoint: Endpoint, sequence: Sequence[Request]) -> float:
    begun = time.perf_counter()
    for request in sequence:
        await endpoint(request)
    return time.perf_counter() - begun


async def deadline_seconds(number: int) -> float:
    """The deadline of a row, which covers all of its calls."""
    begun = time.perf_counter()
    for _ in range(number):
        async with RowDeadline(600.0, TIMING):
            pass
    return time.perf_counter() - begun


async def measure(calls: int, repeats: int) -> Iterator[tuple[str, list[float]]]:
    """Microseconds per call that each middleware adds, one number per repeat."""
    measured: dict[str, list[float]] = {}
    places = count()
    for _ in range(repeats):
        for name, make in MIDDLEWARE.items():
            with tempfile.TemporaryDirectory() as folder:
                endpoint = make(Path(folder))
                sequence = requests(calls, next(places) * calls)
                if name == HIT:
                    await seconds(endpoint, sequence)
                bare = await seconds(nothing, sequence)
                measured.setdefault(name, []).append((await seconds(endpoint, sequence) - bare) / calls * 1e6)
        measured.setdefault("row deadline", []).append(await deadline_seconds(calls) / calls * 1e6)
    return iter(measured.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.calls:,} calls each, {options.repeats} times\n")
    print("| middleware | µs per call (median) | minimum |\n|---|---|---|")
    for name, times in asyncio.run(measure(options.calls, options.repeats)):
        print(f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} |")


if __name__ == "__main__":
    main()
