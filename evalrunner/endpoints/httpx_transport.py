"""The flexible transport: httpx, for Unix sockets, SOCKS proxies, client certificates and user-defined clients.

httpx is imported when the first transport of this kind is created.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.domain import Failure
from evalrunner.endpoints.openai_errors import quote
from evalrunner.endpoints.transport import (
    CONNECT_TIMEOUT_S,
    DRAIN_S,
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
from evalrunner.errors import SuiteError

if TYPE_CHECKING:
    import httpx

KEEPALIVE_S = 30.0
MAX_CA_BYTES = 2**24  # of a file of certificates; those of an operating system have 200 KB
REQUESTS_PER_CLIENT = 16
CONNECTING = frozenset({"connection.connect_tcp.started", "connection.start_tls.started"})  # events of httpcore
HEAD_RECEIVED, REPLY_RECEIVED = "http11.receive_response_headers.complete", "http11.response_closed.started"
SOCKS_HELP = "install httpx with its extra: pip install 'httpx[socks]'"


class HttpxTransport:
    """A `Transport` over an `httpx.AsyncClient`, which is closed with it only if `owned`.

    With `open_another` it opens further clients for more than `REQUESTS_PER_CLIENT` requests at once: each request scans
    the whole pool of its client, which at 200 in one pool takes longer than most servers do.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        owned: bool,
        open_another: Callable[[], httpx.AsyncClient] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        import httpx

        self._httpx = httpx
        self._clients = [client]
        self._proxies = client.trust_env
        self._in_flight = [0]
        self._owned = owned
        self._open_another = open_another
        self._max_body_bytes = max_body_bytes
        self._large = LargeBodies()

    async def send(self, request: HttpRequest, sink: Sink | None = None) -> HttpReply | Failure:
        """The reply, or the failure that an exception means: of httpx, or of anything that the client calls."""
        limit_s = min(request.timeout_s, MAX_TIMEOUT_S)
        limit = asyncio.timeout(limit_s)
        exchange = _Exchange(limit, limit_s)
        place = self._next_client()
        self._in_flight[place] += 1
        try:
            async with limit:
                return await self._send(self._clients[place], request, sink, exchange)
        except TimeoutError as error:
            if not limit.expired():  # raised by something that the client calls
                return _client_crash(error)
            if exchange.phase in CONNECTING:
                return connect_failure(request, "timed out", proxies=self._proxies)
            return request_timeout(request) if exchange.phase or not self._has_pool() else _pool_exhausted(limit_s)
        except Exception as error:  # a user-defined client may raise anything
            return exchange.redirect or self._failure_of(error, request)
        finally:
            self._in_flight[place] -= 1

    async def aclose(self) -> None:
        """Close the client, unless it belongs to the caller."""
        if self._owned:
            for client in self._clients:
                await client.aclose()

    def _next_client(self) -> int:
        """The place of the first client that has room for a request."""
        if self._open_another is None:
            return 0
        for place, count in enumerate(self._in_flight):
            if count < REQUESTS_PER_CLIENT:
                return place
        self._clients.append(self._open_another())
        self._in_flight.append(0)
        return len(self._clients) - 1

    async def _send(
        self, client: httpx.AsyncClient, request: HttpRequest, sink: Sink | None, exchange: _Exchange
    ) -> HttpReply | Failure:
        connect_s = min(CONNECT_TIMEOUT_S, request.timeout_s)
        prepared = client.build_request(
            request.method, request.url, content=request.body,
            headers=[(name.encode("ascii"), value.encode()) for name, value in request.headers.items()],
            timeout=self._httpx.Timeout(None, connect=connect_s),
            extensions={"trace": exchange.on_event},
        )  # fmt: skip
        response = exchange.response = await client.send(prepared, stream=True, follow_redirects=False)
        try:
            headers = _read_headers(response.headers.raw)
            if sink is not None and response.is_success:
                body = await self._stream_body(response, sink)
            else:
                body = await self._read_body(response, headers.get("content-length", ""))
            return HttpReply(response.status_code, headers, body) if isinstance(body, bytes) else body
        finally:
            await response.aclose()

    async def _read_body(self, response: httpx.Response, length: str) -> bytes | Failure:
        if length.isascii() and length.isdigit() and int(length) > self._max_body_bytes:
            return too_large(self._max_body_bytes)
        if response.is_stream_consumed:  # a hook of the client has read it
            return response.content
        return await read_pieces(response.aiter_bytes(), self._max_body_bytes, self._large)

    async def _stream_body(self, response: httpx.Response, sink: Sink) -> bytes | Failure:
        size = 0
        parts = response.aiter_bytes()
        async for part in parts:
            size += len(part)
            if size > self._max_body_bytes:
                return too_large(self._max_body_bytes)
            if sink(part):
                break
        else:
            return b""
        with contextlib.suppress(Exception):  # all that was needed came: how the connection ends does not matter
            async with asyncio.timeout(DRAIN_S):
                await anext(parts, b"")
        return b""

    def _has_pool(self) -> bool:
        """Whether the client has a pool in which requests can wait; a mock transport has none."""
        return isinstance(getattr(self._clients[0], "_transport", None), self._httpx.AsyncHTTPTransport)

    def _failure_of(self, error: Exception, request: HttpRequest) -> HttpReply | Failure:
        httpx = self._httpx
        if isinstance(error, httpx.HTTPStatusError):  # of a hook that calls raise_for_status
            return HttpReply(error.response.status_code, dict(error.response.headers), b"")
        if any(isinstance(cause, OSError) and cause.errno in OUT_OF_FILES for cause in _causes(error)):
            return out_of_files()
        if isinstance(error, httpx.PoolTimeout):
            return _pool_exhausted(request.timeout_s)
        if isinstance(error, httpx.ConnectTimeout):
            return connect_failure(request, "timed out", proxies=self._proxies)
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return connect_failure(request, _message(error), proxies=self._proxies)
        if isinstance(error, httpx.TimeoutException):
            return request_timeout(request)
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol | httpx.InvalidURL | UnicodeError):
            return unsendable(request)
        if isinstance(error, httpx.TransportError | httpx.DecodingError):
            return broken_connection(request, _message(error))
        return _client_crash(error)


