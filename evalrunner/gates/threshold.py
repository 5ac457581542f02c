"""Gates on a bound: point gates by the value alone, gates with confidence by its one-sided bounds. Pure.

A point gate passes or fails by its value. With confidence it passes if the bound on the bad side clears, fails if even
that on the good side misses, and is inconclusive between. Either is untrusted where rows apply but too few were
scored, or where the verdict would be another with what is missing at the worst end: a broken provider is not a bad
model, nor a good one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evalrunner.gates.evidence import Evidence, value_of
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.sentences import percent, what_decides, why_missing
from evalrunner.stats.aggregates import gate_bounds
from evalrunner.stats.hypothesis_tests import RowsToDecide, rows_to_decide
from evalrunner.verdicts import Verdict

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A verdict with its sentence, and what it was come to by. `worse`: a value on the wrong side, though not proven."""

    verdict: Verdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: RowsToDecide | None = None
    worse: bool = False


def check_threshold(gate: Gate, evidence: Evidence, *, interval: tuple[float | None, float | None]) -> GateDecision:
    """The verdict of a gate on a bound. `interval` is the 95 % one of its metric, for the word on noise."""
    if (nothing := without_rows(gate, evidence)) is not None:
        return nothing
    found = _decide(gate, evidence.values, evidence.reduced.clusters, evidence)
    for end in gate.estimand.aggregate.worst_ends(gate.estimand, gate.spec.operator) if evidence.missing else ():
        other = _decide(gate, *evidence.filled(end), evidence)
        if found.verdict not in ("fail", other.verdict):
            return replace(found, verdict="untrusted", reason=_flips(gate, evidence, found, other), rows=None)
    if gate.spec.kind == "point":
        return replace(found, reason=_with_noise(gate, found, interval))
    return found


def without_rows(gate: Gate, evidence: Evidence) -> GateDecision | None:
    """The verdict where no row applies, or too few of those that do were scored; else None."""
    if not evidence.total:
        if evidence.reduced.skipped:
            return GateDecision("fail", f"no row applies: all {evidence.reduced.skipped} were skipped")
        if gate.spec.slice:
            ((column, value),) = gate.spec.slice.items()
            return GateDecision("fail", f"no row applies: no sample has {value!r} in {column!r}")
        return GateDecision("untrusted", "no row was run")
    scored = len(evidence.values)
    if evidence.coverage < gate.spec.min_coverage or not scored:
        said = f"scored {scored} of {evidence.total} rows: {why_missing(evidence, gate.measure.name)}"
        return GateDecision("untrusted", said, value_of(gate, evidence))
    return None


def clears(gate: Gate, value: float) -> bool:
    """Whether a value is on the right side of the gate's bound."""
    return COMPARE[gate.spec.operator](value, gate.spec.bound)


def _decide(gate: Gate, values: Sequence[float], clusters: Sequence[int] | None, evidence: Evidence) -> GateDecision:
    value = gate.estimand.value(values)
    assert value is not None  # something was scored
    if gate.spec.confidence is None:
        cleared = clears(gate, value)
        return GateDecision("pass" if cleared else "fail", "clears the bound" if cleared else "misses the bound", value)
    bounds = gate_bounds(
        gate.estimand, values, confidence=gate.spec.confidence, clusters=clusters, seed=evidence.seed
    )  # fmt: skip
    least = gate.spec.operator in (">=", ">")
    bad, good = (bounds.low, bounds.high) if least else (bounds.high, bounds.low)
    at = f"at {percent(gate.spec.confidence)} confidence"
    side = ("at least", "at most") if least else ("at most", "at least")
    if bad is not None and clears(gate, bad):
        return GateDecision("pass", f"{side[0]} {bad:.4g} {at}, which clears the bound", value, bounds.low, bounds.high)
    if good is not None and not clears(gate, good):
        said = f"{side[1]} {good:.4g} {at}, which misses the bound"
        return GateDecision("fail", said, value, bounds.low, bounds.high)
    rows = _rows(gate, value, bad if clears(gate, value) else good, len(values))
    note = f" ({bounds.note})" if bounds.note else ""
    ends = " and ".join(f"{end:.4g}" if end is not None else "no end" for end in (bounds.low, bounds.high))
    said = (
        f"not decided: {at} it is between {ends}{note}"
        if bounds.method
        else f"not decided: {bounds.note or 'no interval'}"
    )
    said += what_decides(rows, epochs=evidence.noisy_within)
    return GateDecision("inconclusive", said, value, bounds.low, bounds.high, rows, not clears(gate, value))


def _rows(gate: Gate, value: float, end: float | None, n: int) -> RowsToDecide | None:
    if end is None:
        return None
    return rows_to_decide(n, half=abs(value - end), estimate=value, bound=gate.spec.bound)


def _flips(gate: Gate, evidence: Evidence, found: GateDecision, other: GateDecision) -> str:
    total = evidence.total
    now = "passes" if found.verdict == "pass" else "is inconclusive"
    then = f"{other.value:.4g}" if gate.spec.kind == "point" else other.verdict.replace("fail", "a fail")
    return (
        f"{now} without the {evidence.missing} of {total} rows that have no score, but would be {then} with them at "
        f"the worst end: {why_missing(evidence, gate.measure.name)}"
    )


def _with_noise(gate: Gate, found: GateDecision, interval: tuple[float | None, float | None]) -> str:
    low, high = interval
    if low is None or high is None or not low < gate.spec.bound < high:
        return found.reason
    said = "within noise: its 95 % interval spans the bound"
    return said if found.verdict == "pass" else f"{found.reason}; {said}"
