"""Gates on a baseline: `max_drop` (non-inferiority) and `improved`, on paired samples. Pure.

A run and its baseline are paired sample by sample, on the id and the same input and expected output; epochs are reduced
first. A run passes only if all its gates pass, so *pass* needs no correction; *fail* and *improved* take Holm's over the
gates of one baseline as the suite lists them, those that could not be tested among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evalrunner.baselines.file import Baseline, BaselineRow, SampleKey, collect_rows, metric_key
from evalrunner.baselines.resolve import how_to_create, missing_reason
from evalrunner.domain import BaselineResult, Row
from evalrunner.gates.evidence import (
    CandidateRun,
    Evidence,
    amount,
    percent,
    reduce_scores,
    samples_needed,
    samples_needed_in_detail,
    value_of,
    why_unscored,
)
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.threshold import GateDecision
from evalrunner.prompts import find_value
from evalrunner.runs.provenance import Provenance, scorer_changes, target_changes
from evalrunner.stats.distributions import variance
from evalrunner.stats.hypothesis_tests import NonInferiority, SamplesToDecide, holm, mcnemar, non_inferiority
from evalrunner.stats.power import (
    PairedSpread,
    paired_spread,
    samples_for_drop,
    smallest_drop,
    smallest_drops_by_discordance,
)
from evalrunner.stats.summary import value_text
from evalrunner.verdicts import Verdict

UNTESTED = NonInferiority(None, None, None, "inconclusive", 0, 0.0, None)
SKIPPED = "its scorer skipped them"


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample that is in both runs: the baseline's reduced score, and the candidate's or None."""

    baseline: float
    candidate: float | None
    cluster: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs of one gate, and the samples excluded: changed, new, removed, or without a score in the baseline."""

    pairs: tuple[Pair, ...]
    changed: int = 0
    new: int = 0
    removed: int = 0
    unscored: int = 0

    @property
    def excluded(self) -> int:
        """Samples that are in no pair."""
        return self.changed + self.new + self.removed + self.unscored

    @property
    def missing(self) -> int:
        """Pairs without a score of the candidate."""
        return sum(1 for pair in self.pairs if pair.candidate is None)

    @property
    def note(self) -> str | None:
        """`3 samples excluded (1 changed, 2 new)`, or None."""
        kinds = {
            "changed": self.changed,
            "new": self.new,
            "removed": self.removed,
            "unscored in the baseline": self.unscored,
        }
        counts = [f"{count:,} {name}" for name, count in kinds.items() if count]
        noun = "sample" if self.excluded == 1 else "samples"
        return f"{self.excluded:,} {noun} excluded ({', '.join(counts)})" if counts else None


@dataclass(frozen=True, slots=True)
class TestedGate:
    """One gate on one target, tested alone. `worst` is the test with missing scores at the worst end of the range.

    `partner` is the target of the baseline. `missing_reason` says why there is nothing to compare with yet.
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
    gate: Gate, target: str, evidence: Evidence, candidate: CandidateRun, baseline: Baseline | None
) -> TestedGate:
    """The test of a gate on a target. There is none without a baseline that has the target and the scorer."""
    partner = None if baseline is None else baseline.target_for(target, candidate.provenance.targets)
    if baseline is None or partner is None or gate.measure.name not in baseline.head.provenance.scorers:
        missing = missing_reason(gate.spec.baseline or "main", baseline, target, partner, gate.measure.name)
        return TestedGate(gate, target, evidence, Pairing(()), UNTESTED, None, baseline, partner, missing)
    pairing = pair_up(gate, evidence, candidate.keys, baseline, partner)
    clustered, binary = evidence.clusters is not None, _is_binary(gate, baseline)
    result = _test(gate, list(drops_of(gate, pairing.pairs)), clustered=clustered, binary=binary)
    worst, end = None, gate.estimand.low if gate.higher_is_better else gate.estimand.high
    if pairing.missing and end is not None:
        filled = list(drops_of(gate, pairing.pairs, worst=end))
        worst = _test(gate, filled, clustered=clustered, binary=binary)
    return TestedGate(gate, target, evidence, pairing, result, worst, baseline, partner)


