"""Redirects are not followed: neither keys nor prompts go to an address that the suite does not name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.endpoints.litellm import LiteLLMEndpoint
from evalrunner.errors import SuiteError
from evalrunner.suite.schema import ModelSpec
from tests.cases.suites import command
from tests.fakes.server import Answer, Raw, ScriptedServer, always

STATUS = (301, 302, 303, 307, 308)
PLACES = ("path", "port", "host")


@contextmanager
def redirecting(status: int, place: str) -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    """A server that redirects everything, and the one that must not get anything."""
    with ScriptedServer(always(Answer("stolen"))) as other, ScriptedServer() as server:
        location = {
            "path": "/elsewhere",
            "port": f"http://127.0.0.1:{other.port}/v1/chat/completions",
            "host": f"http://localhost:{other.port}/v1/chat/completions",
        }[place]
        head = f"HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        server.script = always(Raw(head.encode()))
        yield server, other


def assert_refused(answer: Completion | Failure, server: ScriptedServer, other: ScriptedServer) -> None:
    assert isinstance(answer, Failure), answer
    assert answer.message.startswith("redirects to another address are not followed (HTTP 30")
    assert (answer.kind, answer.fatal) == ("bad_request", True)
    assert (server.calls, other.calls) == (1, 0)
    assert "/elsewhere" not in [request.path for request in server.requests]


@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("status", STATUS)
def test_a_run_sends_nothing_to_the_address_of_a_redirect(
    status: int, place: str, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither calls nor look-ups of prices, of a model or of a service."""
    monkeypatch.chdir(tmp_path)
    with redirecting(status, place) as (server, other):
        target = {"base_url": server.base_url, "api_key": "sk-geheim-1", "headers": {"x-secret": "1"}}
        service = {"type": "http", "url": f"{server.base_url}/ask", "body": {"q": "{{ input }}"}, "output": "a"}
        for form in ({"model": "m", **target}, {**service, "headers": {"x-secret": "1"}}):
            Path("s.json").write_text(
                json.dumps({
                    "dataset": {"rows": [{"input": "CONFIDENTIAL", "expected": "x"}]}, "scorers": ["contains"],
                    "target": {**form, "transport": transport},
                })
            )  # fmt: skip
            Path("s.json").rename("s.yaml")
            done = command("s.yaml")
            assert done.code == 3, done.out + done.err
            assert "redirects to another address are not followed" in " ".join((done.out + done.err).split())
        assert other.calls == 0
        assert "/elsewhere" not in [request.path for request in server.requests]


LITELLM = {
    "anthropic/claude-3-5-haiku-latest": {},
    "hosted_vllm/m": {},
    "openai/m": {},
    "azure/m": {"api_version": "2024-10-21"},
    "azure_ai/m": {},
    "gemini/gemini-1.5-flash": {},
    "mistral/m": {},
    "cohere_chat/command-r": {},
    "groq/m": {},
    "deepseek/m": {},
    "ollama/m": {},
    "ollama_chat/m": {},
    "openrouter/m": {},
    "huggingface/x/y": {},
    "watsonx/m": {"project_id": "p", "token": "t"},
    "together_ai/m": {},
    "bedrock/anthropic.claude-3-haiku-20240307-v1:0": {
        "aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_region_name": "us-east-1",
    },
}  # fmt: skip


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", LITELLM)
def test_litellm_sends_nothing_to_the_address_of_a_redirect(model: str, stream: bool) -> None:
    if model.startswith("bedrock/"):
        pytest.importorskip("boto3")
    with redirecting(307, "port") as (server, other):
        assert_refused(ask_litellm(model, server, stream=stream, **LITELLM[model]), server, other)


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("status", STATUS)
@pytest.mark.parametrize("model", ["anthropic/claude-3-5-haiku-latest", "openai/m"])
def test_litellm_follows_no_kind_of_redirect(model: str, status: int, place: str) -> None:
    with redirecting(status, place) as (server, other):
        assert_refused(ask_litellm(model, server), server, other)


def ask_litellm(model: str, server: ScriptedServer, *, stream: bool = False, **params: Any) -> Completion | Failure:
    async def go() -> Completion | Failure:
        endpoint = LiteLLMEndpoint(api_key="sk-geheim-1", base_url=server.base_url, headers={"x-secret": "1"})
        try:
            return await endpoint(Request(model, ({"role": "user", "content": "CONFIDENTIAL"},), params, stream=stream))
        finally:
            await endpoint.aclose()

    return asyncio.run(go())


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
def test_clients_of_others_in_this_process_follow_redirects_as_before() -> None:
    import httpx

    async def go() -> int:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            return (await client.post(f"{server.base_url}/chat/completions", json={})).status_code

    with redirecting(307, "port") as (server, other):
        assert asyncio.run(go()) == 200
        assert other.calls == 1
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(server.base_url).status_code == 200


@pytest.mark.litellm
def test_a_model_whose_library_follows_redirects_is_refused_before_the_first_call() -> None:
    with pytest.raises(SuiteError, match="would follow redirects with your API key; set base_url"):
        EndpointPool().open(ModelSpec("aiohttp_openai/m"), timeout_s=1)
