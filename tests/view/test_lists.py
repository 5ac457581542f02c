"""The first page and the filters of lists: by tag and verdict, in the address."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from urllib.parse import quote

import pytest

import evalrunner
from evalrunner.runs.notes import RunNotes
from evalrunner.view.pages import Pages
from tests.view.test_server import EVIL, ONE, TWO, Browser, browser, plain, write_suite  # noqa: F401

FAILS = ONE.replace(">= 0.5", ">= 0.99")


def listed(page: str) -> list[str]:
    """The runs in the list of a page."""
    return re.findall(r'name="run" value="[^"]*/([^"/]+)"', page)


def test_the_first_page_has_a_line_for_each_suite(browser: Browser) -> None:  # noqa: F811
    evalrunner.run_suite(write_suite("a", more=FAILS))
    evalrunner.run_suite(write_suite("a", more=ONE))
    evalrunner.run_suite(write_suite("b", more=FAILS))
    page = browser.page("/")
    assert re.findall(r'rowheader" data-head="Suite"><a href="/suites/([^"]+)"', page) == ["b", "a"]
    assert 'aria-label="1 pass, 1 fail"' in page
    assert len(listed(page)) == 3


@pytest.mark.parametrize("path", ["/", "/suites/a"])
def test_lists_are_filtered_by_tag_and_verdict(browser: Browser, path: str) -> None:  # noqa: F811
    failed = evalrunner.run_suite(write_suite("a", more=FAILS))
    passed = evalrunner.run_suite(write_suite("a", more=ONE))
    tagged = evalrunner.run_suite(write_suite("a", more=ONE))
    RunNotes("", ("v1/x+y",)).write(Path(tagged.folder))
    assert listed(browser.page(f"{path}?verdict=fail")) == [failed.run_id]
    assert listed(browser.page(f"{path}?verdict=pass")) == [tagged.run_id, passed.run_id]
    assert listed(browser.page(f"{path}?tag={quote('v1/x+y', safe='')}&verdict=pass")) == [tagged.run_id]
    done = evalrunner.run_suite(write_suite("a", more=ONE.partition("gates")[0]))
    assert listed(browser.page(f"{path}?verdict=done")) == [done.run_id]
    page = browser.page(f"{path}?tag=unknown&verdict=fail")
    assert listed(page) == []
    assert "No run matches." in page
    assert "Show all" in page


def test_hostile_filters_are_escaped(browser: Browser) -> None:  # noqa: F811
    evalrunner.run_suite(write_suite("a", more=ONE))
    page = browser.page(f"/?tag={quote(EVIL)}&verdict={quote(EVIL)}")
    assert not re.search(r"<script|<img|\x1b|\u202e", page)
    assert "50337" not in plain(page)


@pytest.mark.slow
def test_the_first_page_of_200_runs_is_fast_once_read() -> None:
    run = Path(evalrunner.run_suite(write_suite("a", more=TWO)).folder)
    for number in range(199):
        shutil.copytree(run, run.with_name(f"20260101T{number // 60:02}{number % 60:02}00Z-{number:04x}"))
    pages = Pages(Path("runs"))
    assert "200" in str(pages.get("/").body)
    start = time.perf_counter()
    assert pages.get("/").status == 200
    assert time.perf_counter() - start < 1.0  # about 0.03 s; reading the runs takes ten times as long
