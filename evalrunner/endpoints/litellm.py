"""Every provider that LiteLLM knows, asked inside this process.

The package is imported once and only if such a model is there: that takes seconds and 180 MB. What it would do
besides answering (fetch a price map, read a .env file, log, ask again by itself) is switched off.
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

from evalrunner.domain import EMPTY, Completion, Failure, Request
from evalrunner.endpoints.factory import EndpointContext, EndpointHandle, check_key, identity_of, refuse_transport
from evalrunner.endpoints.openai_errors import ErrorText, failure_from_error, quote, read_rate_limits
from evalrunner.endpoints.openai_replies import (
    dollars,
    malformed,
    read_chat,
    read_embeddings,
    read_moderations,
    with_cost,
)
from evalrunner.endpoints.pricing import UNKNOWN, KnownPrice, price_from_table
from evalrunner.endpoints.sse import ChatChunks
from evalrunner.errors import MissingExtraError
from evalrunner.suite.schema import ModelSpec

LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
OWN_PREFIX = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Exception|Timeout)(?:: | - ))+")
CONNECT_ERRORS = frozenset({"ConnectError", "ClientConnectorError", "ClientConnectorDNSError", "gaierror"})
CONNECT_ERROR_TEXTS = ("Cannot connect to host", "Connection refused")  # where LiteLLM keeps only the words of those
NOISE = re.compile(r" ssl:<[^>]*>|\.? Handle with `[\w.]+`\.?|\s*Traceback \(most recent call last\).*", re.DOTALL)
BROKEN_CONNECTION_ERRORS = frozenset(
    {"ReadError", "WriteError", "RemoteProtocolError", "ServerDisconnectedError", "ClientPayloadError", "ClientOSError"}
)
MALFORMED_REPLY_ERRORS = frozenset({"APIResponseValidationError", "JSONSchemaValidationError", "JSONDecodeError"})

_importing = threading.Lock()


def connect(spec: ModelSpec, context: EndpointContext) -> EndpointHandle:
    """The endpoint of any model string that LiteLLM knows. Raises MissingExtraError where LiteLLM is missing."""
    refuse_transport(spec)
    api_key, provider = check_key(spec.api_key), f"litellm {spec.model.partition('/')[0]}"
    server = (provider, api_key, tuple(sorted(spec.headers.items())))
    endpoint = context.share(server, lambda: LiteLLMEndpoint(api_key=api_key, headers=spec.headers))
    identity = identity_of(provider, spec.headers)

    def list_price() -> KnownPrice:
        price = price_from_table(spec.model)
        return UNKNOWN if price is None else KnownPrice(price, "table")

    return EndpointHandle(
        endpoint, spec.model, "LiteLLM", context.key(provider, api_key), identity, list_price=list_price
    )


class LiteLLMEndpoint:
    """An `Endpoint` for any model string of LiteLLM. Without `api_key` the provider's own variable is read."""

    def __init__(
        self, *, api_key: str | None = None, base_url: str | None = None, headers: Mapping[str, str] = EMPTY
    ) -> None:
        if importlib.util.find_spec("litellm") is None:
            raise MissingExtraError("a model that is neither openai/… nor local/… and has no base_url", "litellm")
        given = {"api_key": api_key, "api_base": base_url, "extra_headers": dict(headers) or None}
        self._given = {name: value for name, value in given.items() if value is not None}
        self._litellm: Any = None
        self._wants_usage = True  # with a stream, until a provider refuses stream_options

    def __repr__(self) -> str:
        return "LiteLLMEndpoint()"

    async def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """None, with the package imported, off the event loop."""
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(import_litellm)

    async def aclose(self) -> None:
        """None, with LiteLLM's connections closed, which it keeps for the whole process."""
        if self._litellm is not None:
            await self._litellm.close_litellm_async_clients()

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` holds what LiteLLM does around the call as well, some milliseconds."""
        await self.prepare()
        begun, wants_usage = time.perf_counter(), self._wants_usage
        try:
            response = await self._ask(request, wants_usage=wants_usage)
            if request.stream and request.kind == "chat":
                return await self._hear(response, request, begun)
        except Exception as error:  # LiteLLM raises classes of its own, of openai's, httpx's and Python's
            if request.stream and wants_usage and _refuses_usage(error):
                self._wants_usage = False
                return await self(request)
            return failure_of(error, time.perf_counter() - begun)
        latency_s = time.perf_counter() - begun
        if not hasattr(response, "model_dump"):
            return malformed(
                "is a stream, which was not asked for; take 'stream' out of params (run: {stream: true} asks for one)",
                "",
            )
        hidden = getattr(response, "_hidden_params", None) or {}
        answer = _read(request, response.model_dump(warnings=False), latency_s)
        if isinstance(answer, Failure):
            return answer
        rate_limit = read_rate_limits(_lower(hidden.get("additional_headers")))
        return replace(with_cost(answer, dollars(hidden.get("response_cost"))), rate_limit=rate_limit)

    async def _hear(self, response: Any, request: Request, begun: float) -> Completion | Failure:
        """What a stream comes to. One that breaks off in silence gets an end from LiteLLM, which is not believed."""
        chunks, first_s, told = ChatChunks(), None, None
        try:
            async for chunk in response:
                chunks.add(chunk.model_dump(warnings=False))
                if first_s is None and chunks.begun:
                    first_s = time.perf_counter() - begun
                if getattr(chunk, "usage", None) is not None:
                    told = chunk
        finally:
            await response.aclose()
        latency_s = time.perf_counter() - begun
        ending = [getattr(response, name, "") for name in ("received_finish_reason", "intermittent_finish_reason")]
        if ending == [None, None] and "mock_response" not in request.params:
            return Failure("connection", "the stream ended before the whole answer came")
        answer = read_chat(chunks.reply(), latency_s=latency_s)
        if isinstance(answer, Failure):
            return answer
        return replace(with_cost(answer, self._cost(told, request.model)), ttft_s=first_s)

    def _cost(self, told: Any, model: str) -> float | None:
        """US dollars for the usage that the last chunk tells of, or None where LiteLLM has no price."""
        if told is None:
            return None
        try:
            return dollars(self._litellm.completion_cost(completion_response=told, model=model))
        except Exception:  # its word for a model without a price is a plain Exception, or one of openai's
            return None

    async def _ask(self, request: Request, *, wants_usage: bool) -> Any:
        options = {**request.params, **self._given, "model": request.model, "num_retries": 0, "max_retries": 0}
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
            if wants_usage:
                options["stream_options"] = {"include_usage": True, **(options.get("stream_options") or {})}
            else:
                options.pop("stream_options", None)
        return await self._litellm.acompletion(messages=[dict(message) for message in request.messages], **options)


def _refuses_usage(error: Exception) -> bool:
    return getattr(error, "status_code", None) in (400, 422) and "stream_options" in str(error)


def import_litellm() -> Any:
    """The package, imported and kept quiet."""
    with _importing:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # before the import, which else fetches the map
        os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # else the import reads a .env file of the working folder
        import litellm

        litellm.suppress_debug_info = True
        litellm.telemetry = False
        litellm.disable_hf_tokenizer_download = True  # counting tokens must not fetch a tokenizer
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return litellm


def _read(request: Request, data: Mapping[str, Any], latency_s: float) -> Completion | Failure:
    if request.kind == "chat":
        return read_chat(data, latency_s=latency_s)
    read = read_embeddings if request.kind == "embed" else read_moderations
    return read(data, texts=len(request.texts), latency_s=latency_s)


def failure_of(error: Exception, latency_s: float) -> Failure | Completion:
    """The failure that an exception of LiteLLM stands for; a Completion where the provider's filter spoke.

    Its class alone says little: a cut connection and an answer that is no JSON both come as InternalServerError.
    """
    while isinstance(inner := getattr(error, "original_exception", None), Exception):  # around errors in a stream
        error = inner
    names = {kind.__name__ for kind in type(error).__mro__}
    behind = {type(cause).__name__ for cause in _causes(error)}
    words = str(error)
    message = quote(NOISE.sub("", OWN_PREFIX.sub("", words)))
    if "ContentPolicyViolationError" in names:
        return Completion("", finish_reason="filtered", latency_s=latency_s)
    if names & {"Timeout", "APITimeoutError"}:
        return Failure("timeout", f"the provider did not answer in time: {message}")
    if behind & CONNECT_ERRORS or any(sign in words for sign in CONNECT_ERROR_TEXTS):
        return Failure("connection", f"nothing answers there ({message}); is the server up?", fatal=True)
    if (names | behind) & MALFORMED_REPLY_ERRORS:
        return Failure("malformed", f"the answer cannot be read: {message}")
    if behind & BROKEN_CONNECTION_ERRORS:
        return Failure("connection", f"the connection broke before the whole answer came: {message}")
    if "APIConnectionError" in names:  # also LiteLLM's word for whatever went wrong in its own code
        return Failure("connection", f"LiteLLM could not ask the provider: {message}")
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status < 600:
        codes = f"{type(error).__name__}\n{getattr(error, 'code', None) or ''}\n"
        return failure_from_error(status, ErrorText(message, (codes + words).lower()), _headers(error), latency_s)
    return Failure("bad_request", f"LiteLLM does not take this request: {message or type(error).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions behind an exception, without it; ten at most, for the chain may be a ring."""
    for _ in range(10):
        behind = error.__cause__ or error.__context__
        if behind is None:
            return
        yield behind
        error = behind


def _headers(error: Exception) -> Mapping[str, str]:
    """The reply's headers. LiteLLM keeps them beside the response that it makes up for the exception."""
    told = getattr(error, "litellm_response_headers", None)
    if not told:
        told = getattr(getattr(error, "response", None), "headers", None)
    return _lower(told)


def _lower(headers: Any) -> Mapping[str, str]:
    """Headers with their names in lower case, or none where they are no headers."""
    try:
        return {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
    except (TypeError, ValueError):
        return EMPTY
