"""The one place where the wrappers of an endpoint are put together.

From the outside in: answers kept from before, the count of questions, tries, the turn that the pace gives, whether
the endpoint was given up, the time limit of a call, the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from evalrun.calls.breaker import Breaker, BreakerEndpoint
from evalrun.calls.stopping import StopSignal
from evalrun.calls.timeout import TimeoutEndpoint
from evalrun.calls.timing import Timing
from evalrun.calls.trace import TracedEndpoint
from evalrun.calls.usage import CountingEndpoint, Usage
from evalrun.domain import Endpoint
from evalrun.suite.schema import PaceSpec, RunSpec


@dataclass(slots=True)
class CallStack:
    """What the endpoints of one run share: its rules, its clock, its wish to stop, one pace for each server and key."""

    run: RunSpec
    stop: StopSignal
    timing: Timing = Timing()
    trace: Callable[[str], None] | None = None

    def wrap(self, endpoint: Endpoint, made: Made) -> Endpoint:
        """`endpoint` with everything around it that calls of this run have."""
        limit_s = made.pace.timeout or self.run.timeout
        # One that keeps its time itself gets no second limit: it drops the connection, a cancelled task might not.
        wrapped = endpoint if made.keeps_time else TimeoutEndpoint(endpoint, limit_s)
        if self.trace is not None:
            wrapped = TracedEndpoint(wrapped, made.label, self.trace)
        return BreakerEndpoint(CountingEndpoint(wrapped, made.usage), made.breaker)


@dataclass(frozen=True, slots=True)
class Made:
    """Whose calls they are: what the wrappers of one target's or judge's endpoint know of it."""

    label: str
    usage: Usage
    breaker: Breaker
    pace: PaceSpec = field(default_factory=PaceSpec)
    keeps_time: bool = False
