"""The one place where the wrappers of an endpoint are put together.

From the outside in: answers kept from before, tries, the turn that the pace gives, whether the endpoint was given up,
the count of calls, the time limit of a call, the trace.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from evalrun.calls.answer_store import AnswerStore
from evalrun.calls.breaker import Breaker, BreakerEndpoint
from evalrun.calls.cache import CachedEndpoint, CacheTally
from evalrun.calls.retry import RetryEndpoint, RetryRules
from evalrun.calls.stopping import StopSignal
from evalrun.calls.timeout import TimeoutEndpoint
from evalrun.calls.timing import Timing
from evalrun.calls.trace import TracedEndpoint
from evalrun.calls.usage import CountingEndpoint, Usage
from evalrun.domain import Completion, Endpoint, Failure, Request
from evalrun.suite.schema import PaceSpec, RunSpec

Side: TypeAlias = Literal["targets", "judges"]
ANSWERS_FILE = "answers.sqlite"


@dataclass(slots=True)
class CallTally:
    """What calls were made for one target or judge: every try, how many were made again, what was kept from before."""

    usage: Usage = field(default_factory=Usage)
    retries: int = 0
    cache: CacheTally = field(default_factory=CacheTally)

    def retried(self, failure: Failure) -> None:
        """Count a call that is made again."""
        self.retries += 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose calls they are: what the wrappers of one target's or judge's endpoint know of it.

    `key` is the same for those that share a pace, `identity` says which endpoint answers, the same in every process.
    """

    label: str
    side: Side
    key: str
    identity: str
    pace: PaceSpec
    tally: CallTally = field(default_factory=CallTally)
    breaker: Breaker = field(default_factory=Breaker)
    at_once: int | None = None
    keeps_time: bool = False


class KeptAnswers:
    """The outermost wrapper: passes calls on until the run begins, for only then is there a place to keep answers."""

    def __init__(self, inner: Endpoint, asked: Asked) -> None:
        self.inner = inner
        self.asked = asked

    async def __call__(self, request: Request, /) -> Completion | Failure:
        return await self.inner(request)


@dataclass(slots=True)
class CallStack:
    """What the endpoints of one run share: its rules, its clock, its wish to stop, one pace for each server and key.

    `cached` is the user's own file of answers.
    """

    run: RunSpec
    stop: StopSignal
    timing: Timing
    cached: Path
    trace: Callable[[str], None] | None = None
    refresh: bool = False
    notices: list[str] = field(default_factory=list)
    _wrapped: list[KeptAnswers] = field(default_factory=list)
    _stores: list[AnswerStore] = field(default_factory=list)

    def wrap(self, endpoint: Endpoint, asked: Asked) -> Endpoint:
        """`endpoint` with everything around it that calls of this run have."""
        limit_s = asked.pace.timeout or self.run.timeout
        # One that keeps its time itself gets no second limit: it drops the connection, a cancelled task might not.
        wrapped = endpoint if asked.keeps_time else TimeoutEndpoint(endpoint, limit_s)
        if self.trace is not None:
            wrapped = TracedEndpoint(wrapped, asked.label, self.trace)
        wrapped = BreakerEndpoint(CountingEndpoint(wrapped, asked.tally.usage), asked.breaker)
        retries = self.run.retries if asked.pace.retries is None else asked.pace.retries
        draw = random.Random(f"{self.run.seed} {asked.label}")
        wrapped = RetryEndpoint(
            wrapped, RetryRules(retries), timing=self.timing, stop=self.stop, draw=draw, on_retry=asked.tally.retried
        )
        self._wrapped.append(KeptAnswers(wrapped, asked))
        return self._wrapped[-1]

    def begin(self, folder: Path, run_id: str) -> None:
        """Keep answers from now on: those of targets in the run's folder, those of judges, or all, where the user's are."""
        mode = self.run.cache.mode
        if mode == "off":
            return
        own = AnswerStore(folder / ANSWERS_FILE, self.notices.append)
        users = AnswerStore(self.cached, self.notices.append)
        self._stores += (own, users)
        for wrapped in self._wrapped:
            wrapped.inner = CachedEndpoint(
                wrapped.inner,
                users if mode == "all" or wrapped.asked.side == "judges" else own,
                wrapped.asked.identity,
                run_id=run_id,
                tally=wrapped.asked.tally.cache,
                read=not self.refresh,
                ttl_s=self.run.cache.ttl_s,
            )

    def end(self, *, complete: bool) -> None:
        """Close what `begin` opened; answers in the run's folder are of no more use once every row is there."""
        for store in self._stores:
            store.close()
        if complete and self._stores:
            for path in self._stores[0].path.parent.glob(f"{ANSWERS_FILE}*"):
                path.unlink(missing_ok=True)
