"""A real LiteLLM proxy in front of the embedded model: the most common gateway, with its own failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from tests.endpoints.conftest import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.litellm, pytest.mark.model]


def ask(proxy: Proxy, model: str, text: str = "Capital of France?", *, key: str | None = None) -> Completion | Failure:
    async def go() -> Completion | Failure:
        transport = PyreqwestTransport()
        endpoint = OpenAIEndpoint(transport, proxy.base_url, api_key=key or proxy.key)
        params: dict[str, Any] = {"temperature": 0, "max_tokens": 20}
        result = await endpoint(Request(model, ({"role": "user", "content": text},), params))
        await transport.aclose()
        return result

    return asyncio.run(go())


def failed(proxy: Proxy, model: str, text: str = "x", *, key: str | None = None) -> tuple[str, bool]:
    result = ask(proxy, model, text, key=key)
    assert isinstance(result, Failure), result
    assert proxy.key not in result.message
    return result.kind, result.fatal


def test_the_proxy_returns_an_answer_with_usage_and_no_cost(proxy: Proxy) -> None:
    result = ask(proxy, "small")
    assert isinstance(result, Completion), result
    assert result.text
    assert result.input_tokens
    assert result.cost_usd is None  # it has no price for a custom model


def test_the_proxy_states_the_cost_of_a_priced_model(proxy: Proxy) -> None:
    result = ask(proxy, "gpt-4o")
    assert isinstance(result, Completion), result
    assert result.cost_usd is not None
    assert result.cost_usd > 0


def test_failures_of_the_proxy_have_their_kind(proxy: Proxy) -> None:
    assert failed(proxy, "no-such-model") == ("bad_request", True)
    assert failed(proxy, "small", key="sk-wrong-key-1") == ("auth", True)
    assert failed(proxy, "busy") == ("rate_limit", False)
    assert failed(proxy, "small", "hello " * 5000) == ("context_length", False)
    assert failed(proxy, "dead")[0] in ("server", "connection")
