"""A Python function as the target."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from evalrunner.clock import CLOCK
from evalrunner.domain import Completion, Failure, Message, Sample, Target
from evalrunner.endpoints.openai_replies import count, dollars, valid_text
from evalrunner.errors import nearest
from evalrunner.plugins import (
    BoundFunction,
    PluginContext,
    ReferenceProblem,
    bind_by_name,
    describe_crash,
    load_attribute,
    name_of,
)
from evalrunner.prompts import ConversationError, read_conversation
from evalrunner.tool_calls import read_tool_calls

OFFERED = ("input", "sample", "epoch")
CONVERSATION = "conversation"  # what a suite with `turns` gives besides


def python(context: PluginContext, *, function: str) -> Target:
    """Calls a custom function, sync or async, with the input (or those of input, sample, epoch, conversation that it names).

    Args:
        function: `path/file.py:name`, relative to the suite, or `package.module:name`.
    """
    loaded = load_attribute(function, folder=context.folder)
    if not callable(loaded):
        raise ReferenceProblem(f"{function!r} is a {type(loaded).__name__}, not a function")
    several = len(_parameters(loaded)) > 1  # the only one is the input, whatever its name
    offered = (*OFFERED, CONVERSATION) if several else OFFERED
    return PythonTarget(bind_by_name(loaded, offered, args=context.args, single="input"))


def _parameters(function: Callable[..., Any]) -> Collection[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return ()


@dataclass(frozen=True, slots=True)
class PythonTarget:
    """Calls the function with the parameters it names; a sync one runs in a thread. An exception fails its row."""

    function: BoundFunction

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        offered = {"input": sample.input, "sample": sample, "epoch": epoch}
        offered[CONVERSATION] = sample.metadata.get(CONVERSATION) if CONVERSATION in self.function.parameters else None
        started = CLOCK.timer()
        try:
            if self.function.is_async:
                returned = await self.function(offered)
            else:
                returned = await asyncio.to_thread(self._call, offered)
        except asyncio.CancelledError:  # the row may be canceled; the runner knows
            raise
        except BaseException as crash:  # whatever user code raises, exit() too, fails its row, not the run
            return Failure("function", describe_crash(self.function.function, crash))
        latency_s = CLOCK.timer() - started
        return completion_from(returned, latency_s, self.function.function)

    def _call(self, offered: Mapping[str, Any]) -> Any:
        """What the function returns in a thread, a Failure if it raised: not all exceptions can go from there to a task."""
        try:
            return self.function(offered)
        except BaseException as crash:
            return Failure("function", describe_crash(self.function.function, crash))


KEYS: Final = ("output", "messages", "tool_calls", "usage")
USAGE: Final[Mapping[str, str]] = {
    "input_tokens": "input_tokens",
    "prompt_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "completion_tokens": "output_tokens",
    "cost": "cost_usd",
    "cost_usd": "cost_usd",
}
"""The keys of `usage`, also as OpenAI's API writes them, with the fields of a completion. Others are ignored."""


def completion_from(returned: Any, latency_s: float, function: Callable[..., Any]) -> Completion | Failure:
    """The completion for a return value: text, None (empty), a mapping of KEYS, or a Completion."""
    if isinstance(returned, Failure | Completion):
        return returned
    if returned is None or (isinstance(returned, str) and not returned.strip()):
        return Completion("", "empty", latency_s, cost_usd=None)
    if isinstance(returned, str):
        return Completion(returned, "stop", latency_s)
    if isinstance(returned, Mapping):
        try:
            return _from_mapping(returned, latency_s)
        except ValueError as wrong:
            return Failure("function", f"{name_of(function)} returned a mapping {wrong}")
    return Failure(
        "function",
        f"{name_of(function)} returned a {type(returned).__name__}; it should return text, a mapping with 'output', or a "
        "Completion",
    )


def _from_mapping(returned: Mapping[Any, Any], latency_s: float) -> Completion:
    """Raises ValueError, whose message continues `returned a mapping`."""
    for key in returned:
        if key not in KEYS:
            raise ValueError(f"with the key {key!r}{nearest(str(key), KEYS)}; it takes {', '.join(KEYS)}")
    if not returned.keys() & {"output", "messages", "tool_calls"}:
        raise ValueError("without 'output'")
    messages = _messages(returned.get("messages"))
    sent, turn = _split(messages)
    output = returned["output"] if "output" in returned else _last_text(turn)
    if output is not None and not isinstance(output, str):
        raise ValueError(f"whose 'output' is a {type(output).__name__}; it should be text")
    stated = (
        returned["tool_calls"]
        if "tool_calls" in returned
        else [call for one in turn for call in one.get("tool_calls") or ()]
    )
    try:
        calls = () if stated is None else tuple(call.as_reply() for call in read_tool_calls(stated, strict=False))
    except ValueError as wrong:
        raise ValueError(f"whose 'tool_calls' cannot be read: {wrong}") from None
    text = valid_text(output or "")
    return Completion(
        text, "stop" if text.strip() else "tool_calls" if calls else "empty", latency_s, tool_calls=calls,
        messages=None if messages is None else sent, **_usage(returned.get("usage")),
    )  # fmt: skip


def _messages(value: Any) -> tuple[Message, ...] | None:
    """The messages as plain JSON. Raises ValueError."""
    if value is None:
        return None
    try:
        messages = read_conversation(value)
        return tuple(json.loads(json.dumps([dict(message) for message in messages], default=str)))
    except ConversationError as wrong:
        raise ValueError(f"whose 'messages' {wrong}") from None
    except (TypeError, RecursionError) as wrong:
        raise ValueError(f"whose 'messages' cannot be written as JSON: {wrong}") from None


def _split(messages: tuple[Message, ...] | None) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The messages without a final answer, and the assistant's since the last message of the user."""
    if not messages:
        return (), ()
    last_user = max((place for place, one in enumerate(messages) if one["role"] == "user"), default=-1)
    turn = tuple(one for one in messages[last_user + 1 :] if one["role"] == "assistant")
    ends_with_answer = messages[-1]["role"] == "assistant"
    return messages[:-1] if ends_with_answer else messages, turn


def _last_text(turn: tuple[Message, ...]) -> str | None:
    """The text of the last message of the assistant; of content in parts, the parts of text."""
    content = turn[-1].get("content") if turn else None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def _usage(value: Any) -> dict[str, Any]:
    """The fields of a completion in `usage`. Raises ValueError for a value that is no number."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"whose 'usage' is a {type(value).__name__}; it should be a mapping")  # noqa: TRY004
    fields: dict[str, Any] = {}
    for key, item in value.items():
        if (field := USAGE.get(key)) is None or item is None:
            continue
        read = dollars(item) if field == "cost_usd" else count(item)
        if read is None or isinstance(item, bool):
            raise ValueError(f"whose 'usage' has {key} = {item!r}, which is no number")
        fields[field] = read
    return fields
