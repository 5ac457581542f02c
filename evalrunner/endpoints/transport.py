"""The seam to the network: a request goes to `send`, a reply or a failure comes back.

    reply = await transport.send(HttpRequest("GET", "http://localhost:4000/model/info"))

`PyreqwestTransport` is the fast default and `HttpxTransport` the flexible one. Nothing above this seam knows which one
is used; tests pass their own.
"""

from __future__ import annotations

import errno
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from evalrunner.domain import EMPTY, Endpoint, Failure, Target
from evalrunner.endpoints.openai_errors import quote

if sys.platform != "win32":
    import resource

CONNECT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 86_400.0  # a longer timeout is none, and infinity is not a timedelta
MAX_BODY_BYTES = 64 * 1024 * 1024  # a chat reply is kilobytes, a thousand long embeddings some 30 MB
DRAIN_S = 0.5  # wait for the end of a body after its last needed piece, so that the connection can be reused
DEADLINE_GRACE_S = 0.25  # lets the row report its own deadline before the connection is dropped
RESERVED_FILES = 40  # descriptors that a run needs besides its connections
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})

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
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


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


def connect_failure(request: HttpRequest, reason: str) -> Failure:
    """The failure of a request without a connection. Fatal: the next one would not connect either."""
    why = quote(reason.partition(" (os error")[0])
    message = f"cannot connect to {request.origin} ({why[:1].lower()}{why[1:]}); is the server running?"
    return Failure("connection", message, fatal=True)


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
    return Failure("connection", f"the reply is larger than {max_bytes / 1024 / 1024:.3g} MiB")


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
