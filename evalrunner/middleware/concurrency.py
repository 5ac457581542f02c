"""How many calls to one server may be in flight: a fixed limit, or one that adapts to what the server accepts.

`ConcurrencyLimitedEndpoint` waits for a permit, `ConcurrencyLimiter` grants permits in order, `AdaptiveLimit` moves the
limit, `RefusalBackoff` and `Quota` hold calls the server would refuse. The last three are pure: the time is passed in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from evalrunner.domain import Completion, Endpoint, Failure, RateLimitStatus, Request
from evalrunner.formatting import long_duration
from evalrunner.middleware.deadline import StopSignal, Timing, pause_deadline

MAX_CONCURRENCY = 256
OUTAGE_LIMIT_S = 600.0  # refusals for so long end the calls to a server
OVERLOAD_STATUS = frozenset({429, 503, 529})  # RFC 6585 §4, RFC 9110 §15.6.4; 529 is Anthropic's

START_LIMIT = 4
DECREASE = 0.85
MILD_DECREASE = 0.95
MIN_PROBE_INTERVAL, MAX_PROBE_INTERVAL = 50, 3200  # answers between two probes, doubled with each that fails
MIN_GAIN = 1.25  # in answers a second, for twice as many calls in flight; less is no gain
WEIGHT, SLOW_WEIGHT = 1 / 32, 1 / 256  # of one answer in the moving averages
MAX_BASELINE_SHARE = 0.15  # of refusals that do not depend on the concurrency
MIN_BASELINE_SHARE = 0.03  # thirty answers cannot distinguish smaller shares
NO_REFUSALS_SHARE = 0.002  # reached some 180 answers after one refusal
HIGH_FAILURE_SHARE, HIGH_TIMEOUT_SHARE = 0.25, 0.1

MAX_HOLD_S = 60.0
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
MIN_CONSECUTIVE = 3  # refusals that mean more than one call too many
MIN_OUTAGE_CALLS = 10
MIN_QUIET_S = 1.0  # without an answer, or twice the latency
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
    """Permits for one server and key. `label` is its name in messages.

    If a model fails fatally before it ever answered, waiting calls to it get that failure instead of a permit.
    """

    def __init__(
        self,
        limit: FixedLimit,
        *,
        timing: Timing | None = None,
        outage_limit_s: float = OUTAGE_LIMIT_S,
        label: str = "the provider",
    ) -> None:
        self._limit = limit
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
    def fixed(cls, n: int, *, timing: Timing | None = None, label: str = "the provider") -> ConcurrencyLimiter:
        """A limiter with at most `n` calls in flight."""
        return cls(FixedLimit(n), timing=timing, label=label)

    @classmethod
    def auto(
        cls, ceiling: int = MAX_CONCURRENCY, *, timing: Timing | None = None, label: str = "the provider"
    ) -> ConcurrencyLimiter:
        """A limiter that adapts to what the server accepts, up to `ceiling`."""
        return cls(AdaptiveLimit(ceiling), timing=timing, label=label)

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        return self._backoff.limit(self._limit.value)

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
        if isinstance(answer, Completion):
            if self._backoff.was_held:
                self._limit.restore()
            self._backoff.answered(permit, now, self.in_flight)
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
            if backs_off and self._backoff.refused(permit, failure, now, self.in_flight):
                self._limit.snapshot()
            self._limit.refused(permit, self._sent)
        elif failure.kind in ("timeout", "server", "connection", "malformed"):
            self._limit.failed(permit, self._sent, timeout=failure.kind == "timeout")

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


class FixedLimit:
    """A limit that never changes. `value` is the limit; `sent` the number of the next call."""

    def __init__(self, value: int) -> None:
        self.value = value

    def answered(self, permit: Permit, now: float, sent: int, *, in_use: bool) -> None:
        """Take note of an answer. `in_use`: as many calls were in flight as the limit allows."""

    def refused(self, permit: Permit, sent: int) -> None:
        """Take note of a refusal: the server accepts no more."""

    def failed(self, permit: Permit, sent: int, *, timeout: bool) -> None:
        """Take note of another failure."""

    def snapshot(self) -> None:
        """Save the limit before an outage, which says nothing about the right one."""

    def restore(self) -> None:
        """Return to the limit before the outage."""


class AdaptiveLimit(FixedLimit):
    """A limit found by trying. `accepted` is the number that the server is known to accept, None until then.

    It rises by one with each answer until the server refuses, or until more calls bring no more answers a second.
    Then it decreases gently, returns to just below what was refused, and probes for more only rarely: fewer than one
    call in fifty is refused for it. Refusals at any concurrency are the server's baseline and do not lower the limit.
    """

    def __init__(self, ceiling: int, start: int = START_LIMIT) -> None:
        super().__init__(min(start, ceiling))
        self.ceiling = ceiling
        self.accepted: int | None = None
        self._exact = float(self.value)
        self._since = 0  # the first call sent at the present limit
        self._probe: _Probe | None = None
        self._answers = 0  # since the last probe
        self._interval = MIN_PROBE_INTERVAL
        self._saturated = False  # `accepted` is where more calls brought no gain, not where the server refused
        self._rounds = _Rounds()
        self._shares = _Shares()
        self._saved: int | None = None

    def answered(self, permit: Permit, now: float, sent: int, *, in_use: bool) -> None:
        """Raise the limit, if it is used up."""
        self._shares.add()
        round_ended = self._rounds.add(permit, now, self.value, in_use=in_use)
        if not in_use or permit.number < self._since:
            return
        if self.accepted is None:
            if round_ended and self._rounds.without_gain >= 2:
                self._settle_at(self._rounds.knee, sent)
            elif self.value < self.ceiling:
                self._set(self._exact + 1.0)
        elif self.value < self.accepted:
            self._set(min(self._exact + 1.0, self.accepted))
        elif self._probe is not None:
            self._advance_probe(sent, round_ended=round_ended)
        else:
            self._answers += 1
            if self._answers >= self._interval and self.accepted < self.ceiling:
                self._begin_probe(sent, max(1, self.accepted // 2) if self._saturated else 1)

    def refused(self, permit: Permit, sent: int) -> None:
        """Lower the limit, once for all calls that were sent before the first refusal."""
        self._shares.add(refused=True)
        if permit.number < self._since or self._shares.is_baseline():
            return
        if self._probe is not None and self.accepted is not None:
            self._fail_probe(sent)
            return
        level = min(permit.in_flight, self.value)
        if self._shares.find_baseline(level):
            self.accepted, self._interval = None, MIN_PROBE_INTERVAL
            self._rounds = _Rounds()
            return
        known = level - 1 if self.accepted is None else min(self.accepted, level - 1)
        self.accepted, self._saturated, self._answers = max(1, known), False, 0
        self._since = sent
        self._set(min(self._exact, level) * DECREASE)

    def failed(self, permit: Permit, sent: int, *, timeout: bool) -> None:
        """Lower the limit for many timeouts, which mean an overloaded server, and mildly for many other failures."""
        self._shares.add(failed=not timeout, timeout=timeout)
        if permit.number < self._since:
            return
        if timeout and self._shares.timeouts > HIGH_TIMEOUT_SHARE:
            self._since = sent
            self._end_probe()
            self._set(self._exact * DECREASE)
        elif self._shares.failed > HIGH_FAILURE_SHARE and self._exact > START_LIMIT:
            self._since = sent
            self._end_probe()
            self._set(max(START_LIMIT, self._exact * MILD_DECREASE))

    def snapshot(self) -> None:
        """Save the accepted number."""
        self._saved = self.accepted or self.value

    def restore(self) -> None:
        """Return to just below the saved number, starting from half of it; once."""
        known, self._saved = self._saved, None
        if known is None or known <= self.value:
            return
        self._end_probe()
        if self.accepted is not None:
            self.accepted = max(self.accepted, int(known * DECREASE))
        self._set(max(self._exact, known * DECREASE / 2))

    def _set(self, limit: float) -> None:
        self._exact = min(max(1.0, limit), float(self.ceiling))
        self.value = int(self._exact + 1e-9)

    def _settle_at(self, level: int, sent: int) -> None:
        self.accepted, self._saturated, self._since, self._answers = max(1, level), True, sent, 0
        self._set(self.accepted)

    def _begin_probe(self, sent: int, step: int) -> None:
        assert self.accepted is not None  # a probe goes beyond it
        self._since = sent
        self._probe = _Probe(step, self._rounds.rate)
        self._set(self.accepted + step)

    def _advance_probe(self, sent: int, *, round_ended: bool) -> None:
        """One answer to a call sent at the probed limit."""
        probe = self._probe
        assert probe is not None
        probe.answers += 1
        probe.rounds += round_ended
        if self._saturated and probe.rounds == 1 and round_ended:
            probe.answers = 0  # the first round contains the change
        if probe.answers <= self.value or (self._saturated and probe.rounds < 3):
            return
        if self._saturated and self._rounds.rate < probe.rate_before * MIN_GAIN:
            self._fail_probe(sent)
            return
        self.accepted, self._interval = self.value, MIN_PROBE_INTERVAL
        self._end_probe()
        if self.accepted < self.ceiling:
            self._begin_probe(sent, max(1, self.accepted // 2) if self._saturated else probe.step * 2)

    def _fail_probe(self, sent: int) -> None:
        assert self._probe is not None and self.accepted is not None
        if self._probe.step == 1 or self._saturated:
            self._interval = min(self._interval * 2, MAX_PROBE_INTERVAL)
        self._since = sent
        self._end_probe()

    def _end_probe(self) -> None:
        if self._probe is not None and self.accepted is not None:
            self._set(self.accepted)
        self._probe = None
        self._answers = 0


@dataclass(slots=True)
class _Probe:
    """A limit above the accepted one, until a round of calls sent with it is answered."""

    step: int
    rate_before: float
    answers: int = 0
    rounds: int = 0


class _Rounds:
    """Answers a second, round by round. A round takes as long as a call on average."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.without_gain = 0  # consecutive rounds in which twice as many calls brought no gain
        self.knee = START_LIMIT  # the limit before them
        self._started_at: float | None = None
        self._level = 0
        self._answers = 0
        self._latency_s = 0.0

    def add(self, permit: Permit, now: float, level: int, *, in_use: bool) -> bool:
        """Whether a round ended with this answer."""
        self._latency_s += (now - permit.sent_at - self._latency_s) * (WEIGHT if self._latency_s else 1.0)
        if not in_use:
            self._started_at = None
            return False
        if self._started_at is None:
            self._started_at, self._level, self._answers = now, level, 0
            return False
        self._answers += 1
        lasted_s = now - self._started_at
        if lasted_s < self._latency_s or self._answers < max(8, self._level):
            return False
        rate = self._answers / max(lasted_s, 1e-9)
        if rate < self.rate * MIN_GAIN:
            self.without_gain += 1
        else:
            self.without_gain, self.knee = 0, level
        self.rate = rate if level != self._level else self.rate + (rate - self.rate) * 0.3
        self._started_at, self._level, self._answers = now, level, 0
        return True


