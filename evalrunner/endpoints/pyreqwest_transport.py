"""The default transport: Rust's reqwest through pyreqwest, with one connection pool for the whole process.

`python benchmarks/transports.py` on a busy two-core machine with 64 requests in flight, CPU per request and of the
import: pyreqwest 0.21 ms and 6 ms, aiohttp 0.30 and 209, httpx over aiohttp 1.07 and 320, httpx alone 9.63 and 241.

pyreqwest 0.15 has two limits. A task that is cancelled before the reply begins leaves its connection open until the
request's timeout, so each request carries its timeout with it. And header values that are not ASCII cannot be read;
they are left out of the reply.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.domain import Failure
from evalrunner.endpoints.transport import (
    CONNECT_TIMEOUT_S,
    DRAIN_S,
    LARGE_BODY_BYTES,
    MAX_BODY_BYTES,
    MAX_TIMEOUT_S,
    OUT_OF_FILES,
    HttpReply,
    HttpRequest,
    LargeBodies,
    Sink,
    broken_connection,
    connect_failure,
    extra_ca_file,
    out_of_files,
    read_pieces,
    request_timeout,
    too_large,
    unsendable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pyreqwest.client import Client
    from pyreqwest.request import RequestBuilder
    from pyreqwest.response import Response

CHUNK_BYTES = 1024 * 1024
EXIT_GRACE_S = 0.05
CONNECT_MARK = "(Connect)"  # how reqwest marks a cause before there was a connection
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
OS_ERROR = re.compile(r"\(os error (\d+)\)")


class PyreqwestTransport:
    """A `Transport`. The client is created by the first request and can be used in several event loops in turn."""

    def __init__(self, *, user_agent: str = "evalrun", max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._user_agent = user_agent
        self._max_body_bytes = max_body_bytes
        self._large = LargeBodies()
        self._client: Client | None = None
        self._exceptions: Any = None

    async def send(self, request: HttpRequest, sink: Sink | None = None) -> HttpReply | Failure:
        """The reply, or the failure that the library's exception means."""
        limit = timedelta(seconds=min(request.timeout_s, MAX_TIMEOUT_S))
        client = self._client or self._create()
        try:
            builder: RequestBuilder = client.request(request.method, request.url).headers(dict(request.headers))
            builder = builder.timeout(limit)
            if request.body is not None:
                builder = builder.body_bytes(request.body)
            if sink is not None:
                builder = builder.streamed_read_buffer_limit(0)  # or the first 64 KiB would be waited for
            async with builder.build_streamed() as response:
                status, headers = response.status, _read_headers(response)
                if sink is not None and 200 <= status < 300:
                    body = await _stream_body(response, sink, self._max_body_bytes)
                else:
                    body = await _read_body(response, self._max_body_bytes, self._large)
                return HttpReply(status, headers, body) if isinstance(body, bytes) else body
        except Exception as error:
            return self._failure_of(error, request)

    async def aclose(self) -> None:
        """Close the pool; a later request opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _create(self) -> Client:
        from pyreqwest import exceptions  # with the client: later there may be no file descriptor left to import it
        from pyreqwest.client import ClientBuilder

        self._exceptions = exceptions
        builder = ClientBuilder()
        if (ca_file := extra_ca_file()) is not None:
            for certificate in PEM.findall(Path(ca_file).read_bytes()):  # the library reads one at a time
                builder = builder.add_root_certificate_pem(certificate)
        self._client = (
            builder.user_agent(self._user_agent)
            .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
            .follow_redirects(enable=False)  # an API key must not go to another host
            .default_cookie_store(enable=False)
            .referer(enable=False)
            .http1_only()  # on HTTP/2 256 at once took twice the time: requests to one host share 100 streams
            .build()
        )
        atexit.unregister(_wait_for_library)
        atexit.register(_wait_for_library)
        return self._client

    def _failure_of(self, error: Exception, request: HttpRequest) -> Failure:
        """The failure that an exception of the library means; any other exception is raised again."""
        exceptions = self._exceptions
        if isinstance(error, ValueError) and not isinstance(error, exceptions.RequestError):
            return unsendable(request)
        if not isinstance(error, exceptions.PyreqwestError):
            raise error
        causes = _causes(error)
        if _is_out_of_files([*causes, str(error)]):
            return out_of_files()
        # not by class: a server that hangs is a ConnectTimeoutError as well, a connection that is cut a ConnectError
        connecting = any(CONNECT_MARK in cause for cause in causes)
        if isinstance(error, exceptions.RequestTimeoutError):
            return connect_failure(request, "timed out") if connecting else request_timeout(request)
        message = causes[-1] if causes else str(error)
        return connect_failure(request, message) if connecting else broken_connection(request, message)


def _wait_for_library() -> None:
    """Give the library's thread time to leave Python.

    It may still hold the last cancelled requests when the interpreter ends, and then aborts the process: 11 of 60
    processes that had cancelled 64 requests, none of 240 that waited 0.02 s or longer.
    """
    time.sleep(EXIT_GRACE_S)


def _read_headers(response: Response) -> dict[str, str]:
    """The headers; values that the library cannot decode, those that are not ASCII, are left out."""
    try:
        return dict(response.headers)
    except ValueError:
        pass
    headers: dict[str, str] = {}
    for name in response.headers:
        try:
            headers.setdefault(name, response.headers[name])
        except ValueError:
            continue
    return headers


async def _read_body(response: Response, max_bytes: int, large: LargeBodies) -> bytes | Failure:
    """The whole body, or a failure if it is larger than allowed, compressed or not."""
    try:
        length = response.get_header("content-length")  # the library removes it from compressed replies
    except ValueError:  # not ASCII
        length = None
    if length is not None and length.isascii() and length.isdigit():
        if int(length) > max_bytes:
            return too_large(max_bytes)
        if int(length) < LARGE_BODY_BYTES:
            return bytes(await response.bytes())
    return await read_pieces(_pieces(response), max_bytes, large)


async def _pieces(response: Response) -> AsyncIterator[bytes]:
    while (part := await response.body_reader.read(CHUNK_BYTES)) is not None:
        yield bytes(part)


async def _stream_body(response: Response, sink: Sink, max_bytes: int) -> bytes | Failure:
    """Nothing, after the body went to the sink piece by piece until that had all it needs."""
    size = 0
    while (part := await response.body_reader.read_chunk()) is not None:
        size += len(part)
        if size > max_bytes:
            return too_large(max_bytes)
        if sink(bytes(part)):
            break
    else:
        return b""
    with contextlib.suppress(Exception):  # all that was needed came: how the connection ends does not matter
        async with asyncio.timeout(DRAIN_S):
            await response.body_reader.read_chunk()
    return b""


def _is_out_of_files(causes: list[str]) -> bool:
    numbers = (int(number) for cause in causes for number in OS_ERROR.findall(cause))
    return any(number in OUT_OF_FILES for number in numbers) or any("oo many open files" in cause for cause in causes)


def _causes(error: Exception) -> list[str]:
    """What the library says of an error, outermost first."""
    details: Any = getattr(error, "details", None)
    causes = details.get("causes") if isinstance(details, dict) else None
    return [str(cause.get("message", "")) for cause in causes or ()]
