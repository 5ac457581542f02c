"""The OpenAI endpoint against a scripted server: every reply becomes the right completion or failure."""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evalrunner import run_suite
from evalrunner.domain import EMPTY, Completion, Failure, Message, RateLimitStatus, Request
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import HttpReply, HttpRequest, Sink
from tests.fakes.server import (
    Action,
    Answer,
    Cut,
    Hang,
    Malformed,
    ScriptedServer,
    Slow,
    Status,
    always,
    each_request,
    in_order,
)

USER: tuple[Message, ...] = ({"role": "user", "content": "Capital of France?"},)
ASKED = Request(model="m", messages=USER)


class FixedTransport:
    """Answers every request with the same reply, and records the requests."""

    def __init__(self, body: bytes, headers: Mapping[str, str] = EMPTY) -> None:
        self.reply = HttpReply(200, headers, body)
        self.asked: list[tuple[str, Mapping[str, str], bytes | None]] = []

    async def send(self, request: HttpRequest, sink: Sink | None = None) -> HttpReply:
        self.asked.append((request.url, request.headers, request.body))
        return self.reply

    async def aclose(self) -> None:
        pass


def ask(base_url: str, *requests: Request, timeout_s: float = 20.0, **options: Any) -> list[Completion | Failure]:
    """The answers to requests sent in sequence."""

    async def go() -> list[Completion | Failure]:
        transport = PyreqwestTransport()
        endpoint = OpenAIEndpoint(transport, base_url, timeout_s=timeout_s, **options)
        try:
            return [await endpoint(request) for request in requests]
        finally:
            await transport.aclose()

    return asyncio.run(go())


def ended(action: Action) -> Completion | Failure:
    with ScriptedServer(always(action)) as server:
        return ask(server.base_url, ASKED, timeout_s=0.4)[0]


def test_the_request_that_is_sent() -> None:
    tool = {"type": "function", "function": {"name": "pick"}}
    request = Request(
        model="m",
        messages=USER,
        params={"temperature": 0, "seed": 7, "unheard_of": [1]},
        tools=(tool,),
        response_format={"type": "json_object"},
    )
    with ScriptedServer() as server:
        ask(f"{server.base_url}/", request, api_key="sk-geheim-1", headers={"X-Team": "a"})
        sent = server.requests[0]
    assert sent.path == "/v1/chat/completions"
    assert (sent.headers["authorization"], sent.headers["x-team"]) == ("Bearer sk-geheim-1", "a")
    assert sent.json == {
        "model": "m",
        "messages": [dict(message) for message in USER],
        "temperature": 0,
        "seed": 7,
        "unheard_of": [1],
        "tools": [tool],
        "response_format": {"type": "json_object"},
    }


def test_no_authorization_without_a_key_and_suite_headers_override_defaults() -> None:
    with ScriptedServer() as server:
        ask(server.base_url, ASKED)
        ask(server.base_url, ASKED, api_key="sk-geheim-1", headers={"Authorization": "Token t"})
    assert "authorization" not in server.requests[0].headers
    assert server.requests[1].headers["authorization"] == "Token t"


def test_an_answer_has_usage_finish_reason_served_model_and_latency() -> None:
    with ScriptedServer(always(Slow(0.05, Answer("Paris", model="m-2026")))) as server:
        result = ask(server.base_url, ASKED)[0]
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason, result.input_tokens, result.output_tokens) == ("Paris", "stop", 10, 2)
    assert (result.served_model, result.cost_usd) == ("m-2026", None)
    assert result.latency_s is not None
    assert 0.05 <= result.latency_s < 2


@pytest.mark.parametrize(
    ("action", "ending"),
    [
        (Answer("Par", "length"), "length"),
        (Answer(None), "empty"),
        (Answer(""), "empty"),
        (Answer("x", "content_filter"), "filtered"),
        (Answer(None, message={"refusal": "No."}), "refused"),
        (Status(400, {"error": {"message": "filtered", "code": "content_filter"}}), "filtered"),
    ],
)
def test_finish_reasons_of_completions(action: Action, ending: str) -> None:
    result = ended(action)
    assert isinstance(result, Completion)
    assert result.finish_reason == ending


@pytest.mark.parametrize(
    ("action", "kind", "fatal"),
    [
        (Status(429, {"error": {"message": "slow down"}}), "rate_limit", False),
        (Status(500, "oops"), "server", False),
        (Status(401, {"error": {"message": "no"}}), "auth", True),
        (Status(404, {"error": {"message": "no such model", "code": "model_not_found"}}), "bad_request", True),
        (Status(400, {"error": {"message": "bad temperature"}}), "bad_request", False),
        (Status(400, {"error": {"message": "", "code": "context_length_exceeded"}}), "context_length", False),
        (Status(307, headers={"location": "http://127.0.0.1:1/"}), "bad_request", True),
        (Status(200, {"error": {"message": "busy", "code": 503}}), "server", False),
        (Hang(), "timeout", False),
        (Slow(2.0), "timeout", False),
        (Cut(0), "connection", False),
        (Cut(40), "connection", False),
        (Cut(150), "connection", False),
        (Malformed(), "malformed", False),
        (Malformed(b"<html>hello</html>"), "malformed", True),
        (Malformed(b""), "malformed", False),
    ],
)
def test_failures_have_their_kind(action: Action, kind: str, fatal: bool) -> None:
    result = ended(action)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == (kind, fatal)


