"""A proxy on this machine through which MLflow, which calls models by HTTP only, asks the judge of a cell.

MLflow calls judges by HTTP from its own threads. The gateway that it is configured with is a server on loopback, which
hands each call to the judge of the cell in question. So the calls are cached, rate-limited, counted and priced like all
others, and MLflow has no address of a provider and no key. Each caller has a session with its own token; calls without
a token are refused. A call is made once: failures are answered with a status that MLflow does not retry.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, TypeAlias
from weakref import WeakValueDictionary

from evalrunner.domain import Completion, Failure, Judge, Outcome, Unscored
from evalrunner.mlflow.client import quiet_mlflow, restore_environment
from evalrunner.scorers.autoevals_client import describe_error
from evalrunner.scorers.judge_replies import NoVerdict, VerdictFormat, quote_reply, read_verdict

TOKEN_HEADER = "X-Evalrun-Session"  # noqa: S105  the name of a header
MAX_WAIT_S = "86400"  # the judge has its own timeouts; with MLflow's it would retry
UNKNOWN_CALLER, FAILED = 404, 400  # MLflow retries neither

_starting = threading.Lock()
_proxy: JudgeProxy | None = None

MAX_THREADS = 256  # threads that wait for a judge; its own limits decide how many calls are in flight

Call: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""A metric of MLflow, called with the values of one row."""


class QuestionHandler(Protocol):
    """Answers the calls of a session, in the thread of the caller."""

    def ask(self, question: Mapping[str, Any]) -> Completion | Failure | NoVerdict: ...


@dataclass(slots=True)
class PendingCall:
    """The calls of one cell. `last` is the last reply of the judge, None before the first.

    With a `form`, a reply becomes the JSON that MLflow reads, or the reason why it has no verdict. `graded` are the texts
    that the judge may quote. `cancelled` says whether a call was dropped because the run is stopping.
    """

    judge: Judge
    loop: asyncio.AbstractEventLoop
    form: VerdictFormat | None = None
    graded: Sequence[str] = ()
    last: Completion | Failure | NoVerdict | None = None
    closed: bool = False
    cancelled: bool = False
    _in_flight: set[Future[Completion | Failure]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Mapping[str, Any]) -> Completion | Failure | NoVerdict:
        """The judge's reply to a request of OpenAI's API; blocks the calling thread."""
        params = {name: value for name, value in question.items() if name not in ("model", "stream")}
        messages, tools = params.pop("messages"), params.pop("tools", None)
        response_format = params.pop("response_format", None)
        with self._lock:
            if self.closed:
                raise CancelledError
            coroutine = self.judge.ask(messages, params=params, tools=tools or (), response_format=response_format)
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
            self._in_flight.add(future)
        try:
            self.last = self._read(future.result())
        except CancelledError:
            self.cancelled = True
            raise
        finally:
            self._in_flight.discard(future)
        return self.last

    def _read(self, answer: Completion | Failure) -> Completion | Failure | NoVerdict:
        if self.form is None or isinstance(answer, Failure):
            return answer
        verdict = read_verdict(answer, self.form, self.graded)
        if isinstance(verdict, NoVerdict):
            return verdict
        value = verdict.label if self.form.labels else int(verdict.label)
        text = json.dumps({self.form.reasons: verdict.reasons or "", self.form.key: value})
        return replace(answer, text=text, finish_reason="stop", tool_calls=())

    def end(self) -> None:
        """Cancel the calls in flight and refuse new ones: nothing waits for the cell any more."""
        with self._lock:
            self.closed = True
            for future in tuple(self._in_flight):
                future.cancel()


