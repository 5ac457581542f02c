"""Gates on a baseline: `max_drop` (non-inferiority) and `improved`, on paired samples. Pure.

Passing needs every gate, so *pass* takes no correction; *fail* and *improved* take Holm's over the gates of that
baseline as the suite fixes them, those that could not be tested among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evalrunner.baselines.file import Baseline, SampleKey, metric_key
from evalrunner.baselines.resolve import NAME, baseline_source, is_path
from evalrunner.domain import BaselineResult
from evalrunner.gates.evidence import Evidence, value_of
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import Pairing, differences, drops_of, pair_up
from evalrunner.gates.sentences import amount, percent, what_decides, why_missing
from evalrunner.gates.threshold import GateDecision
from evalrunner.runs.provenance import Provenance
from evalrunner.stats.hypothesis_tests import NonInferiority, RowsToDecide, holm, mcnemar, non_inferiority
from evalrunner.verdicts import Verdict

NOTHING = NonInferiority(None, None, None, "inconclusive", 0, 0.0, None)


@dataclass(frozen=True, slots=True)
class CandidateRun:
    """What is compared with a baseline: its run's provenance, and its samples by their place in the dataset."""

    provenance: Provenance
    keys: Mapping[int, SampleKey]


@dataclass(frozen=True, slots=True)
class TestedGate:
    """One gate on one target, tested by itself; `worst` with the candidate's missing pairs at the worst end.

    `missing_reason` says why there is nothing to compare with yet.
    """

    gate: Gate
    target: str
    evidence: Evidence
    pairing: Pairing
    result: NonInferiority
    worst: NonInferiority | None
    baseline: Baseline | None
    partner: str | None
    missing_reason: str | None = None


def evaluate_gate(
    gate: Gate, target: str, evidence: Evidence, side: CandidateRun | None, baseline: Baseline | None
) -> TestedGate:
    """The test of a gate on a target; without a baseline or a partner in it there is none."""
    partner = (
        baseline.target_for(target, side.provenance.targets) if baseline is not None and side is not None else None
    )
    missing_reason = _missing_reason(gate, target, baseline, partner)
    if side is None or baseline is None or partner is None or missing_reason is not None:
        return TestedGate(gate, target, evidence, Pairing(()), NOTHING, None, baseline, partner, missing_reason)
    pairing = pair_up(gate, evidence, side.keys, baseline, partner)
    binary = _binary(gate, baseline)
    result = _test(gate, list(drops_of(gate, pairing.pairs)), clustered=evidence.clusters is not None, binary=binary)
    worst = None
    end = _worst_end(gate)
    if pairing.missing and end is not None:
        filled = list(drops_of(gate, pairing.pairs, worst=end))
        worst = _test(gate, filled, clustered=evidence.clusters is not None, binary=binary)
    return TestedGate(gate, target, evidence, pairing, result, worst, baseline, partner)


def _binary(gate: Gate, baseline: Baseline) -> bool:
    """Whether the scores of both sides are 0 or 1 by construction."""
    if gate.estimand.aggregate.always_share:
        return True
    scores = gate.measure.declaration.binary
    return gate.estimand.is_share and gate.reducer.yields_binary(binary=scores, epochs=baseline.head.epochs)


def _test(gate: Gate, drops: Sequence[tuple[float, int]], *, clustered: bool, binary: bool) -> NonInferiority:
    assert gate.spec.confidence is not None  # gates on a baseline have one
    found = [drop for drop, _ in drops]
    width = gate.estimand.sample_width
    span = None if binary else width if width is not None else _seen(found)
    clusters = [cluster for _, cluster in drops] if clustered else None
    alpha = 1 - gate.spec.confidence
    return non_inferiority(found, max_drop=gate.spec.bound, span=span, clusters=clusters, alpha=alpha)


def _seen(drops: Sequence[float]) -> float:
    """What stands for the width of an open range: the largest difference that was seen."""
    return max((abs(drop) for drop in drops), default=0.0) or 1.0


def _worst_end(gate: Gate) -> float | None:
    return gate.estimand.low if gate.higher_is_better else gate.estimand.high


