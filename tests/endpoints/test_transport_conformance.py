"""What every transport must do, over pyreqwest and httpx alike, against a scripted server on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from evalrunner.domain import Failure
from evalrunner.endpoints.httpx_transport import open_httpx as open_httpx_transport
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import MAX_BODY_BYTES, HttpReply, HttpRequest, Sink, Transport
from tests.fakes.command import command_env
from tests.fakes.server import Answer, Cut, Hang, Raw, ScriptedServer, Slow, Status, Streamed, always, in_order
from tests.fakes.socks import SocksProxy
from tests.fakes.tls import Certificates, make_certificates

Opener: TypeAlias = Callable[..., Transport]
Result: TypeAlias = HttpReply | Failure


def open_pyreqwest(max_body_bytes: int = MAX_BODY_BYTES) -> Transport:
    return PyreqwestTransport(user_agent="evalrunner/1.2", max_body_bytes=max_body_bytes)


def open_httpx(max_body_bytes: int = MAX_BODY_BYTES, **options: Any) -> Transport:
    return open_httpx_transport(user_agent="evalrunner/1.2", max_body_bytes=max_body_bytes, **options)


@pytest.fixture(params=[open_pyreqwest, open_httpx], ids=["pyreqwest", "httpx"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """What opens the transport; no proxy of the machine comes between."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def socks() -> Iterator[SocksProxy]:
    with SocksProxy() as proxy:
        yield proxy


class RawServer:
    """Sends the same bytes to every connection at 127.0.0.2, with TLS where it has a context."""

    def __init__(self, reply: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        self.reply = reply
        self.tls = tls
        self.socket = socket.create_server(("127.0.0.2", 0))
        self.port = int(self.socket.getsockname()[1])
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RawServer:
        self.socket.settimeout(0.05)
        self.serving = True
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.serving = False
        self.thread.join(10)
        self.socket.close()

    def _serve(self) -> None:
        while self.serving:
            with contextlib.suppress(OSError):  # no client, or one that left
                client, _ = self.socket.accept()
                client.settimeout(5)
                with client if self.tls is None else self.tls.wrap_socket(client, server_side=True) as stream:
                    stream.recv(65536)
                    stream.sendall(self.reply)


def request_to(url: str, body: bytes | None = b"{}", timeout_s: float = 20.0, **headers: str) -> HttpRequest:
    sent = {"authorization": "Bearer k", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return HttpRequest("GET" if body is None else "POST", url, sent, body, timeout_s)


def send_all(transport: Transport, *requests: HttpRequest, sink: Sink | None = None) -> list[Result]:
    """The results of requests sent one after the other."""

    async def go() -> list[Result]:
        try:
            return [await transport.send(request, sink) for request in requests]
        finally:
            await transport.aclose()

    return asyncio.run(go())


def send(transport: Transport, request: HttpRequest, sink: Sink | None = None) -> Result:
    return send_all(transport, request, sink=sink)[0]


def reply_to(opener: Opener, script: Any, **options: Any) -> HttpReply:
    with ScriptedServer(script if callable(script) else always(script)) as server:
        result = send(opener(**options), request_to(server.base_url))
    assert isinstance(result, HttpReply), result
    return result


def failure_of(opener: Opener, action: Any, **options: Any) -> Failure:
    with ScriptedServer(always(action)) as server:
        result = send(opener(**options), request_to(server.base_url))
    assert isinstance(result, Failure), result
    return result


def test_a_reply_has_status_headers_in_lower_case_and_the_body(opener: Opener) -> None:
    assert reply_to(opener, Status(418, "short and stout", {"X-Kind": "teapot"})) == HttpReply(
        418, {"content-type": "application/json", "x-kind": "teapot", "content-length": "15"}, b"short and stout"
    )


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 401, 404, 429, 500, 503])
def test_every_status_is_a_reply(opener: Opener, status: int) -> None:
    reply = b"HTTP/1.1 %d X\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n" % status
    result = reply_to(opener, Raw(reply))
    assert (result.status, result.headers["retry-after"], result.body) == (status, "7", b"")


def test_only_the_headers_of_the_request_are_sent(opener: Opener) -> None:
    with ScriptedServer() as server:
        send(opener(), request_to(server.base_url))
        headers = dict(server.requests[0].headers)
        headers.pop("connection", None)  # httpx says keep-alive, which is the default of HTTP/1.1
        assert headers == {
            "authorization": "Bearer k",
            "accept": "*/*",
            "accept-encoding": headers["accept-encoding"],
            "content-length": "2",
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "evalrunner/1.2",
        }