class _Shares:
    """Moving averages: the shares of answers that were refused, failed or timed out, and the baseline of refusals."""

    def __init__(self) -> None:
        self.refused = 0.0
        self.failed = 0.0
        self.timeouts = 0.0
        self._slow_refused = 0.0  # over many more answers
        self._baseline_refusal_rate = 0.0
        self._highest_level = 0  # since refusals began
        self._highest_refused = 0.0  # share since then
        self._count = 0

    def add(self, *, refused: bool = False, failed: bool = False, timeout: bool = False) -> None:
        self._count += 1
        self.refused += (refused - self.refused) * WEIGHT
        self.failed += (failed - self.failed) * WEIGHT
        self.timeouts += (timeout - self.timeouts) * WEIGHT
        self._slow_refused += (refused - self._slow_refused) * SLOW_WEIGHT
        self._highest_refused = max(self._highest_refused, self.refused)
        if self._slow_refused < NO_REFUSALS_SHARE:
            self._baseline_refusal_rate, self._highest_level, self._highest_refused = 0.0, 0, 0.0

    def is_baseline(self) -> bool:
        """Whether no more calls are refused than always, whatever is in flight."""
        return self._baseline_refusal_rate > 0.0 and self.refused <= 2 * self._baseline_refusal_rate + 0.02

    def find_baseline(self, level: int) -> bool:
        """Whether as many calls are refused at a third of the level where refusals began: then that is the baseline."""
        self._highest_level = max(self._highest_level, level)
        lower = level * 3 <= self._highest_level and level < self._highest_level
        in_range = 0.3 * self._highest_refused <= self.refused <= MAX_BASELINE_SHARE
        if not lower or self._count < 2 / WEIGHT or not in_range:
            return False
        self._baseline_refusal_rate = max(self.refused, self._slow_refused, MIN_BASELINE_SHARE)
        self._highest_level, self._highest_refused = 0, 0.0
        return True


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

    def answered(self, permit: Permit, now: float, in_flight: int) -> None:
        """Take note of an answer. One to a call from before the refusals only makes room for another call."""
        latency_s = now - permit.sent_at
        self._latency_s += (latency_s - self._latency_s) * (0.1 if self._latency_s else 1.0)
        if not self.consecutive:
            return
        self.until = 0.0
        if self.consecutive >= MIN_CONSECUTIVE and permit.sent_at < self._since:
            self._room = in_flight
            return
        self.consecutive = self._holds = self._short_holds = 0
        self.is_total_outage = False

    def limit(self, limit: int) -> int:
        """How many calls may be in flight: as many as are now, or a few to see whether the server answers again."""
        return limit if self.consecutive < MIN_CONSECUTIVE else min(limit, max(PROBE_CALLS, self._room))

    def refused(self, permit: Permit, failure: Failure, now: float, in_flight: int) -> bool:
        """Take note of a refusal; whether it is the first one after a time of answers."""
        first = self.consecutive == 0 and now - self._last >= max(MIN_QUIET_S, 2.0 * self._latency_s)
        self._last = now
        self._room = in_flight - 1
        self._hold(permit, failure, now)
        return first

    def _hold(self, permit: Permit, failure: Failure, now: float) -> None:
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
        self.until, self._set_at = now + min(wait_s, MAX_HOLD_S), now

    @property
    def was_held(self) -> bool:
        """Whether calls were held for a while and none has been answered since."""
        return self.is_total_outage or self._short_holds > 1

    def is_hopeless(self, now: float) -> bool:
        """Whether every call was refused for `outage_limit_s`."""
        return self.consecutive >= MIN_OUTAGE_CALLS and now - self._since >= self._outage_limit_s


class Quota:
    """Calls left until the server's rate limit resets, by its response headers. None: not limited by them."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.until = 0.0
        self._newest = -1  # number of the call whose headers are in force
        self._tokens_per_call = 0.0

    def update(self, permit: Permit, answer: Completion | Failure, now: float, sent: int, limit: int) -> None:
        """Read the headers of an answer. Those of the call sent last are in force."""
        if isinstance(answer, Completion) and answer.input_tokens is not None:
            used = answer.input_tokens + (answer.output_tokens or 0)
            self._tokens_per_call += (used - self._tokens_per_call) * (0.1 if self._tokens_per_call else 1.0)
        status = answer.rate_limit
        if status is None or permit.number < self._newest:
            return
        self._newest = permit.number
        calls, reset_s = self._calls(status)
        if calls is None or calls >= limit:
            self.left = None
            return
        self.left = max(0, calls - (sent - 1 - permit.number))  # calls sent since then use it too
        self.until = now + min(1.0 if reset_s is None else reset_s, MAX_HOLD_S)

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
        if now >= self.until:
            self.left = None
            return False
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
