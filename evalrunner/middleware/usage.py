"""Counting what calls take: how many, how many failed, tokens, money."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalrunner.domain import Completion, Endpoint, Failure, Request


@dataclass(slots=True)
class Usage:
    """Totals of the calls through one endpoint. `cost_usd` sums those whose cost is known; `unpriced` counts the others."""

    calls: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    served_models: set[str] = field(default_factory=set)

    def add(self, answer: Completion | Failure) -> None:
        """Count one call."""
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

    def include(self, other: Usage) -> None:
        """Count in what others counted."""
        self.calls += other.calls
        self.failures += other.failures
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_usd += other.cost_usd
        self.unpriced += other.unpriced
        self.served_models |= other.served_models


@dataclass(frozen=True, slots=True)
class CountingEndpoint:
    """An endpoint whose calls are counted; one that was dropped on its way is a failure that may have been paid for."""

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
