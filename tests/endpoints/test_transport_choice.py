"""Which transport sends the requests of a model: what a suite may ask for, what the environment needs, own clients."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalrunner import RunOptions, SuiteResult, run_suite
from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.endpoints.httpx_transport import HttpxTransport
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import HttpRequest, Transport
from evalrunner.errors import SuiteError
from evalrunner.suite.schema import ModelSpec, PaceSpec, TransportSpec
from tests.fakes.server import Answer, ScriptedServer, Slow, always
from tests.fakes.socks import SocksProxy

SUITE = """\
name: capitals
dataset: {{rows: [{{id: fr, input: France, expected: Paris}}, {{id: jp, input: Japan, expected: Paris}}]}}
target: {target}
scorers: [contains]
run: {{retries: 0}}
"""
URL = "http://model.test/v1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def spec(base_url: str = URL, **transport: Any) -> ModelSpec:
    pace = PaceSpec(transport=TransportSpec(**transport) if transport else None)
    return ModelSpec("m", "m", base_url=base_url, pace=pace)


def transport_of(one: ModelSpec, folder: Path = Path(), **environ: str) -> Transport:
    """The transport that the pool chooses, without a call."""
    return EndpointPool(environ=environ).open(one, timeout_s=5.0, folder=folder).endpoint._transport.inner  # type: ignore[attr-defined,no-any-return]


def run(tmp_path: Path, target: str, **options: Any) -> SuiteResult:
    (tmp_path / "suite.yaml").write_text(SUITE.format(target=target))
    return run_suite(tmp_path / "suite.yaml", options=RunOptions(output_dir=tmp_path / "runs"), **options)


def problem(tmp_path: Path, target: str) -> str:
    with pytest.raises(SuiteError) as caught:
        run(tmp_path, target)
    return str(caught.value)


def answering(request: httpx.Request) -> httpx.Response:
    message = {"role": "assistant", "content": f"Paris, {json.loads(request.content)['messages'][0]['content']}"}
    return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})


def test_pyreqwest_is_the_default_and_httpx_a_choice() -> None:
    assert isinstance(transport_of(spec()), PyreqwestTransport)
    assert isinstance(transport_of(spec(type="pyreqwest")), PyreqwestTransport)
    assert isinstance(transport_of(spec(type="httpx")), HttpxTransport)
    assert isinstance(transport_of(spec(verify=False)), HttpxTransport)
    assert isinstance(transport_of(spec(uds="/tmp/none")), HttpxTransport)


def test_httpx_is_used_where_pyreqwest_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyreqwest.client", None)
    assert isinstance(transport_of(spec()), HttpxTransport)
    with pytest.raises(SuiteError, match="transport: pyreqwest cannot be imported here"):
        transport_of(spec(type="pyreqwest"))


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY", "http_proxy"])
def test_httpx_is_used_where_the_environment_sets_a_socks_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = "socks5://127.0.0.1:1"
    monkeypatch.setenv(name, proxy)
    assert isinstance(transport_of(spec(), **{name: proxy}), HttpxTransport)
    monkeypatch.setenv("no_proxy", "model.test")
    assert isinstance(transport_of(spec(), **{name: proxy}), PyreqwestTransport)


def test_a_run_goes_through_a_socks_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SocksProxy() as proxy, ScriptedServer(always(Answer("Paris"))) as server:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
        assert run(tmp_path, f"{{model: m, base_url: '{server.base_url}'}}").metrics["contains/v1"] == 1
        assert (proxy.connections > 0, server.calls) == (True, 2)


def test_models_of_one_server_with_different_transports_share_no_endpoint() -> None:
    pool = EndpointPool(environ={})
    one, same, other = (pool.open(each, timeout_s=5.0) for each in (spec(), spec(), spec(type="httpx")))
    assert one.endpoint is same.endpoint
    assert one.endpoint is not other.endpoint
    assert one.key == other.key  # but they share one concurrency limit: the server is the same


def test_servers_on_different_unix_sockets_share_neither_limits_nor_cached_answers() -> None:
    pool = EndpointPool(environ={})
    one, same, other = (pool.open(spec(uds=path), timeout_s=5.0) for path in ("/tmp/a", "/tmp/a", "/tmp/b"))
    assert (one.key, one.identity) == (same.key, same.identity)
    assert one.key != other.key
    assert one.identity != other.identity
    assert one.host == other.host == URL


def test_a_model_on_a_unix_socket_relative_to_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ScriptedServer(always(Answer("Paris")), uds=str(tmp_path / "s")) as server:
        result = run(tmp_path, f"{{model: m, base_url: '{URL}', transport: {{uds: s}}}}")
        assert (result.metrics["contains/v1"], server.calls) == (1, 2)


def test_an_http_service_takes_a_transport_too(tmp_path: Path) -> None:
    with ScriptedServer(always(Answer("Paris"))) as server:
        target = f"{{type: http, url: '{server.base_url}', body: '{{{{ input }}}}', transport: httpx}}"
        assert run(tmp_path, target).metrics["contains/v1"] == 1
        assert server.requests[0].headers["accept"] == "application/json, */*"


def test_the_transport_is_recorded_as_written_and_free_to_change_at_resume(tmp_path: Path) -> None:
    with ScriptedServer(always(Answer("Paris"))) as server:
        target = f"{{model: m, base_url: '{server.base_url}'%s}}"
        first = run(tmp_path, target % ", transport: {type: httpx}")
        assert json.loads((first.folder / "run.json").read_text())["resolved"]["targets"][0]["transport"] == {
            "type": "httpx"
        }
        (tmp_path / "suite.yaml").write_text(SUITE.format(target=target % ""))
        options = RunOptions(output_dir=tmp_path / "runs", resume=first.run_id)
        assert run_suite(tmp_path / "suite.yaml", options=options).run_id == first.run_id
        assert server.calls == 2


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        ("curl", "transport.type: is 'curl'; it should be one of pyreqwest, httpx"),
        ("3", "target.transport: is 3; it should be a mapping"),
        ("{tipe: httpx}", "transport.tipe: unknown key; did you mean 'type'?"),
        ("{cert: none.pem}", "transport.cert: there is no file"),
        ("{key: suite.yaml}", "transport.key: needs 'cert'"),
        ("{verify: none.pem}", "transport.verify: there is no file"),
        ("{cert: suite.yaml}", "cannot be loaded"),
        ("{verify: suite.yaml}", "cannot be loaded"),
        ("{type: pyreqwest, uds: s}", "transport.type: is pyreqwest, which has no 'uds'; use httpx"),
        ("{client: clients.py:make, uds: s}", "transport.uds: cannot be combined with 'client'"),
        ("{client: clients.py:make}", "there is no file 'clients.py'"),
        ("{client: 'json:dumps'}", "transport.client: 'json:dumps' raised TypeError"),
        ("{client: 'sys:version'}", "transport.client: 'sys:version' is a str, not a function"),
        ("{client: 'time:time'}", "transport.client: 'time:time' returned a float, not an httpx.AsyncClient"),
    ],
)
def test_a_wrong_transport_is_a_suite_error_with_its_position(tmp_path: Path, transport: str, words: str) -> None:
    message = problem(tmp_path, f"{{model: m, base_url: '{URL}', transport: {transport}}}")
    assert words in message
    assert "suite.yaml:3:" in message


def test_a_judge_takes_a_transport_too(tmp_path: Path) -> None:
    (tmp_path / "clients.py").write_text(CLIENT.replace("Paris", "not a verdict"))
    text = SUITE.format(target="{type: recorded, column: expected}").replace("contains", "factuality")
    judge = f"judge: {{model: m, base_url: '{URL}', transport: {{client: clients.py:make_client}}}}\njudge_check: off\n"
    (tmp_path / "suite.yaml").write_text(text + judge)
    result = run_suite(tmp_path / "suite.yaml", options=RunOptions(output_dir=tmp_path / "runs"))
    assert list(result.table["factuality/v1/state"]) == ["unscored"] * 2
    (tmp_path / "suite.yaml").write_text(text + judge.replace("make_client}", "make_client, uds: s}"))
    with pytest.raises(SuiteError, match=r"judge\.transport\.uds: cannot be combined with 'client'"):
        run_suite(tmp_path / "suite.yaml")


@pytest.mark.parametrize("model", ["local/smollm2-135m-instruct", "anthropic/claude-3-haiku"])
def test_a_transport_for_a_model_without_http_requests_of_ours_is_refused(tmp_path: Path, model: str) -> None:
    assert "'transport' has no effect on" in problem(tmp_path, f"{{model: {model}, transport: httpx}}")


CLIENT = """\
import httpx
class Token(httpx.Auth):
    requires_response_body = True
    def __init__(self): self.token = "old"
    def auth_flow(self, request):
        request.headers["authorization"] = f"Bearer {self.token}"
        response = yield request
        if response.status_code == 401:
            fresh = yield httpx.Request("POST", "http://model.test/token")
            self.token = fresh.json()["access_token"]
            request.headers["authorization"] = f"Bearer {self.token}"
            yield request
