"""The most that a call can cost: an upper bound that holds whatever the model answers, or that there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalrunner.domain import Message, Request
from evalrunner.endpoints.prices import Price

PER_REQUEST = 32  # tokens that a provider's own template puts around a prompt; OpenAI's are 3
PER_MESSAGE = 16  # and around each message; OpenAI's are 4, ChatML's 5, Llama 3's 7
WITH_TOOLS = 1024  # what providers write themselves of how tools are used; Anthropic says 313 to 530
CACHE_WRITE_FACTOR = 2.0  # times the price of a prompt that the provider is asked to keep: Anthropic, for an hour
LENGTHS = ("max_tokens", "max_completion_tokens")
SURCHARGED_PARAMS = frozenset({"service_tier", "web_search_options", "audio", "plugins"})
FREE_VALUES = (None, "default", "flex")  # of those, what costs no more


@dataclass(frozen=True, slots=True)
class WorstCase:
    """What a call at a price can cost at the most, as the budget asks for it."""

    price: Price

    def __call__(self, request: Request, /) -> float | None:
        return worst_case(request, self.price)


def worst_case(request: Request, price: Price) -> float | None:
    """The most US dollars that one try of a request can cost, or None where nothing bounds it.

    A token is at least one byte of what is sent, so its bytes bound the prompt. The dearest rates are taken.
    """
    if price.free:
        return 0.0
    if price.has_surcharge or surcharged_option(request.params, request.tools) or unbounded_part(request.messages):
        return None
    length = max_answer_tokens(request, price)
    if length is None:
        return None
    try:
        sent = sent_bytes(request)
    except (ValueError, RecursionError):  # it has no end, and the call itself will say so
        return None
    prompt = len(sent) + PER_REQUEST + PER_MESSAGE * (len(request.messages) + len(request.texts))
    if request.tools or "tools" in request.params:
        prompt += WITH_TOOLS
    input_rate, output_rate = price.max_rates or (price.input_usd_per_token, price.output_usd_per_token)
    if b'"cache_control"' in sent:
        input_rate *= CACHE_WRITE_FACTOR
    return prompt * input_rate + length * output_rate


def max_answer_tokens(request: Request, price: Price) -> int | None:
    """The most tokens that all answers to a request can have, None where nothing says it."""
    return 0 if request.kind != "chat" else max_completion_tokens_of(request.params, price)


def max_completion_tokens_of(params: Mapping[str, Any], price: Price) -> int | None:
    """The most completion tokens under these params: their own limit, else the model's, for each of `n` answers."""
    given = [value for name in LENGTHS if (value := params.get(name)) is not None]
    limits = [value for value in given if isinstance(value, int) and not isinstance(value, bool) and value > 0]
    limit = max(limits) if limits and len(limits) == len(given) else price.max_output_tokens
    if limit is None:
        return None
    answers = [value for name in ("n", "best_of") if isinstance(value := params.get(name), int) and value > 1]
    return limit * max([1, *answers])


def sent_bytes(request: Request) -> bytes:
    """All of a request that a provider may count as prompt, as JSON in UTF-8."""
    sent = (request.messages, request.tools, request.response_format, request.texts, request.params)
    return _ENCODER.encode(sent).encode("utf-8", "surrogatepass")


def surcharged_option(params: Mapping[str, Any], tools: Sequence[Mapping[str, Any]] = ()) -> str | None:
    """What of the params costs money beside tokens at the usual rates, None where nothing does."""
    for name, value in params.items():
        if name in SURCHARGED_PARAMS and value not in FREE_VALUES:
            return f"params.{name}"
    modalities = params.get("modalities")
    if isinstance(modalities, list | tuple) and set(map(str, modalities)) - {"text"}:
        return "params.modalities"
    named = [*tools, *(params.get("tools") or ())]
    if any(not isinstance(tool, Mapping) or tool.get("type", "function") != "function" for tool in named):
        return "a tool that the provider runs"
    return None


def unbounded_part(messages: Sequence[Message]) -> str | None:
    """The type of the first part of a message that is not text: images and sound have no bound of their own."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str) or content is None:
            continue
        for part in content if isinstance(content, list | tuple) else (content,):
            kind = part.get("type", "text") if isinstance(part, Mapping) else "text" if isinstance(part, str) else "?"
            if kind not in ("text", "refusal"):
                return str(kind)
    return None


def check_cap(model: str, price: Price | None, params: Mapping[str, Any], *, judge: bool = False) -> str | None:
    """Why a cost cap cannot hold for a model, with what to do about it, or None where it can."""
    if price is None:
        return (
            f"max_cost is set, and the price of {model!r} is not known; say it, in US dollars for a million tokens: "
            f"prices: {{{model}: {{input: …, output: …}}}}"
        )
    if price.free:
        return None
    if price.has_surcharge:
        return f"max_cost is set, and calls to {model!r} cost more than their tokens; {OWN_PRICE}"
    if (name := surcharged_option(params)) is not None:
        return (
            f"max_cost is set, and {name} costs more than tokens at the usual price; take it out, or take max_cost out"
        )
    if max_completion_tokens_of(params, price) is None:
        where = "params: {max_tokens: …} of the judge" if judge else "params: {max_tokens: …}"
        return f"max_cost is set, and nothing bounds how long an answer of {model!r} may be; set {where}"
    return None


OWN_PRICE = "give a price that covers them: prices: {MODEL: {input: …, output: …}}"


def _plain(value: Any) -> Any:
    """A mapping that is no dict as one; what JSON does not know counts as its text, for the call itself says so."""
    return dict(value) if isinstance(value, Mapping) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_plain)
