"""Giving up whoever cannot answer: a refused key at once, a provider that is down after many failures in a row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evalrunner.domain import Completion, Endpoint, Failure, FailureKind, Request

BREAK_AFTER = (
    50  # failures in a row, each after all its tries: with five retries that is half a minute without an answer
)
PROVIDER_FAILURES: frozenset[FailureKind] = frozenset(
    {"timeout", "rate_limit", "auth", "bad_request", "server", "connection", "malformed"}
)
"""Failures that speak of the provider; a prompt that is too long or a function that crashes speaks of its row."""


@dataclass(slots=True)
class CircuitBreaker:
    """Whether somebody is still worth asking. `open_reason` is why not, if not."""

    answered: int = 0
    failed: int = 0
    consecutive_failures: int = 0
    open_reason: Failure | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked any more."""
        return self.open_reason is not None

    def record(self, answer: Completion | Failure) -> None:
        """Count in what a question came to after all its tries."""
        if isinstance(answer, Completion):
            self.answered += 1
            self.consecutive_failures = 0
            return
        self.failed += 1
        if answer.kind not in PROVIDER_FAILURES or self.open_reason is not None:
            return
        self.consecutive_failures += 1
        if answer.fatal and not self.answered:
            self.open_reason = answer
        elif self.consecutive_failures >= BREAK_AFTER:
            said = f"{self.consecutive_failures} questions in a row failed, the last: {answer.message}"
            self.open_reason = replace(answer, message=said, fatal=True)


@dataclass(frozen=True, slots=True)
class CircuitBreakerEndpoint:
    """An endpoint that is not asked any more once it was given up: whoever queued for it gets the reason."""

    inner: Endpoint
    breaker: CircuitBreaker

    async def __call__(self, request: Request, /) -> Completion | Failure:
        return self.breaker.open_reason or await self.inner(request)
