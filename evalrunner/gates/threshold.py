"""Gates on a threshold: point gates by the value alone, gates with confidence by its one-sided bounds. Pure.

A point gate passes or fails by its value. With confidence it passes if the bound on the bad side meets the threshold,
fails if even the bound on the good side misses it, and is inconclusive in between. Either is untrusted if too few of
the samples have a score, or if the missing scores could change the verdict: a provider that is down is not a bad
model, nor a good one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalrunner.domain import Metric
from evalrunner.gates.evidence import (
    Evidence,
    percent,
    samples_needed,
    samples_needed_in_detail,
    value_of,
    why_unscored,
)
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.aggregates import gate_bounds
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.stats.hypothesis_tests import SamplesToDecide

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq,
}  # fmt: skip


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


def check_threshold(gate: Gate, evidence: Evidence, *, interval: tuple[float | None, float | None]) -> GateDecision:
    """The verdict of a gate on a threshold. `interval` is the 95% interval of its metric."""
    if (nothing := without_scores(gate, evidence)) is not None:
        return nothing
    decision = _decide(gate, evidence.values, evidence.reduced.clusters, evidence)
    ends = gate.estimand.aggregate.worst_ends(gate.estimand, gate.spec.operator) if evidence.missing else ()
    for end in ends:
        other = _decide(gate, *evidence.filled(end), evidence)
        if decision.verdict not in ("fail", other.verdict):
            reason = _depends_on_missing(gate, evidence, decision, other)
            return replace(decision, verdict="untrusted", reason=reason, rows=None, details=())
    return _with_noise(gate, decision, interval) if gate.spec.kind == "point" else decision


def without_scores(gate: Gate, evidence: Evidence) -> GateDecision | None:
    """The verdict where the scorer applies to no sample, or too few of them have a score; else None."""
    if not evidence.total:
        if evidence.reduced.skipped:
            return GateDecision("fail", f"no sample applies: all {evidence.reduced.skipped} were skipped")
        if gate.spec.slice:
            ((column, value),) = gate.spec.slice.items()
            return GateDecision("fail", f"no sample applies: none has {value!r} in {column!r}")
        return GateDecision("untrusted", "no sample was run")
    scored = len(evidence.values)
    if evidence.coverage < gate.spec.min_coverage or not scored:
        why = why_unscored(evidence, gate.measure.name)
        return GateDecision(
            "untrusted", f"scored {scored} of {evidence.total} samples: {why}", value_of(gate, evidence)
        )
    return None


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


def _decide(gate: Gate, values: Sequence[float], clusters: Sequence[int] | None, evidence: Evidence) -> GateDecision:
    value = gate.estimand.value(values)
    assert value is not None  # there are scores
    if gate.spec.confidence is None:
        passed = meets(gate, value)
        return GateDecision("pass" if passed else "fail", f"{'meets' if passed else 'misses'} the threshold", value)
    bounds = gate_bounds(
        gate.estimand, values, confidence=gate.spec.confidence, clusters=clusters, seed=evidence.seed
    )  # fmt: skip
    lower = gate.spec.operator in (">=", ">")
    bad, good = (bounds.low, bounds.high) if lower else (bounds.high, bounds.low)
    at = f"at {percent(gate.spec.confidence)} confidence"
    side = ("at least", "at most") if lower else ("at most", "at least")
    if bad is not None and meets(gate, bad):
        return GateDecision("pass", f"{side[0]} {bad:.4g} {at}: meets the threshold", value, bounds.low, bounds.high)
    if good is not None and not meets(gate, good):
        reason = f"{side[1]} {good:.4g} {at}: misses the threshold"
        return GateDecision("fail", reason, value, bounds.low, bounds.high)
    rows = _rows(gate, value, bad if meets(gate, value) else good, len(values))
    if bounds.method:
        note = f" ({bounds.note})" if bounds.note else ""
        ends = " and ".join(f"{end:.4g}" if end is not None else "no end" for end in (bounds.low, bounds.high))
        reason = f"between {ends} {at}{note}: not conclusive."
    else:
        reason = f"not conclusive: {bounds.note or 'no interval'}."
    details = samples_needed_in_detail(rows, more_epochs_help=evidence.more_epochs_help)
    return GateDecision(
        "inconclusive", (reason + samples_needed(rows)).removesuffix("."), value, bounds.low, bounds.high, rows,
        not meets(gate, value), tuple(details),
    )  # fmt: skip


def _rows(gate: Gate, value: float, end: float | None, n: int) -> SamplesToDecide | None:
    if end is None:
        return None
    from evalrunner.stats.hypothesis_tests import samples_to_decide

    return samples_to_decide(n, half=abs(value - end), estimate=value, bound=gate.spec.bound)


def _depends_on_missing(gate: Gate, evidence: Evidence, decision: GateDecision, other: GateDecision) -> str:
    """Why a verdict does not hold for every possible score of the samples without one."""
    now = "passes" if decision.verdict == "pass" else "is inconclusive"
    worst = f"{other.value:.4g}" if gate.spec.kind == "point" else other.verdict
    why = why_unscored(evidence, gate.measure.name)
    return (
        f"{now} on the {len(evidence.values)} of {evidence.total} samples with a score, but the other "
        f"{evidence.missing} could change that (worst case: {worst}): {why}"
    )


def _with_noise(gate: Gate, decision: GateDecision, interval: tuple[float | None, float | None]) -> GateDecision:
    low, high = interval
    if low is None or high is None or not low < gate.spec.bound < high:
        return decision
    noise = "threshold is inside the 95% CI: not conclusive"
    reason = noise if decision.verdict == "pass" else f"{decision.reason}; {noise}"
    return replace(decision, reason=reason)
