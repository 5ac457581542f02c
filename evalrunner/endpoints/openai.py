"""Any server that speaks OpenAI's API: OpenAI itself, a LiteLLM proxy, vLLM, Ollama, TGI and the like."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from evalrunner.attachments import AttachmentError, with_content
from evalrunner.domain import EMPTY, Completion, Failure, Message, Request, RequestKind
from evalrunner.endpoints.factory import EndpointContext, EndpointHandle, address_of, check_key, identity_of
from evalrunner.endpoints.openai_errors import parse_failure, quote
from evalrunner.endpoints.openai_replies import (
    load_reply,
    read_chat,
    read_embeddings,
    read_moderations,
    read_usage,
    with_cost,
)
from evalrunner.endpoints.pricing import UNKNOWN, KnownPrice, cost_of, price_of
from evalrunner.endpoints.sse import ChatStream
from evalrunner.endpoints.transport import HttpReply, HttpRequest, Transport
from evalrunner.errors import SuiteError
from evalrunner.redact import register_secret
from evalrunner.secret_names import LOGIN
from evalrunner.storage import dump_json, mapping_as_dict
from evalrunner.suite.environment import has_variable
from evalrunner.suite.schema import ModelSpec

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"  # its replies have no cost; on other servers a name does not determine the price
PATHS = {"chat": "/chat/completions", "embed": "/embeddings", "moderate": "/moderations"}
AZURE_URL = "https://RESOURCE.openai.azure.com/openai/deployments/NAME?api-version=2024-10-21"
API_VERSION = re.compile(r"api-version=[A-Za-z0-9.-]+")
JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
NAN_AS_JSON = "null"  # the fast encoder writes NaN as null; a text with that word only costs time
INCLUDE_USAGE = {"include_usage": True}  # as stream_options; not all servers know it

_ENCODER = json.JSONEncoder(allow_nan=False, default=mapping_as_dict)


def connect(spec: ModelSpec, context: EndpointContext) -> EndpointHandle:
    """The endpoint of a server that speaks OpenAI's API: the one at `base_url`, else OpenAI itself.

    Only the spec's own API key goes to a `base_url`; OpenAI itself gets OPENAI_API_KEY where the spec has none.
    """
    if spec.base_url is not None:
        return _connect(spec, context, spec.base_url, spec.api_key, spec.model)
    base_url = context.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    api_key = spec.api_key or context.environ.get("OPENAI_API_KEY") or None
    if api_key is None and base_url.rstrip("/") == OPENAI_URL:
        raise SuiteError(
            f"{spec.model!r} needs an API key for OpenAI: set OPENAI_API_KEY, also in .env, or api_key, "
            "or set base_url to another server"
        )
    register_secret(api_key)
    return _connect(spec, context, base_url, api_key, spec.model.partition("/")[2])


def _connect(
    spec: ModelSpec, context: EndpointContext, base_url: str, api_key: str | None, model: str
) -> EndpointHandle:
    url, credentials = read_base_url(base_url)
    headers = dict(spec.headers)
    if credentials is not None and not api_key:
        headers.setdefault("authorization", credentials)
    checked, timeout_s = check_key(api_key), context.timeout_s
    transport, address = context.transport(spec.pace.transport, url), address_of(url, spec.pace.transport)
    server = ("openai", url, checked, tuple(sorted(headers.items())), timeout_s, id(transport))
    endpoint = context.share(
        server, lambda: OpenAIEndpoint(transport, url, api_key=checked, headers=headers, timeout_s=timeout_s)
    )

    def list_price() -> KnownPrice:
        price = price_of(model) if spec.base_url is None and _is_openai(urlsplit(url).hostname) else None
        return UNKNOWN if price is None else KnownPrice(price, "table")

    return EndpointHandle(
        endpoint, model, _public_address(spec, url), context.key(address, checked), identity_of(address, headers),
        enforces_timeout=True, list_price=list_price,
    )  # fmt: skip


def _public_address(spec: ModelSpec, url: str) -> str:
    """The URL of a model as it may be shown: variables of its path by name."""
    public = str(spec.public.get("base_url") or "")
    return LOGIN.sub("://", public).rstrip("/") if has_variable(public) else url


def _is_openai(host: str | None) -> bool:
    return host is not None and (host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}"))


class OpenAIEndpoint:
    """An `Endpoint` over HTTP. Parameters are sent unchanged; the API key is sent to `base_url` only."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] = EMPTY,
        timeout_s: float = 60.0,
    ) -> None:
        base_url, _, query = base_url.partition("?")
        self.base_url = base_url.rstrip("/")
        self._query = f"?{query}" if query else ""
        self._timeout_s = timeout_s
        self._transport = transport
        self._headers = _request_headers(api_key, headers, azure=bool(query))
        parts = urlsplit(self.base_url)
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._include_usage = True  # until the server rejects stream_options
        self._states_finish = False  # whether any answer had a finish reason
        self._priced = _is_openai(parts.hostname)

    def __repr__(self) -> str:
        return f"OpenAIEndpoint({self._origin!r})"

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is measured from before the request is sent to the last byte of the reply."""
        include_usage = self._include_usage
        try:
            messages = await with_content(request.messages)
            body = _dump_body(_request_body(request, messages, include_usage=include_usage))
        except AttachmentError as changed:
            return Failure("bad_request", str(changed))
        except (TypeError, ValueError, RecursionError) as unfit:
            return Failure("bad_request", f"the request cannot be written as JSON: {quote(str(unfit))}", fatal=True)
        if request.stream and request.kind == "chat":
            return await self._ask_streamed(request, body, include_usage=include_usage)
        started = time.perf_counter()
        reply = await self._transport.send(self._post(request.kind, body))
        if isinstance(reply, Failure):
            return reply
        latency_s = time.perf_counter() - started
        if not 200 <= reply.status < 300:
            return parse_failure(reply.status, reply.headers, reply.body, latency_s)
        data = load_reply(reply.body)
        if isinstance(data, Failure | Completion):
            return data
        return self._answer(request, data, reply.headers, latency_s)

    def _post(self, kind: RequestKind, body: bytes) -> HttpRequest:
        return HttpRequest("POST", self.base_url + PATHS[kind] + self._query, self._headers, body, self._timeout_s)

    async def _ask_streamed(self, request: Request, body: bytes, *, include_usage: bool) -> Completion | Failure:
        """The answer, assembled from its chunks. A failure after the last needed chunk does not matter."""
        timed = TimedStream()
        reply = await self._transport.send(self._post("chat", body), timed.feed)
        if isinstance(reply, Failure):
            if not timed.stream.complete:
                return reply
            reply = HttpReply(200, EMPTY, b"")
        latency_s = timed.last_s or timed.seconds()
        if not 200 <= reply.status < 300:
            if include_usage and reply.status in (400, 422) and b"stream_options" in reply.body:
                self._include_usage = False
                return await self(request)
            return parse_failure(reply.status, reply.headers, reply.body, latency_s)
        data = timed.stream.reply()
        if isinstance(data, Failure | Completion):
            return data
        states_finish = self._states_finish
        answer = self._answer(request, data, reply.headers, latency_s)
        if isinstance(answer, Failure):
            return answer
        if states_finish and answer.unknown_finish_reason == "":
            # gateways end a stream well after they lost the provider in the middle of an answer
            return Failure("connection", "the stream ended without the finish reason that this server states otherwise")
        return replace(answer, ttft_s=timed.first_s)

    def _answer(
        self, request: Request, data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float
    ) -> Completion | Failure:
        answer = _read(request, data, headers, latency_s)
        if (
            request.kind == "chat"
            and isinstance(answer, Completion)
            and answer.answered
            and answer.unknown_finish_reason is None
        ):
            self._states_finish = True
        if self._priced and isinstance(answer, Completion) and answer.cost_usd is None:
            return with_cost(answer, cost_of(request.model, answer.served_model, read_usage(data)))
        return answer

    async def fetch(self, path: str, *, timeout_s: float) -> Any:
        """The JSON at a path next to /v1 of the server, requested with the same API key, or None if there is none."""
        return await self._get(self.base_url.removesuffix("/v1") + path, timeout_s)

    async def list_models(self, *, timeout_s: float) -> Any:
        """The list of the server's models, usually at /v1/models, or None if it gives none."""
        return await self._get(f"{self.base_url}/models{self._query}", timeout_s)

    async def _get(self, url: str, timeout_s: float) -> Any:
        reply = await self._transport.send(HttpRequest("GET", url, self._headers, None, timeout_s))
        try:
            return json.loads(reply.body) if isinstance(reply, HttpReply) and reply.status == 200 else None
        except (ValueError, RecursionError):
            return None


