"""How many calls a server accepts at once, found by trying. Pure: answers and times are passed in.

A refusal is news about the load only if fewer calls at once mean fewer refusals. So the limit

- starts low and rises by one with each answer, which doubles it each round, until calls are refused or twice as many calls
  bring no more answers a second;
- goes down for a *trial* when refusals pile up: to just below the lowest number in flight that was refused, then to half.
  If the share of refused calls falls, they were about the load, and the limit settles at what was accepted. If it does not
  fall, that share is the server's baseline (a shared key, a gateway): the limit goes back up, and only more refusals than
  that count;
- once settled, goes down by DECREASE with a refusal, returns to what was accepted with each answer, and probes for more at
  intervals that double with each failed probe, so that few calls are refused for it. If refusals go on until the limit has
  come down by half, they are a baseline as well.

Sources: multiplicative decrease (Chiu and Jain 1989) and slow start (RFC 5681); two rates compared before a loss counts as
congestion (PCC Allegro, Dong et al. 2015); limits found from throughput and latency (Netflix's concurrency-limits).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalrunner.middleware.concurrency import Permit

START_LIMIT = 4
DECREASE = 0.85
MILD_DECREASE = 0.95
MIN_PROBE_INTERVAL, MAX_PROBE_INTERVAL = 50, 3200  # answers between two probes, doubled with each that fails
MIN_GAIN = 1.25  # in answers a second, for twice as many calls in flight; less is no gain
WEIGHT = 1 / 32  # of one answer in the moving averages
HIGH_FAILURE_SHARE, HIGH_TIMEOUT_SHARE = 0.25, 0.1

WINDOW = 24  # calls, in the order of sending: refusals return sooner than answers
PILE, LOAD_SHARE = 3, 0.4  # refusals, and their share among calls with as many in flight, that call for a trial
MANY = 8  # refusals that call for a trial, whatever was in flight
PAUSE = 4  # answers without growth after a refusal
ENOUGH, SAME_SHARE = 6, 0.6  # refusals in a trial, and their share of the share before, that show a baseline
EXPECTED = 5.0  # refusals expected in a trial, above those that came, that show that they were about the load
MAX_BASELINE, HIGHER_SHARE = 0.3, 1.5  # the highest baseline; the share of it that is more than it
OVERLOAD, OVERLOAD_SHARE = WINDOW // 2, 0.75  # refusals in a window, or their share, that are about the load at once
QUIET = 200  # calls without a refusal, after which one begins a new count


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
    """A limit that follows what the server accepts, up to `ceiling`. `accepted` is None until the limit has settled."""

    def __init__(self, ceiling: int, start: int = START_LIMIT) -> None:
        super().__init__(min(start, ceiling))
        self.ceiling = ceiling
        self.accepted: int | None = None
        self.baseline_refusal_rate = 0.0
        self._exact = float(self.value)
        self._since = 0  # the first call sent at the present limit
        self._recent: deque[int] = deque()  # refused calls of the window
        self._count = _Count(0, self.value, 0)
        self._trial: _Trial | None = None
        self._probe: _Probe | None = None
        self._answers = 0  # since the last probe
        self._pause = 0
        self._interval = MIN_PROBE_INTERVAL
        self._saturated = False  # `accepted` is where more calls brought no gain, not where the server refused
        self._rounds = _Rounds()
        self._failures = self._timeouts = 0.0
        self._saved: int | None = None

    def answered(self, permit: Permit, now: float, sent: int, *, in_use: bool) -> None:
        """Raise the limit, if it is used up."""
        self._average(failed=False, timeout=False)
        round_ended = self._rounds.add(permit, now, self.value, in_use=in_use)
        if permit.number < self._since:
            return
        self._count.answered_above += permit.in_flight >= self._count.lowest
        if self._trial is not None:
            self._end_trial(permit.number, sent)
        elif not in_use:
            return
        elif self.accepted is None:
            self._grow(sent, round_ended=round_ended)
        elif self.value < self.accepted:
            self._set(min(self._exact + 1.0, self.accepted))
        elif self._probe is not None:
            self._advance_probe(sent, round_ended=round_ended)
        else:
            self._answers += 1
            if self._answers >= self._interval and self.accepted < self.ceiling:
                self._begin_probe(sent, max(1, self.accepted // 2) if self._saturated else 1)

    def _grow(self, sent: int, *, round_ended: bool) -> None:
        if self._pause:
            self._pause -= 1
        elif round_ended and self._rounds.without_gain >= 2:
            self._settle(self._rounds.knee, sent, saturated=True)
            self._set(self._rounds.knee)
        elif self.value < self.ceiling:
            self._set(self._exact + 1.0)

    def refused(self, permit: Permit, sent: int) -> None:
        """Lower the limit if the refusal is about the load."""
        self._average(failed=False, timeout=False)
        if permit.number < self._count.first:
            return
        count, level = self._count, min(permit.in_flight, self.value)
        if self._trial is None and permit.number - count.last > QUIET:
            self.baseline_refusal_rate = 0.0
            count = self._count = _Count(permit.number, self.value, permit.number)
        count.add(permit.number, level)
        self._recent.append(permit.number)
        while self._recent[0] <= count.last - WINDOW:
            self._recent.popleft()
        if permit.number < self._since:
            return
        if self._trial is not None:
            self._refused_in_trial(sent)
        elif self._is_baseline():
            return
        elif self._probe is not None:
            self._fail_probe(sent)
        elif self.accepted is None:
            self._refused_in_growth(permit, sent)
        elif self._is_overload():
            self._begin_trial(sent, deep=True)
        elif self.value * 2 <= count.top and count.refused >= ENOUGH and count.share <= MAX_BASELINE:
            self._find_baseline(count.top, sent)
        else:
            self.accepted = max(1, min(self.accepted, level - 1))
            self._answers, self._saturated, self._since = 0, False, sent
            self._set(min(self._exact, level) * DECREASE)

    def _refused_in_growth(self, permit: Permit, sent: int) -> None:
        count = self._count
        if permit.in_flight > 1 and count.share_above >= LOAD_SHARE:  # most calls that were not alone are refused
            if count.refused >= PILE:
                self._begin_trial(sent)
                return
            self._pause = PAUSE
            self._set(max(2.0, self._exact - 1.0))
        if count.refused >= MANY:
            self._begin_trial(sent, deep=True)

    def _is_baseline(self) -> bool:
        """Whether no more calls are refused than with fewer in flight."""
        count, expected = self._count, WINDOW * self.baseline_refusal_rate
        if not expected or len(self._recent) >= 1.0 + expected + 2.0 * expected**0.5:
            return False
        return count.refused < MANY or count.share <= HIGHER_SHARE * self.baseline_refusal_rate

    def _is_overload(self) -> bool:
        """Whether more calls are refused than a baseline explains."""
        count = self._count
        many = len(self._recent) >= OVERLOAD or (count.refused > PILE and count.share > OVERLOAD_SHARE)
        return many and self.value > 1

    def _begin_trial(self, sent: int, *, deep: bool = False) -> None:
        """Lower the limit, and see whether fewer calls are refused."""
        below = min(self.value, self._count.lowest) - 1
        self._trial = _Trial(self.value, self._count.share, below)
        self._restart(sent, self.value / 2 if deep else max(self.value / 2, below))

    def _refused_in_trial(self, sent: int) -> None:
        trial, count = self._trial, self._count
        assert trial is not None
        if self.value > max(1.0, trial.top / 2):
            if count.refused >= PILE:
                self._restart(sent, trial.top / 2)
        elif self._is_overload():
            self._begin_trial(sent, deep=True)
        elif count.refused >= ENOUGH and SAME_SHARE * trial.share <= count.share <= MAX_BASELINE:
            self._find_baseline(trial.top, sent)

    def _end_trial(self, number: int, sent: int) -> None:
        """End the trial if many fewer calls than before are refused."""
        trial = self._trial
        assert trial is not None
        count, calls = self._count, number - self._count.first
        if calls < WINDOW or calls * trial.share < EXPECTED + count.refused:
            return
        self.baseline_refusal_rate = min(self.baseline_refusal_rate, (count.refused + 1) / calls)
        self._settle(max(min(trial.accepted, count.lowest - 1), self.value), sent)
        self._count.top = trial.top

    def _find_baseline(self, level: int, sent: int) -> None:
        """Return to a limit that was not the reason of the refusals."""
        self.baseline_refusal_rate = self._count.share
        self.accepted, self._rounds = None, _Rounds()
        self._restart(sent, level)
        self._trial = None

    def _restart(self, sent: int, limit: float) -> None:
        self._since = sent
        self._set(limit)
        self._count = _Count(sent, self.value, sent)
        self._recent.clear()

    def _settle(self, level: int, sent: int, *, saturated: bool = False) -> None:
        self.accepted, self._saturated, self._answers = max(1, level), saturated, 0
        self._interval, self._trial = MIN_PROBE_INTERVAL, None
        self._restart(sent, min(self._exact, self.accepted))

    def _average(self, *, failed: bool, timeout: bool) -> None:
        self._failures += (failed - self._failures) * WEIGHT
        self._timeouts += (timeout - self._timeouts) * WEIGHT

    def failed(self, permit: Permit, sent: int, *, timeout: bool) -> None:
        """Lower the limit for many timeouts, which mean an overloaded server, and mildly for many other failures."""
        self._average(failed=not timeout, timeout=timeout)
        if permit.number < self._since:
            return
        if timeout and self._timeouts > HIGH_TIMEOUT_SHARE:
            lower = self._exact * DECREASE
        elif self._failures > HIGH_FAILURE_SHARE and self._exact > START_LIMIT:
            lower = max(START_LIMIT, self._exact * MILD_DECREASE)
        else:
            return
        self._since = sent
        self._end_probe()
        self._set(min(lower, self._exact))

    def snapshot(self) -> None:
        """Save the limit."""
        self._saved = self.accepted or self.value

    def restore(self) -> None:
        """Return to the saved limit, starting from half of it; once."""
        if self._saved is None:
            return
        self.accepted, self._saved = self._saved, None
        self._trial = self._probe = None
        self._set(max(self._exact, self.accepted / 2))

    def _set(self, limit: float) -> None:
        self._exact = min(max(1.0, limit), float(self.ceiling))
        self.value = int(self._exact + 1e-9)

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
class _Count:
    """Refusals of the calls sent since `first`, when the limit was `top`."""

    first: int
    top: int
    last: int  # the refused call with the highest number, `first` without one
    refused: int = 0
    answered_above: int = 0  # with at least as many calls in flight as `lowest`
    lowest: int = 1 << 30  # calls in flight with a refused one

    @property
    def share_above(self) -> float:
        """The share of refusals among answers to calls with as many in flight as a refused one."""
        return self.refused / (self.refused + self.answered_above)

    @property
    def share(self) -> float:
        """The share of refusals among the calls sent until the last refused one."""
        return self.refused / (self.last - self.first + 1)

    def add(self, number: int, level: int) -> None:
        self.refused += 1
        self.last = max(self.last, number)
        self.lowest = min(self.lowest, level)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A limit below `top`, where `share` of the calls were refused. `accepted` is the limit if the load was the reason."""

    top: int
    share: float
    accepted: int


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
