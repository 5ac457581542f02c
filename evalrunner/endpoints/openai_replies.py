"""Replies of OpenAI's API as `Completion` or `Failure`. Pure, and never raises for any bytes.

Servers that call themselves compatible differ in nearly every field: content may be a list of parts or null, the finish
reason may be missing, tokens may be NaN, and an error may arrive with status 200.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalrunner.domain import EMPTY, Completion, Failure, FinishReason, Message
from evalrunner.endpoints.openai_errors import (
    ERROR_NAMES,
    MAX_MESSAGE_LENGTH,
    MAX_READ_CHARS,
    error_text,
    failure_from_error,
    filtered_answer,
    page_title,
    quote,
    read_error_body,
    read_rate_limits,
)
from evalrunner.endpoints.vendor_words import (
    FILTERED,
    FIREWALL_PAGE,
    NO_KEY,
    NO_PAYMENT,
    NO_SUCH_MODEL,
    QUOTA_SENTENCE,
    RATE_LIMITED,
    STATUS_OF_TYPE,
    TOO_LONG,
    Ending,
    ending_of,
)
from evalrunner.storage import load_json

COST_HEADER = "x-litellm-response-cost"  # of LiteLLM's proxy, for models with a known price
CHECK_URL = "check base_url, which usually ends in /v1"
XAI_TICKS = 1e10  # in a US dollar

# The spellings of vendors, dotted where they nest them; the first that has a value counts.
INPUT_NAMES = (
    "input_tokens", "prompt_token_count", "promptTokenCount", "inputTokens", "promptTokens", "prompt_eval_count",
    "num_input_tokens", "tokens.input_tokens", "billed_units.input_tokens",
)  # fmt: skip
OUTPUT_NAMES = (
    "completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount", "outputTokens", "completionTokens",
    "eval_count", "num_output_tokens", "tokens.output_tokens", "billed_units.output_tokens",
)  # fmt: skip
CACHED_NAMES = (
    "input_tokens_details.cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_tokens",
    "cached_input_tokens", "cached_content_token_count", "cachedContentTokenCount", "cacheReadInputTokens",
    "prompt_tokens_details.cache_read_tokens", "input_token_details.cache_read", "cached_prompt_tokens", "num_cached_tokens",
)  # fmt: skip
REASONING_TOKEN_NAMES = (
    "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens", "reasoning_tokens",
    "thoughts_token_count", "thoughtsTokenCount", "thinking_tokens", "completion_tokens_details.thinking_tokens",
)  # fmt: skip
MAX_COUNT, MAX_DOLLARS = 10**15, 1e9  # larger ones are mistakes, and their sums and squares would leave the floats
COST_NAMES = (
    "cost", "cost.total_cost", "cost.total", "total_cost", "estimated_cost", "cost_usd", "cost_in_usd", "cost_details.total_cost",
)  # fmt: skip

REASONING_PARTS = frozenset(
    {"reasoning", "thinking", "thought", "thoughts", "redacted_thinking", "reasoning_text", "reasoning_content",
     "reasoning.text", "reasoning.summary", "summary_text"}
)  # fmt: skip
"""Types of the parts of a content list that are not the answer."""
REASONING_FIELDS = (
    "reasoning_content", "reasoning", "reasoning_text", "thinking", "thoughts", "reasoning_details", "thinking_blocks",
)  # fmt: skip
PART_TEXTS = ("text", "thinking", "reasoning", "thought", "summary", "content", "reasoning_content")
MAX_PARTS = 10_000
MAX_READ_BYTES = 100_000  # of a reply that cannot be parsed; a key in its first characters is whole then
BOM = b"\xef\xbb\xbf"
NO_ERRORS = ("none", "null", "ok", "success", "no error", "0", "200", 200)
"""Values of an error that gateways send with every good answer."""
ERROR_TABLES = (NO_KEY, NO_PAYMENT, QUOTA_SENTENCE, RATE_LIMITED, TOO_LONG, FILTERED, NO_SUCH_MODEL)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens stated by a reply, None where it states none. `cached_tokens` of the input came from a cache.

    `reasoning_tokens` are a part of `output_tokens`. `cost_usd` is what the reply says that it cost, in US dollars.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    service_tier: str | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


def load_reply(body: bytes) -> dict[str, Any] | Failure | Completion:
    """The JSON object of a body, or a failure for a body that is none.

    The page of a firewall is a Completion (`filtered`): it has judged the prompt.
    """
    try:
        data = load_json(body)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number of 4,300 digits
        if (data := _lenient_json(body)) is not None:
            return data
        start = body.removeprefix(BOM).lstrip()[:6]
        if start in (b"data: ", b"data:{", b"event:"):
            return malformed(
                "is a stream; remove 'stream' from params and set run: {stream: true}",
                body,
            )
        if start.startswith(b"<"):
            return _web_page(body)
        return malformed("is not JSON" if body.strip() else "is empty", body)
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and data[0].get("error"):
        data = data[0]  # Google's compatible endpoint puts its errors in a list
    if not isinstance(data, dict):
        return malformed("is not a JSON object", body)
    inner = data.get("data")  # of gateways that wrap every reply in a code and a message
    return inner if isinstance(inner, dict) and "choices" in inner and "choices" not in data else data


def _lenient_json(body: bytes) -> dict[str, Any] | None:
    """The object of JSON with control characters inside of its texts, which some servers do not escape."""
    try:
        data = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _web_page(body: bytes) -> Failure | Completion:
    error = read_error_body(body)
    if FIREWALL_PAGE.search(error.searchable):
        return filtered_answer(error.message)
    title = page_title(body[: 4 * MAX_READ_CHARS].decode("utf-8", "replace"))
    called = f" ({title!r})" if title else f"; it begins {error.message[:60]!r}"
    return Failure("malformed", f"the reply is a web page{called}, not an answer; {CHECK_URL}", 200, fatal=True)


def read_chat(
    data: Mapping[str, Any],
    *,
    headers: Mapping[str, str] = EMPTY,
    latency_s: float | None = None,
    messages: tuple[Message, ...] | None = None,
) -> Completion | Failure:
    """The completion in a parsed reply to /chat/completions; `messages` are those of the request.

    An error anywhere in the reply is a failure, and so is a finish reason of an answer that was broken off: half an answer
    is none.
    """
    choice = _first_choice(data, headers, latency_s)
    if not isinstance(choice, dict):
        return choice
    message = choice["message"]
    content, refusal = _content(message.get("content")), _content(message.get("refusal"))
    if content is None or refusal is None:
        return malformed_json("has content that is not text", data)
    ending, reason = _ending(choice)
    if ending == "broken":
        return Failure("server", f"the provider broke off the answer (finish reason {quote(str(reason), 60)!r})")
    calls = _tool_calls(message)
    refusal += _refusal_parts(message.get("content"))
    usage = read_usage(data)
    finish_reason = _finish_reason(ending, content, refusal, calls)
    unknown = quote(str(reason), 60) if ending == "unknown" else None
    if ending is None and finish_reason in ("stop", "tool_calls"):
        unknown = ""
    return Completion(
        content or refusal,
        finish_reason=finish_reason,
        latency_s=latency_s,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd if (cost := _cost(headers)) is None else cost,
        served_model=_served(data),
        tool_calls=calls,
        messages=messages,
        cached_tokens=usage.cached_tokens,
        rate_limit=read_rate_limits(headers),
        reasoning=read_reasoning(message),
        reasoning_tokens=usage.reasoning_tokens,
        unknown_finish_reason=unknown,
        filter_message=_filter_message(choice, reason) if ending == "filtered" else None,
    )


def _first_choice(
    data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float | None
) -> dict[str, Any] | Completion | Failure:
    """The choice that has the answer, with its message; or what the reply means that has none, or an error beside it."""
    if states_error(data):
        return read_error_reply(data, headers, latency_s)
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        return _no_choices(data, headers, latency_s)
    choice = next((choice for choice in choices if isinstance(choice, dict) and choice.get("index") == 0), choices[0])
    if not isinstance(choice, dict):
        return malformed_json("has a choice that is not an object", data)
    if states_error(choice):
        return read_error_reply(choice, headers, latency_s)
    message = choice.get("message", choice.get("delta"))  # a chunk of a stream in place of a reply
    if message is None and isinstance(choice.get("text"), str):  # of the older API, which some servers use for both
        message = {"content": choice["text"]}
    if isinstance(message, dict) and states_error(message):
        return read_error_reply(message, headers, latency_s)
    if message is None and ending_of(choice.get("finish_reason")) in ("filtered", "length", "refused"):
        message = {}  # Azure's, of a filtered answer
    if not isinstance(message, dict):
        return malformed_json("has a choice without a message", data)
    return {"status": data.get("status"), **choice, "message": message}


def _ending(choice: Mapping[str, Any]) -> tuple[Ending | None, Any]:
    """How the answer ended, and the word for it. Gateways that call everything a stop pass on the provider's own word."""
    reason = choice.get("finish_reason")
    ending = ending_of(reason)
    if ending is None and ending_of(choice.get("status")) == "broken":
        return "broken", choice["status"]
    if ending in (None, "stop"):
        specific = choice.get("provider_specific_fields")
        kept = (
            specific.get("native_finish_reason") if isinstance(specific, dict) else None
        )  # by LiteLLM, which knows few
        native = choice.get("native_finish_reason") or kept
        own = ending_of(native)
        if own in ("broken", "length", "filtered", "refused") or (own == "unknown" and kept):
            return own, native
    return ending, reason


