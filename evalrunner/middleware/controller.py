"""Turns to call: never more in flight than the limit, in the order of asking, none lost when one who waits gives up."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeAlias

from evalrunner.domain import Completion, Failure, Request
from evalrunner.formatting import long_duration
from evalrunner.middleware.adaptive_limit import AdaptiveLimit, FixedLimit, Limit, Ticket
from evalrunner.middleware.backoff import Quota, RefusalBackoff
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.deadline import Timing, pause_deadline

CEILING = 256
GIVE_UP_S = 600.0
OVERLOADED = frozenset({429, 503, 529})  # RFC 6585 §4, RFC 9110 §15.6.4; 529 is Anthropic's

Turn: TypeAlias = Ticket | Failure
"""Leave to call, or why nobody needs to."""


class ConcurrencyLimiter:
    """Turns at one endpoint and key, for all who call it. `label` is how messages name it.

    A model that fails for good before it ever answered is not asked by those who wait: they get its failure.
    """

    def __init__(
        self, limit: Limit, *, timing: Timing | None = None, give_up_s: float = GIVE_UP_S, label: str = "the provider"
    ) -> None:
        self._limit = limit
        self._timing = timing or Timing()
        self._label = label
        self._give_up_s = give_up_s
        self._backoff = RefusalBackoff(give_up_s)
        self._quota = Quota()
        self._queue: deque[tuple[asyncio.Future[Turn], tuple[str, str]]] = deque()
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answered: set[tuple[str, str]] = set()
        self._dead: dict[tuple[str, str], Failure] = {}
        self.in_flight = 0
        self.most_in_flight = 0
        self.refused = 0

    @classmethod
    def fixed(
        cls, n: int, *, timing: Timing | None = None, give_up_s: float = GIVE_UP_S, label: str = "the provider"
    ) -> ConcurrencyLimiter:
        """At most `n` calls in flight."""
        return cls(FixedLimit(n), timing=timing, give_up_s=give_up_s, label=label)

    @classmethod
    def auto(
        cls,
        ceiling: int = CEILING,
        *,
        timing: Timing | None = None,
        give_up_s: float = GIVE_UP_S,
        label: str = "the provider",
    ) -> ConcurrencyLimiter:
        """As many calls in flight as the endpoint bears, at most `ceiling`."""
        return cls(AdaptiveLimit(ceiling), timing=timing, give_up_s=give_up_s, label=label)

    @property
    def bound(self) -> int:
        """How many calls may be in flight now."""
        return self._backoff.bound(self._limit.bound)

    def take(self, request: Request) -> Turn | None:
        """A turn, if there is one right now."""
        if self._dead and (dead := self._dead.get((request.model, request.kind))):
            return dead
        now = self._timing.now()
        if self._backoff.in_row and self._backoff.gave_up(now):
            return self._hopeless()
        if self._queue or self.in_flight >= self.bound or now < self._backoff.until or self._quota.closed(now):
            return None
        return self._grant(now)

    async def wait(self, request: Request, stop: StopSignal) -> Turn:
        """A turn, after those who asked before. The row's clock stands still; a stop raises CancelledError."""
        turn: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, (request.model, request.kind)))
        self._hand_out()  # sets the alarm where it is not calls that are waited for
        try:
            with pause_deadline():
                return await stop.unless_stopped(turn)
        except BaseException:
            if turn.done() and not turn.cancelled() and isinstance(turn.result(), Ticket):
                self.drop()
            raise  # one that was given up stays in the queue and is passed over

    def drop(self) -> None:
        """Give a turn back without an answer."""
        self.in_flight -= 1
        self._hand_out()

    def settle(self, ticket: Ticket, request: Request, answer: Completion | Failure) -> None:
        """Give a turn back with what came of it."""
        now = self._timing.now()
        in_use = self.in_flight >= self._limit.bound
        self._quota.update(ticket, answer, now, self._sent, self._limit.bound)
        if isinstance(answer, Completion):
            if self._backoff.held:
                self._limit.restore()
            self._backoff.answered(ticket, now, self.in_flight)
            self._limit.answered(ticket, now, self._sent, in_use=in_use)
            self._answered.add((request.model, request.kind))
        else:
            self._settle_failure(ticket, request, answer, now)
        self.in_flight -= 1
        if self._queue:
            self._hand_out()

    def _settle_failure(self, ticket: Ticket, request: Request, failure: Failure, now: float) -> None:
        asked = (request.model, request.kind)
        if failure.fatal:
            known = self._answered if failure.kind == "connection" else asked in self._answered
            if not known and (failure.status is not None or failure.kind == "connection"):
                self._dead[asked] = failure
                self._send_home(failure, asked)
            return
        if failure.kind == "rate_limit" or failure.status in OVERLOADED:
            self.refused += 1
            # a 503 that names no time to come back speaks of a server that is down, not of a rate: no use to wait for it
            waited_for = failure.kind == "rate_limit" or failure.retry_after_s is not None
            if waited_for and self._backoff.refused(ticket, failure, now, self.in_flight):
                self._limit.snapshot()
            self._limit.refused(ticket, self._sent)
        elif failure.kind in ("timeout", "server", "connection", "malformed"):
            self._limit.failed(ticket, self._sent, timeout=failure.kind == "timeout")

    def _grant(self, now: float) -> Ticket:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._quota.spend()
        ticket = Ticket(self._sent, now, self.in_flight)
        self._sent += 1
        return ticket

    def _hand_out(self) -> None:
        """Turns to those who wait, as many as there are; an alarm for when there will be more."""
        now = self._timing.now()
        if self._backoff.in_row and self._backoff.gave_up(now):
            self._send_home(self._hopeless())
        while self._queue and self.in_flight < self.bound:
            if now < self._backoff.until or self._quota.closed(now):
                self._wake_at(max(self._backoff.until, self._quota.until if self._quota.closed(now) else 0.0), now)
                return
            turn, _ = self._queue.popleft()
            if not turn.done():
                turn.set_result(self._grant(now))

    def _send_home(self, failure: Failure, only: tuple[str, str] | None = None) -> None:
        """Tell those who wait, all or those who ask for one thing, that their call would fail for good."""
        kept = deque[tuple[asyncio.Future[Turn], tuple[str, str]]]()
        for turn, asked in self._queue:
            if only is not None and asked != only:
                kept.append((turn, asked))
            elif not turn.done():
                turn.set_result(failure)
        self._queue = kept

    def _wake_at(self, when: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later((when - now) * self._timing.scale + 1e-4, self._hand_out)

    def _hopeless(self) -> Failure:
        words = f"{self._label} has refused every call for {long_duration(self._give_up_s)}"
        return Failure("rate_limit", f"{words}; it was not asked again", fatal=True)
