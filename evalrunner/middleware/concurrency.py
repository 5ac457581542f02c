"""How many calls to one server may be in flight: a fixed limit, or one that adapts to what the server accepts.

`ConcurrencyLimitedEndpoint` waits for a permit, `ConcurrencyLimiter` grants permits in order, `AdaptiveLimit` moves the
limit, `RefusalBackoff` and `Quota` hold calls the server would refuse. The last three are pure: the time is passed in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from evalrunner.domain import Completion, Endpoint, Failure, RateLimitStatus, Request
from evalrunner.formatting import long_duration
from evalrunner.middleware.adaptive_limit import AdaptiveLimit, FixedLimit
from evalrunner.middleware.deadline import StopSignal, Timing, pause_deadline

MAX_CONCURRENCY = 256
OUTAGE_LIMIT_S = 600.0  # refusals for so long end the calls to a server
OVERLOAD_STATUS = frozenset({429, 503, 529})  # RFC 6585 §4, RFC 9110 §15.6.4; 529 is Anthropic's

MAX_HOLD_S = 60.0
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
MIN_CONSECUTIVE = 3  # refusals that mean more than one call too many
MIN_OUTAGE_CALLS = 10
MIN_QUIET_S = 1.0  # without an answer, or twice the latency
TRIAL_S = 2.0  # between calls in spite of headers that nothing has confirmed
MAX_DOUBTS = 3  # answers to them
PROBE_CALLS = 2  # calls let through to see whether the server answers again

ModelKey: TypeAlias = tuple[str, str]
"""Model and kind of request."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one call: its number, when it was sent, and how many calls were in flight with it."""

    number: int
    sent_at: float
    in_flight: int


Admission: TypeAlias = Permit | Failure
"""A permit, or the failure that the call would end in."""


@dataclass(frozen=True, slots=True)
class ConcurrencyLimitedEndpoint:
    """An endpoint whose calls wait for a permit of `limiter`, which everything that calls the same server shares.

    After a stop nothing is sent: waiting and new calls get CancelledError.
    """

    inner: Endpoint
    limiter: ConcurrencyLimiter
    stop: StopSignal

    async def __call__(self, request: Request, /) -> Completion | Failure:
        permit = self.limiter.try_acquire(request, self.stop)
        if permit is None:
            permit = await self.limiter.acquire(request, self.stop)
        if isinstance(permit, Failure):
            return permit
        try:
            answer = await self.inner(request)
        except BaseException:
            self.limiter.release()
            raise
        self.limiter.complete(permit, request, answer)
        return answer


