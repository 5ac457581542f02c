"""The runs folder in a real browser: runs are selected and compared; nothing else is requested or executed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalrunner.view.server import make_server
from tests.fakes.command import evalrun
from tests.reports.html.conftest import Visit, chromium  # noqa: F401
from tests.view.test_server import ONE, TWO, write_suite

pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Visit]]:  # noqa: F811
    """Opens a page of the server; at the end nothing may have gone wrong in it."""
    Path("runs").mkdir()
    server = make_server(Path("runs"), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    home = f"http://127.0.0.1:{server.server_port}"
    contexts: list[Any] = []
    visits: list[Visit] = []

    def open_address(path: str, *, width: int = 1280, scheme: str = "light") -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        opened = Visit(context.new_page())
        visits.append(opened)
        opened.page.on("console", lambda message: opened.wrong.append(message.text))
        opened.page.on("pageerror", lambda error: opened.wrong.append(str(error)))
        opened.page.on("dialog", lambda dialog: (opened.wrong.append(dialog.message), dialog.dismiss()))
        opened.page.on("request", lambda asked: asked.url.startswith(home) or opened.wrong.append(asked.url))
        opened.page.goto(home + path)
        return opened

    yield open_address
    for context in contexts:
        context.close()
    server.shutdown()
    server.server_close()
    thread.join()
    assert [wrong for opened in visits for wrong in opened.wrong] == []


def run(suite: str) -> None:
    assert evalrun(suite, "-q").returncode in (0, 3)


def test_selected_runs_are_compared_in_the_browser(open_page: Callable[..., Visit]) -> None:
    run(write_suite(more=ONE))
    run(write_suite(more=ONE.replace("column: a, name: one", "column: b, name: two").replace(">= 0.5", ">= 0")))
    page = open_page("/").page
    for box in page.locator("input[type=checkbox]").all():
        box.check()
    page.click("text=Compare selected")
    assert page.locator("h1").inner_text() == "Comparison"
    assert page.locator("h2").first.inner_text() == "exact_match/v1: one 0.750 > two 0.000"
    assert page.locator(".best").first.inner_text() == "0.750"


def test_report_of_a_run_works_in_its_sandbox(open_page: Callable[..., Visit]) -> None:
    run(write_suite(more=ONE))
    opened = open_page("/suites/s")
    opened.page.locator("svg a").first.click()
    opened.page.click("text=report.html")
    opened.page.wait_for_selector("html[data-ready=yes]", state="attached")
    assert opened.count() == "40 rows"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_pages_fit_any_screen_and_pass_axe(open_page: Callable[..., Visit], width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    run(write_suite(more=TWO))
    run(write_suite(more=TWO))
    (one, _) = sorted(path.name for path in Path("runs/s").iterdir())
    for name, path in (
        ("index", "/"),
        ("suite", "/suites/s"),
        ("run", f"/runs/s/{one}"),
        ("compare", f"/compare?run=s/{one}"),
    ):
        opened = open_page(path, width=width, scheme=scheme)
        opened.shoot(f"view-{name}-{scheme}-{width}", whole=True)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, path
        serious = [
            f"{fault['id']}: {node['target']} {node['failureSummary']}"
            for fault in axe.run(opened.page).response["violations"]
            for node in fault["nodes"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
