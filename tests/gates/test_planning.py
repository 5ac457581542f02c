"""The power that a plan states for a gate, against the verdicts of that gate on drawn scores."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from evalrunner.domain import Declaration, Metric
from evalrunner.gates.build import GateBuilder
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.planning import EarlierPairs, Family, family_of, regression_power, threshold_power
from evalrunner.gates.threshold import meets
from evalrunner.stats.aggregates import gate_bounds
from evalrunner.stats.hypothesis_tests import non_inferiority
from evalrunner.stats.intervals import wilson
from evalrunner.stats.power import PairedSpread
from evalrunner.stats.sequential import SequentialTest
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, summarize
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document
from tests.gates.builders import judge, rows

RIGHT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("token_f1", Declaration())
SECONDS = Measure("delay", Declaration(low=0.0, high=None, higher_is_better=False, unit="s"))


def gate_of(text: str, measure: Measure = RIGHT) -> Gate:
    """The gate of one line of a suite."""
    document = parse_document(f"gates: [{text}]", file="s.yaml")
    specs = read_gates(SectionReader(document, Path()), document.data)
    builder = GateBuilder(document, [measure, *BUILTIN_MEASURES], targets=["m"], design=Design(), epochs=1)
    (gate,) = builder.build(specs)
    document.raise_problems()
    return gate


@pytest.mark.parametrize(
    "text", ["{metric: exact_match, min: 0.8, confidence: 0.95}", "{metric: exact_match, max: 0.3, confidence: 0.9}"]
)
def test_a_share_has_the_stated_power_by_the_verdicts_at_every_count(text: str) -> None:
    binom = pytest.importorskip("scipy.stats").binom
    n = 60
    verdicts = [
        judge(text, RIGHT, rows([1.0] * count + [0.0] * (n - count), "exact_match"))[0].verdict
        for count in range(n + 1)
    ]
    (case,) = threshold_power(gate_of(text), "m", n, family=Family(), last=None).cases
    for value, wanted in ((case.passes, "pass"), (case.fails, "fail")):
        assert value is not None
        power = sum(binom.pmf(count, n, value) for count in range(n + 1) if verdicts[count] == wanted)
        assert power == pytest.approx(0.8, abs=1e-6), wanted


@pytest.mark.parametrize("operator", [">=", ">", "<=", "<"])
def test_a_gate_without_confidence_states_values_that_pass_and_fail_in_95_percent(operator: str) -> None:
    binom = pytest.importorskip("scipy.stats").binom
    n, text = 50, f"exact_match {operator} 0.8"
    (case,) = threshold_power(gate_of(text), "m", n, family=Family(), last=None).cases
    verdicts = [
        judge(text, RIGHT, rows([1.0] * count + [0.0] * (n - count), "exact_match"))[0].verdict
        for count in range(n + 1)
    ]
    for value, wanted in ((case.passes, "pass"), (case.fails, "fail")):
        assert value is not None
        assert sum(binom.pmf(count, n, value) for count in range(n + 1) if verdicts[count] == wanted) == pytest.approx(
            0.95
        )


def test_level_and_family_move_the_stated_values() -> None:
    def ends(confidence: float, tests: int = 1) -> tuple[float, float]:
        gate = gate_of(f"{{metric: exact_match, min: 0.8, confidence: {confidence}}}")
        (case,) = threshold_power(gate, "m", 200, family=Family(tests), last=None).cases
        assert case.passes is not None and case.fails is not None
        return case.passes, case.fails

    assert ends(0.99)[0] > ends(0.95)[0] > ends(0.8)[0]
    assert ends(0.99)[1] < ends(0.95)[1] < ends(0.8)[1]
    assert ends(0.95, tests=10)[0] == ends(0.95)[0]
    assert ends(0.95, tests=10)[1] < ends(0.95)[1]


def test_too_few_samples_can_never_pass() -> None:
    gate = gate_of("{metric: exact_match, min: 0.95, confidence: 0.95}")
    (case,) = threshold_power(gate, "m", 20, family=Family(), last=None).cases
    assert case.passes is None
    assert case.fails is not None


def test_drops_depend_on_margin_level_and_family() -> None:
    def drops(text: str, tests: int = 1) -> list[float]:
        power = regression_power(
            gate_of(f"{{metric: exact_match, baseline: main, {text}}}"), "m", 500, family=Family(tests), earlier=None
        )
        assert [case.discordance for case in power.cases] == [0.05, 0.1, 0.3]
        case = power.cases[1]
        return [value if value is not None else float("nan") for value in (case.passes, case.worse, case.fails)]

    base = drops("max_drop: 0.05")
    assert base[0] < base[1] < base[2]
    assert drops("max_drop: 0.05, confidence: 0.99")[0] < base[0] < drops("max_drop: 0.05, confidence: 0.8")[0]
    assert drops("max_drop: 0.05, confidence: 0.99")[2] > base[2] > drops("max_drop: 0.05, confidence: 0.8")[2]
    assert drops("max_drop: 0.05", tests=8)[2] > base[2]
    assert drops("max_drop: 0.02")[2] < base[2]


def test_samples_for_an_equal_model_are_a_range_over_the_discordance() -> None:
    gate = gate_of("{metric: exact_match, baseline: main, max_drop: 0.05}")
    power = regression_power(gate, "m", 500, family=Family(), earlier=None)
    assert power.samples is not None
    low, high = power.samples
    assert 120 <= low <= 170 and 720 <= high <= 770
    earlier = EarlierPairs(PairedSpread(0.1, None, 300), 0.1)
    assert regression_power(gate, "m", 500, family=Family(), earlier=earlier).samples == (286, 286)


def test_clusters_widen_what_is_stated() -> None:
    gate = gate_of("{metric: exact_match, baseline: main, max_drop: 0.05}")
    plain = regression_power(gate, "m", 500, family=Family(), earlier=EarlierPairs(PairedSpread(0.1, None, 500), 0.1))
    clustered = regression_power(
        gate, "m", 500, family=Family(), earlier=EarlierPairs(PairedSpread(0.3, 49, 500), 0.1, deff=3.0)
    )
    assert (clustered.cases[0].passes or 0) < (plain.cases[0].passes or 0)
    assert (clustered.cases[0].fails or 0) > (plain.cases[0].fails or 0)
    assert clustered.samples is not None and plain.samples is not None
    assert clustered.samples[0] > 2.5 * plain.samples[0]


def test_graded_scores_are_unknown_without_earlier_runs() -> None:
    gate = gate_of("{metric: token_f1, baseline: main, max_drop: 0.05}", GRADED)
    assert "one more run" in (regression_power(gate, "m", 500, family=Family(), earlier=None).unknown or "")
    few = regression_power(gate, "m", 19, family=Family(), earlier=EarlierPairs(PairedSpread(0.1, None, 30), 0.5))
    assert "fewer than 20" in (few.unknown or "")
    mean = gate_of("{metric: token_f1, min: 0.8, confidence: 0.95}", GRADED)
    assert "after one run" in (threshold_power(mean, "m", 500, family=Family(), last=None).unknown or "")


def graded_scores(draw: random.Random, mean: float, n: int) -> list[float]:
    """Beta scores with this mean and the spread of a Beta(4, 1)."""
    return [draw.betavariate(5 * mean, 5 * (1 - mean)) for _ in range(n)]


@pytest.mark.parametrize("bound", ["min", "max"])
def test_a_graded_mean_has_about_the_stated_power(bound: str) -> None:
    draw, n = random.Random(7), 100
    gate = gate_of(f"{{metric: token_f1, {bound}: 0.75, confidence: 0.95}}", GRADED)
    metrics = summarize(rows(graded_scores(draw, 0.8, 2000), "token_f1"), [GRADED], ["m"]).metrics("m")
    (metric,) = (metric for metric in metrics if metric.scorer == "token_f1")
    (case,) = threshold_power(gate, "m", n, family=Family(), last=metric).cases

    def verdict(scores: list[float]) -> str:
        bounds = gate_bounds(gate.estimand, scores, confidence=0.95)
        assert bounds.low is not None and bounds.high is not None
        bad, good = (bounds.low, bounds.high) if bound == "min" else (bounds.high, bounds.low)
        return "pass" if meets(gate, bad) else "inconclusive" if meets(gate, good) else "fail"

    for value, wanted in ((case.passes, "pass"), (case.fails, "fail")):
        assert value is not None
        verdicts = [verdict(graded_scores(draw, value, n)) for _ in range(1000)]
        assert verdicts.count(wanted) / 1000 == pytest.approx(0.8, abs=0.045), wanted


def test_a_graded_drop_has_about_the_stated_power() -> None:
    draw, n, spread = random.Random(8), 100, 0.15
    gate = gate_of("{metric: token_f1, baseline: main, max_drop: 0.05}", GRADED)
    earlier = EarlierPairs(PairedSpread(spread**2, None, 500), 1.0)
    (case,) = regression_power(gate, "m", n, family=Family(), earlier=earlier).cases

    def share(drop: float | None, outcome: str) -> float:
        assert drop is not None
        results = [
            non_inferiority([drop + draw.gauss(0, spread) for _ in range(n)], max_drop=0.05, span=1.0)
            for _ in range(1000)
        ]
        if outcome == "worse":
            return sum(1 for one in results if one.worse and one.decision != "pass") / 1000
        return sum(1 for one in results if one.decision == outcome) / 1000

    assert share(case.passes, "pass") == pytest.approx(0.8, abs=0.045)
    assert share(case.fails, "fail") == pytest.approx(0.8, abs=0.045)
    assert share(case.worse, "worse") == pytest.approx(0.8, abs=0.045)


def test_a_drop_that_passes_is_not_called_worse() -> None:
    gate = gate_of("{metric: token_f1, baseline: main, max_drop: 0.05}", GRADED)
    earlier = EarlierPairs(PairedSpread(0.1, None, 3000), 0.1)
    (case,) = regression_power(gate, "m", 3000, family=Family(), earlier=earlier).cases
    assert case.passes is not None and case.worse is not None
    assert case.passes < case.worse < 0.05  # a drop of .015 is significant, but passes

    draw = random.Random(3)
    count = 0
    for _ in range(200):
        result = non_inferiority([case.worse + draw.gauss(0, 0.1**0.5) for _ in range(3000)], max_drop=0.05, span=1.0)
        count += result.worse and result.decision != "pass"
    assert count / 200 == pytest.approx(0.8, abs=0.09)


def test_the_family_counts_tested_gates() -> None:
    point, share = gate_of("exact_match >= 0.8"), gate_of("{metric: exact_match, min: 0.8, confidence: 0.95}")
    drop = gate_of("{metric: exact_match, baseline: main, max_drop: 0.05}")
    alone = gate_of("{metric: exact_match, min: 0.8, confidence: 0.95, family: none}")
    planned = [point, share, share, drop, alone]
    assert family_of(share, planned) == family_of(drop, planned) == Family(3, 1)
    assert family_of(point, planned) == family_of(alone, planned) == Family(1, 1)


def test_a_required_improvement_is_corrected_among_gates_on_a_baseline() -> None:
    gate = gate_of("{metric: exact_match, baseline: main, improved: true}")

    def gain(family: Family) -> float:
        drop = regression_power(gate, "m", 300, family=family, earlier=None).cases[1].passes
        assert drop is not None
        return -drop

    assert gain(Family(8, 4)) > gain(Family(8, 1)) == gain(Family(1, 1))


def test_the_false_alarm_rate_of_the_last_value_is_stated() -> None:
    last = Metric("exact_match/v1", "exact_match", "mean", 0.82, 100, low=0.73, high=0.88)
    power = threshold_power(gate_of("exact_match >= 0.8"), "m", 100, family=Family(), last=last)
    assert power.false_failures == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(("value", "tests"), [(0.85, 1), (0.75, 1), (0.75, 10)])
def test_the_samples_to_decide_at_the_last_value_have_80_percent_power(value: float, tests: int) -> None:
    gate = gate_of("{metric: exact_match, min: 0.8, confidence: 0.95}")
    low, high = wilson(value * 200, 200)
    last = Metric("exact_match/v1", "exact_match", "mean", value, 200, low=low, high=high)
    samples = threshold_power(gate, "m", 200, family=Family(tests), last=last).samples
    assert samples is not None
    n = samples[0]
    (case,) = threshold_power(gate, "m", n, family=Family(tests), last=None).cases
    edge = case.passes if value > 0.8 else case.fails
    assert edge == pytest.approx(value, abs=0.004)
    close = Metric("exact_match/v1", "exact_match", "mean", 0.801, 200, low=0.74, high=0.85)
    assert threshold_power(gate, "m", 200, family=Family(), last=close).samples is None


def sequential_rate(gate: Gate, shares: tuple[float, ...], values: tuple[float, ...], n: int, decision: str) -> float:
    """How often the sequential test of a gate takes this decision within n samples, given by their distance to the bound."""
    draw, spec = random.Random(9), gate.spec
    count = 0
    for _ in range(300):
        test = SequentialTest(0.475 if spec.baseline else spec.bound, alpha_pass=0.05, alpha_fail=0.05)
        for value in draw.choices(values, shares, k=n):
            test.add(value - test.bound, value - test.bound)
            if test.decision is not None:
                break
        count += test.decision == decision
    return count / 300


def test_a_sequential_gate_has_the_power_of_its_own_test() -> None:
    gate, n = gate_of("{metric: exact_match, min: 0.8, confidence: 0.95, sequential: true}"), 300
    (case,) = threshold_power(gate, "m", n, family=Family(), last=None).cases
    (fixed,) = threshold_power(
        replace(gate, spec=replace(gate.spec, sequential=False)), "m", n, family=Family(), last=None
    ).cases
    assert case.passes is not None and case.fails is not None and fixed.passes is not None and fixed.fails is not None
    assert case.passes > fixed.passes
    assert case.fails < fixed.fails
    assert sequential_rate(gate, (case.passes, 1 - case.passes), (1.0, 0.0), n, "pass") == pytest.approx(0.8, abs=0.07)
    assert sequential_rate(gate, (case.fails, 1 - case.fails), (1.0, 0.0), n, "fail") == pytest.approx(0.8, abs=0.07)


def test_a_sequential_drop_has_the_power_of_its_own_test() -> None:
    gate, n = gate_of("{metric: exact_match, baseline: main, max_drop: 0.05, sequential: true}"), 300
    earlier = EarlierPairs(PairedSpread(0.1, None, 300), 0.1)
    (case,) = regression_power(gate, "m", n, family=Family(), earlier=earlier).cases
    assert case.passes is not None and case.fails is not None and case.worse is None
    for drop, decision in ((case.passes, "pass"), (case.fails, "fail")):
        differing = max(0.1, abs(drop))
        shares = ((differing + drop) / 2, 1 - differing, (differing - drop) / 2)
        assert sequential_rate(gate, shares, (0.0, 0.5, 1.0), n, decision) == pytest.approx(0.8, abs=0.07)
    graded = gate_of("{metric: token_f1, baseline: main, max_drop: 0.05, sequential: true}", GRADED)
    assert "sequential" in (regression_power(graded, "m", n, family=Family(), earlier=earlier).unknown or "")
