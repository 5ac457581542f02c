"""What is written into the page: the policy, the data, and how much of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrunner import run_suite
from evalrunner.domain import Cell, Completion, Row, Sample
from evalrunner.errors import RunError
from evalrunner.redact import register_secret
from evalrunner.reports.html.data import ANSWER, RowIndex, inline_json, json_text, overview_data
from evalrunner.reports.html.forest import forest_svg
from evalrunner.reports.html.page import ASSETS, SCRIPTS, STYLES, write_report
from evalrunner.reports.view import stored_view
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.row_log import RowLog, encode_row
from evalrunner.storage import write_json
from tests.fakes.command import evalrun
from tests.reports.html.pages import enrich, make_run

SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<text>.*?)</script>", re.DOTALL)
NAMES = ("one", "two")


def row(index: int, target: str = "one", *, epoch: int = 1, text: str = "b", value: float = 1.0) -> Row:
    sample = Sample(f"q{index}", f"a{index}", ("b",), {"topic": "x"}, index=index)
    return Row(sample, target, epoch, Completion(text), {"s": Cell("scored", value)})


def folder_of(folder: Path, rows: list[Row], **about: Any) -> Path:
    """A run folder with these rows, as a run that has not ended leaves it."""
    scorer = {
        "type": "python", "version": "v1", "backend": None, "range": [0, 1], "higher_is_better": True, "binary": True,
        "unit": None, "threshold": None, "needs_answer": True, "needs_expected": False, "aggregates": ["mean"],
        "headline": "mean", "on_no_answer": "unscored",
    }  # fmt: skip
    run = {
        "run_id": "20261124T000000Z-0000", "suite": "made", "status": "running", "epochs": 1, "rows_planned": len(rows),
        "columns": ["topic"], "started_at": "2026-11-24T00:00:00Z", "seed": 0, "targets": {name: {"type": "python", "usage": {}} for name in NAMES}, "scorers": {"s": scorer},
        "schema_version": 2, "suite_file": "made.yaml", "dataset": {"digest": "d", "rows": len(rows)},
    }  # fmt: skip
    write_json(folder / "run.json", {**run, **about})
    with RowLog(folder) as log:
        for each in rows:
            log.write(each)
    return folder


def scripts_of(page: Path) -> Iterator[tuple[str, str]]:
    for result in SCRIPT.finditer(page.read_text(encoding="utf-8")):
        yield result["attributes"], result["text"]


def packs_of(page: Path) -> list[Any]:
    """The groups of a page, read as the page reads them."""
    groups: list[Any] = []
    for attributes, text in scripts_of(page):
        if 'class="pack"' in attributes:
            data = zlib.decompress(base64.b64decode(text)) if "deflate" in attributes else text
            groups += json.loads(data)["groups"]
    return groups


def test_content_security_policy_has_the_hashes_of_script_and_style(tmp_path: Path) -> None:
    page = write_report(stored_view(RunFolder(folder_of(tmp_path, [row(0)]))), tmp_path / "report.html").read_text(
        encoding="utf-8"
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy is not None and style is not None
    (script,) = [text for attributes, text in scripts_of(tmp_path / "report.html") if not attributes]
    hashes = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in (("script-src", script), ("style-src", style[1]))
    }
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert {name: rules[name] for name in hashes} == hashes
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page


def test_scripts_never_parse_text_as_html() -> None:
    forbidden = (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "import(",
    )
    texts = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.iterdir()}
    assert sorted(texts) == sorted([*SCRIPTS, *STYLES])
    assert [(name, word) for name, text in texts.items() for word in forbidden if word in text] == []
    assert [name for name, text in texts.items() if text.count("\n") > 300] == []


def test_rows_are_ordered_and_the_last_record_of_a_row_counts(tmp_path: Path) -> None:
    arrived = [row(2), row(0, "two"), row(1, epoch=2), row(0, text="old"), row(1), row(0, text="new")]
    page = write_report(stored_view(RunFolder(folder_of(tmp_path, arrived))), tmp_path / "report.html")
    displayed = [(group[0], group[1], [answer and answer[0] for answer in group[6]]) for group in packs_of(page)]
    assert displayed == [
        ("q0", 1, ["new", "b"]), ("q1", 1, ["b", None]), ("q1", 2, ["b", None]), ("q2", 1, ["b", None]),
    ]  # fmt: skip


def test_torn_last_line_is_skipped_and_a_broken_line_is_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row(0), row(1)])
    log = folder / "rows.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + encode_row(row(2))[:-9])
    assert RowIndex(folder, NAMES).groups == 2
    log.write_bytes(whole.replace(b'"a0"', b'"a?"'))
    with pytest.raises(RunError, match="byte 0: wrong checksum"):
        list(RowIndex(folder, NAMES).read_groups())


def test_record_with_other_key_order_is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [])
    record = json.loads(encode_row(row(3, "two")))
    del record["sum"]
    body = json.dumps(dict(sorted(record.items())), separators=(",", ":"))[:-1].encode()
    (folder / "rows.jsonl").write_bytes(b'%b,"sum":"%08x"}\n' % (body, zlib.crc32(body)))
    assert [list(rows) for rows in RowIndex(folder, NAMES).read_groups()] == [[1]]


def test_unfinished_run_is_shown_with_its_rows(tmp_path: Path) -> None:
    page = write_report(
        stored_view(RunFolder(folder_of(tmp_path, [row(0), row(1, value=0.0)]))), tmp_path / "report.html"
    )
    overview = json.loads(next(text for attributes, text in scripts_of(page) if "overview" in attributes))
    metric = overview["targets"][0]["metrics"][0]
    assert (metric["name"], metric["value"], metric["n"]) == ("s/v1", 0.5, 2)
    assert "<title>NOT FINISHED made" in page.read_text(encoding="utf-8")


def test_data_cannot_close_its_script_element() -> None:
    hostile = "</script><!-- <script> \u2028\u2029 & \ud800"
    text = inline_json(json_text({"x": hostile}))
    assert not {b"<", b">", b"&"} & {text[place : place + 1] for place in range(len(text))}
    assert json.loads(text)["x"] == hostile


def test_keys_are_redacted_in_page_and_plot(tmp_path: Path) -> None:
    register_secret("sk-secret-of-this-test")
    rows = [row(place, text=f"my key is sk-secret-of-this-test {'x' * 600}") for place in range(900)]
    folder = folder_of(tmp_path, rows, suite="sk-secret-of-this-test")
    page = write_report(stored_view(RunFolder(folder)), tmp_path / "report.html")
    assert "my key is [redacted]" in str(packs_of(page)[0])
    assert b"sk-secret" not in page.read_bytes()
    assert "sk-secret" not in forest_svg(stored_view(RunFolder(folder)))


def test_long_texts_are_cut_and_marked(tmp_path: Path) -> None:
    page = write_report(
        stored_view(RunFolder(folder_of(tmp_path, [row(0, text="x" * 1_000_000)]))), tmp_path / "report.html"
    )
    (group,) = packs_of(page)
    assert group[6][0][0] == ["x" * 20_000, 1_000_000]
    assert page.stat().st_size < 250_000


def test_reasoning_stands_beside_the_answer_with_its_length_and_tokens(tmp_path: Path) -> None:
    thought = replace(row(0), answer=Completion("b", reasoning="Is it b? " * 3_000, reasoning_tokens=40))
    hidden = replace(row(1), answer=Completion("b", reasoning_tokens=7))
    folder = folder_of(tmp_path, [thought, hidden, row(2)])
    page = write_report(stored_view(RunFolder(folder)), tmp_path / "report.html")
    answers = [dict(zip(ANSWER, group[6][0], strict=True)) for group in packs_of(page)]
    shown = [(answer["reasoning_length"], answer["reasoning_tokens"]) for answer in answers]
    assert shown == [(27_000, 40), (None, 7), (None, None)]
    assert answers[0]["reasoning"][1] == 27_000  # cut as every long text
    assert "Reasoning, not scored" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_page_of_ten_thousand_rows_stays_below_twelve_megabytes(tmp_path: Path) -> None:
    rows = [row(place, text=hashlib.sha512(b"%d" % place).hexdigest() * 8) for place in range(10_000)]
    incompressible = [replace(each, answer=Completion(scrambled(place))) for place, each in enumerate(rows)]
    page = write_report(stored_view(RunFolder(folder_of(tmp_path, incompressible))), tmp_path / "report.html")
    assert len(packs_of(page)) == 10_000
    assert 8_000_000 < page.stat().st_size < 12_000_000


def scrambled(place: int) -> str:
    """A kilobyte that nothing can be packed of."""
    return base64.b85encode(hashlib.shake_256(b"%d" % place).digest(820)).decode()


def test_page_of_the_same_folder_has_the_same_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row(0), row(1)])
    pages = [
        write_report(stored_view(RunFolder(folder)), tmp_path / name).read_bytes() for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]


def test_interval_plot_as_svg_and_png() -> None:
    folder = make_run(30)
    enrich(folder)
    done = evalrun("report", "last", "-o", "plot.svg", "-o", "plot.png", "-o", "page.html")
    assert (done.returncode, done.stdout.split()) == (0, ["plot.svg", "plot.png", "page.html"])
    texts = [
        element.text for element in ET.fromstring(Path("plot.svg").read_text()).iter() if element.tag.endswith("text")
    ]
    assert texts[:3] == ["capitals: metrics with 95% CIs", "exact_match/v1", "short prompt"]
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")
    assert "<title>UNTRUSTED capitals" in Path("page.html").read_text()


def test_report_is_rewritten_from_its_folder() -> None:
    folder = make_run(10)
    written = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    for name in ("rows.jsonl", "capitals.yaml", "service.py"):
        Path(name).unlink()
    done = evalrun("report", folder.name)
    assert (done.returncode, done.stdout) == (0, f"{folder}/report.html\n")
    assert (folder / "report.html").read_bytes() == written


def test_open_uses_the_configured_browser(tmp_path: Path) -> None:
    folder = make_run(4)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/asked\n')
    browser.chmod(0o755)
    done = evalrun("report", "--open", "-o", "plot.svg", env={"BROWSER": f"{browser} %s"})
    assert (done.returncode, done.stdout) == (0, "plot.svg\n")
    assert (tmp_path / "asked").read_text().strip() == (folder / "report.html").resolve().as_uri()


def test_unknown_extension_and_run_are_errors() -> None:
    make_run(4)
    done = evalrun("report", "-o", "page.pdf")
    assert (
        done.returncode,
        "should be one of .csv, .html, .json, .jsonl, .md, .parquet, .png, .svg, .xlsx, .xml" in done.stderr,
    ) == (2, True)
    assert evalrun("report", "nope").returncode == 2


def test_the_baseline_has_the_numbers_of_its_run() -> None:
    rows = [
        {"id": f"q{place}", "input": "x", "expected": "a", "old": "a", "new": "a" if place % 2 else "b"}
        for place in range(40)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    suite = "name: s\ndataset: rows.jsonl\ntarget: {type: recorded, column: COLUMN}\nscorers: [exact_match, token_f1]\n"
    gate = "gates: [{metric: exact_match, baseline: main, max_drop: 0.05}]\n"
    Path("s.yaml").write_text(suite.replace("COLUMN", "old"))
    before = run_suite("s.yaml").folder
    assert evalrun("baseline", "accept", str(before)).returncode == 0
    Path("s.yaml").write_text(suite.replace("COLUMN", "new") + gate)
    folder = run_suite("s.yaml").folder
    data = overview_data(stored_view(RunFolder(folder)))
    baseline = data["targets"][0]["baseline"]
    assert [each["name"] for each in baseline["metrics"]] == ["exact_match/v1", "token_f1/v1/mean"]
    assert baseline["metrics"][0]["low"] == pytest.approx(0.912, abs=0.001)
    assert baseline["errors"] == 0 and baseline["cost"] is None
    assert data["sentence"] == "exact_match fell 50 points below main (allowed 5). 20 samples got worse."
    shutil.rmtree(before)
    assert overview_data(stored_view(RunFolder(folder)))["targets"][0]["baseline"] is None
