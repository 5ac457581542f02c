"""A service of one's own behind an address: any request, and the answer from a place in its JSON.

What is asked stands in the request's `params`, rendered: `method`, `path` (from the host on), `body` (text or None),
`content_type`, and the dotted paths `output`, `input_tokens`, `output_tokens` and `cost` of what is wanted. So the
endpoint itself knows a host and headers, no more, and no request can go elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, Request, Target
from evalrunner.endpoints.factory import CREDENTIAL_HEADERS, EndpointContext, EndpointHandle, identity_of
from evalrunner.endpoints.openai_errors import parse_failure, quote
from evalrunner.endpoints.openai_replies import (
    count,
    dollars,
    malformed,
    read_error_reply,
    sound_text,
)
from evalrunner.endpoints.transport import HttpRequest, HttpService, Transport
from evalrunner.prompts import ABSENT, find_value
from evalrunner.suite.schema import TransportSpec

MAX_LISTED_KEYS = 12  # of a reply, named in an error
ADVICE = {  # what the words for models say, in those of a service
    "check api_key": "check headers",
    "has no such model or no such address; check model and base_url": "has no such address; check url",
    "give the new address as base_url": "give the new address as url",
}


@runtime_checkable
class NeedsHttpEndpoint(Protocol):
    """What a target's factory returns that wants an endpoint of its own, wrapped as those of models are."""

    @property
    def service(self) -> HttpService: ...

    @property
    def described(self) -> Mapping[str, Any]:
        """What defines its requests, for the record; no secrets."""
        ...

    def with_endpoint(self, endpoint: Endpoint, /, *, name: str) -> Target:
        """The target called `name`, which asks through that endpoint."""
        ...


def connect(
    service: HttpService, context: EndpointContext, transport_spec: TransportSpec | None = None
) -> EndpointHandle:
    """The endpoint of an HTTP service."""
    headers, timeout_s = service.headers, context.timeout_s
    transport = context.transport(transport_spec, service.origin)
    server = ("http", service.origin, tuple(sorted(headers.items())), timeout_s, id(transport))
    endpoint = context.share(server, lambda: HttpEndpoint(transport, service, timeout_s=timeout_s))
    login = "".join(f"{name}: {value}\n" for name, value in headers.items() if name.lower() in CREDENTIAL_HEADERS)
    key, identity = context.key(service.origin, login), identity_of(service.origin, headers)
    return EndpointHandle(endpoint, service.origin, service.origin, key, identity, enforces_timeout=True)


class HttpEndpoint:
    """An `Endpoint` over HTTP for a service that has a way of its own."""

    def __init__(self, transport: Transport, service: HttpService, *, timeout_s: float = 60.0) -> None:
        self._transport = transport
        self._service = service
        self._timeout_s = timeout_s
        self._headers = {name.lower(): value for name, value in service.headers.items()}

    def __repr__(self) -> str:
        return f"HttpEndpoint({self._service.origin!r})"

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is from before the request is sent until its last byte came."""
        asked = request.params
        body: str | None = asked.get("body")
        headers = {"accept": "application/json, */*", **self._headers}
        if body is not None:
            headers.setdefault("content-type", asked["content_type"])
        started = time.perf_counter()
        sent = None if body is None else body.encode(errors="replace")
        url = self._service.origin + asked["path"]
        reply = await self._transport.send(HttpRequest(asked["method"], url, headers, sent, self._timeout_s))
        if isinstance(reply, Failure):
            return reply
        latency_s = time.perf_counter() - started
        if not 200 <= reply.status < 300:
            return _as_service(parse_failure(reply.status, reply.headers, reply.body, latency_s))
        return read_service(asked, reply.body, latency_s)


def _as_service(answer: Completion | Failure) -> Completion | Failure:
    """The failure with the names that keys of a service have."""
    if isinstance(answer, Completion):
        return answer
    said = answer.message
    for words, ours in ADVICE.items():
        said = said.replace(words, ours, 1)
    return replace(answer, message=said)


def read_service(asked: Mapping[str, Any], body: bytes, latency_s: float | None = None) -> Completion | Failure:
    """The completion in the body of a reply: the whole as text, or what stands where `output` says."""
    wanted = {name: asked.get(name) for name in ("input_tokens", "output_tokens", "cost")}
    output = asked.get("output")
    if output is None and not any(wanted.values()):
        return _completion(body.decode("utf-8", "replace"), EMPTY, latency_s)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, or a number of 4,300 digits
        return malformed("is not JSON" if body.strip() else "is empty", body)
    told = {name: find_value(data, path) for name, path in wanted.items() if path}
    if output is None:
        return _completion(body.decode("utf-8", "replace"), told, latency_s)
    found = find_value(data, output)
    if found is ABSENT:
        return _without_output(output, data, latency_s)
    if found is None:
        return _completion("", told, latency_s)
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return _completion(text, told, latency_s)


def _completion(text: str, told: Mapping[str, Any], latency_s: float | None) -> Completion:
    text = sound_text(text)
    return Completion(
        text,
        finish_reason="stop" if text and not text.isspace() else "empty",
        latency_s=latency_s,
        input_tokens=count(told.get("input_tokens")),
        output_tokens=count(told.get("output_tokens")),
        cost_usd=dollars(told.get("cost")),
    )


def _without_output(output: str, data: Any, latency_s: float | None) -> Completion | Failure:
    """The failure of a reply without the path: the error that it tells of, or most likely a mistake in the suite."""
    if isinstance(data, Mapping) and data.get("error"):
        return read_error_reply(data, latency_s=latency_s)
    said = f"the answer has no {output!r}, which the target's output names; {_known(output, data)}"
    return Failure("malformed", said, fatal=True)  # if it is the first answer, so will be all others


def _known(output: str, data: Any) -> str:
    """What there is in place of a path, at the place where it leaves the data."""
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