def _filter_message(data: Mapping[str, Any], reason: Any = None) -> str | None:
    """What a filtered choice, or Gemini's feedback on a prompt, says: a sentence, the categories, or the word for it."""
    sentence: str | None = _first(
        data, ("blockReasonMessage", "block_reason_message", "content_filter_message"), _sentence
    )
    if sentence is not None:
        return sentence
    results = data.get("content_filter_results") or data.get("content_filter_result")  # Azure's
    categories = [str(name) for name, result in results.items() if isinstance(result, dict) and result.get("filtered")] \
        if isinstance(results, dict) else []  # fmt: skip
    if categories:
        return quote(", ".join(categories))
    word = _first(data, ("blockReason", "block_reason"), _sentence) or (reason if isinstance(reason, str) else "")
    return quote(word, 60) if word and word.lower() != "content_filter" else None


def _sentence(value: Any) -> str | None:
    return quote(value) if isinstance(value, str) and value.strip() else None


def _finish_reason(
    ending: Ending | None, content: str, refusal: str, calls: Sequence[Mapping[str, Any]]
) -> FinishReason:
    """The finish reason. An unknown one counts as a regular stop if there is an answer."""
    if ending in ("length", "filtered", "refused"):
        return ending
    if refusal and not refusal.isspace():
        return "refused"
    if calls:  # also with reason "stop", with which a forced tool call ends
        return "tool_calls"
    return "stop" if content and not content.isspace() else "empty"


