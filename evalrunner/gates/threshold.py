"""Gates on a threshold: point gates by the value alone, gates with confidence by its one-sided bounds. Pure.

A point gate passes or fails by its value. With confidence it passes if the bound on the bad side meets the threshold,
fails if even the bound on the good side misses it, and is inconclusive in between. Either is untrusted if too few of
the answers have a score, or if the missing ones could change the verdict: a provider that is down is not a bad model,
nor a good one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from evalrunner.domain import Metric
from evalrunner.formatting import significant
from evalrunner.gates.decision import GateDecision, Outcome, TestedGate, has_test, join
from evalrunner.gates.evidence import (
    Evidence,
    missing_note,
    percent,
    samples_needed,
    samples_needed_in_detail,
    skipped_note,
    value_of,
    why_unscored,
)
from evalrunner.gates.fillings import Filling, fillings
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.aggregates import gate_bounds
from evalrunner.stats.intervals import Interval
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.stats.hypothesis_tests import SamplesToDecide

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq,
}  # fmt: skip
BISECTIONS: Final = 20  # of a p-value: to a millionth


@dataclass(frozen=True, slots=True)
class _Test:
    """A gate on one set of scores: the value, and its one-sided bounds where the gate has a confidence."""

    value: float
    bounds: Interval | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _TestedThreshold:
    """A gate with the test of its observed scores, its value for each filling, and the 95% interval of its metric."""

    gate: Gate
    evidence: Evidence
    test: _Test
    filled: tuple[float, ...]
    interval: tuple[float | None, float | None]

    @property
    def bounded(self) -> bool:
        """Whether what is missing was tried at both of its ends; an open end has no score to try."""
        closed = self.gate.estimand.aggregate.takes_infinite or all(map(math.isfinite, self.evidence.ends))
        return bool(self.filled) and closed


def evaluate_threshold(
    gate: Gate, target: str, evidence: Evidence, *, interval: tuple[float | None, float | None]
) -> TestedGate:
    """The test of a gate on a threshold. `interval` is the 95% interval of its metric."""
    if (nothing := _without_scores(gate, evidence)) is not None:
        return TestedGate(gate, target, evidence, settled=nothing)
    observed = _test(gate, evidence.values, evidence.reduced.clusters)
    filled: list[_Test] = []
    if gate.spec.missing == "bounds":
        every = fillings(evidence, gate.estimand, with_spread=has_test(gate))
        filled = [_test(gate, *_columns(filling)) for filling in every if filling.values]
    outcomes = [one.outcome for one in filled]
    values = [one.value for one in filled]
    if gate.spec.operator == "==" and values and min(values) < gate.spec.bound < max(values):
        outcomes.append(Outcome(passed=False))  # a filling in between would meet it
    tested = _TestedThreshold(gate, evidence, observed, tuple(values), interval)
    return TestedGate(
        gate, target, evidence, observed.outcome, tuple(outcomes),
        describe=partial(_describe, tested), describe_missing=partial(_depends_on_missing, tested),
    )  # fmt: skip


def _columns(filling: Filling) -> tuple[Sequence[float], Sequence[int] | None]:
    return filling.values, filling.clusters


def _without_scores(gate: Gate, evidence: Evidence) -> GateDecision | None:
    """The verdict where the scorer applies to no sample, or too few answers have a score; else None."""
    if not evidence.total:
        if evidence.reduced.skipped:
            return GateDecision("fail", f"no sample applies: all {evidence.reduced.skipped:,} were skipped")
        if gate.spec.slice:
            ((column, text),) = gate.spec.slice.items()
            return GateDecision("fail", f"no sample applies: none has {text!r} in {column!r}")
        return GateDecision("untrusted", "no sample was run")
    if evidence.coverage < gate.spec.min_coverage or not evidence.values:
        every = [gate.estimand.value(each.values) for each in fillings(evidence, gate.estimand, with_spread=False)]
        return _untrusted(gate, evidence, [value for value in every if value is not None])
    return None


def _untrusted(gate: Gate, evidence: Evidence, ends: Sequence[float]) -> GateDecision:
    """`0.901 on 182 of 300 answers, 0.547 to 0.94 with the rest: the provider failed on 118 (server)`.

    `ends` are the values for the fillings of what is missing.
    """
    name, value = gate.measure.name, value_of(gate, evidence)
    note = missing_note(evidence, name)
    if value is not None and ends:
        low, high = min(ends), max(ends)
        now, first, last = significant(value, low, high)
        if math.isinf(low) and math.isinf(high):
            between = "any value"
        elif math.isinf(high):
            between = f"{first} or more"
        else:
            between = f"{last} or less" if math.isinf(low) else f"{first} to {last}"
        answers = f"{evidence.scored:,} of {evidence.total:,} answers"
        note = f"{now} on {answers}, {between} with the rest: {why_unscored(evidence, name)}"
    return GateDecision("untrusted", join([note, skipped_note(evidence, name)]), value)


def meets(gate: Gate, value: float) -> bool:
    """Whether a value is on the right side of the gate's threshold."""
    return COMPARE[gate.spec.operator](value, gate.spec.bound)


