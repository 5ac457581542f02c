"""PROXY"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, TypeAlias
from weakref import WeakValueDictionary

from evalrunner.domain import Completion, Failure, Judge, Outcome, Unscored
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.scorers.autoevals import describe_error

TOKEN_HEADER = "X-Evalrun-Session"  # noqa: S105  the name of a header
MAX_WAIT_S = "86400"  # the judge has time limits of its own; MLflow's would put the question again
UNKNOWN_CALLER, FAILED = 404, 400  # MLflow repeats neither


class QuestionHandler(Protocol):
    """What answers the questions of a session, in the thread of whoever asks."""

    def ask(self, question: Mapping[str, Any]) -> Completion | Failure: ...


@dataclass(slots=True)
class PendingCall:
    """One cell's questions: `last` is what the judge said last, None before it has said anything.

    `cancelled` is whether a question was not put because the run is to stop.
    """

    judge: Judge
    loop: asyncio.AbstractEventLoop
    last: Completion | Failure | None = None
    closed: bool = False
    cancelled: bool = False
    _in_flight: set[Future[Completion | Failure]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Mapping[str, Any]) -> Completion | Failure:
        """The judge's answer to a request of OpenAI's API, waited for in the calling thread."""
        params = {name: value for name, value in question.items() if name not in ("model", "stream")}
        messages, tools = params.pop("messages"), params.pop("tools", None)
        wanted = params.pop("response_format", None)
        with self._lock:
            if self.closed:
                raise CancelledError
            asked = self.judge.ask(messages, params=params, tools=tools or (), response_format=wanted)
            future = asyncio.run_coroutine_threadsafe(asked, self.loop)
            self._in_flight.add(future)
        try:
            self.last = future.result()
        except CancelledError:
            self.cancelled = True
            raise
        finally:
            self._in_flight.discard(future)
        return self.last

    def end(self) -> None:
        """Nobody waits for the cell any more: questions under way are given up, and no more are put."""
        with self._lock:
            self.closed = True
            for future in tuple(self._in_flight):
                future.cancel()


class ProxySession:
    """One caller's way through the proxy. While `handler` is set, its questions go to that cell's judge."""

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
        """Where chat questions go."""
        return f"{self.proxy.address}/gateway/mlflow/v1/chat/completions"  # MLflow's own path to a gateway

    @contextmanager
    def open(self, handler: QuestionHandler) -> Iterator[None]:
        """Questions of the session go to the judge of `handler`, and MLflow's gateway is this proxy."""
        self.handler = handler
        try:
            with self.proxy.in_environment():
                yield
        finally:
            self.handler = None


class JudgeProxy:
    """The server, in a thread of its own."""

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
        """The environment says that this proxy is MLflow's gateway, for as long as anybody is inside."""
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
                    _restore_environment(self._previous)

    def _set(self) -> None:
        past_proxies = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
        beside = os.environ.get(past_proxies)
        wanted = {
            "MLFLOW_GATEWAY_URI": self.address,
            "MLFLOW_GATEWAY_ROUTE_TIMEOUT_SECONDS": MAX_WAIT_S,
            "MLFLOW_GENAI_EVAL_LLM_TIMEOUT": MAX_WAIT_S,
            past_proxies: f"{beside},127.0.0.1" if beside else "127.0.0.1",
        }
        self._previous = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)


