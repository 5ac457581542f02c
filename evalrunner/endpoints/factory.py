"""The endpoint of a model: its kind, the transport of its requests, and what it shares with other models.

The kinds are the `endpoints` of `plugin_table.BUILTIN`. A model with `base_url` is of kind `openai`; any other model is of
the kind that its prefix names (`openai/NAME`, `local/NAME`), or goes through LiteLLM. Each entry is a function from a
spec and an `EndpointContext` to an `EndpointHandle`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from evalrunner.domain import EMPTY, Endpoint
from evalrunner.egress import ANY_HOST, EgressPolicy
from evalrunner.endpoints.pricing import UNKNOWN, KnownPrice
from evalrunner.endpoints.transport import DeadlineTransport, HttpService, OriginTransport, Transport, origin_of
from evalrunner.errors import SuiteError
from evalrunner.plugins import ReferenceProblem, known_names, load, load_attribute
from evalrunner.redact import register_secret
from evalrunner.suite.schema import ModelSpec, TransportSpec

if TYPE_CHECKING:
    import httpx

SERVER_KIND, SERVICE_KIND, DEFAULT_KIND = "openai", "http", "litellm"
CREDENTIAL_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"})
PROXY_VARIABLES = ("all_proxy", "https_proxy", "http_proxy")

Progress: TypeAlias = Callable[[int, int], None]
"""Called during a download with the bytes so far and in total."""


def unknown_price() -> KnownPrice:
    """The list price of an endpoint that knows none."""
    return UNKNOWN


@dataclass(frozen=True, slots=True)
class EndpointHandle:
    """An endpoint with the name of its model, its address and its limits.

    `model` is the name to send, `host` its address without credentials. `key` is the same for specs of one server
    and API key, which share one concurrency limit; it has no secret and is valid in this process only. `identity` says
    which endpoint answers, the same in every process and without secrets. `max_concurrency` is the number of calls that
    the endpoint processes at a time, None if unknown. `enforces_timeout`: it drops a call by itself at the timeout
    that it was opened with. `list_price` returns the price that the endpoint knows without a call. `takes` says which
    content it takes: any; images and files, but no URLs, which it might fetch itself (`embedded`); or text only.
    """

    endpoint: Endpoint
    model: str
    host: str
    key: str
    identity: str
    max_concurrency: int | None = None
    enforces_timeout: bool = False
    list_price: Callable[[], KnownPrice] = field(default=unknown_price, repr=False)
    takes: Literal["any", "embedded", "text"] = "any"


@runtime_checkable
class PreparableEndpoint(Protocol):
    """An endpoint that has something slow to do before its first call."""

    async def prepare(self, progress: Progress | None = None) -> None: ...


@runtime_checkable
class Closable(Protocol):
    async def aclose(self) -> None: ...


class EndpointContext:
    """Shared state of the endpoints of one pool: environment, transports, and endpoints already open."""

    def __init__(self, transports: Transports, environ: Mapping[str, str]) -> None:
        self.transports = transports
        self.environ = environ
        self.timeout_s = 60.0
        self.folder = Path()
        self.egress = ANY_HOST
        self.endpoints: dict[object, Endpoint] = {}
        self._keys: dict[object, str] = {}

    def share(self, server: object, make: Callable[[], Endpoint]) -> Endpoint:
        """The endpoint of a server, created once for all specs that use it in the same way."""
        if server not in self.endpoints:
            self.endpoints[server] = make()
        return self.endpoints[server]

    def key(self, address: str, api_key: str | None = None) -> str:
        """The name of an address and API key within this pool: numbered, because it must not contain the key."""
        return self._keys.setdefault((address, api_key), f"{address} #{len(self._keys) + 1}")

    def transport(self, spec: TransportSpec | None, url: str) -> Transport:
        """The transport for requests to a URL, and to no other host.

        Raises SuiteError if the spec cannot be met, or the suite does not allow the host.
        """
        if (refusal := self.egress.refusal(url)) is not None:
            raise SuiteError(refusal)
        return self.transports.get(spec, url, self.folder)


class Transports:
    """The transports of one pool, each created when a spec needs it.

    If `transport` or `http_client` is set, it sends all requests.
    """

    def __init__(
        self,
        *,
        transport: Transport | None,
        http_client: httpx.AsyncClient | None,
        environ: Mapping[str, str],
        user_agent: str,
        time_left_s: Callable[[], float] | None,
    ) -> None:
        self._environ = environ
        self._user_agent = user_agent
        self._time_left_s = time_left_s
        self._open: dict[object, Transport] = {}
        self._bound: dict[object, Transport] = {}  # by transport and origin
        if transport is None and http_client is not None:
            from evalrunner.endpoints.httpx_transport import HttpxTransport

            transport = HttpxTransport(http_client, owned=False)
        self._only = None if transport is None else self._with_deadline(transport)

    def get(self, spec: TransportSpec | None, url: str, folder: Path) -> Transport:
        """The transport that a spec names, or the one that can reach the URL. It sends to the host of the URL only."""
        transport, origin = self._get(spec, url, folder), origin_of(url)
        return self._bound.setdefault((id(transport), origin), OriginTransport(transport, origin))

    def _get(self, spec: TransportSpec | None, url: str, folder: Path) -> Transport:
        if self._only is not None:
            return self._only
        spec = spec or TransportSpec()
        if spec.type is None and not spec.needs_httpx and self._uses_socks(url):
            spec = replace(spec, type="httpx")
        name: object = (spec, folder) if spec.client is not None else spec
        if name not in self._open:
            self._open[name] = self._with_deadline(self._create(spec, folder))
        return self._open[name]

    async def aclose(self) -> None:
        """Close all transports; a later request opens them again."""
        opened, self._open, self._bound = self._open, {}, {}
        for transport in (*opened.values(), *(() if self._only is None else (self._only,))):
            await transport.aclose()

    def _with_deadline(self, transport: Transport) -> Transport:
        return transport if self._time_left_s is None else DeadlineTransport(transport, self._time_left_s)

    def _create(self, spec: TransportSpec, folder: Path) -> Transport:
        if spec.type != "httpx" and not spec.needs_httpx:
            try:
                import pyreqwest.client  # noqa: F401  no wheel for this platform, no default transport

                from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport

                return PyreqwestTransport(user_agent=self._user_agent, max_body_bytes=spec.max_body * 2**20)
            except ImportError as missing:
                if spec.type == "pyreqwest":
                    raise SuiteError(f"transport: pyreqwest cannot be imported here ({missing}); use httpx") from None
        from evalrunner.endpoints.httpx_transport import HttpxTransport, open_httpx

        if spec.client is not None:
            client, owned = load_client(spec.client, folder)
            return HttpxTransport(client, owned=owned, max_body_bytes=spec.max_body * 2**20)
        return open_httpx(
            user_agent=self._user_agent, uds=spec.uds, cert=spec.cert, key=spec.key, verify=spec.verify,
            max_body_bytes=spec.max_body * 2**20,
        )  # fmt: skip

    def _uses_socks(self, url: str) -> bool:
        """Whether the environment sets a SOCKS proxy for this URL, which pyreqwest does not support."""
        names = [name for name in PROXY_VARIABLES for name in (name, name.upper())]
        if not any(self._environ.get(name, "").startswith("socks") for name in names):
            return False
        from urllib.request import getproxies, proxy_bypass

        parts, proxies = urlsplit(url), getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all", "")
        return proxy.startswith("socks") and not proxy_bypass(parts.hostname or "")


def load_client(reference: str, folder: Path) -> tuple[httpx.AsyncClient, bool]:
    """The client behind a reference, and whether to close it: one that a function returned is closed, an object is not.

    Raises SuiteError.
    """
    import httpx

    try:
        client = load_attribute(reference, folder=folder)
    except ReferenceProblem as wrong:
        raise SuiteError(f"transport.client: {wrong}") from None
    owned = not isinstance(client, httpx.AsyncClient)
    if owned:
        if not callable(client):
            raise SuiteError(f"transport.client: {reference!r} is a {type(client).__name__}, not a function")
        try:
            client = client()
        except Exception as crash:  # an exception of user code is reported as it is
            raise SuiteError(f"transport.client: {reference!r} raised {type(crash).__name__}: {crash}") from crash
    if not isinstance(client, httpx.AsyncClient):
        raise SuiteError(
            f"transport.client: {reference!r} returned a {type(client).__name__}, not an httpx.AsyncClient"
        )
    return client, owned


class EndpointPool:
    """The endpoints of one process. Specs of the same server and key share one; leaving the pool closes all.

    `http_client` is an `httpx.AsyncClient` for all HTTP requests; it stays open. `time_left_s` returns the real seconds
    that the row which asks has left; no request outlasts them.

    async with EndpointPool() as pool:
        handle = pool.open(spec, timeout_s=60)
        await pool.prepare()
        answer = await handle.endpoint(Request(handle.model, messages))
    """

    def __init__(
        self,
        *,
        transport: Transport | None = None,
        http_client: httpx.AsyncClient | None = None,
        environ: Mapping[str, str] | None = None,
        user_agent: str = "evalrun",
        time_left_s: Callable[[], float] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        transports = Transports(
            transport=transport,
            http_client=http_client,
            environ=environ,
            user_agent=user_agent,
            time_left_s=time_left_s,
        )
        self._context = EndpointContext(transports, environ)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def open(
        self, spec: ModelSpec, *, timeout_s: float, folder: Path = Path(), egress: EgressPolicy = ANY_HOST
    ) -> EndpointHandle:
        """The endpoint of a spec; nothing is called. References are relative to `folder`.

        Raises SuiteError, MissingExtraError among them, and for a host that `egress` does not allow.
        """
        register_secret(spec.api_key)
        return self._open(kind_of(spec), spec, timeout_s, folder, egress)

    def open_http(
        self,
        service: HttpService,
        *,
        timeout_s: float,
        transport: TransportSpec | None = None,
        folder: Path = Path(),
        egress: EgressPolicy = ANY_HOST,
    ) -> EndpointHandle:
        """The endpoint of an HTTP service; nothing is called. Raises SuiteError for a host that `egress` does not allow."""
        return self._open(SERVICE_KIND, service, timeout_s, folder, egress, transport)

    async def prepare(self, progress: Progress | None = None) -> None:
        """Do everything slow that a first call would wait for: fetch weights, import packages.

        `progress` is called during a download. Raises RunError where something cannot be prepared.
        """
        for endpoint in self._context.endpoints.values():
            if isinstance(endpoint, PreparableEndpoint):
                await endpoint.prepare(progress)

    async def aclose(self) -> None:
        """Close every endpoint and connection."""
        endpoints, self._context.endpoints = self._context.endpoints, {}
        for endpoint in endpoints.values():
            if isinstance(endpoint, Closable):
                await endpoint.aclose()
        await self._context.transports.aclose()

    def _open(
        self, kind: str, spec: Any, timeout_s: float, folder: Path, egress: EgressPolicy, *more: Any
    ) -> EndpointHandle:
        self._context.timeout_s, self._context.folder, self._context.egress = timeout_s, folder, egress
        handle: EndpointHandle = load("endpoints", kind)(spec, self._context, *more)
        return handle


def kind_of(spec: ModelSpec) -> str:
    """The kind of endpoint of a model."""
    if spec.base_url is not None:
        return SERVER_KIND
    prefix, slash, _ = spec.model.partition("/")
    return prefix if slash and prefix != SERVICE_KIND and prefix in known_names("endpoints") else DEFAULT_KIND


def refuse_transport(spec: ModelSpec) -> None:
    """Raises SuiteError if a transport is set for a model whose requests another library sends."""
    if spec.pace.transport is not None:
        raise SuiteError(
            f"'transport' has no effect on {spec.model!r}, whose requests another library sends; remove it, "
            "or name a server with base_url"
        )


def address_of(url: str, transport: TransportSpec | None) -> str:
    """What tells one server from another: its URL, and the Unix socket it is reached through."""
    return url if transport is None or transport.uds is None else f"{url} at {transport.uds}"


def identity_of(address: str, headers: Mapping[str, str] = EMPTY) -> str:
    """The address, and a hash of the custom headers, by which a gateway may route. Credentials are excluded."""
    sent = sorted((name.lower(), value) for name, value in headers.items() if name.lower() not in CREDENTIAL_HEADERS)
    if not sent:
        return address
    return f"{address} {hashlib.sha256(json.dumps(sent).encode()).hexdigest()[:16]}"


def check_key(api_key: str | None) -> str | None:
    """The API key without surrounding whitespace, or None. Raises SuiteError, which does not quote it."""
    key = (api_key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise SuiteError("api_key contains invalid characters, such as a line break; was it copied completely?")
    register_secret(key)
    return key or None