def _content(value: Any) -> str | None:
    """The text of a content field, "" for null, or None if it is neither text nor parts. Reasoning is no content."""
    if isinstance(value, str):
        return valid_text(value)
    if value is None:
        return ""
    if not isinstance(value, list):
        return None
    texts = (
        part if isinstance(part, str) else part.get("text") for part in value if not is_reasoning(part) and
        isinstance(part, str | dict)
    )  # fmt: skip
    return valid_text("".join(text for text in texts if isinstance(text, str)))


def read_reasoning(message: Mapping[str, Any]) -> str | None:
    """What the model thought, from the fields and the parts in which vendors send it; None without any."""
    content = message.get("content")
    parts = [part_text(part) for part in content if is_reasoning(part)] if isinstance(content, list) else []
    specific = message.get("provider_specific_fields")
    for fields in (message, specific if isinstance(specific, dict) else EMPTY):
        text = next((text for name in REASONING_FIELDS if (text := part_text(fields.get(name)))), "")
        if text:
            parts.append(text)
            break
    return valid_text("".join(parts)) or None


def is_reasoning(part: Any) -> bool:
    """Whether a part of the content is reasoning: by its type, or by Gemini's mark."""
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return (isinstance(kind, str) and kind.lower() in REASONING_PARTS) or part.get("thought") is True


def part_text(part: Any) -> str:
    """The text of a part of reasoning, which vendors nest in different ways; "" without any."""
    for _ in range(6):  # depth at which a list of parts may be
        if isinstance(part, str):
            return part
        if isinstance(part, list):
            return "".join(part_text(item) for item in part[:MAX_PARTS] if item is not part)
        if not isinstance(part, dict):
            return ""
        part = next((part[name] for name in PART_TEXTS if part.get(name)), None)
    return ""


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


def states_error(data: Mapping[str, Any]) -> bool:
    """Whether a reply, a choice or an event states an error. An empty one, which some gateways always send, is none."""
    error = data.get("error")
    if isinstance(error, Mapping):
        return any(value for value in error.values() if value not in NO_ERRORS)
    if isinstance(error, str) and error.lower() in NO_ERRORS:
        return False
    base = data.get("base_resp")  # MiniMax's, of every reply
    return bool(error) or (isinstance(base, Mapping) and base.get("status_code") not in (None, 0, "0"))