class ProxySession:
    """One caller of the proxy. While `handler` is set, it answers the calls of the session."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self.handler: QuestionHandler | None = None
        self.proxy = judge_proxy()
        self.proxy.sessions[self.token] = self

    @property
    def headers(self) -> dict[str, str]:
        return {TOKEN_HEADER: self.token}

    @property
    def url(self) -> str:
        """The address for chat requests."""
        return f"{self.proxy.address}/gateway/mlflow/v1/chat/completions"  # the path that MLflow uses for gateways

    @contextmanager
    def open(self, handler: QuestionHandler) -> Iterator[None]:
        """Calls of the session go to `handler`, and MLflow uses this proxy as its gateway."""
        self.handler = handler
        try:
            with self.proxy.in_environment():
                yield
        finally:
            self.handler = None


class JudgeProxy:
    """The server, in its own thread."""

    def __init__(self) -> None:
        self.sessions: WeakValueDictionary[str, ProxySession] = WeakValueDictionary()
        self._server = _Server(("127.0.0.1", 0), _RequestHandler)
        self._server.sessions = self.sessions
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._lock = threading.Lock()
        self._users = 0
        self._previous: dict[str, str | None] = {}
        threading.Thread(target=self._server.serve_forever, name="judge proxy", daemon=True).start()
        atexit.register(self._server.server_close)

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """The environment names this proxy as MLflow's gateway while at least one caller is inside."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._set()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    restore_environment(self._previous)

    def _set(self) -> None:
        past_proxies = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
        beside = os.environ.get(past_proxies)
        variables = {
            "MLFLOW_GATEWAY_URI": self.address,
            "MLFLOW_GATEWAY_ROUTE_TIMEOUT_SECONDS": MAX_WAIT_S,
            "MLFLOW_GENAI_EVAL_LLM_TIMEOUT": MAX_WAIT_S,
            past_proxies: f"{beside},127.0.0.1" if beside else "127.0.0.1",
        }
        self._previous = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)


def judge_proxy() -> JudgeProxy:
    """The one proxy of this process, started at the first call."""
    global _proxy
    with _starting:
        if _proxy is None:
            _proxy = JudgeProxy()
        return _proxy


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    sessions: Mapping[str, ProxySession]


