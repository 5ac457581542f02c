"""Streamed answers over real sockets: time to the first token, and broken streams."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.litellm import LiteLLMEndpoint
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from tests.endpoints.conftest import Proxy
from tests.fakes.command import evalrun
from tests.fakes.server import (
    DONE,
    Action,
    Answer,
    Cut,
    Hang,
    ScriptedServer,
    Status,
    Streamed,
    always,
    delta,
    event,
)

USER = ({"role": "user", "content": "Capital of France?"},)
ASKED = Request("m", USER, stream=True)
PLAIN = {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}


def ask(
    server: ScriptedServer, times: int = 1, *, timeout_s: float = 20.0, transport: PyreqwestTransport | None = None
) -> list[Completion | Failure]:
    async def go() -> list[Completion | Failure]:
        used = transport or PyreqwestTransport()
        endpoint = OpenAIEndpoint(used, server.base_url, timeout_s=timeout_s)
        try:
            return [await endpoint(ASKED) for _ in range(times)]
        finally:
            await used.aclose()

    return asyncio.run(go())


def test_a_streamed_answer_has_the_time_to_the_first_token() -> None:
    with ScriptedServer(always(Answer("Paris it is", pause_s=0.1, model="m-2"))) as server:
        result = ask(server, 3)[2]
        assert server.requests[0].json == {
            "model": "m",
            "messages": [dict(message) for message in USER],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        assert server.connections == 1  # which is used again
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason, result.served_model) == ("Paris it is", "stop", "m-2")
    assert (result.input_tokens, result.output_tokens) == (10, 2)
    assert result.ttft_s is not None
    assert result.latency_s is not None
    assert (
        0.2 <= result.ttft_s < result.latency_s - 0.2
    )  # the first piece has no text; two words and the end come after


def test_requests_with_and_without_streaming_are_equal() -> None:
    assert Request("m", USER, stream=True) == Request("m", USER)
    assert hash(Request("m", stream=True)) == hash(Request("m"))


def test_a_server_that_does_not_stream_answers_without_a_time_to_the_first_token() -> None:
    with ScriptedServer(always(Status(200, PLAIN))) as server:
        result = ask(server)[0]
    assert isinstance(result, Completion)
    assert (result.text, result.ttft_s) == ("Paris", None)
    assert result.latency_s is not None


@pytest.mark.parametrize("status", [400, 422])
def test_rejected_stream_options_are_not_sent_again(status: int) -> None:
    def strict(request: Any, _nth: int) -> Action:
        if "stream_options" in request:
            return Status(status, {"error": {"message": "Unrecognized request argument: stream_options"}})
        return Answer("Paris")

    with ScriptedServer(strict) as server:
        result = ask(server, 2)
        assert ["stream_options" in request.json for request in server.requests] == [True, False, False]
    assert [answer.text for answer in result if isinstance(answer, Completion)] == ["Paris", "Paris"]
    assert isinstance(result[0], Completion)
    assert result[0].output_tokens is None


PAR = event(delta(content="Par"))


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Streamed((PAR,), "cut"), "connection"),
        (Streamed((PAR[:-20],), "cut"), "connection"),
        (Streamed((PAR,)), "connection"),
        (Streamed((b": ping\n\n",)), "connection"),
        (Streamed(()), "malformed"),
        (Streamed((PAR, event({"error": {"message": "slow down", "code": 429}}))), "rate_limit"),
        (Streamed((PAR, event({"error": {"message": "oops"}})), "cut"), "server"),
        (Streamed((PAR, b"data: {broken\n\n", event(delta("stop")), DONE)), "malformed"),
        (Status(429, {"error": {"message": "slow down"}}, {"retry-after": "1"}), "rate_limit"),
        (Status(500, "oops"), "server"),
        (Status(400, {"error": {"message": "no such parameter"}}), "bad_request"),
        (Status(200, "<html>"), "malformed"),
        (Cut(30), "connection"),
    ],
)
def test_a_broken_stream_is_a_failure(action: Action, kind: str) -> None:
    with ScriptedServer(always(action)) as server:
        result = ask(server)[0]
        assert server.calls == 1
    assert isinstance(result, Failure), result
    assert result.kind == kind


@pytest.mark.parametrize("action", [Hang(), Streamed((PAR,), "hang"), Streamed((PAR, *(0.05, PAR) * 100))])
def test_a_stream_ends_at_the_timeout_and_drops_its_connection(action: Action) -> None:
    with ScriptedServer(always(action)) as server:
        result = ask(server, timeout_s=0.3)[0]
        assert isinstance(result, Failure)
        assert (result.kind, result.message) == ("timeout", "no answer within 0.3 s")
        assert server.settle() == (1, 1, 0)


def test_a_canceled_stream_drops_its_connection() -> None:
    with ScriptedServer(always(Streamed((PAR,), "hang"))) as server:

        async def give_up() -> None:
            transport = PyreqwestTransport()
            task = asyncio.create_task(OpenAIEndpoint(transport, server.base_url, timeout_s=60)(ASKED))
            await asyncio.sleep(0.3)  # in which the first piece has come
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(server.settle)
            await transport.aclose()

        asyncio.run(give_up())
        assert server.settle() == (1, 1, 0)


@pytest.mark.parametrize("ending", ["hang", "cut"])
def test_a_broken_connection_after_the_last_chunk_is_ignored(ending: Any) -> None:
    pieces = (PAR, event(delta("stop", content="is")), event({"choices": [], "usage": {"completion_tokens": 2}}), DONE)
    with ScriptedServer(always(Streamed(pieces, ending))) as server:
        result = ask(server, 2)[1]
    assert isinstance(result, Completion)
    assert (result.text, result.output_tokens) == ("Paris", 2)
    assert result.latency_s is not None
    assert result.latency_s < 0.4  # what is waited for the end of the body is no latency


def test_an_answer_with_a_finish_reason_is_complete_without_the_rest() -> None:
    with ScriptedServer(always(Streamed((PAR, event(delta("length"))), "hang"))) as server:
        result = ask(server, timeout_s=0.3)[0]
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason, result.output_tokens) == ("Par", "length", None)


def test_a_stream_larger_than_allowed_is_a_failure() -> None:
    with ScriptedServer(always(Streamed((PAR * 2000, DONE)))) as server:
        result = ask(server, transport=PyreqwestTransport(max_body_bytes=100_000))[0]
    assert isinstance(result, Failure)
    assert "larger than" in result.message


def suite(base_url: str, *, run: dict[str, Any], gates: tuple[str, ...] = (), **target: Any) -> str:
    data = {
        "name": "s",
        "dataset": {"rows": [{"input": str(place), "expected": "Paris it is"} for place in range(4)]},
        "target": {"model": "m", "base_url": base_url, **target},
        "scorers": ["exact_match"],
        "gates": list(gates),
        "run": {"retries": 0, **run},
    }
    Path("s.yaml").write_text(json.dumps(data))
    return "s.yaml"


@pytest.mark.parametrize(("run", "target"), [({"stream": True}, {}), ({}, {"stream": True})])
def test_a_streaming_run_has_ttft_and_output_rate(run: dict[str, Any], target: dict[str, Any]) -> None:
    with ScriptedServer(always(Answer("Paris it is", pause_s=0.02, output_tokens=6))) as server:
        done = evalrun(suite(server.base_url, run=run, gates=("ttft/p90 < 20", "output_rate > 0.1"), **target))
    warnings = [line for line in done.stderr.splitlines() if "rows/s" not in line]  # progress on a busy machine
    assert (done.returncode, warnings) == (0, []), done
    assert "first token p50 0." in done.stdout
    (folder,) = Path("runs/s").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text())["targets"]["m"]["metrics"]
    result = {metric["name"]: metric for metric in metrics}
    assert {name for name in result if name.startswith(("ttft", "output_rate"))} == {
        f"{name}/{aggregate}" for name in ("ttft", "output_rate") for aggregate in ("mean", "p50", "p90", "p99")
    }
    assert (result["ttft/p50"]["n"], result["ttft/p50"]["unit"], result["ttft/p50"]["higher_is_better"]) == (
        4,
        "s",
        False,
    )
    assert (result["output_rate/p50"]["unit"], result["output_rate/p50"]["higher_is_better"]) == ("tokens/s", True)
    head, first, *_ = (folder / "table.csv").read_text().splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert float(row["output_rate"]) == pytest.approx(6 / (float(row["latency"]) - float(row["ttft"])))
    displayed = evalrun("show", "last")
    assert "first token p50" in displayed.stdout


def test_a_run_without_streaming_has_no_ttft() -> None:
    with ScriptedServer(always(Answer("Paris it is"))) as server:
        result = run_suite(suite(server.base_url, run={}), options=RunOptions())
        assert "stream" not in server.requests[0].json
    assert [name for name in result.metrics if name.startswith(("ttft", "output_rate"))] == []
    assert "ttft" not in (result.folder / "table.csv").read_text()


@pytest.mark.parametrize("target", [{}, {"stream": False}])
def test_a_ttft_gate_without_streaming_is_a_suite_error(target: dict[str, Any]) -> None:
    run = {"stream": bool(target)}  # a target's own word goes first
    with pytest.raises(SuiteError, match="metric 'ttft/p90' needs streamed answers; set stream: true"):
        run_suite(suite("http://127.0.0.1:1/v1", run=run, gates=("ttft/p90 < 1",), **target))


def test_a_ttft_gate_is_untrusted_if_the_server_does_not_stream() -> None:
    with ScriptedServer(always(Status(200, PLAIN))) as server:
        result = run_suite(suite(server.base_url, run={"stream": True}, gates=("ttft < 1",)))
    assert (result.exit_code, result.verdict) == (3, "untrusted")
    assert "the provider did not report it for 4" in result.gates[0].reason


LITELLM = [
    pytest.mark.litellm,
    pytest.mark.usefixtures("litellm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # as in test_litellm_sdk.py
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def ask_litellm(model: str = "openai/x", base_url: str | None = None, **params: Any) -> Completion | Failure:
    async def go() -> Completion | Failure:
        endpoint = LiteLLMEndpoint(api_key="sk-geheim-1", base_url=base_url)
        result = await endpoint(Request(model, USER, params, stream=True))
        await endpoint.aclose()
        return result

    return asyncio.run(go())


class TestThroughLiteLLM:
    pytestmark = LITELLM

    def test_an_answer_has_usage_cost_and_the_time_of_its_first_piece(self) -> None:
        result = ask_litellm("gpt-4o", mock_response="Paris")
        assert isinstance(result, Completion)
        assert (result.text, result.finish_reason, result.served_model) == ("Paris", "stop", "gpt-4o")
        assert result.ttft_s is not None
        assert result.input_tokens is not None
        assert result.output_tokens is not None
        assert result.cost_usd == pytest.approx(result.input_tokens * 2.5e-6 + result.output_tokens * 1e-5)

    def test_litellm_streams_from_a_server_with_usage(self) -> None:
        with ScriptedServer(always(Answer("Paris it is", pause_s=0.05))) as server:
            result = ask_litellm(base_url=server.base_url)
            assert server.requests[0].json["stream_options"] == {"include_usage": True}
        assert isinstance(result, Completion)
        assert (result.text, result.finish_reason, result.input_tokens, result.output_tokens) == (
            "Paris it is",
            "stop",
            10,
            2,
        )
        assert result.cost_usd is None
        assert result.ttft_s is not None
        assert result.latency_s is not None
        assert result.ttft_s < result.latency_s

    @pytest.mark.parametrize(
        ("action", "kind"),
        [
            (Streamed((PAR,), "cut"), "connection"),
            (Streamed((PAR,)), "connection"),  # LiteLLM itself makes an answer of it that ended well
            (Streamed((PAR, event({"error": {"message": "oops"}}))), "connection"),
            (Status(429, {"error": {"message": "slow down"}}), "rate_limit"),
            (Status(500, "oops"), "server"),
        ],
    )
    def test_a_broken_stream_is_a_failure(self, action: Action, kind: str) -> None:
        with ScriptedServer(always(action)) as server:
            result = ask_litellm(base_url=server.base_url)
            assert server.calls == 1
        assert isinstance(result, Failure), result
        assert result.kind == kind

    def test_stream_options_that_are_refused_are_left_out(self) -> None:
        def strict(request: Any, _nth: int) -> Action:
            refused = "stream_options" in request
            return Status(400, {"error": {"message": "unknown field stream_options"}}) if refused else Answer("Paris")

        with ScriptedServer(strict) as server:
            result = ask_litellm(base_url=server.base_url)
            assert server.calls == 2
        assert isinstance(result, Completion)
        assert result.text == "Paris"


@pytest.mark.slow
@pytest.mark.litellm
@pytest.mark.model
def test_streaming_through_a_real_proxy(proxy: Proxy) -> None:
    async def go() -> Completion | Failure:
        transport = PyreqwestTransport()
        endpoint = OpenAIEndpoint(transport, proxy.base_url, api_key=proxy.key)
        result = await endpoint(Request("small", USER, {"temperature": 0, "max_tokens": 20}, stream=True))
        await transport.aclose()
        return result

    result = asyncio.run(go())
    assert isinstance(result, Completion), result
    assert result.text
    assert result.output_tokens
    assert result.ttft_s is not None
    assert result.latency_s is not None
    assert result.ttft_s < result.latency_s


@pytest.mark.model
def test_the_server_of_the_embedded_model_streams(embedded: Any) -> None:
    async def ask_twice() -> list[Completion | Failure]:
        transport = PyreqwestTransport()
        endpoint = OpenAIEndpoint(transport, embedded.base_url, api_key=embedded.server_key)
        params = {"temperature": 0, "max_tokens": 12}
        result = [await endpoint(Request("m", USER, params, stream=stream)) for stream in (False, True)]
        await transport.aclose()
        return result

    plain, streamed = asyncio.run(ask_twice())
    assert isinstance(plain, Completion)
    assert isinstance(streamed, Completion)
    assert (plain.text, plain.finish_reason, plain.output_tokens) == (
        streamed.text,
        streamed.finish_reason,
        streamed.output_tokens,
    )
    assert (plain.ttft_s, streamed.ttft_s is not None) == (None, True)