def false_failure_rate(gate: Gate, metric: Metric, n: int, *, clustered: bool) -> float | None:
    """How often a point gate on n samples fails by chance if the value of `metric` is the true one; None if unknown."""
    if metric.value is None or gate.spec.operator == "==":
        return None
    from evalrunner.stats.power import CI_WIDTH, false_failure_rate_of_mean, false_failure_rate_of_share

    lower, strict, bound = gate.spec.operator in (">=", ">"), gate.spec.operator in (">", "<"), gate.spec.bound
    if gate.estimand.is_share and not clustered:
        return false_failure_rate_of_share(metric.value, n, bound, lower=lower, strict=strict)
    if gate.estimand.aggregate.paired and metric.low is not None and metric.high is not None and metric.n > 1:
        error = (metric.high - metric.low) / CI_WIDTH * math.sqrt(metric.n / n)
        return false_failure_rate_of_mean(metric.value, error, bound, df=max(1, n - 1), lower=lower)
    return None


def _test(gate: Gate, values: Sequence[float], clusters: Sequence[int] | None) -> _Test:
    value = gate.estimand.value(values)
    assert value is not None  # there are scores
    confidence = gate.spec.confidence
    if confidence is None:
        passed = meets(gate, value)
        return _Test(value, None, Outcome(passed, p_fail=1.0 if passed else 0.0))
    bounds_at = partial(gate_bounds, gate.estimand, values, clusters=clusters)
    bounds = bounds_at(confidence=confidence)
    bad, _ = _sides(gate, bounds)
    passed = bad is not None and meets(gate, bad)
    return _Test(value, bounds, Outcome(passed, p_fail=_p_fail(gate, confidence, bounds, bounds_at)))


def threshold_outcome(
    gate: Gate, values: Sequence[float], clusters: Sequence[int] | None = None
) -> tuple[Outcome, bool]:
    """The outcome of a gate on complete scores, and whether its value misses the threshold."""
    test = _test(gate, values, clusters)
    return test.outcome, not meets(gate, test.value)


def _sides(gate: Gate, bounds: Interval) -> tuple[float | None, float | None]:
    """The bound on the bad side of the value, and the one on the good side."""
    low, high = bounds.low, bounds.high
    return (low, high) if gate.spec.operator in (">=", ">") else (high, low)


def _misses(gate: Gate, bounds: Interval) -> bool:
    """Whether even the bound on the good side misses the threshold."""
    good = _sides(gate, bounds)[1]
    return good is not None and not meets(gate, good)


def _p_fail(gate: Gate, confidence: float, bounds: Interval, bounds_at: Callable[..., Interval]) -> float:
    """The p-value of "the gate's condition holds": one minus the greatest confidence at which the gate fails.

    It is searched only below the gate's own level; above it no correction can make the gate fail.
    """
    if not _misses(gate, bounds):
        return 1.0
    fails, holds = 1 - confidence, 0.0
    for _ in range(BISECTIONS):
        middle = (fails + holds) / 2
        fails, holds = (middle, holds) if _misses(gate, bounds_at(confidence=1 - middle)) else (fails, middle)
    return fails