class _RequestHandler(BaseHTTPRequestHandler):
    """One call. The body is read only if the token is valid."""

    server: _Server

    def do_POST(self) -> None:
        session = self.server.sessions.get(self.headers.get(TOKEN_HEADER, ""))
        handler = None if session is None else session.handler
        if handler is None:
            self._reply(UNKNOWN_CALLER, {"error": {"message": "unknown token"}})
            return
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer = handler.ask(question)
        except CancelledError:
            self._reply(FAILED, {"error": {"message": "the run no longer waits for this verdict"}})
            return
        if isinstance(answer, Failure):
            self._reply(FAILED, {"error": {"message": answer.message}})
        elif isinstance(answer, NoVerdict):
            self._reply(FAILED, {"error": {"message": "the judge gave no verdict"}})
        else:
            self._reply(200, chat_reply(answer))

    def _reply(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def chat_reply(answer: Completion) -> dict[str, Any]:
    """The judge's reply in the format of OpenAI's API, without tokens: they are counted where the judge is called."""
    message = {"role": "assistant", "content": answer.text}
    return {
        "id": "verdict",
        "object": "chat.completion",
        "created": 0,
        "model": answer.served_model or "judge",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    }


MakeCall: TypeAlias = Callable[[str, ProxySession], Call]
"""Creates the call of a metric for a model name and a session."""


class JudgeCalls:
    """Concurrent calls of one metric, each with its own metric object and session.

    A metric object is created with the address and headers of its calls, so it is reused together with its session.
    """

    def __init__(self, make: MakeCall, form: VerdictFormat, read: Callable[[Any], Outcome]) -> None:
        self._make = make
        self._form = form
        self._read = read
        self._idle: list[tuple[str, ProxySession, Call]] = []
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="mlflow judge")

    async def ask(self, judge: Judge, values: Mapping[str, Any]) -> Outcome:
        """The score; the judge's Failure unchanged; Unscored without a readable verdict.

        Raises CancelledError if the run is stopping.
        """
        model, session, call = self._take_idle(judge.model)
        loop = asyncio.get_running_loop()
        pending = PendingCall(judge, loop, self._form, [item for item in values.values() if isinstance(item, str)])
        try:
            outcome = await loop.run_in_executor(self._threads, self._call, session, call, pending, values)
        finally:
            pending.end()  # after a timeout of the row its session is not reused
        self._idle.append((model, session, call))
        if pending.cancelled:  # and its row with it; a resume runs it again
            raise asyncio.CancelledError
        return outcome

    def _take_idle(self, model: str) -> tuple[str, ProxySession, Call]:
        while self._idle:
            idle = self._idle.pop()
            if idle[0] == model:
                return idle
        session = ProxySession()
        with quiet_mlflow():  # some of them warn that MLflow has newer ones
            return model, session, self._make(model, session)

    def _call(self, session: ProxySession, call: Call, pending: PendingCall, values: Mapping[str, Any]) -> Outcome:
        with session.open(pending):
            try:
                result = call(values)
            except Exception as crash:  # MLflow raises many types while it parses a reply
                return self._failed_answer(pending) or self._unreadable(pending, crash)
        return self._failed_answer(pending) or self._read_safely(pending, result)

    def _failed_answer(self, pending: PendingCall) -> Outcome | None:
        """The outcome if the last call was not answered, which MLflow reports differently or not at all."""
        if isinstance(pending.last, Failure):
            return pending.last
        return pending.last if isinstance(pending.last, NoVerdict) else None

    def _unreadable(self, pending: PendingCall, crash: Exception) -> Outcome:
        if pending.last is None:  # no reply was read yet, so the reply is not the cause
            return Failure("function", f"MLflow failed before it called the judge: {describe_error(crash)}")
        return Unscored("judge", f"unreadable verdict: {quote_reply(pending.last.text)}")  # type: ignore[union-attr]

    def _read_safely(self, pending: PendingCall, result: Any) -> Outcome:
        outcome = self._read(result)
        if isinstance(outcome, Unscored) and isinstance(pending.last, Completion):
            return Unscored("judge", f"{outcome.reason}: {quote_reply(pending.last.text)}")
        return outcome

    def dry_run(self, values: Mapping[str, Any], reply: str, what: str) -> None:
        """Make one call with placeholder values. Raises ValueError if this version of MLflow does not call the proxy.

        It also triggers the imports of MLflow's first call before the run.
        """
        handler = _DryRun(reply)
        session = ProxySession()
        with quiet_mlflow(), session.open(handler):
            call = self._make("dry-run", session)
            crashed = ""
            try:
                call(values)
            except Exception as crash:  # a user-defined metric may not understand the placeholder reply
                crashed = f": {describe_error(crash)}"
        if not handler.is_called:
            from importlib.metadata import version

            raise ValueError(f"MLflow {version('mlflow')} does not ask the judge of the suite for {what}{crashed}")
        silence_numpy()


@dataclass(slots=True)
class _DryRun:
    """Stands in for a cell: has one reply, and records whether it was called."""

    reply: str
    is_called: bool = False

    def ask(self, question: Mapping[str, Any]) -> Completion:
        self.is_called = True
        return Completion(self.reply)


def silence_numpy() -> None:
    """Silence warnings of numpy: MLflow takes the mean of no scores if a reply is unreadable."""
    for message in ("Mean of empty slice", "invalid value encountered in", "Degrees of freedom <= 0"):
        warnings.filterwarnings("ignore", message, RuntimeWarning, r"numpy\._core\.")


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn what MLflow raises for parameters of a suite into a ValueError in one line."""
    try:
        yield
    except ValueError as wrong:
        errors = getattr(wrong, "errors", None)
        if errors is None:
            raise
        details = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in errors())
        raise ValueError(f"metric {name!r}: {details}") from None
    except Exception as crash:  # MLflow raises many types for invalid parameters
        raise ValueError(f"metric {name!r}: {describe_error(crash)}") from None
