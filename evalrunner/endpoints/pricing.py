"""What a model of a suite costs, and who says so: the suite, its server, LiteLLM's table, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.endpoints.factory import LOCAL_PREFIX, OPENAI_PREFIX, EndpointHandle
from evalrunner.endpoints.openai import OPENAI_HOST
from evalrunner.endpoints.openai_replies import Usage
from evalrunner.endpoints.prices import Price, cost_of_tokens, price_of, read_price
from evalrunner.suite.schema import ModelSpec, PriceSpec

Source: TypeAlias = Literal["suite", "server", "table", "free", "unknown"]

MODEL_INFO = "/model/info"  # of LiteLLM's proxy
PRICE_REQUEST_TIMEOUT_S = 10.0
MILLION = 1_000_000
FREE = Price(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class KnownPrice:
    """A price and who says so. `price` is None where nobody does."""

    price: Price | None
    source: Source


UNKNOWN = KnownPrice(None, "unknown")


@runtime_checkable
class FetchesJson(Protocol):
    """An endpoint whose server can be asked about itself."""

    async def fetch(self, path: str, *, timeout_s: float) -> Any: ...


class PriceBook:
    """The prices of a suite's models. Each server is asked at most once, and only by `find`.

    `prices` are those of the suite, by the model as the suite has it or by the name that is sent.
    """

    def __init__(self, prices: Mapping[str, PriceSpec]) -> None:
        self._prices = prices
        self._told: dict[str, Mapping[str, Price]] = {}

    def look_up(self, spec: ModelSpec, opened: EndpointHandle) -> KnownPrice:
        """The price as far as it is known without asking anybody."""
        for stated in (spec.price, self._prices.get(spec.model), self._prices.get(opened.model)):
            if stated is not None:
                return KnownPrice(price_from_suite(stated), "suite")
        if spec.base_url is None and spec.model.startswith(LOCAL_PREFIX):
            return KnownPrice(FREE, "free")
        told = self._told.get(opened.key, {}).get(opened.model)
        if told is not None:
            return KnownPrice(told, "server")
        listed = None if spec.base_url is not None else price_from_table(spec.model, opened)
        return UNKNOWN if listed is None else KnownPrice(listed, "table")

    async def find(self, spec: ModelSpec, opened: EndpointHandle) -> KnownPrice:
        """The price; the model's server is asked where only that can know."""
        known = self.look_up(spec, opened)
        if known.price is not None or opened.key in self._told or not isinstance(opened.endpoint, FetchesJson):
            return known
        self._told[opened.key] = prices_from_proxy(
            await opened.endpoint.fetch(MODEL_INFO, timeout_s=PRICE_REQUEST_TIMEOUT_S)
        )
        return self.look_up(spec, opened)


def price_from_suite(spec: PriceSpec) -> Price:
    """The price that a suite states, which is in US dollars for a million tokens."""
    cached = None if spec.cached_input is None else spec.cached_input / MILLION
    return Price(spec.input / MILLION, spec.output / MILLION, None, spec.max_output_tokens, cached)


def price_from_table(model: str, opened: EndpointHandle) -> Price | None:
    """The price of a model string in LiteLLM's table; of `openai/NAME` only where it goes to OpenAI itself."""
    if model.startswith(OPENAI_PREFIX):
        host = urlsplit(opened.host).hostname or ""
        to_openai = host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")
        return price_of(opened.model) if to_openai else None
    provider, _, name = model.partition("/")
    if (price := price_of(model)) is not None:
        return price
    price = price_of(name)  # the table leaves out the provider where the name says enough
    return price if price is not None and provider and (price.provider or "").startswith(provider) else None


def prices_from_proxy(data: Any) -> Mapping[str, Price]:
    """Name to price from a reply of LiteLLM's proxy to /model/info; of several deployments of a name, the most expensive.

    A name is left out where one of its deployments has no price. The proxy says 0 where it does not know, so that is
    no price either.
    """
    entries = data.get("data") if isinstance(data, Mapping) else None
    found: dict[str, Price | None] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping) or not isinstance(name := entry.get("model_name"), str):
            continue
        info = entry.get("model_info")
        price = read_price(info) if isinstance(info, Mapping) else None
        if price is not None and price.free:
            price = None
        found[name] = _more_expensive(found[name], price) if name in found else price
    return {name: price for name, price in found.items() if price is not None}


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
        has_surcharge=one.has_surcharge or other.has_surcharge,
    )


@dataclass(frozen=True, slots=True)
class PricedEndpoint:
    """An endpoint whose answers have a cost: worked out at `price`, over the server's own word where the suite says it."""

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
