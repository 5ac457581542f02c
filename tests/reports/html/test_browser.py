"""The page in a real browser: what people do with it works, and it does nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalrunner import run_suite
from evalrunner.reports.html.page import write_report
from evalrunner.reports.view import stored_view
from evalrunner.runs.folder import RunFolder
from tests.reports.html.conftest import READY, Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]


def rows_of(report: Path) -> list[dict[str, Any]]:
    """The records of the row log beside a page."""
    return [json.loads(line) for line in (report.parent / "rows.jsonl").read_text().splitlines()]


VIEWS = ("", "#rows", "#statistics", "#about")


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_any_screen_and_makes_no_request(visit: Open, report: Path, width: int, scheme: str) -> None:
    for view in VIEWS:
        opened = visit(report, width=width, scheme=scheme, link=view)
        opened.shoot(f"report-{view[1:] or 'overview'}-{scheme}-{width}", whole=True)
        assert opened.page.evaluate(CUT) == [], view
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, view
    opened = visit(report, width=width, scheme=scheme, link="#row=q4")
    opened.shoot(f"row-{scheme}-{width}")
    assert opened.page.evaluate("document.querySelector('dialog').scrollWidth") <= width


CUT = """
() => {
  const shown = document.querySelector(".panel:not([hidden])");
  for (const one of shown.querySelectorAll("details")) one.open = true;
  return innerWidth > 400 ? [] : [...shown.querySelectorAll(".scroll")]
    .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.getAttribute("aria-label"));
}
"""
"""The tables that scroll sideways on a phone: none, for they are lists there."""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_axe_finds_no_serious_issue(visit: Open, report: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing").Axe()
    opened = visit(report, scheme=scheme, width=width)
    page, result = opened.page, []
    for view in VIEWS:
        page.evaluate("(view) => { location.hash = view; }", view)
        page.wait_for_selector(f"#panel-{view[1:] or 'overview'}:not([hidden])")
        result += axe.run(page).response["violations"]
    page.evaluate("location.hash = '#row=q4'")
    page.wait_for_selector("dialog[open]")
    result += axe.run(page, context="dialog").response["violations"]
    serious = [
        f"{fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in result
        for node in fault["nodes"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_first_screen_shows_verdict_leaderboard_and_gates(visit: Open, report: Path) -> None:
    page = visit(report).page
    assert page.inner_text("h1") == "capitals"
    assert page.inner_text(".verdict .word").split()[-1] == "Untrusted"
    assert page.inner_text(".verdict .why").startswith("contains of short prompt: 0.8632 on 95 of 109 answers")
    assert page.inner_text("#causes") == (
        "service: 13 of 120 answers failed: function: answer() in service.py:3 raised ValueError: the service is down"
    )
    facts = page.inner_text("#top > .facts")
    assert [word in facts for word in ("120 samples", "3 targets", "360 rows")] == [True] * 3
    assert "6 gates: 3 untrusted, 2 inconclusive, 1 pass" in page.inner_text("#top > .facts")
    board = page.locator("#leaderboard")
    heads = [text.split("\n")[0] for text in board.locator("thead th").all_inner_texts()]
    assert heads == ["Target", "contains", "exact_match", "token_f1", "p50", "$/1k", "Errors"]
    targets = [text.split("\n")[0] for text in board.locator("tbody th").all_inner_texts()]
    # the best first, but the untrusted last; a baseline below its target
    assert targets == ["long prompt", "main baseline", "service", "short prompt"]
    label = board.locator("tr", has_text="long prompt").locator("[role=img]").nth(0).get_attribute("aria-label")
    assert "gate at 0.500, pass" in label and "baseline main at" in label
    assert board.bounding_box()["y"] + board.bounding_box()["height"] < 900
    gates = page.locator("#gates tbody tr").all_inner_texts()
    assert len(gates) == 6 and [text.split()[1] for text in gates[:3]] == ["untrusted"] * 3
    assert "3.0 points worse" in gates[3] and "baseline main" in gates[3]
    assert "About 1,900 samples are needed" in gates[4]


def test_charts_have_names_and_numbers(visit: Open, report: Path) -> None:
    page = visit(report).page
    titles = "all => all.map(one => one.querySelector('title').textContent)"
    trade_offs = page.locator("#tradeoff svg[role=img]")
    assert trade_offs.evaluate_all(titles) == ["contains vs cost per 1,000 answers", "contains vs latency p50"]
    page.select_option("#tradeoff-scorer", label="token_f1")
    assert trade_offs.evaluate_all(titles) == ["token_f1 vs cost per 1,000 answers", "token_f1 vs latency p50"]
    assert page.locator("#slices tbody tr").count() == 4  # all samples, and three topics
    page.click("#tab-statistics")
    named = page.locator("#panel-statistics svg[role=img]")
    assert named.evaluate_all(titles) == ["Scores of exact_match", "Running mean of exact_match", "Latency"]
    assert page.locator("#panel-statistics details.numbers").count() == 3
    page.select_option("#picture-scorer", label="token_f1")
    assert page.locator("#scores-picture svg title").first.text_content() == "Scores of token_f1"


def test_cached_answers_do_not_lower_the_cost_of_a_target(visit: Open, report: Path) -> None:
    page = visit(report).page
    figure = page.locator("#tradeoff figure").first
    figure.locator("summary").click()
    rows = [row.split("\t") for row in figure.locator("tbody tr").all_inner_texts()]
    assert [(row[0], row[3]) for row in rows] == [
        ("short prompt", "$0.4000"),
        ("long prompt", "$1.60"),
        ("service", "$3.60"),
    ]
    assert rows[0][4] == "yes"
    prices = page.locator("[id^='price-']").all_inner_texts()
    assert prices == ["1.6", "3.6", "0.4"]
    page.click("#tab-about")
    cached = page.locator("#cost tbody tr td:last-child").all_inner_texts()
    assert cached == ["12", "12", "10"]


def test_rows_can_be_searched_filtered_and_sorted(visit: Open, report: Path) -> None:
    opened = visit(report, link="#rows")
    page = opened.page
    assert opened.count() == "120 samples"
    page.fill("#search", "(117)")
    opened.await_count("1 of 120 samples")
    assert opened.ids() == ["q117"]
    page.click("#clear")
    assert opened.count() == "120 samples"
    page.click("#more-filters summary")
    page.select_option("#state", "error")
    assert opened.count() == "13 of 120 samples"
    page.select_option("#target", label="short prompt")
    assert opened.count() == "0 of 120 samples"
    page.click("text=Show all")
    page.select_option("#column", label="topic")
    page.select_option("#value", "=asia")
    assert opened.count() == "40 of 120 samples"
    page.click("#clear")
    page.click("#show-regressions")
    worse = opened.count()
    assert worse.endswith("of 120 samples") and worse != "120 of 120 samples"
    page.click("#clear")
    page.select_option("#scorer", label="token_f1")
    assert page.inner_text("th button[data-sort='score:0']").split("\n")[0] == "short prompt"
    page.fill("#low", "0.3")
    page.fill("#high", "0.4")
    result = {row["id"] for row in rows_of(report) if 0.3 <= (row["cells"]["token_f1"]["value"] or 0) <= 0.4}
    opened.await_count(f"{len(result)} of 120 samples")
    page.click("#clear")
    page.click("button[data-sort='id']")
    page.click("button[data-sort='id']")
    assert opened.ids()[:2] == ["q119", "q118"]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert page.inner_text("#live") == "120 samples found"


def test_disagreement_filter_keeps_rows_with_different_scores(visit: Open, report: Path) -> None:
    opened = visit(report, link="#rows")
    opened.page.click("#show-disagreements")
    opened.page.select_option("#scorer", label="contains")
    by_id: dict[str, set[Any]] = {}
    for row in rows_of(report):
        by_id.setdefault(row["id"], set()).add(row["cells"]["contains"]["value"])
    assert opened.count() == f"{sum(len(values) > 1 for values in by_id.values())} of 120 samples"


def test_rows_are_paginated(visit: Open, report: Path) -> None:
    opened = visit(report, link="#rows")
    assert opened.ids()[0] == "q0" and len(opened.ids()) == 50
    opened.page.click("#pages >> text=Last")
    assert opened.ids() == [f"q{place}" for place in range(100, 120)]
    assert "101–120 of 120" in opened.page.inner_text("#pages")


def test_row_detail_has_full_texts_and_word_diffs(visit: Open, report: Path) -> None:
    page = visit(report, link="#rows").page
    page.click("#row-table >> text=q1 >> nth=0")
    assert page.inner_text("#detail-title") == "q1"
    assert "What is the capital of Japan? (1)" in page.inner_text("dialog")
    page.locator(".diff-switch").nth(2).check()
    block = page.locator(".answer-block").nth(2)
    put = "".join(block.locator("ins").all_text_contents())
    assert "It is" in put and "Tokyo" not in put
    page.select_option("#diff-from", label="long prompt")
    page.select_option("#diff-to", label="service")
    out = "".join(page.locator(".between del").all_text_contents())
    assert "The capital of Japan" in out and "Tokyo" not in out


def test_row_detail_shows_the_baseline(visit: Open, report: Path) -> None:
    opened = visit(report, link="#rows")
    page = opened.page
    page.click("#show-regressions")
    page.select_option("#scorer", label="contains")
    rows = [row for row in rows_of(report) if row["target"] == "long prompt" and int(row["id"][1:]) % 2]
    worse = {row["id"] for row in rows if row["cells"]["contains"]["value"] == 0}
    assert set(opened.ids()) == worse and worse
    assert "contains 0 was 1" in page.locator("#row-table tbody tr").first.inner_text()
    page.locator("#row-table tbody th a").first.click()
    page.click("text=Word diff from the baseline")
    assert "elsewhere" in "".join(page.locator(".baseline-diff del").all_text_contents())


def test_row_detail_shows_why_a_score_is_missing(visit: Open, report: Path) -> None:
    page = visit(report, link="#row=q4").page
    text = page.inner_text("dialog")
    assert "ValueError: the service is down" in text
    assert "no_answer: empty" in text


def test_link_opens_a_row_and_the_address_follows(visit: Open, report: Path) -> None:
    page = visit(report, link="#row=q7").page
    assert page.inner_text("#detail-title") == "q7"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail-title") == "q8"
    assert page.url.endswith("#row=q8")
    page.keyboard.press("Escape")
    page.wait_for_url("**/report.html")  # a dialog reports that it closed in a later task
    assert page.locator("dialog[open]").count() == 0
    page.evaluate("location.hash = '#row=q9'")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("#detail-title") == "q9"


def test_table_works_with_the_keyboard(visit: Open, report: Path) -> None:
    page = visit(report, link="#rows").page
    page.locator("#row-table tbody th a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail-title") == "q2"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "q2"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "q49"


def test_export_has_the_filtered_rows(visit: Open, report: Path, tmp_path: Path) -> None:
    page = visit(report, link="#rows").page
    page.click("#more-filters summary")
    page.select_option("#column", label="topic")
    page.select_option("#value", "=europe")
    page.select_option("#target", label="long prompt")
    saved = {}
    for kind in ("csv", "jsonl"):
        with page.expect_download() as download:
            page.click(f"#export-{kind}")
        assert download.value.suggested_filename.endswith(f".{kind}")
        saved[kind] = tmp_path / kind
        download.value.save_as(saved[kind])
    with saved["csv"].open(newline="", encoding="utf-8") as file:
        exported = list(csv.DictReader(file))
    with (report.parent / "table.csv").open(newline="", encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if row["topic"] == "europe" and row["target"] == "long prompt"]
    assert len(exported) == len(table) == 40
    for ours, theirs in zip(exported, table, strict=True):
        assert ours.pop("cut") == "false"
        scores = [name for name in theirs if name.endswith("/score")]
        assert [float(ours.pop(name) or -1) for name in scores] == [float(theirs.pop(name) or -1) for name in scores]
        later = ("latency", "cost_usd")  # put into the row log after the table was written
        assert {name: ours[name] for name in ours if name not in later} == {
            name: theirs[name] for name in theirs if name not in later
        }
        assert ours["cost_usd"] in ("0", "0.0016")
    lines = [json.loads(line) for line in saved["jsonl"].read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in exported]
    assert lines[1]["contains/v1/score"] in (0, 1, None)


def test_theme_can_be_changed_and_print_has_no_buttons(visit: Open, report: Path) -> None:
    page = visit(report).page
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#filters") and not page.is_visible("nav")
    assert page.is_visible("#gates")
    assert page.locator(READY).count() == 1


def test_paper_cuts_no_table(visit: Open, report: Path) -> None:
    page = visit(report, width=720).page  # A4 without its margins is 690 wide
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    cut = "all => all.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.getAttribute('aria-label'))"
    assert page.locator(".scroll").evaluate_all(cut) == []


@pytest.mark.parametrize("by", ["system", "button"])
def test_print_uses_light_colors_in_a_dark_theme(visit: Open, report: Path, by: str) -> None:
    def colours(page: Any) -> list[str]:
        names = ["--page", "--ink", "--untrusted", "--target-0", "--out", "color-scheme"]
        return list(
            page.evaluate(
                "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue(n))", names
            )
        )

    light, dark = visit(report).page, visit(report, scheme="dark" if by == "system" else "light").page
    if by == "button":
        dark.click("#theme")
    assert colours(dark) != colours(light)
    for page in (light, dark):
        page.emulate_media(media="print")
    assert colours(dark) == colours(light)


def test_each_epoch_is_a_row(visit: Open) -> None:
    Path("app.py").write_text("def answer(input, epoch):\n    return f'{input} {epoch}'\n")
    Path("epochs.yaml").write_text(
        "dataset: {rows: [{id: 'a b&epoch=9', input: x, expected: x 2}, {input: y, expected: y}]}\n"
        "target: {type: python, function: 'app.py:answer'}\nscorers: [exact_match]\nrun: {epochs: 3}\n"
    )
    report = run_suite("epochs.yaml").folder / "report.html"
    opened = visit(report, link="#row=a%20b%26epoch%3D9&epoch=2")
    assert opened.page.inner_text("#detail-title").split("\n") == ["a b&epoch=9", "epoch 2"]
    assert "exact_match 1" in opened.page.inner_text(".answer-block")
    assert opened.count() == "6 rows"
    facts = opened.page.inner_text("#top > .facts")
    assert "2 samples" in facts and "3 epochs" in facts and "6 rows" in facts
    lowest = [text.split()[0] for text in opened.page.locator("#notable-rows tbody th").all_inner_texts()]
    assert lowest == ["x", "y"]  # each sample once
    opened.page.keyboard.press("Escape")
    opened.page.click("#tab-statistics")
    split = opened.page.inner_text("#epochs tbody").split()
    assert split[0] == "exact_match"
    assert "epoch=9" in opened.page.inner_text("#epochs tbody")


def test_large_run_is_packed_and_unfinished_run_is_shown(visit: Open) -> None:
    lines = [
        {"id": f"q{place}", "input": "x" * 900, "expected": "7", "out": f"{place} {place % 10}"} for place in range(400)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Path("large.yaml").write_text("dataset: rows.jsonl\ntarget: {type: recorded, column: out}\nscorers: [contains]\n")
    folder = run_suite("large.yaml").folder
    (folder / "metrics.json").unlink()  # as if it had been killed
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "status": "running", "verdict": None, "exit_code": None}))
    opened = visit(write_report(stored_view(RunFolder(folder)), folder / "report.html"))
    assert 'data-coding="deflate"' in (folder / "report.html").read_text()
    assert opened.page.inner_text(".verdict .word").split()[-1] == "finished"
    assert opened.count() == "400 rows"
    opened.page.click("#tab-rows")
    opened.page.click("#more-filters summary")
    opened.page.fill("#low", "1")
    right = sum("7" in line["out"] for line in lines)
    opened.await_count(f"{right} of 400 rows")
