"""How many calls may be in flight: found by trying, from what comes back. Pure: clocks and queues are elsewhere.

It rises by one with each answer until the server refuses or more calls bring no more answers a second. Then it goes
down gently, comes back to just below what was refused, and tries more only rarely: less than one call in fifty is to
be refused for it. Refusals that come however few calls are in flight are the server's habit and no reason to go down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

START = 4
DECREASE = 0.85
MILD_DECREASE = 0.95
MIN_PROBE_INTERVAL, MAX_PROBE_INTERVAL = 50, 3200  # answers between two tries of more, doubled with each that fails
FLAT_GAIN = 1.25  # of answers a second, where twice as many calls are in flight; less is no gain
WEIGHT, SLOW_WEIGHT = 1 / 32, 1 / 256  # of one answer in the shares
MAX_BASELINE_SHARE = 0.15  # refused at most, where it is habit
MIN_BASELINE_SHARE = 0.03  # which shares over some thirty answers cannot be told from
CLEAN_SHARE = 0.002  # refused at most, where it is none: some 180 answers after a refusal
MANY_FAILED, MANY_TIMEOUTS = 0.25, 0.1


@dataclass(frozen=True, slots=True)
class Ticket:
    """One call on its way: its number, when it was sent, and how many were in flight with it."""

    number: int
    sent_at: float
    level: int


class Limit(Protocol):
    """How many calls may be in flight, told of all that comes back. `sent` is the number of the next call."""

    bound: int

    def answered(self, ticket: Ticket, now: float, sent: int, *, in_use: bool) -> None: ...

    def refused(self, ticket: Ticket, sent: int) -> None: ...

    def failed(self, ticket: Ticket, sent: int, *, timeout: bool) -> None: ...

    def snapshot(self) -> None: ...

    def restore(self) -> None: ...


class FixedLimit:
    """Always the same number."""

    def __init__(self, bound: int) -> None:
        self.bound = bound

    def answered(self, ticket: Ticket, now: float, sent: int, *, in_use: bool) -> None:
        pass

    def refused(self, ticket: Ticket, sent: int) -> None:
        pass

    def failed(self, ticket: Ticket, sent: int, *, timeout: bool) -> None:
        pass

    def snapshot(self) -> None:
        pass

    def restore(self) -> None:
        pass


class AdaptiveLimit:
    """The number that the server bears, at most `ceiling`. `good` is the one that it is known to bear, once known."""

    def __init__(self, ceiling: int, start: int = START) -> None:
        self.ceiling = ceiling
        self.bound = min(start, ceiling)
        self.good: int | None = None
        self._limit = float(self.bound)
        self._since = 0  # the first call that was sent at the present level
        self._trial: _Trial | None = None
        self._calm = 0  # answers since the last trial
        self._interval = MIN_PROBE_INTERVAL
        self._flat = False  # good is where more brought no more, not where the server refused
        self._rounds = _Rounds()
        self._shares = _Shares()
        self._snapshot: int | None = None

    def answered(self, ticket: Ticket, now: float, sent: int, *, in_use: bool) -> None:
        """One more answer. Only a limit that is used up grows."""
        self._shares.add()
        round_ended = self._rounds.add(ticket, now, self.bound, in_use=in_use)
        if not in_use or ticket.number < self._since:
            return
        if self.good is None:
            if round_ended and self._rounds.no_gain >= 2:
                self._settle_at(self._rounds.knee, sent, flat=True)
            elif self.bound < self.ceiling:
                self._set(self._limit + 1.0)
        elif self.bound < self.good:
            self._set(min(self._limit + 1.0, self.good))
        elif self._trial is not None:
            self._try_on(sent, round_ended=round_ended)
        else:
            self._calm += 1
            if self._calm >= self._interval and self.good < self.ceiling:
                self._begin_trial(sent, max(1, self.good // 2) if self._flat else 1)

    def refused(self, ticket: Ticket, sent: int) -> None:
        """The server bears no more: once for all that was sent before this was known."""
        self._shares.add(refused=True)
        if ticket.number < self._since or self._shares.is_baseline():
            return
        if self._trial is not None and self.good is not None:
            self._fail_trial(sent)
            return
        level = min(ticket.level, self.bound)
        if self._shares.refusals_persist(level):
            self.good, self._interval = None, MIN_PROBE_INTERVAL
            self._rounds = _Rounds()
            return
        known = level - 1 if self.good is None else min(self.good, level - 1)
        self.good, self._flat, self._calm = max(1, known), False, 0
        self._since = sent
        self._set(min(self._limit, level) * DECREASE)

    def failed(self, ticket: Ticket, sent: int, *, timeout: bool) -> None:
        """Another failure. Time limits in number are a server that is overrun; all else says little of the pace."""
        self._shares.add(failed=not timeout, timeout=timeout)
        if ticket.number < self._since:
            return
        if timeout and self._shares.timeouts > MANY_TIMEOUTS:
            self._since = sent
            self._end_trial()
            self._set(self._limit * DECREASE)
        elif self._shares.failed > MANY_FAILED and self._limit > START:
            self._since = sent
            self._end_trial()
            self._set(max(START, self._limit * MILD_DECREASE))

    def snapshot(self) -> None:
        """Keep what is known now: a time may come when the server refuses all, which says nothing of the level."""
        self._snapshot = self.good or self.bound

    def restore(self) -> None:
        """Go back to just below what was remembered, by way of the half of it; once."""
        known, self._snapshot = self._snapshot, None
        if known is None or known <= self.bound:
            return
        self._end_trial()
        if self.good is not None:
            self.good = max(self.good, int(known * DECREASE))
        self._set(max(self._limit, known * DECREASE / 2))

    def _set(self, limit: float) -> None:
        self._limit = min(max(1.0, limit), float(self.ceiling))
        self.bound = int(self._limit + 1e-9)

    def _settle_at(self, level: int, sent: int, *, flat: bool) -> None:
        self.good, self._flat, self._since, self._calm = max(1, level), flat, sent, 0
        self._set(self.good)

    def _begin_trial(self, sent: int, step: int) -> None:
        assert self.good is not None  # known, or there is nothing to try beyond
        self._since = sent
        self._trial = _Trial(step, self._rounds.rate)
        self._set(self.good + step)

    def _try_on(self, sent: int, *, round_ended: bool) -> None:
        """One answer to a call that was sent at the level on trial."""
        trial = self._trial
        assert trial is not None
        trial.answers += 1
        trial.rounds += round_ended
        if self._flat and trial.rounds == 1 and round_ended:
            trial.answers = 0  # the first round holds the change
        if trial.answers <= self.bound or (self._flat and trial.rounds < 3):
            return
        if self._flat and self._rounds.rate < trial.rate_before * FLAT_GAIN:
            self._fail_trial(sent)
            return
        self.good, self._interval = self.bound, MIN_PROBE_INTERVAL
        self._end_trial()
        if self.good < self.ceiling:
            self._begin_trial(sent, max(1, self.good // 2) if self._flat else trial.step * 2)

    def _fail_trial(self, sent: int) -> None:
        assert self._trial is not None and self.good is not None
        if self._trial.step == 1 or self._flat:
            self._interval = min(self._interval * 2, MAX_PROBE_INTERVAL)
        self._since = sent
        self._end_trial()

    def _end_trial(self) -> None:
        if self._trial is not None and self.good is not None:
            self._set(self.good)
        self._trial = None
        self._calm = 0


@dataclass(slots=True)
class _Trial:
    """More than is known to be borne, until a round of calls sent with it is answered."""

    step: int
    rate_before: float
    answers: int = 0
    rounds: int = 0


class _Rounds:
    """Answers a second, round by round; a round takes as long as a call on average."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.no_gain = 0  # rounds in a row in which twice as many calls brought no more
        self.knee = START  # the level before them
        self._begun: float | None = None
        self._level = 0
        self._answers = 0
        self._latency_s = 0.0

    def add(self, ticket: Ticket, now: float, level: int, *, in_use: bool) -> bool:
        """Whether a round ended with this answer."""
        self._latency_s += (now - ticket.sent_at - self._latency_s) * (WEIGHT if self._latency_s else 1.0)
        if not in_use:
            self._begun = None
            return False
        if self._begun is None:
            self._begun, self._level, self._answers = now, level, 0
            return False
        self._answers += 1
        lasted = now - self._begun
        if lasted < self._latency_s or self._answers < max(8, self._level):
            return False
        rate = self._answers / max(lasted, 1e-9)
        if rate < self.rate * FLAT_GAIN:
            self.no_gain += 1
        else:
            self.no_gain, self.knee = 0, level
        self.rate = rate if level != self._level else self.rate + (rate - self.rate) * 0.3
        self._begun, self._level, self._answers = now, level, 0
        return True