def _no_choices(data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float | None) -> Completion | Failure:
    """What a reply without choices means: the error or the block that it tells, or another service at this address."""
    feedback = data.get("promptFeedback") or data.get("prompt_feedback")
    if isinstance(feedback, dict) and (feedback.get("blockReason") or feedback.get("block_reason")):
        return filtered_answer(_filter_message(feedback) or "", latency_s)
    if tells_error(data):
        return read_error_reply(data, headers, latency_s)
    if "choices" in data or not data:
        return malformed_json("has no choices", data)
    failure = malformed_json("has no choices", data)
    return replace(failure, message=f"{failure.message}; {CHECK_URL}", status=200, fatal=True)


def tells_error(data: Mapping[str, Any]) -> bool:
    """Whether a reply without choices is an error in another shape: words with a code, or words that only errors have."""
    if states_error(data) or data.get("errors") or data.get("success") is False:
        return True
    error = error_text(data)
    marked = "error" in (data.get("object"), data.get("type"), data.get("status"))
    return bool(error.message) and (
        marked
        or stated_status(data) is not None
        or isinstance(data.get("detail"), str | list)
        or any(
            data.get(name) not in (None, "", 0, "0", 200, "200")
            for name in ("code", "error_code", "status_code", "errno")
        )
        or any(table.search(error.searchable) for table in ERROR_TABLES)
    )


def _no_answer(
    data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float | None, wrong: str
) -> Completion | Failure:
    """The error that a reply with status 200 contains in place of an answer, or that it is malformed."""
    return read_error_reply(data, headers, latency_s) if states_error(data) else malformed_json(wrong, data)


