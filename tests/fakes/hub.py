"""A model hub on a real loopback socket: one model at one commit, with its files in a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class FakeHub:
    """`address` goes into HF_ENDPOINT; `asked` holds the paths that were asked for, in order."""

    model: str
    folder: Path
    commit: str
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def fake_hub(model: str, folder: Path, commit: str = "0123456789abcdef" * 2 + "01234567") -> Iterator[FakeHub]:
    hub = FakeHub(model, folder, commit)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(path)
            headers = {"X-Repo-Commit": hub.commit}
            if path.startswith(f"/api/models/{model}/revision/"):
                files = [{"rfilename": one.name, "size": one.stat().st_size} for one in sorted(folder.iterdir())]
                message = json.dumps({"id": model, "sha": hub.commit, "siblings": files}).encode()
                headers["Content-Type"] = "application/json"
            else:
                file = folder / path.rpartition("/")[2]
                if not path.startswith(f"/{model}/resolve/") or not file.is_file():
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound" if model not in path else "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                message = file.read_bytes()
                headers["ETag"] = f'"{hashlib.sha256(message).hexdigest()}"'
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(message))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(message)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
