"""Gates on a terminal: verdict and numbers first, reasons on at most two lines, details with -v, in any width."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from evalrunner.domain import BaselineResult, GateResult
from evalrunner.reports.gate_lines import GateLines

PASS = GateResult(
    "contains >= 0.8", "a", "contains/v1", 0.906, 0.868, 0.934, 0.8, "pass", "meets the threshold", line=4
)
LONG = " ".join(f"word{place}" for place in range(60))
UNSURE = replace(PASS, gate="exact_match >= 0.75 at 0.95 confidence", verdict="inconclusive", reason=LONG, line=5)


def lines(*gates: GateResult, width: int = 80, verbose: bool = False) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False, emoji=False).print(GateLines(gates, verbose=verbose))
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def test_a_pass_is_one_line_without_a_reason_that_its_numbers_state() -> None:
    assert lines(PASS) == ["PASS  contains >= 0.8   0.906   95% CI 0.868–0.934"]
    close = replace(PASS, reason="threshold is inside the 95% CI: not conclusive")
    assert lines(close)[1:] == ["      threshold is inside the 95% CI: not conclusive"]


def test_a_failed_gate_has_its_reason_and_line() -> None:
    failed = replace(PASS, verdict="fail", value=0.79, reason="misses the threshold")
    assert lines(failed)[1:] == ["      misses the threshold (line 4)"]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_reasons_have_at_most_two_lines_and_fit_the_width(width) -> None:
    shown = lines(PASS, UNSURE, width=width)
    assert all(len(line) <= width for line in shown)
    reason = [line for line in shown if "word" in line]
    assert len(reason) == 2 and reason[-1].endswith("… (line 5)")
    assert shown[-1].strip() == "-v shows the details"
    assert any("0.906   95% CI 0.868–0.934" in line for line in shown), "the numbers of a gate stay together"


def test_verbose_shows_the_whole_reason_and_every_detail() -> None:
    base = BaselineResult(name="main", origin=None, value=0.9, drop=0.01, n=200, excluded=3, missing=2)
    gate = replace(UNSURE, details=("242 samples decide with 80% power",), baseline=base)
    text = " ".join(" ".join(lines(gate, width=60, verbose=True)).split())
    assert LONG in text and "…" not in text and "-v shows" not in text
    assert "baseline main: 0.900, 200 pairs, 3 samples excluded, 2 without a score" in text
    assert "242 samples decide with 80% power" in text
    bound = replace(UNSURE, confidence=0.95, gate_low=0.8712, gate_high=None)
    assert "one-sided 95% bounds: ≥ 0.871" in " ".join(lines(bound, verbose=True))


def test_hidden_details_are_announced() -> None:
    short = replace(UNSURE, reason="not conclusive", details=("more",))
    assert lines(short)[-1].strip() == "-v shows the details"
    assert "-v" not in " ".join(lines(replace(short, details=())))


def test_the_target_stands_beside_the_gate_if_there_are_several() -> None:
    other = replace(PASS, target="b")
    assert [line.split("   ")[0] for line in lines(PASS, other)] == [
        "PASS  contains >= 0.8 · a",
        "PASS  contains >= 0.8 · b",
    ]


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        ({"value": 0.7996, "low": None, "high": None}, "0.7996"),
        ({"value": 3e-7, "low": 1e-7, "high": 4e-7, "bound": 2e-7}, "3e-07   95% CI 1e-07 to 4e-07"),
        (
            {"value": 1e9 + 2, "low": 1e9, "high": 1e9 + 3, "bound": 1e9},
            "1,000,000,002   95% CI 1,000,000,000–1,000,000,003",
        ),
        ({"value": None, "low": None, "high": None}, ""),
    ],
)
def test_numbers_are_told_from_each_other_and_from_the_threshold(change: dict[str, Any], numbers: str) -> None:
    assert lines(replace(PASS, **change)) == [f"PASS  contains >= 0.8   {numbers}".rstrip()]
