"""A model with a prompt: the usual target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, Request, Sample, row_name
from evalrunner.prompts import Prompt


@dataclass(frozen=True, slots=True)
class PromptedTarget:
    """Renders the prompt with the sample and requests a chat completion from the endpoint, as a stream if `stream`."""

    endpoint: Endpoint
    model: str
    prompt: Prompt
    params: Mapping[str, Any] = EMPTY
    name: str = ""
    stream: bool = False

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        messages = self.prompt.render(sample)
        row = row_name(sample.id, self.name, epoch)
        request = Request(self.model, messages, self.params, epoch=epoch, stream=self.stream, row=row)
        answer = await self.endpoint(request)
        return answer if answer.messages is messages else replace(answer, messages=messages)
