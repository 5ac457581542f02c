"""What calls cost: prices from the suite, the server or LiteLLM's table, the cost of an answer, and its upper bound.

LiteLLM's table is read without importing the package, which would take seconds: 3 MB of JSON in 0.04 s, at most once
and only if a reply states no cost. The price of a model that is not in it is None, never 0.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from evalrunner.domain import Completion, Endpoint, Failure, Message, Request
from evalrunner.endpoints.model_list import fetch_retirement_dates, read_date, retirement_dates
from evalrunner.endpoints.openai_replies import Usage, count, dollars
from evalrunner.storage import dict_or_text
from evalrunner.suite.schema import ModelSpec, PriceSpec

TABLE_FILE = "model_prices_and_context_window_backup.json"
TOKEN_MODES = frozenset({"chat", "completion", "responses", "embedding", "moderation"})  # priced by the token
TIER = re.compile(r"input_cost_per_token_above_((\d+)k_tokens)")  # the size of a prompt, such as 272k_tokens
INPUT_RATES = re.compile(r"(?:input_cost_per_token|cache_creation_input_token_cost)(?:_above_\d+k_tokens)?")
OUTPUT_RATES = re.compile(r"output_cost_per_(?:reasoning_)?token(?:_above_\d+k_tokens)?")
SEARCH_PROVIDERS = frozenset({"perplexity"})  # every answer includes a search with its own price
MIN_TIER_TOKENS = 100_000  # the smallest prompt in the table that costs more

Source: TypeAlias = Literal["suite", "server", "table", "free", "unknown"]

MODEL_INFO = "/model/info"  # of LiteLLM's proxy
PRICE_REQUEST_TIMEOUT_S = 10.0
MILLION = 1_000_000

TOKENS_PER_REQUEST = 32  # tokens that a provider's template adds to a prompt; OpenAI adds 3
TOKENS_PER_MESSAGE = 16  # and to each message; OpenAI 4, ChatML 5, Llama 3 7
TOOL_INSTRUCTION_TOKENS = 1024  # for the provider's instructions on tools; Anthropic states 313 to 530
CACHE_WRITE_FACTOR = 2.0  # times the price of a prompt that the provider caches: Anthropic, for an hour
TOKEN_LIMIT_PARAMS = ("max_tokens", "max_completion_tokens")
SURCHARGED_PARAMS = frozenset({"service_tier", "web_search_options", "audio", "plugins"})
UNCHARGED_VALUES = (None, "default", "flex")  # values without a surcharge

SET_PRICE_HINT = "set a price that covers them: prices: {MODEL: {input: …, output: …}}"

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=dict_or_text)


@dataclass(frozen=True, slots=True)
class Tier:
    """US dollars per token of calls with more prompt tokens than `above`. None: not known."""

    above: int
    input_usd_per_token: float
    output_usd_per_token: float | None
    cached_usd_per_token: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token, and the limits of a model in tokens, None where the table has none.

    `cached_usd_per_token` is for input from the provider's cache. `tiered`: long prompts cost more, by `tiers` in
    rising order, none where they are not known. `max_rates` are the highest rates for input and output that may apply,
    None if the regular ones are. `provider` is LiteLLM's name of it. `has_surcharge`: calls cost more than their
    tokens. `retires` is the date of the model's deprecation.
    """

    input_usd_per_token: float
    output_usd_per_token: float
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    cached_usd_per_token: float | None = None
    tiered: bool = False
    max_rates: tuple[float, float] | None = None
    provider: str | None = None
    has_surcharge: bool = False
    tiers: tuple[Tier, ...] = ()
    retires: date | None = None

    @property
    def free(self) -> bool:
        return not self.input_usd_per_token and not self.output_usd_per_token and not any(self.max_rates or ())


def price_of(model: str) -> Price | None:
    """The price of a model by its provider's name for it, or None if it is unknown."""
    return _table().get(model)


def price_names() -> Collection[str]:
    """The names of the models in LiteLLM's table."""
    return _table().keys()


def cost_of(requested: str, served: str | None, usage: Usage) -> float | None:
    """US dollars for one answer, or None where the price or the tokens are not known for certain.

    `served` is what the reply calls the model, often a dated name of the one that was asked for, whose price may be
    its own. Other service tiers and the surcharge on long prompts are not computed.
    """
    price = (price_of(served) if served else None) or price_of(requested)
    if price is None or usage.service_tier not in (None, "default"):
        return None
    return cost_of_tokens(price, usage)


