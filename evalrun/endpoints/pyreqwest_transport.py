"""The transport over pyreqwest: Rust's reqwest, one pool of connections for the whole process.

Measured here against the same mock server, 10,000 requests, 256 at once (`benchmarks/transports.py`): it takes the
least CPU a request of the libraries that were tried, and its import costs next to nothing where aiohttp and httpx
take a third of a second and more.

Each request carries its time limit down to pyreqwest, which then drops the connection. A task that is cancelled
instead leaves its connection open until the process ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from evalrun.endpoints.transport import Reply, TransportFault

if TYPE_CHECKING:
    from pyreqwest.client import Client

CONNECT_TIMEOUT_S = 30.0
LARGEST_BODY = 64 * 1024 * 1024  # a chat reply is kilobytes, a thousand long embeddings some 30 MB


class PyreqwestTransport:
    """A `Transport`. The client is made with the first request, in the loop that uses it."""

    def __init__(self, *, user_agent: str = "evalrun") -> None:
        self._user_agent = user_agent
        self._client: Client | None = None

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Reply:
        return await self._send("POST", url, headers, body, timeout_s)

    async def get(self, url: str, *, headers: Mapping[str, str], timeout_s: float) -> Reply:
        return await self._send("GET", url, headers, None, timeout_s)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Reply:
        from pyreqwest import exceptions

        request = self._ready().request(method, url).headers(dict(headers)).timeout(timedelta(seconds=timeout_s))
        if body is not None:
            request = request.body_bytes(body)
        try:
            response = await request.build().send()
            length = response.get_header("content-length")
            if length is not None and length.isdigit() and int(length) > LARGEST_BODY:
                raise TransportFault("connection", f"the answer is larger than {LARGEST_BODY >> 20} MiB")
            content = bytes(await response.bytes())
        except exceptions.RequestTimeoutError as late:
            raise TransportFault("timeout", deepest(late)) from late
        except exceptions.ConnectError as closed:
            raise TransportFault("connection", deepest(closed), connecting=True) from closed
        except exceptions.PyreqwestError as broken:
            raise TransportFault("connection", deepest(broken)) from broken
        found: dict[str, str] = {}
        for name, value in response.headers.items():
            found.setdefault(name.lower(), value)
        return Reply(response.status, found, content)

    def _ready(self) -> Client:
        if self._client is None:
            from pyreqwest.client import ClientBuilder

            self._client = (
                ClientBuilder()
                .user_agent(self._user_agent)
                .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
                .follow_redirects(False)  # a key must not go to another host
                .default_cookie_store(False)
                .referer(False)
                .http1_only()  # on HTTP/2 a host's requests share one connection and its limit of streams
                .build()
            )
        return self._client


def deepest(error: Any) -> str:
    """The innermost cause that pyreqwest tells, which is the one that says something."""
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or []
    said = [str(cause.get("message")) for cause in causes if cause.get("message")]
    return said[-1] if said else str(getattr(error, "message", error))
