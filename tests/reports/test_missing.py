"""What is missing beside a metric: the same counts and reasons on the terminal, in Markdown, JUnit and annotations."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

import evalrunner
from evalrunner.domain import Metric
from evalrunner.reports.github import gate_annotations
from evalrunner.reports.missing import missing_lines, scored_count, scored_text, share, side_by_side
from evalrunner.reports.outputs import replay
from evalrunner.reports.terminal import TerminalReporter
from evalrunner.reports.view import RunView, stored_view
from evalrunner.runs.folder import RunFolder

REASONS = {"no_answer: empty": 1, "timeout: 30 s": 300, "server: 503": 80}


def metric(n: int, scored: int, **counts: object) -> Metric:
    return Metric("m/v1", "m", "mean", 0.5, n, scored, **counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (metric(300, 300), "300"),
        (metric(100, 500), "500 (100 samples)"),
        (
            metric(299, 299, unscored=1, detail={"reasons": {"no_answer: empty": 1}}),
            "299 of 300: 1 unscored (empty answer)",
        ),
        (metric(100, 100, skipped=100), "100 of 200: 100 skipped (50%)"),
        (
            metric(24, 119, unscored=1, errors=380, detail={"reasons": REASONS}),
            "119 of 500 (24 samples): 1 unscored (empty answer), 380 errors (300 timeout, 80 server error)",
        ),
        (
            metric(0, 0, unscored=12, detail={"reasons": {"judge sanity check: 6 of 12 known answers": 12}}),
            "0 of 12: 12 unscored (judge failed its sanity check)",
        ),
        (metric(1, 1, errors=1), "1 of 2: 1 error"),
        (metric(9, 9, unscored=1, detail={"reasons": {"no_answer: length": 1}}), "9 of 10: 1 unscored (truncated)"),
    ],
)
def test_scored_answers_and_why_others_have_no_score(given, text) -> None:
    assert scored_text(given) == text
    assert text.startswith(scored_count(given))


def test_answers_that_never_ran_are_missing() -> None:
    down = metric(0, 0, errors=1, trusted=False, detail={"reasons": {"connection": 1}})
    assert scored_text(down, 30) == "0 of 30: 1 error (connection failed), 29 not run"
    assert list(missing_lines([down], 30)) == [
        "m: 0 of 30 answers scored, 1 error (connection failed), 29 not run; untrusted"
    ]
    assert scored_text(metric(30, 30), 30) == "30"


def test_a_reason_of_a_scorer_is_one_short_line() -> None:
    hostile = metric(9, 9, unscored=1, detail={"reasons": {"no_answer: a\x1b[31m\n::error::b" + "c" * 300: 1}})
    text = scored_text(hostile)
    assert "\x1b" not in text and "\n" not in text and len(text) < 100


def test_zeroed_answers_are_scored_and_not_missing() -> None:
    assert scored_text(metric(10, 10, detail={"reasons": {"no_answer: empty": 3}})) == "10"


def test_shares_do_not_round_to_none_or_all() -> None:
    assert [share(*pair) for pair in ((1, 1000), (999, 1000), (1, 2), (5, 5))] == [
        "under 1%", "over 99%", "50%", "100%",
    ]  # fmt: skip


def test_the_number_of_intervals_side_by_side_is_stated() -> None:
    assert side_by_side(10) == "10 unadjusted 95% CIs side by side: on average 0.5 of them miss the true value"


@pytest.fixture
def view() -> RunView:
    """Forty samples: every fifth answer is empty, and half of the samples are skipped by a second scorer."""
    data = [
        {"input": f"q{i}", "expected": "yes", "half": i % 2, "out": "" if i % 5 == 0 else "yes" if i % 3 else "no"}
        for i in range(40)
    ]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    Path("scorer.py").write_text(
        "def half(output, sample):\n    return None if int(sample.metadata['half']) else float(output == 'yes')\n"
    )
    Path("s.yaml").write_text(
        "name: s\ndataset: data.jsonl\ntarget: {type: recorded, column: out}\nslices: [half]\n"
        "scorers: [exact_match, {type: python, function: 'scorer.py:half', low: 0, high: 1}]\n"
        "gates: [exact_match >= 0.1]\n"
    )
    result = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(outputs=("s.md", "s.xml")))
    return stored_view(RunFolder(result.folder))


EXACT = "32 of 40 answers scored, 8 unscored (empty answer); untrusted"
HALF = "16 of 40 answers scored, 16 skipped (40%), 8 unscored (empty answer); untrusted"


def test_every_output_states_the_same_missing_answers(view) -> None:
    assert list(missing_lines(next(iter(view.targets.values())).metrics)) == [f"exact_match: {EXACT}", f"half: {HALF}"]
    replay(RunFolder(view.folder), [Path("again.xml"), Path("again.md")], runs=Path("runs"))
    replay(RunFolder(view.folder), [Path("rows.xml")], runs=Path("runs"), rows=True)
    for name in ("s.xml", "again.xml", "rows.xml"):
        junit = Path(name).read_text()
        assert f"<system-out>exact_match: {EXACT}\nhalf: {HALF}</system-out>" in junit
    for name in ("s.md", "again.md"):
        page = Path(name).read_text()
        assert "8 unscored (empty answer); untrusted" in page and "16 skipped (40%)" in page
        assert "counting missing answers as 0" in page
        assert "side by side: on average" in page
    notice = [line for line in gate_annotations([view], Path.cwd()) if line.startswith("::notice")]
    assert len(notice) == 1 and f"exact_match: {EXACT}; half: {HALF}".replace("%", "%25") in notice[0]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_marks_untrusted_numbers_with_a_sign_and_its_legend(view, width, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    reporter = TerminalReporter(out, verbose=True)
    reporter.on_start(view)
    reporter.on_end(view)
    plain = re.sub(r"\x1b\[[0-9;]*m|\x1b\][^\\]*\\", "", out.getvalue())
    text = " ".join(plain.split())
    wide = [line for line in plain.splitlines() if len(line) > width]
    assert wide == []
    assert text.count("! untrusted: too few of the answers have a score") == 1
    assert text.count(" !") >= 3, "both metrics and the slices"
    assert "32 of 40" in text and "(40%)" in text
    assert "unadjusted 95% CIs side by side" in text
