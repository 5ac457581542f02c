"""What a user-defined function returns as an answer: text, None, a mapping, or a Completion."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from evalrunner.domain import Completion, Failure, Message
from evalrunner.endpoints.openai_replies import count, dollars, valid_text
from evalrunner.errors import nearest
from evalrunner.plugins import name_of
from evalrunner.prompts import ConversationError, read_conversation
from evalrunner.tool_calls import read_tool_calls

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
