"""Notes, tags and deletions through the server of the runs folder, and who may not make them."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

import evalrunner
from evalrunner.runs.folder import RunLock, list_runs
from evalrunner.runs.notes import RunNotes
from evalrunner.view.server import PageServer, make_server
from tests.view.test_server import EVIL, ONE, write_suite

FORM = "application/x-www-form-urlencoded"


class Client:
    """Sends requests to a server, with the cookie that it got."""

    def __init__(self, server: PageServer) -> None:
        self.host = f"127.0.0.1:{server.server_port}"
        self.address = urlsplit(server.address)
        self.cookie = ""

    def open(self) -> None:
        """Open the address that the terminal shows."""
        status, headers, _ = self.ask("GET", f"{self.address.path}?{self.address.query}")
        assert (status, headers["Location"]) == (303, "/")
        self.cookie = headers["Set-Cookie"].partition(";")[0]

    def ask(
        self, method: str, path: str, body: str | None = None, **more: str | None
    ) -> tuple[int, Mapping[str, str], str]:
        headers: dict[str, str | None] = {
            "Cookie": self.cookie,
            **({"Content-Type": FORM, "Origin": f"http://{self.host}"} if body is not None else {}),
        }
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request(method, path, body, {name: text for name, text in headers.items() if text})
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read().decode()
        finally:
            connection.close()

    def send(self, path: str, **form: str) -> tuple[int, Mapping[str, str], str]:
        return self.ask("POST", path, urlencode(form))


@pytest.fixture
def server() -> Iterator[PageServer]:
    yield from serve(editable=True)


@pytest.fixture
def client(server: PageServer) -> Client:
    return Client(server)


def serve(*, editable: bool) -> Iterator[PageServer]:
    Path("runs").mkdir(exist_ok=True)
    server = make_server(Path("runs"), 0, editable=editable)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def store(count: int = 1) -> list[str]:
    """The addresses of new runs, oldest first."""
    suite = write_suite(more=ONE, total=3, good=3)
    return [f"/runs/s/{evalrunner.run_suite(suite).run_id}" for _ in range(count)]


def test_notes_and_tags_are_saved_and_shown(client: Client) -> None:
    (run,) = store()
    client.open()
    status, headers, _ = client.send(f"{run}/notes", note=f"better\r\n{EVIL}", tags="release-1, good")
    assert (status, headers["Location"]) == (303, run)
    folder = Path(run[1:])
    assert RunNotes.load(folder) == RunNotes(f"better\n{EVIL}", ("good", "release-1"))
    page = client.ask("GET", run)[2]
    assert 'value="good release-1"' in page
    assert "<script" not in page
    assert '<span class="tag">good</span>' in client.ask("GET", "/suites/s")[2]


def test_a_run_is_deleted_and_its_suite_pruned(client: Client) -> None:
    runs = store(4)
    client.open()
    assert client.send(f"{runs[0]}/delete")[:1] == (303,)
    assert client.send("/suites/s/prune", keep="1")[1]["Location"] == "/suites/s"
    assert len(list_runs(Path("runs"))) == 1
    assert client.ask("GET", runs[0])[0] == 404


def test_runs_that_a_pruning_would_delete_are_listed_first(client: Client) -> None:
    runs = store(4)
    RunNotes("", ("kept",)).write(Path(runs[0][1:]))
    assert client.ask("GET", "/suites/s/prune?keep=1")[0] == 404  # without the key there is nothing to delete
    client.open()
    page = client.ask("GET", "/suites/s/prune?keep=1")[2]
    assert "2 runs would be deleted, with all files. Kept: the newest 1 and 1 with a tag." in page
    assert [run for run in runs if f'href="{run}"' in page] == runs[1:3]
    assert '<input type="hidden" name="keep" value="1">' in page
    assert len(list_runs(Path("runs"))) == 4
    assert "Nothing to delete" in client.ask("GET", "/suites/s/prune?keep=5")[2]
    assert client.ask("GET", "/suites/s/prune?keep=x")[0] == 400


def test_a_run_in_progress_is_not_deleted_and_the_page_says_why(client: Client) -> None:
    (run,) = store()
    client.open()
    with RunLock(Path(run[1:])):
        status, _, page = client.send(f"{run}/delete")
    assert (status, "is being written by process" in page) == (400, True)
    assert len(list_runs(Path("runs"))) == 1


def test_pages_have_forms_only_for_the_browser_that_opened_the_printed_address(client: Client) -> None:
    (run,) = store()
    RunNotes("seen by all", ("t",)).write(Path(run[1:]))
    page = client.ask("GET", run)[2]
    assert ('method="post"' in page, "seen by all" in page) == (False, True)
    client.open()
    assert 'method="post"' in client.ask("GET", run)[2]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Cookie": ""}, 403),
        ({"Cookie": "evalrun-1=x"}, 403),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
        ({"Content_Type": "text/plain"}, 400),
        ({"Content_Type": "application/json"}, 400),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_changes_from_elsewhere_are_refused(client: Client, change: dict[str, str | None], status: int) -> None:
    (run,) = store()
    client.open()
    assert client.ask("POST", f"{run}/delete", "", **change)[0] == status
    assert len(list_runs(Path("runs"))) == 1


def test_a_wrong_key_gives_no_cookie(client: Client) -> None:
    store()
    status, headers, _ = client.ask("GET", "/?key=wrong")
    assert (status, "Set-Cookie" in headers) == (303, False)


def test_the_cookie_is_not_for_scripts_and_other_sites(client: Client) -> None:
    store()
    headers = client.ask("GET", f"/?{client.address.query}")[1]
    assert headers["Set-Cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")


@pytest.mark.parametrize(
    ("path", "form", "status", "words"),
    [
        ("/notes", {"tags": "two words§"}, 400, "should be one word"),
        ("/notes", {"note": "x" * 10_001}, 400, "at most 10,000 are allowed"),
        ("/nothing", {}, 404, "Unknown page."),
        ("/../../../notes", {}, 404, "Unknown page."),
    ],
)
def test_mistakes_in_forms_are_pages(client: Client, path: str, form: dict[str, str], status: int, words: str) -> None:
    (run,) = store()
    client.open()
    answered, _, page = client.send(f"{run}{path}", **form)
    assert (answered, words in page) == (status, True)
    assert not (Path(run[1:]) / "notes.json").exists()


@pytest.mark.parametrize("keep", ["", "-1", "1.5", "²", "many"])
def test_pruning_needs_a_whole_number(client: Client, keep: str) -> None:
    store(2)
    client.open()
    assert client.send("/suites/s/prune", keep=keep)[0] == 400
    assert len(list_runs(Path("runs"))) == 2


def test_a_form_that_is_too_large_is_refused(client: Client) -> None:
    (run,) = store()
    client.open()
    assert client.send(f"{run}/notes", note="x" * 70_000)[0] == 413


def test_read_only_servers_have_no_forms_and_refuse_changes() -> None:
    (run,) = store()
    for server in serve(editable=False):
        client = Client(server)
        assert client.address.query == ""
        assert 'method="post"' not in client.ask("GET", run)[2]
        status, headers, _ = client.send(f"{run}/delete")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert len(list_runs(Path("runs"))) == 1
