"""Replies of OpenAI's API as `Completion` or `Failure`. Pure, and never raises for any bytes.

Servers that call themselves compatible differ in nearly every field: content may be a list of parts or null, the finish
reason may be missing, tokens may be NaN, and an error may arrive with status 200.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalrunner.domain import EMPTY, Completion, Failure, FinishReason, Message
from evalrunner.endpoints.openai_errors import (
    MAX_MESSAGE_LENGTH,
    error_text,
    failure_from_error,
    quote,
    read_rate_limits,
)
from evalrunner.storage import load_json

COST_HEADER = "x-litellm-response-cost"  # of LiteLLM's proxy, for models with a known price

ENDINGS: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filtered",
    "safety": "filtered",
    "recitation": "filtered",
    "prohibited_content": "filtered",
    "blocklist": "filtered",
    "guardrail_intervened": "filtered",
    "refusal": "refused",
}
"""Finish reasons other than a regular stop, in lower case: OpenAI's, and those that gateways pass on."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens stated by a reply, None where it states none. `cached_tokens` of the input came from a cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    service_tier: str | None = None


def load_reply(body: bytes) -> dict[str, Any] | Failure:
    """The JSON object of a body, or a failure for a body that is none or contains an error."""
    try:
        data = load_json(body)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number of 4,300 digits
        if body.lstrip()[:6] in (b"data: ", b"data:{", b"event:"):
            return malformed(
                "is a stream; remove 'stream' from params and set run: {stream: true}",
                body,
            )
        return malformed("is not JSON" if body.strip() else "is empty", body)
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and data[0].get("error"):
        data = data[0]  # Google's compatible endpoint puts its errors in a list
    if not isinstance(data, dict):
        return malformed("is not a JSON object", body)
    return data


def read_chat(
    data: Mapping[str, Any],
    *,
    headers: Mapping[str, str] = EMPTY,
    latency_s: float | None = None,
    messages: tuple[Message, ...] | None = None,
) -> Completion | Failure:
    """The completion in a parsed reply to /chat/completions; `messages` are those of the request."""
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        return _no_answer(data, headers, latency_s, "has no choices")
    choice = choices[0]
    if not isinstance(choice, dict):
        return _malformed_json("has a choice that is not an object", data)
    message = choice.get("message")
    if not isinstance(message, dict):
        return _no_answer(choice, headers, latency_s, "has a choice without a message")
    content, refusal = _content(message.get("content")), _content(message.get("refusal"))
    if content is None or refusal is None:
        return _malformed_json("has content that is not text", data)
    reason = choice.get("finish_reason")
    calls = _tool_calls(message)
    if reason == "error" and not content and not calls:
        return _no_answer(choice, headers, latency_s, "ended with an error")
    refusal += _refusal_parts(message.get("content"))
    usage = read_usage(data)
    return Completion(
        content or refusal,
        finish_reason=_finish_reason(reason, content, refusal, calls),
        latency_s=latency_s,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=_cost(headers),
        served_model=_served(data),
        tool_calls=calls,
        messages=messages,
        cached_tokens=usage.cached_tokens,
        rate_limit=read_rate_limits(headers),
    )


def _finish_reason(reason: Any, content: str, refusal: str, calls: Sequence[Mapping[str, Any]]) -> FinishReason:
    """The finish reason. An unknown one counts as a regular stop if there is an answer."""
    known = ENDINGS.get(reason.lower()) if isinstance(reason, str) else None
    if known is not None:
        return known
    if refusal and not refusal.isspace():
        return "refused"
    if calls:  # also with reason "stop", with which a forced tool call ends
        return "tool_calls"
    return "stop" if content and not content.isspace() else "empty"


def _content(value: Any) -> str | None:
    """The text of a content field, "" for null, or None if it is neither text nor parts."""
    if isinstance(value, str):
        return valid_text(value)
    if value is None:
        return ""
    if not isinstance(value, list):
        return None
    parts = (part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None for part in value)
    return valid_text("".join(part for part in parts if isinstance(part, str)))


def _refusal_parts(content: Any) -> str:
    if not isinstance(content, list):
        return ""
    parts = (part.get("refusal") for part in content if isinstance(part, dict))
    return valid_text("".join(part for part in parts if isinstance(part, str)))


def valid_text(text: str) -> str:
    """`text` in a form that UTF-8 can encode: JSON may contain half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _tool_calls(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The tool calls of a message, in the current form even if it has the older one."""
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        return tuple(call for call in calls if isinstance(call, dict) and isinstance(call.get("function"), dict))
    function = message.get("function_call")
    return ({"type": "function", "function": function},) if isinstance(function, dict) else ()