def test_the_method_and_no_body_are_sent_as_given(opener: Opener) -> None:
    with ScriptedServer() as server:
        send_all(opener(), request_to(server.base_url, None), HttpRequest("PUT", server.base_url, {}, b"[1]"))
        assert [(one.method, one.json) for one in server.requests] == [("GET", None), ("PUT", [1])]


def test_redirects_are_returned_and_no_cookie_is_kept(opener: Opener) -> None:
    with ScriptedServer() as elsewhere, ScriptedServer() as server:
        moved = Status(307, headers={"location": f"{elsewhere.base_url}/x", "set-cookie": "a=b"})
        server.script = in_order(moved, Answer())
        result = send_all(opener(), *[request_to(server.base_url)] * 2)
        assert [reply.status for reply in result if isinstance(reply, HttpReply)] == [307, 200]
        assert elsewhere.calls == 0
        assert "cookie" not in server.requests[1].headers
        assert "referer" not in server.requests[1].headers


@pytest.mark.parametrize("after_bytes", [0, 5, 60, 200])
def test_a_cut_connection_is_a_transient_failure(opener: Opener, after_bytes: int) -> None:
    failure = failure_of(opener, Cut(after_bytes))
    assert (failure.kind, failure.fatal, failure.overloaded) == ("connection", False, False)
    assert "closed before the reply was complete" in failure.message


def test_a_reply_that_is_not_http_is_a_transient_failure(opener: Opener) -> None:
    failure = failure_of(opener, Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close=True))
    assert (failure.kind, failure.fatal) == ("connection", False)


def test_a_chunked_body_that_is_torn_is_a_failure(opener: Opener) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    failure = failure_of(opener, Raw(head + b"5\r\nhel", close=True))
    assert (failure.kind, failure.fatal) == ("connection", False)


def test_a_closed_port_and_an_unknown_host_are_fatal(opener: Opener) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    refused = send(opener(), request_to(f"http://127.0.0.1:{port}/v1", None))
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.fatal) == ("connection", True)
    assert f"cannot connect to http://127.0.0.1:{port} (" in refused.message
    unknown = send(opener(), request_to("http://no-such-host.invalid/v1", None))
    assert isinstance(unknown, Failure)
    assert (unknown.kind, unknown.fatal) == ("connection", True)


def test_a_header_that_cannot_be_sent_is_a_failure_without_its_value(opener: Opener) -> None:
    failure = send(opener(), request_to("http://127.0.0.1:1/", None, authorization="Bearer geheim\n1"))
    assert isinstance(failure, Failure)
    assert failure.fatal
    assert "geheim" not in failure.message


def test_header_values_that_are_not_ascii_are_sent_as_utf8(opener: Opener) -> None:
    with ScriptedServer() as server:
        assert isinstance(send(opener(), request_to(server.base_url, x_name="Jürgen")), HttpReply)
        assert server.requests[0].headers["x-name"].encode("latin-1").decode() == "Jürgen"


def test_a_reply_with_a_header_that_is_not_ascii_is_read(opener: Opener) -> None:
    """httpx reads it as Latin-1; pyreqwest gives no access to it, so only this one header is missing there."""
    raw = b"HTTP/1.1 200 OK\r\nx-city: K\xf6ln\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\nok"
    result = reply_to(opener, Raw(raw))
    assert (result.status, result.headers["retry-after"], result.body) == (200, "3", b"ok")
    assert result.headers.get("x-city") == ("Köln" if opener is open_httpx else None)


def test_of_a_repeated_header_the_first_value_counts(opener: Opener) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n"
    result = reply_to(opener, Raw(raw))
    assert (result.headers["x-a"], result.headers["set-cookie"]) == ("1", "a=1")


@pytest.mark.parametrize("action", [Hang(), Slow(3.0)])
def test_at_its_timeout_a_request_drops_its_connection(opener: Opener, action: Hang | Slow) -> None:
    with ScriptedServer(always(action)) as server:
        failure = send(opener(), request_to(server.base_url, timeout_s=0.2))
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.fatal) == ("timeout", False)  # it had connected: a slow server is not a dead host
        assert failure.message == "no answer within 0.2 s"
        assert server.settle() == (1, 1, 0)


def test_the_timeout_covers_the_whole_body(opener: Opener) -> None:
    pieces = tuple(piece for _ in range(30) for piece in (b"x", 0.05))
    with ScriptedServer(always(Streamed(pieces))) as server:
        failure = send(opener(), request_to(server.base_url, timeout_s=0.3))
        assert isinstance(failure, Failure)
        assert failure.kind == "timeout"
        assert server.settle()[1:] == (1, 0)