def _describe(one: _TestedThreshold, verdict: Verdict, family: int) -> GateDecision:
    gate, evidence, name = one.gate, one.evidence, one.gate.measure.name
    if one.test.bounds is None:
        decision = _point(gate, one.test, one.interval)
    else:
        decision = _with_bounds(gate, evidence, one.test, verdict, family)
    note = missing_note(evidence, name) if evidence.missing else None
    if note and gate.spec.missing == "ignore":
        note = f"missing answers are ignored: {note}"
    details = decision.details
    if note and one.bounded:
        holds = "" if verdict == "inconclusive" else "; the verdict holds for every score of the rest"
        details, note = (f"{note}{holds}", *details), None
    return replace(decision, reason=join([decision.reason, note, skipped_note(evidence, name)]), details=details)


def _point(gate: Gate, test: _Test, interval: tuple[float | None, float | None]) -> GateDecision:
    passed = test.outcome.passed
    reason = f"{'meets' if passed else 'misses'} the threshold"
    low, high = interval
    if low is not None and high is not None and low < gate.spec.bound < high:
        noise = "threshold is inside the 95% CI: not conclusive"
        reason = noise if passed else f"{reason}; {noise}"
    return GateDecision("pass" if passed else "fail", reason, test.value)


def _with_bounds(gate: Gate, evidence: Evidence, test: _Test, verdict: Verdict, family: int) -> GateDecision:
    bounds, value = test.bounds, test.value
    assert bounds is not None and gate.spec.confidence is not None  # the caller has checked
    bad, good = _sides(gate, bounds)
    at = f"at {percent(gate.spec.confidence)} confidence"
    side = ("at least", "at most") if gate.spec.operator in (">=", ">") else ("at most", "at least")
    if verdict == "pass":
        reason = f"{side[0]} {_beside_bound(gate, bad)} {at}: meets the threshold"
        return GateDecision(verdict, reason, value, bounds.low, bounds.high)
    if verdict == "fail":
        reason = f"{side[1]} {_beside_bound(gate, good)} {at}: misses the threshold"
        return GateDecision(verdict, reason, value, bounds.low, bounds.high)
    right = meets(gate, value)
    rows = _rows(gate, value, bad if right else good, len(evidence.values))
    if _misses(gate, bounds):
        reason = f"{side[1]} {_beside_bound(gate, good)} {at}, but not after Holm's correction for {family} gates"
        return GateDecision(verdict, reason, value, bounds.low, bounds.high, None, not right)
    if bounds.method:
        note = f" ({bounds.note})" if bounds.note else ""
        ends = _between(gate, bounds)
        reason = f"between {ends} {at}{note}: not conclusive."
    else:
        reason = f"not conclusive: {bounds.note or 'no interval'}."
    details = samples_needed_in_detail(rows, more_epochs_help=evidence.more_epochs_help)
    return GateDecision(
        verdict, (reason + samples_needed(rows)).removesuffix("."), value, bounds.low, bounds.high, rows, not right,
        tuple(details),
    )  # fmt: skip


def _beside_bound(gate: Gate, end: float | None) -> str:
    """One end of an interval, with enough digits to tell it from the threshold."""
    assert end is not None  # a verdict that it decided
    return significant(end, gate.spec.bound)[0]


def _between(gate: Gate, bounds: Interval) -> str:
    """`0.7157 and 0.8182`, with enough digits to tell the ends from each other and from the threshold."""
    ends = [end for end in (bounds.low, bounds.high) if end is not None]
    texts = iter(significant(*ends, gate.spec.bound))
    return " and ".join("no end" if end is None else next(texts) for end in (bounds.low, bounds.high))


def _rows(gate: Gate, value: float, end: float | None, n: int) -> SamplesToDecide | None:
    if end is None:
        return None
    from evalrunner.stats.hypothesis_tests import samples_to_decide

    return samples_to_decide(n, half=abs(value - end), estimate=value, bound=gate.spec.bound)


def _depends_on_missing(one: _TestedThreshold) -> GateDecision:
    """The verdict that does not hold for every possible score of the answers without one."""
    return _untrusted(one.gate, one.evidence, one.filled)