def test_an_unreachable_host_is_fatal_and_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert ask(f"{origin}/v1", ASKED, api_key="sk-geheim-1") == [
        Failure("connection", f"cannot connect to {origin} (connection refused); is the server running?", fatal=True)
    ]
    unknown = ask("http://no-such-host.invalid/v1", ASKED)[0]
    assert isinstance(unknown, Failure)
    assert (unknown.kind, unknown.fatal) == ("connection", True)


def test_retry_after_is_read_from_the_reply() -> None:
    result = ended(Status(429, {"error": {"message": "slow down"}}, {"retry-after": "3"}))
    assert isinstance(result, Failure)
    assert (result.status, result.retry_after_s) == (429, 3.0)


@pytest.mark.parametrize("params", [{"top_p": float("nan")}, {"when": datetime.date(2026, 1, 1)}, {"x": {1, 2}}])
def test_params_that_are_not_json_fail_before_anything_is_sent(params: dict[str, Any]) -> None:
    with ScriptedServer() as server:
        result = ask(server.base_url, Request(model="m", messages=USER, params=params))[0]
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal, server.calls) == ("bad_request", True, 0)


def test_embeddings_and_moderations_have_their_own_paths() -> None:
    vectors = Status(200, {"data": [{"index": 0, "embedding": [0.5]}], "model": "e"})
    verdicts = Status(200, {"results": [{"flagged": False}], "model": "o"})
    with ScriptedServer(in_order(vectors, verdicts)) as server:
        result = ask(
            server.base_url,
            Request(model="e", kind="embed", texts=("a",), params={"dimensions": 1}),
            Request(model="o", kind="moderate", texts=("a",)),
        )
    assert [(sent.path, sent.json) for sent in server.requests] == [
        ("/v1/embeddings", {"model": "e", "input": ["a"], "dimensions": 1}),
        ("/v1/moderations", {"model": "o", "input": ["a"]}),
    ]
    assert [answer.data for answer in result if isinstance(answer, Completion)] == [[[0.5]], [{"flagged": False}]]


def test_only_openai_itself_is_priced_by_the_table() -> None:
    body = (
        b'{"model": "gpt-4o-2024-08-06", "choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}],'
        b' "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}'
    )

    async def cost(base_url: str, headers: Mapping[str, str] = EMPTY) -> float | None:
        endpoint = OpenAIEndpoint(FixedTransport(body, headers), base_url, api_key="sk-geheim-1")
        result = await endpoint(Request(model="gpt-4o", messages=USER))
        assert isinstance(result, Completion)
        return result.cost_usd

    listed = importlib.util.find_spec("litellm") is not None  # the price table comes with it
    assert asyncio.run(cost("https://api.openai.com/v1")) == (pytest.approx(0.0035) if listed else None)
    assert asyncio.run(cost("http://localhost:4000/v1")) is None
    assert asyncio.run(cost("https://api.openai.com/v1", {"x-litellm-response-cost": "0.5"})) == 0.5
    assert asyncio.run(cost("https://api.openai.com.evil.example/v1")) is None


def test_many_concurrent_calls_share_one_pool() -> None:
    with ScriptedServer(each_request(Status(500, "once"), Answer("Paris"))) as server:

        async def go() -> list[Completion | Failure]:
            transport = PyreqwestTransport()
            endpoint = OpenAIEndpoint(transport, server.base_url)
            requests = [Request(model="m", messages=({"role": "user", "content": str(n)},)) for n in range(300)]
            result = [*await asyncio.gather(*map(endpoint, requests)), *await asyncio.gather(*map(endpoint, requests))]
            await transport.aclose()
            return result

        result = asyncio.run(go())
        assert [isinstance(answer, Failure) for answer in result] == [True] * 300 + [False] * 300
        assert (server.calls, server.in_flight) == (600, 0)


def test_the_repr_of_an_endpoint_has_no_api_key() -> None:
    endpoint = OpenAIEndpoint(FixedTransport(b"{}"), "http://user:passwort@localhost:1/v1", api_key="sk-geheim-1")
    assert repr(endpoint) == "OpenAIEndpoint('http://localhost:1')"


def test_answers_and_failures_have_the_rate_limit_status() -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}
    assert ended(Answer("Paris", headers=headers)).rate_limit == RateLimitStatus(3, 360.0)
    assert ended(Status(429, headers=headers)).rate_limit == RateLimitStatus(3, 360.0)
    assert ended(Answer("Paris")).rate_limit is None


@pytest.mark.parametrize(
    "path", ["/openai/deployments/d", "/openai/deployments/d/", "/openai/deployments/d/chat/completions"]
)
@pytest.mark.parametrize(
    ("key", "headers"),
    [
        ("k1", {"api-key": "k1"}),
        ("eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln", {"authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln"}),
    ],
    ids=["key", "token"],
)  # fmt: skip
def test_a_deployment_of_azure_is_asked_with_its_version_and_header(
    path: str, key: str, headers: dict[str, str]
) -> None:
    with ScriptedServer() as server:
        address = f"http://127.0.0.1:{server.port}{path}?api-version=2024-10-21"
        Path("s.yaml").write_text(
            f"dataset: {{rows: [{{input: a, expected: ok}}]}}\nscorers: [contains]\n"
            f"target: {{model: gpt-4o, base_url: '{address}', api_key: {key}}}\n"
        )
        assert run_suite("s.yaml").exit_code == 0
        (request,) = server.requests
    assert request.path == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    sent = {name: value for name, value in request.headers.items() if name in ("api-key", "authorization")}
    assert sent == headers