def _is_binary(gate: Gate, baseline: Baseline) -> bool:
    """Whether the scores of both sides are 0 or 1 by construction."""
    if gate.estimand.aggregate.always_share:
        return True
    scores = gate.measure.declaration.binary
    return gate.estimand.is_share and gate.reducer.yields_binary(binary=scores, epochs=baseline.head.epochs)


def _test(gate: Gate, drops: Sequence[tuple[float, int]], *, clustered: bool, binary: bool) -> NonInferiority:
    assert gate.spec.confidence is not None  # gates on a baseline have one
    values, width = [drop for drop, _ in drops], gate.estimand.sample_width
    if width is None:  # an open range: the largest difference observed
        width = max((abs(drop) for drop in values), default=0.0) or 1.0
    clusters = [cluster for _, cluster in drops] if clustered else None
    alpha = 1 - gate.spec.confidence
    span = None if binary else width
    return non_inferiority(values, max_drop=gate.spec.bound, span=span, clusters=clusters, alpha=alpha)


def decide_gates(
    tested: Sequence[TestedGate], candidate: CandidateRun
) -> list[tuple[GateDecision, BaselineResult | None]]:
    """The verdicts of all gates on one baseline, each with its comparison to the baseline."""
    results = [one.result for one in tested]
    verdicts = _verdicts(tested, results)
    decisions: list[tuple[GateDecision, BaselineResult | None]] = []
    for place, one in enumerate(tested):
        if one.missing_reason is not None:
            how = how_to_create(one.gate.spec.baseline or "main")
            decisions.append((GateDecision("no_baseline", f"{one.missing_reason}; {how}"), None))
            continue
        comparison = _comparison(one, candidate)
        decision = _untrusted(one) or _decision(one, verdicts[place], comparison)
        if decision.verdict not in ("untrusted", "fail") and one.worst is not None:
            changed = [one.worst if at == place else result for at, result in enumerate(results)]
            other = _verdicts(tested, changed)[place]
            if other != verdicts[place]:
                decision = _depends_on_missing(one, verdicts[place], other)
        decisions.append((decision, comparison))
    return decisions


def _verdicts(tested: Sequence[TestedGate], results: Sequence[NonInferiority]) -> list[Verdict]:
    """Each gate's verdict by its test, corrected over all of them."""
    improved = [one.gate.spec.kind == "improved" for one in tested]
    fails = holm([_p(r.p_worse if better else r.p_fail) for r, better in zip(results, improved, strict=True)])
    gains = holm([_p(r.p_better if better else r.p_fail) for r, better in zip(results, improved, strict=True)])
    verdicts: list[Verdict] = []
    for one, result, fail, gain in zip(tested, results, fails, gains, strict=True):
        alpha = 1 - (one.gate.spec.confidence or 0.0) + 1e-12
        passed = gain <= alpha if one.gate.spec.kind == "improved" else result.decision == "pass"
        verdicts.append("pass" if passed else "fail" if fail <= alpha else "inconclusive")
    return verdicts


def _p(value: float | None) -> float:
    return 1.0 if value is None else value


def _comparison(one: TestedGate, candidate: CandidateRun) -> BaselineResult:
    assert one.baseline is not None and one.partner is not None  # the caller has checked
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
        excluded=one.pairing.excluded,
        missing=one.pairing.missing,
        p_value=_p_value(one),
        method=result.method,
        origin_drop=drop,
        differs=tuple(
            target_changes(one.baseline.head.provenance.targets[one.partner], candidate.provenance.targets[one.target])
        ),
    )