def cost_of_tokens(price: Price, usage: Usage) -> float | None:
    """US dollars for so many tokens, or None where too little is known of them."""
    if not price.input_usd_per_token and not price.output_usd_per_token:
        return 0.0
    sent = usage.input_tokens
    if sent is None or (price.tiered and not price.tiers and sent > MIN_TIER_TOKENS):
        return None
    if usage.output_tokens is None and price.output_usd_per_token > 0:
        return None
    tier = next((tier for tier in reversed(price.tiers) if sent > tier.above), None)
    rates: Price | Tier = price if tier is None else tier
    if rates.output_usd_per_token is None:
        return None
    cached = min(usage.cached_tokens or 0, sent)
    if cached and rates.cached_usd_per_token is None:
        cached = 0
    return (
        (sent - cached) * rates.input_usd_per_token
        + cached * (rates.cached_usd_per_token or 0.0)
        + (usage.output_tokens or 0) * rates.output_usd_per_token
    )


@cache
def _table() -> Mapping[str, Price]:
    """Every price of the table, empty where litellm is not installed."""
    package = importlib.util.find_spec("litellm")
    if package is None or not package.submodule_search_locations:
        return {}
    path = Path(next(iter(package.submodule_search_locations))) / TABLE_FILE
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    read = ((name, read_price(entry)) for name, entry in entries.items() if priced_by_token(entry))
    return {name: price for name, price in read if price is not None}


def priced_by_token(entry: Any) -> bool:
    """Whether an entry of the table is about a model that is paid for by the token."""
    return isinstance(entry, dict) and entry.get("mode") in TOKEN_MODES


def read_price(entry: Mapping[str, Any]) -> Price | None:
    """The price in an entry of LiteLLM's, of its table or of a proxy's list, None where one of the two rates is missing."""
    costs = dollars(entry.get("input_cost_per_token")), dollars(entry.get("output_cost_per_token"))
    if costs[0] is None or costs[1] is None:
        return None
    provider = entry.get("litellm_provider")
    return Price(
        costs[0],
        costs[1],
        count(entry.get("max_input_tokens")),
        count(entry.get("max_output_tokens")),
        dollars(entry.get("cache_read_input_token_cost")),
        bool(tiers := _tiers(entry)),
        (_max_rate(entry, INPUT_RATES), _max_rate(entry, OUTPUT_RATES)),
        provider if isinstance(provider, str) else None,
        provider in SEARCH_PROVIDERS or dollars(entry.get("input_cost_per_request")) not in (None, 0.0),
        tiers,
        read_date(entry.get("deprecation_date")),
    )


def _tiers(entry: Mapping[str, Any]) -> tuple[Tier, ...]:
    """The prices of long prompts in an entry, by the size of the prompt."""
    tiers: list[Tier] = []
    for name, value in entry.items():
        match = TIER.fullmatch(name)
        if match is not None and (rate := dollars(value)) is not None and value is not None:
            output, cached = (
                dollars(entry.get(f"{kind}_above_{match[1]}"))
                for kind in ("output_cost_per_token", "cache_read_input_token_cost")
            )
            tiers.append(Tier(int(match[2]) * 1000, rate, output, cached))
    return tuple(sorted(tiers, key=lambda tier: tier.above))


def _max_rate(entry: Mapping[str, Any], rates: re.Pattern[str]) -> float:
    return max((dollars(value) or 0.0 for name, value in entry.items() if rates.fullmatch(name)), default=0.0)


