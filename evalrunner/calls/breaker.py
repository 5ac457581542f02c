"""Giving up whoever cannot answer: a refused key at once, a provider that is down after many failures in a row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evalrunner.domain import Completion, Endpoint, Failure, FailureKind, Request

BREAK_AFTER = (
    50  # failures in a row, each after all its tries: with five retries that is half a minute without an answer
)
PROVIDERS: frozenset[FailureKind] = frozenset(
    {"timeout", "rate_limit", "auth", "bad_request", "server", "connection", "malformed"}
)
"""Failures that speak of the provider; a prompt that is too long or a function that crashes speaks of its row."""


@dataclass(slots=True)
class Breaker:
    """Whether somebody is still worth asking. `ended` is why not, if not."""

    answered: int = 0
    failed: int = 0
    in_a_row: int = 0
    ended: Failure | None = None

    def gave_up(self) -> bool:
        """Whether nobody is asked any more."""
        return self.ended is not None

    def note(self, answer: Completion | Failure) -> None:
        """Count in what a question came to after all its tries."""
        if isinstance(answer, Completion):
            self.answered += 1
            self.in_a_row = 0
            return
        self.failed += 1
        if answer.kind not in PROVIDERS or self.ended is not None:
            return
        self.in_a_row += 1
        if answer.fatal and not self.answered:
            self.ended = answer
        elif self.in_a_row >= BREAK_AFTER:
            said = f"{self.in_a_row} questions in a row failed, the last: {answer.message}"
            self.ended = replace(answer, message=said, fatal=True)


@dataclass(frozen=True, slots=True)
class BreakerEndpoint:
    """An endpoint that is not asked any more once it was given up: whoever queued for it gets the reason."""

    inner: Endpoint
    breaker: Breaker

    async def __call__(self, request: Request, /) -> Completion | Failure:
        return self.breaker.ended or await self.inner(request)
