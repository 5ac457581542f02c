"""The checks of rows in a real browser: each with its result and why, counted by name or type, and as a filter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun
from tests.reports.hostile import HOSTILE
from tests.reports.html.conftest import Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]

ROWS: list[dict[str, Any]] = [
    {
        "id": "q0",
        "output": "Sure.",
        "checks": [{"contains": "30 days"}, {"any": [{"contains": "sorry"}, {"contains": "no"}]}],
    },
    {
        "id": "q1",
        "output": "No, sorry: within 30 days.",
        "checks": [{"contains": "30 days"}, {"max_words": 3, "name": "short", "weight": 2}],
    },
    {
        "id": "q2",
        "output": "Within 30 days.",
        "checks": [{"contains": "30 days"}, {"expr": "lengths > 2"}, {"max_words": 9, "name": "short"}],
    },
    {"id": "q3", "output": HOSTILE[1], "checks": [{"not_contains": HOSTILE[1]}]},
]


@pytest.fixture
def page() -> Path:
    """The report of a run with checks of rows and of the suite."""
    rows = [{"input": f"question {place}?", "lengths": 3} | row for place, row in enumerate(ROWS)]
    suite = {
        "name": "s",
        "dataset": {"rows": rows},
        "target": {"type": "recorded", "column": "output"},
        "checks": [{"not_contains": "As an AI"}],
    }
    Path("s.yaml").write_text(json.dumps(suite))
    assert evalrun("s.yaml", "-o", "page.html").returncode == 0
    return Path("page.html")


def test_the_overview_counts_which_checks_fail_most(visit: Open, page: Path) -> None:
    opened = visit(page)
    lines = [line.inner_text().split() for line in opened.page.locator("#checks tbody tr").all()]
    assert lines == [
        ["any", "1", "0", "1", "0", "100%"],
        ["short", "2", "1", "1", "0", "50%"],
        ["contains", "3", "2", "1", "0", "33%"],
        ["not_contains", "4", "3", "1", "0", "25%"],
        ["expr", "1", "1", "0", "0", "0%"],
    ]


def test_a_count_of_failures_leads_to_its_rows_and_the_filter_is_in_the_address(visit: Open, page: Path) -> None:
    opened = visit(page)
    opened.page.locator("#checks tbody tr", has_text="short").locator("a").click()
    opened.await_count("1 of 4 rows")
    assert opened.ids() == ["q1"]
    assert "check=short" in opened.page.url
    again = visit(page, link="#rows&check=contains")
    assert again.ids() == ["q0"]
    assert visit(page, link="#rows&check=nonsense").ids() == ["q0", "q1", "q2", "q3"]


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_a_row_lists_its_checks_with_result_weight_and_reason(visit: Open, page: Path, width: int, scheme: str) -> None:
    opened = visit(page, link="#row=q1", width=width, scheme=scheme)
    opened.shoot(f"checks-{scheme}-{width}")
    checks = opened.page.locator("dialog .check")
    assert [each.get_attribute("class") for each in checks.all()] == [
        "check failed depth-0",
        "check passed depth-0",
        "check passed depth-0",
    ]
    assert checks.first.inner_text().split() == [
        "✕",
        "failed:",
        "short",
        "max_words:",
        "3",
        "weight",
        "2",
        "5",
        "words",
    ]
    assert opened.page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_the_checks_of_a_group_stand_below_it(visit: Open, page: Path) -> None:
    opened = visit(page, link="#row=q0")
    kinds = [each.get_attribute("class").split()[-1] for each in opened.page.locator("dialog .check").all()]
    assert kinds == ["depth-0", "depth-0", "depth-0", "depth-1", "depth-1"]


def test_texts_of_checks_are_text(visit: Open, page: Path) -> None:
    opened = visit(page, link="#row=q3")
    assert HOSTILE[1] in opened.page.locator("dialog .check.failed").inner_text()
    assert opened.page.locator("dialog img").count() == 0
