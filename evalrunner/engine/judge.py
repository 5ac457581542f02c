"""Judge sessions: a sanity check before the first verdict, and a record of every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, JudgeCall, Message, Request, Unscored
from evalrunner.engine.plan import NOT_CHECKED
from evalrunner.engine.sanity_check import SanityCheck
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.stack import CallTally
from evalrunner.reasoning import strip_reasoning
from evalrunner.scorers.call import BoundScorer
from evalrunner.suite.schema import JudgeCheckMode

if TYPE_CHECKING:
    from evalrunner.scorers.judge_calibration import JudgeCheck

JudgeRole: TypeAlias = Literal["judge", "model", "user"]
"""What a scorer asks: a judge that chats, or a model that embeds or moderates. A simulated user is asked by no scorer."""


@dataclass(slots=True)
class RecordingJudge:
    """The judge of one cell. `calls` records the tokens, cost and latency of each call.

    `companion` is the model that its scorer asks besides, for embeddings.
    """

    endpoint: Endpoint
    model: str
    params: Mapping[str, Any]
    row: str = ""
    stream: bool = False
    sample: int = 1
    calls: list[JudgeCall] = field(default_factory=list)
    companion: RecordingJudge | None = None

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        params: Mapping[str, Any] = EMPTY,
        tools: Sequence[Mapping[str, Any]] = (),
        response_format: Mapping[str, Any] | None = None,
    ) -> Completion | Failure:
        """The judge's answer; the suite's params for the judge go over those the scorer asks with."""
        merged = {**params, **self.params}
        merged = {name: value for name, value in merged.items() if value is not None}
        request = Request(
            self.model,
            tuple(messages),
            merged,
            tuple(tools),
            response_format,
            self.sample,
            stream=self.stream,
            row=self.row,
        )
        answer = strip_reasoning(await self.endpoint(request))  # thoughts are no verdict
        if isinstance(answer, Completion):
            self.calls.append(
                JudgeCall(
                    answer.served_model or self.model,
                    answer.latency_s,
                    answer.input_tokens,
                    answer.output_tokens,
                    answer.cost_usd,
                    answer.cached,
                )
            )
        return answer


@dataclass(slots=True)
class JudgeSession:
    """One judge of one scorer during a run: its endpoint, its sanity check, and whether it may be called.

    `label` is the scorer's name, with that of the judge where it has several. `companion` is the session of the model that
    the scorer asks besides, for embeddings.
    """

    bound: BoundScorer
    endpoint: Endpoint
    name: str
    model: str
    host: str
    sanity: SanityCheck
    label: str
    mode: JudgeCheckMode = "on"
    params: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    calls: CallTally = field(default_factory=CallTally)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    stream: bool = False
    role: JudgeRole = "judge"
    companion: JudgeSession | None = None

    @property
    def open_reason(self) -> Failure | None:
        """Why the judge was aborted, if it was."""
        return self.breaker.open_reason

    @property
    def check(self) -> JudgeCheck | None:
        """The latest sanity check, None before the first."""
        return self.sanity.check

    @property
    def check_progress(self) -> tuple[int, int] | None:
        """The replies so far and the known answers of the sanity check, None while there is none in progress."""
        return self.sanity.progress

    def for_row(self, row: str = "", sample: int = 1) -> RecordingJudge:
        """The judge for one cell of a row. Requests of another `sample` are other requests: each is a vote of its own."""
        name = f"{row}/{self.bound.name}"
        companion = None if self.companion is None else self.companion.for_row(row)
        return RecordingJudge(
            self._call_endpoint, self.model, self.params, name, self.stream, sample, companion=companion
        )

    async def ensure_checked(self) -> Unscored | Failure | None:
        """None if the judge may be called, else the outcome of its cells. The first caller runs the sanity check."""
        if self.open_reason is not None:
            return self.open_reason
        if self.mode == "off" or not self.sanity.bound.scorer.calibration_examples:
            return None
        check = await self.sanity.run(self.for_row("sanity-check"), lambda: self.open_reason)
        if check.failure is not None:
            return Failure(check.failure.kind, NOT_CHECKED + check.failure.message)
        if check.passed or self.mode == "warn":
            return None
        return Unscored("judge_check", check.summary)

    async def _call_endpoint(self, request: Request, /) -> Completion | Failure:
        """The endpoint's answer, counted by the circuit breaker."""
        return await self.breaker.call(partial(self.endpoint, request))
