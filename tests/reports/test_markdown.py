"""`summary.md`: the verdict first, whole tables, rows within a budget, and texts that stay texts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import BaselineResult, Cell, Completion, Declaration, GateResult, Metric, Row, Sample
from evalrunner.redact import register_secret
from evalrunner.reports.markdown import MarkdownReporter, SummaryRows, block, code, inline, render_markdown
from evalrunner.reports.outputs import replay
from evalrunner.reports.view import RunView, TargetView
from evalrunner.reports.worst_rows import BaselineScores, NotableRow
from evalrunner.runs.folder import RunFolder
from evalrunner.stats.summary import Measure
from tests.reports.hostile import HOSTILE
from tests.reports.pages import Page

TAGS = {
    "h2", "h3", "p", "strong", "code", "pre", "details", "summary", "b", "ul", "li", "em", "table", "thead", "tbody",
    "tr", "th", "td",
}  # fmt: skip
MEASURE = Measure("exact_match", Declaration(binary=True))
GATE = GateResult(
    "exact_match >= 0.8", "a", "exact_match/v1", 0.5, 0.2, 0.8, 0.8, "fail", "misses the threshold", line=7
)
METRIC = Metric("exact_match/v1", "exact_match", "mean", 0.5, 10, 10, low=0.2, high=0.8)


def view(**changes: Any) -> RunView:
    return RunView(
        **{
            "suite": "qa",
            "run_id": "20260101T000000Z-0000",
            "folder": Path("runs/qa/20260101T000000Z-0000"),
            "suite_file": Path("suites/qa.yaml"),
            "measures": (MEASURE,),
            "targets": {"a": TargetView(metrics=(METRIC,))},
            "gates": (GATE,),
            "verdict": "fail",
            "exit_code": 1,
            "rows": 10,
            "rows_planned": 10,
            "started_at": datetime(2026, 1, 1, tzinfo=UTC),
            "duration_s": 1.5,
            **changes,
        }
    )


def row(place: int, output: str = "wrong", value: float = 0.0) -> Row:
    sample = Sample(f"id-{place}", f"question {place}", ("right",), index=place)
    return Row(sample, "a", 1, Completion(output), {"exact_match": Cell("scored", value)})


def test_summary_shows_verdict_then_gates_metrics_and_rows() -> None:
    displayed = NotableRow(row(3, "no `idea`"))
    assert render_markdown(view(), {"a": [displayed]}, max_bytes=100_000) == (
        "## ❌ FAIL: qa\n\n"
        "**exact_match is 0.500 (95% CI 0.200–0.800); the gate needs at least 0.8.**\n\n"
        "10 rows in 1.5 s · run <code>20260101T000000Z-0000</code>\n\n"
        "### Gates\n\n"
        "| verdict | gate | target | value | 95% CI | bound | reason | line |\n"
        "| --- | --- | --- | ---: | --- | ---: | --- | ---: |\n"
        "| **FAIL** | <code>exact_match &#62;= 0.8</code> | <code>a</code> | 0.500 | 0.200–0.800 | 0.8 |"
        " misses the threshold | 7 |\n\n"
        "### Metrics\n\n"
        "| metric | value | 95% CI | scored | skipped | unscored | errors |\n"
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |\n"
        "| <code>exact_match/v1</code> | 0.500 | 0.200–0.800 | 10 | 0 | 0 | 0 |\n\n"
        "no calls · latency p50 –, p90 –, p99 – · – output tokens · cost –\n\n"
        "### Worst rows\n\n"
        "<details><summary><code>id-3</code> · <code>exact_match</code> 0.000</summary><b>input</b><pre>question 3</pre>"
        "<b>expected</b><pre>right</pre><b>output</b><pre>no &#96;idea&#96;</pre></details>\n"
    )


def test_failed_gates_come_first_and_metrics_show_the_change_since_the_baseline() -> None:
    base = BaselineResult(name="main", origin=None, value=0.6, drop=0.1, low=0.05, high=0.15, n=9)
    gates = (replace(GATE, verdict="pass"), replace(GATE, gate="later", verdict="fail", baseline=base))
    text = render_markdown(view(gates=gates), {}, max_bytes=100_000)
    assert text.index("later") < text.index("| PASS |")
    assert "| 0.100 worse than main (0.600), n=9 | 10 |" in text
    better = (replace(GATE, baseline=replace(base, drop=-0.1)),)
    assert "0.100 better than main (0.600), n=9" in render_markdown(view(gates=better), {}, max_bytes=100_000)


def test_regressions_come_before_rows_that_were_always_bad() -> None:
    before = {"id-1": BaselineScores({"exact_match": 1.0}, "right"), "id-2": BaselineScores({"exact_match": 0.0})}
    rows = SummaryRows(view(find_baseline=lambda: lambda row: before.get(row.sample.id)))
    for place in (1, 2, 3):
        rows.add(row(place))
    text = rows.markdown(view(), 100_000)
    assert "### Regressions" in text
    assert "<code>exact_match</code> 0.000 (was 1.000)" in text
    assert "<b>baseline output</b><pre>right</pre>" in text
    assert "id-2" not in text and "id-3" not in text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(text: str) -> None:
    page = f"para {inline(text, 300)} end\n\n| a | b |\n| --- | --- |\n| {code(text, 300)} | {inline(text, 300)} |\n\n<details>{block(text, 300)}</details>\n"
    read = Page(page)
    assert read.tags <= TAGS
    assert read.attributes == set()
    assert read.rows == [2, 2]
    assert read.open == []
    assert read.found_by_bots() == []
    assert "${{" not in page
    assert all(len(part) < 12_000 for part in page.split("\n"))
    assert not any(line.lstrip().startswith("::") or "##[" in line or "##vso[" in line for line in page.splitlines())
    assert not set(page) & set(
        "\x00\x08\x0b\x0c\x1b\x7f\x85\x9b\r\u2028\u2029\u202e\u2066\u200b\ufeff\ud800\udfff\U000e0041"
    )


def test_code_shows_the_text_itself() -> None:
    text = "if a < b && c[0] == 'x' | `y`:\n\treturn \"@z\"  # 1\n\n\nend"
    assert Page(f"<details>{block(text, 300)}</details>").code == [text.replace("\t", "    ")]
    assert inline(text, 8) == "if a &#60; b…"


def test_keys_are_redacted_before_a_text_is_cut() -> None:
    register_secret("sk-a-key-that-nobody-may-see")
    for limit in range(90, 130):
        assert "sk" not in inline("x" * 100 + "sk-a-key-that-nobody-may-see", limit)


def printable(text: str) -> str:
    """What is left of a text that an id may have."""
    return "".join(mark for mark in text if mark.isprintable())


def write_run(texts: list[str], outputs: tuple[str, ...], **options: Any) -> evalrunner.SuiteResult:
    lines = [json.dumps({"id": printable(f"i{place}{text[:40]}"), "input": text, "expected": text[:200] + "!", "one": text, "two": text}) for place, text in enumerate(texts)]  # fmt: skip
    Path("rows.jsonl").write_text("\n".join(lines))
    Path("h.yaml").write_text(
        "name: h\ndataset: rows.jsonl\ntargets:\n"
        "  - {type: recorded, column: one, name: '@one|<b>`'}\n  - {type: recorded, column: two, name: two}\n"
        "scorers: [exact_match]\ngates: [exact_match >= 0.5]\n"
    )
    return evalrunner.run_suite("h.yaml", options=evalrunner.RunOptions(outputs=outputs, **options))


def test_summary_of_hostile_rows_is_harmless() -> None:
    texts = [text for text in HOSTILE if "\ud800" not in text]  # a dataset may not hold those
    result = write_run(texts, ("h.md",))
    text = Path("h.md").read_text(encoding="utf-8")
    read = Page(text)
    assert result.exit_code == 1
    assert read.tags <= TAGS and read.attributes == set() and read.open == [] and read.found_by_bots() == []
    assert text.count("<details>") == 2 * len(texts)
    assert (result.folder / "summary.md").read_text(encoding="utf-8") == text


def stored_markdown(folder: RunFolder, **options: Any) -> str:
    replay(folder, [Path("stored.md")], runs=Path("runs"), **options)
    return Path("stored.md").read_text(encoding="utf-8")


def test_stored_run_has_the_same_summary_and_a_smaller_one_for_a_comment() -> None:
    result = write_run([f"question {place} " + "long " * 500 for place in range(60)], ("h.md",))
    folder = RunFolder(result.folder)
    whole = Path("h.md").read_text(encoding="utf-8")
    assert stored_markdown(folder) == whole
    small = stored_markdown(folder, max_bytes=60 * 1024)
    assert len(small.encode()) <= 60 * 1024 < len(whole.encode())
    assert small.startswith(whole[: whole.index("### Worst")])
    assert "### Worst rows of <code>two</code>" in small
    tiny = stored_markdown(folder, max_bytes=4096)
    assert len(tiny.encode()) <= 4096
    assert tiny.endswith("_Cut to fit: the run folder has the rest._\n")


def test_unfinished_run_has_numbers_and_no_verdict() -> None:
    result = write_run(["a", "b"], ())
    run = json.loads((result.folder / "run.json").read_text())
    for name in ("verdict", "exit_code", "rows", "duration_s", "stopped", "finished_at"):
        run.pop(name, None)
    (result.folder / "run.json").write_text(json.dumps({**run, "status": "running"}))
    (result.folder / "metrics.json").unlink()
    folder = RunFolder(result.folder)
    text = stored_markdown(folder)
    assert text.startswith("## ⚠️ NOT FINISHED: h\n\n**The run did not finish;")
    assert "| <code>exact_match/v1</code> | 0.000 |" in text
    with pytest.raises(evalrunner.RunNotFoundError, match=r"has no metrics.json: it did not finish"):
        replay(folder, [Path("x.json")], runs=Path("runs"), max_bytes=1)
    with pytest.raises(
        evalrunner.SuiteError, match=r"one of .csv, .html, .json, .jsonl, .md, .parquet, .png, .svg, .xlsx, .xml"
    ):
        replay(folder, [Path("x.pdf")], runs=Path("runs"), max_bytes=1)


def test_summary_of_ten_thousand_large_rows_stays_below_the_limit_of_github(tmp_path: Path) -> None:
    mega = "`<|@&" * 200_000
    gates = tuple(replace(GATE, gate=f"gate {place} {'|' * 100}", reason=mega) for place in range(100))
    metrics = tuple(replace(METRIC, slice={"topic": f"{place}{mega}"}) for place in range(300))
    summary = MarkdownReporter(tmp_path / "x.md")
    summary.on_start(view())
    for place in range(10_000):
        summary.on_row(replace(row(place, mega), target="ab"[place % 2]))
    target = TargetView(metrics=(METRIC, *metrics))
    summary.on_end(view(gates=gates, targets={"a": target, "b": target}))
    text = (tmp_path / "x.md").read_text(encoding="utf-8")
    assert 300 * 1024 < len(text.encode()) <= 512 * 1024
    assert text.count("| **FAIL** |") == 100
    assert "### Worst rows of <code>b</code>" in text


def test_summary_and_junit_are_written_only_on_request() -> None:
    result = write_run(["a"], ())
    assert not (result.folder / "summary.md").exists() and not (result.folder / "junit.xml").exists()
