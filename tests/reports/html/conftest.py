"""Chromium of the system, driven by Playwright; skipped with a reason where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evalrunner.reports.html.page import write_report
from evalrunner.reports.view import stored_view
from evalrunner.runs.folder import RunFolder
from tests.fakes.command import ROOT
from tests.reports.html.pages import baseline_of, enrich, make_run

ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCREENSHOTS = ROOT / "artifacts"
READY = "html[data-ready=yes]"


@dataclass
class Visit:
    """A page that is open, and what went wrong in it: messages of the console, exceptions, requests, dialogs."""

    page: Any
    wrong: list[str] = field(default_factory=list)

    def watch(self, own: str) -> None:
        """Write down whatever a page that minds its own business does not do."""
        self.page.on("console", lambda said: self.wrong.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("popup", lambda popup: self.wrong.append(f"popup: {popup.url}"))
        self.page.on("request", lambda asked: asked.url.split("#")[0] == own or self._asked(asked.url))

    def _asked(self, url: str) -> None:
        if not url.startswith("blob:"):  # what the page saves is made in it
            self.wrong.append(f"request: {url}")

    def count(self) -> str:
        """How many rows the page says it found."""
        return str(self.page.inner_text("#count"))

    def await_count(self, text: str) -> None:
        """Wait until the page, which waits for a pause in typing, says so."""
        from playwright.sync_api import expect

        expect(self.page.locator("#count")).to_have_text(text, timeout=10_000)

    def ids(self) -> list[str]:
        """The ids of the rows that are shown."""
        return list(self.page.locator("#row-table tbody th a").all_inner_texts())

    def shoot(self, name: str, *, whole: bool = False) -> None:
        """Keep a picture of the page in a folder that git does not see."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, for the tests of one module: its loop must not run when others start theirs."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(ARGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Opens a file, offline, waits until it has read its rows; at the end nothing may have gone wrong."""
    contexts: list[Any] = []
    visits: list[Visit] = []

    def open_file(path: Path, *, width: int = 1280, scheme: str = "light", link: str = "") -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        opened = Visit(context.new_page())
        visits.append(opened)
        own = path.resolve().as_uri()
        opened.watch(own)
        opened.page.goto(own + link)
        opened.page.wait_for_selector(READY, state="attached", timeout=60_000)
        return opened

    yield open_file
    for context in contexts:
        context.close()
    assert [wrong for opened in visits for wrong in opened.wrong] == []


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run with three targets, and with slices, costs and a baseline put beside it."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = make_run().resolve()
    enrich(run)
    return write_report(stored_view(RunFolder(run)), run / "report.html", baseline=baseline_of)
