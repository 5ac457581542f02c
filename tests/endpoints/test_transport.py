"""The one seam to the network, against real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys

import pytest

from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import Reply, TransportFault
from tests.fakes.command import command_env
from tests.fakes.server import Answer, Cut, Hang, ScriptedServer, Slow, Status, always, in_order


def post(server: ScriptedServer, transport: PyreqwestTransport | None = None, body: bytes = b"{}") -> Reply:
    async def go() -> Reply:
        used = transport or PyreqwestTransport(user_agent="evalrunner/1.2")
        try:
            return await used.post(
                f"{server.base_url}/chat/completions", headers={"authorization": "Bearer k"}, body=body, timeout_s=20
            )
        finally:
            await used.aclose()

    return asyncio.run(go())


def test_a_reply_keeps_status_headers_in_lower_case_and_the_body() -> None:
    with ScriptedServer(always(Status(418, "short and stout", {"X-Kind": "teapot"}))) as server:
        assert post(server) == Reply(
            418,
            {"content-type": "application/json", "x-kind": "teapot", "content-length": "15"},
            b"short and stout",
        )


def test_only_what_was_asked_for_is_sent() -> None:
    with ScriptedServer() as server:
        post(server)
        assert dict(server.requests[0].headers) == {
            "authorization": "Bearer k",
            "accept": "*/*",
            "accept-encoding": server.requests[0].headers["accept-encoding"],
            "content-length": "2",
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "evalrunner/1.2",
        }


def test_a_redirect_is_handed_back_and_no_cookie_is_kept() -> None:
    with ScriptedServer() as elsewhere, ScriptedServer() as server:
        moved = Status(307, headers={"location": f"{elsewhere.base_url}/x", "set-cookie": "a=b"})
        server.script = in_order(moved, Answer())

        async def twice() -> list[int]:
            transport = PyreqwestTransport()
            replies = [await transport.post(server.base_url, headers={}, body=b"{}", timeout_s=20) for _ in range(2)]
            await transport.aclose()
            return [reply.status for reply in replies]

        assert asyncio.run(twice()) == [307, 200]
        assert elsewhere.calls == 0
        assert "cookie" not in server.requests[1].headers
        assert "referer" not in server.requests[1].headers


@pytest.mark.parametrize("after_bytes", [0, 5, 60, 200])
def test_a_cut_connection_is_a_fault_that_had_connected(after_bytes: int) -> None:
    with ScriptedServer(always(Cut(after_bytes))) as server:
        with pytest.raises(TransportFault) as caught:
            post(server)
        assert (caught.value.kind, caught.value.connecting) == ("connection", False)


def test_a_dead_port_and_an_unknown_name_are_faults_while_connecting() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

    async def ask(url: str) -> TransportFault:
        transport = PyreqwestTransport()
        with pytest.raises(TransportFault) as caught:
            await transport.get(url, headers={}, timeout_s=20)
        await transport.aclose()
        return caught.value

    refused = asyncio.run(ask(f"http://127.0.0.1:{port}/v1"))
    assert (refused.kind, refused.connecting) == ("connection", True)
    assert "refused" in refused.message.lower()
    unknown = asyncio.run(ask("http://no-such-host.invalid/v1"))
    assert (unknown.kind, unknown.connecting) == ("connection", True)


def test_a_header_that_cannot_be_sent_is_a_fault_without_its_value() -> None:
    async def ask() -> TransportFault:
        with pytest.raises(TransportFault) as caught:
            await PyreqwestTransport().get(
                "http://127.0.0.1:1/", headers={"authorization": "Bearer geheim\n1"}, timeout_s=20
            )
        return caught.value

    fault = asyncio.run(ask())
    assert fault.connecting
    assert "geheim" not in fault.message


@pytest.mark.parametrize("action", [Hang(), Slow(3.0)])
def test_at_its_time_limit_a_call_drops_its_connection(action: Hang | Slow) -> None:
    """Not so a task that is cancelled: pyreqwest goes on until the limit, which is why it is told the limit."""
    with ScriptedServer(always(action)) as server:

        async def ask() -> TransportFault:
            transport = PyreqwestTransport()
            with pytest.raises(TransportFault) as caught:
                await transport.post(server.base_url, headers={}, body=b"{}", timeout_s=0.2)
            await transport.aclose()
            return caught.value

        fault = asyncio.run(ask())
        assert (fault.kind, fault.connecting) == ("timeout", False)  # it had connected: a slow server is no dead host
        assert server.settle() == (1, 1, 0)


def test_one_transport_serves_two_event_loops() -> None:
    with ScriptedServer() as server:
        transport = PyreqwestTransport()

        async def ask() -> int:
            return (await transport.post(server.base_url, headers={}, body=b"{}", timeout_s=20)).status

        assert [asyncio.run(ask()), asyncio.run(ask())] == [200, 200]
        asyncio.run(transport.aclose())
        assert asyncio.run(ask()) == 200  # a closed pool is made anew


def test_connections_are_used_again_and_not_limited() -> None:
    with ScriptedServer(always(Slow(0.1))) as server:

        async def ask_many() -> None:
            transport = PyreqwestTransport()
            for _ in range(2):
                await asyncio.gather(
                    *(transport.post(server.base_url, headers={}, body=b"{}", timeout_s=20) for _ in range(200))
                )
            await transport.aclose()

        asyncio.run(ask_many())
        assert server.calls == 400
        assert server.most_in_flight > 150
        assert server.connections < 300


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
def test_a_body_beyond_the_bound_is_a_fault_also_when_it_was_compressed(headers: dict[str, str]) -> None:
    large = b" " * 200_000
    body = gzip.compress(large) if headers else large
    assert len(body) < 100_000 or not headers
    with ScriptedServer(always(Status(200, body, headers))) as server:
        with pytest.raises(TransportFault, match="larger than"):
            post(server, PyreqwestTransport(max_body_bytes=100_000))
        assert post(server, PyreqwestTransport(max_body_bytes=200_000)).body == large


def test_a_process_that_cancels_its_calls_ends_cleanly() -> None:
    """The library's thread may still hold cancelled requests when the interpreter ends; unguarded, some abort."""
    script = (
        "import asyncio, sys\n"
        "from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport\n"
        "async def main():\n"
        "    transport = PyreqwestTransport()\n"
        "    ask = lambda: transport.post(sys.argv[1], headers={}, body=b'{}', timeout_s=20)\n"
        "    calls = [asyncio.create_task(ask()) for _ in range(64)]\n"
        "    await asyncio.sleep(0.05)\n"
        "    for call in calls: call.cancel()\n"
        "    await asyncio.gather(*calls, return_exceptions=True)\n"
        "    await transport.aclose()\n"
        "asyncio.run(main())\n"
    )
    with ScriptedServer(always(Slow(0.05))) as server:
        for _ in range(5):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", script, server.base_url],
                capture_output=True,
                text=True,
                check=False,
                env=command_env(),
            )
            assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_endpoints_imports_nothing_heavy() -> None:
    script = (
        "import sys, evalrunner.endpoints.factory\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'pyreqwest', 'litellm', 'xllamacpp', 'openai', 'httpx', 'aiohttp', 'pandas', 'yaml'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=command_env())
    assert done.stdout.strip() == "[]"
