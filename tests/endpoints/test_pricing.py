"""Prices and their sources, the cost of an answer, and the maximum cost of a call."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.endpoints.openai_replies import Usage
from evalrunner.endpoints.pricing import (
    FREE,
    KnownPrice,
    Price,
    PriceBook,
    PricedEndpoint,
    WorstCase,
    check_cap,
    cost_of,
    price_of,
    prices_from_proxy,
    read_price,
    worst_case,
)
from evalrunner.suite.schema import ModelSpec, PriceSpec
from tests.endpoints.conftest import Proxy
from tests.fakes.command import command_env
from tests.fakes.server import ScriptedServer, Status, always

needs_table = pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="the table comes with litellm")
INFO = {
    "data": [
        {"model_name": "big", "litellm_params": {"model": "openai/gpt-x"}, "model_info": {
            "input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6, "max_output_tokens": 100, "mode": "chat"}},
        {"model_name": "big", "litellm_params": {"model": "azure/gpt-x"}, "model_info": {
            "input_cost_per_token": 3e-6, "output_cost_per_token": 6e-6, "max_output_tokens": 200, "mode": None}},
        {"model_name": "half", "model_info": {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}},
        {"model_name": "half", "model_info": {"id": "1"}},
        {"model_name": "zero", "model_info": {"input_cost_per_token": 0, "output_cost_per_token": 0.0}},
        {"model_name": 7}, "odd", {"model_name": "bare"},
    ]
}  # fmt: skip
BIG = Price(2e-6, 8e-6, None, 200, max_rates=(3e-6, 8e-6))
STATED = PriceSpec(input=0.15, output=0.6, cached_input=0.075, max_output_tokens=512)
PRICE = Price(1e-6, 1e-5)


def prices(spec: ModelSpec, stated: Mapping[str, PriceSpec] | None = None, *, environ: Any = None) -> KnownPrice:
    async def find() -> KnownPrice:
        async with EndpointPool(environ=environ or {}) as pool:
            return await PriceBook(stated or {}).find(spec, pool.open(spec, timeout_s=5))

    return asyncio.run(find())


def server_model(server: ScriptedServer, model: str = "big", **options: Any) -> ModelSpec:
    return ModelSpec(model, model, base_url=server.base_url, api_key="sk-own-key-1", **options)


def test_prices_are_requested_once_with_the_api_key_of_the_target() -> None:
    with ScriptedServer(always(Status(200, INFO))) as server:

        async def find() -> list[KnownPrice]:
            async with EndpointPool(environ={}) as pool:
                book = PriceBook({})
                specs = [server_model(server, name) for name in ("big", "half", "zero", "bare", "none")]
                return [await book.find(spec, pool.open(spec, timeout_s=5)) for spec in specs]

        result = asyncio.run(find())
    assert result == [KnownPrice(BIG, "server"), *[KnownPrice(None, "unknown")] * 4]
    (requested,) = server.requests
    assert (requested.path, requested.headers["authorization"]) == ("/model/info", "Bearer sk-own-key-1")


@pytest.mark.parametrize(
    "reply", [Status(404), Status(401, {"error": "no"}), Status(200, b"<html>"), Status(200, []), Status(200, {"data": 3})]
)  # fmt: skip
def test_a_server_without_prices_leaves_the_price_unknown(reply: Status) -> None:
    with ScriptedServer(always(reply)) as server:
        assert prices(server_model(server)) == KnownPrice(None, "unknown")


def test_an_unreachable_server_leaves_the_price_unknown() -> None:
    assert prices(ModelSpec("m", "m", base_url="http://127.0.0.1:1/v1")) == KnownPrice(None, "unknown")


def test_a_price_in_the_suite_comes_first_without_a_request() -> None:
    stated = KnownPrice(Price(0.15e-6, 0.6e-6, None, 512, 0.075e-6), "suite")
    with ScriptedServer(always(Status(200, INFO))) as server:
        assert prices(server_model(server, price=STATED)) == stated
        assert prices(server_model(server), {"big": STATED}) == stated
        assert server.calls == 0
    assert prices(ModelSpec("openai/gpt-4o", "x", api_key="sk-1234567"), {"openai/gpt-4o": STATED}) == stated
    assert prices(ModelSpec("openai/gpt-4o", "x", api_key="sk-1234567"), {"gpt-4o": STATED}) == stated


@needs_table
def test_the_table_prices_openai_and_litellm_but_no_base_url() -> None:
    gpt = ModelSpec("openai/gpt-4o", "x", api_key="sk-1234567")
    assert prices(gpt) == KnownPrice(price_of("gpt-4o"), "table")
    with ScriptedServer(always(Status(404))) as server:
        assert prices(gpt, environ={"OPENAI_BASE_URL": server.base_url}).source == "unknown"
        assert prices(server_model(server, "gpt-4o")).source == "unknown"
    anthropic = prices(ModelSpec("anthropic/claude-sonnet-4-5", "x"))
    assert anthropic == KnownPrice(price_of("claude-sonnet-4-5"), "table") and anthropic.price is not None
    assert prices(ModelSpec("gemini/gemini-2.5-pro", "x")).source == "table"
    assert prices(ModelSpec("groq/gpt-4o", "x")).source == "unknown", "another provider's model of that name"
    assert prices(ModelSpec("openrouter/no-such-model", "x")).source == "unknown"


@pytest.mark.local
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra 'local' is not installed")
def test_the_embedded_model_is_free() -> None:
    assert prices(ModelSpec("local/smollm2-135m-instruct", "x")) == KnownPrice(FREE, "free")


@pytest.mark.litellm
@pytest.mark.slow
@pytest.mark.local
@needs_table
def test_prices_of_a_real_proxy(proxy: Proxy) -> None:
    def at(model: str) -> KnownPrice:
        return prices(ModelSpec(model, model, base_url=proxy.base_url, api_key=proxy.key))

    result, listed = at("gpt-4o"), price_of("gpt-4o")
    assert result.source == "server" and result.price is not None and listed is not None
    assert (result.price.input_usd_per_token, result.price.output_usd_per_token, result.price.max_output_tokens) == (
        listed.input_usd_per_token, listed.output_usd_per_token, listed.max_output_tokens,
    )  # fmt: skip
    assert at("small").source == at("no such model").source == "unknown"


@pytest.mark.parametrize(
    ("answer", "by_suite", "otherwise"),
    [
        (Completion("a", input_tokens=100, output_tokens=10), 2e-4, 2e-4),
        (Completion("a", input_tokens=100, output_tokens=10, cost_usd=0.5), 2e-4, 0.5),
        (Completion("a", input_tokens=100, cost_usd=0.5), 0.5, 0.5),
        (Completion("a", input_tokens=100), None, None),
    ],
)
def test_a_price_in_the_suite_overrides_the_cost_of_the_server(
    answer: Completion, by_suite: Any, otherwise: Any
) -> None:
    async def endpoint(request: Request, /) -> Completion | Failure:
        return answer

    def cost(known: KnownPrice) -> float | None:
        result = asyncio.run(PricedEndpoint(endpoint, known)(Request("m")))
        assert isinstance(result, Completion)
        return result.cost_usd

    assert cost(KnownPrice(PRICE, "suite")) == (by_suite if by_suite is None else pytest.approx(by_suite))
    assert cost(KnownPrice(PRICE, "server")) == (otherwise if otherwise is None else pytest.approx(otherwise))
    assert cost(KnownPrice(None, "unknown")) == answer.cost_usd


def test_cached_input_has_its_own_price() -> None:
    async def endpoint(request: Request, /) -> Completion | Failure:
        return Completion("a", input_tokens=100, output_tokens=0, cached_tokens=80)

    priced = PricedEndpoint(endpoint, KnownPrice(Price(1e-6, 1e-5, cached_usd_per_token=1e-7), "suite"))
    result = asyncio.run(priced(Request("m")))
    assert isinstance(result, Completion) and result.cost_usd == pytest.approx(20e-6 + 8e-6)


def chat(text: Any = "héé", **params: Any) -> Request:
    return Request("m", ({"role": "user", "content": text},), params)


def test_the_bytes_of_a_prompt_limit_its_tokens() -> None:
    one, longer = worst_case(chat(max_tokens=1), PRICE), worst_case(chat("héé" + "é" * 100, max_tokens=1), PRICE)
    assert one is not None and longer is not None
    assert longer - one == pytest.approx(200e-6)
    assert one >= 1e-5 + len(json.dumps("héé", ensure_ascii=False).encode()) * 1e-6
    schema = {"type": "object", "properties": {f"field{n}": {"type": "string"} for n in range(50)}}
    for more in ({"tools": ({"type": "function", "function": schema},)}, {"response_format": schema}):
        bound = worst_case(Request("m", chat().messages, {"max_tokens": 1}, **more), PRICE)  # type: ignore[arg-type]
        assert bound is not None and bound - one >= (len(json.dumps(schema)) - 4) * 1e-6


@pytest.mark.parametrize(
    ("params", "own", "tokens"),
    [
        ({"max_tokens": 50}, None, 50),
        ({"max_completion_tokens": 70, "max_tokens": 50}, None, 70),
        ({"max_tokens": 50, "n": 3}, None, 150),
        ({}, 400, 400),
        ({"n": 2}, 400, 800),
        ({"max_tokens": "many"}, 400, 400),
        ({}, None, None),
    ],
)
def test_the_token_limit_of_an_answer(params: Any, own: int | None, tokens: int | None) -> None:
    bound = worst_case(chat(**params), Price(0.0, 1.0, max_output_tokens=own))
    assert bound == tokens


@pytest.mark.parametrize(
    "request_",
    [
        chat(
            [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "x"}}], max_tokens=5
        ),
        chat([{"type": "input_audio", "input_audio": {}}], max_tokens=5),
        chat(max_tokens=5, service_tier="priority"),
        chat(max_tokens=5, modalities=["text", "audio"]),
        chat(max_tokens=5, web_search_options={}),
        Request("m", params={"max_tokens": 5}, tools=({"type": "web_search"},)),
    ],
)
def test_requests_without_a_maximum_cost(request_: Request) -> None:
    assert WorstCase(PRICE)(request_) is None
    assert WorstCase(FREE)(request_) == 0.0


def test_the_maximum_cost_uses_the_highest_rate() -> None:
    tiered = read_price({
        "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5, "input_cost_per_token_above_200k_tokens": 2e-6,
        "output_cost_per_token_above_200k_tokens": 2e-5, "input_cost_per_token_batches": 9.0,
        "input_cost_per_token_above_200k_tokens_priority": 9.0, "cache_creation_input_token_cost": 3e-6,
        "cache_creation_input_token_cost_above_1hr": 9.0,
    })  # fmt: skip
    assert tiered is not None
    assert (tiered.max_rates, tiered.tiered) == ((3e-6, 2e-5), True)
    short, stored = chat(max_tokens=0), chat([{"type": "text", "text": "a", "cache_control": {}}], max_tokens=1)
    most_expensive = Price(3e-6, 2e-5)
    assert worst_case(chat(max_tokens=9), tiered) == worst_case(chat(max_tokens=9), most_expensive)
    assert worst_case(short, tiered) is None, "no limit that means anything"
    usual = worst_case(chat([{"type": "text", "text": "a"}], max_tokens=1), PRICE)
    assert usual is not None and (worst_case(stored, PRICE) or 0) > 1.9 * usual
    assert prices_from_proxy({"data": [{"model_name": "a", "model_info": {"input_cost_per_token": 1}}]}) == {}


def test_the_maximum_cost_of_embeddings_is_their_input() -> None:
    bound = worst_case(Request("m", kind="embed", texts=("a" * 1000,)), Price(1e-6, 0.0))
    assert bound is not None and 1e-3 <= bound <= 1.3e-3


def test_a_cost_limit_that_cannot_hold_says_what_to_do() -> None:
    assert check_cap("m", PRICE, {"max_tokens": 5}) is None
    assert check_cap("m", FREE, {}) is None
    assert check_cap("m", None, {"max_tokens": 5}) == (
        "max_cost is set, but the price of 'm' is unknown; set it in US dollars per million tokens: "
        "prices: {m: {input: …, output: …}}"
    )
    assert check_cap("m", PRICE, {}) == (
        "max_cost is set, but nothing limits the length of an answer of 'm'; set params: {max_tokens: …}"
    )
    assert check_cap("m", PRICE, {}, judge=True) == (
        "max_cost is set, but nothing limits the length of an answer of 'm'; set params: {max_tokens: …} of the judge"
    )
    assert "params.service_tier costs more" in (check_cap("m", PRICE, {"max_tokens": 5, "service_tier": "auto"}) or "")
    assert "more than their tokens" in (check_cap("m", Price(1e-6, 1e-6, has_surcharge=True), {"max_tokens": 5}) or "")


def needs_table(test: Any) -> Any:
    """Marks a test that needs the price table of the litellm package."""
    missing = importlib.util.find_spec("litellm") is None
    return pytest.mark.litellm(pytest.mark.skipif(missing, reason="the table comes with litellm")(test))


@needs_table
def test_a_price_has_its_limits_and_an_unknown_model_has_none() -> None:
    price = price_of("gpt-4o")
    assert price is not None
    assert price.input_usd_per_token == pytest.approx(2.5e-6)
    assert price.output_usd_per_token == pytest.approx(1e-5)
    assert (price.max_input_tokens, price.max_output_tokens) == (128_000, 16_384)
    assert price_of("no-such-model") is None
    assert price_of("sample_spec") is None  # the table's own explanation


@needs_table
@pytest.mark.parametrize(
    ("served", "usage", "dollars"),
    [
        ("gpt-4o", Usage(1000, 100), 1000 * 2.5e-6 + 100 * 1e-5),
        (None, Usage(1000, 100), 1000 * 2.5e-6 + 100 * 1e-5),
        ("gpt-4o-2024-05-13", Usage(1000, 100), 1000 * 5e-6 + 100 * 1.5e-5),  # a dated name with its own price
        ("gpt-4o-2099-01-01", Usage(1000, 100), 1000 * 2.5e-6 + 100 * 1e-5),
        ("gpt-4o", Usage(1000, 100, cached_tokens=800), 200 * 2.5e-6 + 800 * 1.25e-6 + 100 * 1e-5),
        ("gpt-4o", Usage(1000, 100, service_tier="default"), 1000 * 2.5e-6 + 100 * 1e-5),
        ("gpt-4o", Usage(1000, 100, service_tier="flex"), None),
        ("gpt-4o", Usage(None, 100), None),
        ("gpt-4o", Usage(1000, None), None),
    ],
)
def test_the_cost_of_an_answer(served: str | None, usage: Usage, dollars: float | None) -> None:
    assert cost_of("gpt-4o", served, usage) == (None if dollars is None else pytest.approx(dollars))


@needs_table
def test_an_unknown_price_is_none_and_a_free_model_costs_zero() -> None:
    assert cost_of("no-such-model", None, Usage(10, 10)) is None
    assert cost_of("omni-moderation-latest", None, Usage()) == 0.0
    assert cost_of("text-embedding-3-small", None, Usage(1000)) == pytest.approx(2e-5)


@needs_table
def test_the_table_is_read_without_importing_litellm() -> None:
    script = (
        "import sys, evalrunner.endpoints.pricing as p; "
        "assert p.price_of('gpt-4o') is not None; print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=command_env())
    assert done.stdout.strip() == "False"