def _no_answer(
    data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float | None, wrong: str
) -> Completion | Failure:
    """The error that a reply with status 200 contains in place of an answer, or that it is malformed."""
    return read_error_reply(data, headers, latency_s) if data.get("error") else _malformed_json(wrong, data)


def read_error_reply(
    data: Mapping[str, Any], headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Completion | Failure:
    """The failure for the `error` in a reply with status 200."""
    error = data["error"]
    code = next((status for name in ("code", "status") if (status := _http_status(error, name))), 500)
    return failure_from_error(code, error_text(data), headers, latency_s)


def _http_status(error: Any, name: str) -> int | None:
    value = error.get(name) if isinstance(error, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def read_usage(data: Mapping[str, Any]) -> Usage:
    """The tokens in a parsed reply."""
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    tier = data.get("service_tier")
    return Usage(
        count(usage.get("prompt_tokens")),
        count(usage.get("completion_tokens")),
        count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        tier if isinstance(tier, str) else None,
    )


def count(value: Any) -> int | None:
    """A non-negative whole number, or None."""
    if type(value) is int:  # the usual case; excludes bool
        return value if value >= 0 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if math.isfinite(value) and value >= 0 and value == int(value) else None


def dollars(value: Any) -> float | None:
    """A finite, non-negative amount, or None; reads text too, for headers."""
    try:
        amount = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def _cost(headers: Mapping[str, str]) -> float | None:
    cost = headers.get(COST_HEADER)
    return None if cost is None else dollars(cost)


def _served(data: Mapping[str, Any]) -> str | None:
    model = data.get("model")
    if not isinstance(model, str) or not model:
        return None
    return model if len(model) <= MAX_MESSAGE_LENGTH and model.isprintable() else quote(model)


def read_embeddings(
    data: Mapping[str, Any], *, texts: int, headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Completion | Failure:
    """A completion whose `data` is a list with one vector (a list of floats) for each text, in their order."""
    items = data.get("data")
    if not isinstance(items, list):
        return _no_answer(data, headers, latency_s, "has no embeddings")
    if not all(isinstance(item, dict) and _is_vector(item.get("embedding")) for item in items):
        return _malformed_json("has an embedding that is not a list of numbers", data)
    if all(count(item.get("index")) is not None for item in items):
        items = sorted(items, key=lambda item: count(item["index"]) or 0)
    return _data_reply(data, [item["embedding"] for item in items], texts, headers, latency_s)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number) for number in value
    )  # fmt: skip


def read_moderations(
    data: Mapping[str, Any], *, texts: int, headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Completion | Failure:
    """A completion whose `data` is a list with `{"flagged", "categories", "category_scores"}` for each text."""
    results = data.get("results")
    if not isinstance(results, list):
        return _no_answer(data, headers, latency_s, "has no results")
    if not all(isinstance(result, dict) and isinstance(result.get("flagged"), bool) for result in results):
        return _malformed_json("has a result without a verdict", data)
    return _data_reply(data, results, texts, headers, latency_s)


def _data_reply(
    data: Mapping[str, Any], results: list[Any], texts: int, headers: Mapping[str, str], latency_s: float | None
) -> Completion | Failure:
    if len(results) != texts:
        return _malformed_json(f"has {len(results)} results for {texts} texts", data)
    usage = read_usage(data)
    return Completion(
        "",
        latency_s=latency_s,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=_cost(headers),
        served_model=_served(data),
        data=results,
        rate_limit=read_rate_limits(headers),
    )


def malformed(wrong: str, body: bytes | str) -> Failure:
    """The failure of a reply that cannot be parsed, with its first characters."""
    text = body if isinstance(body, str) else body[:4000].decode("utf-8", "replace")
    begins = quote(text)
    return Failure("malformed", f"the reply {wrong}" + (f"; it begins {begins!r}" if begins else ""))


def _malformed_json(wrong: str, data: Mapping[str, Any]) -> Failure:
    try:
        return malformed(wrong, json.dumps(data, ensure_ascii=False, default=str)[:4000])
    except (ValueError, RecursionError):
        return malformed(wrong, "")


def with_cost(completion: Completion, cost_usd: float | None) -> Completion:
    """The completion with this cost, unless it has one."""
    return completion if cost_usd is None or completion.cost_usd is not None else replace(completion, cost_usd=cost_usd)
