"""An HTTP service as an endpoint: any request, and the answer from a path in its JSON reply.

The request's `params` hold its rendered parts: `method`, `path` (after the host), `body` (text or None), `content_type`,
and the dotted paths `output`, `input_tokens`, `output_tokens` and `cost` to read from the reply. The endpoint itself
knows only a host and headers, so no request can go elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evalrunner.domain import EMPTY, Completion, Failure, Request
from evalrunner.endpoints.factory import CREDENTIAL_HEADERS, EndpointContext, EndpointHandle, address_of, identity_of
from evalrunner.endpoints.openai_errors import parse_failure, quote
from evalrunner.endpoints.openai_replies import (
    count,
    dollars,
    malformed,
    read_error_reply,
    valid_text,
)
from evalrunner.endpoints.transport import HttpRequest, HttpService, Transport
from evalrunner.prompts import ABSENT, find_value
from evalrunner.suite.schema import TransportSpec
from evalrunner.tool_calls import read_tool_calls

MAX_LISTED_KEYS = 12  # of a reply, named in an error
ADVICE = {  # of messages about models, with the keys of an HTTP service
    "check api_key": "check headers",
    "has no such model or URL; check model and base_url, which usually ends in /v1": "has no such URL; check url",
    "set base_url to the new address": "set url to the new address",
}


def connect(
    service: HttpService, context: EndpointContext, transport_spec: TransportSpec | None = None
) -> EndpointHandle:
    """The endpoint of an HTTP service."""
    headers, timeout_s = service.headers, context.timeout_s
    transport = context.transport(transport_spec, service.origin)
    server = ("http", service.origin, tuple(sorted(headers.items())), timeout_s, id(transport))
    endpoint = context.share(server, lambda: HttpEndpoint(transport, service, timeout_s=timeout_s))
    login = "".join(f"{name}: {value}\n" for name, value in headers.items() if name.lower() in CREDENTIAL_HEADERS)
    address = address_of(service.origin, transport_spec)
    key, identity = context.key(address, login), identity_of(address, headers)
    return EndpointHandle(endpoint, service.origin, service.origin, key, identity, enforces_timeout=True)


class HttpEndpoint:
    """An `Endpoint` for a service with its own HTTP interface."""

    def __init__(self, transport: Transport, service: HttpService, *, timeout_s: float = 60.0) -> None:
        self._transport = transport
        self._service = service
        self._timeout_s = timeout_s
        self._headers = {name.lower(): value for name, value in service.headers.items()}

    def __repr__(self) -> str:
        return f"HttpEndpoint({self._service.origin!r})"

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is measured from before the request is sent to the last byte of the reply."""
        params = request.params
        body: str | None = params.get("body")
        headers = {"accept": "application/json, */*", **self._headers}
        if body is not None:
            headers.setdefault("content-type", params["content_type"])
        started = time.perf_counter()
        sent = None if body is None else body.encode(errors="replace")
        url = self._service.origin + params["path"]
        reply = await self._transport.send(HttpRequest(params["method"], url, headers, sent, self._timeout_s))
        if isinstance(reply, Failure):
            return reply
        latency_s = time.perf_counter() - started
        if not 200 <= reply.status < 300:
            return _as_service(parse_failure(reply.status, reply.headers, reply.body, latency_s))
        return read_service(params, reply.body, latency_s)


def _as_service(answer: Completion | Failure) -> Completion | Failure:
    """The failure with the keys of an HTTP service in its advice."""
    if isinstance(answer, Completion):
        return answer
    message = answer.message
    for advice, replacement in ADVICE.items():
        message = message.replace(advice, replacement, 1)
    return replace(answer, message=message)


def read_service(params: Mapping[str, Any], body: bytes, latency_s: float | None = None) -> Completion | Failure:
    """The completion in the body of a reply: the whole body as text, or the value at the path `output`."""
    paths = {name: params.get(name) for name in ("input_tokens", "output_tokens", "cost", "tool_calls")}
    output = params.get("output")
    if output is None and not any(paths.values()):
        return _completion(body.decode("utf-8", "replace"), EMPTY, latency_s)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, or a number of 4,300 digits
        return malformed("is not JSON" if body.strip() else "is empty", body)
    usage = {name: find_value(data, path) for name, path in paths.items() if path}
    stated = usage.get("tool_calls")
    try:
        calls = tuple(
            call.as_reply() for call in (() if stated in (None, ABSENT) else read_tool_calls(stated, strict=False))
        )
    except ValueError as wrong:
        return malformed(f"has tool calls at {paths['tool_calls']!r} that cannot be read: {wrong}", body)
    if output is None:
        return _completion(body.decode("utf-8", "replace"), usage, latency_s, calls)
    value = find_value(data, output)
    if value is ABSENT and not calls:
        return _without_output(output, data, latency_s)
    if value is None or value is ABSENT:
        return _completion("", usage, latency_s, calls)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _completion(text, usage, latency_s, calls)


def _completion(
    text: str, usage: Mapping[str, Any], latency_s: float | None, calls: tuple[Mapping[str, Any], ...] = ()
) -> Completion:
    text = valid_text(text)
    return Completion(
        text,
        finish_reason="tool_calls" if calls else "stop" if text and not text.isspace() else "empty",
        tool_calls=calls,
        latency_s=latency_s,
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cost_usd=dollars(usage.get("cost")),
    )


def _without_output(output: str, data: Any, latency_s: float | None) -> Completion | Failure:
    """The failure of a reply without the path: the error that it contains, or most likely a mistake in the suite."""
    if isinstance(data, Mapping) and data.get("error"):
        return read_error_reply(data, latency_s=latency_s)
    message = f"the reply has no {output!r}, the target's output; {_describe_keys(output, data)}"
    return Failure("malformed", message, fatal=True)  # if it is the first answer, all others will lack it too


def _describe_keys(output: str, data: Any) -> str:
    """The keys at the point where a path leaves the data."""
    here, rest, at = data, output, ""
    while "." in rest:
        step, _, after = rest.partition(".")
        below = find_value(here, step)
        if below is ABSENT:
            break
        here, rest, at = below, after, f"{at}.{step}" if at else step
    where = f"{at!r}" if at else "it"
    if isinstance(here, Mapping):
        names = [repr(quote(str(name), 40)) for name in list(here)[:MAX_LISTED_KEYS]]
        more = ", …" if len(here) > MAX_LISTED_KEYS else ""
        return f"{where} has {', '.join(names)}{more}" if names else f"{where} is an empty object"
    if isinstance(here, list):
        return f"{where} is a list of {len(here)}"
    return f"{where} is {'null' if here is None else 'text' if isinstance(here, str) else quote(json.dumps(here), 40)}"
