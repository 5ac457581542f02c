"""A circuit breaker per target or judge: open at once for a rejected key, or after many consecutive failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from evalrunner.domain import Completion, Endpoint, Failure, FailureKind, Request

MAX_CONSECUTIVE_FAILURES = 50  # each after all its retries: with five retries, about half a minute without an answer
PROVIDER_FAILURES: frozenset[FailureKind] = frozenset(
    {"timeout", "rate_limit", "auth", "bad_request", "server", "connection", "malformed"}
)
"""Failures that say something about the provider. A prompt that is too long or a function that raises is the row's own."""


@dataclass(slots=True)
class CircuitBreaker:
    """Counts the outcomes of the calls made through `call`, each after its retries.

    `open_reason` is None while the circuit is closed. Once open, it stays open for the rest of the run.
    """

    consecutive_failures: int = 0
    open_reason: Failure | None = None
    _any_answer: bool = False

    async def call(self, ask: Callable[[], Awaitable[Completion | Failure]]) -> Completion | Failure:
        """The outcome of `ask`, counted. `open_reason` itself if the circuit is open, or opens while a failing call runs."""
        if not self.is_open():
            answer = await ask()
            if not self.is_open() or isinstance(answer, Completion):
                self._count(answer)
                return answer
        assert self.open_reason is not None  # the circuit is open
        return self.open_reason

    def is_open(self) -> bool:
        """Whether calls are no longer made."""
        return self.open_reason is not None

    def _count(self, answer: Completion | Failure) -> None:
        if isinstance(answer, Completion):
            self._any_answer = True
            self.consecutive_failures = 0
            return
        if answer.kind not in PROVIDER_FAILURES or answer.of_user:
            return
        if answer.kind == "bad_request" and self._any_answer and not answer.fatal:  # others were fine: the row's own
            return
        self.consecutive_failures += 1
        if answer.fatal and not self._any_answer:
            # a copy: callers distinguish the reason from the failure that opened the circuit
            self.open_reason = replace(answer)
        elif self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            message = f"{self.consecutive_failures} consecutive calls failed; the last one: {answer.message}"
            self.open_reason = replace(answer, message=message, fatal=True)


@dataclass(frozen=True, slots=True)
class CircuitBreakerEndpoint:
    """An endpoint that sends nothing while its circuit is open: calls that were queued return the reason instead."""

    inner: Endpoint
    breaker: CircuitBreaker

    async def __call__(self, request: Request, /) -> Completion | Failure:
        return self.breaker.open_reason or await self.inner(request)
