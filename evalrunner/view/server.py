"""The server of `evalrun view`: local, and read-only for everybody without its key.

A page of another site can make a browser send requests here, through DNS rebinding even under its own host name. So
requests for any host other than this machine are rejected, and no other origin may use a response.
"""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from evalrunner.errors import RunError
from evalrunner.redact import redact_message
from evalrunner.view.editing import FORM_TYPE, MAX_FORM_BYTES, EditKey, read_form
from evalrunner.view.pages import TYPES, Pages, Response

ADDRESS: Final = "127.0.0.1"
LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})  # accepted in the Host header
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers hide the origin of forms from this server too
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
IDLE_TIMEOUT_S: Final = 30.0
NOT_THIS_MACHINE: Final = "this server only accepts requests to 127.0.0.1 and localhost"


def make_server(output_dir: Path, port: int, *, editable: bool = False) -> PageServer:
    """A server on this machine; port 0 selects a free one. Raises RunError if the port is taken.

    With `editable`, the browser that opens `server.address` may write notes and delete runs.
    """
    pages = Pages(output_dir)

    class Handler(PageHandler):
        def answer(self) -> Response:
            return pages.get(self.path, editable=self.may_edit())

        def change(self, form: Mapping[str, Sequence[str]]) -> Response:
            return pages.post(self.path, form)

    try:
        server = PageServer((ADDRESS, port), Handler)
    except OSError as refused:
        raise RunError(
            f"cannot listen on {ADDRESS}:{port}: {refused.strerror}; choose another port with --port"
        ) from None
    server.daemon_threads = True
    server.key = EditKey(server.server_port) if editable else None
    return server


class PageServer(ThreadingHTTPServer):
    """A server that says nothing of a browser that closed its connection."""

    key: EditKey | None = None

    @property
    def address(self) -> str:
        """The address to open, with the key for changes if there is one."""
        start = f"http://{ADDRESS}:{self.server_port}/"
        return start if self.key is None else f"{start}?key={self.key.value}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler, ABC):
    """Handles GET and HEAD, and POST with the key of the server."""

    server: PageServer

    protocol_version = "HTTP/1.1"
    server_version = "evalrun"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S

    @abstractmethod
    def answer(self) -> Response:
        """The response to the request."""

    @abstractmethod
    def change(self, form: Mapping[str, Sequence[str]]) -> Response:
        """The response to a submitted form."""

    def do_GET(self) -> None:
        if not self._is_for_this_machine():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, NOT_THIS_MACHINE)
        elif not self._takes_key():
            self._reply(self.answer)

    def do_POST(self) -> None:
        self.close_connection = True  # whatever is left of the body
        length = self.headers.get("Content-Length", "")
        if not self._is_for_this_machine():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, NOT_THIS_MACHINE)
        elif self.server.key is None:
            self._not_allowed()
        elif not self.may_edit() or self.headers.get("Origin") != f"http://{self.headers.get('Host')}":
            self._refuse(HTTPStatus.FORBIDDEN, "to make changes, open the address that evalrun view printed")
        elif self.headers.get("Content-Type") != FORM_TYPE or not length.isascii() or not length.isdigit():
            self._refuse(HTTPStatus.BAD_REQUEST, "this is not a form")
        elif int(length) > MAX_FORM_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a form may have {MAX_FORM_BYTES:,} bytes")
        else:
            body = self.rfile.read(int(length))
            self._reply(lambda: self.change(read_form(body)))

    def may_edit(self) -> bool:
        """Whether the request has the key of the server."""
        key = self.server.key
        return key is not None and key.is_in("; ".join(self.headers.get_all("Cookie", [])))

    def _takes_key(self) -> bool:
        """Whether the address has a key, which moves to a cookie, so that it stands in no history and no link."""
        keys = parse_qs(urlsplit(self.path).query, errors="replace").get("key", [])
        if not keys or self.server.key is None:
            return False
        matches = self.server.key.matches(keys[0])
        self._head(HTTPStatus.SEE_OTHER, "text/plain; charset=utf-8", 0, "default-src 'none'",
                   {"Location": "/", **({"Set-Cookie": self.server.key.cookie} if matches else {})})  # fmt: skip
        return True

    def _reply(self, respond: Callable[[], Response]) -> None:
        try:
            response = respond()
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
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed here")

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
            location = {"Location": response.location} if response.location is not None else {}
            self._head(response.status, TYPES[response.kind], len(data), response.policy, location)
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

    def _head(
        self, status: int, kind: str, length: int, policy: str, more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", policy)
        for name, value in {**HEADERS, **more}.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: addresses are untrusted text, and the terminal is for errors."""
