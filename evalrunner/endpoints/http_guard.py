"""The HTTP libraries below LiteLLM, held to the policy of its call: hosts, redirects and the size of replies.

    guard_http_libraries()                        # once, after the import of LiteLLM
    with GuardedCall(policy) as call:
        ...                                       # every request in here obeys; `call.status` is that of the last reply

LiteLLM opens clients in many places, each of which follows redirects and takes the prompt, and most headers, to the other
host. No option turns that off for all of them, but each request goes through `send` of httpx or httpx2, or, where the login
of a provider is fetched, through urllib3 (requests, botocore, google-auth, azure-identity) or `http.client`. Requests
outside of LiteLLM's calls stay as they are.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from evalrunner.egress import EgressError, EgressPolicy
from evalrunner.endpoints.transport import MAX_BODY_BYTES

HTTPX_FAMILY = ("httpx", "httpx2")  # the second one is the default of newer clients of OpenAI
GUARDED_PACKAGE = "litellm"
MAX_ERROR_BYTES = 64 * 1024  # LiteLLM takes 3 s of CPU time for an error of a megabyte, in which no other row goes on
STARTERS = frozenset(
    {"threading", "concurrent", "asyncio", "contextvars", "functools"}
)  # below the function of a thread
PUBLIC_MODULES = frozenset({"litellm", "litellm.main", "litellm.utils"})  # their functions may be a user's threads


class RedirectError(Exception):
    """A server answered with a redirect, which is not followed."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(f"redirect to another address (HTTP {status})")
        self.status = status
        self.location = location


class ReplyTooLargeError(Exception):
    """The body of a reply is larger than allowed, as sent or decompressed."""


@dataclass(slots=True, eq=False)
class GuardedCall:
    """A context whose requests obey `policy`. `status` is that of the last reply, None before it."""

    policy: EgressPolicy
    status: int | None = None
    _token: Token[GuardedCall | None] | None = None

    def __enter__(self) -> Self:
        with _lock:
            _calls.append(self)
        self._token = _calling.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._token is not None
        _calling.reset(self._token)
        with _lock:
            _calls.remove(self)

    def check(self, url: str) -> None:
        """Raises EgressError unless the policy allows the host of the URL."""
        if (refusal := self.policy.refusal(url)) is not None:
            raise EgressError(refusal)

    def reply(self, status: int, location: str | None) -> None:
        """Note the status of a reply. Raises RedirectError for a redirect."""
        self.status = status
        if 300 <= status < 400:
            raise RedirectError(status, location or "")


class _BackgroundCall(GuardedCall):
    """What LiteLLM does in a thread of its own, for one of the calls in progress: nobody knows for which."""

    __slots__ = ()

    def check(self, url: str) -> None:
        with _lock:
            policies = {call.policy for call in _calls}
        refusals = [policy.refusal(url) for policy in policies]
        if None not in refusals:
            raise EgressError(refusals[0] if refusals else f"{url.partition('?')[0]} is asked for outside of any call")


_lock = threading.Lock()
_calls: list[GuardedCall] = []  # those in progress
_calling: ContextVar[GuardedCall | None] = ContextVar("_calling", default=None)
_background = _BackgroundCall(EgressPolicy(()))


def current_call() -> GuardedCall | None:
    """The call that the current code belongs to; None outside of the package's calls.

    Threads do not inherit the context unless they are started so, which the package does in most places only.
    """
    if (call := _calling.get()) is not None:
        return call
    if threading.current_thread() is threading.main_thread():
        return None
    return _background if _is_started_by_package() else None


def _is_started_by_package() -> bool:
    """Whether the current thread runs a function of the package's own, not one of a user that calls the package."""
    frame, first = inspect.currentframe(), ""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in STARTERS:
            first = name
        frame = frame.f_back
    return first.partition(".")[0] == GUARDED_PACKAGE and first not in PUBLIC_MODULES


def guard_http_libraries() -> None:
    """Make the libraries obey the policy of the call inside of LiteLLM's calls. Calling it again changes nothing."""
    for name in HTTPX_FAMILY:
        if importlib.util.find_spec(name) is not None:
            _guard_httpx(importlib.import_module(name))
    if importlib.util.find_spec("urllib3") is not None:
        _guard_urllib3()
    _guard_http_client()