class ConcurrencyLimiter:
    """Permits for one server and key. `label` is its name in messages; `notify` gets those about its rate-limit headers.

    If a model fails fatally before it ever answered, waiting calls to it get that failure instead of a permit.
    """

    def __init__(
        self,
        limit: FixedLimit,
        *,
        timing: Timing | None = None,
        outage_limit_s: float = OUTAGE_LIMIT_S,
        label: str = "the provider",
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._limit = limit
        self._notify = notify
        self._notices: set[str] = set()
        self._timing = timing or Timing()
        self._label = label
        self._outage_limit_s = outage_limit_s
        self._backoff = RefusalBackoff(outage_limit_s)
        self._quota = Quota()
        self._queue: deque[tuple[asyncio.Future[Admission], ModelKey]] = deque()
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answered: set[ModelKey] = set()
        self._dead: dict[ModelKey, Failure] = {}
        self.in_flight = 0
        self.max_in_flight = 0
        self.refused = 0

    @classmethod
    def fixed(cls, n: int, **options: Any) -> ConcurrencyLimiter:
        """A limiter with at most `n` calls in flight. Options are those of the constructor."""
        return cls(FixedLimit(n), **options)

    @classmethod
    def auto(cls, ceiling: int = MAX_CONCURRENCY, **options: Any) -> ConcurrencyLimiter:
        """A limiter that adapts to what the server accepts, up to `ceiling`. Options are those of the constructor."""
        return cls(AdaptiveLimit(ceiling), **options)

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        return self._backoff.limit(self._limit.value)

    @property
    def hold_s(self) -> float:
        """Seconds until the next call, if the server refused calls or its headers allow none; 0.0 otherwise."""
        now = self._timing.now()
        return max(0.0, self._backoff.until - now, self._quota.until - now if self._quota.left == 0 else 0.0)

    def try_acquire(self, request: Request, stop: StopSignal) -> Admission | None:
        """A permit, None if the call has to wait. A stop raises CancelledError."""
        stop.check()
        now = self._timing.now()
        if self._dead and (dead := self._dead.get((request.model, request.kind))):
            return dead
        if self._backoff.consecutive and self._backoff.is_hopeless(now):
            return self._outage()
        if self._queue or self.in_flight >= self.limit or now < self._backoff.until or self._quota.is_empty(now):
            return None
        return self._grant(now)

    async def acquire(self, request: Request, stop: StopSignal) -> Admission:
        """A permit, in order of asking. The row's deadline is paused meanwhile; a stop raises CancelledError."""
        turn: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, (request.model, request.kind)))
        self._grant_waiting()  # sets the timer if the wait is not for another call
        try:
            with pause_deadline():
                return await stop.unless_stopped(turn)
        except BaseException:
            if turn.done() and not turn.cancelled() and isinstance(turn.result(), Permit):
                self.release()
            raise  # a canceled turn stays in the queue and is skipped

    def release(self) -> None:
        """Give a permit back without an answer."""
        self.in_flight -= 1
        self._grant_waiting()

    def complete(self, permit: Permit, request: Request, answer: Completion | Failure) -> None:
        """Give a permit back with the answer, which moves the limit."""
        now = self._timing.now()
        in_use = self.in_flight >= self._limit.value
        self._quota.update(permit, answer, now, self._sent, self._limit.value)
        if answer.rate_limit is not None and self._notify is not None:
            self._report_quota(self._notify)
        if isinstance(answer, Completion):
            if self._backoff.answered(permit, now, self.in_flight):
                self._limit.restore()
            self._limit.answered(permit, now, self._sent, in_use=in_use)
            self._answered.add((request.model, request.kind))
        else:
            self._complete_failure(permit, request, answer, now)
        self.in_flight -= 1
        if self._queue:
            self._grant_waiting()

    def _complete_failure(self, permit: Permit, request: Request, failure: Failure, now: float) -> None:
        key = (request.model, request.kind)
        if failure.fatal:
            known = self._answered if failure.kind == "connection" else key in self._answered
            if not known and (failure.status is not None or failure.kind == "connection"):
                self._dead[key] = failure
                self._reject_waiting(failure, key)
            return
        overload = failure.status in OVERLOAD_STATUS and failure.kind != "context_length"  # the row's own
        if failure.kind == "rate_limit" or overload or failure.overloaded:
            self.refused += 1
            # a 503 without Retry-After means that the server is down, not that the rate is too high: no backoff for it
            backs_off = failure.kind == "rate_limit" or failure.retry_after_s is not None
            if self._backoff.refused(permit, failure, now, self.in_flight, backs_off=backs_off):
                self._limit.snapshot()
            self._limit.refused(permit, self._sent)
        elif failure.kind in ("timeout", "server", "connection", "malformed"):
            self._limit.failed(permit, self._sent, timeout=failure.kind == "timeout")

    def _report_quota(self, notify: Callable[[str], None]) -> None:
        """Report headers that stop the calls, and headers that turned out to be wrong, once each."""
        if self._quota.is_ignored:
            notice = "its rate-limit headers allow no call, but it answers; they are ignored"
        elif self._quota.left == 0 and self._quota.reset_s > MAX_HOLD_S:
            notice = "its rate-limit headers allow no call for a long time; calls waited for them"
        else:
            return
        if notice not in self._notices:
            self._notices.add(notice)
            notify(f"{self._label}: {notice}")

    def _grant(self, now: float) -> Permit:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self._quota.spend()
        permit = Permit(self._sent, now, self.in_flight)
        self._sent += 1
        return permit

    def _grant_waiting(self) -> None:
        """Grant permits in order while there are any, and set a timer for the next one."""
        now = self._timing.now()
        if self._backoff.consecutive and self._backoff.is_hopeless(now):
            self._reject_waiting(self._outage())
        while self._queue and self.in_flight < self.limit:
            if now < self._backoff.until or self._quota.is_empty(now):
                self._wake_at(max(self._backoff.until, self._quota.until if self._quota.is_empty(now) else 0.0), now)
                return
            turn, _ = self._queue.popleft()
            if not turn.done():
                turn.set_result(self._grant(now))

    def _reject_waiting(self, failure: Failure, only: ModelKey | None = None) -> None:
        """Give waiting calls, all or those to one model, the failure that they would end in."""
        others = deque[tuple[asyncio.Future[Admission], ModelKey]]()
        for turn, key in self._queue:
            if only is not None and key != only:
                others.append((turn, key))
            elif not turn.done():
                turn.set_result(failure)
        self._queue = others

    def _wake_at(self, when: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = (when - now) * self._timing.scale + 1e-4
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._grant_waiting)

    def _outage(self) -> Failure:
        message = f"{self._label} rejected every call for {long_duration(self._outage_limit_s)}; no more calls are made"
        return Failure("rate_limit", message, fatal=True)


