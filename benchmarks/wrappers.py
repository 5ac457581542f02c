"""What each wrapper of `evalrunner/middleware/` costs a call, around an endpoint that does nothing.

    python benchmarks/wrappers.py [--calls 20000 --repeats 5]

Calls go one after the other, so nobody waits for a turn: what is measured is the way through. Each wrapper is timed in
turn with the bare endpoint, whose time is taken off; the median of the repeats counts. Prints Markdown.
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
from evalrunner.endpoints.cost_bounds import WorstCase
from evalrunner.endpoints.prices import Price
from evalrunner.endpoints.pricing import KnownPrice, PricedEndpoint
from evalrunner.middleware.budget import Budget, BudgetedEndpoint
from evalrunner.middleware.cache import CachedEndpoint, CacheTally, ResponseCache
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.circuit_breaker import CircuitBreaker, CircuitBreakerEndpoint
from evalrunner.middleware.concurrency import ConcurrencyLimitedEndpoint, ConcurrencyLimiter
from evalrunner.middleware.deadline import RowDeadline, TimeoutEndpoint, Timing
from evalrunner.middleware.ledger import Ledger
from evalrunner.middleware.rate_limit import RateLimitedEndpoint
from evalrunner.middleware.retry import RetryEndpoint, RetryRules
from evalrunner.middleware.stack import CallContext, CallStack
from evalrunner.middleware.usage import CountingEndpoint, Usage
from evalrunner.suite.schema import PaceSpec, RunSpec

ANSWER = Completion("Paris", "stop", latency_s=0.1, input_tokens=20, output_tokens=5, served_model="mock-1")
PRICE = KnownPrice(Price(1.5e-7, 6e-7), "suite")
PLENTY = 1e9  # US dollars, calls a minute: a limit that is never met
TIMING = Timing()
STOP = StopSignal()
Make = Callable[[Path], Endpoint]
"""A wrapper around the endpoint that does nothing; the folder is its own."""


async def nothing(request: Request, /) -> Completion:
    return ANSWER


def requests(number: int, begin: int) -> list[Request]:
    """Requests of the usual size, each another one."""
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


def kept(folder: Path) -> CachedEndpoint:
    return CachedEndpoint(
        nothing, ResponseCache(folder / "answers.sqlite", exclusive=True), "mock", run_id="run", tally=CacheTally()
    )


def stack(run: RunSpec, *, capped: bool = False, enforces_timeout: bool = True) -> Make:
    """All of them, as a run puts them together."""

    def make(folder: Path) -> Endpoint:
        calls = CallStack(run, STOP, TIMING, folder / "users.sqlite")
        asked = CallContext("mock", "targets", "mock", "mock", PaceSpec(), enforces_timeout=enforces_timeout)
        asked.price = lambda endpoint: PricedEndpoint(endpoint, PRICE)
        asked.bound = WorstCase(PRICE.price) if capped and PRICE.price is not None else None
        wrapped = calls.wrap(nothing, asked)
        calls.begin(folder, "run", spent={})
        return wrapped

    return make


def paced(limiter: ConcurrencyLimiter) -> Endpoint:
    return ConcurrencyLimitedEndpoint(nothing, limiter, STOP)


WRAPPERS: dict[str, Make] = {
    "retry": lambda _: RetryEndpoint(nothing, RetryRules(5), timing=TIMING, stop=STOP, draw=random.Random(0)),
    "pace, fixed": lambda _: paced(ConcurrencyLimiter.fixed(64)),
    "pace, auto": lambda _: paced(ConcurrencyLimiter.auto()),
    "rates (rpm and tpm)": lambda _: RateLimitedEndpoint(nothing, PLENTY, PLENTY, timing=TIMING, stop=STOP),
    "breaker": lambda _: CircuitBreakerEndpoint(nothing, CircuitBreaker()),
    "count": lambda _: CountingEndpoint(nothing, Usage()),
    "price": lambda _: PricedEndpoint(nothing, PRICE),
    "budget, with its ledger": lambda folder: BudgetedEndpoint(
        nothing, Budget(PLENTY, Ledger(folder), STOP), lambda request: 1e-4, side="targets"
    ),
    "time limit": lambda _: TimeoutEndpoint(nothing, 60.0),
    "cache, a new answer": kept,
    "cache, an answer that is there": kept,
    "all, as a run has them": stack(RunSpec()),
    "all, without the cache": stack(RunSpec(cache=RunSpec().cache.__class__("off"))),
    "all, with a cost cap": stack(RunSpec(max_cost=PLENTY), capped=True),
}
THERE = "cache, an answer that is there"


async def seconds(endpoint: Endpoint, asked: Sequence[Request]) -> float:
    begun = time.perf_counter()
    for request in asked:
        await endpoint(request)
    return time.perf_counter() - begun


async def clock_seconds(number: int) -> float:
    """The clock of a row, which stands around all of its calls."""
    begun = time.perf_counter()
    for _ in range(number):
        async with RowDeadline(600.0, TIMING):
            pass
    return time.perf_counter() - begun


async def measure(calls: int, repeats: int) -> Iterator[tuple[str, list[float]]]:
    """Microseconds a call of every wrapper over the bare endpoint, one number for each repeat."""
    found: dict[str, list[float]] = {}
    places = count()
    for _ in range(repeats):
        for name, make in WRAPPERS.items():
            with tempfile.TemporaryDirectory() as folder:
                endpoint = make(Path(folder))
                asked = requests(calls, next(places) * calls)
                if name == THERE:
                    await seconds(endpoint, asked)
                bare = await seconds(nothing, asked)
                found.setdefault(name, []).append((await seconds(endpoint, asked) - bare) / calls * 1e6)
        found.setdefault("clock of a row", []).append(await clock_seconds(calls) / calls * 1e6)
    return iter(found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.calls:,} calls each, {options.repeats} times\n")
    print("| wrapper | µs a call (median) | least |\n|---|---|---|")
    for name, times in asyncio.run(measure(options.calls, options.repeats)):
        print(f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} |")


if __name__ == "__main__":
    main()
