"""The one place where the wrappers of an endpoint are put together.

From the outside in: answers kept from before, tries, the turn that rates and pace give, whether the endpoint was given
up, the budget, the count of calls, the trace, the time limit of a call, the price of its answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.budget import Budget, BudgetedEndpoint, WorstCase
from evalrunner.middleware.cache import CACHE_FILE, CachedEndpoint, CacheTally, ResponseCache, is_cached
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.circuit_breaker import CircuitBreaker, CircuitBreakerEndpoint
from evalrunner.middleware.concurrency import MAX_CONCURRENCY, ConcurrencyLimitedEndpoint, ConcurrencyLimiter
from evalrunner.middleware.deadline import TimeoutEndpoint, Timing
from evalrunner.middleware.ledger import Ledger, Side
from evalrunner.middleware.rate_limit import RateLimitedEndpoint
from evalrunner.middleware.retry import RetryEndpoint, RetryRules
from evalrunner.middleware.trace import TracedEndpoint
from evalrunner.middleware.usage import CountingEndpoint, Usage
from evalrunner.suite.schema import PaceSpec, RunSpec


@dataclass(slots=True)
class CallTally:
    """What calls were made for one target or judge: every try, how many were made again, what was kept from before."""

    usage: Usage = field(default_factory=Usage)
    retries: int = 0
    cache: CacheTally = field(default_factory=CacheTally)

    def retried(self, failure: Failure) -> None:
        """Count a call that is made again."""
        self.retries += 1


@dataclass(slots=True)
class CallContext:
    """Whose calls they are: what the wrappers of one target's or judge's endpoint know of it.

    `key` is the same for those that share a pace, `identity` says which endpoint answers, the same in every process.
    `price` puts the price on an endpoint's answers and `bound` is the most that one call can cost, where it is known.
    """

    label: str
    side: Side
    key: str
    identity: str
    pace: PaceSpec
    tally: CallTally = field(default_factory=CallTally)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    at_once: int | None = None
    enforces_timeout: bool = False
    price: Callable[[Endpoint], Endpoint] | None = None
    bound: WorstCase | None = None


@dataclass(slots=True)
class WrappedEndpoint:
    """An endpoint of a plan. Its wrappers are put around it when the run begins: only then is there a folder for them."""

    inner: Endpoint
    asked: CallContext

    async def __call__(self, request: Request, /) -> Completion | Failure:
        return await self.inner(request)


@dataclass(slots=True)
class CallStack:
    """What the endpoints of one run share: its rules, its clock, its wish to stop, one pace for each server and key.

    `cached` is the user's own file of answers. `notices` is what the wrappers have to say to the user.
    """

    run: RunSpec
    stop: StopSignal
    timing: Timing
    cached: Path
    trace: Callable[[str], None] | None = None
    refresh: bool = False
    notices: list[str] = field(default_factory=list)
    budget: Budget | None = None
    _wrapped: list[WrappedEndpoint] = field(default_factory=list)
    _paces: dict[str, ConcurrencyLimiter] = field(default_factory=dict)
    _stores: dict[Side, ResponseCache] = field(default_factory=dict)

    def wrap(self, endpoint: Endpoint, asked: CallContext) -> WrappedEndpoint:
        """`endpoint`, to be asked by this run from `begin` to `end`."""
        self._wrapped.append(WrappedEndpoint(endpoint, asked))
        return self._wrapped[-1]

    def begin(self, folder: Path, run_id: str, *, spent: Mapping[Side, float]) -> None:
        """Put everything around every endpoint. `spent` is what the run had cost before, in US dollars.

        Answers of targets are kept in the run's folder, those of judges, or all, in the user's own file.
        """
        if self.run.max_cost is not None:
            self.budget = Budget(self.run.max_cost, Ledger(folder, before=spent), self.stop)
        mode = self.run.cache.mode
        if mode != "off":
            users = ResponseCache(self.cached, self.notices.append)
            own = users if mode == "all" else ResponseCache(folder / CACHE_FILE, self.notices.append, exclusive=True)
            self._stores = {"targets": own, "judges": users}
        for wrapped in self._wrapped:
            wrapped.inner = self._around(wrapped.inner, wrapped.asked, run_id)

    def is_cached(self, endpoint: Endpoint, request: Request) -> bool:
        """Whether a run would find the answer of one of its endpoints among those of earlier runs. Nothing is called."""
        mode, asked = self.run.cache.mode, getattr(endpoint, "asked", None)
        if (
            not isinstance(asked, CallContext)
            or mode == "off"
            or self.refresh
            or (mode == "judges" and asked.side == "targets")
        ):
            return False
        store = self._stores.setdefault(asked.side, ResponseCache(self.cached, self.notices.append))
        return is_cached(store, asked.identity, request, ttl_s=self.run.cache.ttl_s)

    def end(self, folder: Path, *, complete: bool) -> None:
        """Close what `begin` opened; answers in the run's folder are of no more use once every row is there."""
        for store in self._stores.values():
            store.close()
        if self.budget is not None:
            self.budget.ledger.close()
        if complete:
            for path in folder.glob(f"{CACHE_FILE}*"):
                path.unlink(missing_ok=True)

    def _around(self, endpoint: Endpoint, asked: CallContext, run_id: str) -> Endpoint:
        """The endpoint with all its wrappers."""
        wrapped = endpoint if asked.price is None else asked.price(endpoint)
        # One that keeps its time itself gets no second limit: it drops the connection, a cancelled task might not.
        if not asked.enforces_timeout:
            wrapped = TimeoutEndpoint(wrapped, asked.pace.timeout or self.run.timeout)
        if self.trace is not None:
            wrapped = TracedEndpoint(wrapped, asked.label, self.trace)
        wrapped = CountingEndpoint(wrapped, asked.tally.usage)
        if self.budget is not None and asked.bound is not None:
            wrapped = BudgetedEndpoint(wrapped, self.budget, asked.bound, side=asked.side)
        wrapped = CircuitBreakerEndpoint(wrapped, asked.breaker)
        wrapped = self._in_turn(wrapped, asked)
        retries = self.run.retries if asked.pace.retries is None else asked.pace.retries
        draw = random.Random(f"{self.run.seed} {asked.label}")
        wrapped = RetryEndpoint(
            wrapped, RetryRules(retries), timing=self.timing, stop=self.stop, draw=draw, on_retry=asked.tally.retried
        )
        store = self._stores.get(asked.side)
        if store is None:
            return wrapped
        identity = asked.identity
        if asked.side == "targets" and store.path != self.cached:
            # the same model twice, side by side, is asked twice: how far it differs from itself is the question
            identity += f" for {asked.label}"
        return CachedEndpoint(
            wrapped, store, identity, run_id=run_id, tally=asked.tally.cache, read=not self.refresh,
            ttl_s=self.run.cache.ttl_s,
        )  # fmt: skip

    def _in_turn(self, endpoint: Endpoint, asked: CallContext) -> Endpoint:
        """The endpoint behind the pace that all who use it share, one of its own if it asks for one, and its rates."""
        pace = asked.pace
        shared = ConcurrencyLimitedEndpoint(
            endpoint, self._controller(asked.key, self.run.concurrency, asked), self.stop
        )
        wrapped: Endpoint = shared
        if pace.concurrency is not None and pace.concurrency != self.run.concurrency:
            own = self._controller(f"{asked.key} of {asked.label}", pace.concurrency, asked)
            # a number bounds this one within what the server bears; where the run has a number, its own stands instead
            wrapped = ConcurrencyLimitedEndpoint(shared if self.run.concurrency == "auto" else endpoint, own, self.stop)
        if pace.rpm is not None or pace.tpm is not None:
            wrapped = RateLimitedEndpoint(wrapped, pace.rpm, pace.tpm, timing=self.timing, stop=self.stop)
        return wrapped

    def _controller(self, key: str, concurrency: int | str, asked: CallContext) -> ConcurrencyLimiter:
        """The pace of a server and key: as many at once as is said, or what it bears, and never more than it works on."""
        if key not in self._paces:
            most = asked.at_once or MAX_CONCURRENCY
            if concurrency == "auto":
                self._paces[key] = ConcurrencyLimiter.auto(most, timing=self.timing, label=asked.label)
            else:
                self._paces[key] = ConcurrencyLimiter.fixed(
                    min(int(concurrency), most), timing=self.timing, label=asked.label
                )
        return self._paces[key]