class _Shares:
    """What shares of the last answers were refused, failed, or late; and whether refusals are a habit."""

    def __init__(self) -> None:
        self.refused = 0.0
        self.failed = 0.0
        self.timeouts = 0.0
        self._slow = 0.0  # refused, over many more answers
        self._baseline_refusal_rate = 0.0
        self._high = 0  # the level at which refusals began
        self._most = 0.0  # refused at one time since then
        self._count = 0

    def add(self, *, refused: bool = False, failed: bool = False, timeout: bool = False) -> None:
        self._count += 1
        self.refused += (refused - self.refused) * WEIGHT
        self.failed += (failed - self.failed) * WEIGHT
        self.timeouts += (timeout - self.timeouts) * WEIGHT
        self._slow += (refused - self._slow) * SLOW_WEIGHT
        self._most = max(self._most, self.refused)
        if self._slow < CLEAN_SHARE:
            self._baseline_refusal_rate, self._high, self._most = 0.0, 0, 0.0

    def is_baseline(self) -> bool:
        """Whether as many are refused as it always is, whatever is in flight."""
        return self._baseline_refusal_rate > 0.0 and self.refused <= 2 * self._baseline_refusal_rate + 0.02

    def refusals_persist(self, level: int) -> bool:
        """Whether at a third of what was in flight when refusals began as many are refused: then it is a habit."""
        self._high = max(self._high, level)
        few = level * 3 <= self._high and level < self._high
        if not few or self._count < 2 / WEIGHT or not 0.3 * self._most <= self.refused <= MAX_BASELINE_SHARE:
            return False
        self._baseline_refusal_rate, self._high, self._most = max(self.refused, self._slow, MIN_BASELINE_SHARE), 0, 0.0
        return True
