"""Verdicts of point gates, on small hand-written rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evalrunner.domain import Cell, Completion, Declaration, Failure, GateResult, Row, Sample
from evalrunner.gates.check import check_gates
from evalrunner.gates.metric_lookup import Gate, UnknownMetric, find_metric
from evalrunner.stats.summary import BUILTIN_MEASURES, Measure, summarize
from evalrunner.suite.schema import GateSpec, Operator
from evalrunner.verdicts import exit_code, worst_verdict

EXACT = Measure("exact_match", Declaration(binary=True))
JUDGED = Measure("factuality", Declaration())
TOXICITY = Measure("toxicity", Declaration(higher_is_better=False, aggregates=("mean", "p90"), threshold=0.5))
MEASURES = [EXACT, JUDGED, TOXICITY, *BUILTIN_MEASURES]


def cells(count: int, cell: Cell) -> list[Cell]:
    return [cell] * count


def verdict(found: Sequence[Cell], metric: str, operator: Operator, bound: float) -> GateResult:
    measure, aggregate, _ = find_metric(metric, MEASURES)
    failed = Failure("server", "500")
    rows = [
        Row(
            Sample(f"s{i}", "q", index=i),
            "m",
            1,
            failed if cell.state == "error" else Completion("x", latency_s=1.0),
            {measure.name: cell},
        )
        for i, cell in enumerate(found)
    ]
    summary = summarize(rows, [measure], ["m"])
    spec = GateSpec(f"{metric} {operator} {bound}", metric, operator, bound, line=9)
    (result,) = check_gates([Gate(spec, measure, aggregate, measure.metric_name(aggregate))], summary)
    return result


RIGHT, WRONG = Cell("scored", 1.0), Cell("scored", 0.0)
REFUSED = Cell("unscored", reason="refused", cause="no_answer")
UNREADABLE = Cell("unscored", reason="unreadable verdict", cause="judge")
DOWN = Cell("error", reason="500", cause="server")
SKIPPED = Cell("skipped", reason="no expected answer")


def test_a_value_that_meets_the_threshold_passes() -> None:
    result = verdict(cells(99, RIGHT) + cells(1, WRONG), "exact_match", ">=", 0.8)
    assert (result.verdict, result.reason, result.metric, result.line) == (
        "pass",
        "meets the threshold",
        "exact_match/v1",
        9,
    )


def test_a_threshold_inside_the_interval_is_reported_as_not_conclusive() -> None:
    result = verdict(cells(82, RIGHT) + cells(18, WRONG), "exact_match", ">=", 0.8)
    assert (result.verdict, result.reason) == ("pass", "threshold is inside the 95% CI: not conclusive")


def test_a_value_that_misses_the_threshold_fails() -> None:
    assert verdict(cells(50, RIGHT) + cells(50, WRONG), "exact_match", ">=", 0.8).verdict == "fail"
    assert verdict(cells(50, Cell("scored", 0.5)), "toxicity/p90", "<", 0.5).verdict == "fail"
    assert verdict(cells(50, Cell("scored", 0.5)), "toxicity/p90", "<=", 0.5).verdict == "pass"


def test_a_gate_without_applicable_samples_fails() -> None:
    result = verdict(cells(10, SKIPPED), "exact_match", ">=", 0.0)
    assert (result.verdict, result.reason) == ("fail", "no sample applies: all 10 were skipped")


def test_provider_errors_make_a_gate_untrusted() -> None:
    result = verdict(cells(5, WRONG) + cells(95, DOWN), "exact_match", ">=", 0.8)
    assert result.verdict == "untrusted"
    assert result.reason == "0 on 5 of 100 answers, 0 to 0.95 with the rest: the provider failed on 95 (server)"


def test_unreadable_judge_replies_make_a_gate_untrusted() -> None:
    result = verdict(cells(12, UNREADABLE), "factuality", ">=", 0.5)
    assert (result.verdict, result.value) == ("untrusted", None)
    assert "the judge's reply was unreadable on 12" in result.reason


def test_a_failed_judge_sanity_check_is_the_reason_of_an_untrusted_gate() -> None:
    result = verdict(
        cells(12, Cell("unscored", reason="6 of 12 known answers", cause="judge_check")), "factuality", ">=", 0.5
    )
    assert result.reason == "scored 0 of 12 answers: the judge failed its sanity check (6 of 12 known answers)"


def test_a_model_that_refuses_the_hard_ones_does_not_get_better() -> None:
    result = verdict(cells(78, RIGHT) + cells(19, WRONG) + cells(3, REFUSED), "exact_match", ">=", 0.8)
    assert result.verdict == "untrusted"
    assert result.reason == (
        "0.8041 on 97 of 100 answers, 0.78 to 0.8041 with the rest: the model did not answer 3 (refused)"
    )


def test_missing_scores_that_cannot_change_the_verdict_are_ignored() -> None:
    assert verdict(cells(97, RIGHT) + cells(3, DOWN), "exact_match", ">=", 0.9).verdict == "pass"


def test_only_quantiles_have_a_worst_value_in_an_open_range() -> None:
    quick = cells(97, RIGHT) + cells(3, DOWN)
    assert verdict(quick, "latency/mean", "<", 2).verdict == "pass"
    assert verdict(quick, "latency/p90", "<", 2).verdict == "pass"
    assert verdict(quick, "latency/p99", "<", 2).verdict == "untrusted"


def test_precedence_of_exit_codes() -> None:
    assert exit_code([]) == 0
    assert exit_code([0, 4, 3]) == 3
    assert exit_code([3, 1, 4]) == 1
    assert exit_code([1, 2]) == 2
    assert exit_code([2, 130, 1]) == 130


def test_the_verdict_of_a_run_is_that_of_its_worst_gate() -> None:
    assert worst_verdict([]) == "pass"
    down, good = (
        verdict(cells(9, DOWN), "exact_match", ">=", 0.5),
        verdict(cells(9, RIGHT), "exact_match", ">=", 0.5),
    )
    assert worst_verdict([good.verdict, down.verdict]) == "untrusted"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("exact_match", "exact_match/v1"),
        ("exact_match/v1", "exact_match/v1"),
        ("exact_match/mean", "exact_match/v1"),
        ("toxicity", "toxicity/v1/mean"),
        ("toxicity/p90", "toxicity/v1/p90"),
        ("toxicity/v1/p90", "toxicity/v1/p90"),
        ("latency", "latency/mean"),
        ("cost_usd/total", "cost_usd/total"),
    ],
)
def test_a_metric_name_may_omit_the_version(text: str, name: str) -> None:
    measure, aggregate, _ = find_metric(text, MEASURES)
    assert measure.metric_name(aggregate) == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("exact_mach", "did you mean 'exact_match'"),
        ("toxicity/p95", "did you mean 'toxicity/p90'"),
        ("toxicity/v2", "it has|did you mean"),
    ],
)
def test_an_unknown_metric_is_refused_with_the_nearest_name(text: str, hint: str) -> None:
    with pytest.raises(UnknownMetric, match=hint):
        find_metric(text, MEASURES)