class _Exchange:
    """One request as httpcore reports it, event by event. `limit` is the timeout of the request."""

    def __init__(self, limit: asyncio.Timeout, limit_s: float) -> None:
        self.phase = ""
        self.response: httpx.Response | None = None
        self.redirect: HttpReply | None = None  # httpx raises for one to an address that it cannot parse
        self._limit = limit
        self._limit_s = limit_s

    async def on_event(self, event: str, info: Mapping[str, Any]) -> None:
        """Restart the clock when the request leaves the queue of the pool: the server does not cause that wait."""
        if not self.phase:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._limit_s)
        self.phase = event
        if event == HEAD_RECEIVED:
            _, status, _, headers, *_ = info["return_value"]
            self.redirect = HttpReply(status, _read_headers(headers), b"") if 300 <= status < 400 else None
        elif event == REPLY_RECEIVED and self.response is not None and _has_more(self.response):
            await self.response.extensions["network_stream"].aclose()


def _has_more(response: httpx.Response) -> bool:
    """Whether bytes came behind a whole reply: httpcore takes them for the reply to the next request of the connection."""
    stream: Any = response.stream
    for name in ("_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state"):
        stream = getattr(stream, name, None)
    return stream is not None and bool(stream.trailing_data[0])


def _read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The first value of each header, names in lower case."""
    headers: dict[str, str] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return headers


def open_httpx(
    *,
    user_agent: str,
    uds: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    verify: bool | str = True,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> HttpxTransport:
    """A transport with clients of our settings; `verify` is False or a CA file. Raises SuiteError for broken files."""
    open_another = partial(_open_client, user_agent, uds, _tls_context(cert, key, verify))
    return HttpxTransport(open_another(), owned=True, open_another=open_another, max_body_bytes=max_body_bytes)


def _open_client(user_agent: str, uds: str | None, context: ssl.SSLContext) -> httpx.AsyncClient:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S)
    try:
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=uds, verify=context, limits=limits) if uds is not None else None,
            verify=context,
            limits=limits,
            headers={"user-agent": user_agent},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=uds is None,  # a Unix socket needs no proxy
        )
    except ImportError:
        raise SuiteError(f"a SOCKS proxy is set in the environment; {SOCKS_HELP}") from None
    except ValueError as wrong:
        raise SuiteError(f"a proxy of the environment cannot be used: {quote(str(wrong))}") from None


def _tls_context(cert: str | None, key: str | None, verify: bool | str) -> ssl.SSLContext:
    """The system's certificates, or those of SSL_CERT_FILE, plus those of REQUESTS_CA_BUNDLE and what the suite names."""
    context = ssl.create_default_context()
    with contextlib.suppress(OSError, ValueError):  # not a PEM file: it adds nothing
        if (ca_file := extra_ca_file()) is not None:
            context.load_verify_locations(cafile=ca_file)
    try:
        if isinstance(verify, str):
            if Path(verify).stat().st_size > MAX_CA_BYTES:
                raise OSError(errno.EFBIG, f"it is larger than {MAX_CA_BYTES // 2**20} MiB")
            context.load_verify_locations(cafile=verify)
    except (OSError, ValueError) as wrong:
        raise SuiteError(f"transport.verify {verify!r} cannot be loaded: {_reason(wrong)}") from None
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if cert is not None:
            context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as wrong:
        raise SuiteError(f"transport.cert {cert!r} cannot be loaded: {_reason(wrong)}") from None
    return context


def _reason(error: Exception) -> str:
    return quote(str(getattr(error, "strerror", None) or error) or type(error).__name__)


def _pool_exhausted(seconds: float) -> Failure:
    """The failure of a request that never left the queue of the client's pool: no fault of the server."""
    message = f"no free connection in the HTTP client's pool for {seconds:.4g} s; lower concurrency or raise its limits"
    return Failure("connection", message, overloaded=True)


def _client_crash(error: Exception) -> Failure:
    message = quote(str(error))
    return Failure("connection", f"the HTTP client raised {type(error).__name__}{f': {message}' if message else ''}")


def _message(error: Exception) -> str:
    return str(error) or next((str(cause) for cause in _causes(error) if str(cause)), type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, those behind it and those inside of groups; a few at most, for chains may be rings."""
    waiting, seen = [error], 0
    while waiting and seen < 20:
        cause = waiting.pop(0)
        seen += 1
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
        if (behind := cause.__cause__ or cause.__context__) is not None:
            waiting.append(behind)
