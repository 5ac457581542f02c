"""The one place where the wrappers of an endpoint are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evalrun.calls.timeout import TimeoutEndpoint
from evalrun.calls.trace import TracedEndpoint
from evalrun.calls.usage import CountingEndpoint, Usage
from evalrun.domain import Endpoint


@dataclass(frozen=True, slots=True)
class CallRules:
    """How calls are made: seconds that one may take, and where requests and answers are told for debugging."""

    timeout_s: float
    trace: Callable[[str], None] | None = None


def wrap_endpoint(
    endpoint: Endpoint, *, label: str, rules: CallRules, usage: Usage, keeps_time: bool = False
) -> Endpoint:
    """`endpoint` with, from the inside out: the time limit of a call, the trace, and the count of calls.

    One that keeps its time itself gets no second limit: it drops the connection, which a cancelled task might not.
    """
    wrapped = endpoint if keeps_time else TimeoutEndpoint(endpoint, rules.timeout_s)
    if rules.trace is not None:
        wrapped = TracedEndpoint(wrapped, label, rules.trace)
    return CountingEndpoint(wrapped, usage)
