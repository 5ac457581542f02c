"""A model of the suite as an endpoint: which of the three it is, where it goes, and which key goes with it.

With `base_url` it is any server that speaks OpenAI's API, and gets the target's own key alone. `openai/NAME` is
OpenAI itself, `local/NAME` the embedded model, and all else goes through LiteLLM inside this process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable
from urllib.parse import unquote, urlsplit

from evalrunner.domain import EMPTY, Endpoint
from evalrunner.endpoints.http import HttpEndpoint, Service
from evalrunner.endpoints.openai import PATHS, OpenAIEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.endpoints.transport import DeadlineTransport, Transport
from evalrunner.errors import SuiteError
from evalrunner.redact import register_secret
from evalrunner.suite.schema import ModelSpec

if TYPE_CHECKING:
    from evalrunner.endpoints.local_weights import Progress  # whose module imports what only a download needs

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_PREFIX = "openai/"
LOCAL_PREFIX = "local/"
CREDENTIAL_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class EndpointHandle:
    """An endpoint and what to ask it for.

    `model` is the name to send, `host` what may be shown of where it goes. `key` is the same for specs of one server
    and API key, which share one pace; it holds no secret and means nothing to another process. `identity` says which
    endpoint answers, the same in every process and without any secret. `max_concurrency` is how many calls the endpoint works
    on at a time, None where it does not say. `enforces_timeout`: it gives up by itself at the limit it was opened with.
    """

    endpoint: Endpoint
    model: str
    host: str
    key: str
    identity: str
    max_concurrency: int | None = None
    enforces_timeout: bool = False


@runtime_checkable
class Preparable(Protocol):
    """An endpoint that has something slow to do before its first call."""

    async def prepare(self, progress: Progress | None = None) -> None: ...


@runtime_checkable
class Closable(Protocol):
    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Server:
    """A server that speaks OpenAI's API and how it is asked: what makes two specs share an endpoint."""

    base_url: str
    api_key: str | None
    headers: tuple[tuple[str, str], ...]
    timeout_s: float


