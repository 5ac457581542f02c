"""The address of the page: a link shows the same view, filters and row again, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reports.html.conftest import Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]


def address(opened: Visit) -> str:
    """The hash of the page."""
    return str(opened.page.evaluate("location.hash"))


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_filters_are_in_the_address_and_the_address_sets_them(visit: Open, report: Path, width: int) -> None:
    opened = visit(report, width=width)
    opened.page.click("#tab-rows")
    assert address(opened) == "#rows"
    opened.page.click("#show-regressions")
    opened.page.fill("#search", "capital of Peru?")
    opened.page.select_option("#sort", "-score:1")
    opened.page.select_option("#target", label="long prompt")
    opened.page.wait_for_url(lambda url: "&q=" in url)  # it waits for a pause in typing
    link = address(opened)
    assert link == "#rows&show=regressions&q=capital%20of%20Peru%3F&target=long%20prompt&sort=-score%3A1"
    other = visit(report, width=width, link=link)
    assert other.ids() == opened.ids() and 0 < len(other.ids()) < 120
    assert other.count() == opened.count()
    assert other.page.input_value("#search") == "capital of Peru?"
    assert other.page.get_attribute("#show-regressions", "aria-pressed") == "true"
    assert other.page.locator("#target option:checked").inner_text() == "long prompt"
    other.page.locator("#row-table tbody th a").first.click()
    assert address(other) == f"{link}&row={opened.ids()[0]}"
    shared = visit(report, width=width, link=address(other))
    assert shared.page.inner_text("#detail-title") == opened.ids()[0]
    shared.page.keyboard.press("Escape")
    shared.page.wait_for_url(lambda url: "row=" not in url)
    assert address(shared) == link
    shared.page.click("#clear")
    assert (address(shared), shared.count()) == ("#rows", "120 samples")


def test_back_button_returns_to_the_previous_view(visit: Open, report: Path) -> None:
    opened = visit(report)
    opened.page.click("#notable .more")
    assert address(opened) == "#rows&show=regressions"
    assert opened.page.is_visible("#row-table") and not opened.page.is_visible("#leaderboard")
    opened.page.click("#tab-about")
    opened.page.go_back()
    opened.page.wait_for_selector("#row-table:visible")
    assert opened.page.get_attribute("#show-regressions", "aria-pressed") == "true"
    opened.page.go_back()
    opened.page.wait_for_selector("#leaderboard:visible")


def test_unknown_parts_of_an_address_are_ignored(visit: Open, report: Path) -> None:
    for link in ("#nothing", "#constructor", "#rows&show=constructor&sort=constructor&target=nobody&low=x&column=%ff",
                 "#rows&scorer=__proto__&state=toString&sort=-score:99", "#rows&row=nobody"):  # fmt: skip
        opened = visit(report, link=link)
        assert opened.count() == "120 samples", link
        assert opened.page.locator("dialog[open]").count() == 0
        assert opened.page.is_visible("#row-table" if link.startswith("#rows") else "#leaderboard"), link


def test_tabs_work_with_the_keyboard(visit: Open, report: Path) -> None:
    page = visit(report).page
    page.focus("#tab-overview")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-rows" and page.is_visible("#row-table")
    page.keyboard.press("End")
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "About"
    assert page.is_visible("#run-facts") and not page.is_visible("#row-table")
    assert page.locator("[role=tabpanel]:visible").count() == 1


def test_pills_count_their_rows(visit: Open, report: Path) -> None:
    opened = visit(report, link="#rows")
    page = opened.page
    for show in ("failures", "disagreements", "regressions", "unscored"):
        page.click(f"#show-{show}")
        assert opened.count() == f"{page.inner_text(f'#count-{show}')} of 120 samples"
    assert page.inner_text("#tab-rows-note") == f"{page.inner_text('#count-regressions')} worse"


def test_header_of_the_rows_stays_in_sight(visit: Open, report: Path) -> None:
    page = visit(report, link="#rows", width=1400).page
    page.locator("#row-table tbody tr").nth(30).scroll_into_view_if_needed()
    head, tabs = page.locator("#row-table thead th").first.bounding_box(), page.locator(".tabs").bounding_box()
    assert head is not None and tabs is not None
    assert abs(tabs["y"]) < 1 and abs(head["y"] - tabs["height"]) < 4


def test_row_of_the_overview_opens_and_closes_there(visit: Open, report: Path) -> None:
    opened = visit(report)
    first = opened.page.locator("#notable-rows tbody a").first
    assert opened.page.inner_text("#notable-rows h2") == "Changed for the worse"
    first.click()
    assert address(opened) == f"#row={opened.page.inner_text('#detail-title')}"
    opened.page.keyboard.press("Escape")
    opened.page.wait_for_url("**/report.html")
    assert opened.page.is_visible("#leaderboard")


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_the_way_from_the_verdict_to_a_shared_row(visit: Open, report: Path, width: int) -> None:
    opened = visit(report, width=width)
    page = opened.page
    assert page.locator(".verdict .why").is_visible() and page.locator("#leaderboard").is_visible()
    notable = page.locator("#notable-rows .scroll")
    assert notable.evaluate("box => box.scrollWidth <= box.clientWidth + 1")
    title = page.locator("#tradeoff svg[role=img] title").first
    assert title.text_content() == "contains vs cost per 1,000 answers"
    page.select_option("#tradeoff-scorer", label="token_f1")
    assert title.text_content() == "token_f1 vs cost per 1,000 answers"
    page.click("#notable .more")
    page.click("#show-failures")
    found = opened.count()
    assert found == f"{page.inner_text('#count-failures')} of 120 samples"
    link = page.locator("#row-table tbody th a").nth(1)
    name, href = link.inner_text(), link.get_attribute("href")
    shared = visit(report, width=width, link=href)
    assert shared.page.inner_text("#detail-title") == name
    assert shared.count() == found
    shared.page.keyboard.press("Escape")
    assert shared.ids() == opened.ids()


def test_controls_have_room_for_a_thumb_on_a_phone(visit: Open, report: Path) -> None:
    page = visit(report, width=400, link="#rows").page
    for control in page.locator("button:visible, select:visible, input:visible, summary:visible").all():
        assert control.bounding_box()["height"] >= 40, control.get_attribute("id")
