"""The middleware of an endpoint, put together in one place.

From the outside in: cache, retries, rate limit and concurrency limit, circuit breaker, suspension, budget, usage, trace,
timeout, price. Each is an endpoint around an endpoint, and knows nothing of the others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.adaptive_limit import AdaptiveLimit, FixedLimit
from evalrunner.middleware.cache import CACHE_FILE, AnswerStore, CachedEndpoint, CacheTally, ResponseCache, is_cached
from evalrunner.middleware.circuit_breaker import CircuitBreaker, CircuitBreakerEndpoint
from evalrunner.middleware.concurrency import MAX_CONCURRENCY, ConcurrencyLimitedEndpoint, ConcurrencyLimiter
from evalrunner.middleware.deadline import StopSignal, SuspensionEndpoint, TimeoutEndpoint, Timing
from evalrunner.middleware.memory_cache import MemoryCache
from evalrunner.middleware.retry import RetryEndpoint, RetryRules
from evalrunner.middleware.usage import CountingEndpoint, Usage
from evalrunner.redact import redact_message
from evalrunner.suite.schema import PaceSpec, RunSpec

if TYPE_CHECKING:
    from evalrunner.middleware.budget import Budget, Side, WorstCase  # imported below where there is a cap


@dataclass(slots=True)
class CallTally:
    """The calls of one target or judge: the usage of every attempt, the number of retries, the cache hits.

    `limiter` is that of its server, None until the run starts.
    """

    usage: Usage = field(default_factory=Usage)
    retries: int = 0
    limiter: ConcurrencyLimiter | None = None
    cache: CacheTally = field(default_factory=CacheTally)

    def count_retry(self, failure: Failure) -> None:
        """Count a call that is retried."""
        self.retries += 1


@dataclass(slots=True)
class CallContext:
    """What the middleware knows of one target or judge.

    `key` is equal for those that share a concurrency limit. `identity` names the endpoint, the same in every process.
    `price` puts the price on an endpoint's answers, and `worst_case` is the most that a call can cost, if known.
    """

    label: str
    side: Side
    key: str
    identity: str
    pace: PaceSpec
    tally: CallTally = field(default_factory=CallTally)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    max_concurrency: int | None = None
    enforces_timeout: bool = False
    price: Callable[[Endpoint], Endpoint] | None = None
    worst_case: WorstCase | None = None


@dataclass(slots=True)
class WrappedEndpoint:
    """An endpoint of a plan. Its middleware is put around it when the run starts, because it needs the run folder."""

    inner: Endpoint
    context: CallContext

    async def __call__(self, request: Request, /) -> Completion | Failure:
        return await self.inner(request)


@dataclass(slots=True)
class MiddlewareStack:
    """What the endpoints of one run share: its settings, clock and stop signal, and one limiter for each server and key.

    `user_cache` is the user's own cache file. `notices` are messages of the middleware to the user.
    """

    run: RunSpec
    stop: StopSignal
    timing: Timing
    user_cache: Path
    trace: Callable[[str], None] | None = None
    refresh: bool = False
    notices: list[str] = field(default_factory=list)
    budget: Budget | None = None
    _wrapped: list[WrappedEndpoint] = field(default_factory=list)
    _limiters: dict[str, ConcurrencyLimiter] = field(default_factory=dict)
    _stores: dict[Side, ResponseCache] = field(default_factory=dict)
    _memory: MemoryCache = field(default_factory=MemoryCache)

    def wrap(self, endpoint: Endpoint, context: CallContext) -> WrappedEndpoint:
        """The endpoint, to be called from `begin` to `end`."""
        self._wrapped.append(WrappedEndpoint(endpoint, context))
        return self._wrapped[-1]

    def begin(self, folder: Path, run_id: str, *, spent: Mapping[Side, float]) -> None:
        """Put the middleware around every endpoint. `spent` is what the run has cost so far, in US dollars.

        Answers of targets are cached in the run folder; those of judges, or all, in the user's own file.
        """
        if self.run.max_cost is not None:
            from evalrunner.middleware.budget import Budget, SpendLedger

            self.budget = Budget(self.run.max_cost, SpendLedger(folder, before=spent), self.stop)
        mode = self.run.cache.mode
        if mode != "off":
            users = ResponseCache(self.user_cache, self.notices.append)
            own = users if mode == "all" else ResponseCache(folder / CACHE_FILE, self.notices.append, exclusive=True)
            self._stores = {"targets": own, "judges": users, "users": users}
        for wrapped in self._wrapped:
            wrapped.inner = self._around(wrapped.inner, wrapped.context, run_id)

    def is_cached(self, endpoint: Endpoint, request: Request) -> bool:
        """Whether the user's cache has the answer of an endpoint of this run. Nothing is called."""
        mode, context = self.run.cache.mode, getattr(endpoint, "context", None)
        if (
            not isinstance(context, CallContext)
            or mode == "off"
            or self.refresh
            or (mode == "judges" and context.side == "targets")
        ):
            return False
        store = self._stores.setdefault(context.side, ResponseCache(self.user_cache, self.notices.append))
        return is_cached(store, context.identity, request, ttl_s=self.run.cache.ttl_s)

    def end(self, folder: Path, *, complete: bool) -> None:
        """Close what `begin` opened. A complete run does not need the answers in its folder any more."""
        for store in self._stores.values():
            store.close()
        self._memory.close()
        if self.budget is not None:
            self.budget.ledger.close()
        if complete:
            for path in folder.glob(f"{CACHE_FILE}*"):
                path.unlink(missing_ok=True)

    def _around(self, endpoint: Endpoint, context: CallContext, run_id: str) -> Endpoint:
        """The endpoint with all its middleware."""
        wrapped = endpoint if context.price is None else context.price(endpoint)
        # An endpoint with its own timeout gets no second one: it drops the connection, a canceled task might not.
        if not context.enforces_timeout:
            wrapped = TimeoutEndpoint(wrapped, context.pace.timeout or self.run.timeout)
        if self.trace is not None:
            wrapped = TracedEndpoint(wrapped, context.label, self.trace)
        wrapped = CountingEndpoint(wrapped, context.tally.usage, context.label, self.notices.append)
        if self.budget is not None and context.worst_case is not None:
            from evalrunner.middleware.budget import BudgetedEndpoint

            wrapped = BudgetedEndpoint(wrapped, self.budget, context.worst_case, side=context.side)
        wrapped = SuspensionEndpoint(wrapped, self.stop)
        wrapped = CircuitBreakerEndpoint(wrapped, context.breaker)
        wrapped = self._limited(wrapped, context)
        retries = self.run.retries if context.pace.retries is None else context.pace.retries
        wrapped = RetryEndpoint(
            wrapped,
            RetryRules(retries),
            timing=self.timing,
            stop=self.stop,
            draw=random.Random(f"{self.run.seed} {context.label}"),
            on_retry=context.tally.count_retry,
        )
        # no judge is asked the same question twice; equal histories get the same message of a simulated user
        memory = None if context.side == "targets" else self._memory
        store: AnswerStore | None = self._stores.get(context.side) or memory
        if store is None:
            return wrapped
        identity = context.identity
        if isinstance(store, ResponseCache) and context.side == "targets" and store.path != self.user_cache:
            # the same model listed twice is called twice: how far it differs from itself is the question
            identity += f" for {context.label}"
        return CachedEndpoint(
            wrapped, store, identity, run_id=run_id, tally=context.tally.cache, read=not self.refresh,
            ttl_s=self.run.cache.ttl_s, fallback=memory,
        )  # fmt: skip

    def _limited(self, endpoint: Endpoint, context: CallContext) -> Endpoint:
        """The endpoint behind the limiter of its server, its own limiter if it has one, and its rate limits."""
        pace = context.pace
        limiter = context.tally.limiter = self._limiter(context.key, self.run.concurrency, context)
        shared = ConcurrencyLimitedEndpoint(endpoint, limiter, self.stop)
        wrapped: Endpoint = shared
        if pace.concurrency is not None and pace.concurrency != self.run.concurrency:
            own = self._limiter(f"{context.key} of {context.label}", pace.concurrency, context)
            # its own number is a bound within an adaptive limit of the run, but replaces a fixed one
            is_auto = self.run.concurrency == "auto"
            context.tally.limiter = limiter if is_auto else own
            wrapped = ConcurrencyLimitedEndpoint(shared if is_auto else endpoint, own, self.stop)
        if pace.rpm is not None or pace.tpm is not None:
            from evalrunner.middleware.rate_limit import RateLimitedEndpoint

            wrapped = RateLimitedEndpoint(wrapped, pace.rpm, pace.tpm, timing=self.timing, stop=self.stop)
        return wrapped

    def _limiter(self, key: str, concurrency: int | str, context: CallContext) -> ConcurrencyLimiter:
        """The limiter of a server and key, never above what the endpoint itself works on at once."""
        if key not in self._limiters:
            ceiling = context.max_concurrency or MAX_CONCURRENCY
            limit = AdaptiveLimit(ceiling) if concurrency == "auto" else FixedLimit(min(int(concurrency), ceiling))
            self._limiters[key] = ConcurrencyLimiter(
                limit, timing=self.timing, label=context.label, notify=self.notices.append
            )
        return self._limiters[key]


@dataclass(frozen=True, slots=True)
class TracedEndpoint:
    """An endpoint that writes each request and answer as one line of JSON, redacted, for debugging."""

    inner: Endpoint
    label: str
    write: Callable[[str], None]

    async def __call__(self, request: Request, /) -> Completion | Failure:
        self._trace("request", request)
        answer = await self.inner(request)
        self._trace("answer" if isinstance(answer, Completion) else "failure", replace(answer, messages=None))
        return answer

    def _trace(self, kind: str, value: Request | Completion | Failure) -> None:
        """Write a line. An answer is written without the messages, which are in the line of its request."""
        fields = {name: item for name, item in asdict(value).items() if item not in (None, (), {}, "")}
        line = json.dumps({self.label: {kind: fields}}, ensure_ascii=True, default=str)
        self.write(redact_message(line))
