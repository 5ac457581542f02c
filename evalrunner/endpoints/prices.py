"""What tokens cost, from the table that the package litellm carries, without importing it.

The import would take seconds; the table alone is 3 MB of JSON and read in 0.04 s, at most once and only if a
reply has no cost of its own. A model that is not in it has no price: None, never 0.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evalrunner.endpoints.openai_replies import Usage, count, dollars

TABLE = "model_prices_and_context_window_backup.json"
TOKEN_MODES = frozenset({"chat", "completion", "responses", "embedding", "moderation"})  # priced by the token
TIER_PREFIX = "input_cost_per_token_above_"  # followed by the size of a prompt, such as 272k_tokens
INPUT_RATES = re.compile(r"(?:input_cost_per_token|cache_creation_input_token_cost)(?:_above_\d+k_tokens)?")
OUTPUT_RATES = re.compile(r"output_cost_per_(?:reasoning_)?token(?:_above_\d+k_tokens)?")
SEARCH_PROVIDERS = frozenset({"perplexity"})  # each answer is searched for, at a price of its own
MIN_TIER_TOKENS = 100_000  # tokens: the lowest of those sizes in the table


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a token, and the limits of a model in tokens, None where the table has none.

    `cached_usd_per_token` is for input that the provider had in its cache. `tiered`: long prompts cost more.
    `max_rates` are the highest rates for input and output that may apply, None where those above are. `provider` is
    LiteLLM's name for it. `has_surcharge`: calls cost something besides their tokens.
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

    @property
    def free(self) -> bool:
        return not self.input_usd_per_token and not self.output_usd_per_token and not any(self.max_rates or ())


def price_of(model: str) -> Price | None:
    """The price of a model by the name its provider has for it, or None where nobody knows."""
    return _table().get(model)


def cost_of(asked: str, served: str | None, usage: Usage) -> float | None:
    """US dollars for one answer, or None where the price or the tokens are not known for certain.

    `served` is what the reply calls the model, often a dated name of the one that was asked for, whose price may be
    its own. Other service tiers and the surcharge on long prompts are not worked out.
    """
    price = (price_of(served) if served else None) or price_of(asked)
    if price is None or usage.service_tier not in (None, "default"):
        return None
    return cost_of_tokens(price, usage)


def cost_of_tokens(price: Price, usage: Usage) -> float | None:
    """US dollars for so many tokens, or None where too little is known of them."""
    if not price.input_usd_per_token and not price.output_usd_per_token:
        return 0.0
    if usage.input_tokens is None or (price.tiered and usage.input_tokens > MIN_TIER_TOKENS):
        return None
    if usage.output_tokens is None and price.output_usd_per_token > 0:
        return None
    cached = min(usage.cached_tokens or 0, usage.input_tokens)
    if cached and price.cached_usd_per_token is None:
        cached = 0
    return (
        (usage.input_tokens - cached) * price.input_usd_per_token
        + cached * (price.cached_usd_per_token or 0.0)
        + (usage.output_tokens or 0) * price.output_usd_per_token
    )


@cache
def _table() -> Mapping[str, Price]:
    """Every price of the table, empty where litellm is not installed."""
    found = importlib.util.find_spec("litellm")
    if found is None or not found.submodule_search_locations:
        return {}
    path = Path(next(iter(found.submodule_search_locations))) / TABLE
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
        any(name.startswith(TIER_PREFIX) and entry[name] is not None for name in entry),
        (_max_rate(entry, INPUT_RATES), _max_rate(entry, OUTPUT_RATES)),
        provider if isinstance(provider, str) else None,
        provider in SEARCH_PROVIDERS or dollars(entry.get("input_cost_per_request")) not in (None, 0.0),
    )


def _max_rate(entry: Mapping[str, Any], rates: re.Pattern[str]) -> float:
    return max((dollars(value) or 0.0 for name, value in entry.items() if rates.fullmatch(name)), default=0.0)
