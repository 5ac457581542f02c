"""The server of `evalrun view`: local and read-only.

A page of another site can make a browser send requests here, through DNS rebinding even under its own host name. So
requests for any host other than this machine are rejected, and no other origin may use a response.
"""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from evalrunner.errors import RunError
from evalrunner.redact import redact_message
from evalrunner.view.pages import TYPES, Pages, Response

ADDRESS: Final = "127.0.0.1"
LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})  # accepted in the Host header
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
IDLE_TIMEOUT_S: Final = 30.0


def make_server(output_dir: Path, port: int) -> ThreadingHTTPServer:
    """A server on this machine; port 0 selects a free one. Raises RunError if the port is taken."""
    pages = Pages(output_dir)

    class Handler(PageHandler):
        def answer(self) -> Response:
            return pages.get(self.path)

    try:
        server = PageServer((ADDRESS, port), Handler)
    except OSError as refused:
        raise RunError(
            f"cannot listen on {ADDRESS}:{port}: {refused.strerror}; choose another port with --port"
        ) from None
    server.daemon_threads = True
    return server


class PageServer(ThreadingHTTPServer):
    """A server that says nothing of a browser that closed its connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler, ABC):
    """Handles GET and HEAD requests, and no others."""

    protocol_version = "HTTP/1.1"
    server_version = "evalrun"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S

    @abstractmethod
    def answer(self) -> Response:
        """The response to the request."""

    def do_GET(self) -> None:
        if not self._is_for_this_machine():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server only accepts requests to 127.0.0.1 and localhost")
            return
        try:
            response = self.answer()
        except Exception as problem:  # an error in one page must not stop the server
            print(redact_message(f"evalrun view: {self.path!r}: {problem!r}"), file=sys.stderr)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the terminal")
            return
        self._send(response)

    def do_HEAD(self) -> None:
        self.do_GET()

    def __getattr__(self, name: str) -> Any:
        """The handler of any other method, which the base class looks up by name."""
        if name.startswith("do_"):
            return self._not_allowed
        raise AttributeError(name)

    def _not_allowed(self) -> None:
        self.close_connection = True  # the body is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed: the server is read-only")

    def _is_for_this_machine(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            return False
        try:
            return urlsplit(f"//{hosts[0]}").hostname in LOCAL_HOSTS
        except ValueError:
            return False

    def _send(self, response: Response) -> None:
        data = response.body.encode("utf-8", errors="backslashreplace") if isinstance(response.body, str) else None
        if data is not None:
            self._head(response.status, TYPES[response.kind], len(data), response.policy)
            if self.command != "HEAD":
                self.wfile.write(data)
            return
        assert isinstance(response.body, Path)  # not a text
        with response.body.open("rb") as file:
            file.seek(0, 2)
            self._head(response.status, TYPES[response.kind], file.tell(), response.policy)
            file.seek(0)
            if self.command != "HEAD":
                shutil.copyfileobj(file, self.wfile)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        data = (message + "\n").encode()
        self._head(status, "text/plain; charset=utf-8", len(data), "default-src 'none'")
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, kind: str, length: int, policy: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", policy)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: addresses are untrusted text, and the terminal is for errors."""
