"""The real LiteLLM in this process, with its mock answers and against a scripted server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, RateLimitStatus, Request
from evalrunner.endpoints.litellm import LiteLLMEndpoint
from tests.fakes.command import command_env
from tests.fakes.server import Action, Answer, Cut, Malformed, ScriptedServer, Status, always

pytestmark = [
    pytest.mark.litellm,
    pytest.mark.usefixtures("litellm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # LiteLLM's and those of what it imports while it answers
    pytest.mark.filterwarnings("ignore::UserWarning"),  # pydantic's, of the types of openai that LiteLLM builds
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # it closes its clients when they are collected
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def ask(model: str = "gpt-4o", *, base_url: str | None = None, **params: Any) -> Completion | Failure:
    async def go() -> Completion | Failure:
        endpoint = LiteLLMEndpoint(api_key="sk-geheim-1", base_url=base_url)
        result = await endpoint(Request(model, ({"role": "user", "content": "Capital of France?"},), params))
        await endpoint.aclose()
        return result

    return asyncio.run(go())


def failed(model: str = "gpt-4o", **params: Any) -> Failure:
    result = ask(model, **params)
    assert isinstance(result, Failure)
    return result


def test_an_answer_has_usage_model_and_cost() -> None:
    result = ask(mock_response="Paris")
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason, result.served_model) == ("Paris", "stop", "gpt-4o")
    assert result.input_tokens is not None
    assert result.output_tokens is not None
    assert result.cost_usd == pytest.approx(result.input_tokens * 2.5e-6 + result.output_tokens * 1e-5)


@pytest.mark.parametrize(
    ("mock", "kind", "status"),
    [
        ("litellm.RateLimitError", "rate_limit", 429),
        ("litellm.ContextWindowExceededError", "context_length", 400),
        ("litellm.InternalServerError", "server", 500),
    ],
)
def test_litellm_exceptions_map_to_failure_kinds(mock: str, kind: str, status: int) -> None:
    result = failed(mock_response=mock)
    assert (result.kind, result.status, result.fatal) == (kind, status, False)


def test_a_content_filter_is_a_finish_reason(litellm: Any) -> None:
    result = ask(mock_response=litellm.ContentPolicyViolationError("no", "gpt-4o", "openai"))
    assert isinstance(result, Completion)
    assert result.finish_reason == "filtered"


def test_an_unknown_model_is_fatal() -> None:
    result = failed("no-such-model")
    assert (result.kind, result.fatal) == ("bad_request", True)
    assert result.message.startswith("the server does not know this model; check its name")


@pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m", "mistral/m"])
def test_an_unreachable_host_is_fatal(model: str) -> None:
    result = failed(model, base_url="http://127.0.0.1:1/v1")
    assert (result.kind, result.fatal) == ("connection", True), result.message


@pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m"])
@pytest.mark.parametrize(
    ("action", "kind", "fatal"),
    [
        (Status(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}), "rate_limit", False),
        (Status(401, {"error": {"message": "no"}}), "auth", True),
        (Status(500, "oops"), "server", False),
        (
            Status(404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}),
            "bad_request",
            True,
        ),
        (Status(400, {"error": {"message": "maximum context length is 10 tokens"}}), "context_length", False),
        (Malformed(), "malformed", False),
        (Cut(0), "connection", False),
        (Cut(80), "connection", False),
    ],
)
def test_each_failure_has_its_kind_and_litellm_does_not_retry(
    model: str, action: Action, kind: str, fatal: bool
) -> None:
    with ScriptedServer(always(action)) as server:
        result = failed(model, base_url=server.base_url)
        assert (result.kind, result.fatal) == (kind, fatal)
        assert server.calls == 1
    if kind == "rate_limit":
        assert result.retry_after_s == 7.0
    assert "geheim" not in result.message


@pytest.mark.parametrize(
    ("action", "finish_reason"),
    [
        (Answer(None), "empty"),
        (Answer("Par", "length"), "length"),
        (Answer("x", "content_filter"), "filtered"),
        (Status(400, {"error": {"message": "no", "code": "content_filter"}}), "filtered"),
    ],
)
def test_finish_reasons_of_completions(action: Action, finish_reason: str) -> None:
    with ScriptedServer(always(action)) as server:
        result = ask("openai/m", base_url=server.base_url)
    assert isinstance(result, Completion)
    assert (result.finish_reason, result.cost_usd) == (finish_reason, None)


def test_a_missing_api_key_is_an_auth_failure() -> None:
    async def go() -> Completion | Failure:
        return await LiteLLMEndpoint()(Request("anthropic/claude-3-haiku", ({"role": "user", "content": "Hi"},)))

    result = asyncio.run(go())
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("auth", True)


def test_litellm_prints_nothing_and_reads_no_env_file() -> None:
    script = (
        "import asyncio, os, pathlib\n"
        "pathlib.Path('.env').write_text('STRANGE_VARIABLE=1')\n"
        "from evalrunner.endpoints.litellm import LiteLLMEndpoint\n"
        "from evalrunner.domain import Request\n"
        "async def main():\n"
        "    endpoint = LiteLLMEndpoint()\n"
        "    message = ({'role': 'user', 'content': 'x'},)\n"
        "    await endpoint(Request('gpt-4o', message, {'mock_response': 'Paris'}))\n"
        "    await endpoint(Request('gpt-4o', message, {'mock_response': 'litellm.RateLimitError'}))\n"
        "    await endpoint(Request('no-such-model', message))\n"
        "    await endpoint.aclose()\n"
        "asyncio.run(main())\n"
        "assert 'STRANGE_VARIABLE' not in os.environ\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=command_env()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_rate_limit_headers_are_passed_on() -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}
    for action in (Answer("Paris", headers=headers), Status(429, headers=headers)):
        with ScriptedServer(always(action)) as server:
            assert ask("openai/m", base_url=server.base_url).rate_limit == RateLimitStatus(3, 360.0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["abort", "insufficient_system_resource", "galaxy_brain"])
def test_finish_reasons_that_litellm_calls_a_stop_are_seen(reason: str, stream: bool) -> None:
    async def go(base_url: str) -> Completion | Failure:
        endpoint = LiteLLMEndpoint(api_key="k", base_url=base_url)
        result = await endpoint(Request("openai/m", ({"role": "user", "content": "x"},), stream=stream))
        await endpoint.aclose()
        return result

    with ScriptedServer(always(Answer("The capital of", finish_reason=reason))) as server:
        result = asyncio.run(go(server.base_url))
    if reason == "galaxy_brain":
        assert isinstance(result, Completion)
        assert result.unknown_finish_reason == reason
    else:
        assert isinstance(result, Failure)
        assert (result.kind, reason in result.message) == ("server", True)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("openai/m", "registry.ollama.ai/library/gemma3:4b does not support tools"),
        ("hosted_vllm/m", '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        ("openai/m", "deepseek-reasoner does not support this tool_choice"),
    ],
)
def test_a_refusal_of_tools_is_known_as_such(model: str, message: str) -> None:
    tool = {"type": "function", "function": {"name": "pick", "parameters": {"type": "object", "properties": {}}}}
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    with ScriptedServer(always(Status(400, body))) as server:
        endpoint = LiteLLMEndpoint(api_key="sk-1", base_url=server.base_url)
        request = Request(model, ({"role": "user", "content": "hi"},), tools=(tool,))
        result = asyncio.run(endpoint(request))
    assert isinstance(result, Failure) and result.no_tools, result


def test_a_bad_request_for_another_reason_is_no_refusal_of_tools() -> None:
    body = {"error": {"message": "temperature must be at most 2", "type": "invalid_request_error"}}
    with ScriptedServer(always(Status(400, body))) as server:
        endpoint = LiteLLMEndpoint(api_key="sk-1", base_url=server.base_url)
        result = asyncio.run(endpoint(Request("openai/m", ({"role": "user", "content": "hi"},))))
    assert isinstance(result, Failure) and not result.no_tools, result


@pytest.mark.parametrize(
    ("model", "result", "data"),
    [
        (
            "mistral/mistral-moderation-latest",
            {"categories": {"pii": True, "sexual": False}, "category_scores": {"pii": 0.9, "sexual": 0.1}},
            {"flagged": True, "categories": {"pii": True, "sexual": False}},
        ),
        (
            "openai/omni-moderation-latest",
            {
                "flagged": False,
                "categories": {"hate/threatening": False},
                "category_scores": {"hate/threatening": 0.25},
            },
            {"flagged": False, "categories": {"hate/threatening": False}},
        ),
    ],
)
def test_verdicts_of_moderation_have_the_categories_of_the_provider(model: str, result: Any, data: Any) -> None:
    with ScriptedServer(always(Status(200, {"id": "m", "model": "served", "results": [result]}))) as server:
        params = {"api_base": server.base_url, "api_key": "k"}
        answer = asyncio.run(LiteLLMEndpoint()(Request(model, params=params, kind="moderate", texts=("a text",))))
        assert server.requests[0].json == {"model": model.partition("/")[2], "input": ["a text"]}
    assert isinstance(answer, Completion), answer
    (verdict,) = answer.data
    assert {name: verdict[name] for name in ("flagged", "categories", "category_scores")} == {
        **data, "category_scores": result["category_scores"]
    }  # fmt: skip


def test_embeddings_have_a_vector_for_each_text_in_order_and_a_cost() -> None:
    vectors = [{"object": "embedding", "index": i, "embedding": [float(i), 0.5]} for i in (1, 0)]
    reply = {
        "object": "list",
        "model": "mistral-embed",
        "data": vectors,
        "usage": {"prompt_tokens": 30, "total_tokens": 30},
    }
    with ScriptedServer(always(Status(200, reply))) as server:
        params = {"api_base": server.base_url, "api_key": "k"}
        request = Request("mistral/mistral-embed", params=params, kind="embed", texts=("one", "two"))
        answer = asyncio.run(LiteLLMEndpoint()(request))
    assert isinstance(answer, Completion), answer
    assert (answer.data, answer.input_tokens) == ([[0.0, 0.5], [1.0, 0.5]], 30)
    assert answer.cost_usd == pytest.approx(30 * 0.1e-6)  # Mistral's price: 0.1 dollars per million tokens
