"""A prompt in front of an endpoint: the usual system under test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalrun.domain import EMPTY, Completion, Endpoint, Failure, Request, Sample
from evalrun.prompts import Prompt


@dataclass(frozen=True, slots=True)
class PromptedTarget:
    """Renders the prompt with the sample and asks the endpoint for a chat completion, in pieces if it is to `stream`."""

    endpoint: Endpoint
    model: str
    prompt: Prompt
    params: Mapping[str, Any] = EMPTY
    stream: bool = False

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        messages = self.prompt.render(sample)
        answer = await self.endpoint(Request(self.model, messages, self.params, epoch=epoch, stream=self.stream))
        return replace(answer, messages=messages)
