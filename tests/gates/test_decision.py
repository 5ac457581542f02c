"""From tests to verdicts: each holds for every filling, and fails share Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from evalrunner.domain import Declaration
from evalrunner.gates.decision import GateDecision, Outcome, TestedGate, decide, in_family, join, verdicts_of
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.summary import Measure
from evalrunner.suite.schema import GateSpec
from evalrunner.verdicts import Verdict

EXACT = Measure("exact_match", Declaration(binary=True))
SURE = Gate(
    GateSpec("g", "exact_match", ">=", 0.8, kind="confidence", confidence=0.95), EXACT, "mean", "exact_match/v1"
)
POINT = replace(SURE, spec=replace(SURE.spec, kind="point", confidence=None))
ALONE = replace(SURE, spec=replace(SURE.spec, family="none"))
DROP = replace(SURE, spec=replace(SURE.spec, kind="max_drop", baseline="main"))
BETTER = replace(DROP, spec=replace(DROP.spec, kind="improved"))
PASS, OPEN = Outcome(passed=True), Outcome(passed=False)


def fail(p_value: float) -> Outcome:
    return Outcome(passed=False, p_fail=p_value)


def gain(p_gain: float, p_fail: float = 1.0) -> Outcome:
    return Outcome(passed=False, p_fail=p_fail, p_gain=p_gain)


def trial(gate: Gate, observed: Outcome, *filled: Outcome, settled: GateDecision | None = None) -> TestedGate:
    def describe(verdict: Verdict, family: int) -> GateDecision:
        return GateDecision(verdict, f"family of {family}")

    def missing() -> GateDecision:
        return GateDecision("untrusted", "missing")

    return TestedGate(gate, "m", cast("Any", None), observed, filled, settled, describe, missing)


def verdicts(*gates: TestedGate) -> list[str]:
    return [decision.verdict for decision in decide(gates)]


def test_gates_with_a_test_are_one_family_unless_taken_out() -> None:
    assert [in_family(gate) for gate in (SURE, POINT, ALONE, DROP, BETTER)] == [True, False, False, True, True]
    gates = [trial(gate, OPEN) for gate in (SURE, POINT, ALONE, DROP, BETTER)]
    assert {decision.reason for decision in decide(gates)} == {"family of 3"}


@pytest.mark.parametrize(
    ("gate", "outcome", "verdict"),
    [
        (SURE, PASS, "pass"),
        (SURE, fail(0.04), "fail"),
        (SURE, fail(0.05), "fail"),  # 1 − 0.95, whatever its last bit
        (SURE, fail(0.051), "inconclusive"),
        (SURE, fail(1.0), "inconclusive"),
        (POINT, PASS, "pass"),
        (POINT, fail(0.0), "fail"),
        (BETTER, gain(0.05), "pass"),
        (BETTER, gain(0.051), "inconclusive"),
        (BETTER, gain(1.0, 0.05), "fail"),
        (BETTER, Outcome(passed=True, p_gain=0.5), "inconclusive"),
    ],
)
def test_one_gate_is_decided_by_its_p_values(gate: Gate, outcome: Outcome, verdict: str) -> None:
    assert verdicts_of([gate], [outcome]) == [verdict]


def test_fails_are_corrected_over_the_family_and_passes_are_not() -> None:
    three = [SURE, DROP, SURE]
    assert verdicts_of(three, [fail(0.02), fail(1.0), PASS]) == ["inconclusive", "inconclusive", "pass"]
    assert verdicts_of(three, [fail(0.016), fail(0.026), PASS]) == ["fail", "inconclusive", "pass"]
    assert verdicts_of(three, [fail(0.016), fail(0.024), PASS]) == ["fail", "fail", "pass"]
    assert verdicts_of([SURE, POINT, ALONE], [fail(0.04), fail(0.0), fail(0.04)]) == ["fail"] * 3


def test_required_gains_are_corrected_over_the_gates_on_baselines() -> None:
    assert verdicts_of([BETTER, SURE], [gain(0.04), fail(1.0)]) == ["pass", "inconclusive"]
    assert verdicts_of([BETTER, BETTER], [gain(0.04), gain(1.0)]) == ["inconclusive", "inconclusive"]
    assert verdicts_of([BETTER, BETTER], [gain(0.024), gain(0.04)]) == ["pass", "pass"]
    assert verdicts_of([BETTER, DROP], [gain(0.04), fail(1.0)]) == ["inconclusive", "inconclusive"]
    alone = replace(BETTER, spec=replace(BETTER.spec, family="none"))
    assert verdicts_of([alone, BETTER], [gain(0.04), gain(1.0)]) == ["pass", "inconclusive"]


@pytest.mark.parametrize(
    ("observed", "filled", "verdict"),
    [
        (PASS, [], "pass"),
        (PASS, [PASS, PASS], "pass"),
        (PASS, [PASS, OPEN], "untrusted"),
        (PASS, [fail(0.01), PASS], "untrusted"),
        (fail(0.01), [fail(0.02), fail(0.05)], "fail"),
        (fail(0.01), [fail(0.06), fail(0.01)], "untrusted"),
        (fail(0.01), [PASS, fail(0.01)], "untrusted"),
        (OPEN, [], "inconclusive"),
        (OPEN, [PASS, fail(0.2)], "inconclusive"),  # that it could pass changes nothing
        (OPEN, [PASS, fail(0.04)], "untrusted"),
        (fail(0.2), [fail(0.04), OPEN], "untrusted"),
    ],
)
def test_a_verdict_holds_only_for_every_filling(observed: Outcome, filled: Sequence[Outcome], verdict: str) -> None:
    assert verdicts(trial(SURE, observed, *filled)) == [verdict]


def test_a_gain_holds_only_for_every_filling() -> None:
    assert verdicts(trial(BETTER, gain(0.01), gain(0.02), gain(0.05))) == ["pass"]
    assert verdicts(trial(BETTER, gain(0.01), gain(0.06), gain(0.001))) == ["untrusted"]
    assert verdicts(trial(BETTER, gain(1.0, 0.01), gain(1.0, 0.02))) == ["fail"]
    assert verdicts(trial(BETTER, gain(0.5, 0.5), gain(0.9, 0.01))) == ["untrusted"]


def test_an_inconclusive_gate_could_fail_by_its_own_fillings_only() -> None:
    other = trial(SURE, OPEN, fail(0.001))  # untrusted itself
    assert verdicts(trial(SURE, OPEN, fail(0.04)), other) == ["inconclusive", "untrusted"]
    assert verdicts(trial(SURE, OPEN, fail(0.024)), other) == ["untrusted", "untrusted"]
    assert verdicts(trial(SURE, OPEN), other) == ["inconclusive", "untrusted"]
    failed = trial(SURE, fail(0.001))  # after it Holm's next step is at the level itself
    assert verdicts(trial(SURE, OPEN, fail(0.04)), failed) == ["untrusted", "fail"]


def test_a_settled_gate_keeps_its_decision_and_its_place_in_the_family() -> None:
    settled = GateDecision("no_baseline", "none yet")
    decisions = decide([trial(DROP, OPEN, settled=settled), trial(SURE, fail(0.03)), trial(SURE, PASS)])
    assert decisions[0] is settled
    assert [decision.verdict for decision in decisions[1:]] == ["inconclusive", "pass"]
    assert decisions[1].reason == "family of 3"


def test_parts_of_a_reason_that_are_missing_leave_no_gap() -> None:
    assert join(["a", None, "", "b"]) == "a; b"
