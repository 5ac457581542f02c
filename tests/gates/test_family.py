"""Fails of the gates of a suite share one correction; gates on every value of a slice column."""

from __future__ import annotations

import pytest

from evalrunner.domain import Declaration, GateResult
from evalrunner.stats.distributions import binomial_cdf
from evalrunner.stats.summary import Design, Measure
from tests.gates.builders import judge, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("quality", Declaration())
SURE = "{metric: '%s', min: %s, confidence: 0.95%s}"
TOPICS = [f"t{number}" for number in range(10)]
BY_TOPIC = Design(slices=("topic",))


def by_topic(right: list[int], gate: str, *, n: int = 100) -> list[GateResult]:
    """The verdicts on ten topics with n samples each, `right` of which are right."""
    scores = [float(place < count) for count in right for place in range(n)]
    about = [{"topic": topic} for topic in TOPICS for _ in range(n)]
    return judge(gate, EXACT, rows(scores, "exact_match", about), design=BY_TOPIC)


def test_a_gate_on_every_value_of_a_column_is_one_gate_for_each() -> None:
    results = by_topic([90] * 10, SURE % ("exact_match[topic=*]", 0.7, ""))
    assert [result.slice for result in results] == [{"topic": topic} for topic in TOPICS]
    assert results[3].gate == "exact_match[topic=t3] >= 0.7 at 0.95 confidence"
    assert {result.verdict for result in results} == {"pass"}


def test_a_fail_needs_a_smaller_p_value_among_ten_gates() -> None:
    p_value = binomial_cdf(72, 100, 0.8)  # of 72 right, at a bound of .8
    assert 0.005 < p_value < 0.05
    right = [72, *[80] * 9]
    corrected = by_topic(right, SURE % ("exact_match[topic=*]", 0.8, ""))
    alone = by_topic(right, SURE % ("exact_match[topic=*]", 0.8, ", family: none"))
    assert (corrected[0].verdict, alone[0].verdict) == ("inconclusive", "fail")
    assert corrected[0].reason == "at most 0.7931 at 95% confidence, but not after Holm's correction for 10 gates"
    assert by_topic([60, *[80] * 9], SURE % ("exact_match[topic=*]", 0.8, ""))[0].verdict == "fail"


def test_holm_steps_down_once_a_gate_has_failed() -> None:
    assert binomial_cdf(60, 100, 0.8) < 0.025 < binomial_cdf(72, 100, 0.8) < 0.05
    both = f"{SURE % ('exact_match[topic=t0]', 0.8, '')}, {SURE % ('exact_match[topic=t1]', 0.8, '')}"
    assert [each.verdict for each in by_topic([60, 73, *[80] * 8], both)] == ["fail", "inconclusive"]
    assert [each.verdict for each in by_topic([60, 72, *[80] * 8], both)] == ["fail", "fail"]
    assert [each.verdict for each in by_topic([80, 72, *[80] * 8], both)] == ["inconclusive", "inconclusive"]


def test_point_gates_are_outside_of_the_family() -> None:
    gates = f"{SURE % ('exact_match[topic=t0]', 0.8, '')}, exact_match >= 0.1, 'exact_match[topic=t1] >= 0.9'"
    assert [each.verdict for each in by_topic([72, *[80] * 9], gates)] == ["fail", "pass", "fail"]


def test_gates_of_a_threshold_and_of_a_baseline_share_the_correction() -> None:
    before = rows([1.0] * 90 + [0.0] * 10, "exact_match")
    now = rows([1.0] * 80 + [0.0] * 20, "exact_match")  # ten worse, none better
    drop = "{metric: exact_match, baseline: main, max_drop: %s%s}"
    alone = judge(drop % (0.055, ""), EXACT, now, before=before)[0]
    assert alone.verdict == "fail"
    with_others = [drop % (0.055, ""), *[SURE % ("exact_match", bound, "") for bound in (0.79, 0.8, 0.81)]]
    assert judge(", ".join(with_others), EXACT, now, before=before)[0].verdict == "inconclusive"
    apart = [drop % (0.055, ", family: none"), *with_others[1:]]
    assert judge(", ".join(apart), EXACT, now, before=before)[0].verdict == "fail"


@pytest.mark.parametrize("family", ["", ", family: none"])
def test_a_pass_needs_no_correction(family: str) -> None:
    right = [88, *[80] * 9]  # passes alone: at least .813 at 95%
    assert by_topic(right, SURE % ("exact_match[topic=*]", 0.81, family))[0].verdict == "pass"


def test_graded_gates_have_a_p_value_that_holm_can_correct() -> None:
    scores = rows([0.7] * 30 + [0.8] * 30, "quality")
    clear, close = (SURE % ("quality", bound, "") for bound in (0.8, 0.774))
    assert [each.verdict for each in judge(close, GRADED, scores)] == ["fail"]
    assert [each.verdict for each in judge(f"{close}, {close}, {close}", GRADED, scores)] == ["inconclusive"] * 3
    assert [each.verdict for each in judge(f"{close}, {clear}, {clear}", GRADED, scores)] == ["fail"] * 3
