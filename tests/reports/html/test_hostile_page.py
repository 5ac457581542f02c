"""Whatever models, data and suites say stays text: nothing runs, loads or breaks, in the page and in what it saves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import evalrunner
from evalrunner.redact import register_secret
from evalrunner.reports.html.page import write_report
from evalrunner.reports.view import stored_view
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.row_log import encode_row, read_rows
from tests.reports.html.conftest import Visit

TEXTS = {
    "script": "<script>alert(1);window.ran=1</script>",
    "image": '<img src=x onerror="window.ran=1"><svg onload=window.ran=1>',
    "end": '</script></style></title><!-- <script>window.ran=1</script> -->]]>"\'><b>',
    "link": "javascript:window.ran=1 [a](javascript:window.ran=1) <a href='javascript:window.ran=1'>x</a>",
    "formula": '=cmd|"/c calc"!A1',
    "ansi": "\x1b[31mred\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "bidi": "safe \u202egnp.exe\u202c \u2066x\u2069 \u200b\u2028\u2029",
    "zero": "before\x00after\x07\x9b",
    "half": "half \ud800 pair \udc00",
    "long": "x" * 1_000_000,
    "lines": 'quotes " and\r\nlines\n\ttabs',
    "template": "{{ 7*7 }} ${7*7} `x` __proto__ constructor",
}  # fmt: skip
SECRET = "sk-test-4f9a8b7c6d5e"
SUITE = """\
name: hostile
description: '</script><script>window.ran=1</script>'
dataset: rows.jsonl
targets:
  - {type: recorded, column: out, name: '<img src=x onerror=window.ran=1>'}
  - {type: python, function: 'app.py:answer', name: "</script>\\u202e=cmd"}
scorers: [exact_match, {type: python, name: 'judged&quot;\"`', function: 'app.py:judged'}]
gates: [exact_match >= 0.5]
"""
APP = """\
from evalrunner import Score

def answer(input, sample):
    if sample.id == "lines":
        raise ValueError(input)
    if sample.id == "half":
        return "half \\ud800 a pair"
    return input[::-1] if len(input) < 1000 else input

def judged(output):
    return Score(0.5, explanation=output[:300], metadata={"</script><script>window.ran=1</script>": output[:300], "__proto__": "x"})
"""


def make_hostile() -> Path:
    """The report of a run in which everything is hostile."""
    lines = []
    for name, text in TEXTS.items():
        whole = text.encode("utf-8", errors="ignore").decode()  # no dataset holds half a pair; answers and ids may
        line = {"id": name, "input": whole, "expected": whole, "out": whole, whole[:80]: whole[:700], "key": SECRET}
        lines.append(line)
    Path("rows.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    Path("app.py").write_text(APP, encoding="utf-8")
    Path("hostile.yaml").write_text(SUITE, encoding="utf-8")
    register_secret(SECRET)
    folder = evalrunner.run_suite("hostile.yaml").folder
    rows = [
        replace(row, sample=replace(row.sample, id=row.sample.id + TEXTS[row.sample.id][:60]))
        for row in read_rows(folder)
    ]
    (folder / "rows.jsonl").write_bytes(
        b"".join(map(encode_row, rows))
    )  # a dataset may not have such ids; a folder may
    return write_report(stored_view(RunFolder(folder)), folder / "report.html")


class Elements(HTMLParser):
    """The elements that a parser of HTML finds."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.kinds: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.kinds.append(dict(attrs).get("type"))


def test_data_never_becomes_an_element() -> None:
    page = make_hostile().read_text(encoding="utf-8")
    assert SECRET not in page
    result = Elements()
    result.feed(page)
    kinds = [kind for kind in result.kinds if kind != "text/plain"]
    assert kinds == ["application/json", None]
    assert not {"img", "svg", "b", "i", "iframe", "link", "object"} & set(result.tags)
    assert "\x00" not in page and "\x1b" not in page


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1600])
def test_page_of_hostile_rows_runs_and_loads_nothing(visit: Callable[..., Visit], tmp_path: Path, width: int) -> None:
    opened = visit(make_hostile(), width=width, link="#rows")
    page = opened.page
    assert opened.count() == f"{len(TEXTS)} samples"
    for place in range(len(TEXTS)):
        page.locator("#row-table tbody th a").nth(place).click()
        for switch in page.locator(".diff-switch").all():
            switch.check()
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
        page.keyboard.press("Escape")
    for select in ("#scorer", "#target", "#column"):
        page.select_option(select, index=1)
    page.select_option("#value", index=1)
    page.click("#clear")
    for view in ("rows", "statistics", "about", "overview"):
        page.click(f"#tab-{view}")
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        opened.shoot(f"hostile-{view}-{width}", whole=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, b b, main script').length") == 0
    assert page.evaluate("[...document.links].every((link) => /^(#|file:)/.test(link.getAttribute('href')))")


@pytest.mark.browser
def test_control_characters_are_shown_as_escapes(visit: Callable[..., Visit]) -> None:
    page = visit(make_hostile(), link="#rows").page
    for name, escapes in (
        ("ansi", ["\\e"]),
        ("bidi", ["\\u202e", "\\u2066", "\\u200b"]),
        ("zero", ["\\0", "\\a", "\\x9b"]),
    ):
        page.locator("#row-table tbody th a").nth(list(TEXTS).index(name)).click()
        displayed = page.locator("dialog .pair .escape").all_inner_texts()
        assert set(escapes) <= set(displayed)
        page.keyboard.press("Escape")
    whole = page.evaluate("document.body.innerText")
    assert not set(whole) & set("\x00\x07\x1b\x9b\u202e\u2066\u200b")


@pytest.mark.browser
def test_every_hostile_row_has_a_link(visit: Callable[..., Visit]) -> None:
    report = make_hostile()
    page = visit(report).page
    links = page.locator("#row-table tbody th a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(set(links)) == len(TEXTS)
    for link in links[:3] + links[-4:]:
        other = visit(report, link=link).page
        assert other.locator("dialog[open]").count() == 1


@pytest.mark.browser
def test_exported_table_has_no_formulas_and_marks_cut_texts(visit: Callable[..., Visit], tmp_path: Path) -> None:
    page = visit(make_hostile(), link="#rows").page
    with page.expect_download() as download:
        page.click("#export-csv")
    download.value.save_as(tmp_path / "rows.csv")
    csv.field_size_limit(10_000_000)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(TEXTS)
    for row in rows:
        assert not [value for value in row.values() if value.startswith(("=", "+", "@", "\t", "\r", "-"))]
    assert {row["id"][:4] for row in rows if row["cut"] == "true"} == {"long"}
    page.locator("#row-table tbody th a").nth(list(TEXTS).index("long")).click()
    assert "truncated: 20,000 of 1,000,000 characters" in page.inner_text("dialog")
