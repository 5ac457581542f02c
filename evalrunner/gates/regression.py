"""Gates on a baseline: `max_drop` (non-inferiority) and `improved`, on paired samples. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from evalrunner.baselines.file import Baseline, metric_key
from evalrunner.baselines.resolve import how_to_create, missing_reason
from evalrunner.domain import BaselineResult
from evalrunner.formatting import significant
from evalrunner.gates.decision import GateDecision, Outcome, TestedGate, join
from evalrunner.gates.evidence import (
    Evidence,
    amount,
    changed_samples,
    percent,
    samples_needed,
    samples_needed_in_detail,
    skipped_note,
    value_of,
    why_unscored,
)
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import CandidateRun, Filling, Pairing, baseline_side, drops_of, pair_up
from evalrunner.runs.provenance import Provenance, scorer_changes, target_changes
from evalrunner.stats.hypothesis_tests import NonInferiority, SamplesToDecide, mcnemar, non_inferiority
from evalrunner.verdicts import Verdict

SKIPPED_THEM = "its scorer skipped them"
CHANGED_DATA = "if the data was changed on purpose, run once with --set changed_data=ignore and accept a new baseline"


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A gate on a baseline that has its scorer: the pairs, and the test of the observed ones."""

    gate: Gate
    evidence: Evidence
    pairing: Pairing
    test: NonInferiority
    baseline: Baseline
    partner: str


def evaluate_regression(
    gate: Gate, target: str, evidence: Evidence, candidate: CandidateRun, baseline: Baseline | None,
    in_slice: set[int] | None,
) -> TestedGate:  # fmt: skip
    """The test of a gate on a target. There is none without a baseline that has the target and the scorer."""
    partner = None if baseline is None else baseline.target_for(target, candidate.provenance.targets)
    if baseline is None or partner is None or gate.measure.name not in baseline.head.provenance.scorers:
        name = gate.spec.baseline or "main"
        missing = missing_reason(name, baseline, target, partner, gate.measure.name)
        settled = GateDecision("no_baseline", f"{missing}; {how_to_create(name)}")
        return TestedGate(gate, target, evidence, settled=settled)
    pairing = pair_up(gate, evidence, candidate, baseline, partner, in_slice=in_slice)
    clustered, binary = evidence.clusters is not None, is_binary(gate, baseline)
    test = partial(_test, gate, clustered=clustered, binary=binary)
    observed = test(list(drops_of(gate, pairing.pairs)))
    comparison = _Comparison(gate, evidence, pairing, observed, baseline, partner)
    result = _baseline_result(comparison, candidate, target)
    filled, bounded = [], False
    if gate.spec.missing == "bounds" and pairing.incomplete:
        ways: tuple[Filling, ...] = ("worst", "best") if binary else ("worst", "best", "by turns")
        drops = [list(drops_of(gate, pairing.pairs, way)) for way in ways]
        filled = [test(each) for each in drops if all(math.isfinite(drop) for drop, _ in each)]
        bounded = len(filled) == len(ways)
    return TestedGate(
        gate, target, evidence, _outcome(gate, observed), tuple(_outcome(gate, one) for one in filled),
        settled=_untrusted(comparison, result),
        describe=partial(_describe, comparison, result, bounded),
        describe_missing=partial(_depends_on_missing, comparison, result),
        comparison=result,
    )  # fmt: skip


def _outcome(gate: Gate, test: NonInferiority) -> Outcome:
    if gate.spec.kind == "improved":
        return Outcome(passed=False, p_fail=_p(test.p_worse), p_gain=_p(test.p_better))
    return Outcome(test.decision == "pass", _p(test.p_fail))


def drop_outcome(
    gate: Gate, drops: Sequence[float], clusters: Sequence[int] | None, *, binary: bool
) -> tuple[Outcome, bool]:
    """The outcome of a gate on the drops of complete pairs, and whether it is called worse."""
    pairs = list(zip(drops, clusters or [0] * len(drops), strict=True))
    test = _test(gate, pairs, clustered=clusters is not None, binary=binary)
    return _outcome(gate, test), is_worse(gate, test)