class EndpointPool:
    """The endpoints of one process. Specs of the same server and key share one; leaving the pool closes all.

    `time_left_s` tells the real seconds that are left for what is under way, and no request outlasts them.

    async with EndpointPool() as pool:
        opened = pool.open(spec, timeout_s=60)
        await pool.prepare()
        answer = await opened.endpoint(Request(opened.model, messages))
    """

    def __init__(
        self,
        *,
        transport: Transport | None = None,
        environ: Mapping[str, str] | None = None,
        user_agent: str = "evalrun",
        time_left_s: Callable[[], float] | None = None,
    ) -> None:
        self._transport = PyreqwestTransport(user_agent=user_agent) if transport is None else transport
        if time_left_s is not None:
            self._transport = DeadlineTransport(self._transport, time_left_s)
        self._environ = os.environ if environ is None else environ
        self._opened: dict[object, Endpoint] = {}
        self._keys: dict[object, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def open(self, spec: ModelSpec, *, timeout_s: float) -> EndpointHandle:
        """The endpoint of a spec; nothing is called. Raises SuiteError, MissingExtraError among them."""
        register_secret(spec.api_key)
        if spec.base_url is not None:
            return self._server(spec, spec.base_url, spec.api_key, spec.model, timeout_s)
        if spec.model.startswith(OPENAI_PREFIX):
            return self._openai(spec, timeout_s)
        if spec.model.startswith(LOCAL_PREFIX):
            return self._local(spec)
        return self._litellm(spec)

    def open_http(self, service: Service, *, timeout_s: float) -> EndpointHandle:
        """The endpoint of a service of one's own; nothing is called."""
        headers = service.headers
        server = ("service", service.origin, tuple(sorted(headers.items())), timeout_s)
        endpoint = self._share(server, lambda: HttpEndpoint(self._transport, service, timeout_s=timeout_s))
        login = "".join(f"{name}: {value}\n" for name, value in headers.items() if name.lower() in CREDENTIAL_HEADERS)
        key, identity = self._key(service.origin, login), identity_of(service.origin, headers)
        return EndpointHandle(endpoint, service.origin, service.origin, key, identity, enforces_timeout=True)

    async def prepare(self, progress: Progress | None = None) -> None:
        """None, with everything slow done that a first call would otherwise wait for: weights fetched, packages
        imported. `progress` is told of a download. Raises RunError where it cannot be done.
        """
        for endpoint in self._opened.values():
            if isinstance(endpoint, Preparable):
                await endpoint.prepare(progress)

    async def aclose(self) -> None:
        """None, with every endpoint and connection closed."""
        opened, self._opened = self._opened, {}
        for endpoint in opened.values():
            if isinstance(endpoint, Closable):
                await endpoint.aclose()
        await self._transport.aclose()

    def _openai(self, spec: ModelSpec, timeout_s: float) -> EndpointHandle:
        base_url = self._environ.get("OPENAI_BASE_URL") or OPENAI_URL
        api_key = spec.api_key or self._environ.get("OPENAI_API_KEY") or None
        if api_key is None and base_url.rstrip("/") == OPENAI_URL:
            raise SuiteError(
                f"{spec.model!r} goes to OpenAI and needs a key: set OPENAI_API_KEY, give api_key, "
                "or name another server with base_url"
            )
        register_secret(api_key)
        return self._server(spec, base_url, api_key, spec.model.removeprefix(OPENAI_PREFIX), timeout_s)

    def _server(
        self, spec: ModelSpec, base_url: str, api_key: str | None, model: str, timeout_s: float
    ) -> EndpointHandle:
        url, login = read_base_url(base_url)
        headers = dict(spec.headers)
        if login is not None and not api_key:
            headers.setdefault("authorization", login)
        checked = check_key(api_key)
        server = Server(url, checked, tuple(sorted(headers.items())), timeout_s)
        endpoint = self._share(
            server,
            lambda: OpenAIEndpoint(self._transport, url, api_key=checked, headers=headers, timeout_s=timeout_s),
        )
        return EndpointHandle(
            endpoint, model, url, self._key(url, checked), identity_of(url, headers), enforces_timeout=True
        )

    def _local(self, spec: ModelSpec) -> EndpointHandle:
        from evalrunner.endpoints.local import LocalEndpoint, check_local_model

        check_local_model(spec.model)
        endpoint = self._share(spec.model, LocalEndpoint)
        return EndpointHandle(
            endpoint, spec.model, "this machine", self._key(spec.model), identity_of(spec.model), max_concurrency=1
        )

    def _litellm(self, spec: ModelSpec) -> EndpointHandle:
        from evalrunner.endpoints.litellm import LiteLLMEndpoint

        api_key, provider = check_key(spec.api_key), f"litellm {spec.model.partition('/')[0]}"
        server = (provider, api_key, tuple(sorted(spec.headers.items())))
        endpoint = self._share(server, lambda: LiteLLMEndpoint(api_key=api_key, headers=spec.headers))
        identity = identity_of(provider, spec.headers)
        return EndpointHandle(endpoint, spec.model, "LiteLLM", self._key(provider, api_key), identity)

    def _share(self, server: object, make: Callable[[], Endpoint]) -> Endpoint:
        """The endpoint that was made for this server, the same for all who ask it alike."""
        if server not in self._opened:
            self._opened[server] = make()
        return self._opened[server]

    def _key(self, address: str, api_key: str | None = None) -> str:
        """The name of an address and API key within this pool, numbered, for the key itself must not stand in it."""
        return self._keys.setdefault((address, api_key), f"{address} #{len(self._keys) + 1}")


def identity_of(address: str, headers: Mapping[str, str] = EMPTY) -> str:
    """The address, and a hash of the suite's own headers: a gateway may route by them. Those of logins do not count."""
    told = sorted((name.lower(), value) for name, value in headers.items() if name.lower() not in CREDENTIAL_HEADERS)
    if not told:
        return address
    return f"{address} {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"


def read_base_url(text: str) -> tuple[str, str | None]:
    """The URL without a login and without a slash at its end, and the login as an `Authorization` header.

    Raises SuiteError where requests cannot be sent there.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # whose words may quote a password
        raise SuiteError("base_url is no URL; it should look like http://localhost:4000/v1") from None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in ("http", "https") or not host:
        raise SuiteError(f"base_url is {shown!r}; it should look like http://localhost:4000/v1")
    if not url.isascii() or not url.isprintable() or " " in url or port == 0:
        raise SuiteError(f"base_url {shown!r} holds what no URL can hold")
    if parts.query or parts.fragment:
        raise SuiteError(f"base_url {shown!r} has something after '?' or '#'; leave that out")
    path = parts.path.rstrip("/")
    for ending in PATHS.values():
        if path.endswith(ending):
            raise SuiteError(f"base_url {shown!r} should end before {ending!r}, which is added to it")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}", _login(parts.username, parts.password)


def _login(username: str | None, password: str | None) -> str | None:
    if username is None:
        return None
    word = f"{unquote(username)}:{unquote(password or '')}"
    encoded = base64.b64encode(word.encode()).decode()
    for secret in (password, unquote(password or ""), encoded, word):
        register_secret(secret)
    return f"Basic {encoded}"


def check_key(api_key: str | None) -> str | None:
    """The key without blanks around it, or None where there is none. Raises SuiteError, without the key in it."""
    key = (api_key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise SuiteError("api_key holds signs that no key has, such as a line break; was it copied whole?")
    register_secret(key)
    return key or None
