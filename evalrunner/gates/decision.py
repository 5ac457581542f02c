"""Tests of gates to verdicts: each holds for every filling of what is missing, and fails share one correction. Pure.

All gates of a suite must pass, so *pass* needs no correction. One *fail* is enough to turn a run red, so fails take
Holm's correction (1979) over the family: the gates with a test, each target and slice counted, without those that the
suite takes out (`family: none`). Gates that could not be tested belong to it too: its size does not depend on answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from evalrunner.domain import BaselineResult
from evalrunner.gates.evidence import Evidence
from evalrunner.gates.metric_lookup import Gate
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.stats.hypothesis_tests import SamplesToDecide

ROUNDING: Final = 1e-12  # of a level that is 1 minus a confidence


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A verdict with its reason and the numbers that decided.

    `details` are further sentences. `worse`: the value is on the wrong side, though that is not proven.
    """

    verdict: Verdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: SamplesToDecide | None = None
    worse: bool = False
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The test of a gate on one set of scores.

    `p_fail` is the p-value of "the gate's condition holds": 0 or 1 for a point gate. `p_gain` is that of "there is no
    gain", for gates of kind improved, whose pass is corrected too.
    """

    passed: bool
    p_fail: float = 1.0
    p_gain: float | None = None


UNTESTED: Final = Outcome(passed=False)


@dataclass(frozen=True, slots=True)
class TestedGate:
    """One gate on one target, tested alone: on the observed scores, and with every filling of the missing ones.

    `settled` is its decision where no test is needed. `describe` words a verdict, given the size of the family, and
    `describe_missing` one that what is missing could change.
    """

    __test__ = False  # the name is not that of a test class of pytest

    gate: Gate
    target: str
    evidence: Evidence
    observed: Outcome = UNTESTED
    filled: tuple[Outcome, ...] = ()
    settled: GateDecision | None = None
    describe: Callable[[Verdict, int], GateDecision] | None = None
    describe_missing: Callable[[], GateDecision] | None = None
    comparison: BaselineResult | None = None


def in_family(gate: Gate) -> bool:
    """Whether the fail of a gate is corrected: it has a test, and the suite has not taken it out."""
    return has_test(gate) and gate.spec.family != "none"


def has_test(gate: Gate) -> bool:
    """Whether a gate is decided by a test, not by a value alone."""
    return gate.spec.confidence is not None


def decide(tested: Sequence[TestedGate]) -> list[GateDecision]:
    """The decision on each gate."""
    observed = [one.observed for one in tested]
    gates = [one.gate for one in tested]
    verdicts = verdicts_of(gates, observed)
    adverse = verdicts_of(gates, [_adverse(one) for one in tested])
    family = sum(map(in_family, gates))
    decisions: list[GateDecision] = []
    for place, one in enumerate(tested):
        if one.settled is not None:
            decisions.append(one.settled)
            continue
        assert one.describe is not None and one.describe_missing is not None  # set with a test
        verdict = verdicts[place]
        holds = verdict == adverse[place]
        if verdict == "inconclusive":
            could_fail = replace(one.observed, p_fail=min(each.p_fail for each in (one.observed, *one.filled)))
            changed = [could_fail if at == place else outcome for at, outcome in enumerate(observed)]
            holds = not one.filled or verdicts_of(gates, changed)[place] != "fail"
        decisions.append(one.describe(verdict, family) if holds else one.describe_missing())
    return decisions


def verdicts_of(gates: Sequence[Gate], outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Each gate's verdict by its outcome, fails corrected over the family."""
    fails = _corrected([outcome.p_fail for outcome in outcomes], [in_family(gate) for gate in gates])
    gains = [outcome.p_gain for outcome in outcomes]
    paired = [gate.spec.baseline is not None and in_family(gate) for gate in gates]
    corrected = _corrected(
        [outcome.p_fail if gain is None else gain for outcome, gain in zip(outcomes, gains, strict=True)], paired
    )
    verdicts: list[Verdict] = []
    for gate, outcome, fail, gain in zip(gates, outcomes, fails, corrected, strict=True):
        alpha = 1 - (gate.spec.confidence or 0.5) + ROUNDING
        passed = outcome.passed if outcome.p_gain is None else gain <= alpha
        verdicts.append("pass" if passed else "fail" if fail <= alpha else "inconclusive")
    return verdicts


def _corrected(p_values: Sequence[float], members: Sequence[bool]) -> list[float]:
    """The p-values, Holm-adjusted among the members."""
    if not any(members):
        return list(p_values)
    from evalrunner.stats.hypothesis_tests import holm

    adjusted = iter(holm([p for p, member in zip(p_values, members, strict=True) if member]))
    return [next(adjusted) if member else p for p, member in zip(p_values, members, strict=True)]


def _adverse(one: TestedGate) -> Outcome:
    """The outcome that is hardest on either verdict: a pass on every filling, and the largest p-values."""
    outcomes = (one.observed, *one.filled)
    gains = [outcome.p_gain for outcome in outcomes if outcome.p_gain is not None]
    return Outcome(
        all(outcome.passed for outcome in outcomes),
        max(outcome.p_fail for outcome in outcomes),
        max(gains) if gains else None,
    )


def join(parts: Iterable[str | None]) -> str:
    """The parts of a reason that there are, separated by semicolons."""
    return "; ".join(part for part in parts if part)