def cancel_after(transport: Transport, request: HttpRequest, sink: Sink | None, settled: Callable[[], Any]) -> Any:
    """What `settled` returns after a request was cancelled that had been under way for a while."""

    async def go() -> Any:
        task = asyncio.create_task(transport.send(request, sink))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        result = await asyncio.to_thread(settled)
        await transport.aclose()
        return result

    return asyncio.run(go())


def test_cancelling_a_request_drops_its_connection(opener: Opener) -> None:
    """At once over httpx. pyreqwest drops it at the request's timeout: its library only stops waiting."""
    timeout_s = 20.0 if opener is open_httpx else 1.0
    with ScriptedServer(always(Hang())) as server:
        started = time.monotonic()
        assert cancel_after(opener(), request_to(server.base_url, timeout_s=timeout_s), None, server.settle) == (
            1,
            1,
            0,
        )
        assert time.monotonic() - started < 4


def test_cancelling_a_stream_drops_its_connection(opener: Opener) -> None:
    with ScriptedServer(always(Streamed((b"one",), "hang"))) as server:
        result: list[bytes] = []

        def sink(piece: bytes) -> bool:
            result.append(piece)
            return False

        assert cancel_after(opener(), request_to(server.base_url), sink, server.settle) == (1, 1, 0)
        assert result == [b"one"]


def test_a_streamed_body_goes_to_the_sink_as_it_comes(opener: Opener) -> None:
    result: list[tuple[bytes, float]] = []

    def sink(piece: bytes) -> bool:
        result.append((piece, time.monotonic()))
        return False

    with ScriptedServer(always(Streamed((b"one", 0.3, b"two")))) as server:
        reply = send(opener(), request_to(server.base_url), sink)
    assert isinstance(reply, HttpReply)
    assert (reply.status, reply.body) == (200, b"")
    assert b"".join(piece for piece, _ in result) == b"onetwo"
    assert result[-1][1] - result[0][1] > 0.2


def test_a_sink_that_has_enough_ends_the_stream(opener: Opener) -> None:
    with ScriptedServer(always(Streamed((b"one", b"two"), "hang"))) as server:
        started = time.monotonic()
        reply = send(opener(), request_to(server.base_url), lambda _piece: True)
        assert isinstance(reply, HttpReply)
        assert time.monotonic() - started < 5


def test_an_error_status_is_not_streamed(opener: Opener) -> None:
    result: list[bytes] = []

    def sink(piece: bytes) -> bool:
        result.append(piece)
        return False

    with ScriptedServer(always(Status(400, "bad"))) as server:
        reply = send(opener(), request_to(server.base_url), sink)
    assert isinstance(reply, HttpReply)
    assert (reply.status, reply.body, result) == (400, b"bad", [])


def test_a_stream_that_is_cut_is_a_failure(opener: Opener) -> None:
    with ScriptedServer(always(Streamed((b"one",), "cut"))) as server:
        failure = send(opener(), request_to(server.base_url), lambda _piece: False)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.fatal) == ("connection", False)


def test_a_transport_works_again_after_it_was_closed_and_in_another_loop(opener: Opener) -> None:
    with ScriptedServer() as server:
        for _ in range(2):
            transport = opener()
            assert isinstance(send(transport, request_to(server.base_url)), HttpReply)
        if isinstance(transport, PyreqwestTransport):
            assert isinstance(send(transport, request_to(server.base_url)), HttpReply)


def test_connections_are_reused_and_not_limited(opener: Opener) -> None:
    with ScriptedServer(always(Slow(0.3))) as server:

        async def ask_many() -> None:
            transport = opener()
            for _ in range(2):
                result = await asyncio.gather(*(transport.send(request_to(server.base_url)) for _ in range(200)))
                assert all(isinstance(one, HttpReply) for one in result)
            await transport.aclose()

        asyncio.run(ask_many())
        assert server.calls == 400
        assert server.most_in_flight > 150
        assert server.connections < 300


def test_a_connection_that_the_server_closed_is_replaced(opener: Opener) -> None:
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    with ScriptedServer(always(Raw(body, close=True))) as server:

        async def ask_twice() -> list[Result]:
            transport, result = opener(), []
            for _ in range(3):
                result.append(await transport.send(request_to(server.base_url)))
                await asyncio.sleep(0.1)  # the server's end arrives while the connection is idle
            await transport.aclose()
            return result

        result = asyncio.run(ask_twice())
        assert [one.body if isinstance(one, HttpReply) else one for one in result] == [b"ok"] * 3
        assert server.connections == 3


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
def test_a_body_that_is_too_large_is_a_failure_also_when_compressed(opener: Opener, headers: dict[str, str]) -> None:
    large = b" " * 200_000
    body = gzip.compress(large) if headers else large
    assert len(body) < 100_000 or not headers
    failure = failure_of(opener, Status(200, body, headers), max_body_bytes=100_000)
    assert failure.kind == "connection"
    assert "larger than" in failure.message
    assert reply_to(opener, Status(200, body, headers), max_body_bytes=200_000).body == large


