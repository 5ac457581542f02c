"""GitHub on loopback: the API for artifacts and comments, and the other host that artifacts are downloaded from."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "owner/repo"
TOKEN = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass
class FakeGitHub:
    """The state of the repository; `requests` are `METHOD path` of the API, `problems` what a client must not do.

    `refuse` maps `METHOD path` to a status that is returned instead; it may be a list, one for each request.
    """

    artifacts: list[dict[str, Any]] = field(default_factory=list)
    archives: dict[int, bytes] = field(default_factory=dict)
    events: dict[int, str] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    location: str | None = None

    def __enter__(self) -> FakeGitHub:
        self.servers = [serve(self.answer), serve(self.store)]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def upload(self, name: str, folder: Path, **run: Any) -> int:
        """Store a folder as the newest artifact of a name; returns its id. `run` changes its workflow run."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    file.write(path, path.relative_to(folder).as_posix())
        return self.add_archive(name, packed.getvalue(), **run)

    def add_archive(self, name: str, data: bytes, *, event: str = "push", expired: bool = False, **run: Any) -> int:
        number = len(self.archives) + 1
        self.archives[number] = data
        workflow = {"id": 1000 + number, "repository_id": 1, "head_repository_id": 1, "head_branch": "main", "head_sha": "c0ffee" + "0" * 34, **run}  # fmt: skip
        self.events[workflow["id"]] = event
        self.artifacts.insert(0, {"id": number, "name": name, "expired": expired, "created_at": "2026-11-27T10:00:00Z", "workflow_run": workflow})  # fmt: skip
        return number

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
        address = urlsplit(path)
        self.requests.append(f"{method} {address.path}")
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            self.problems.append(f"{method} {path} without the token")
        if (status := self.refuse.get(f"{method} {address.path}")) is not None:
            return status, {"message": "Resource not accessible by integration"}, {}
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        below = address.path.removeprefix(f"/repos/{REPOSITORY}")
        if below == "/actions/artifacts":
            named = [each for each in self.artifacts if each["name"] == query["name"]]
            start = (int(query["page"]) - 1) * int(query["per_page"])
            return 200, {"total_count": len(named), "artifacts": named[start : start + int(query["per_page"])]}, {}
        if match := re.fullmatch(r"/actions/artifacts/(\d+)/zip", below):
            return 302, None, {"Location": self.location or f"{self.storage}/{match[1]}?sig=secret"}
        if match := re.fullmatch(r"/actions/runs/(\d+)", below):
            return 200, {"event": self.events[int(match[1])]}, {}
        return self.answer_comment(method, below, query, json.loads(body) if body else {})

    def answer_comment(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, Any, dict[str, str]]:
        if method == "GET" and path == "/issues/7/comments":
            start = (int(query["page"]) - 1) * int(query["per_page"])
            return 200, self.comments[start : start + int(query["per_page"])], {}
        if method == "POST" and path == "/issues/7/comments":
            self.comments.append({"id": 500 + len(self.comments), "user": {"type": "Bot"}, "body": body["body"]})
            return 201, self.comments[-1], {}
        if method == "PATCH" and (match := re.fullmatch(r"/issues/comments/(\d+)", path)):
            (comment,) = [each for each in self.comments if each["id"] == int(match[1])]
            comment["body"] = body["body"]
            return 200, comment, {}
        self.problems.append(f"unexpected {method} {path}")
        return 404, {"message": "Not Found"}, {}

    def store(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
        if "Authorization" in headers:
            self.problems.append("the token was sent to the host of artifacts")
        return 200, self.archives[int(urlsplit(path).path.strip("/"))], {}


def serve(answer: Any) -> ThreadingHTTPServer:
    """A server on a free port in its own thread; `answer` gets method, path, headers and body."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, data, headers = answer(self.command, self.path, self.headers, body)
            raw = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = reply  # noqa: N815  called by these names

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
