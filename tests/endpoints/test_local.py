"""The real embedded model: in the process, over its own HTTP server, and at the end of a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.local import LocalEndpoint, bounded, forced_tool, request_body
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from tests.fakes.command import command_env

NAME = "local/smollm2-135m-instruct"
PICK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "select_choice",
        "parameters": {
            "type": "object",
            "properties": {"reasons": {"type": "string"}, "choice": {"type": "string", "enum": ["A", "B"]}},
            "required": ["reasons", "choice"],
        },
    },
}


def chat(text: str, *, tools: tuple[dict[str, Any], ...] = (), **params: Any) -> Request:
    messages = (
        {"role": "system", "content": "Answer with the shortest correct answer."},
        {"role": "user", "content": text},
    )
    return Request(NAME, messages, {"temperature": 0, "max_tokens": 24, **params}, tools)


CAPITAL = chat("What is the capital of France?")


def answer(endpoint: LocalEndpoint, request: Request) -> Completion | Failure:
    return asyncio.run(_ask(endpoint, request))


async def _ask(endpoint: LocalEndpoint, request: Request) -> Completion | Failure:
    return await endpoint(request)


@pytest.mark.model
def test_answers_are_deterministic_and_free_with_tokens_and_latency(embedded: LocalEndpoint) -> None:
    first, again = answer(embedded, CAPITAL), answer(embedded, CAPITAL)
    assert isinstance(first, Completion)
    assert isinstance(again, Completion)
    assert "Paris" in first.text
    assert first.text == again.text
    assert (first.finish_reason, first.cost_usd, first.served_model) == ("stop", 0.0, NAME)
    assert first.input_tokens is not None
    assert first.output_tokens is not None
    assert first.latency_s is not None
    assert first.ttft_s is not None
    assert 0 < first.ttft_s <= first.latency_s


@pytest.mark.model
def test_queueing_for_the_model_does_not_count_as_latency(embedded: LocalEndpoint) -> None:
    async def all_of_them() -> tuple[list[Completion | Failure], float]:
        begun = time.perf_counter()
        result = await asyncio.gather(*(embedded(CAPITAL) for _ in range(4)))
        return list(result), time.perf_counter() - begun

    result, took_s = asyncio.run(all_of_them())
    latencies = [one.latency_s for one in result if isinstance(one, Completion) and one.latency_s is not None]
    assert len(latencies) == 4
    assert sum(latencies) <= took_s


@pytest.mark.model
def test_truncated_answers_long_prompts_and_invalid_requests(embedded: LocalEndpoint) -> None:
    cut = answer(embedded, chat("Count from one to one hundred.", max_tokens=5))
    assert isinstance(cut, Completion)
    assert (cut.finish_reason, cut.output_tokens) == ("length", 5)
    long = answer(embedded, chat("hello " * 5000))
    assert isinstance(long, Failure)
    assert (long.kind, long.fatal) == ("context_length", False)
    odd = answer(embedded, chat("x", temperature="hot"))
    assert isinstance(odd, Failure)
    assert odd.kind == "bad_request"
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "no-such-type"}}}
    refused = answer(embedded, Request(NAME, CAPITAL.messages, {"max_tokens": 3}, response_format=schema))
    assert isinstance(refused, Failure)
    assert refused.kind == "bad_request"


@pytest.mark.model
def test_a_forced_tool_call_returns_a_tool_call(embedded: LocalEndpoint) -> None:
    forced = {"tool_choice": {"type": "function", "function": {"name": "select_choice"}}, "max_tokens": 300}
    result = answer(embedded, chat("Pick A or B.", tools=(PICK,), **forced))
    assert isinstance(result, Completion)
    assert (result.finish_reason, result.text) == ("tool_calls", "")
    arguments = json.loads(result.tool_calls[0]["function"]["arguments"])
    assert arguments["choice"] in ("A", "B")
    cut = answer(embedded, chat("Pick A or B.", tools=(PICK,), **{**forced, "max_tokens": 4}))
    assert isinstance(cut, Completion)
    assert (cut.finish_reason, cut.tool_calls) == ("length", ())


@pytest.mark.model
def test_a_canceled_call_stops_during_prompt_processing_too(embedded: LocalEndpoint) -> None:
    long = chat(" ".join(f"word{n}" for n in range(700)), max_tokens=1000)

    async def give_up() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await embedded(long)
        begun = time.perf_counter()
        assert isinstance(await embedded(chat("Hi", max_tokens=1)), Completion)  # the thread is free again
        return time.perf_counter() - begun

    assert asyncio.run(give_up()) < 10  # the prompt alone would take half a minute


@pytest.mark.model
def test_the_server_of_the_model_requires_its_key(embedded: LocalEndpoint) -> None:
    async def ask(key: str | None) -> Completion | Failure:
        transport = PyreqwestTransport()
        endpoint = OpenAIEndpoint(transport, embedded.base_url, api_key=key)
        result = await endpoint(CAPITAL)
        await transport.aclose()
        return result

    result = asyncio.run(ask(embedded.server_key))
    assert isinstance(result, Completion)
    assert ("Paris" in result.text, result.finish_reason, result.served_model) == (True, "stop", NAME)
    refused = asyncio.run(ask(None))
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.fatal) == ("auth", True)


@pytest.mark.model
@pytest.mark.parametrize("how", ["idle", "cancelled", "closed"])
def test_a_process_exits_quietly_with_calls_in_flight(embedded: LocalEndpoint, how: str) -> None:
    script = (
        "import asyncio, sys, time\n"
        "from evalrunner.endpoints.local import LocalEndpoint\n"
        "from evalrunner.domain import Request\n"
        "request = Request('m', ({'role': 'user', 'content': 'Count to a thousand'},), {'max_tokens': 3000})\n"
        "async def main(how):\n"
        "    endpoint = LocalEndpoint()\n"
        "    await endpoint.prepare()\n"
        "    calls = [asyncio.create_task(endpoint(request)) for _ in range(3 if how != 'idle' else 0)]\n"
        "    await asyncio.sleep(0.3)\n"
        "    if how == 'closed':\n"
        "        await endpoint.aclose()\n"
        "asyncio.run(main(sys.argv[1]))\n"
        "print(time.time())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, how],
        capture_output=True, text=True, check=False, env=command_env(), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert time.time() - float(done.stdout) < 5


def test_the_embedded_model_supports_chat_only() -> None:
    result = answer(LocalEndpoint(), Request(NAME, kind="embed", texts=("a",)))
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("bad_request", True)


@pytest.mark.parametrize(
    ("choice", "tool"),
    [
        ({"type": "function", "function": {"name": "select_choice"}}, "select_choice"),
        ("required", "select_choice"),
        ("auto", None),
        ("none", None),
        (None, None),
        ({"function": {"name": 3}}, None),
    ],
)
def test_which_tool_is_forced(choice: Any, tool: str | None) -> None:
    assert forced_tool(Request(NAME, params={"tool_choice": choice}, tools=(PICK,))) == tool


def test_a_forced_tool_is_requested_as_json_with_limited_texts() -> None:
    request = chat("x", tools=(PICK,), tool_choice="required")
    body = request_body(request, "select_choice")
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    assert properties == {
        "reasons": {"type": "string", "maxLength": 400},
        "choice": {"type": "string", "enum": ["A", "B"]},
    }
    assert "tool_choice" not in body
    assert PICK["function"]["parameters"]["properties"]["reasons"] == {"type": "string"}  # left as it was
    assert bounded({"anyOf": [{"type": "string", "maxLength": 5}, 3]}) == {
        "anyOf": [{"type": "string", "maxLength": 5}, 3]
    }
