"""A small model inside the process: no server to start, no key, no network after its weights are there.

llama.cpp through xllamacpp. One thread: on a busy machine two of them wait for each other (170 tokens a second
fell to 1.7). The model has no tool calls in its template and ignores them silently, so a forced tool call is asked
for as JSON of the tool's schema and handed back as the call it stands for.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from evalrun.domain import Completion, Failure, Request
from evalrun.endpoints.failures import parse_failure
from evalrun.endpoints.replies import read_chat, with_cost
from evalrun.endpoints.weights import Progress, fetch_weights
from evalrun.errors import EvalrunError, MissingExtraError, SuiteError, nearest

MODELS = ("local/smollm2-135m-instruct",)
CONTEXT_TOKENS = 4096


class EmbeddedEndpoint:
    """The embedded model as an endpoint. Weights are fetched and loaded by `prepare`, or else with the first call."""

    def __init__(self) -> None:
        self._server: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evalrun-embedded")

    async def prepare(self, progress: Progress | None = None) -> None:
        """Fetch the weights if they are not there, and load them. Raises RunError where that cannot be done."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._loaded, progress)

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is the model's own time, not that of waiting for its one thread."""
        if request.kind != "chat":
            return Failure("bad_request", f"the embedded model does only chat, not {request.kind}", fatal=True)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._answer, request)

    async def aclose(self) -> None:
        """Let go of the model. A call in flight is waited for: llama.cpp cannot be stopped in the middle."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._server = None

    def base_url(self) -> str:
        """The address of the OpenAI-compatible server that llama.cpp opens on loopback. Loads the model."""
        found: str = self._thread.submit(self._loaded).result().listening_address
        return f"{found}/v1"

    def _answer(self, request: Request) -> Completion | Failure:
        try:
            server = self._loaded()
        except EvalrunError as missing:
            return Failure("connection", str(missing), fatal=True)
        tool = forced_tool(request)
        begun = time.perf_counter()
        try:
            reply = server.handle_chat_completions(request_body(request, tool))
        except (ValueError, TypeError) as unfit:  # how xllamacpp refuses a request it cannot read
            return Failure("bad_request", f"the embedded model cannot read the request: {unfit}")
        latency_s = time.perf_counter() - begun
        return self._read(reply, tool, latency_s)

    def _read(self, reply: Mapping[str, Any], tool: str | None, latency_s: float) -> Completion | Failure:
        if "error" in reply:
            error = reply["error"]
            code = error.get("code") if isinstance(error, Mapping) else None
            return parse_failure(code if isinstance(code, int) else 500, {}, json.dumps(reply).encode(), latency_s)
        answer = read_chat({**reply, "model": MODELS[0]}, latency_s=latency_s)
        if not isinstance(answer, Completion):
            return answer
        priced = with_cost(answer, 0.0)
        return priced if tool is None else as_tool_call(priced, tool)

    def _loaded(self, progress: Progress | None = None) -> Any:
        """The model, loaded by the one thread that uses it."""
        if self._server is None:
            import xllamacpp

            params = xllamacpp.CommonParams()
            params.model.path = str(fetch_weights(progress))
            params.n_ctx = CONTEXT_TOKENS
            params.n_parallel = 1  # the context is divided by it
            params.cpuparams.n_threads = 1
            params.cpuparams_batch.n_threads = 1
            params.verbosity = -1  # or it writes to the terminal past everyone
            params.warmup = False
            self._server = xllamacpp.Server(params)
        return self._server


def check_local_model(model: str) -> None:
    """Raises SuiteError for a model that is not embedded, MissingExtraError where none can be run."""
    if model not in MODELS:
        raise SuiteError(f"there is no embedded model {model!r}{nearest(model, MODELS) or f'; there is {MODELS[0]}'}")
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("the embedded model", "local")


def forced_tool(request: Request) -> str | None:
    """The name of the tool that the request insists on, if it insists on one."""
    choice = request.params.get("tool_choice")
    if isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        name = choice["function"].get("name")
        return name if isinstance(name, str) else None
    if choice == "required" and len(request.tools) == 1:
        return str(request.tools[0].get("function", {}).get("name"))
    return None


def request_body(request: Request, tool: str | None) -> dict[str, Any]:
    """The request as llama.cpp's server takes it. Nothing of earlier prompts is used again, so order does not matter."""
    body: dict[str, Any] = {
        "cache_prompt": False,
        **request.params,
        "messages": [dict(item) for item in request.messages],
    }
    body.pop("tool_choice", None)
    if tool is not None:
        schema: Mapping[str, Any] = next(
            (
                item["function"].get("parameters", {})
                for item in request.tools
                if item.get("function", {}).get("name") == tool
            ),
            {},
        )
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": tool, "schema": schema}}
    elif request.response_format is not None:
        body["response_format"] = dict(request.response_format)
    return body


def as_tool_call(answer: Completion, tool: str) -> Completion:
    """The reply as the tool call it stands for; one that was cut off stays what it is."""
    if answer.ended != "stop":
        return answer
    call = {"id": "call_0", "type": "function", "function": {"name": tool, "arguments": answer.text}}
    return replace(answer, text="", ended="tool_calls", tool_calls=(call,))
