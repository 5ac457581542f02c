"""Asking again what failed in passing, after a wait that grows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.formatting import long_duration
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.deadline import CURRENT
from evalrunner.middleware.timing import Timing

TRANSIENT_KINDS = frozenset({"timeout", "rate_limit", "server", "connection", "malformed"})
TRANSIENT_STATUS = frozenset({408, 409, 425, 429, *range(500, 600)})
"""Transient: RFC 9110 §15, RFC 8470 §5.2, RFC 6585 §4; another 4xx is our own fault, asking again will not help."""
MAX_WAIT_S = 3600.0  # where no row's time sets a limit
RESTART_GRACE_S = 30.0  # a server that had answered may be away so long, whatever the number of tries: it restarts
RESTART_POLL_S = 5.0  # the longest wait between two looks whether it is back


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often a call is made again, and seconds of the waits: up to `base_s`, doubled each time up to `cap_s`."""

    retries: int
    base_s: float = 0.5
    cap_s: float = 30.0


class RetryEndpoint:
    """An endpoint that asks again what failed in passing; a stop ends its waits with CancelledError.

    Waits are drawn from zero to a bound that doubles (full jitter), but are never shorter than the server asks for. One
    that is longer than the row may still take is not begun: the failure comes back at once and says so. A server
    that is not there is asked again only if it has answered before, and then for RESTART_GRACE_S at the least: nothing was asked of
    it meanwhile. `on_retry` is told of each failure that is asked again.
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
        self._answered = False

    async def __call__(self, request: Request, /) -> Completion | Failure:
        tries = 0
        away_since: float | None = None
        while True:
            answer = await self._inner(request)
            tries += 1
            if isinstance(answer, Completion):
                self._answered = True
                return answer
            if answer.status is not None or answer.kind == "malformed":
                self._answered = True
            if not is_retryable(answer, answered=self._answered):
                return answer
            now = self._timing.now()
            if not answer.fatal:
                away_since = None  # it is back, and its tries count again
            elif away_since is None:
                away_since = now
            restarts = away_since is not None and now - away_since < RESTART_GRACE_S and self._rules.retries > 0
            if tries > self._rules.retries and not restarts:
                return _said(answer, f"{answer.message} ({tries} tries)") if tries > 1 else answer
            wait_s = self._wait_s(answer, tries)
            too_long = retry_refusal(wait_s, answer.retry_after_s)
            if too_long is not None:
                return _said(answer, f"{too_long}; {answer.message}")
            if self._on_retry is not None:
                self._on_retry(answer)
            await self._stop.unless_stopped(self._timing.sleep(wait_s))

    def _wait_s(self, failure: Failure, tries: int) -> float:
        rules = self._rules
        cap_s = min(rules.cap_s, RESTART_POLL_S) if failure.fatal else rules.cap_s
        bound = min(cap_s, rules.base_s * 2.0 ** min(tries - 1, 60))  # more is no float
        own = self._draw.uniform(0.0, bound)
        if not failure.retry_after_s:
            return own
        # those who were sent away together do not come back together
        return max(own, failure.retry_after_s + self._draw.uniform(0.0, rules.base_s))


def is_retryable(failure: Failure, *, answered: bool) -> bool:
    """Whether asking again may help; `answered`: the server was there before."""
    if failure.kind not in TRANSIENT_KINDS:
        return False
    if failure.fatal:
        return answered and failure.kind == "connection"
    if failure.status is None or failure.status in TRANSIENT_STATUS:
        return True
    return failure.kind == "malformed" and 200 <= failure.status < 300


def retry_refusal(wait_s: float, asked_s: float | None) -> str | None:
    """Why a wait is not begun, or None where there is time for it. `asked_s` is what the server asks for."""
    clock = CURRENT.get()
    left_s = MAX_WAIT_S if clock is None else clock.left_s()
    if wait_s < left_s:
        return None
    limit = f"{MAX_WAIT_S:g} s that are waited at most" if clock is None else f"row's time limit of {clock.limit_s:g} s"
    if asked_s is None or asked_s < left_s:
        return f"the {limit} leaves no time for another try"
    words = f"the server asks to wait {long_duration(asked_s)}"
    if clock is None or asked_s > clock.limit_s:
        return f"{words}, longer than the {limit}"
    return f"{words}, longer than what is left of the {limit}"


def _said(failure: Failure, message: str) -> Failure:
    return replace(failure, message=message)