class RefusalBackoff:
    """Consecutive refusals. `until` is when the next call may go; an answer ends the backoff."""

    def __init__(self, outage_limit_s: float) -> None:
        self.until = 0.0
        self.is_total_outage = False  # nothing was answered for a while
        self.consecutive = 0
        self._outage_limit_s = outage_limit_s
        self._since = 0.0  # when the first refused call was sent
        self._last = -MIN_QUIET_S
        self._set_at = 0.0
        self._room = 0  # calls that may be in flight meanwhile
        self._holds = 0
        self._short_holds = 0
        self._latency_s = 0.0

    def answered(self, permit: Permit, now: float, in_flight: int) -> bool:
        """Take note of an answer; whether it ended an outage. One to a call from before the refusals only makes room."""
        latency_s = now - permit.sent_at
        self._latency_s += (latency_s - self._latency_s) * (0.1 if self._latency_s else 1.0)
        if not self.consecutive:
            return False
        self.until = 0.0
        if self.consecutive >= MIN_CONSECUTIVE and permit.sent_at < self._since:
            self._room = in_flight
            return False
        ended, self.is_total_outage = self.is_total_outage, False
        self.consecutive = self._holds = self._short_holds = 0
        return ended

    def limit(self, limit: int) -> int:
        """How many calls may be in flight: as many as are now, or a few to see whether the server answers again."""
        return limit if self.consecutive < MIN_CONSECUTIVE else min(limit, max(PROBE_CALLS, self._room))

    def refused(self, permit: Permit, failure: Failure, now: float, in_flight: int, *, backs_off: bool) -> bool:
        """Take note of a refusal; whether it is the first one after a time of answers."""
        first = self.consecutive == 0 and now - self._last >= max(MIN_QUIET_S, 2.0 * self._latency_s)
        self._last = now
        self._room = in_flight - 1
        self._hold(permit, failure, now, backs_off=backs_off)
        return first

    def _hold(self, permit: Permit, failure: Failure, now: float, *, backs_off: bool) -> None:
        self.consecutive += 1
        if self.consecutive == 1:
            self._since = permit.sent_at
        if self.consecutive < MIN_CONSECUTIVE or permit.sent_at < self._set_at:
            return
        if now - self._since >= max(MIN_QUIET_S, 2.0 * self._latency_s):
            self.is_total_outage = True
            wait_s = _requested_wait_s(failure)
            if wait_s is None:
                wait_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(self._holds, 10))
            self._holds += 1
        else:  # calls that will be answered are still in flight
            wait_s = min(MIN_QUIET_S, max(0.05, self._latency_s / 4) * 2.0 ** min(self._short_holds, 10))
            self._short_holds += 1
        if backs_off:
            self.until, self._set_at = now + min(wait_s, MAX_HOLD_S), now

    def is_hopeless(self, now: float) -> bool:
        """Whether every call was refused for `outage_limit_s`."""
        return self.consecutive >= MIN_OUTAGE_CALLS and now - self._since >= self._outage_limit_s


