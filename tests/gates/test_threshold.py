"""Gates on a threshold: operators, both ends of an interval, the p-value of a fail, and the reason in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalrunner.domain import Declaration, GateResult, Metric
from evalrunner.gates.check import check_gates
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.threshold import false_failure_rate, meets, threshold_outcome
from evalrunner.stats.distributions import binomial_cdf
from evalrunner.stats.hypothesis_tests import samples_to_decide
from evalrunner.stats.power import false_failure_rate_of_mean, false_failure_rate_of_share
from evalrunner.stats.summary import Measure, summarize
from evalrunner.suite.schema import GateSpec, Operator
from tests.gates.builders import judge, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("quality", Declaration(aggregates=("mean", "variance", "p90", "ratio")))
OPEN = Measure("cost", Declaration(low=None, high=None, higher_is_better=False, aggregates=("mean", "p50", "p90")))
FLOOR = Measure("words", Declaration(low=0.0, high=None, aggregates=("mean", "p50", "p90")))
CEILING = Measure("words", Declaration(low=None, high=9.0, aggregates=("mean", "p50", "p90")))
DOWN = "server: 503"


def gate(operator: Operator, bound: float, measure: Measure = EXACT, aggregate: str = "mean", confidence: float | None = None) -> Gate:  # fmt: skip
    spec = GateSpec("g", measure.name, operator, bound, confidence=confidence)
    return Gate(spec, measure, aggregate, measure.metric_name(aggregate))


def one(text: str, scores: list[float | str | None], measure: Measure = EXACT, **more: object) -> GateResult:
    (result,) = judge(text, measure, rows(scores, measure.name), **more)  # type: ignore[arg-type]
    return result


def right(count: int, n: int = 100) -> list[float | str | None]:
    return [1.0] * count + [0.0] * (n - count)


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [(">=", False, True, True), (">", False, False, True), ("<=", True, True, False), ("<", True, False, False), ("==", False, True, False)],
)  # fmt: skip
def test_what_meets_a_threshold(operator: Operator, *, below: bool, at: bool, above: bool) -> None:
    assert [meets(gate(operator, 0.5), value) for value in (0.4, 0.5, 0.6)] == [below, at, above]


@pytest.mark.parametrize(
    ("operator", "count", "passed", "fails"),
    [
        (">=", 87, True, False), (">=", 86, False, False), (">=", 73, False, False), (">=", 72, False, True),
        (">", 87, True, False), (">", 72, False, True),
        ("<=", 72, True, False), ("<=", 73, False, False), ("<=", 86, False, False), ("<=", 87, False, True),
        ("<", 72, True, False), ("<", 87, False, True),
    ],
)  # fmt: skip
def test_a_gate_with_confidence_passes_by_its_bad_end_and_fails_by_its_good_one(
    operator: Operator, count: int, *, passed: bool, fails: bool
) -> None:
    outcome, missed = threshold_outcome(gate(operator, 0.8, confidence=0.95), [1.0] * count + [0.0] * (100 - count))
    assert (outcome.passed, outcome.p_fail <= 0.05) == (passed, fails)
    assert missed is (count < 80 if operator in (">=", ">") else count > 80)


def test_the_p_value_of_a_fail_is_exact_for_shares() -> None:
    scores = [1.0] * 68 + [0.0] * 32
    outcome, _ = threshold_outcome(gate(">=", 0.8, confidence=0.95), scores)
    assert outcome.p_fail == pytest.approx(binomial_cdf(68, 100, 0.8), abs=1e-6)
    mirrored, _ = threshold_outcome(gate("<=", 0.2, confidence=0.95), [1.0 - score for score in scores])
    assert mirrored.p_fail == pytest.approx(outcome.p_fail, abs=1e-6)
    assert threshold_outcome(gate(">=", 0.8, confidence=0.95), [1.0] * 80 + [0.0] * 20)[0].p_fail == 1.0


def test_a_gate_without_confidence_has_no_p_value_in_between() -> None:
    assert threshold_outcome(gate(">=", 0.8), [1.0] * 80 + [0.0] * 20)[0].p_fail == 1.0
    outcome, missed = threshold_outcome(gate(">=", 0.8), [1.0] * 79 + [0.0] * 21)
    assert (outcome.passed, outcome.p_fail, missed) == (False, 0.0, True)


def test_clusters_and_their_number_decide_with_confidence() -> None:
    scores, sure = [float(place < 85) for place in range(100)], gate(">=", 0.75, confidence=0.95)
    assert threshold_outcome(sure, scores)[0].passed
    assert not threshold_outcome(sure, scores, [place // 10 for place in range(100)])[0].passed


@pytest.mark.parametrize(
    ("text", "count", "verdict", "reason"),
    [
        ("{metric: exact_match, min: 0.8, confidence: 0.95}", 90, "pass", "at least 0.8363 at 95% confidence: meets the threshold"),
        ("{metric: exact_match, min: 0.8, confidence: 0.95}", 60, "fail", "at most 0.6825 at 95% confidence: misses the threshold"),
        ("{metric: exact_match, max: 0.2, confidence: 0.9}", 10, "pass", "at most 0.1499 at 90% confidence: meets the threshold"),
        ("{metric: exact_match, max: 0.2, confidence: 0.9}", 40, "fail", "at least 0.3342 at 90% confidence: misses the threshold"),
    ],
)  # fmt: skip
def test_the_reason_names_the_end_that_decided(text: str, count: int, verdict: str, reason: str) -> None:
    result = one(text, right(count))
    assert (result.verdict, result.reason) == (verdict, reason)


def test_an_inconclusive_gate_counts_the_samples_to_its_nearer_end() -> None:
    high = one("{metric: exact_match, min: 0.8, confidence: 0.95}", right(84))
    low = one("{metric: exact_match, min: 0.8, confidence: 0.95}", right(76))
    assert (high.verdict, low.verdict) == ("inconclusive", "inconclusive")
    assert high.reason.startswith("between 0.7672 and 0.897 at 95% confidence: not conclusive. About ")
    assert (high.blocks, low.blocks) == (False, True)  # only a value on the wrong side blocks by default
    assert high.reason.endswith(" samples are needed to decide")
    assert high.gate_low is not None and low.gate_high is not None
    for result, value, end in ((high, 0.84, high.gate_low), (low, 0.76, low.gate_high)):
        needed = samples_to_decide(100, half=abs(value - end), estimate=value, bound=0.8)
        assert result.samples_to_decide == (needed.even, needed.strong)


def test_a_fail_that_holms_correction_holds_back_still_blocks() -> None:
    gates = ", ".join(["{metric: exact_match, min: 0.8, confidence: 0.95}"] + ["{metric: exact_match, min: 0.5, confidence: 0.95}"] * 5)  # fmt: skip
    first, *others = judge(gates, EXACT, rows(right(72), "exact_match"))
    assert (first.verdict, first.blocks, {one.verdict for one in others}) == ("inconclusive", True, {"pass"})
    assert "but not after Holm's correction for 6 gates" in first.reason
    strict = judge(gates.replace("min: 0.8", "max: 0.63"), EXACT, rows(right(72), "exact_match"))[0]
    assert (strict.verdict, strict.reason.partition(" at 95%")[0]) == ("inconclusive", "at least 0.6368")


def test_strict_operators_name_the_same_ends() -> None:
    spec = GateSpec("exact_match > 0.8", "exact_match", ">", 0.8, kind="confidence", confidence=0.95)
    summary = summarize(rows(right(90), "exact_match"), [EXACT], ["m"])
    (above,) = check_gates([Gate(spec, EXACT, "mean", "exact_match/v1")], summary)
    assert (above.verdict, above.reason) == ("pass", "at least 0.8363 at 95% confidence: meets the threshold")
    below = replace(spec, operator="<", bound=0.99)
    (under,) = check_gates([Gate(below, EXACT, "mean", "exact_match/v1")], summary)
    assert (under.verdict, under.reason.partition(" ")[0:1]) == ("pass", ("at",))
    assert under.reason.startswith("at most ")


def test_no_interval_is_named_with_its_reason() -> None:
    few = one("{metric: quality, min: 0.5, confidence: 0.95}", [0.4, 0.6] * 4, GRADED)
    assert (few.verdict, few.reason) == (
        "inconclusive", "not conclusive: no interval: 8 values, at least 20 are needed",
    )  # fmt: skip


def test_an_equality_holds_or_fails_only_if_every_filling_agrees() -> None:
    assert one("quality == 0.5", [0.5] * 98 + [DOWN] * 2, GRADED).verdict == "untrusted"
    assert one("quality == 0.49", [0.5] * 98 + [DOWN] * 2, GRADED).verdict == "untrusted"  # both at 0
    assert one("quality == 0.51", [0.5] * 98 + [DOWN] * 2, GRADED).verdict == "untrusted"  # both at 1
    assert one("quality == 0.48", [0.5] * 98 + [DOWN] * 2, GRADED).verdict == "fail"


def test_a_quantile_without_an_end_is_inconclusive_and_says_so() -> None:
    result = one("{metric: words/p90, max: 100, confidence: 0.95}", [float(place) for place in range(20)], FLOOR)
    assert result.verdict == "inconclusive"
    assert "and no end at 95% confidence (no upper end" in result.reason


def test_a_point_gate_says_that_its_threshold_lies_inside_the_interval() -> None:
    noise = "threshold is inside the 95% CI: not conclusive"
    assert one("exact_match >= 0.8", right(82)).reason == noise
    assert one("exact_match >= 0.8", right(78)).reason == f"misses the threshold; {noise}"
    assert one("exact_match >= 0.8", right(99)).reason == "meets the threshold"
    edge = one("exact_match >= 0.8", right(82))
    assert edge.low is not None and edge.high is not None
    for end, reason in ((edge.low, "meets the threshold"), (edge.high, "misses the threshold")):
        assert one(f"exact_match >= {end!r}", right(82)).reason == reason


@pytest.mark.parametrize(
    ("measure", "aggregate", "between"),
    [
        (GRADED, "mean", "0.5 on 2 of 4 answers, 0.25 to 0.75 with the rest"),
        (OPEN, "p50", "0.5 on 4 of 10 answers, any value with the rest"),
        (FLOOR, "p50", "0.5 on 4 of 10 answers, 0 or more with the rest"),
        (CEILING, "p50", "0.5 on 4 of 10 answers, 9 or less with the rest"),
    ],
)
def test_what_a_metric_could_be_is_open_where_its_range_is(measure: Measure, aggregate: str, between: str) -> None:
    scores: list[float | str | None] = [0.5, 0.5, DOWN, DOWN] if measure is GRADED else [0.5] * 4 + [DOWN] * 6
    bound = "max: 0.9" if measure is OPEN else "min: 0.1"
    result = one(f"{{metric: {measure.name}/{aggregate}, {bound}}}", scores, measure)
    assert result.verdict == "untrusted"
    assert result.reason.startswith(f"{between}: the provider failed on")


def test_an_open_mean_has_no_ends_to_name() -> None:
    result = one("{metric: cost/mean, max: 9}", [0.5, DOWN], OPEN)
    assert result.reason == "scored 1 of 2 answers: the provider failed on 1 (server)"


def test_min_coverage_is_the_least_share_that_is_trusted() -> None:
    for coverage, verdict in ((0.5, "pass"), (0.51, "untrusted")):
        gate = f"{{metric: exact_match, min: 0.4, min_coverage: {coverage}}}"
        assert one(gate, [1.0, 1.0, DOWN, DOWN]).verdict == verdict
    assert one("{metric: exact_match, min: 0.0, min_coverage: 0}", [DOWN, DOWN]).verdict == "untrusted"


def test_no_sample_that_was_run_is_untrusted() -> None:
    result = one("exact_match >= 0.5", [])
    assert (result.verdict, result.reason, result.value) == ("untrusted", "no sample was run", None)


def metric(value: float | None, low: float | None = None, high: float | None = None, n: int = 100) -> Metric:
    return Metric("m", "m", "mean", value, n, low=low, high=high)


def test_false_failures_of_a_share_are_exact_and_those_of_a_mean_by_its_interval() -> None:
    share = metric(0.82, 0.73, 0.88)
    for operator, lower, strict in ((">=", True, False), (">", True, True), ("<=", False, False), ("<", False, True)):
        expected = false_failure_rate_of_share(0.82, 50, 0.8, lower=lower, strict=strict)
        assert false_failure_rate(gate(operator, 0.8), share, 50, clustered=False) == expected  # type: ignore[arg-type]
    error = (0.88 - 0.73) / 3.919927969080108 * 2**0.5  # over half as many samples
    for operator, lower in ((">=", True), ("<", False)):
        expected = false_failure_rate_of_mean(0.82, error, 0.8, df=49, lower=lower)
        for one_gate, clustered in ((gate(operator, 0.8, GRADED), False), (gate(operator, 0.8), True)):  # type: ignore[arg-type]
            assert false_failure_rate(one_gate, share, 50, clustered=clustered) == pytest.approx(expected)
    single = false_failure_rate(gate(">=", 0.8, GRADED), share, 1, clustered=False)
    assert single == pytest.approx(false_failure_rate_of_mean(0.82, error * 50**0.5, 0.8, df=1))


def test_false_failures_are_unknown_without_a_value_or_an_interval() -> None:
    known = metric(0.82, 0.73, 0.88)
    graded = gate(">=", 0.8, GRADED)
    assert false_failure_rate(graded, known, 50, clustered=False) is not None
    for last in (metric(None), metric(0.82, None, 0.88), metric(0.82, 0.73, None), metric(0.82, 0.73, 0.88, n=1)):
        assert false_failure_rate(graded, last, 50, clustered=False) is None
    assert false_failure_rate(graded, metric(0.82, 0.73, 0.88, n=2), 50, clustered=False) is not None
    assert false_failure_rate(gate("==", 0.8), known, 50, clustered=False) is None
    assert false_failure_rate(gate(">=", 0.8, GRADED, "variance"), known, 50, clustered=False) is None


def test_ignored_answers_are_named_and_not_filled_in() -> None:
    scores = right(97)[:97] + [DOWN] * 3
    ignored = one("{metric: exact_match, min: 0.99, missing: ignore}", scores)
    assert (ignored.verdict, "missing answers are ignored: scored 97 of 100 answers" in ignored.reason) == (
        "pass",
        True,
    )
    assert one("{metric: exact_match, min: 0.99}", scores).verdict == "untrusted"


def test_an_inconclusive_verdict_with_missing_answers_does_not_claim_to_hold() -> None:
    scores = right(84, 98) + [DOWN] * 2
    result = one("{metric: exact_match, min: 0.8, confidence: 0.95}", scores)
    assert result.verdict == "inconclusive"
    assert result.details[0] == "scored 98 of 100 answers: the provider failed on 2 (server)"
