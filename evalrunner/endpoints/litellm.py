"""Every provider that LiteLLM supports, called inside this process.

The package is imported once, and only for such a model: that takes seconds and 180 MB. Everything it would do besides
the call (fetch a price map, read a .env file, log, retry by itself) is switched off.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from evalrunner.attachments import AttachmentError, with_content
from evalrunner.domain import EMPTY, Completion, Failure, Request
from evalrunner.egress import ANY_HOST, EgressError, EgressPolicy
from evalrunner.endpoints.factory import (
    EndpointContext,
    EndpointHandle,
    check_key,
    identity_of,
    refuse_transport,
)
from evalrunner.endpoints.http_guard import (
    GuardedCall,
    RedirectError,
    ReplyTooLargeError,
    guard_http_libraries,
    keep_ascii_headers,
)
from evalrunner.endpoints.openai_errors import (
    ErrorText,
    failure_from_error,
    filtered_answer,
    quote,
    read_rate_limits,
    redirect_failure,
    refuses_tools,
    wait_in,
)
from evalrunner.endpoints.openai_replies import (
    dollars,
    malformed,
    read_chat,
    read_embeddings,
    read_moderations,
    with_cost,
)
from evalrunner.endpoints.pricing import UNKNOWN, KnownPrice, price_from_table, price_names, price_of
from evalrunner.endpoints.sse import ChatChunks
from evalrunner.endpoints.transport import MAX_BODY_BYTES
from evalrunner.errors import MissingExtraError, SuiteError, nearest
from evalrunner.suite.provider_hosts import named_addresses, policy_of_model
from evalrunner.suite.schema import ModelSpec

BARE_PROVIDERS = ("openai", "anthropic")  # whose models LiteLLM knows without their provider
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
EXCEPTION_PREFIX = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Exception|Timeout)(?:: | - ))+")
CONNECT_ERRORS = frozenset({"ConnectError", "ClientConnectorError", "ClientConnectorDNSError", "gaierror"})
CONNECT_ERROR_TEXTS = ("Cannot connect to host", "Connection refused")  # LiteLLM keeps only the message of these
NOISE = re.compile(r" ssl:<[^>]*>|\.? Handle with `[\w.]+`\.?|\s*Traceback \(most recent call last\).*", re.DOTALL)
BROKEN_CONNECTION_ERRORS = frozenset(
    {"ReadError", "WriteError", "RemoteProtocolError", "ServerDisconnectedError", "ClientPayloadError", "ClientOSError"}
)
INVALID_HTTP_ERRORS = frozenset(
    {
        "ClientResponseError",
        "HttpProcessingError",
        "DecodingError",
        "LocalProtocolError",
        "InvalidURL",
        "UnicodeEncodeError",
    }
)
READING_ERRORS = frozenset({"TypeError", "AttributeError", "LookupError", "ValueError"})  # of LiteLLM's code on a reply
INVALID_OBJECT = "Invalid response object"
UNREADABLE_REPLY = "Unable to get json response"
MALFORMED_REPLY_ERRORS = frozenset({"APIResponseValidationError", "JSONSchemaValidationError", "JSONDecodeError"})

FOLLOWS_REDIRECTS = "aiohttp_openai/"  # the only models that LiteLLM calls without httpx

_importing = threading.Lock()


SENDING_PARAMS = ("callbacks", "success_callback", "failure_callback", "fallbacks", "context_window_fallback_dict")


def connect(spec: ModelSpec, context: EndpointContext) -> EndpointHandle:
    """The endpoint of any model string that LiteLLM knows. Raises MissingExtraError where LiteLLM is missing."""
    refuse_transport(spec)
    if spec.model.startswith(FOLLOWS_REDIRECTS):
        raise SuiteError(
            f"{spec.model!r} would follow redirects with your API key; set base_url and name the model "
            f"{spec.model.removeprefix(FOLLOWS_REDIRECTS)!r}"
        )
    api_key, provider = check_key(spec.api_key), f"litellm {spec.model.partition('/')[0]}"
    egress = _policy_of(spec, context)
    server = (provider, api_key, tuple(sorted(spec.headers.items())), egress)
    endpoint = context.share(server, lambda: LiteLLMEndpoint(api_key=api_key, headers=spec.headers, egress=egress))
    check_provider(spec.model)
    identity = identity_of(provider, spec.headers)

    def list_price() -> KnownPrice:
        price = price_from_table(spec.model)
        return UNKNOWN if price is None else KnownPrice(price, "table")

    return EndpointHandle(
        endpoint, spec.model, "LiteLLM", context.key(provider, api_key), identity, list_price=list_price,
        takes="embedded",
    )  # fmt: skip


def _policy_of(spec: ModelSpec, context: EndpointContext) -> EgressPolicy:
    """The hosts that calls of a model may go to. Raises SuiteError if the suite allows none of those that it names."""
    for name in SENDING_PARAMS:
        if spec.params.get(name):
            raise SuiteError(f"params.{name} would send prompts to other services; remove it")
    try:
        named = policy_of_model(spec.model, spec.params, context.environ)
        addresses = named_addresses(spec.model, spec.params, context.environ)
    except ValueError as wrong:
        raise SuiteError(f"the address of {spec.model!r} cannot be used: {wrong}") from None
    if not context.egress.limited:
        return named
    if "mock_response" not in spec.params:
        hosts = [str(pattern) for pattern in named.patterns or () if not pattern.host.startswith("*.")]
        urls = list(addresses.values()) or [host if "://" in host else f"https://{host}" for host in hosts]
        refusals = [context.egress.refusal(url) for url in urls]
        if refusals and all(refusals):
            raise SuiteError(str(refusals[0]))
    return context.egress


def check_provider(model: str) -> None:
    """Raises SuiteError for a model whose provider LiteLLM does not know.

    The package is imported only to ask about a name that its table of prices does not settle.
    """
    names = price_names()
    prefix, slash, _ = model.partition("/")
    if slash and any(name.startswith(f"{prefix}/") for name in names):
        return
    price = price_of(model)
    if not slash and price is not None and price.provider in BARE_PROVIDERS:
        return
    try:
        import_litellm().get_llm_provider(model)
    except Exception:  # LiteLLM's class of it depends on the version
        known = [name for name in names if name.endswith(f"/{model}")]
        hint = " or ".join(sorted(known)[:3]) or "PROVIDER/MODEL"
        near = "" if known else nearest(model, names)
        raise SuiteError(
            f"LiteLLM knows no provider of the model {model!r}; write {hint}, or set base_url (--base-url URL){near}"
        ) from None


class LiteLLMEndpoint:
    """An `Endpoint` for any LiteLLM model string. Without `api_key`, LiteLLM reads the provider's variable."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        headers: Mapping[str, str] = EMPTY,
        egress: EgressPolicy = ANY_HOST,
    ) -> None:
        if importlib.util.find_spec("litellm") is None:
            raise MissingExtraError("a model that is neither openai/… nor local/… and has no base_url", "litellm")
        options = {"api_key": api_key, "api_base": base_url, "extra_headers": dict(headers) or None}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._egress = egress
        self._litellm: Any = None
        self._include_usage = True  # in streams, until a provider rejects stream_options

    def __repr__(self) -> str:
        return "LiteLLMEndpoint()"

    async def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Import the package in a thread."""
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(import_litellm)

    async def aclose(self) -> None:
        """Close LiteLLM's connections, which are shared by the whole process."""
        if self._litellm is not None:
            await self._litellm.close_litellm_async_clients()

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` includes some milliseconds of LiteLLM's own work."""
        await self.prepare()
        try:
            request = replace(request, messages=tuple(await with_content(request.messages)))
        except AttachmentError as changed:
            return Failure("bad_request", str(changed))
        with GuardedCall(self._egress) as call:
            return await self._ask(request, call)

    async def _ask(self, request: Request, call: GuardedCall) -> Completion | Failure:
        started, include_usage = time.perf_counter(), self._include_usage
        try:
            response = await self._call(request, include_usage=include_usage)
            if request.stream and request.kind == "chat":
                return await self._read_stream(response, request, started)
        except Exception as error:  # LiteLLM raises exceptions of litellm, openai, httpx and Python
            if request.stream and include_usage and _rejects_usage(error):
                self._include_usage = False
                return await self._ask(request, call)
            return failure_of(error, time.perf_counter() - started, call.status)
        latency_s = time.perf_counter() - started
        if not hasattr(response, "model_dump"):
            return malformed(
                "is a stream; remove 'stream' from params and set run: {stream: true}",
                "",
            )
        hidden = getattr(response, "_hidden_params", None) or {}
        answer = _read(request, response.model_dump(warnings=False, by_alias=request.kind == "moderate"), latency_s)
        if isinstance(answer, Failure):
            return answer
        rate_limit = read_rate_limits(_lower(hidden.get("additional_headers")))
        return replace(with_cost(answer, dollars(hidden.get("response_cost"))), rate_limit=rate_limit)

    async def _read_stream(self, response: Any, request: Request, started: float) -> Completion | Failure:
        """The answer of a stream. LiteLLM adds a finish reason to an interrupted one, which is not trusted."""
        chunks, first_s, with_usage = ChatChunks(), None, None
        try:
            async for chunk in response:
                chunks.add(chunk.model_dump(warnings=False))
                if first_s is None and chunks.begun:
                    first_s = time.perf_counter() - started
                if getattr(chunk, "usage", None) is not None:
                    with_usage = chunk
        finally:
            await response.aclose()
        latency_s = time.perf_counter() - started
        ending = [getattr(response, name, "") for name in ("received_finish_reason", "intermittent_finish_reason")]
        if ending == [None, None] and "mock_response" not in request.params:
            return Failure("connection", "the stream ended before the reply was complete")
        reply = chunks.reply()
        if reply.get("choices") and (native := next(filter(None, ending), None)) is not None:
            # the chunks call every word that LiteLLM does not know a stop
            reply["choices"][0].setdefault("provider_specific_fields", {"native_finish_reason": native})
        answer = read_chat(reply, latency_s=latency_s)
        if isinstance(answer, Failure):
            return answer
        return replace(with_cost(answer, self._cost(with_usage, request.model)), ttft_s=first_s)

    def _cost(self, chunk: Any, model: str) -> float | None:
        """US dollars for the usage in the last chunk, or None if LiteLLM has no price."""
        if chunk is None:
            return None
        try:
            return dollars(self._litellm.completion_cost(completion_response=chunk, model=model))
        except Exception:  # a model without a price raises a plain Exception, or one of openai's
            return None

    async def _call(self, request: Request, *, include_usage: bool) -> Any:
        options = {**request.params, **self._options, "model": request.model, "num_retries": 0, "max_retries": 0}
        if request.kind == "embed":
            return await self._litellm.aembedding(input=list(request.texts), **options)
        if request.kind == "moderate":
            return await self._litellm.amoderation(input=list(request.texts), **options)
        if request.tools:
            options["tools"] = [dict(tool) for tool in request.tools]
        if request.response_format is not None:
            options["response_format"] = dict(request.response_format)
        if request.stream:
            options["stream"] = True
            if include_usage:
                options["stream_options"] = {"include_usage": True, **(options.get("stream_options") or {})}
            else:
                options.pop("stream_options", None)
        return await self._litellm.acompletion(messages=[dict(message) for message in request.messages], **options)


def _rejects_usage(error: Exception) -> bool:
    return getattr(error, "status_code", None) in (400, 422) and "stream_options" in str(error)


def import_litellm() -> Any:
    """The package, imported with its logging and downloads off."""
    with _importing:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # before the import, which would fetch the map
        os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # or the import reads a .env file of the working folder
        import litellm

        litellm.suppress_debug_info = True
        litellm.telemetry = False
        litellm.disable_hf_tokenizer_download = True  # counting tokens must not fetch a tokenizer
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        guard_http_libraries()
        keep_ascii_headers()
        return litellm


def _read(request: Request, data: Mapping[str, Any], latency_s: float) -> Completion | Failure:
    if request.kind == "chat":
        return read_chat(data, latency_s=latency_s)
    if request.kind == "embed":
        return read_embeddings(data, texts=len(request.texts), latency_s=latency_s)
    results = [_stated(result) for result in data.get("results") or ()]
    return read_moderations({**data, "results": results}, texts=len(request.texts), latency_s=latency_s)


def _stated(result: Any) -> Any:
    """A result of moderation as the provider states it.

    LiteLLM adds OpenAI's categories with None to those of another provider, and `hate_threatening` to `hate/threatening`.
    """
    if not isinstance(result, Mapping):
        return result
    parts = {name: part for name in ("categories", "category_scores") if isinstance(part := result.get(name), Mapping)}
    return {**result, **{name: _without_additions(part) for name, part in parts.items()}}


def _without_additions(part: Mapping[str, Any]) -> dict[str, Any]:
    spelled = {name.replace("/", "_").replace("-", "_") for name in part if "/" in name or "-" in name}
    return {name: value for name, value in part.items() if value is not None and name not in spelled}


def failure_of(error: Exception, latency_s: float, reply_status: int | None = None) -> Failure | Completion:
    """The failure for an exception of LiteLLM, or a Completion if it comes from the provider's filter.

    The class alone is not enough: a broken connection and a reply that is not JSON are both an InternalServerError.
    `reply_status` is that of the last reply: after one of 2xx, an error in LiteLLM's own code is about its content.
    """
    while isinstance(inner := getattr(error, "original_exception", None), Exception):  # around errors in a stream
        error = inner
    if (refused := _refused(error)) is not None:
        return refused
    names = {kind.__name__ for kind in type(error).__mro__}
    behind = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    text = str(error)
    message = quote(NOISE.sub("", EXCEPTION_PREFIX.sub("", text)))
    if "ContentPolicyViolationError" in names:
        return filtered_answer(message, latency_s)
    if names & {"Timeout", "APITimeoutError"}:
        return Failure("timeout", f"the provider timed out: {message}")
    if behind & CONNECT_ERRORS or any(sign in text for sign in CONNECT_ERROR_TEXTS):
        return Failure("connection", f"cannot connect ({message}); is the server running?", fatal=True)
    if (names | behind) & MALFORMED_REPLY_ERRORS or UNREADABLE_REPLY in text:
        return Failure("malformed", f"the reply is malformed: {message}")
    if behind & BROKEN_CONNECTION_ERRORS:
        return Failure("connection", f"the connection closed before the reply was complete: {message}")
    if behind & INVALID_HTTP_ERRORS:
        return Failure("connection", f"the reply is no valid HTTP: {message}")
    arrived = reply_status is not None and 200 <= reply_status < 300
    if arrived and "APIConnectionError" in names and (behind & READING_ERRORS or INVALID_OBJECT in text):
        return Failure("malformed", f"LiteLLM cannot read the reply: {message}")
    return _failure_of_reply(error, names, text, message, latency_s, reply_status)


def _failure_of_reply(
    error: Exception, names: set[str], text: str, message: str, latency_s: float, reply_status: int | None
) -> Failure | Completion:
    """The failure for what a provider, or LiteLLM after a reply, has to say."""
    if "APIConnectionError" in names:  # also raised for errors in LiteLLM's own code
        if refuses_tools(None, ErrorText(message, message.lower())):  # Ollama's
            return Failure("bad_request", f"the server rejected the request: {message}", no_tools=True)
        return Failure("connection", f"LiteLLM cannot reach the provider: {message}")
    status = getattr(error, "status_code", None)
    if not (isinstance(status, int) and 400 <= status < 600) and reply_status is not None and reply_status >= 600:
        status = reply_status
    if isinstance(status, int) and 400 <= status < 1000:
        codes = f"{type(error).__name__}\n{getattr(error, 'code', None) or ''}\n"
        said = ErrorText(message, (codes + text).lower(), wait_in(text))
        return failure_from_error(status, said, _headers(error), latency_s)
    return Failure("bad_request", f"LiteLLM rejected the request: {message or type(error).__name__}")


def _refused(error: Exception) -> Failure | None:
    """The failure of a request or a reply that evalrun itself refused; None for any other error."""
    for cause in (error, *_causes(error)):
        if isinstance(cause, EgressError):
            return Failure("connection", str(cause), fatal=True)
        if isinstance(cause, RedirectError):
            return redirect_failure(cause.status, {"location": cause.location})
        if isinstance(cause, ReplyTooLargeError):
            return Failure("connection", f"the reply is larger than {MAX_BODY_BYTES // 2**20} MiB")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The causes of an exception, without itself; at most ten, because the chain may be a ring."""
    for _ in range(10):
        behind = error.__cause__ or error.__context__
        if behind is None:
            return
        yield behind
        error = behind


def _headers(error: Exception) -> Mapping[str, str]:
    """The headers of the reply, which LiteLLM stores next to the response that it makes up for the exception."""
    headers = getattr(error, "litellm_response_headers", None)
    if not headers:
        headers = getattr(getattr(error, "response", None), "headers", None)
    return _lower(headers)


def _lower(headers: Any) -> Mapping[str, str]:
    """Headers with their names in lower case, or none if they cannot be read."""
    try:
        return {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
    except (TypeError, ValueError):
        return EMPTY