class Quota:
    """Calls left until the server's rate limit resets, by its response headers. None: not limited by them.

    Until a refusal confirms the headers, one call goes out every TRIAL_S in spite of them. If MAX_DOUBTS of these are
    answered, and with the same headers, the headers are wrong and are ignored until a call is refused.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.until = 0.0
        self.reset_s = 0.0  # as the headers say
        self.doubts = 0
        self._confirmed = False
        self._claimed_at = self._resets_at = 0.0
        self._newest = -1  # number of the call whose headers are in force
        self._tokens_per_call = 0.0

    @property
    def is_ignored(self) -> bool:
        """Whether the headers are known to be wrong."""
        return self.doubts >= MAX_DOUBTS

    def update(self, permit: Permit, answer: Completion | Failure, now: float, sent: int, limit: int) -> None:
        """Read the headers of an answer. Those of the call sent last are in force."""
        if isinstance(answer, Completion) and answer.input_tokens is not None:
            used = answer.input_tokens + (answer.output_tokens or 0)
            self._tokens_per_call += (used - self._tokens_per_call) * (0.1 if self._tokens_per_call else 1.0)
        status = answer.rate_limit
        if isinstance(answer, Failure) and answer.kind == "rate_limit":
            self._confirmed, self.doubts = status is not None, 0
        if status is None or permit.number < self._newest:
            return
        self._newest = permit.number
        calls, reset_s = self._calls(status)
        if calls is None or calls >= limit:
            self.left = None
            return
        if isinstance(answer, Completion) and calls <= 0 and self._claimed_at <= permit.sent_at < self._resets_at:
            self.doubts += 1
        if self.is_ignored:
            self.left = None
            return
        self.left = max(0, calls - (sent - 1 - permit.number))  # calls sent since then use it too
        self.reset_s = 1.0 if reset_s is None else reset_s
        self._claimed_at, self._resets_at = now, now + self.reset_s
        self.until = now + min(self.reset_s, MAX_HOLD_S if self._confirmed else TRIAL_S)

    def _calls(self, status: RateLimitStatus) -> tuple[int | None, float | None]:
        """Calls left and the seconds until a reset, by requests or tokens, whichever allows fewer."""
        if status.tokens is not None and self._tokens_per_call:
            by_tokens = int(status.tokens / self._tokens_per_call)
            if status.requests is None or by_tokens < status.requests:
                return by_tokens, status.tokens_reset_s
        return status.requests, status.requests_reset_s

    def is_empty(self, now: float) -> bool:
        """Whether no call may go now."""
        if self.left is None:
            return False
        if now >= self._resets_at:
            self.left = None
            return False
        if self.left <= 0 and now >= self.until:  # one call, to see whether the headers are right
            self.left, self.until = 1, min(self._resets_at, now + MAX_HOLD_S)
        return self.left <= 0

    def spend(self) -> None:
        if self.left is not None:
            self.left -= 1


def _requested_wait_s(failure: Failure) -> float | None:
    """Seconds that a refusal asks to wait, by Retry-After or its rate limit headers; None if it names no time."""
    if failure.retry_after_s is not None:
        return failure.retry_after_s
    status = failure.rate_limit
    if status is None:
        return None
    limits = ((status.requests, status.requests_reset_s), (status.tokens, status.tokens_reset_s))
    return max((reset_s for left, reset_s in limits if left == 0 and reset_s is not None), default=None)