def is_worse(gate: Gate, test: NonInferiority) -> bool:
    """Whether an inconclusive gate is on the wrong side: significantly worse, or without the required gain."""
    return (test.estimate is not None and test.estimate >= 0) if gate.spec.kind == "improved" else test.worse


def _p(value: float | None) -> float:
    return 1.0 if value is None else value


def is_binary(gate: Gate, baseline: Baseline) -> bool:
    """Whether the scores of both sides are 0 or 1 by construction, or all of them are and the scorer may be graded."""
    if gate.estimand.aggregate.always_share:
        return True
    if not gate.estimand.is_share:
        return False
    declaration = gate.measure.declaration
    if declaration.infer_binary and not declaration.binary:
        scores = {score for row in baseline.rows.values() for score in row.scores.get(gate.measure.name, ())}
        if not scores <= {0.0, 1.0, None}:
            return False
    return gate.reducer.yields_binary(binary=True, epochs=baseline.head.epochs)


def _test(gate: Gate, drops: Sequence[tuple[float, int]], *, clustered: bool, binary: bool) -> NonInferiority:
    assert gate.spec.confidence is not None  # gates on a baseline have one
    values, width = [drop for drop, _ in drops], gate.estimand.sample_width
    if width is None:  # an open range: the largest difference observed
        width = max((abs(drop) for drop in values), default=0.0) or 1.0
    clusters = [cluster for _, cluster in drops] if clustered else None
    alpha = 1 - gate.spec.confidence
    span = None if binary else width
    return non_inferiority(values, max_drop=gate.spec.bound, span=span, clusters=clusters, alpha=alpha)


def _baseline_result(one: _Comparison, candidate: CandidateRun, target: str) -> BaselineResult:
    gate, pairing, test, baseline = one.gate, one.pairing, one.test, one.baseline
    before = [
        gate.estimand.of_sample(pair.baseline.value)
        for pair in pairing.pairs
        if pair.scored and pair.baseline.value is not None
    ]
    origin, drop = origin_drop(gate, one.evidence, baseline, one.partner)
    drops = [drop for drop, _ in drops_of(gate, pairing.pairs)]
    return BaselineResult(
        name=baseline.label,
        origin=origin,
        value=math.fsum(before) / len(before) if before else None,
        drop=test.estimate,
        low=test.low,
        high=test.high,
        n=test.n,
        excluded=pairing.excluded,
        missing=pairing.unscored,
        coverage=pairing.coverage,
        p_value=_p_value(gate, pairing, test),
        method=test.method,
        origin_drop=drop,
        differs=tuple(
            target_changes(baseline.head.provenance.targets[one.partner], candidate.provenance.targets[target])
        ),
        run_id=baseline.head.run_id,
        worse=sum(drop > 0 for drop in drops),
        better=sum(drop < 0 for drop in drops),
    )


def _p_value(gate: Gate, pairing: Pairing, test: NonInferiority) -> float | None:
    """The two-sided p-value of "no difference": exact McNemar's for 0/1 scores, else that of the t-test."""
    if test.method == "tango":
        drops = [drop for drop, _ in drops_of(gate, pairing.pairs)]
        return mcnemar(sum(1 for drop in drops if drop > 0), sum(1 for drop in drops if drop < 0))
    if test.p_worse is None or test.p_better is None:
        return None
    return min(1.0, 2 * min(test.p_worse, test.p_better))


def _untrusted(one: _Comparison, result: BaselineResult) -> GateDecision | None:
    """The verdict where there is too little to compare: no pairs, or too few of the baseline's samples."""
    pairing = one.pairing
    if pairing.scored and pairing.coverage >= one.gate.spec.min_coverage:
        return None
    if not pairing.pairs:
        reason = join(["no sample has a score in both runs", pairing.note()])
        return GateDecision("untrusted", reason)
    changed = (CHANGED_DATA,) if pairing.changed or pairing.removed else ()
    reason = join([_missing_note(one), _unpaired(one), _possible_drop(one)])
    return GateDecision("untrusted", reason, details=(*changed, *_notes(one, result)))


def _missing_note(one: _Comparison) -> str:
    """`compared 140 of 200 samples of 'main': 60 changed`."""
    return f"compared {_compared(one)}: {_why_missing(one)}"


