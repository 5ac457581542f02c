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


def test_a_changed_row_leads_to_the_row_in_the_report(open_page: Callable[..., Visit]) -> None:
    run(write_suite(more=ONE))
    run(write_suite(more=ONE.replace("column: a", "column: b").replace(">= 0.5", ">= 0")))
    opened = open_page("/suites/s", width=400)
    for box in opened.page.locator("input[type=checkbox]").all():
        box.check()
    opened.page.click("text=Show changed rows")
    assert "30 rows changed (30 worse)" in opened.page.locator("main").inner_text()
    row = opened.page.locator("tbody th b").first.inner_text()
    opened.page.locator("text=report").last.click()
    opened.page.wait_for_selector("html[data-ready=yes]", state="attached")
    assert opened.page.url.partition("#")[2].startswith("rows&row=")
    opened.page.wait_for_selector("dialog[open]")
    assert row


def test_points_of_the_chart_show_their_run_on_hover_and_on_focus(open_page: Callable[..., Visit]) -> None:
    run(write_suite(more=ONE))
    run(write_suite(more=ONE))
    page = open_page("/suites/s").page
    first, last = page.locator(".plot a").first, page.locator(".plot a").last
    tips = page.locator(".tip")
    assert not tips.first.is_visible()
    first.locator(".reach").hover()
    assert tips.first.is_visible()
    assert tips.first.text_content().startswith("one: 0.750 (0.598–0.858)n=40, ")
    assert not tips.last.is_visible()
    last.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert tips.last.is_visible()


def test_filters_are_part_of_the_address(open_page: Callable[..., Visit]) -> None:
    run(write_suite(more=ONE))
    assert evalrun(write_suite(more=ONE.replace(">= 0.5", ">= 0.99")), "-q").returncode == 1
    page = open_page("/").page
    page.select_option("select[name=verdict]", "fail")
    page.click("text=Filter")
    page.wait_for_url("**verdict=fail")
    boxes = page.locator("input[type=checkbox]")
    boxes.first.wait_for()
    assert boxes.count() == 1
    page.click("text=Show all")
    boxes.nth(1).wait_for()
    assert boxes.count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_pages_fit_any_screen_and_pass_axe(open_page: Callable[..., Visit], width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    gates = "gates: [exact_match >= 0.5, {metric: exact_match, target: two, max_drop: 0.1, baseline: main}]\n"
    run(write_suite(more=TWO))
    evalrun("baseline", "accept", "--force")
    assert evalrun(write_suite(more=TWO + gates), "-q").returncode == 1
    (one, two) = sorted(path.name for path in Path("runs/s").iterdir())
    for name, path in (
        ("index", "/"),
        ("suite", "/suites/s"),
        ("run", f"/runs/s/{one}"),
        ("compare", f"/compare?run=s/{one}&run=s/{two}"),
        ("diff", f"/diff?run=s/{one}&before=two&after=%3Cb%3Eone%3C/b%3E"),
        ("filter", "/?verdict=fail&tag=x"),
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