def test_a_stream_that_is_too_large_is_a_failure(opener: Opener) -> None:
    with ScriptedServer(always(Streamed((b" " * 60_000, b" " * 60_000)))) as server:
        failure = send(opener(max_body_bytes=100_000), request_to(server.base_url), lambda _piece: False)
    assert isinstance(failure, Failure)
    assert "larger than" in failure.message


def test_large_bodies_go_both_ways(opener: Opener) -> None:
    large = b'"' + b"x" * 5_000_000 + b'"'
    with ScriptedServer(always(Status(200, large))) as server:
        reply = send(opener(), request_to(server.base_url, large))
        assert isinstance(reply, HttpReply)
        assert reply.body == large
        assert len(server.requests[0].json) == 5_000_000


def test_a_body_that_is_not_what_its_encoding_says_is_a_failure(opener: Opener) -> None:
    failure = failure_of(opener, Status(200, b"this is not gzip", {"content-encoding": "gzip"}))
    assert (failure.kind, failure.fatal) == ("connection", False)


def test_an_untrusted_certificate_is_refused(opener: Opener, certificates: Certificates) -> None:
    with ScriptedServer(tls=certificates.server_context()) as server:
        failure = send(opener(), request_to(server.base_url))
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.fatal) == ("connection", True)
        assert "certificate" in failure.message.lower()
        assert server.calls == 0


