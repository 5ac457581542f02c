"""The documentation as a site: `make docs` builds it without warnings, it contacts no other host, and its search finds pages."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.command import ROOT

pytestmark = [pytest.mark.slow]
LOADED = re.compile(r"""<(?:script|link|img|iframe)[^>]*\s(?:src|href)=["']?(?:https?:)?//(?P<host>[^/"'> ]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    done = subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--strict"],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist" / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_page_is_in_the_navigation_and_is_built(site: Path) -> None:
    sections = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [page for section in sections for pages in section.values() for page in pages]
    assert sorted(listed) == sorted(
        page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")
    )
    built = [
        site / ("index.html" if page == "README.md" else f"{page.removesuffix('.md')}/index.html") for page in listed
    ]
    assert [page for page in built if not page.is_file()] == []


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 25
    assert {match["host"] for page in pages for match in LOADED.finditer(page.read_text(encoding="utf-8"))} == set()


def test_no_link_between_pages_leads_nowhere(site: Path) -> None:
    broken = []
    for page in site.rglob("index.html"):
        for link in re.findall(r'<a[^>]* href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8")):
            to = (page.parent / link).resolve()
            if not (to / "index.html" if to.is_dir() else to).is_file():
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("sanity check", "Set a judge"),
        ("promptfoo", "Come from another tool"),
        ("Pareto-optimal", "Compare models and prompts"),
    ],
)
def test_the_search_finds_the_page_of_a_topic(address: str, words: str, title: str) -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium")
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        contacted: list[str] = []
        page.on("request", lambda request: contacted.append(request.url))
        page.goto(f"{address}reference/glossary/")
        expect(page.get_by_text(title).filter(visible=True)).to_have_count(0)
        page.get_by_role("button", name="Search").click()
        page.keyboard.type(words)
        expect(page.get_by_text(title).filter(visible=True).first).to_be_visible(timeout=20_000)
        browser.close()
    assert [url for url in contacted if not url.startswith((address, "data:", "blob:"))] == []
