"""Data files with an http address, from a server of our own on a real socket."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun

ROWS = b'{"id": "1", "input": "a", "expected": "x", "output": "x"}\n{"id": "2", "input": "b", "expected": "y", "output": "y"}\n'
DIGEST = hashlib.sha256(ROWS).hexdigest()


@dataclass
class Files:
    """Replies by path: status, body, headers; several are given one after the other. `asked` are the paths in order."""

    replies: dict[str, list[tuple[int, bytes, Mapping[str, str]]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.setdefault(path, []).append((status, body, named))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    given = Files()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            given.asked.append(self.path)
            replies = given.replies.get(path, [(404, b"", {})])
            status, body, headers = replies.pop(0) if len(replies) > 1 else replies[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    given.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield given
    server.shutdown()
    server.server_close()
    thread.join()


def write(dataset: Any, file: str = "s.yaml", **suite: Any) -> None:
    target = {"type": "recorded", "column": "output"}
    whole = {"name": "s", "dataset": dataset, "target": target, "scorers": ["exact_match"], **suite}
    Path(file).write_text(json.dumps(whole), encoding="utf-8")


def record() -> dict[str, Any]:
    newest = max(Path("runs/s").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text(encoding="utf-8"))


def test_a_file_is_downloaded_once_and_its_digest_is_kept(files: Files) -> None:
    files.put("/data.jsonl", ROWS)
    files.put("/packed.jsonl.gz", gzip.compress(ROWS), Content_Encoding="gzip")  # as servers wrongly say
    files.put("/moved/qa.jsonl", status=302, Location="/data.jsonl")
    files.put("/busy.jsonl", status=503)
    files.put("/busy.jsonl", ROWS)
    files.put("/export", b"input\texpected\toutput\na\tx\tx\n")
    write(f"{files.address}/data.jsonl?token=${{DATA_TOKEN}}#top", "a.yaml")
    write({"path": f"{files.address}/packed.jsonl.gz"}, "b.yaml")
    write({"path": f"{files.address}/moved/qa.jsonl", "sha256": f"sha256:{DIGEST.upper()}"}, "c.yaml")
    write({"path": f"{files.address}/busy.jsonl"}, "d.yaml")
    write({"path": f"{files.address}/export", "type": "tsv", "columns": {"id": "input"}}, "e.yaml")
    done = evalrun("a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml", env={"DATA_TOKEN": "hidden-from-files"})
    assert done.returncode == 0 and done.stdout.count("exact_match   1.000") == 5, done.stderr + done.stdout
    origins = [json.loads(path.read_text())["dataset_from"] for path in Path("runs/s").glob("*/run.json")]
    assert {"url": f"{files.address}/data.jsonl?…", "sha256": DIGEST} in origins
    assert files.asked.count("/data.jsonl?token=hidden-from-files") == 1
    texts = [path for path in Path("runs").rglob("*") if path.is_file() and b"hidden-from-files" in path.read_bytes()]
    assert texts == []


def test_what_cannot_be_read_is_said_before_the_first_call(files: Files) -> None:
    files.put("/data.jsonl", ROWS)
    files.put("/far.jsonl", status=302, Location="http://other.example:1/d.jsonl?signature=abc")
    files.put("/port.jsonl", status=307, Location="http://127.0.0.1:1/d.jsonl")
    files.put("/round.jsonl", status=302, Location="/round.jsonl")
    files.put("/login.jsonl", status=401)
    files.put("/down.jsonl", status=502)
    files.put("/large.jsonl", ROWS + b" " * 2**20)
    files.put("/unsized.jsonl", ROWS + b" " * 2**20, Transfer_Encoding="identity", Content_Length="")
    files.put("/page.jsonl", b"<!DOCTYPE html><html></html>", Content_Type="text/html")
    files.put("/short.jsonl", ROWS, Content_Length="5000")
    files.put("/what", ROWS)
    at = files.address
    mistakes: list[tuple[Any, str]] = [
        (f"{at}/none.jsonl", "does not exist (404 Not Found); check the address"),
        (f"{at}/far.jsonl", "redirects to another host, which is not followed; if you trust it, name that address: http://other.example:1/d.jsonl?…"),
        (f"{at}/port.jsonl", "redirects to another host"),
        (f"{at}/round.jsonl", "redirects more than 5 times"),
        (f"{at}/login.jsonl", "needs a login (401 Unauthorized)"),
        (f"{at}/down.jsonl", "tried 3 times: the server answers 502 Bad Gateway"),
        ({"path": f"{at}/large.jsonl", "max_download_mb": 1}, "more than 1 MiB; raise dataset.max_download_mb"),
        (f"{at}/page.jsonl", "web page"),
        (f"{at}/short.jsonl", "cannot be downloaded, tried 3 times"),
        (f"{at}/what", "cannot tell the format"),
        ({"path": f"{at}/data.jsonl", "sha256": "0" * 64}, f"has the sha256 {DIGEST}, not {'0' * 64}"),
        ({"path": f"{at}/data.jsonl", "sha256": "12"}, "it should be the 64 hex digits"),
        ({"path": f"{at}/data.jsonl", "sha265": "12"}, "did you mean 'sha256'"),
        ({"path": f"{at}/data.jsonl", "split": "test"}, "neither a key of a dataset nor an option"),
        (at.replace("//", "//me:secretive@") + "/data.jsonl", "has a login, but data is read without one"),
        ("ftp://127.0.0.1/data.jsonl", "is an address of a kind that is not read"),
        ("http://127.0.0.1:1/data.jsonl", "cannot be downloaded, tried 3 times"),
    ]  # fmt: skip
    names = [f"s{number}.yaml" for number in range(len(mistakes))]
    for name, (dataset, _) in zip(names, mistakes, strict=True):
        write(dataset, name)
    done = evalrun(*names)
    assert done.returncode == 2 and not Path("runs").exists()
    assert (
        "secretive@"
        not in done.stderr.replace("//me:secretive@127", "", 0).partition("dataset: '")[2].partition("\n")[0]
    )
    lines = (done.stderr + done.stdout).splitlines()
    wrong = [
        (dataset, words)
        for name, (dataset, words) in zip(names, mistakes, strict=True)
        if not any(words in line and (f"{name}:" in line or "127.0.0.1" in line) for line in lines)
    ]
    assert wrong == [], done.stderr


def test_hosts_are_listed_and_allowed(files: Files) -> None:
    files.put("/data.jsonl", ROWS)
    write(f"{files.address}/data.jsonl")
    listed = evalrun("plan", "--endpoints", "s.yaml")
    assert files.address in listed.stdout and "for: dataset" in listed.stdout and "not found" not in listed.stdout
    untrusted = evalrun("s.yaml", "--untrusted")
    assert untrusted.returncode == 2 and f"--allow-host 127.0.0.1:{files.port}" in untrusted.stderr
    write(f"{files.address}/data.jsonl", run={"allow_hosts": ["api.openai.com"]})
    limited = evalrun("s.yaml")
    assert limited.returncode == 2 and "is not among the hosts" in limited.stderr
    assert files.asked == []
    write(f"{files.address}/data.jsonl", run={"allow_hosts": ["127.0.0.1"]})
    assert evalrun("s.yaml", "--untrusted", "--allow-host", f"127.0.0.1:{files.port}").returncode == 0
    assert files.asked == ["/data.jsonl"]


def test_a_resumed_run_needs_the_same_file(files: Files) -> None:
    files.put("/data.jsonl", ROWS)
    Path("app.py").write_text(
        "import os\n\ndef answer(input):\n    if input == 'b' and os.environ.get('DOWN'):\n"
        "        raise OSError('down')\n    return {'a': 'x', 'b': 'y'}[input]\n"
    )
    write(f"{files.address}/data.jsonl", target={"type": "python", "function": "app.py:answer"})
    assert "1 row with errors" in evalrun("s.yaml", env={"DOWN": "1"}).stdout
    files.replies["/data.jsonl"] = [(200, ROWS + b"\n", {})]  # the same samples, another file
    changed = evalrun("--resume", "last", "--retry-errors")
    assert changed.returncode == 2 and f"its sha256 was {DIGEST}; start a new run" in changed.stderr
    files.replies["/data.jsonl"] = [(200, ROWS, {})]
    done = evalrun("--resume", "last", "--retry-errors")
    assert done.returncode == 0 and "exact_match   1.000" in done.stdout, done.stderr
    assert record()["dataset_from"]["sha256"] == DIGEST


def test_an_address_is_for_the_dataset_alone(files: Files) -> None:
    files.put("/data.jsonl", ROWS)
    address = f"{files.address}/data.jsonl"
    peek = evalrun("datasets", "peek", address)
    assert peek.returncode == 2 and "peek reads files" in peek.stderr
    prompt = [{"shots": address}, {"user": "{{ input }}"}]
    write(
        {"rows": [{"input": "a", "expected": "b"}]},
        target={"model": "m", "base_url": "http://127.0.0.1:1/v1"},
        prompt=prompt,
    )
    shots = evalrun("s.yaml")
    assert shots.returncode == 2 and "shots are read from files" in shots.stderr
    write({"path": [address, "b.jsonl"]})
    several = evalrun("s.yaml")
    assert several.returncode == 2 and "is a dataset of its own; name it alone" in several.stderr
    assert files.asked == []


def test_the_schema_has_the_options_of_addresses() -> None:
    schema = json.loads(evalrun("schema").stdout)
    fields = schema["$defs"]["dataset"]["anyOf"][1]["properties"]
    assert fields["split"]["description"] and fields["sha256"]["description"]