def _guard_httpx(library: Any) -> None:
    if getattr(library.AsyncClient.send, "obeys_policy", False):
        return
    send_async, send_sync = library.AsyncClient.send, library.Client.send

    async def send(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        if (call := current_call()) is None:
            return await send_async(self, request, stream=stream, **options)
        call.check(str(request.url))
        response = await send_async(self, request, **{**options, "stream": True, "follow_redirects": False})
        try:
            call.reply(response.status_code, response.headers.get("location"))
            response.aiter_raw = _bounded_async(response.aiter_raw, response.status_code)
            response.aiter_bytes = _bounded_async(response.aiter_bytes, response.status_code)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    def send_blocking(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        if (call := current_call()) is None:
            return send_sync(self, request, stream=stream, **options)
        call.check(str(request.url))
        response = send_sync(self, request, **{**options, "stream": True, "follow_redirects": False})
        try:
            call.reply(response.status_code, response.headers.get("location"))
            response.iter_raw = _bounded(response.iter_raw, response.status_code)
            response.iter_bytes = _bounded(response.iter_bytes, response.status_code)
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        return response

    send.obeys_policy = True  # type: ignore[attr-defined]
    library.AsyncClient.send, library.Client.send = send, send_blocking


def _bounded_async(pieces: Callable[..., AsyncIterator[bytes]], status: int) -> Callable[..., AsyncIterator[bytes]]:
    """The same iteration over a body with the limits of `_BodyLimit`."""

    async def iterate(*args: Any, **options: Any) -> AsyncIterator[bytes]:
        limit = _BodyLimit(status)
        async for piece in pieces(*args, **options):
            yield limit.take(piece)
            if limit.is_cut:
                return

    return iterate


def _bounded(pieces: Callable[..., Iterator[bytes]], status: int) -> Callable[..., Iterator[bytes]]:
    def iterate(*args: Any, **options: Any) -> Iterator[bytes]:
        limit = _BodyLimit(status)
        for piece in pieces(*args, **options):
            yield limit.take(piece)
            if limit.is_cut:
                return

    return iterate


class _BodyLimit:
    """Counts the bytes of a body: an answer that is too large is an error, an error that is too large is cut."""

    def __init__(self, status: int) -> None:
        self._size = 0
        self._cuts = status >= 400
        self.is_cut = False

    def take(self, piece: bytes) -> bytes:
        """The part of the piece that is within the limit. Raises ReplyTooLargeError."""
        before, self._size = self._size, self._size + len(piece)
        if self._cuts and self._size > MAX_ERROR_BYTES:
            self.is_cut = True
            return piece[: max(0, MAX_ERROR_BYTES - before)]
        if self._size > MAX_BODY_BYTES:
            raise ReplyTooLargeError
        return piece


def _guard_urllib3() -> None:
    from urllib3.connectionpool import HTTPConnectionPool

    open_url: Any = HTTPConnectionPool.urlopen
    if getattr(open_url, "obeys_policy", False):
        return

    def urlopen(self: HTTPConnectionPool, method: str, url: str, *args: Any, **options: Any) -> Any:
        if (call := current_call()) is None:
            return open_url(self, method, url, *args, **options)
        # through a proxy the URL is the whole address
        whole = url.startswith(("http://", "https://"))
        call.check(url if whole else _url(self.scheme, self.host, self.port))
        response = open_url(self, method, url, *args, **{**options, "redirect": False})
        try:
            call.reply(response.status, response.headers.get("location"))
        except RedirectError:
            response.close()
            raise
        return response

    urlopen.obeys_policy = True  # type: ignore[attr-defined]
    HTTPConnectionPool.urlopen = urlopen  # type: ignore[method-assign]


def _guard_http_client() -> None:
    """The connections of `http.client` and urllib. urllib3 opens its own, so they are not checked twice."""
    from http.client import HTTPConnection, HTTPSConnection

    connect: Any = HTTPConnection.connect
    if getattr(connect, "obeys_policy", False):
        return

    def connect_allowed(self: Any) -> None:
        if (call := current_call()) is not None:
            host, port = (self._tunnel_host, self._tunnel_port) if self._tunnel_host else (self.host, self.port)
            call.check(_url("https" if isinstance(self, HTTPSConnection) else "http", host, port))
        connect(self)

    connect_allowed.obeys_policy = True  # type: ignore[attr-defined]
    HTTPConnection.connect = connect_allowed  # type: ignore[method-assign]


def keep_ascii_headers() -> None:
    """Leave out the headers that are not ASCII in replies that LiteLLM gets over aiohttp: it would lose the whole reply."""
    try:
        from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
    except ImportError:  # another version
        return
    request: Any = getattr(LiteLLMAiohttpTransport, "_make_aiohttp_request", None)
    if request is None or getattr(request, "keeps_ascii", False):
        return

    async def make_request(*args: Any, **options: Any) -> Any:
        response = await request(*args, **options)
        plain = all(name.isascii() and value.isascii() for name, value in response.headers.items())
        return response if plain else _AsciiReply(response)

    make_request.keeps_ascii = True  # type: ignore[attr-defined]
    LiteLLMAiohttpTransport._make_aiohttp_request = make_request  # noqa: SLF001


class _AsciiReply:
    """A reply without the headers that are not ASCII."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply
        pairs = ((name, value) for name, value in reply.headers.items() if name.isascii() and value.isascii())
        self.headers = type(reply.headers.copy())(pairs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reply, name)


def _url(scheme: str | None, host: str, port: int | None) -> str:
    named = f"[{host}]" if ":" in host else host
    return f"{scheme}://{named}{f':{port}' if port else ''}"
