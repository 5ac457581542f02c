"""Any server that speaks OpenAI's API: OpenAI itself, a LiteLLM proxy, vLLM, Ollama, TGI and the like."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from evalrunner.domain import EMPTY, Completion, Failure, Request
from evalrunner.endpoints.openai_errors import parse_failure, quote
from evalrunner.endpoints.openai_replies import (
    load_reply,
    read_chat,
    read_embeddings,
    read_moderations,
    read_usage,
    with_cost,
)
from evalrunner.endpoints.prices import cost_of
from evalrunner.endpoints.sse import ChatStream
from evalrunner.endpoints.transport import Reply, Transport, TransportFault, describe_fault
from evalrunner.storage import dump_json

OPENAI_HOST = "api.openai.com"  # its replies tell no cost; for others a name says nothing of the price
PATHS = {"chat": "/chat/completions", "embed": "/embeddings", "moderate": "/moderations"}
NO_NUMBER = "null"  # what the quick way makes of NaN; a text that says it costs but time
USAGE_WANTED = {"include_usage": True}  # as stream_options; not all servers know it


class OpenAIEndpoint:
    """An `Endpoint` over HTTP. Parameters go out as they are; the key goes to `base_url` and nowhere else."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] = EMPTY,
        timeout_s: float = 60.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._transport = transport
        self._headers = _request_headers(api_key, headers)
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._wants_usage = True  # until the server refuses stream_options
        self._priced = host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")

    def __repr__(self) -> str:
        return f"OpenAIEndpoint({self._origin!r})"

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is from before the request is sent until its last byte came."""
        wants_usage = self._wants_usage
        try:
            body = _dump_body(_request_body(request, wants_usage=wants_usage))
        except (TypeError, ValueError, RecursionError) as unfit:
            return Failure("bad_request", f"the request cannot be written as JSON: {quote(str(unfit))}", fatal=True)
        if request.stream and request.kind == "chat":
            return await self._ask_streamed(request, body, wants_usage=wants_usage)
        begun = time.perf_counter()
        try:
            reply = await self._transport.post(
                self.base_url + PATHS[request.kind], headers=self._headers, body=body, timeout_s=self._timeout_s
            )
        except TransportFault as fault:
            return describe_fault(fault, self._origin, self._timeout_s)
        latency_s = time.perf_counter() - begun
        if not 200 <= reply.status < 300:
            return parse_failure(reply.status, reply.headers, reply.body, latency_s)
        data = load_reply(reply.body)
        return data if isinstance(data, Failure) else self._answer(request, data, reply.headers, latency_s)

    async def _ask_streamed(self, request: Request, body: bytes, *, wants_usage: bool) -> Completion | Failure:
        """The answer, put together from its pieces. A fault after the last one that is needed does not matter."""
        heard = TimedStream()
        try:
            reply = await self._transport.post_streamed(
                self.base_url + PATHS["chat"],
                headers=self._headers,
                body=body,
                timeout_s=self._timeout_s,
                take=heard.take,
            )
        except TransportFault as fault:
            if not heard.stream.whole:
                return describe_fault(fault, self._origin, self._timeout_s)
            reply = Reply(200, EMPTY, b"")
        latency_s = heard.last_s or heard.seconds()
        if not 200 <= reply.status < 300:
            if wants_usage and reply.status in (400, 422) and b"stream_options" in reply.body:
                self._wants_usage = False
                return await self(request)
            return parse_failure(reply.status, reply.headers, reply.body, latency_s)
        data = heard.stream.reply()
        answer = data if isinstance(data, Failure) else self._answer(request, data, reply.headers, latency_s)
        return replace(answer, ttft_s=heard.first_s) if isinstance(answer, Completion) else answer

    def _answer(
        self, request: Request, data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float
    ) -> Completion | Failure:
        answer = _read(request, data, headers, latency_s)
        if self._priced and isinstance(answer, Completion) and answer.cost_usd is None:
            return with_cost(answer, cost_of(request.model, answer.served_model, read_usage(data)))
        return answer

    async def fetch(self, path: str, *, timeout_s: float) -> Any:
        """The JSON at a path of the server beside /v1, asked with the same key, or None where it is not to be had."""
        root = self.base_url.removesuffix("/v1")
        try:
            reply = await self._transport.get(root + path, headers=self._headers, timeout_s=timeout_s)
            return json.loads(reply.body) if reply.status == 200 else None
        except (TransportFault, ValueError, RecursionError):
            return None


@dataclass(slots=True)
class TimedStream:
    """A stream with when its first piece of an answer came, and its last, in seconds since it was asked for."""

    stream: ChatStream = field(default_factory=ChatStream)
    first_s: float | None = None
    last_s: float | None = None
    _begun: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    def take(self, piece: bytes) -> bool:
        """Whether this was the last piece that is needed."""
        self.stream.take(piece)
        if self.first_s is None and self.stream.begun:
            self.first_s = self.seconds()
        if self.stream.whole:
            self.last_s = self.seconds()
        return self.stream.done


def _request_headers(api_key: str | None, own: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of every request: those of the suite stand before ours, whatever their case."""
    headers = {"content-type": "application/json", "accept": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    headers.update((name.lower(), value) for name, value in own.items())
    return headers


def _request_body(request: Request, *, wants_usage: bool) -> dict[str, Any]:
    if request.kind != "chat":
        named = {"model": request.model} if request.model else {}
        return {**request.params, **named, "input": request.texts}
    body: dict[str, Any] = {**request.params, "model": request.model, "messages": request.messages}
    if request.tools:
        body["tools"] = request.tools
    if request.response_format is not None:
        body["response_format"] = request.response_format
    if request.stream:
        body["stream"] = True
        if wants_usage:
            body["stream_options"] = {**USAGE_WANTED, **(body.get("stream_options") or {})}
        else:
            body.pop("stream_options", None)
    return body


def _plain(value: Any) -> Any:
    """A mapping that is no dict as one; json.dumps asks for what it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


_ENCODER = json.JSONEncoder(allow_nan=False, default=_plain)


def _dump_body(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises ValueError and TypeError for what is none, NaN among it."""
    text = dump_json(body, fallback=_ENCODER.encode)
    return (_ENCODER.encode(body) if NO_NUMBER in text else text).encode()


def _read(
    request: Request, data: Mapping[str, Any], headers: Mapping[str, str], latency_s: float
) -> Completion | Failure:
    if request.kind == "chat":
        return read_chat(data, headers=headers, latency_s=latency_s, messages=request.messages)
    read = read_embeddings if request.kind == "embed" else read_moderations
    return read(data, texts=len(request.texts), headers=headers, latency_s=latency_s)
