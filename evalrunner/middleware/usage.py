"""Calls, tokens and cost of an endpoint: every attempt of this process, retries and lost answers included.

Three other counts have other scopes: `engine.result.RowUsage` adds up the rows of the whole run, resumed ones included;
the metric `cost_usd` is a statistic of answered rows; `budget.SpendLedger` records what may have been paid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from evalrunner.domain import Completion, Endpoint, Failure, Request

MAX_REPORTED_REASONS = 5  # of one target or judge


@dataclass(slots=True)
class Usage:
    """Totals of calls. `reasoning_tokens` are a part of the output. `cost_usd` sums the calls of known cost; `unpriced` counts the others.

    `unknown_reasons` are the finish reasons of the provider that are none of the known ones.
    """

    calls: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    reasoning_tokens: int = 0
    served_models: set[str] = field(default_factory=set)
    unknown_reasons: set[str] = field(default_factory=set)

    def add(self, answer: Completion | Failure) -> None:
        """Add one call."""
        self.calls += 1
        if isinstance(answer, Failure):
            self.failures += 1
            return
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        self.reasoning_tokens += answer.reasoning_tokens or 0
        if answer.cost_usd is None:
            self.unpriced += 1
        else:
            self.cost_usd += answer.cost_usd
        if answer.served_model is not None:
            self.served_models.add(answer.served_model)


@dataclass(frozen=True, slots=True)
class CountingEndpoint:
    """An endpoint that adds its calls to `usage`. A canceled call counts as a failure: it may have been paid for.

    `notify` gets a message for each unknown finish reason, and for a missing one, once.
    """

    inner: Endpoint
    usage: Usage
    label: str = ""
    notify: Callable[[str], None] | None = None

    async def __call__(self, request: Request, /) -> Completion | Failure:
        try:
            answer = await self.inner(request)
        except BaseException:
            self.usage.calls += 1
            self.usage.failures += 1
            raise
        self.usage.add(answer)
        if isinstance(answer, Completion) and answer.unknown_finish_reason is not None:
            self._report(answer.unknown_finish_reason)
        return answer

    def _report(self, reason: str) -> None:
        if reason not in self.usage.unknown_reasons and len(self.usage.unknown_reasons) < MAX_REPORTED_REASONS:
            self.usage.unknown_reasons.add(reason)
            if self.notify is not None:
                what = f"unknown finish reason {reason!r}; such" if reason else "replies without a finish reason; such"
                self.notify(
                    f"{self.label}: {what} answers count as complete. Check whether the provider breaks them off"
                )
