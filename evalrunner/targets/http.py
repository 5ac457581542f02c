"""An HTTP service as the target: a request rendered from the sample, the answer read from the reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urlsplit

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, Request, Sample, row_name
from evalrunner.endpoints.transport import HttpService
from evalrunner.limits import STANDARD, Limits
from evalrunner.plugins import PluginContext
from evalrunner.prompts import template_context
from evalrunner.spelling import exact_json
from evalrunner.templates import TEMPLATE_MARKS, PromptError, compile_template, single_name, value_text

Fill: TypeAlias = Callable[[dict[str, Any]], Any]
ADDRESS = re.compile(r"(?P<origin>(?i:https?)://[A-Za-z0-9._\-:\[\]]+)(?P<path>(?:[/?].*)?)", re.DOTALL)
DOTS = re.compile(r"(?i)(?:\.|%2e){1,2}")  # `.` and `..`, also percent-encoded


def http(
    context: PluginContext,
    *,
    url: str,
    method: Literal["GET", "POST", "PUT"] = "POST",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    output: str | None = None,
    input_tokens: str | None = None,
    output_tokens: str | None = None,
    cost: str | None = None,
    tool_calls: str | None = None,
) -> RequestTemplate:
    """Calls an HTTP service: any request, with the answer at a path in the JSON reply.

    Args:
        url: URL; templates are allowed after the host, and their values are percent-encoded.
        method: GET, POST or PUT.
        headers: Headers of each request; `${VAR}` is replaced, and the values are treated as secrets.
        body: Request body: a mapping or list is sent as JSON, text unchanged; every text in it is a template.
        output: Dotted path of the answer in the JSON reply, such as result.0.text; default: the whole reply.
        input_tokens: Dotted path of the number of prompt tokens.
        output_tokens: Dotted path of the number of completion tokens.
        cost: Dotted path of the cost in US dollars.
        tool_calls: Dotted path of the tool calls, in any common format; a reply without them has none.
    """
    origin, path = split_url(url)
    if (body is None) != (method == "GET"):
        needed = "has no body; remove 'body'" if method == "GET" else "needs 'body'"
        raise ValueError(f"a {method} {needed}")
    paths = {"output": output, "input_tokens": input_tokens, "output_tokens": output_tokens, "cost": cost}
    paths |= {} if tool_calls is None else {"tool_calls": tool_calls}
    return RequestTemplate(
        HttpService(origin, headers or EMPTY),
        method,
        _path_filler(path, context.limits),
        None if body is None else compile_body(body, context.limits),
        {name: dotted for name, dotted in paths.items() if dotted is not None},
        {"method": method, "path": path, "body": body, **paths},
    )


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """The parts of the requests. Not a target yet: `with_endpoint` returns one that uses the endpoint."""

    service: HttpService
    method: str
    path: Fill = field(repr=False)
    body: Fill | None = field(repr=False)
    paths: Mapping[str, str]
    definition: Mapping[str, Any]

    def with_endpoint(self, endpoint: Endpoint, /, *, name: str) -> HttpTarget:
        return HttpTarget(self, endpoint, name)

    def render(self, sample: Sample) -> Request:
        """The request for one sample. Raises PromptError if a template uses something that the sample lacks."""
        context = template_context(sample)
        params: dict[str, Any] = {"method": self.method, "path": self.path(context), **self.paths}
        if self.body is not None:
            filled = self.body(context)
            params["content_type"] = "text/plain; charset=utf-8" if isinstance(filled, str) else "application/json"
            params["body"] = filled if isinstance(filled, str) else _as_json(filled)
        return Request(self.service.origin, params=params)


@dataclass(frozen=True, slots=True)
class HttpTarget(SampleValidator):
    """Calls the service for each sample."""

    requests: RequestTemplate
    endpoint: Endpoint
    name: str = ""

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        row = row_name(sample.id, self.name, epoch)
        request = replace(self.requests.render(sample), epoch=epoch, row=row)
        answer = await self.endpoint(request)
        sent = request.params.get("body") or f"{self.requests.method} {request.params['path']}"
        return replace(answer, messages=({"role": "user", "content": sent},))

    def check(self, sample: Sample) -> str | None:
        """None if the templates render. Raises PromptError if they do not."""
        self.requests.render(sample)
        return None


def split_url(url: str) -> tuple[str, str]:
    """Scheme with host and port, and the path after them. Raises ValueError if data could choose the host."""
    text = url.strip()
    match = ADDRESS.fullmatch(text)
    if match is None:
        host = re.split(r"[/?]", text.partition("://")[2], maxsplit=1)[0]
        if any(sign in host or text.startswith(sign) for sign in TEMPLATE_MARKS):
            raise ValueError("url: templates are allowed after the host only, because data must not choose the host")
        if "@" in host:
            raise ValueError("url must not contain credentials; send them in headers")
        raise ValueError("url should look like http://localhost:8000/answer")
    try:
        parts = urlsplit(match["origin"])
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError("url should look like http://localhost:8000/answer") from None
    path = match["path"]
    return match["origin"], path if path.startswith("/") else f"/{path}"


def _path_filler(path: str, limits: Limits) -> Fill:
    fill = compile_template("the url", path, write=_as_url_part, limits=limits)

    def fill_path(context: dict[str, Any]) -> str:
        filled = fill(context)
        if any(DOTS.fullmatch(step) for step in re.split(r"[/\\]", filled.partition("?")[0])):
            raise PromptError(f"the url {filled!r} contains '.' or '..', which would lead to another path")
        return filled

    return fill_path


def _as_url_part(value: Any) -> str:
    return quote(str(value_text(value)), safe="", errors="replace")


def compile_body(body: Any, limits: Limits = STANDARD) -> Fill:
    """A function that renders a body: its texts are templates, and one that is only a name keeps the type of its value."""
    if isinstance(body, Mapping):
        items = {str(name): _compile_part(item, limits) for name, item in body.items()}
        return lambda context: {name: fill(context) for name, fill in items.items()}
    if isinstance(body, list | tuple):
        parts = [_compile_part(item, limits) for item in body]
        return lambda context: [fill(context) for fill in parts]
    if isinstance(body, str):
        return compile_template("the body", body, limits=limits)
    raise ValueError("body should be a mapping, a list or text")


def _compile_part(item: Any, limits: Limits) -> Fill:
    if isinstance(item, Mapping | list | tuple):
        return compile_body(item, limits)
    if not isinstance(item, str):
        return lambda context: item
    fill, name = compile_template("the body", item, limits=limits), single_name(item)

    def fill_part(context: dict[str, Any]) -> Any:
        value = context.get(name) if name is not None else None
        return value if name in context and not isinstance(value, str) else fill(context)

    return fill_part


def _as_json(value: Any) -> str:
    try:
        return exact_json(value, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError) as unfit:
        raise PromptError(f"the body cannot be written as JSON: {unfit}") from None