def _compared(one: _Comparison) -> str:
    """`140 of 200 samples of 'main'`."""
    pairing = one.pairing
    scored = f"{pairing.scored:,} of {len(pairing.pairs):,}"
    if pairing.incomplete and pairing.scored == len(pairing.pairs):
        scored = f"{pairing.coverage:.0%} of the answers to {len(pairing.pairs):,}"
    return f"{scored} samples of {one.baseline.label!r}"


def _why_missing(one: _Comparison) -> str:
    """Why samples of the baseline are in no pair, or only with a part of their answers."""
    pairing, name = one.pairing, one.gate.measure.name
    unscored_now = pairing.unscored - pairing.unscored_before
    partial_only = pairing.incomplete and pairing.scored == len(pairing.pairs)
    kinds = [
        f"{pairing.changed:,} changed" if pairing.changed else None,
        f"{pairing.removed:,} removed" if pairing.removed else None,
        f"{pairing.unscored_before:,} without a score in the baseline" if pairing.unscored_before else None,
        (why_unscored(one.evidence, name) or SKIPPED_THEM) if unscored_now > 0 or partial_only else None,
    ]
    return join(kinds)


def _unpaired(one: _Comparison) -> str | None:
    """`0.8 → 0.5 over all samples of each run`, the difference without pairs."""
    gate = one.gate
    sides = [
        baseline_side(gate, row, one.evidence.fill)
        for (name, _), row in one.baseline.rows.items()
        if name == one.partner
    ]
    before = gate.estimand.value([side.value for side in sides if side is not None and side.value is not None])
    now = value_of(gate, one.evidence)
    if before is None or now is None:
        return None
    return f"{' → '.join(significant(before, now))} over all samples of each run"


def _describe(one: _Comparison, result: BaselineResult, bounded: bool, verdict: Verdict, family: int) -> GateDecision:
    gate, test = one.gate, one.test
    rows: SamplesToDecide | None = None
    change = _change(gate, test)
    note = f" ({test.note})" if test.note and verdict == "inconclusive" else ""
    nominal_fail = test.p_fail if gate.spec.kind == "max_drop" else test.p_worse
    if verdict == "inconclusive" and _p(nominal_fail) <= 1 - (gate.spec.confidence or 0.0):
        note += f" (not significant after Holm's correction for {family} gates)" if family > 1 else ""
    if gate.spec.kind == "improved":
        endings = {"pass": "", "fail": "; an improvement is required", "inconclusive": ": not significant"}
        reason = change + endings[verdict] + note
    else:
        allowed = "allowed" if (test.estimate or 0.0) > 0 else "allowed drop"
        rows = test.rows if verdict == "inconclusive" else None
        reason = f"{change}; {allowed} {_bound(gate)}{note}"
        if rows is not None:
            reason = f"{reason}.{samples_needed(rows, _if_as_many_change(one))}".removesuffix(".")
    changed = changed_samples(result)
    if verdict != "inconclusive":  # that reason ends with the number of samples that would decide
        reason, changed = join([reason, changed]), None
    details = samples_needed_in_detail(rows, more_epochs_help=one.evidence.more_epochs_help)
    missing = _missing_note(one) if one.pairing.incomplete else None
    if missing and gate.spec.missing == "ignore":
        missing = f"what is missing is ignored: {missing}"
    if missing and bounded:
        holds = "" if verdict == "inconclusive" else "; the verdict holds for every score of the rest"
        details, missing = [f"{missing}{holds}", *details], None
    reason = join([reason, missing, skipped_note(one.evidence, gate.measure.name)])
    return GateDecision(
        verdict,
        reason,
        None,
        test.low,
        test.high,
        rows,
        is_worse(gate, test),
        (*filter(None, [changed]), *details, *_notes(one, result)),
    )


def _if_as_many_change(one: _Comparison) -> str:
    """`, if 12% of them change`: what the number of samples depends on for 0/1 scores."""
    if not (one.test.method or "").startswith("tango"):
        return ""
    changes = [drop != 0 for drop, _ in drops_of(one.gate, one.pairing.pairs)]
    return (
        f", if {100 * sum(changes) / len(changes):.2g}% of them change" if any(changes) else ", if none of them changes"
    )