FREE = Price(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class KnownPrice:
    """A price and its source. `price` is None if it is unknown. `retires` is the date that the model's server states."""

    price: Price | None
    source: Source
    retires: date | None = None


UNKNOWN = KnownPrice(None, "unknown")


class Priceable(Protocol):
    """What the price of a model depends on besides the suite: an `EndpointHandle`."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def model(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def list_price(self) -> Callable[[], KnownPrice]: ...


@runtime_checkable
class FetchesJson(Protocol):
    """An endpoint that can request JSON about its server."""

    async def fetch(self, path: str, *, timeout_s: float) -> Any: ...


class PriceBook:
    """The prices of a suite's models. Only `find` and `find_dates` send requests, each at most one to a server.

    `prices` are those of the suite, by the model in the suite or by the name that is sent.
    """

    def __init__(self, prices: Mapping[str, PriceSpec]) -> None:
        self._prices = prices
        self._fetched: dict[str, Mapping[str, Price]] = {}
        self._dates: dict[str, Mapping[str, date]] = {}

    def look_up(self, spec: ModelSpec, handle: Priceable) -> KnownPrice:
        """The price as far as it is known without a call: the suite's, the server's, or that of its kind of endpoint."""
        known, retires = self._known(spec, handle), self._dates.get(handle.key, {}).get(handle.model)
        return known if retires is None else replace(known, retires=retires)

    def _known(self, spec: ModelSpec, handle: Priceable) -> KnownPrice:
        for price in (spec.price, self._prices.get(spec.model), self._prices.get(handle.model)):
            if price is not None:
                return KnownPrice(price_from_suite(price), "suite")
        known = handle.list_price()
        if known.source == "free":
            return known
        fetched = self._fetched.get(handle.key, {}).get(handle.model)
        return known if fetched is None else KnownPrice(fetched, "server")

    async def find(self, spec: ModelSpec, handle: Priceable) -> KnownPrice:
        """The price; requested from the model's server if nothing else has it."""
        known = self.look_up(spec, handle)
        if known.price is not None or handle.key in self._fetched or not isinstance(handle.endpoint, FetchesJson):
            return known
        reply = await handle.endpoint.fetch(MODEL_INFO, timeout_s=PRICE_REQUEST_TIMEOUT_S)
        self._fetched[handle.key] = prices_from_proxy(reply)
        self._dates[handle.key] = {**self._dates.get(handle.key, {}), **retirement_dates(reply)}
        return self.look_up(spec, handle)

    async def find_dates(self, handles: Iterable[Priceable]) -> None:
        """Ask the servers, all at once, from which date they no longer serve their models; `look_up` has them from now on."""
        self._dates.update(await fetch_retirement_dates({handle.key: handle.endpoint for handle in handles}))


def price_from_suite(spec: PriceSpec) -> Price:
    """The price in a suite, which is in US dollars per million tokens."""
    cached = None if spec.cached_input is None else spec.cached_input / MILLION
    price = Price(spec.input / MILLION, spec.output / MILLION, None, spec.max_output_tokens, cached)
    if (long := spec.above) is None:
        return price
    cached = None if long.cached_input is None else long.cached_input / MILLION
    tier = Tier(long.tokens, long.input / MILLION, long.output / MILLION, cached)
    rates = max(spec.input, long.input) / MILLION, max(spec.output, long.output) / MILLION
    return replace(price, tiered=True, tiers=(tier,), max_rates=rates)


def price_from_table(model: str) -> Price | None:
    """The price of a LiteLLM model string, with or without its provider, in LiteLLM's table."""
    provider, _, name = model.partition("/")
    if (price := price_of(model)) is not None:
        return price
    price = price_of(name)  # the table omits the provider where the name is unique
    return price if price is not None and provider and (price.provider or "").startswith(provider) else None


def prices_from_proxy(data: Any) -> Mapping[str, Price]:
    """Name to price from a reply of LiteLLM's proxy to /model/info; of several deployments the most expensive.

    A name with a deployment of unknown price is omitted. The proxy states an unknown price as 0, so 0 is unknown too.
    """
    entries = data.get("data") if isinstance(data, Mapping) else None
    prices: dict[str, Price | None] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping) or not isinstance(name := entry.get("model_name"), str):
            continue
        info = entry.get("model_info")
        price = read_price(info) if isinstance(info, Mapping) else None
        if price is not None and price.free:
            price = None
        prices[name] = _more_expensive(prices[name], price) if name in prices else price
    return {name: price for name, price in prices.items() if price is not None}


def _more_expensive(one: Price | None, other: Price | None) -> Price | None:
    if one is None or other is None:
        return None
    rates, others = one.max_rates or (0.0, 0.0), other.max_rates or (0.0, 0.0)
    limits = (one.max_output_tokens, other.max_output_tokens)
    return replace(
        max(one, other, key=lambda price: (price.output_usd_per_token, price.input_usd_per_token)),
        max_output_tokens=None if None in limits else max(limit for limit in limits if limit is not None),
        max_rates=(max(rates[0], others[0]), max(rates[1], others[1])),
        tiered=one.tiered or other.tiered,
        tiers=one.tiers if one.tiers == other.tiers else (),
        has_surcharge=one.has_surcharge or other.has_surcharge,
    )