def _p_value(one: TestedGate) -> float | None:
    """The two-sided p-value of "no difference": exact McNemar's for 0/1 scores, else that of the t-test."""
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
    total, details = len(pairing.pairs), () if pairing.note is None else (pairing.note,)
    if not total:
        note = f": {pairing.note}" if pairing.note else ""
        return GateDecision("untrusted", f"no sample has a score in both runs{note}")
    scored = total - pairing.missing
    if scored / total < one.gate.spec.min_coverage or not scored:
        why = why_unscored(one.evidence, one.gate.measure.name) or SKIPPED
        return GateDecision("untrusted", f"scored {scored} of {total} pairs: {why}", details=details)
    return None


def _decision(one: TestedGate, verdict: Verdict, comparison: BaselineResult) -> GateDecision:
    gate, result = one.gate, one.result
    rows: SamplesToDecide | None = None
    change = _change(gate, result)
    note = f" ({result.note})" if result.note and verdict == "inconclusive" else ""
    if gate.spec.kind == "improved":
        endings = {"pass": "", "fail": "; an improvement is required", "inconclusive": ": not significant"}
        reason = change + endings[verdict] + note
        worse = result.estimate is not None and result.estimate >= 0
    else:
        allowed = "allowed" if (result.estimate or 0.0) > 0 else "allowed drop"
        rows = result.rows if verdict == "inconclusive" else None
        reason = f"{change}; {allowed} {_bound(gate)}{note}"
        worse = result.worse
        if rows is not None:
            reason = f"{reason}.{samples_needed(rows)}".removesuffix(".")
    details = samples_needed_in_detail(rows, more_epochs_help=one.evidence.more_epochs_help)
    details += _notes(one, comparison)
    return GateDecision(verdict, reason, None, result.low, result.high, rows, worse, tuple(details))


def _bound(gate: Gate) -> str:
    """The allowed drop, as the suite gives it: in points for a metric in 0..1."""
    return f"{100 * gate.spec.bound:.4g}" if gate.estimand.bounds == (0.0, 1.0) else f"{gate.spec.bound:.4g}"


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


def _notes(one: TestedGate, comparison: BaselineResult) -> Iterator[str]:
    if comparison.origin_drop is not None and comparison.origin_drop > 0:
        yield f"{amount(one.gate, comparison.origin_drop)} below the first baseline, run {comparison.origin}"
    if one.pairing.note is not None:
        yield one.pairing.note
    if comparison.differs:
        yield f"differs from the baseline in {', '.join(comparison.differs)}"


def _depends_on_missing(one: TestedGate, verdict: Verdict, other: Verdict) -> GateDecision:
    """The verdict that does not hold for every possible score of the pairs without one."""
    now = "passes" if verdict == "pass" else "is inconclusive"
    total, missing = len(one.pairing.pairs), one.pairing.missing
    why = why_unscored(one.evidence, one.gate.measure.name) or SKIPPED
    reason = (
        f"{now} on the {total - missing} of {total} pairs with a score, but the other {missing} could change that "
        f"(worst case: {other}): {why}"
    )
    return GateDecision("untrusted", reason, low=one.result.low, high=one.result.high)


@dataclass(frozen=True, slots=True)
class DetectableDrop:
    """The smallest drop that a gate detects with 80% power.

    `pairs` is the number of pairs of earlier runs behind it. Without them, `by_discordance` has the drop for assumed
    shares of changed samples. `samples_needed` is set if the allowed drop is smaller.
    """

    drop: float
    pairs: int | None = None
    by_discordance: tuple[tuple[float, float], ...] = ()
    samples_needed: int | None = None


