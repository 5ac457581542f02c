"""The sentence that every output gives for the verdict of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import BaselineResult, Declaration, Failure, GateResult, Metric, Row, Sample
from evalrunner.reports.terminal import quiet_line
from evalrunner.reports.verdict_sentence import sentence
from evalrunner.reports.view import RunView, TargetView
from evalrunner.runs.row_log import encode_row
from evalrunner.stats.summary import Measure
from tests.reports.test_markdown import view

MEASURES = (
    Measure("contains", Declaration(binary=True)),
    Measure("toxicity", Declaration(higher_is_better=False)),
    Measure("length", Declaration(low=0.0, high=None, unit="words")),
)
CONTAINS = Metric("contains/v1", "contains", "mean", 0.825, 300, 300, low=0.778, high=0.864)
TOXICITY = Metric("toxicity/v1/p90", "toxicity", "p90", 0.25, 300, 300, higher_is_better=False)
LENGTH = Metric("length/v1/mean", "length", "mean", 41.5, 300, 300, unit="words")
LATENCY = Metric("latency/p50", "latency", "p50", 2.4, 300, 300, unit="s", higher_is_better=False)
GATE = GateResult("contains >= 0.9", "a", "contains/v1", 0.825, 0.778, 0.864, 0.9, "fail", "misses the threshold")
BASELINE = BaselineResult(name="main", origin="r1", value=0.906, drop=0.081, low=0.056, high=0.106, n=300)
DROP = replace(
    GATE, gate="contains at most 0.05 worse than main", kind="max_drop", bound=0.05, baseline=BASELINE,
    reason="8.1 points worse (90% CI 5.6–10.6); allowed 5",
)  # fmt: skip
CONFIDENT = replace(
    GATE, gate="contains >= 0.9 at 0.95 confidence", kind="confidence", confidence=0.95, gate_low=0.786, gate_high=0.858
)
IMPROVED = replace(DROP, gate="contains better than main", kind="improved", bound=0.0)


def run(
    *gates: GateResult, metrics: tuple[Metric, ...] = (CONTAINS, TOXICITY, LENGTH, LATENCY), **changes: Any
) -> RunView:
    """A run with these gates and the verdict of the first."""
    verdict = gates[0].verdict if gates else "pass"
    code = {"fail": 1, "untrusted": 3, "inconclusive": 4}.get(verdict, 0)
    whole = {
        "measures": MEASURES, "targets": {"a": TargetView(metrics=metrics)}, "gates": gates, "verdict": verdict, "exit_code": code,
        "rows": 300, "rows_planned": 300, **changes,
    }  # fmt: skip
    return view(**whole)


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ([GATE], "contains is 0.825 (95% CI 0.778–0.864); the gate needs at least 0.9."),
        ([replace(GATE, high=0.93)], "contains is 0.825 (95% CI 0.778–0.930); the gate needs at least 0.9, which is inside the CI."),
        ([GATE, GATE, DROP], "contains is 0.825 (95% CI 0.778–0.864); the gate needs at least 0.9. 2 more gates failed."),
        (
            [replace(GATE, gate="toxicity/p90 < 0.2", metric="toxicity/v1/p90", value=0.25, low=None, high=None, bound=0.2)],
            "toxicity/p90 is 0.250; the gate needs less than 0.2.",
        ),
        (
            [replace(GATE, gate="latency/p50 <= 2", metric="latency/p50", value=2.4, low=2.1, high=2.6, bound=2.0)],
            "latency/p50 is 2.4 s (95% CI 2.100–2.600); the gate allows at most 2.0 s.",
        ),
        (
            [replace(GATE, gate="contains[topic=a b] >= 0.9", slice={"topic": "a b"})],
            "contains[topic=a b] is 0.825 (95% CI 0.778–0.864); the gate needs at least 0.9.",
        ),
        ([CONFIDENT], "contains is 0.825, at most 0.858 at 95% confidence; the gate needs at least 0.9."),
        ([DROP], "contains fell 8.1 points below main (allowed 5)."),
        (
            [replace(DROP, gate="toxicity/p90 at most 0.05 worse than main", metric="toxicity/v1/p90")],
            "toxicity/p90 rose 8.1 points above main (allowed 5).",
        ),
        (
            [replace(DROP, gate="length at most 2 worse than main", metric="length/v1/mean", bound=2.0, baseline=replace(BASELINE, drop=3.25))],
            "length fell 3.25 words below main (allowed 2).",
        ),
        (
            [replace(DROP, baseline=replace(BASELINE, worse=31, better=7))],
            "contains fell 8.1 points below main (allowed 5). 31 samples got worse, 7 got better.",
        ),
        (
            [replace(DROP, baseline=replace(BASELINE, worse=1, better=0))],
            "contains fell 8.1 points below main (allowed 5). 1 sample got worse.",
        ),
        ([IMPROVED], "contains fell 8.1 points below main; the gate needs an improvement."),
        ([replace(GATE, value=None, reason="no sample applies: none has 'x' in 'topic'")], "contains: no sample applies: none has 'x' in 'topic'."),
        (
            [replace(GATE, gate="contains >= 1 in 2 of 3 epochs, for 0.9 of the samples")],
            "contains >= 1 in 2 of 3 epochs, for 0.9 of the samples: misses the threshold.",
        ),
    ],
)  # fmt: skip
def test_a_failed_gate_is_the_reason(gates: list[GateResult], said: str) -> None:
    assert sentence(run(*gates)) == said


def test_the_target_is_named_where_there_are_several() -> None:
    both = {"a": TargetView(metrics=(CONTAINS,)), "b": TargetView(metrics=(CONTAINS,))}
    assert sentence(run(DROP, targets=both)) == "contains of a fell 8.1 points below main (allowed 5)."


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ([replace(GATE, verdict="pass", bound=0.7, gate="contains >= 0.7")], "contains is 0.825 (95% CI 0.778–0.864); the gate needs at least 0.7."),
        ([replace(DROP, verdict="pass", bound=0.1)], "contains fell 8.1 points below main (allowed 10)."),
        ([replace(DROP, verdict="pass", baseline=replace(BASELINE, drop=-0.02))], "contains rose 2 points above main (allowed drop 5)."),
        ([replace(DROP, verdict="pass", baseline=replace(BASELINE, drop=0.0))], "contains did not change from main (allowed drop 5)."),
        ([replace(GATE, verdict="pass", bound=0.8)] * 2, "Both gates passed, neither conclusively."),
        ([replace(GATE, verdict="pass", bound=0.8)] * 3, "All 3 gates passed, none conclusively."),
        ([replace(GATE, verdict="pass", bound=0.7)] * 3, "All 3 gates passed."),
    ],
)  # fmt: skip
def test_passed_gates(gates: list[GateResult], said: str) -> None:
    assert sentence(run(*gates)) == said


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (
            replace(CONFIDENT, verdict="inconclusive", bound=0.8, gate="contains >= 0.8 at 0.95 confidence", samples_to_decide=(840, 1861)),
            "contains is 0.825 (0.786–0.858 at 95% confidence); the gate needs at least 0.8: too close to call. About 1,900 samples are needed to decide.",
        ),
        (
            replace(DROP, verdict="inconclusive", baseline=replace(BASELINE, drop=0.03)),
            "contains fell 3 points below main (allowed 5): too close to call.",
        ),
    ],
)  # fmt: skip
def test_an_inconclusive_gate_says_how_many_samples_would_decide(gate: GateResult, said: str) -> None:
    assert sentence(run(gate)) == said


def test_an_untrusted_run_names_the_failure_of_its_calls(tmp_path: Path) -> None:
    failed = Failure("server", "the server failed (HTTP 503): upstream down")
    rows = [Row(Sample(f"q{place}", "hi", index=place), "a", 1, failed, {}) for place in range(3)]
    rows.append(replace(rows[0], sample=Sample("q3", "hi", index=3), answer=Failure("timeout", "no answer in 60 s")))
    (tmp_path / "rows.jsonl").write_bytes(b"".join(map(encode_row, rows)))
    gate = replace(GATE, verdict="untrusted", reason="scored 166 of 300 answers")
    metrics = (replace(CONTAINS, scored=166, errors=134), replace(LATENCY, scored=166, errors=134))
    down = run(gate, metrics=metrics, rows_in_error=134, folder=tmp_path)
    assert sentence(down) == "134 of 300 answers failed: the server failed (HTTP 503): upstream down."
    assert sentence(replace(down, folder=tmp_path / "gone")) == "134 of 300 answers failed."


def test_an_aborted_run_says_why_and_what_is_missing() -> None:
    gate = replace(GATE, verdict="untrusted", reason="scored 150 of 300 answers")
    stopped = run(
        gate, metrics=(replace(LATENCY, scored=150, errors=50),), rows=200, rows_in_error=50,
        stopped="target 'a' aborted: 50 consecutive calls failed",
    )  # fmt: skip
    assert sentence(stopped) == (
        "Target 'a' aborted: 50 consecutive calls failed. 50 of 300 answers failed, 100 did not run."
    )
    early = run(GATE, stopped="the budget of $1.00 is spent")
    assert sentence(early).endswith("the gate needs at least 0.9. The run stopped early: the budget of $1.00 is spent.")
    asking = run(GATE, stopped="cannot connect to http://127.0.0.1:9; is the server running?")
    assert sentence(asking).endswith("is the server running?")


def test_an_untrusted_judge_and_a_missing_baseline_give_their_reason() -> None:
    judge = replace(
        GATE, verdict="untrusted", reason="scored 0 of 300 answers: the judge failed its sanity check (3 of 12)"
    )
    assert sentence(run(judge)) == "contains: scored 0 of 300 answers: the judge failed its sanity check (3 of 12)."
    few = (replace(CONTAINS, scored=0, errors=1, unscored=299), replace(LATENCY, scored=299, errors=1))
    assert sentence(run(judge, metrics=few, rows_in_error=1)) == sentence(run(judge))
    none = replace(DROP, verdict="no_baseline", baseline=None, reason="there is no baseline 'main'; accept one")
    assert sentence(run(none, exit_code=3)) == "contains: there is no baseline 'main'; accept one."
    passed = replace(GATE, verdict="pass", bound=0.7)
    text = sentence(run(none, passed, verdict="pass", exit_code=0))
    assert text == "1 of 2 gates passed. contains: there is no baseline 'main'; accept one."


def test_runs_without_a_verdict() -> None:
    assert sentence(run(GATE, exit_code=130, rows=4)) == "Interrupted after 4 of 300 rows."
    assert sentence(run(verdict=None, exit_code=None)) == "The run did not finish; the numbers cover the rows on disk."
    assert sentence(run(metrics=())) == "The suite has no gates."
    assert sentence(run()) == "contains is 0.825 (95% CI 0.778–0.864). The suite has no gates."
    targets = {name: TargetView(metrics=(CONTAINS,)) for name in "abcd"}
    text = "contains: a 0.825, b 0.825, c 0.825, and 1 more target. The suite has no gates."
    assert sentence(run(targets=targets)) == text


def test_the_quiet_line_is_the_sentence() -> None:
    line = quiet_line(run(DROP)).plain
    assert line.startswith("FAIL qa: contains fell 8.1 points below main (allowed 5) · ")