@dataclass(slots=True)
class TimedStream:
    """A streamed reply with the seconds from the request to its first and last chunk of the answer."""

    stream: ChatStream = field(default_factory=ChatStream)
    first_s: float | None = None
    last_s: float | None = None
    _started: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def feed(self, piece: bytes) -> bool:
        """Whether this was the last piece needed."""
        self.stream.feed(piece)
        if self.first_s is None and self.stream.begun:
            self.first_s = self.seconds()
        if self.stream.complete:
            self.last_s = self.seconds()
        return self.stream.done


def _request_headers(api_key: str | None, custom: Mapping[str, str], *, azure: bool = False) -> Mapping[str, str]:
    """The headers of every request; those of the suite override the default ones, whatever their case.

    Azure's deployments take a key in a header of their own, and the token of a login as others do.
    """
    headers = {"content-type": "application/json", "accept": "application/json"}
    if api_key and azure and JWT.fullmatch(api_key) is None:
        headers["api-key"] = api_key
    elif api_key:
        headers["authorization"] = f"Bearer {api_key}"
    headers.update((name.lower(), value) for name, value in custom.items())
    return headers


def _request_body(request: Request, messages: Sequence[Message], *, include_usage: bool) -> dict[str, Any]:
    if request.kind != "chat":
        named = {"model": request.model} if request.model else {}
        return {**request.params, **named, "input": request.texts}
    body: dict[str, Any] = {**request.params, "model": request.model, "messages": messages}
    if request.tools:
        body["tools"] = request.tools
    if request.response_format is not None:
        body["response_format"] = request.response_format
    if request.stream:
        body["stream"] = True
        if include_usage:
            body["stream_options"] = {**INCLUDE_USAGE, **(body.get("stream_options") or {})}
        else:
            body.pop("stream_options", None)
    return body


