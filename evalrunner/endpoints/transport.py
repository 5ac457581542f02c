"""The seam to the network: a request goes to `send`, a reply or a failure comes back.

    reply = await transport.send(HttpRequest("GET", "http://localhost:4000/model/info"))

`PyreqwestTransport` is the fast default and `HttpxTransport` the flexible one. Nothing above this seam knows which one
is used; tests pass their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from evalrunner.domain import EMPTY, Endpoint, Failure, Target
from evalrunner.endpoints.openai_errors import quote

if sys.platform != "win32":
    import resource

CONNECT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 86_400.0  # a longer timeout is none, and infinity is not a timedelta
MAX_BODY_BYTES = 16 * 1024 * 1024  # a chat reply is kilobytes, one of 128,000 tokens half a megabyte
LARGE_BODY_BYTES = 1024 * 1024  # what follows is read of one body at a time
DRAIN_S = 0.5  # wait for the end of a body after its last needed piece, so that the connection can be reused
DEADLINE_GRACE_S = 0.25  # lets the row report its own deadline before the connection is dropped
RESERVED_FILES = 40  # descriptors that a run needs besides its connections
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # of other HTTP clients, where companies set their own CA
CONNECT_PROXY = (
    "cannot connect to the proxy {proxy} ({why}); check HTTPS_PROXY or HTTP_PROXY, or add the host to NO_PROXY"
)
CONNECT_CAUSES = (
    (r"notvalidforname|not valid for|hostname mismatch|doesn't match|certificate is not valid",
     "the certificate of {origin} is for another host ({why}); check base_url"),
    (r"expired", "the certificate of {origin} has expired ({why}); the server needs a new one"),
    (r"certificate|unknownissuer|self.signed",
     "the certificate of {origin} is not trusted ({why}){files}; name your company's CA in SSL_CERT_FILE or transport.verify"),
    (r"corrupt message|wrong.version.number|record layer|http_request",
     "{origin} does not speak TLS ({why}); use http:// in base_url"),
    (r"proxy authori[sz]ation required|\b407\b|proxy authentication",
     "the proxy {proxy} asks for a login ({why}); set user and password in HTTPS_PROXY, or add the host to NO_PROXY"),
    (r"tunnel|^\d{3} ", "the proxy {proxy} refuses to connect to {origin} ({why}); ask who runs it, or add the host to NO_PROXY"),
)  # fmt: skip
"""Why there is no connection, in the words of rustls, OpenSSL and both HTTP libraries, and what to do."""

Sink: TypeAlias = Callable[[bytes], bool]
"""Takes each piece of a streamed body as it comes; returns whether it was the last one needed."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request. After `timeout_s` its connection is dropped."""

    method: str
    url: str
    headers: Mapping[str, str] = EMPTY
    body: bytes | None = None
    timeout_s: float = 60.0

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL, without credentials: what a message may show."""
        return origin_of(self.url)


@dataclass(frozen=True, slots=True)
class HttpService:
    """A service other than a model: `origin` such as `http://localhost:8000`, and the headers of each request."""

    origin: str
    headers: Mapping[str, str] = EMPTY


@runtime_checkable
class NeedsHttpEndpoint(Protocol):
    """A target that needs an HTTP endpoint with the middleware of a model; what its factory returns."""

    @property
    def service(self) -> HttpService: ...

    @property
    def definition(self) -> Mapping[str, Any]:
        """The parts that define its requests, for provenance, without secrets."""
        ...

    def with_endpoint(self, endpoint: Endpoint, /, *, name: str) -> Target:
        """The target called `name` that uses this endpoint."""
        ...


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply of a server. Header names are in lower case; of a repeated header the first value counts.

    `body` is unpacked; it is empty where a sink took it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Sends HTTP requests. Redirects are returned, never followed: an API key must not go to another host."""

    async def send(self, request: HttpRequest, sink: Sink | None = None) -> HttpReply | Failure:
        """The whole reply, or a Failure of kind `connection` or `timeout` where there was none. Never raises.

        With `sink` the body of a reply with status 2xx goes there piece by piece; other bodies are in the reply.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class DeadlineTransport:
    """A `Transport` whose requests end when the time of their row is over.

    `time_left_s` returns the seconds that are left. The waiting row stops by itself then; this drops the connection.
    """

    inner: Transport
    time_left_s: Callable[[], float]

    async def send(self, request: HttpRequest, sink: Sink | None = None) -> HttpReply | Failure:
        left_s = max(0.0, self.time_left_s()) + DEADLINE_GRACE_S
        if left_s < request.timeout_s:
            request = replace(request, timeout_s=left_s)
        return await self.inner.send(request, sink)

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass(frozen=True, slots=True)
class OriginTransport:
    """A `Transport` to one origin: a request to any other host fails before anything is sent."""

    inner: Transport
    origin: str

    async def send(self, request: HttpRequest, sink: Sink | None = None) -> HttpReply | Failure:
        if request.origin != self.origin:
            message = f"requests of this endpoint go to {self.origin} only, not to {request.origin}"
            return Failure("connection", message, fatal=True)
        return await self.inner.send(request, sink)

    async def aclose(self) -> None:
        await self.inner.aclose()


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, without credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def connect_failure(request: HttpRequest, reason: str, *, proxies: bool = True) -> Failure:
    """The failure of a request without a connection. Fatal: the next one would not connect either.

    `proxies`: the request goes through the proxies that the environment names.
    """
    why = quote(reason.partition(" (os error")[0])
    why = f"{why[:1].lower()}{why[1:]}"
    proxy = proxy_of(request.url) if proxies else None
    place = {"origin": request.origin, "proxy": proxy, "why": why, "files": _missing_ca_files()}
    for cause, sentence in CONNECT_CAUSES:
        if re.search(cause, reason, re.IGNORECASE) and (proxy or "{proxy}" not in sentence):
            return Failure("connection", sentence.format_map(place), fatal=True)
    sentence = CONNECT_PROXY if proxy else "cannot connect to {origin} ({why}); is the server running?"
    return Failure("connection", sentence.format_map(place), fatal=True)


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL, without its credentials, or None."""
    from urllib.request import getproxies, proxy_bypass  # only where a connection failed

    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    scheme, separator, address = proxy.rpartition("://")
    return f"{scheme or 'http'}{separator or '://'}{address.rpartition('@')[2]}"