def _restore_environment(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_starting = threading.Lock()
_proxy: JudgeProxy | None = None


def judge_proxy() -> JudgeProxy:
    """The one proxy of this process, opened when it is first asked for."""
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
    """One question. The body is read only once the token has been found good."""

    server: _Server

    def do_POST(self) -> None:
        session = self.server.sessions.get(self.headers.get(TOKEN_HEADER, ""))
        handler = None if session is None else session.handler
        if handler is None:
            self._reply(UNKNOWN_CALLER, {"error": {"message": "nobody asks a judge here"}})
            return
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer = handler.ask(question)
        except CancelledError:
            self._reply(FAILED, {"error": {"message": "nobody waits for the verdict any more"}})
            return
        if isinstance(answer, Failure):
            self._reply(FAILED, {"error": {"message": answer.message}})
        elif (reason := missing_verdict(answer)) is not None:
            self._reply(FAILED, {"error": {"message": reason}})
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
        """Nothing: requests are no news."""


def missing_verdict(answer: Completion) -> str | None:
    """Why there is reason to read in a judge's reply, or None where there is."""
    if answer.finish_reason in ("length", "filtered", "refused"):
        return f"the judge's reply was {'cut off' if answer.finish_reason == 'length' else answer.finish_reason}"
    return None if answer.text.strip() else "the judge's reply was empty"


def chat_reply(answer: Completion) -> dict[str, Any]:
    """The judge's answer as OpenAI's API has it. Tokens are not told: they are counted where the judge is asked."""
    message = {"role": "assistant", "content": answer.text}
    return {
        "id": "verdict",
        "object": "chat.completion",
        "created": 0,
        "model": answer.served_model or "judge",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    }


MAX_THREADS = 256  # threads that wait for a judge; how many questions are put at once is settled where it is was_asked
MAX_REPLY_LENGTH = 200  # characters of a reply that cannot be read

Call: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""A metric of MLflow with everything set but the values of one row."""
MakeCall: TypeAlias = Callable[[str, ProxySession], Call]
"""The call of a metric whose questions name a model and go over a session."""


class JudgeCalls:
    """Calls of one metric, as many at once as are was_asked for, each with a metric and a session of its own.

    A metric is made with the address and the headers of its questions, so it is idle with its session and used again.
    """

    def __init__(self, make: MakeCall, read: Callable[[Any], Outcome]) -> None:
        self._make = make
        self._read = read
        self._idle: list[tuple[str, ProxySession, Call]] = []
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="mlflow judge")

    async def ask(self, judge: Judge, values: Mapping[str, Any]) -> Outcome:
        """The score; the judge's Failure as it is, Unscored where it gave no verdict that can be read.

        Raises CancelledError where the run is to stop.
        """
        model, session, call = self._take_idle(judge.model)
        loop = asyncio.get_running_loop()
        pending = PendingCall(judge, loop)
        try:
            outcome = await loop.run_in_executor(self._threads, self._call, session, call, pending, values)
        finally:
            pending.end()  # a row whose time is up waits no longer; its session is not used again
        self._idle.append((model, session, call))
        if pending.cancelled:  # and its row with it, to be was_asked when the run goes on
            raise asyncio.CancelledError
        return outcome

    def _take_idle(self, model: str) -> tuple[str, ProxySession, Call]:
        while self._idle:
            idle = self._idle.pop()
            if idle[0] == model:
                return idle
        session = ProxySession()
        with quiet_mlflow():  # making some of them warns that MLflow has newer ones
            return model, session, self._make(model, session)

    def _call(self, session: ProxySession, call: Call, pending: PendingCall, values: Mapping[str, Any]) -> Outcome:
        with session.open(pending):
            try:
                found = call(values)
            except Exception as crash:  # MLflow raises whatever its parsing of a reply happens to trip over
                return self._failed_answer(pending) or self._unreadable(pending, crash)
        return self._failed_answer(pending) or self._read_safely(pending, found)

    def _failed_answer(self, pending: PendingCall) -> Outcome | None:
        """What the cell gets where the last question was not answered; MLflow words that in its own way, or not at all."""
        if isinstance(pending.last, Failure):
            return pending.last
        nothing = None if pending.last is None else missing_verdict(pending.last)
        return None if nothing is None else Unscored("judge", nothing)

    def _unreadable(self, pending: PendingCall, crash: Exception) -> Outcome:
        if pending.last is None:  # no reply was read yet, so the fault is not in one
            return Failure("function", f"MLflow failed before it was_asked the judge: {describe_error(crash)}")
        return Unscored("judge", f"unreadable verdict: {shortened(pending.last.text)}")  # type: ignore[union-attr]

    def _read_safely(self, pending: PendingCall, found: Any) -> Outcome:
        outcome = self._read(found)
        if isinstance(outcome, Unscored) and isinstance(pending.last, Completion):
            return Unscored("judge", f"{outcome.reason}: {shortened(pending.last.text)}")
        return outcome

    def dry_run(self, values: Mapping[str, Any], reply: str, what: str) -> None:
        """None, if a made-up question comes through the door. Raises ValueError where this MLflow asks somebody else.

        It also imports what MLflow imports when it first asks, once and before the rows.
        """
        dry_run_handler = _DryRun(reply)
        session = ProxySession()
        with quiet_mlflow(), session.open(dry_run_handler):
            call = self._make("dry_run_handler", session)
            crashed = ""
            try:
                call(values)
            except Exception as crash:  # a metric of one's own may not be able to read the made-up reply
                crashed = f": {describe_error(crash)}"
        if not dry_run_handler.was_asked:
            from importlib.metadata import version

            raise ValueError(f"MLflow {version('mlflow')} does not ask the judge of the suite for {what}{crashed}")
        silence_numpy()


@dataclass(slots=True)
class _DryRun:
    """Stands for a cell: knows one reply, and whether it was was_asked."""

    reply: str
    was_asked: bool = False

    def ask(self, question: Mapping[str, Any]) -> Completion:
        self.was_asked = True
        return Completion(self.reply)


def silence_numpy() -> None:
    """MLflow's metrics take the mean of no scores at all where a reply cannot be read; nobody needs to hear of it."""
    for message in ("Mean of empty slice", "invalid value encountered in", "Degrees of freedom <= 0"):
        warnings.filterwarnings("ignore", message, RuntimeWarning, r"numpy\._core\.")


def shortened(reply: str) -> str:
    text = " ".join(reply.split())
    return repr(text if len(text) <= MAX_REPLY_LENGTH else text[:MAX_REPLY_LENGTH] + "…")


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """What MLflow raises when it is given the parameters of a suite, as the ValueError of that suite."""
    try:
        yield
    except ValueError as wrong:
        errors = getattr(wrong, "errors", None)
        if errors is None:
            raise
        found = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in errors())
        raise ValueError(f"metric {name!r}: {found}") from None
    except Exception as crash:  # whatever MLflow makes of parameters it does not like
        raise ValueError(f"metric {name!r}: {describe_error(crash)}") from None
