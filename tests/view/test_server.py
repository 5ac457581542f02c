"""The server of the runs folder, over real sockets: what it shows, rejects and escapes."""

from __future__ import annotations

import html
import http.client
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

import evalrunner
from evalrunner.view.server import make_server

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7191 * 7 }}\x1b[31m\u202e"


def write_suite(name: str = "s", good: int = 30, total: int = 40, more: str = "") -> str:
    rows = [{"input": f"{EVIL} {place}?", "expected": "yes", "a": "yes" if place < good else f"{EVIL} no", "b": f"{EVIL} no",
             "kind": EVIL} for place in range(total)]  # fmt: skip
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path(f"{name}.yaml").write_text(f"name: {name}\ndataset: {name}.jsonl\nscorers: [exact_match]\n{more}")
    return f"{name}.yaml"


ONE = "target: {type: recorded, column: a, name: one}\ngates: [exact_match >= 0.5]\n"
TWO = (
    "targets:\n  - {type: recorded, column: a, name: '<b>one</b>'}\n  - {type: recorded, column: b, name: two}\n"
    "slices: [kind]\n"
)


class Browser:
    """Asks the server, with whatever headers and method."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": f"127.0.0.1:{self.port}", **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read().decode()
        finally:
            connection.close()

    def page(self, path: str) -> str:
        status, headers, text = self.ask(path)
        assert status == 200, text
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        return text


@pytest.fixture
def browser() -> Iterator[Browser]:
    Path("runs").mkdir(exist_ok=True)
    server = make_server(Path("runs"), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Browser(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def plain(text: str) -> str:
    """What a reader sees of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_empty_runs_folder_explains_what_to_do(browser: Browser) -> None:
    assert "No runs yet" in browser.page("/")


def test_runs_are_listed_by_suite_with_verdict_and_headline(browser: Browser) -> None:
    result = evalrunner.run_suite(write_suite(more=ONE))
    displayed = plain(browser.page("/"))
    assert "1 of 1 runs, newest first" in displayed
    assert f"{result.run_id}" in displayed
    assert "pass 40/40 one 0.750 0.598–0.858" in displayed


def test_suite_page_charts_metrics_and_marks_dataset_changes(browser: Browser) -> None:
    for good, total in ((30, 40), (30, 40), (20, 30)):
        evalrunner.run_suite(write_suite(good=good, total=total, more=ONE))
    page = browser.page("/suites/s")
    assert len(re.findall('class="point"', page)) == 3
    assert len(re.findall('class="trend"', page)) == 1  # the third run has other data, so no line leads there
    assert len(re.findall('class="break"', page)) == 1
    assert "one: 0.750 (0.598–0.858), n=40, " in html.unescape(page)
    assert 'aria-label="exact_match/v1 over 3 runs. Last: one: 0.667' in page


def test_selected_runs_are_compared(browser: Browser) -> None:
    first = evalrunner.run_suite(write_suite(more=ONE)).run_id
    second = evalrunner.run_suite(write_suite(more=ONE.replace("column: a, name: one", "column: b, name: two"))).run_id
    displayed = plain(browser.page(f"/compare?run=s/{first}&run=s/{second}"))
    assert "exact_match/v1: one 0.750 > two 0.000" in displayed
    assert "one − two +0.750" in displayed
    assert "30 / 10 / 0" in displayed
    assert "Samples with the largest differences" in displayed


def test_incomparable_runs_explain_why(browser: Browser) -> None:
    first = evalrunner.run_suite(write_suite(more=ONE)).run_id
    second = evalrunner.run_suite(write_suite(total=30, more=ONE)).run_id
    path = f"/compare?run=s/{first}&run=s/{second}"
    status, _, text = browser.ask(path)
    assert status == 400
    assert "dataset: its rows changed (40 → 30 rows, other content)" in plain(text)
    way = html.unescape(re.findall(r'href="(/compare[^"]+)"', text)[0])
    assert "unpaired: the samples differ" in plain(browser.page(way))
    assert browser.ask("/compare")[0] == 400
    assert browser.ask(f"/compare?run=s/{first}")[0] == 400
    assert browser.ask("/compare?run=s/nothing")[0] == 404


def test_run_content_is_escaped_in_pages(browser: Browser) -> None:
    run = evalrunner.run_suite(write_suite(more=TWO)).run_id
    for path in (
        "/",
        "/suites/s",
        f"/runs/s/{run}",
        f"/compare?run=s/{run}",
        f"/suites/{quote(EVIL)}",
        f"/{quote(EVIL)}",
    ):
        _, headers, text = browser.ask(path)
        assert not re.search(r"<script|<img|<b>one|\x1b|\u202e", text), path
        assert "50337" not in plain(text).replace(run, ""), path  # a template in a text stays one
        assert headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>alert(1)</script>" in plain(browser.page(f"/compare?run=s/{run}"))


def test_only_listed_files_of_listed_runs_are_served(browser: Browser) -> None:
    run = evalrunner.run_suite(write_suite(more=ONE))
    (run.folder / "report.html").write_text("<!doctype html><p>report")
    Path("secret.txt").write_text("secret")
    assert json.loads(browser.page(f"/runs/s/{run.run_id}/metrics.json"))["run_id"] == run.run_id
    status, headers, text = browser.ask(f"/runs/s/{run.run_id}/report.html")
    assert (status, text) == (200, "<!doctype html><p>report")
    assert headers["Content-Security-Policy"] == "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
    for path in (
        f"/runs/s/{run.run_id}/rows.jsonl",
        f"/runs/s/{run.run_id}/../../../secret.txt",
        f"/runs/s/{run.run_id}/..%2f..%2f..%2fsecret.txt",
        "/runs/..%2f/secret.txt",
        "/..%2fsecret.txt",
        "/secret.txt",
        "//etc/passwd",
        "/style.css/..%2fbase.html",
        "/base.html",
    ):
        status, _, text = browser.ask(path)
        assert status == 404, path
        assert "secret" not in text.replace("secret.txt", "")
    (run.folder / "summary.md").unlink(missing_ok=True)
    (run.folder / "summary.md").symlink_to(Path("secret.txt").absolute())
    assert browser.ask(f"/runs/s/{run.run_id}/summary.md")[0] == 404


def test_other_host_names_are_rejected(browser: Browser) -> None:
    evalrunner.run_suite(write_suite(more=ONE))
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"):
        status, _, text = browser.ask("/", headers={"Host": host})
        assert (status, text) == (421, "this server only accepts requests to 127.0.0.1 and localhost\n"), host
    for host in (f"localhost:{browser.port}", "localhost", "127.0.0.1:1", "[::1]:80"):
        assert browser.ask("/", headers={"Host": host})[0] == 200, host


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ANYTHING"])
def test_other_methods_are_rejected(browser: Browser, method: str) -> None:
    status, headers, _ = browser.ask("/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_response_has_no_body(browser: Browser) -> None:
    status, headers, text = browser.ask("/", "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 100


def test_a_browser_that_resets_its_connection_is_not_reported(
    browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", browser.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{browser.port}\r\n\r\n".encode())
    browser.page("/")
    assert capsys.readouterr().err == ""


def test_unreadable_run_does_not_hide_the_others(browser: Browser) -> None:
    run = evalrunner.run_suite(write_suite(more=ONE)).run_id
    broken = Path("runs/s/20200101T000000Z-0000")
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("{}")
    assert run in browser.page("/")
    assert browser.ask(f"/runs/s/{broken.name}")[0] == 404
    evalrunner.run_suite(write_suite("t", more=ONE))
    (Path(f"runs/s/{run}") / "run.json").write_text("no json")
    assert "t" in plain(browser.page("/"))