def decide(tested: Sequence[TestedGate], side: CandidateRun) -> list[tuple[GateDecision, BaselineResult | None]]:
    """The verdicts of all gates on one baseline, and how each stands against it."""
    results = [one.result for one in tested]
    verdicts = _verdicts(tested, results)
    found: list[tuple[GateDecision, BaselineResult | None]] = []
    for place, one in enumerate(tested):
        if one.missing_reason is not None:
            found.append((_no_baseline(one.gate, one.missing_reason), None))
            continue
        compared = _compared(one, side)
        finding = _untrusted(one) or _finding(one, verdicts[place], compared)
        if finding.verdict not in ("untrusted", "fail") and one.worst is not None:
            other = _verdicts(tested, [one.worst if at == place else result for at, result in enumerate(results)])[
                place
            ]
            if other != verdicts[place]:
                finding = _flips(one, verdicts[place], other)
        found.append((finding, compared))
    return found


def _verdicts(tested: Sequence[TestedGate], results: Sequence[NonInferiority]) -> list[Verdict]:
    """Each gate's verdict by its test, corrected over all of them."""
    improved = [one.gate.spec.kind == "improved" for one in tested]
    fails = holm([_p(r.p_worse if better else r.p_fail) for r, better in zip(results, improved, strict=True)])
    gains = holm([_p(r.p_better if better else r.p_fail) for r, better in zip(results, improved, strict=True)])
    said: list[Verdict] = []
    for one, result, fail, gain in zip(tested, results, fails, gains, strict=True):
        alpha = 1 - (one.gate.spec.confidence or 0.0) + 1e-12
        passed = gain <= alpha if one.gate.spec.kind == "improved" else result.decision == "pass"
        said.append("pass" if passed else "fail" if fail <= alpha else "inconclusive")
    return said


def _p(value: float | None) -> float:
    return 1.0 if value is None else value


def _missing_reason(gate: Gate, target: str, baseline: Baseline | None, partner: str | None) -> str | None:
    """What is not there yet: the baseline, this target or this scorer in it; None where all is."""
    name = gate.spec.baseline or "main"
    if baseline is None and baseline_source(name) is not None:
        return f"{name!r} has no run of this suite that passed yet"
    if baseline is None:
        return f"no file {name!r} beside the suite yet" if is_path(name) else f"no baseline {name!r} yet"
    if partner is None:
        return f"the baseline {name!r} has no target {target!r} yet (it has {', '.join(baseline.targets)})"
    known = gate.measure.name in baseline.head.provenance.scorers
    return None if known else f"the baseline {name!r} has no {gate.measure.name!r} yet"


def _no_baseline(gate: Gate, missing_reason: str) -> GateDecision:
    name = gate.spec.baseline or "main"
    if (source := baseline_source(name)) is not None:
        return GateDecision("no_baseline", f"{missing_reason}; {source.how_to_add}")
    if NAME.fullmatch(name) and not is_path(name):
        command = "evalrun baseline accept" + (f" last --name {name}" if name != "main" else "")
        return GateDecision("no_baseline", f"{missing_reason}; once a run is good, this makes one: {command}")
    return GateDecision(
        "no_baseline", f"{missing_reason}; 'evalrun baseline accept' makes one that is called by its name: main"
    )


def _compared(one: TestedGate, side: CandidateRun) -> BaselineResult:
    assert one.baseline is not None and one.partner is not None  # the caller has seen to it
    pairs = [pair for pair in one.pairing.pairs if pair.candidate is not None]
    before = [one.gate.estimand.of_sample(pair.baseline) for pair in pairs]
    result = one.result
    origin, drop = origin_drop(one.gate, one.evidence, one.baseline, one.partner)
    return BaselineResult(
        name=one.baseline.label,
        origin=origin,
        value=math.fsum(before) / len(before) if before else None,
        drop=result.estimate,
        low=result.low,
        high=result.high,
        n=result.n,
        left_out=one.pairing.left_out,
        missing=one.pairing.missing,
        p_value=_p_value(one),
        method=result.method,
        origin_drop=drop,
        differs=differences(side.provenance, one.target, one.baseline, one.partner),
    )


def _p_value(one: TestedGate) -> float | None:
    """The two-sided p-value of "no difference": exact McNemar's for 0/1 scores, else that of the t."""
    result = one.result
    if result.method == "tango":
        drops = [drop for drop, _ in drops_of(one.gate, one.pairing.pairs)]
        return mcnemar(sum(1 for drop in drops if drop > 0), sum(1 for drop in drops if drop < 0))
    if result.p_worse is None or result.p_better is None:
        return None
    return min(1.0, 2 * min(result.p_worse, result.p_better))