def test_ssl_cert_file_names_the_trusted_certificates(
    opener: Opener, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
    with ScriptedServer(tls=certificates.server_context()) as server:
        assert isinstance(send(opener(), request_to(server.base_url)), HttpReply)


def test_http_proxies_and_their_exceptions_follow_the_environment(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as proxy, ScriptedServer() as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert isinstance(send(opener(), request_to(server.base_url)), HttpReply)
        assert (proxy.calls, server.calls) == (1, 0)
        assert proxy.requests[0].path == server.base_url
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert isinstance(send(opener(), request_to(server.base_url)), HttpReply)
        assert (proxy.calls, server.calls) == (1, 1)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_bundles_of_other_clients_are_trusted_too(
    opener: Opener, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, certificates.ca)
    with ScriptedServer(tls=certificates.server_context()) as server:
        assert isinstance(send(opener(), request_to(server.base_url)), HttpReply)


def test_the_message_of_an_untrusted_certificate_says_how_to_trust_it(
    opener: Opener, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with ScriptedServer(tls=certificates.server_context()) as server:
        failure = send(opener(), request_to(server.base_url))
    assert isinstance(failure, Failure)
    assert failure.message.startswith(f"the certificate of https://127.0.0.1:{server.port} is not trusted (")
    assert failure.message.endswith(
        "; SSL_CERT_FILE names a file that does not exist; name your company's CA in SSL_CERT_FILE or transport.verify"
    )


def test_the_certificate_of_another_host_is_no_matter_of_trust(
    opener: Opener, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
    with RawServer(tls=certificates.server_context()) as elsewhere:
        failure = send(opener(), request_to(f"https://127.0.0.2:{elsewhere.port}/v1"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.fatal) == ("connection", True)
    assert f"the certificate of https://127.0.0.2:{elsewhere.port} is for another host" in failure.message


def test_a_server_without_tls_behind_https_is_told_apart_from_one_that_is_down(opener: Opener) -> None:
    with RawServer(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") as server:
        failure = send(opener(), request_to(f"https://127.0.0.2:{server.port}/v1"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.fatal) == ("connection", True)
    assert failure.message.startswith(f"https://127.0.0.2:{server.port} does not speak TLS (")
    assert failure.message.endswith("use http:// in base_url")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("407 Proxy Authentication Required", "asks for a login ("),
        ("403 Forbidden", "refuses to connect to https://model.invalid ("),
        ("502 Bad Gateway", "refuses to connect to https://model.invalid ("),
    ],
)
def test_a_proxy_that_refuses_is_named(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, status: str, words: str
) -> None:
    with RawServer(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.2:{proxy.port}")
        failure = send(opener(), request_to("https://model.invalid/v1"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.fatal) == ("connection", True)
    assert failure.message.startswith(f"the proxy http://127.0.0.2:{proxy.port} {words}")
    assert "NO_PROXY" in failure.message
    assert "secret" not in failure.message


def test_a_proxy_that_is_down_is_named(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    failure = send(opener(), request_to("https://model.invalid/v1"))
    assert isinstance(failure, Failure)
    assert failure.message.startswith("cannot connect to the proxy http://127.0.0.1:1 (")
    monkeypatch.setenv("NO_PROXY", "model.invalid")
    failure = send(opener(), request_to("https://model.invalid/v1"))
    assert isinstance(failure, Failure)
    assert failure.message.startswith("cannot connect to https://model.invalid (")


def test_httpx_connects_through_a_socks_proxy(socks: SocksProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{socks.port}")
    with ScriptedServer() as server:
        assert isinstance(send(open_httpx(), request_to(server.base_url)), HttpReply)
        assert (server.calls, socks.connections) == (1, 1)


def test_httpx_connects_to_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # no proxy is asked for a socket
    path = str(tmp_path / "s")
    with ScriptedServer(uds=path) as server:
        reply = send(open_httpx(uds=path), request_to("http://model/v1"))
        assert isinstance(reply, HttpReply)
        assert server.requests[0].headers["host"] == "model"
    removed = send(open_httpx(uds=str(tmp_path / "none")), request_to("http://model/v1"))
    assert isinstance(removed, Failure)
    assert (removed.kind, removed.fatal) == ("connection", True)


def test_httpx_sends_a_client_certificate(certificates: Certificates) -> None:
    with ScriptedServer(tls=certificates.server_context(ask_client=True)) as server:
        known = open_httpx(cert=certificates.client_cert, key=certificates.client_key, verify=certificates.ca)
        assert isinstance(send(known, request_to(server.base_url)), HttpReply)
        stranger = send(open_httpx(verify=certificates.ca), request_to(server.base_url))
        assert isinstance(stranger, Failure)
        assert stranger.kind == "connection"
        assert server.calls == 1


def test_httpx_can_accept_any_certificate(certificates: Certificates) -> None:
    with ScriptedServer(tls=certificates.server_context()) as server:
        assert isinstance(send(open_httpx(verify=False), request_to(server.base_url)), HttpReply)


CANCELLING = """
import asyncio, sys
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import HttpRequest
async def main():
    transport = PyreqwestTransport()
    request = HttpRequest("POST", sys.argv[1], {}, b"{}", 20)
    calls = [asyncio.create_task(transport.send(request)) for _ in range(64)]
    await asyncio.sleep(0.05)
    for call in calls: call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await transport.aclose()
asyncio.run(main())
"""


def test_a_process_that_cancels_its_calls_ends_cleanly() -> None:
    """The library's thread may still hold cancelled requests when the interpreter ends; unguarded, some abort."""
    with ScriptedServer(always(Slow(0.05))) as server:
        for _ in range(5):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", CANCELLING, server.base_url],
                capture_output=True,
                text=True,
                check=False,
                env=command_env(),
            )
            assert (done.returncode, done.stderr) == (0, "")


CROWDED = """
import asyncio, resource, sys
from evalrunner.endpoints.transport import HttpRequest
if sys.argv[2] == "httpx":
    from evalrunner.endpoints.httpx_transport import open_httpx
    transport = open_httpx(user_agent="x")
else:
    from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
    transport = PyreqwestTransport()
async def main():
    request = HttpRequest("POST", sys.argv[1], {}, b"{}", 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    found = await asyncio.gather(*(transport.send(request) for _ in range(200)))
    print(sum(getattr(one, "overloaded", False) for one in found) > 50, {getattr(one, "kind", 200) for one in found})
    await transport.aclose()
asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["pyreqwest", "httpx"])
def test_too_few_file_descriptors_are_a_failure_that_asks_for_fewer_requests(name: str) -> None:
    with ScriptedServer(always(Slow(0.3))) as server:
        done = subprocess.run(
            [sys.executable, "-c", CROWDED, server.base_url, name],
            capture_output=True,
            text=True,
            check=False,
            env=command_env(),
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("True")
    assert "'connection'" in done.stdout


def test_importing_the_endpoints_imports_nothing_heavy() -> None:
    script = (
        "import sys, evalrunner.endpoints.factory\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'pyreqwest', 'litellm', 'xllamacpp', 'openai', 'httpx', 'aiohttp', 'pandas', 'yaml'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=command_env())
    assert done.stdout.strip() == "[]"
