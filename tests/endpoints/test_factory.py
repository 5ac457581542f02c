"""The endpoint of a model: its kind, its URL, and the API key it is sent."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest

from evalrunner.domain import Completion, Request
from evalrunner.endpoints.factory import EndpointHandle, EndpointPool
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.errors import MissingExtraError, SuiteError
from evalrunner.redact import redact
from evalrunner.suite.schema import ModelSpec
from tests.fakes.server import ScriptedServer

needs_litellm = pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="the extra is not installed")
needs_local = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra is not installed")


def spec(model: str, **more: Any) -> ModelSpec:
    return ModelSpec(model, model, **more)


def opened(one: ModelSpec, **environ: str) -> EndpointHandle:
    return EndpointPool(environ=environ).open(one, timeout_s=5.0)


def sent(one: ModelSpec, server: ScriptedServer, **environ: str) -> tuple[str, str | None]:
    """The model name and the authorization header that the server receives."""

    async def ask() -> None:
        async with EndpointPool(environ=environ) as pool:
            result = pool.open(one, timeout_s=5.0)
            await pool.prepare()
            assert isinstance(await result.endpoint(Request(result.model)), Completion)

    asyncio.run(ask())
    last = server.requests[-1]
    return last.json["model"], last.headers.get("authorization")


def refusal(one: ModelSpec, **environ: str) -> str:
    with pytest.raises(SuiteError) as caught:
        opened(one, **environ)
    return str(caught.value)


def test_with_a_base_url_the_model_is_sent_unchanged_with_only_its_own_api_key() -> None:
    with ScriptedServer() as server:
        url = server.base_url
        assert sent(spec("openai/gpt-5", base_url=url), server, OPENAI_API_KEY="sk-umgebung") == ("openai/gpt-5", None)
        assert sent(spec("local/x", base_url=url, api_key=" sk-eigen-1\n"), server) == ("local/x", "Bearer sk-eigen-1")
        assert sent(spec("a:b/c", base_url=f"{url}/"), server) == ("a:b/c", None)


def test_openai_models_lose_their_prefix_and_read_key_and_base_url_from_the_environment() -> None:
    with ScriptedServer() as server:
        environ = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-umgebung"}
        assert sent(spec("openai/gpt-5-mini"), server, **environ) == ("gpt-5-mini", "Bearer sk-umgebung")
        assert sent(spec("openai/m", api_key="sk-eigen-1"), server, **environ) == ("m", "Bearer sk-eigen-1")
        assert sent(spec("openai/m"), server, OPENAI_BASE_URL=server.base_url) == ("m", None)
    result = opened(spec("openai/gpt-5-mini"), OPENAI_API_KEY="sk-umgebung")
    assert (result.model, result.host) == ("gpt-5-mini", "https://api.openai.com/v1")
    assert redact("sk-umgebung") == "[redacted]"


def test_openai_without_an_api_key_is_a_suite_error() -> None:
    assert refusal(spec("openai/gpt-5-mini")) == (
        "'openai/gpt-5-mini' needs an API key for OpenAI: set OPENAI_API_KEY, also in .env, or api_key, "
        "or set base_url to another server"
    )


def test_credentials_in_a_base_url_become_a_header_and_a_secret() -> None:
    with ScriptedServer() as server:
        url = server.base_url.replace("http://", "http://me:passw%C3%B6rt@")
        assert sent(spec("m", base_url=url), server) == ("m", "Basic bWU6cGFzc3fDtnJ0")
        result = opened(spec("m", base_url=url))
    assert "passw" not in f"{result} {result.endpoint!r}"
    assert redact("passw%C3%B6rt passwört bWU6cGFzc3fDtnJ0") == "[redacted] [redacted] [redacted]"


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("localhost:4000", "it should look like http://localhost:4000/v1"),
        ("ftp://host/v1", "it should look like http://localhost:4000/v1"),
        ("http://", "it should look like http://localhost:4000/v1"),
        ("http://[::1", "base_url is not a URL"),
        ("http://me:geheimnis", "base_url is not a URL"),
        ("http://host/v1?key=1", "has a query or a fragment"),
        ("http://host/v1#x", "has a query or a fragment"),
        ("https://r.openai.azure.com?api-version=2024-10-21", "names no deployment"),
        ("https://r.openai.azure.com/openai?api-version=1&key=2", "Only a deployment of Azure has one"),
        ("http://höst/v1", "contains characters not allowed in a URL"),
        ("http://host/a b", "contains characters not allowed in a URL"),
        ("http://host/v1/chat/completions", "must not end with '/chat/completions'"),
    ],
)
def test_an_invalid_base_url_is_a_suite_error(base_url: str, words: str) -> None:
    message = refusal(spec("m", base_url=base_url))
    assert words in message
    assert "geheimnis" not in message


def test_an_api_key_with_a_line_break_is_rejected_and_not_quoted() -> None:
    message = refusal(spec("m", base_url="http://localhost:1/v1", api_key="sk-vorn\nhinten"))
    assert "line break" in message
    assert "vorn" not in message


def test_specs_of_one_server_and_key_share_an_endpoint() -> None:
    pool = EndpointPool(environ={})
    url = "http://localhost:1/v1"
    one = pool.open(spec("a", base_url=url, api_key="sk-eigen-1"), timeout_s=5.0)
    same = pool.open(spec("b", base_url=f"{url}/", api_key="sk-eigen-1"), timeout_s=5.0)
    other = pool.open(spec("a", base_url=url, api_key="sk-eigen-2"), timeout_s=5.0)
    assert one.endpoint is same.endpoint
    assert one.key == same.key
    assert one.endpoint is not other.endpoint
    assert one.key != other.key
    assert "eigen" not in one.key + other.key
    assert isinstance(one.endpoint, OpenAIEndpoint)


@needs_local
def test_the_embedded_model_is_found_by_its_name() -> None:
    pool = EndpointPool(environ={})
    result = pool.open(spec("local/smollm2-135m-instruct"), timeout_s=5.0)
    assert (result.model, result.max_concurrency) == ("local/smollm2-135m-instruct", 1)
    assert result.endpoint is pool.open(spec("local/smollm2-135m-instruct"), timeout_s=9.0).endpoint
    asyncio.run(pool.aclose())
    assert refusal(spec("local/smollm2-135m-instrukt")) == (
        "unknown embedded model 'local/smollm2-135m-instrukt'; did you mean 'local/smollm2-135m-instruct'?"
    )


@needs_litellm
@pytest.mark.parametrize("model", ["gpt-4o", "anthropic/claude-3-haiku", "bedrock/eu:x/y"])
def test_any_other_model_goes_through_litellm(model: str) -> None:
    result = opened(spec(model))
    assert (type(result.endpoint).__name__, result.model) == ("LiteLLMEndpoint", model)


def test_a_missing_package_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for model, extra in (("anthropic/claude-3-haiku", "litellm"), ("local/smollm2-135m-instruct", "local")):
        with pytest.raises(MissingExtraError) as caught:
            opened(spec(model))
        assert caught.value.extra == extra