def _bound(gate: Gate) -> str:
    """The allowed drop, as the suite gives it: in points for a metric in 0..1."""
    return f"{100 * gate.spec.bound:.4g}" if gate.estimand.bounds == (0.0, 1.0) else significant(gate.spec.bound)[0]


def _change(gate: Gate, result: NonInferiority) -> str:
    """`8.1 points worse (90% CI 0.8–15.5)`; the interval is of the change in the direction that is named."""
    if result.estimate is None:
        return "change unknown"
    sign = -1 if result.estimate < 0 else 1
    size = amount(gate, sign * result.estimate)
    change = f"{size} {'worse' if result.estimate > 0 else 'better'}" if result.estimate else "no change"
    if result.low is None or result.high is None:
        return change
    low, high = (amount(gate, end, unit=False) for end in sorted((sign * result.low, sign * result.high)))
    between = " to " if low.startswith("-") or high.startswith("-") else "–"
    return f"{change} ({percent(2 * (gate.spec.confidence or 0.95) - 1)} CI {low}{between}{high})"


def _notes(one: _Comparison, result: BaselineResult) -> Iterator[str]:
    note = one.pairing.note()
    if result.origin_drop is not None and result.origin_drop > 0:
        yield f"{amount(one.gate, result.origin_drop)} below the first baseline, run {result.origin}"
    if note is not None:
        yield note
    if result.differs:
        yield f"differs from the baseline in {', '.join(result.differs)}"


def _possible_drop(one: _Comparison) -> str | None:
    """`a drop of -2.0 to 4.0 with the rest`; None for an open range."""
    ends: list[str] = []
    ways: tuple[Filling, Filling] = ("best", "worst")
    for way in ways:
        drops = [drop for drop, _ in drops_of(one.gate, one.pairing.pairs, way)]
        if not drops or not all(map(math.isfinite, drops)):
            return None
        ends.append(amount(one.gate, math.fsum(drops) / len(drops), unit=way == "worst"))
    return f"a drop of {ends[0]} to {ends[1]} with the rest"


def _depends_on_missing(one: _Comparison, result: BaselineResult) -> GateDecision:
    """The verdict that does not hold for every possible score of the pairs without one."""
    change = f"{_change(one.gate, one.test)} on {_compared(one)}"
    reason = f"{change}, {_possible_drop(one)}: {_why_missing(one)}"
    details = (CHANGED_DATA,) if one.pairing.changed or one.pairing.removed else ()
    return GateDecision(
        "untrusted", reason, low=one.test.low, high=one.test.high,
        details=(*filter(None, [changed_samples(result)]), *details, *_notes(one, result)),
    )  # fmt: skip


def origin_drop(gate: Gate, evidence: Evidence, baseline: Baseline, target: str) -> tuple[str | None, float | None]:
    """The run of the first accepted baseline, and how much worse the candidate is than that, unpaired.

    The drop is None where the baseline is that very run.
    """
    origin = baseline.head.origin.get(gate.measure.name) or {}
    values = (origin.get("values") or {}).get(target) or {}
    then, now = values.get(metric_key(gate.metric, gate.spec.slice)), value_of(gate, evidence)
    if then is None or now is None or origin.get("run_id") == baseline.head.run_id:
        return origin.get("run_id"), None
    return origin.get("run_id"), then - now if gate.higher_is_better else now - then


def incompatibilities(gate: Gate, provenance: Provenance, baseline: Baseline) -> list[str]:
    """Why the gate's metric cannot be compared with the baseline's: how the scorers or judges differ."""
    name, head = gate.measure.name, baseline.head
    if name not in head.provenance.scorers:
        return []
    reasons = scorer_changes(head.provenance, provenance, name)
    if head.epochs < gate.reducer.k:
        reasons.append(f"epochs {head.epochs}, but {gate.reducer.name!r} needs {gate.reducer.k}")
    elif head.epochs != gate.epochs and not gate.reducer.unbiased:
        reasons.append(f"epochs {head.epochs} → {gate.epochs}, on which {gate.reducer.name!r} depends")
    return reasons
