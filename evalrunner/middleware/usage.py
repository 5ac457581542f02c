"""Calls, tokens and cost of an endpoint: every attempt of this process, retries and lost answers included.

Three other counts have other scopes: `engine.result.RowUsage` adds up the rows of the whole run, resumed ones included;
the metric `cost_usd` is a statistic of answered rows; `budget.SpendLedger` records what may have been paid.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evalrunner.domain import Completion, Endpoint, Failure, Request


@dataclass(slots=True)
class Usage:
    """Totals of calls. `cost_usd` sums the calls of known cost; `unpriced` counts the others."""

    calls: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    served_models: set[str] = field(default_factory=set)

    def add(self, answer: Completion | Failure) -> None:
        """Add one call."""
        self.calls += 1
        if isinstance(answer, Failure):
            self.failures += 1
            return
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        if answer.cost_usd is None:
            self.unpriced += 1
        else:
            self.cost_usd += answer.cost_usd
        if answer.served_model is not None:
            self.served_models.add(answer.served_model)


@dataclass(frozen=True, slots=True)
class CountingEndpoint:
    """An endpoint that adds its calls to `usage`. A canceled call counts as a failure: it may have been paid for."""

    inner: Endpoint
    usage: Usage

    async def __call__(self, request: Request, /) -> Completion | Failure:
        try:
            answer = await self.inner(request)
        except BaseException:
            self.usage.calls += 1
            self.usage.failures += 1
            raise
        self.usage.add(answer)
        return answer
