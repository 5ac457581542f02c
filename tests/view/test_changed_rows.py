"""Changed rows between two runs, the selection of runs, and what cannot be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import evalrunner
from tests.view.test_server import EVIL, ONE, TWO, Browser, browser, plain, write_suite  # noqa: F401

OTHER = ONE.replace("column: a, name: one", "column: b, name: one")


def test_changed_rows_are_linked_to_the_rows_of_both_reports(browser: Browser) -> None:  # noqa: F811
    before = evalrunner.run_suite(write_suite(more=ONE))
    after = evalrunner.run_suite(write_suite(more=OTHER))
    for result in (before, after):
        (Path(result.folder) / "report.html").write_text("a report")
    page = browser.page(f"/diff?run=s/{after.run_id}&run=s/{before.run_id}")  # the older run comes first in any order
    assert f"s {before.run_id} → s {after.run_id}" in plain(page)
    assert "30 rows changed (30 worse); 10 unchanged." in plain(page)
    assert "exact_match 1 → 0" in plain(page)
    links = re.findall(r'href="(/runs/s/[^"]+/report\.html#rows[^"]+)"', page)
    assert len(links) == 60
    assert links[0].startswith(f"/runs/s/{before.run_id}/report.html#rows&amp;row=")
    assert links[1].startswith(f"/runs/s/{after.run_id}/report.html#rows&amp;row=")
    assert not re.search(r"<script|<img|\x1b|\u202e", page)


def test_changed_rows_name_the_checks_that_changed(browser: Browser) -> None:  # noqa: F811
    checks = "\nchecks: [{contains: a, name: letter}, {not_contains: <img src=x}]\n"
    before = evalrunner.run_suite(write_suite(more=ONE + checks))
    after = evalrunner.run_suite(write_suite(more=OTHER + checks))
    page = browser.page(f"/diff?run=s/{before.run_id}&run=s/{after.run_id}")
    assert "✗ not_contains: &lt;img src=x" in page
    assert "✓ letter" in page
    assert "<img" not in page


def test_targets_of_one_run_and_of_runs_without_a_common_target_are_chosen(browser: Browser) -> None:  # noqa: F811
    two = evalrunner.run_suite(write_suite(more=TWO)).run_id
    path = f"/diff?run=s/{two}"
    assert "&lt;b&gt;one&lt;/b&gt; → two" in browser.page(path)
    assert "two → &lt;b&gt;one&lt;/b&gt;" in browser.page(f"{path}&before=two&after=%3Cb%3Eone%3C/b%3E")
    status, _, page = browser.ask(f"{path}&before=two&after=nobody")
    assert (status, "unknown target" in page) == (400, True)
    other = evalrunner.run_suite(write_suite(more=ONE)).run_id
    status, _, page = browser.ask(f"{path}&run=s/{other}")
    assert (status, "Select the targets to compare." in page) == (400, True)
    assert "two → one" in plain(browser.page(f"{path}&run=s/{other}&before=two&after=one"))


def test_selections_that_cannot_be_shown_say_what_to_select(browser: Browser) -> None:  # noqa: F811
    runs = [evalrunner.run_suite(write_suite(more=ONE)).run_id for _ in range(3)]
    every = "&".join(f"run=s/{run}" for run in runs)
    for path, sentence in (
        ("/diff", "No run is selected. Go back and select two runs, or one run with several targets."),
        ("/compare", "No run is selected."),
        (f"/diff?{every}", "3 runs are selected. Changed rows are those between two runs."),
        (f"/compare?run=s/{runs[0]}", "has one target. Go back and select another run as well."),
        (f"/diff?run=s/{runs[0]}", "has one target. Go back and select another run as well."),
    ):
        status, _, page = browser.ask(path)
        assert (status, sentence in plain(page)) == (400, True), path
    assert "Changed rows" in browser.page(f"/compare?run=s/{runs[0]}&run=s/{runs[1]}")
    assert "--unpaired" not in browser.ask(f"/compare?{every}")[2]


def test_runs_of_different_suites_on_the_same_data_are_compared(browser: Browser) -> None:  # noqa: F811
    one = evalrunner.run_suite(write_suite(more=ONE)).run_id
    Path("t.yaml").write_text(f"name: t\ndataset: s.jsonl\nscorers: [exact_match]\n{OTHER.replace('one', 'two')}")
    two = evalrunner.run_suite("t.yaml").run_id
    assert "exact_match/v1: one 0.750 > two 0.000" in plain(browser.page(f"/compare?run=t/{two}&run=s/{one}"))
    assert "30 rows changed" in plain(browser.page(f"/diff?run=t/{two}&run=s/{one}"))


def test_rows_that_cannot_be_read_are_the_reason(browser: Browser) -> None:  # noqa: F811
    runs = [evalrunner.run_suite(write_suite(more=ONE)) for _ in range(2)]
    (Path(runs[0].folder) / "rows.jsonl").unlink()
    (Path(runs[0].folder) / "rows.jsonl").mkdir()
    path = "&".join(f"run=s/{run.run_id}" for run in runs)
    for page in (f"/diff?{path}", f"/compare?{path}"):
        status, _, text = browser.ask(page)
        assert (status, "rows.jsonl" in text) == (400, True), text


def test_rows_of_several_epochs_are_linked_with_their_epoch(browser: Browser) -> None:  # noqa: F811
    ids = []
    for column in ("a", "b"):
        more = f"target: {{type: recorded, column: {column}, name: one}}\nrun: {{epochs: 2}}\n"
        result = evalrunner.run_suite(write_suite(total=2, good=2, more=more))
        (Path(result.folder) / "report.html").write_text("a report")
        ids.append(result.run_id)
    page = browser.page(f"/diff?run=s/{ids[0]}&run=s/{ids[1]}")
    assert len(re.findall(r"report\.html#rows&amp;row=[^&\"]+&amp;epoch=2\"", page)) == 4


def test_ids_of_samples_are_encoded_in_links(browser: Browser) -> None:  # noqa: F811
    for column in ("a", "b"):
        rows = [{"id": EVIL.split("\x1b")[0], "input": "q", "expected": "yes", "a": "yes", "b": "no"}]
        Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        Path("s.yaml").write_text(
            f"name: s\ndataset: s.jsonl\nscorers: [exact_match]\ntarget: {{type: recorded, column: {column}, name: one}}\n"
        )
        (Path(evalrunner.run_suite("s.yaml").folder) / "report.html").write_text("a report")
    runs = sorted(path.name for path in Path("runs/s").iterdir())
    page = browser.page(f"/diff?run=s/{runs[0]}&run=s/{runs[1]}")
    assert "#rows&amp;row=%3Cscript%3Ealert" in page
    assert not re.search(r"<script|<img|\x1b|\u202e", page)