def _untrusted(one: TestedGate) -> GateDecision | None:
    """The verdict where there is too little to compare: no pairs, or too few with a score of the candidate."""
    pairing = one.pairing
    total = len(pairing.pairs)
    if not total:
        return GateDecision("untrusted", f"nothing to compare: no sample is scored in both{pairing.says_left_out()}")
    scored = total - pairing.missing
    if scored / total < one.gate.spec.min_coverage or not scored:
        why = why_missing(one.evidence, one.gate.measure.name) or "its scorer skipped them"
        return GateDecision("untrusted", f"scored {scored} of {total} pairs: {why}{pairing.says_left_out()}")
    return None


def _finding(one: TestedGate, verdict: Verdict, compared: BaselineResult) -> GateDecision:
    gate, result = one.gate, one.result
    drop = _drop(gate, result)
    rows: RowsToDecide | None = None
    if gate.spec.kind == "improved":
        said = {"pass": "better", "fail": "worse, not better", "inconclusive": "no gain proven"}[verdict] + f": {drop}"
        worse = result.estimate is not None and result.estimate >= 0
    else:
        worse = result.worse
        if verdict == "inconclusive":
            rows = result.rows
        said = _says_drop(gate, result, verdict, drop)
    if verdict == "inconclusive":
        said += f" ({result.note})" if result.note else ""
        said += what_decides(rows, epochs=one.evidence.noisy_within)
    said += _says_origin(one, compared) + one.pairing.says_left_out()
    if compared.differs:
        said += f"; compared: {', '.join(compared.differs)}"
    return GateDecision(verdict, said, None, result.low, result.high, rows, worse)


def _drop(gate: Gate, result: NonInferiority) -> str:
    if result.estimate is None:
        return "drop unknown"
    word = "drop" if result.estimate >= 0 else "gain"
    sign = 1 if result.estimate >= 0 else -1
    text = f"{word} {amount(gate, sign * result.estimate)}"
    if result.low is None or result.high is None:
        return text
    low, high = sorted((sign * result.low, sign * result.high))
    level = percent(2 * (gate.spec.confidence or 0.95) - 1)
    return f"{text} [{_bare(gate, low)}, {_bare(gate, high)}] ({level})"


def _bare(gate: Gate, value: float) -> str:
    return amount(gate, value).split(" ")[0]


def _says_drop(gate: Gate, result: NonInferiority, verdict: Verdict, drop: str) -> str:
    most = amount(gate, gate.spec.bound)
    if verdict == "pass":
        return f"not more than {most} worse: {drop}"
    if verdict == "fail":
        return f"more than {most} worse: {drop}"
    word = "worse, but not proven beyond max_drop" if result.worse else "not decided"
    hidden = f"; a drop of {amount(gate, result.high)} could still be hidden" if result.high is not None else ""
    return f"{word}: {drop}{hidden}"


def _says_origin(one: TestedGate, compared: BaselineResult) -> str:
    """How far it has come down since the first baseline, where that is another run."""
    if compared.origin_drop is None or compared.origin_drop <= 0:
        return ""
    return f"; {amount(one.gate, compared.origin_drop)} below its origin {compared.origin}"


def _flips(one: TestedGate, verdict: Verdict, other: Verdict) -> GateDecision:
    now = "passes" if verdict == "pass" else "is inconclusive"
    total = len(one.pairing.pairs)
    why = why_missing(one.evidence, one.gate.measure.name) or "its scorer skipped them"
    then = {"fail": "fail", "inconclusive": "be inconclusive", "pass": "pass"}[str(other)]
    reason = (
        f"{now} without the {one.pairing.missing} of {total} pairs that have no score, but would {then} with them at "
        f"the worst end: {why}"
    )
    return replace(GateDecision("untrusted", reason), low=one.result.low, high=one.result.high)


def origin_drop(gate: Gate, evidence: Evidence, baseline: Baseline, target: str) -> tuple[str | None, float | None]:
    """The run where the ratchet of a metric began, and how much worse the candidate is than that was, unpaired.

    Without the second where the baseline is that very run.
    """
    origin = baseline.head.origin.get(gate.measure.name) or {}
    values = (origin.get("values") or {}).get(target) or {}
    then, now = values.get(metric_key(gate.metric, gate.spec.slice)), value_of(gate, evidence)
    if then is None or now is None or origin.get("run_id") == baseline.head.run_id:
        return origin.get("run_id"), None
    return origin.get("run_id"), then - now if gate.higher_is_better else now - then
