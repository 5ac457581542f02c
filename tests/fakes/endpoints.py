"""Endpoints without a network: a list of answers, and requests for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport

ASKED = Request("m", ({"role": "user", "content": "Capital of France?"},))
PARIS = Completion("Paris", latency_s=0.01)


def numbered(number: int) -> Request:
    return Request("m", ({"role": "user", "content": f"question {number}"},))


class Playing:
    """Returns the answers in order and repeats the last; counts calls and the maximum in flight."""

    def __init__(self, *answers: Completion | Failure, latency_s: float = 0.0) -> None:
        self.answers = answers
        self.latency_s = latency_s
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0

    async def __call__(self, request: Request, /) -> Completion | Failure:
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            return answer
        finally:
            self.in_flight -= 1


async def over_http(base_url: str, use: Callable[[OpenAIEndpoint], object], *, timeout_s: float = 5.0) -> None:
    """Run `use` (a coroutine function) with a new HTTP endpoint."""
    transport = PyreqwestTransport()
    try:
        await use(OpenAIEndpoint(transport, base_url, timeout_s=timeout_s))  # type: ignore[misc]
    finally:
        await transport.aclose()