def detectable_drop(gate: Gate, n: int, spread: PairedSpread | None) -> DetectableDrop | None:
    """The smallest detectable drop of a gate on n samples; None for graded scores without an earlier run."""
    if spread is not None:
        span = 0.0 if gate.estimand.is_share else gate.estimand.sample_width or 0.0
        alpha = 1 - (gate.spec.confidence or 0.95)
        drop = smallest_drop(n=n, variance=spread.variance, df=spread.df, span=span, alpha=alpha)
        result = DetectableDrop(drop, spread.pairs)
    elif gate.estimand.is_share:
        by_discordance = smallest_drops_by_discordance(n)
        result = DetectableDrop(by_discordance[0][1], by_discordance=by_discordance)
    else:
        return None
    if gate.spec.kind == "max_drop" and 0 < gate.spec.bound < result.drop:
        return replace(result, samples_needed=samples_for_drop(n, smallest=result.drop, drop=gate.spec.bound))
    return result


def spread_between(
    gate: Gate, baseline: Baseline, partner: str, rows: Sequence[Row], *, epochs: int, cluster: str | None
) -> PairedSpread | None:
    """The spread of the paired differences between a baseline's target and the rows of one target of another run."""
    names = {row.sample.id: value_text(find_value(row.sample.metadata, cluster)) for row in rows} if cluster else {}
    differences: list[float] = []
    clusters: list[str] = []
    within: list[float] = []
    for (_, id_), row in collect_rows(rows, epochs=epochs).items():
        other = baseline.rows.get((partner, id_))
        if other is None or other.key != row.key:
            continue
        before, now = _reduced(gate, other), _reduced(gate, row)
        if before is None or now is None:
            continue
        differences.append(gate.estimand.of_sample(before) - gate.estimand.of_sample(now))
        clusters.append(names.get(id_, id_) or id_)
        within.append(_epoch_variance(side.scores.get(gate.measure.name, ()) for side in (other, row)))
    return paired_spread(
        differences,
        clusters=None if cluster is None else clusters,
        within=within if gate.reducer.kind == "mean" else None,
        epochs=epochs,
        planned=gate.epochs,
    )


def _epoch_variance(sides: Iterable[Sequence[float | None]]) -> float:
    """The sum over both runs of the variance between the epochs of a sample (ddof 1)."""
    scores = [[value for value in side if value is not None] for side in sides]
    return math.fsum(variance(values) * len(values) / (len(values) - 1) for values in scores if len(values) > 1)


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


def pair_up(
    gate: Gate, evidence: Evidence, keys: Mapping[int, SampleKey], baseline: Baseline, target: str
) -> Pairing:  # fmt: skip
    """The pairs of a gate's samples with those of the baseline's `target`.

    A sample that the candidate's scorer skips is paired too, without a score.
    """
    pairs: list[Pair] = []
    counts = {"changed": 0, "new": 0, "unscored": 0}
    seen: set[str] = set()
    for place, score in evidence.by_position():
        key = keys[place]
        seen.add(key.id)
        row = baseline.rows.get((target, key.id))
        if row is None:
            counts["new"] += 1
        elif row.key != key:
            counts["changed"] += 1
        elif (value := _reduced(gate, row)) is None:
            counts["unscored"] += score is not None
        else:
            pairs.append(Pair(value, score, evidence.cluster_of(place)))
    removed = 0 if gate.spec.slice else sum(1 for at, id_ in baseline.rows if at == target and id_ not in seen)
    return Pairing(tuple(pairs), counts["changed"], counts["new"], removed, counts["unscored"])


def _reduced(gate: Gate, row: BaselineRow) -> float | None:
    return reduce_scores(gate, [value for value in row.scores.get(gate.measure.name, ()) if value is not None])


def drops_of(gate: Gate, pairs: Iterable[Pair], *, worst: float | None = None) -> Iterator[tuple[float, int]]:
    """How much worse the candidate is in each pair, with the pair's cluster; missing ones at `worst`, or excluded."""
    estimand = gate.estimand
    for pair in pairs:
        candidate = pair.candidate if pair.candidate is not None else worst
        if candidate is None:
            continue
        before, now = estimand.of_sample(pair.baseline), estimand.of_sample(candidate)
        yield (before - now if gate.higher_is_better else now - before), pair.cluster


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