def _dump_body(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises ValueError and TypeError for values that JSON does not have, such as NaN."""
    text = dump_json(body, fallback=_ENCODER.encode)
    return (_ENCODER.encode(body) if NAN_AS_JSON in text else text).encode()


def _read(
    request: Request, data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float
) -> Completion | Failure:
    if request.kind == "chat":
        return read_chat(data, headers=headers, latency_s=latency_s, messages=request.messages)
    read = read_embeddings if request.kind == "embed" else read_moderations
    return read(data, texts=len(request.texts), headers=headers, latency_s=latency_s)


def read_base_url(text: str) -> tuple[str, str | None]:
    """The URL without credentials and trailing slash, and the credentials as an `Authorization` header.

    The URL of a deployment of Azure keeps its `?api-version=…`, and may be copied with the path of the request.
    Raises SuiteError for a URL that requests cannot be sent to.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its message may quote a password
        raise SuiteError("base_url is not a URL; it should look like http://localhost:4000/v1") from None
    public = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in ("http", "https") or not host:
        raise SuiteError(f"base_url is {public!r}; it should look like http://localhost:4000/v1")
    if not url.isascii() or not url.isprintable() or " " in url or port == 0:
        raise SuiteError(f"base_url {public!r} contains characters not allowed in a URL")
    azure = API_VERSION.fullmatch(parts.query) is not None
    if parts.fragment or (parts.query and not azure):
        raise SuiteError(
            f"base_url {public!r} has a query or a fragment; remove it. Only a deployment of Azure has one: {AZURE_URL}"
        )
    path = parts.path.rstrip("/")
    if azure:
        path = path.removesuffix(PATHS["chat"])
        if not path:
            raise SuiteError(f"base_url {public!r} names no deployment; it should look like {AZURE_URL}")
    for ending in PATHS.values():
        if path.endswith(ending):
            raise SuiteError(f"base_url {public!r} must not end with {ending!r}, which is appended to it")
    query = f"?{parts.query}" if azure else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}{query}", _basic_auth(
        parts.username, parts.password
    )


def _basic_auth(username: str | None, password: str | None) -> str | None:
    if username is None:
        return None
    pair = f"{unquote(username)}:{unquote(password or '')}"
    encoded = base64.b64encode(pair.encode()).decode()
    for secret in (password, unquote(password or ""), encoded, pair):
        register_secret(secret)
    return f"Basic {encoded}"