def extra_ca_file() -> str | None:
    """The CA bundle of REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, trusted besides those of the system or SSL_CERT_FILE."""
    for name in CA_VARIABLES:
        path = os.environ.get(name)
        if path and path != os.environ.get("SSL_CERT_FILE") and Path(path).is_file():
            return path
    return None


def _missing_ca_files() -> str:
    names = [
        name for name in ("SSL_CERT_FILE", *CA_VARIABLES) if (path := os.environ.get(name)) and not Path(path).exists()
    ]
    return "".join(f"; {name} names a file that does not exist" for name in names)


def broken_connection(request: HttpRequest, reason: str) -> Failure:
    """The failure of a request whose connection ended before the whole reply came."""
    why = quote(reason.partition(" (os error")[0])
    return Failure("connection", f"the connection to {request.origin} closed before the reply was complete ({why})")


def request_timeout(request: HttpRequest) -> Failure:
    """The failure of a request that got no whole reply in time."""
    return Failure("timeout", f"no answer within {request.timeout_s:.4g} s")


def unsendable(request: HttpRequest) -> Failure:
    """The failure of a request that HTTP cannot express. Without the library's message, which may quote an API key."""
    message = f"the request to {request.origin} cannot be sent: its URL or a header contains invalid characters"
    return Failure("connection", message, fatal=True)


def out_of_files() -> Failure:
    """The failure of a request for which this process had no file descriptor left. Fewer at once will do."""
    message = "too many open files; lower concurrency or raise the limit (ulimit -n)"
    return Failure("connection", message, overloaded=True)


def too_large(max_bytes: int) -> Failure:
    """The failure of a reply whose body is larger than allowed."""
    message = f"the reply is larger than {max_bytes / 1024 / 1024:.3g} MiB (transport.max_body)"
    return Failure("connection", message)


class LargeBodies:
    """Lets one large body be read at a time, so that hundreds of them at once do not fill the memory.

    The others wait with their first LARGE_BODY_BYTES; their server waits meanwhile.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def turn(self) -> asyncio.Lock:
        """Held while the rest of a large body is read. A lock belongs to one event loop."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._turn, self._loop = asyncio.Lock(), loop
        return self._turn


async def read_pieces(pieces: AsyncIterator[bytes], max_bytes: int, large: LargeBodies) -> bytes | Failure:
    """The whole body, or a failure if it is larger than allowed."""
    parts: list[bytes] = []
    size = 0
    async with contextlib.AsyncExitStack() as stack:
        async for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size > max_bytes:
                return too_large(max_bytes)
            if size >= LARGE_BODY_BYTES > size - len(piece):
                await stack.enter_async_context(large.turn())
        return b"".join(parts)


def connection_limit(wanted: int) -> int | None:
    """How many connections may be open at once, None where nothing limits `wanted` of them.

    Raises the soft limit of open files where `wanted` needs more than it allows.
    """
    if sys.platform == "win32":  # has no such limit
        return None
    needed = wanted + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    ceiling = math.inf if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(min(ceiling, needed)), hard))
        soft = int(min(ceiling, needed))
    except (OSError, ValueError):  # some systems have a lower limit than they report
        pass
    return None if soft >= needed else max(1, soft - RESERVED_FILES)
