"""How a judge is asked for its verdict: structured output, else a forced tool call, else JSON in the text.

A provider that refuses one way is asked in the next one, and from then on at once. The endpoint here stands next to the
model's own endpoint: retries, circuit breaker and cache see one call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, Request

TOOL_PARAMS = frozenset({"tool_choice", "parallel_tool_calls"})


@dataclass(slots=True)
class FormatSupport:
    """What a model takes, as far as this run knows: for all judges that use the model."""

    tools_refused: bool = False
    format_refused: bool = False


@dataclass(frozen=True, slots=True)
class FormatFallback:
    """An endpoint that asks in another way where a model takes no structured output or no forced tool call.

    A request that has both a `response_format` and a tool for the same schema is one to be sent in the first of the three
    ways that the model takes; one with a tool only in the second or third.
    """

    inner: Endpoint
    support: FormatSupport
    label: str
    notify: Callable[[str], None]

    async def __call__(self, request: Request, /) -> Completion | Failure:
        if len(request.tools) != 1 or not _fields(request.tools[0]):
            return await self.inner(request)
        if not is_formatted(request):
            return await self._call_with_tool(request)
        with_tool = replace(request, response_format=None)
        if self.support.format_refused:
            return await self._call_with_tool(with_tool)
        answer = await self.inner(without_tool_params(request))
        if not isinstance(answer, Failure) or not answer.no_format:
            return answer
        again = await self._call_with_tool(with_tool)
        if not _is_rejected(again):  # else the format was not the cause
            self._remember_format(answer)
        return again

    async def _call_with_tool(self, request: Request) -> Completion | Failure:
        if self.support.tools_refused:
            return await self.inner(without_tools(request))
        answer = await self.inner(request)
        if not isinstance(answer, Failure) or not answer.no_tools:
            return answer
        again = await self.inner(without_tools(request))
        if not _is_rejected(again):  # else the tools were not the cause
            self._remember_tools(answer)
        return again

    def _remember_format(self, refusal: Failure) -> None:
        if not self.support.format_refused:
            self.support.format_refused = True
            self.notify(
                f"{self.label}: the model takes no structured output, so it is asked to call a tool instead ({refusal.message})"
            )

    def _remember_tools(self, refusal: Failure) -> None:
        if not self.support.tools_refused:
            self.support.tools_refused = True
            self.notify(
                f"{self.label}: the model takes no forced tool call, so it is asked for JSON instead ({refusal.message})"
            )


def _is_rejected(answer: Completion | Failure) -> bool:
    return isinstance(answer, Failure) and answer.kind == "bad_request"


def is_formatted(request: Request) -> bool:
    """Whether the request's response format and its tool ask for the same JSON."""
    schema = _part(request.response_format, "json_schema", "schema")
    return bool(schema) and schema == _part(request.tools[0], "function", "parameters")


def without_tool_params(request: Request) -> Request:
    """The request for structured output only."""
    params = {name: value for name, value in request.params.items() if name not in TOOL_PARAMS}
    return replace(request, params=params, tools=())


def without_tools(request: Request) -> Request:
    """The request for the arguments of its tool as JSON in the text."""
    fields = [f"{json.dumps(name)} ({_field_text(field)})" for name, field in _fields(request.tools[0]).items()]
    asked = (
        "You cannot call a tool here. Reply with the arguments of the call as one JSON object and nothing else. "
        f"Its keys are {' and '.join(fields)}."
    )
    messages = list(request.messages)
    if messages and messages[-1].get("role") == "user" and isinstance(messages[-1].get("content"), str):
        messages[-1] = {**messages[-1], "content": f"{messages[-1]['content']}\n\n{asked}"}
    else:
        messages.append({"role": "user", "content": asked})
    return replace(without_tool_params(request), messages=tuple(messages))


def _fields(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a tool by name, with their schemas; none for a tool without a readable schema."""
    part = _part(tool, "function", "parameters", "properties")
    return part if isinstance(part, Mapping) and all(isinstance(item, Mapping) for item in part.values()) else EMPTY


def _part(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _field_text(field: Mapping[str, Any]) -> str:
    values = field.get("enum")
    if values:
        return f"one of {', '.join(json.dumps(value, ensure_ascii=False) for value in values)}"
    return str(field.get("description") or f"a {field.get('type', 'string')}").rstrip(".")
