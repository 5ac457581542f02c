"""Judges at work: a judge is checked before its first verdict, and every question to it is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, JudgeCall, Message, Request, Unscored
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.stack import CallTally
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.judge_calibration import JudgeCheck, check_judge
from evalrunner.suite.schema import JudgeCheck as CheckMode

NOT_CHECKED = "self-check not done: "
CHECK_TRIES = 3  # self-checks that infrastructure broke off, before the judge is given up


@dataclass(slots=True)
class RecordingJudge:
    """A judge as one cell sees it: it notes what each question took."""

    endpoint: Endpoint
    model: str
    params: Mapping[str, Any]
    row: str = ""
    stream: bool = False
    calls: list[JudgeCall] = field(default_factory=list)

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
            self.model, tuple(messages), merged, tuple(tools), response_format, stream=self.stream, row=self.row
        )
        answer = await self.endpoint(request)
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
    """One scorer's judge for a run: its endpoint, its self-check, and whether it may be asked at all.

    `check` is the newest result, None before the first. `breaker` knows whether the endpoint is still worth asking.
    """

    bound: BoundScorer
    endpoint: Endpoint
    name: str
    model: str
    host: str
    mode: CheckMode = "on"
    params: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    calls: CallTally = field(default_factory=CallTally)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    stream: bool = False
    check: JudgeCheck | None = None
    tries: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def ended(self) -> Failure | None:
        """Why the judge is not asked any more, if it is not."""
        return self.breaker.open_reason

    def for_row(self, row: str = "") -> RecordingJudge:
        """The judge for one cell of a row."""
        return RecordingJudge(self._ask_endpoint, self.model, self.params, f"{row}/{self.bound.name}", self.stream)

    async def ensure_calibrated(self) -> Unscored | Failure | None:
        """None if the judge may be asked, else what its cells get: the first caller puts the known pairs to it."""
        if self.ended is not None:
            return self.ended
        if self.mode == "off" or not self.bound.scorer.calibration_examples:
            return None
        if self._open_question():
            async with self._lock:
                if self._open_question():
                    self.tries += 1
                    self.check = await check_judge(self.bound, self.for_row("self-check"))
        assert self.check is not None  # whoever came before has asked
        if self.check.failure is not None:
            return Failure(self.check.failure.kind, NOT_CHECKED + self.check.failure.message)
        if self.check.passed or self.mode == "warn":
            return None
        return Unscored("judge_check", f"self-check {self.check.right} of {self.check.total}")

    def _open_question(self) -> bool:
        if self.check is None:
            return True
        return self.check.failure is not None and self.tries < CHECK_TRIES and self.ended is None

    async def _ask_endpoint(self, request: Request, /) -> Completion | Failure:
        """The endpoint's answer, counted by the circuit breaker."""
        return await self.breaker.call(partial(self.endpoint, request))
