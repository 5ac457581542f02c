"""Retries of transient failures with exponential backoff and full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.formatting import long_duration
from evalrunner.middleware.deadline import CURRENT, StopSignal, Timing

TRANSIENT_KINDS = frozenset({"timeout", "rate_limit", "server", "connection", "malformed"})
TRANSIENT_STATUS = frozenset({408, 409, 425, 429, *range(500, 600)})
"""RFC 9110 §15, RFC 8470 §5.2, RFC 6585 §4. Another 4xx is a fault of the request: a retry gives the same."""
MAX_WAIT_S = 3600.0  # without a row deadline
RESTART_GRACE_S = 30.0  # for a server that answered before and may restart, whatever the number of retries
RESTART_POLL_S = 5.0  # the longest wait between two attempts meanwhile


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The number of retries. The backoff is at most `base_s` seconds, doubled with each retry up to `cap_s`."""

    retries: int
    base_s: float = 0.5
    cap_s: float = 30.0


class RetryEndpoint:
    """An endpoint that retries transient failures. A stop ends its waits with CancelledError.

    The backoff is drawn from zero to a bound that doubles (full jitter), but never shorter than the server's
    Retry-After. If the wait exceeds the time left for the row, the failure is returned at once and says so. A server
    that cannot be reached is retried only if it answered before, and then for at least RESTART_GRACE_S.
    `on_retry` is called with each failure that is retried.
    """

    def __init__(
        self,
        inner: Endpoint,
        rules: RetryRules,
        *,
        timing: Timing,
        stop: StopSignal,
        draw: random.Random,
        on_retry: Callable[[Failure], None] | None = None,
    ) -> None:
        self._inner = inner
        self._rules = rules
        self._timing = timing
        self._stop = stop
        self._draw = draw
        self._on_retry = on_retry
        self._answered = False  # the server replied with anything
        self._completed = False  # it gave an answer

    async def __call__(self, request: Request, /) -> Completion | Failure:
        attempts = 0
        unreachable_since: float | None = None
        while True:
            answer = await self._inner(request)
            attempts += 1
            if isinstance(answer, Completion):
                self._answered = self._completed = True
                return answer
            if answer.status is not None or answer.kind == "malformed":
                self._answered = True
            if not is_retryable(answer, answered=self._answered, completed=self._completed):
                return answer
            now = self._timing.now()
            if not answer.fatal or answer.kind != "connection":
                unreachable_since = None  # reachable again: the number of retries counts
            elif unreachable_since is None:
                unreachable_since = now
            restarts = (
                unreachable_since is not None and now - unreachable_since < RESTART_GRACE_S and self._rules.retries > 0
            )
            if attempts > self._rules.retries and not restarts:
                return replace(answer, message=f"{answer.message} ({attempts} attempts)") if attempts > 1 else answer
            wait_s = self._backoff_s(answer, attempts)
            refusal = retry_refusal(wait_s, answer.retry_after_s)
            if refusal is not None:
                return replace(answer, message=f"{refusal}; {answer.message}")
            if self._on_retry is not None:
                self._on_retry(answer)
            await self._stop.unless_stopped(self._timing.sleep(wait_s))

    def _backoff_s(self, failure: Failure, attempts: int) -> float:
        rules = self._rules
        cap_s = min(rules.cap_s, RESTART_POLL_S) if failure.fatal else rules.cap_s
        bound = min(cap_s, rules.base_s * 2.0 ** min(attempts - 1, 60))  # a larger exponent overflows a float
        backoff_s = self._draw.uniform(0.0, bound)
        if not failure.retry_after_s:
            return backoff_s
        # jitter on top of Retry-After: callers refused together do not return together
        return max(backoff_s, failure.retry_after_s + self._draw.uniform(0.0, rules.base_s))


def is_retryable(failure: Failure, *, answered: bool, completed: bool = False) -> bool:
    """Whether a retry may help. `answered`: the server was reached before; `completed`: it gave an answer before.

    A web page in place of an answer is a wrong address if it comes first, and a gateway's trouble later.
    """
    if failure.kind not in TRANSIENT_KINDS:
        return False
    if failure.fatal:
        is_page = failure.kind == "malformed" and failure.status is not None
        return (answered and failure.kind == "connection") or (completed and is_page)
    if failure.status is None or failure.status in TRANSIENT_STATUS or failure.kind in ("rate_limit", "server"):
        return True
    return failure.kind == "malformed" and 200 <= failure.status < 300


def retry_refusal(wait_s: float, asked_s: float | None) -> str | None:
    """Why a wait is too long to retry, None if there is time for it. `asked_s` is the server's Retry-After."""
    deadline = CURRENT.get()
    left_s = MAX_WAIT_S if deadline is None else deadline.left_s()
    if wait_s < left_s:
        return None
    limit = f"longest wait of {MAX_WAIT_S:g} s" if deadline is None else f"row timeout of {deadline.limit_s:g} s"
    if asked_s is None or asked_s < left_s:
        return f"the {limit} leaves no time for a retry"
    asks = f"the server asks to wait {long_duration(asked_s)}"
    if deadline is None or asked_s > deadline.limit_s:
        return f"{asks}, longer than the {limit}"
    return f"{asks}, longer than the time left of the {limit}"