@dataclass(frozen=True, slots=True)
class PricedEndpoint:
    """An endpoint that adds the cost to answers. A price in the suite overrides the cost stated by the server."""

    inner: Endpoint
    known: KnownPrice

    async def __call__(self, request: Request, /) -> Completion | Failure:
        answer = await self.inner(request)
        price = self.known.price
        if price is None or isinstance(answer, Failure):
            return answer
        if answer.cost_usd is not None and self.known.source != "suite":
            return answer
        cost_usd = cost_of_tokens(price, Usage(answer.input_tokens, answer.output_tokens, answer.cached_tokens))
        return answer if cost_usd is None else replace(answer, cost_usd=cost_usd)


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The maximum cost of a call at a price, for the budget."""

    price: Price

    def __call__(self, request: Request, /) -> float | None:
        return worst_case(request, self.price)


def worst_case(request: Request, price: Price) -> float | None:
    """The maximum cost in US dollars of one attempt of a request, or None if there is no limit.

    A token is at least one byte, so the bytes sent limit the prompt. The highest rates are used.
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
    except (ValueError, RecursionError):  # it refers to itself; the call reports that
        return None
    prompt = len(sent) + TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE * (len(request.messages) + len(request.texts))
    if request.tools or "tools" in request.params:
        prompt += TOOL_INSTRUCTION_TOKENS
    input_rate, output_rate = price.max_rates or (price.input_usd_per_token, price.output_usd_per_token)
    if b'"cache_control"' in sent:
        input_rate *= CACHE_WRITE_FACTOR
    return prompt * input_rate + length * output_rate


def max_answer_tokens(request: Request, price: Price) -> int | None:
    """The maximum tokens of all answers to a request, or None if there is no limit."""
    return 0 if request.kind != "chat" else completion_token_limit(request.params, price)


def completion_token_limit(params: Mapping[str, Any], price: Price) -> int | None:
    """The maximum completion tokens with these params: their own limit, or the model's, times `n` answers."""
    given = [value for name in TOKEN_LIMIT_PARAMS if (value := params.get(name)) is not None]
    limits = [value for value in given if isinstance(value, int) and not isinstance(value, bool) and value > 0]
    limit = max(limits) if limits and len(limits) == len(given) else price.max_output_tokens
    if limit is None:
        return None
    answers = [value for name in ("n", "best_of") if isinstance(value := params.get(name), int) and value > 1]
    return limit * max([1, *answers])


def sent_bytes(request: Request) -> bytes:
    """The parts of a request that a provider may count as prompt, as JSON in UTF-8."""
    sent = (request.messages, request.tools, request.response_format, request.texts, request.params)
    return _ENCODER.encode(sent).encode("utf-8", "surrogatepass")


def surcharged_option(params: Mapping[str, Any], tools: Sequence[Mapping[str, Any]] = ()) -> str | None:
    """The name of a param or tool that costs more than its tokens, or None."""
    for name, value in params.items():
        if name in SURCHARGED_PARAMS and value not in UNCHARGED_VALUES:
            return f"params.{name}"
    modalities = params.get("modalities")
    if isinstance(modalities, list | tuple) and set(map(str, modalities)) - {"text"}:
        return "params.modalities"
    named = [*tools, *(params.get("tools") or ())]
    if any(not isinstance(tool, Mapping) or tool.get("type", "function") != "function" for tool in named):
        return "a tool that the provider runs"
    return None


def unbounded_part(messages: Sequence[Message]) -> str | None:
    """The type of the first part of a message that is not text: images and sound have no cost limit."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str) or content is None:
            continue
        for part in content if isinstance(content, list | tuple) else (content,):
            kind = part.get("type", "text") if isinstance(part, Mapping) else "text" if isinstance(part, str) else "?"
            if kind not in ("text", "refusal"):
                return str(kind)
    return None


def check_cap(
    model: str, price: Price | None, params: Mapping[str, Any], *, judge: bool = False, answers: bool = True
) -> str | None:
    """Why a cost limit cannot hold for a model, and what to do about it, or None if it can.

    Of a model that only embeds or moderates (not `answers`) the texts sent are all there is to pay for.
    """
    if price is None:
        return (
            f"max_cost is set, but the price of {model!r} is unknown; set it in US dollars per million tokens: "
            f"prices: {{{model}: {{input: …, output: …}}}}"
        )
    if price.free:
        return None
    if price.has_surcharge:
        return f"max_cost is set, but calls to {model!r} cost more than their tokens; {SET_PRICE_HINT}"
    if (name := surcharged_option(params)) is not None:
        return f"max_cost is set, but {name} costs more than its tokens; remove one of the two"
    if answers and completion_token_limit(params, price) is None:
        where = "params: {max_tokens: …} of the judge" if judge else "params: {max_tokens: …}"
        return f"max_cost is set, but nothing limits the length of an answer of {model!r}; set {where}"
    return None
