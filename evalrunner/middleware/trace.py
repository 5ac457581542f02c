"""Requests and answers, redacted, for whoever debugs a suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.redact import redact_message


@dataclass(frozen=True, slots=True)
class TracedEndpoint:
    """An endpoint that tells `write` of each request and answer, one line of JSON each."""

    inner: Endpoint
    label: str
    write: Callable[[str], None]

    async def __call__(self, request: Request, /) -> Completion | Failure:
        self._tell("request", request)
        answer = await self.inner(request)
        self._tell("answer" if isinstance(answer, Completion) else "failure", replace(answer, messages=None))
        return answer

    def _tell(self, what: str, value: Request | Completion | Failure) -> None:
        """Write a line; an answer comes without the messages, which the line of its request has."""
        said = {name: item for name, item in asdict(value).items() if item not in (None, (), {}, "")}
        line = json.dumps({self.label: {what: said}}, ensure_ascii=True, default=str)
        self.write(redact_message(line))