def handler(request):
    if request.url.path == "/token":
        return httpx.Response(200, json={"access_token": "new"})
    if request.headers["authorization"] != "Bearer new":
        return httpx.Response(401)
    return httpx.Response(200, json={"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]})
made = []
def make_client():
    made.append(httpx.AsyncClient(auth=Token(), transport=httpx.MockTransport(handler)))
    return made[-1]
shared = httpx.AsyncClient(auth=Token(), transport=httpx.MockTransport(handler))
"""


def test_a_user_defined_client_brings_its_own_auth_and_is_closed_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "clients.py").write_text(CLIENT)
    result = run(tmp_path, f"{{model: m, base_url: '{URL}', transport: {{client: clients.py:make_client}}}}")
    assert result.metrics["contains/v1"] == 1
    module = next(module for module in sys.modules.values() if getattr(module, "__file__", "") == str(tmp_path / "clients.py"))  # fmt: skip
    assert [client.is_closed for client in module.made] == [True]
    text = (result.folder / "run.json").read_text()
    assert "clients.py:make_client" in text


def test_a_client_object_stays_open(tmp_path: Path) -> None:
    (tmp_path / "clients.py").write_text(CLIENT)
    result = run(tmp_path, f"{{model: m, base_url: '{URL}', transport: {{client: clients.py:shared}}}}")
    assert result.metrics["contains/v1"] == 1
    module = next(module for module in sys.modules.values() if getattr(module, "__file__", "") == str(tmp_path / "clients.py"))  # fmt: skip
    assert not module.shared.is_closed


def test_run_suite_sends_all_requests_through_http_client_and_leaves_it_open(tmp_path: Path) -> None:
    seen: list[httpx.URL] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(request.url)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answering), event_hooks={"request": [hook]})
    result = run(tmp_path, f"{{model: m, base_url: '{URL}'}}", http_client=client)
    assert result.metrics["contains/v1"] == 1
    assert list(result.table["output"]) == ["Paris, France", "Paris, Japan"]
    assert seen == [httpx.URL(f"{URL}/chat/completions")] * 2
    assert not client.is_closed


def test_http_client_must_be_an_async_client(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"http_client is a Client; it should be an httpx\.AsyncClient"):
        run(tmp_path, URL, http_client=httpx.Client())


def result_of(handler: Callable[[httpx.Request], Any], timeout_s: float = 5.0, **options: Any) -> Completion | Failure:
    """The answer through a client with a mock transport."""

    async def ask() -> Completion | Failure:
        client = httpx.AsyncClient(transport=httpx.MockTransport(handler), **options)
        async with EndpointPool(http_client=client) as pool:
            handle = pool.open(spec(), timeout_s=timeout_s)
            return await handle.endpoint(Request("m", ({"role": "user", "content": "France"},)))

    return asyncio.run(ask())


class Unprintable(Exception):
    def __str__(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("token for sk-abcdef123456 expired"),
            "the HTTP client raised RuntimeError: token for [redacted]",
        ),
        (Unprintable(), "the HTTP client raised Unprintable"),
        (KeyError("x"), "the HTTP client raised KeyError"),
        (TimeoutError(), "the HTTP client raised TimeoutError"),
        (UnicodeError("x"), "the request to http://model.test cannot be sent"),
        (httpx.ReadError("reset"), "closed before the reply was complete (reset)"),
        (httpx.ConnectError("refused"), "cannot connect to http://model.test (refused)"),
        (httpx.ProxyError("407 denied"), "cannot connect to http://model.test (407 denied)"),
        (httpx.StreamConsumed(), "the HTTP client raised StreamConsumed"),
    ],
)
def test_whatever_a_client_raises_is_a_connection_failure(error: Exception, words: str) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise error

    failure = result_of(handler)
    assert isinstance(failure, Failure)
    assert failure.kind == "connection"
    assert words in failure.message


def test_a_read_timeout_of_a_client_is_a_timeout() -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    failure = result_of(handler)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message) == ("timeout", "no answer within 5 s")


def test_a_mock_that_hangs_ends_at_the_timeout() -> None:
    async def handler(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError

    failure = result_of(handler, timeout_s=0.1)
    assert isinstance(failure, Failure)
    assert failure.kind == "timeout"


def test_a_hook_that_raises_for_status_keeps_the_status() -> None:
    async def hook(response: httpx.Response) -> None:
        response.raise_for_status()

    result = result_of(
        lambda _request: httpx.Response(429, headers={"retry-after": "7"}), event_hooks={"response": [hook]}
    )
    assert isinstance(result, Failure)
    assert (result.kind, result.status, result.retry_after_s) == ("rate_limit", 429, 7.0)


def test_a_hook_that_reads_the_body_does_not_hide_it() -> None:
    async def hook(response: httpx.Response) -> None:
        await response.aread()

    result = result_of(answering, event_hooks={"response": [hook]})
    assert isinstance(result, Completion)
    assert result.text == "Paris, France"


def test_a_client_that_follows_redirects_does_not_follow_ours() -> None:
    result = result_of(lambda _request: httpx.Response(307, headers={"location": "http://other.test/"}), follow_redirects=True)  # fmt: skip
    assert isinstance(result, Failure)
    assert "redirects" in result.message


@pytest.fixture
def slow_server() -> Iterator[ScriptedServer]:
    with ScriptedServer(always(Slow(0.4))) as server:
        yield server


def crowd(server: ScriptedServer, timeout_s: float, count: int = 6) -> list[Any]:
    """The results of requests that share one connection of a user's client."""

    async def ask() -> list[Any]:
        client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
        transport = HttpxTransport(client, owned=True)
        request = HttpRequest("POST", server.base_url, {}, b"{}", timeout_s)
        try:
            return await asyncio.gather(*(transport.send(request) for _ in range(count)))
        finally:
            await transport.aclose()

    return asyncio.run(ask())


def test_waiting_in_the_pool_of_a_client_is_not_a_timeout_of_the_model(slow_server: ScriptedServer) -> None:
    result = crowd(slow_server, timeout_s=1.0)
    failures = [one for one in result if isinstance(one, Failure)]
    assert failures
    assert {(one.kind, one.overloaded, one.fatal) for one in failures} == {("connection", True, False)}
    assert "no free connection in the HTTP client's pool for 1 s" in failures[0].message
    assert len(result) - len(failures) >= 2


def test_time_in_the_pool_does_not_count_into_the_timeout(slow_server: ScriptedServer) -> None:
    result = crowd(slow_server, timeout_s=0.7, count=2)
    assert not any(isinstance(one, Failure) for one in result)


def test_a_streamed_answer_of_a_mock_is_read_as_it_comes(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for word in ("Pa", "ris"):
            data = {"choices": [{"index": 0, "delta": {"content": word}}]}
            yield f"data: {json.dumps(data)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: httpx.Response(200, content=chunks())))
    result = run(tmp_path, f"{{model: m, base_url: '{URL}', stream: true}}", http_client=client)
    assert list(result.table["output"]) == ["Paris", "Paris"]
