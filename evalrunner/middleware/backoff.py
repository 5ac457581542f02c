"""When nothing is sent at all: the server refuses every call, or has said that hardly any are left. Pure."""

from __future__ import annotations

from evalrunner.domain import Completion, Failure, RateLimitStatus
from evalrunner.middleware.adaptive_limit import Ticket

MAX_HOLD_S = 60.0
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
MIN_CONSECUTIVE = 3  # refusals, from which on they are more than one too many
MIN_QUIET_S = 1.0  # without an answer, or twice the latency
PROBE_CALLS = 2  # calls that are let through to see whether it is over


class RefusalBackoff:
    """Refusals in a row. `until` is when the next call may go; an answer ends it all."""

    def __init__(self, give_up_s: float) -> None:
        self.until = 0.0
        self.is_total_outage = False  # nothing at all has been answered for a while
        self.in_row = 0
        self._give_up_s = give_up_s
        self._since = 0.0  # when the first of them was sent
        self._last = -MIN_QUIET_S
        self._set_at = 0.0
        self._room = 0  # calls that may be in flight meanwhile
        self._holds = 0
        self._short_holds = 0
        self._latency_s = 0.0

    def answered(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """An answer came. One to a call from before the refusals only makes room for another call."""
        latency_s = now - ticket.sent_at
        self._latency_s += (latency_s - self._latency_s) * (0.1 if self._latency_s else 1.0)
        if not self.in_row:
            return
        self.until = 0.0
        if self.in_row >= MIN_CONSECUTIVE and ticket.sent_at < self._since:
            self._room = in_flight
            return
        self.in_row = self._holds = self._short_holds = 0
        self.is_total_outage = False

    def bound(self, bound: int) -> int:
        """How many may be in flight: as many as are, or a few to see whether it is over."""
        return bound if self.in_row < MIN_CONSECUTIVE else min(bound, max(PROBE_CALLS, self._room))

    def refused(self, ticket: Ticket, failure: Failure, now: float, in_flight: int) -> bool:
        """Take a refusal; whether it is the first after a time of answers."""
        first = self.in_row == 0 and now - self._last >= max(MIN_QUIET_S, 2.0 * self._latency_s)
        self._last = now
        self._room = in_flight - 1
        self._count(ticket, failure, now)
        return first

    def _count(self, ticket: Ticket, failure: Failure, now: float) -> None:
        self.in_row += 1
        if self.in_row == 1:
            self._since = ticket.sent_at
        if self.in_row < MIN_CONSECUTIVE or ticket.sent_at < self._set_at:
            return
        if now - self._since >= max(MIN_QUIET_S, 2.0 * self._latency_s):
            self.is_total_outage = True
            wait_s = asked_s(failure)
            if wait_s is None:
                wait_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(self._holds, 10))
            self._holds += 1
        else:  # calls that are answered are still on their way
            wait_s = min(MIN_QUIET_S, max(0.05, self._latency_s / 4) * 2.0 ** min(self._short_holds, 10))
            self._short_holds += 1
        self.until, self._set_at = now + min(wait_s, MAX_HOLD_S), now

    @property
    def held(self) -> bool:
        """Whether nothing was sent for a while, and nothing answered since."""
        return self.is_total_outage or self._short_holds > 1

    def gave_up(self, now: float) -> bool:
        """Whether every call was refused for so long that there is no hope."""
        return self.in_row >= 10 and now - self._since >= self._give_up_s


class Quota:
    """Calls that may still be sent until the server's limit is whole again, by what its headers said."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.until = 0.0
        self._heard = -1
        self._tokens = 0.0  # of a call, as far as is known

    def update(self, ticket: Ticket, answer: Completion | Failure, now: float, sent: int, bound: int) -> None:
        """Take what an answer says is left; of two the one to the later call counts."""
        if isinstance(answer, Completion) and answer.input_tokens is not None:
            used = answer.input_tokens + (answer.output_tokens or 0)
            self._tokens += (used - self._tokens) * (0.1 if self._tokens else 1.0)
        told = answer.rate_limit
        if told is None or ticket.number < self._heard:
            return
        self._heard = ticket.number
        calls, reset_s = self._calls(told)
        if calls is None or calls >= bound:
            self.left = None
            return
        self.left = max(0, calls - (sent - 1 - ticket.number))  # those sent since then take of it too
        self.until = now + min(1.0 if reset_s is None else reset_s, MAX_HOLD_S)

    def _calls(self, told: RateLimitStatus) -> tuple[int | None, float | None]:
        """Calls that are left and when that changes, of requests or tokens whichever is less."""
        by_tokens = int(told.tokens / self._tokens) if told.tokens is not None and self._tokens else None
        if by_tokens is not None and (told.requests is None or by_tokens < told.requests):
            return by_tokens, told.tokens_reset_s
        return told.requests, told.requests_reset_s

    def closed(self, now: float) -> bool:
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


def asked_s(failure: Failure) -> float | None:
    """Seconds that a refusal asks to wait, by itself or by the limits it tells of; None where it does not say."""
    if failure.retry_after_s is not None:
        return failure.retry_after_s
    told = failure.rate_limit
    if told is None:
        return None
    waits = [
        reset_s
        for left, reset_s in ((told.requests, told.requests_reset_s), (told.tokens, told.tokens_reset_s))
        if left == 0 and reset_s is not None
    ]
    return max(waits, default=None)
