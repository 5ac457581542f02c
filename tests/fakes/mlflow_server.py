"""A real `mlflow server` with SQLite on loopback, and a proxy in front of it that injects faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

UP_WITHIN_S = 240.0
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def mlflow_server(folder: Path, port: int, started: list[int] | None = None) -> Iterator[str]:
    """The address of a server that stores its data in `folder`; leaving the context stops all its processes.

    The id of its process group is added to `started`, so that a test can kill it.
    """
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **quiet}, start_new_session=True
        )
        if started is not None:
            started.append(process.pid)
        try:
            await_up(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            end_group(process)


def await_up(url: str, process: subprocess.Popen[bytes], log: Any) -> None:
    """Wait until a server answers. Raises RuntimeError with its last output if it does not."""
    until = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    log.seek(0)
    raise RuntimeError(f"the server did not come up: {log.read()[-2000:]}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and its process group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(15)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@dataclass
class Fault:
    """Faults that the proxy injects. `fails` receives the number of a request, from 1, and returns the reply to send instead.

    `before` leaves the server out, `after` lets it do what was asked and loses the answer, `drop` closes the connection.
    """

    fails: Callable[[int], str | None] = lambda number: None
    delay_s: float = 0.0
    status: int = 500
    body: bytes = b"no"
    seen: list[tuple[str, str]] = field(default_factory=list)
    first_at: float | None = None
    at_once: int = 0
    most_at_once: int = 0


@contextmanager
def faulty_proxy(server: str, fault: Fault) -> Iterator[str]:
    """The address of a proxy in front of `server`."""
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *said: object) -> None:
            """Nothing is printed."""

        def forward(self) -> None:
            with turn:
                fault.at_once += 1
                fault.most_at_once = max(fault.most_at_once, fault.at_once)
            try:
                self.answer()
            finally:
                with turn:
                    fault.at_once -= 1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with turn:
                fault.seen.append((self.command, self.path.partition("?")[0]))
                fault.first_at = fault.first_at or time.time()
                wrong = fault.fails(len(fault.seen))
            time.sleep(fault.delay_s)
            try:
                status, headers, answer = (fault.status, [], fault.body) if wrong == "before" else self.ask(body, wrong)
            except OSError:  # the server has stopped
                self.close_connection = True
                self.connection.close()
                return
            if wrong == "after":
                status, headers, answer = fault.status, [], fault.body
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def ask(self, body: bytes, wrong: str | None) -> tuple[int, list[tuple[str, str]], bytes]:
            if wrong == "drop":
                raise ConnectionAbortedError
            connection = HTTPConnection(server.removeprefix("http://"), timeout=60)
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", *HOP)}
                connection.request(self.command, self.path, body or None, headers)
                result = connection.getresponse()
                return result.status, result.getheaders(), result.read()
            finally:
                connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward  # noqa: N815  the base class's names

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
