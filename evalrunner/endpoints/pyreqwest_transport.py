"""The transport over pyreqwest: Rust's reqwest, one pool of connections for the whole process.

`python benchmarks/transports.py` on a busy two-core machine, 64 at once, CPU a request and of the import: pyreqwest
0.21 ms and 6 ms, aiohttp 0.30 and 209, httpx over aiohttp 1.07 and 320, httpx alone 9.63 and 241.

Each request carries its time limit down to pyreqwest, which then drops the connection. A task that is cancelled
instead leaves its connection open until that limit: pyreqwest 0.15 gives up waiting, not asking.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from evalrunner.endpoints.transport import Reply, TransportFault

if TYPE_CHECKING:
    from pyreqwest.client import Client
    from pyreqwest.request import RequestBuilder
    from pyreqwest.response import Response

CONNECT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 86_400.0  # a limit beyond it is none, and infinity is no timedelta
MAX_BODY_BYTES = 64 * 1024 * 1024  # a chat reply is kilobytes, a thousand long embeddings some 30 MB
CHUNK = 1024 * 1024
EXIT_GRACE_S = 0.05
LINGER_S = 0.5  # after the last piece that is needed, for the end of the body: then the connection can be used again
CONNECTING = "(Connect)"  # reqwest's mark on a cause, beside (SendRequest), which is after the connection stood


class PyreqwestTransport:
    """A `Transport`. The client is made with the first request and may be used from one event loop after the other."""

    def __init__(self, *, user_agent: str = "evalrun", max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._user_agent = user_agent
        self._largest_body = max_body_bytes
        self._client: Client | None = None

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Reply:
        """The reply to a POST. Raises TransportFault."""
        return await self._send("POST", url, headers, body, timeout_s)

    async def post_streamed(
        self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float, take: Callable[[bytes], bool]
    ) -> Reply:
        """The reply to a POST, without the body of a status 2xx, which `take` gets as it comes. Raises TransportFault."""
        return await self._send("POST", url, headers, body, timeout_s, take)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Reply:
        """The reply to a request of any method. Raises TransportFault."""
        return await self._send(method, url, headers, body, timeout_s)

    async def get(self, url: str, *, headers: Mapping[str, str], timeout_s: float) -> Reply:
        """The reply to a GET. Raises TransportFault."""
        return await self._send("GET", url, headers, None, timeout_s)

    async def aclose(self) -> None:
        """None, with the pool closed; a later request makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float,
        take: Callable[[bytes], bool] | None = None,
    ) -> Reply:  # fmt: skip
        limit = timedelta(seconds=min(timeout_s, MAX_TIMEOUT_S))
        try:
            request: RequestBuilder = self._ready().request(method, url).headers(dict(headers)).timeout(limit)
            if body is not None:
                request = request.body_bytes(body)
            if take is not None:
                request = request.streamed_read_buffer_limit(0)  # else the first 64 KiB are waited for
            async with request.build_streamed() as response:
                if take is not None and 200 <= response.status < 300:
                    await _hand_on(response, take, self._largest_body)
                    return Reply(response.status, dict(response.headers), b"")
                content = await _read_body(response, self._largest_body)
                return Reply(response.status, dict(response.headers), content)
        except Exception as error:  # whatever the library raises becomes one kind of fault; all else goes on
            raise _fault_of(error) from None

    def _ready(self) -> Client:
        if self._client is None:
            from pyreqwest.client import ClientBuilder

            self._client = (
                ClientBuilder()
                .user_agent(self._user_agent)
                .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
                .follow_redirects(enable=False)  # a key must not go to another host
                .default_cookie_store(enable=False)
                .referer(enable=False)
                .http1_only()  # on HTTP/2 256 at once took twice the time: a host's requests share 100 streams
                .build()
            )
            atexit.unregister(_let_go)
            atexit.register(_let_go)
        return self._client


def _let_go() -> None:
    """None, after the library's thread had time to leave Python.

    It may still hold the last cancelled requests when the interpreter ends, and then aborts the process: 11 of 60
    processes that had cancelled 64 requests, none of 240 that waited 0.02 s or longer.
    """
    time.sleep(EXIT_GRACE_S)


async def _read_body(response: Response, largest: int) -> bytes:
    """The whole body. Raises TransportFault where it is larger than allowed, also after it was unpacked."""
    length = response.get_header("content-length")  # taken off by the library where it unpacks
    if length is not None and length.isascii() and length.isdigit():
        if int(length) > largest:
            raise _too_large(largest)
        return bytes(await response.bytes())
    parts: list[bytes] = []
    size = 0
    while (part := await response.body_reader.read(CHUNK)) is not None:
        parts.append(bytes(part))
        size += len(part)
        if size > largest:
            raise _too_large(largest)
    return b"".join(parts)


async def _hand_on(response: Response, take: Callable[[bytes], bool], largest: int) -> None:
    """None, with the body handed to `take` piece by piece until it has all it needs."""
    size = 0
    while (part := await response.body_reader.read_chunk()) is not None:
        size += len(part)
        if size > largest:
            raise _too_large(largest)
        if take(bytes(part)):
            break
    else:
        return
    try:
        async with asyncio.timeout(LINGER_S):
            await response.body_reader.read_chunk()
    except Exception:  # all that was needed is here: how the connection ends does not matter
        return


def _too_large(largest: int) -> TransportFault:
    return TransportFault("connection", f"the answer is larger than {largest / 1024 / 1024:.3g} MiB")


def _fault_of(error: Exception) -> Exception:
    """The fault that an exception of the library stands for; any other exception as it is."""
    from pyreqwest import exceptions

    if isinstance(error, TransportFault):
        return error
    causes = _causes(error)
    message = causes[-1] if causes else str(error)
    # not by the class: a server that hangs is a ConnectTimeoutError as well, a connection that is cut a ConnectError
    connecting = any(CONNECTING in cause for cause in causes)
    if isinstance(error, exceptions.RequestTimeoutError):
        words = f"no {'connection' if connecting else 'answer'} in time"
        return TransportFault("timeout", words, connecting=connecting)
    if isinstance(error, ValueError) and not isinstance(error, exceptions.RequestError):
        # without the library's words, for they quote the header with the key
        return TransportFault("connection", "an address or a header that cannot be sent", connecting=True)
    if isinstance(error, exceptions.PyreqwestError):
        return TransportFault("connection", message, connecting=connecting)
    return error


def _causes(error: Exception) -> list[str]:
    """What the library tells of an error, outermost first."""
    details: Any = getattr(error, "details", None)
    found = details.get("causes") if isinstance(details, dict) else None
    return [str(cause.get("message", "")) for cause in found or ()]