def read_error_reply(
    data: Mapping[str, Any], headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Completion | Failure:
    """The failure for the error in a reply with status 200."""
    return failure_from_error(stated_status(data), error_text(data), headers, latency_s, in_reply=True)


def stated_status(data: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error in a reply states, by a number or by its type; None without any."""
    parts = [part for name in ERROR_NAMES if isinstance(part := data.get(name), Mapping)]
    for part in (*parts, data):
        for name in ("code", "status", "status_code", "error_code", "http_code", "statusCode"):
            if (status := _http_status(part.get(name))) is not None:
                return status
    for part in (*parts, data):
        for name in ("type", "code", "status", "error_type", "__type"):
            if isinstance(kind := part.get(name), str) and (status := STATUS_OF_TYPE.get(kind.lower())) is not None:
                return status
    return None


def _http_status(value: Any) -> int | None:
    """An HTTP error status, also the one that begins a number such as FastChat's 50002."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if not isinstance(value, int):
        return None
    value = value // 100 if 40_000 <= value < 60_000 else value
    return value if 400 <= value < 600 else None


def read_usage(data: Mapping[str, Any]) -> Usage:
    """The tokens and the cost in a parsed reply, in the spellings of all vendors."""
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    tier = data.get("service_tier")
    cached = count(details.get("cached_tokens")) if isinstance(details, dict) else None
    sent = count(usage.get("prompt_tokens"))
    if not cached:
        cached = _first(usage, CACHED_NAMES, count) or cached
    if sent is None:
        sent = _first(usage, INPUT_NAMES, count)
        if "cache_read_input_tokens" in usage and sent is not None:  # Anthropic counts cached tokens apart
            sent += (cached or 0) + (count(usage.get("cache_creation_input_tokens")) or 0)
    elif cached and cached > sent:  # counted apart as well
        sent += cached
    return Usage(
        sent,
        _first(usage, OUTPUT_NAMES, count),
        cached,
        tier if isinstance(tier, str) else None,
        _first(usage, REASONING_TOKEN_NAMES, count),
        _stated_cost(usage),
    )


def _first(data: Mapping[str, Any], paths: Sequence[str], read: Callable[[Any], Any]) -> Any:
    """The first readable value at one of the dotted paths, or None."""
    for path in paths:
        name, _, rest = path.partition(".")
        value = data.get(name)
        if rest:
            value = value.get(rest) if isinstance(value, dict) else None
        if value is not None and (found := read(value)) is not None:
            return found
    return None


def _stated_cost(usage: Mapping[str, Any]) -> float | None:
    """US dollars that a reply states. OpenRouter states its own fee where another account pays the provider."""
    ticks = usage.get("cost_in_usd_ticks")
    if ticks is not None and (amount := _amount(ticks)) is not None:
        return amount / XAI_TICKS
    if str(usage.get("currency") or "USD").upper() != "USD":
        return None
    cost: float | None = _first(usage, COST_NAMES, _amount)
    details = usage.get("cost_details")
    if usage.get("is_byok") is True and isinstance(details, dict):
        upstream = _amount(details.get("upstream_inference_cost"))
        return cost if upstream is None else upstream + (cost or 0.0)
    return cost


def _amount(value: Any) -> float | None:
    return None if isinstance(value, bool) else dollars(value)


def count(value: Any) -> int | None:
    """A whole number that a reply can count, 0 to MAX_COUNT, or None."""
    if type(value) is int:  # the usual case; excludes bool
        return value if 0 <= value <= MAX_COUNT else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value <= MAX_COUNT and value == int(value) else None


def dollars(value: Any) -> float | None:
    """An amount that a call can cost, 0 to MAX_DOLLARS, or None; reads text too, for headers."""
    try:
        amount = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return amount if 0 <= amount <= MAX_DOLLARS else None


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
    if not isinstance(items, list) or states_error(data):
        return _no_answer(data, headers, latency_s, "has no embeddings")
    if not all(isinstance(item, dict) and _is_vector(item.get("embedding")) for item in items):
        return malformed_json("has an embedding that is not a list of numbers", data)
    if all(count(item.get("index")) is not None for item in items):
        items = sorted(items, key=lambda item: count(item["index"]) or 0)
    return _data_reply(data, [item["embedding"] for item in items], texts, headers, latency_s)


def _is_vector(value: Any) -> bool:
    try:
        return isinstance(value, list) and bool(value) and all(
            isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
            for number in value
        )  # fmt: skip
    except OverflowError:  # an integer with more than 308 digits
        return False


def read_moderations(
    data: Mapping[str, Any], *, texts: int, headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Completion | Failure:
    """A completion whose `data` is a list with `{"flagged", "categories", "category_scores"}` for each text.

    Mistral states the categories only: a text is flagged if it is in any of them.
    """
    results = data.get("results")
    if not isinstance(results, list) or states_error(data):
        return _no_answer(data, headers, latency_s, "has no results")
    results = [_with_flag(result) for result in results]
    if not all(isinstance(result, dict) and isinstance(result.get("flagged"), bool) for result in results):
        return malformed_json("has a result without a verdict", data)
    return _data_reply(data, results, texts, headers, latency_s)


def _with_flag(result: Any) -> Any:
    """A result of moderation with `flagged`, if it states that or its categories."""
    categories = result.get("categories") if isinstance(result, dict) and result.get("flagged") is None else None
    if not isinstance(categories, dict) or {type(value) for value in categories.values()} != {bool}:
        return result
    return {**result, "flagged": any(categories.values())}


def _data_reply(
    data: Mapping[str, Any], results: list[Any], texts: int, headers: Mapping[str, str], latency_s: float | None
) -> Completion | Failure:
    if len(results) != texts:
        return malformed_json(f"has {len(results)} results for {texts} texts", data)
    usage = read_usage(data)
    return Completion(
        "",
        latency_s=latency_s,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=_cost(headers) or usage.cost_usd,
        served_model=_served(data),
        data=results,
        rate_limit=read_rate_limits(headers),
    )


def malformed(wrong: str, body: bytes | str) -> Failure:
    """The failure of a reply that cannot be parsed, with its first characters."""
    text = body if isinstance(body, str) else body[:MAX_READ_BYTES].decode("utf-8", "replace")
    begins = quote(text)
    return Failure("malformed", f"the reply {wrong}" + (f"; it begins {begins!r}" if begins else ""))


def malformed_json(wrong: str, data: Mapping[str, Any]) -> Failure:
    """The failure of a reply whose JSON is not what it should be."""
    try:
        return malformed(wrong, json.dumps(data, ensure_ascii=False, default=str)[:MAX_READ_BYTES])
    except (ValueError, RecursionError):
        return malformed(wrong, "")


def with_cost(completion: Completion, cost_usd: float | None) -> Completion:
    """The completion with this cost, unless it has one."""
    return completion if cost_usd is None or completion.cost_usd is not None else replace(completion, cost_usd=cost_usd)
