"""A hub of datasets on loopback sockets, with the routes that huggingface_hub uses, and a storage on another port.

with data_hub(Repository("me/quiz", {"main": {"test.jsonl": b"…"}})) as hub:
    evalrun("suite.yaml", env=hub.env(tmp_path))
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class Repository:
    """`branches` map a revision to its files. A `private` one is there for the `token` only, a `gated` one asks for it."""

    name: str
    branches: Mapping[str, Mapping[str, bytes]]
    card: Mapping[str, Any] = field(default_factory=dict)
    access: str = "public"

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, or of itself."""
        commits = {name: _digest(files) for name, files in self.branches.items()}
        return commits.get(revision) or (revision if revision in commits.values() else None)

    def files(self, commit: str) -> Mapping[str, bytes]:
        return next(files for files in self.branches.values() if _digest(files) == commit)


def _digest(files: Mapping[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@dataclass
class Asked:
    server: str
    path: str
    token: str | None


@dataclass
class DataHub:
    """`asked` are the requests in order. Files whose name ends in `.parquet` are in the storage, as large files are."""

    repositories: dict[str, Repository]
    token: str = "hf_secret"
    asked: list[Asked] = field(default_factory=list)
    address: str = ""
    storage: str = ""

    def env(self, home: Path, **more: str) -> dict[str, str]:
        return {"HF_ENDPOINT": self.address, "HF_HOME": str(home / "hf"), "NO_PROXY": "*", "no_proxy": "*", **more}

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: DataHub
    role = "hub"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        token = self.headers.get("authorization")
        self.hub.asked.append(Asked(self.role, path, token))
        if self.role == "storage":
            _, name, commit, file = path.split("/", 3)
            self.send(200, self.hub.repositories[name.replace("--", "/")].files(commit)[file])
            return
        for repository in self.hub.repositories.values():
            api, files = f"/api/datasets/{repository.name}/revision/", f"/datasets/{repository.name}/resolve/"
            if not path.startswith((api, files)):
                continue
            known = token == f"Bearer {self.hub.token}"
            if repository.access == "private" and not known:
                break
            if path.startswith(api):
                self.describe(repository, path.removeprefix(api))
            elif repository.access == "gated" and not known:
                self.send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
            else:
                self.file(repository, path.removeprefix(files))
            return
        self.send(401 if token is None else 404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"})

    def describe(self, repository: Repository, revision: str) -> None:
        if (commit := repository.commit(revision)) is None:
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
            return
        files = [{"rfilename": name, "size": len(data)} for name, data in repository.files(commit).items()]
        info = {"id": repository.name, "sha": commit, "siblings": files, "cardData": dict(repository.card)}
        self.send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def file(self, repository: Repository, rest: str) -> None:
        commit, _, name = rest.partition("/")
        data = repository.files(commit).get(name)
        if data is None:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"X-Repo-Commit": commit, "ETag": etag}
        if name.endswith(".parquet"):
            where = f"{self.hub.storage}/{repository.name.replace('/', '--')}/{commit}/{name}"
            self.send(302, b"", {**headers, "X-Linked-ETag": etag, "X-Linked-Size": str(len(data)), "Location": where})
            return
        self.send(200, data, headers)

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def data_hub(*repositories: Repository, storage_host: str = "127.0.0.1") -> Iterator[DataHub]:
    """The hub while the context is open. Its storage has the name `storage_host`, which leads to 127.0.0.1."""
    hub = DataHub({one.name: one for one in repositories})
    servers = []
    for role in ("storage", "hub"):
        handler = type("Handler", (_Handler,), {"hub": hub, "role": role})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        host = storage_host if role == "storage" else "127.0.0.1"
        setattr(hub, "storage" if role == "storage" else "address", f"http://{host}:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
    try:
        yield hub
    finally:
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()
