"""A door on this machine through which a library that speaks nothing but HTTP asks the judge of a cell.

MLflow sends its judges' questions by HTTP, from threads of its own. What it calls a gateway is here a server on
loopback that hands each question to the judge of the cell that asks. So questions are kept, paced, counted and priced
as any other, and MLflow holds no address of a provider and no key. Each caller has a line with a token of its own;
whoever knows none is turned away. A question is put once: what fails is answered so that MLflow does not repeat it.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from weakref import WeakValueDictionary

from evalrunner.domain import Completion, Failure, Judge

HEADER = "X-Evalrun-Line"
MAX_WAIT_S = "86400"  # the judge has time limits of its own; MLflow's would put the question again
TURNED_AWAY, REFUSED = 404, 400  # MLflow repeats neither


class Questioned(Protocol):
    """What answers the questions of a line, in the thread of whoever asks."""

    def ask(self, question: Mapping[str, Any]) -> Completion | Failure: ...


@dataclass(slots=True)
class Asking:
    """One cell's questions: `last` is what the judge said last, None before it has said anything.

    `dropped` is whether a question was not put because the run is to stop.
    """

    judge: Judge
    loop: asyncio.AbstractEventLoop
    last: Completion | Failure | None = None
    ended: bool = False
    dropped: bool = False
    _under_way: set[Future[Completion | Failure]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Mapping[str, Any]) -> Completion | Failure:
        """The judge's answer to a request of OpenAI's API, waited for in the calling thread."""
        params = {name: value for name, value in question.items() if name not in ("model", "stream")}
        messages, tools = params.pop("messages"), params.pop("tools", None)
        wanted = params.pop("response_format", None)
        with self._lock:
            if self.ended:
                raise CancelledError
            asked = self.judge.ask(messages, params=params, tools=tools or (), response_format=wanted)
            future = asyncio.run_coroutine_threadsafe(asked, self.loop)
            self._under_way.add(future)
        try:
            self.last = future.result()
        except CancelledError:
            self.dropped = True
            raise
        finally:
            self._under_way.discard(future)
        return self.last

    def end(self) -> None:
        """Nobody waits for the cell any more: questions under way are given up, and no more are put."""
        with self._lock:
            self.ended = True
            for future in tuple(self._under_way):
                future.cancel()


class Line:
    """One caller's way through the door. While `asking` is set, its questions go to that cell's judge."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self.asking: Questioned | None = None
        self.door = the_door()
        self.door.lines[self.token] = self

    @property
    def headers(self) -> dict[str, str]:
        return {HEADER: self.token}

    @property
    def url(self) -> str:
        """Where chat questions go."""
        return f"{self.door.address}/gateway/mlflow/v1/chat/completions"  # MLflow's own path to a gateway

    @contextmanager
    def open(self, asking: Questioned) -> Iterator[None]:
        """Questions of the line go to the judge of `asking`, and MLflow's gateway is this door."""
        self.asking = asking
        try:
            with self.door.named():
                yield
        finally:
            self.asking = None


class Door:
    """The server, in a thread of its own."""

    def __init__(self) -> None:
        self.lines: WeakValueDictionary[str, Line] = WeakValueDictionary()
        self._server = _Server(("127.0.0.1", 0), _Caller)
        self._server.lines = self.lines
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._lock = threading.Lock()
        self._inside = 0
        self._before: dict[str, str | None] = {}
        threading.Thread(target=self._server.serve_forever, name="judge door", daemon=True).start()
        atexit.register(self._server.server_close)

    @contextmanager
    def named(self) -> Iterator[None]:
        """The environment says that this door is MLflow's gateway, for as long as anybody is inside."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._set()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    _restore(self._before)

    def _set(self) -> None:
        past_proxies = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
        beside = os.environ.get(past_proxies)
        wanted = {
            "MLFLOW_GATEWAY_URI": self.address,
            "MLFLOW_GATEWAY_ROUTE_TIMEOUT_SECONDS": MAX_WAIT_S,
            "MLFLOW_GENAI_EVAL_LLM_TIMEOUT": MAX_WAIT_S,
            past_proxies: f"{beside},127.0.0.1" if beside else "127.0.0.1",
        }
        self._before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_making = threading.Lock()
_door: Door | None = None


def the_door() -> Door:
    """The one door of this process, opened when it is first asked for."""
    global _door
    with _making:
        if _door is None:
            _door = Door()
        return _door


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    lines: Mapping[str, Line]


class _Caller(BaseHTTPRequestHandler):
    """One question. The body is read only once the token has been found good."""

    server: _Server

    def do_POST(self) -> None:
        line = self.server.lines.get(self.headers.get(HEADER, ""))
        asking = None if line is None else line.asking
        if asking is None:
            self._reply(TURNED_AWAY, {"error": {"message": "nobody asks a judge here"}})
            return
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer = asking.ask(question)
        except CancelledError:
            self._reply(REFUSED, {"error": {"message": "nobody waits for the verdict any more"}})
            return
        if isinstance(answer, Failure):
            self._reply(REFUSED, {"error": {"message": answer.message}})
        elif (nothing := nothing_said(answer)) is not None:
            self._reply(REFUSED, {"error": {"message": nothing}})
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


def nothing_said(answer: Completion) -> str | None:
    """Why there is nothing to read in a judge's reply, or None where there is."""
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
