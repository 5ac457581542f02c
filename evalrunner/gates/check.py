"""Metrics to verdicts: every gate on each target it is about, those on a baseline together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalrunner.baselines.file import Baseline
from evalrunner.domain import BaselineResult, GateResult
from evalrunner.gates.evidence import Evidence, gather, value_of
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.regression import CandidateRun, TestedGate, decide, evaluate_gate
from evalrunner.gates.threshold import GateDecision, check_threshold
from evalrunner.runs.provenance import NOTHING
from evalrunner.stats.aggregates import metric_interval
from evalrunner.stats.intervals import LEVEL
from evalrunner.stats.summary import Summary
from evalrunner.verdicts import INTERRUPTED, UNTRUSTED, Verdict, exit_code, worst_verdict

NO_CANDIDATE = CandidateRun(NOTHING, {})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What gates on a baseline need beside the numbers: the run's own side, and the baselines by name, if they are there."""

    side: CandidateRun = NO_CANDIDATE
    baselines: Mapping[str, Baseline] = field(default_factory=dict)


def check_gates(
    gates: Sequence[Gate], summary: Summary, comparison: Comparison = Comparison()
) -> tuple[GateResult, ...]:
    """The verdict of every gate for each target it is about, in the order of the suite."""
    places = [
        (gate, target) for gate in gates for target in summary.targets if gate.spec.target in (None, target)
    ]  # fmt: skip
    evidence = [gather(gate, summary, target) for gate, target in places]
    intervals = [_interval(gate, found) for (gate, _), found in zip(places, evidence, strict=True)]
    compared = _compare(places, evidence, comparison)
    results: list[GateResult] = []
    for at, (gate, target) in enumerate(places):
        if at in compared:
            finding, standing = compared[at]
        else:
            finding, standing = check_threshold(gate, evidence[at], interval=intervals[at]), None
        results.append(_result(gate, target, evidence[at], intervals[at], finding, standing))
    return tuple(results)


def run_verdict(results: Sequence[GateResult], *, unfinished: bool, interrupted: bool = False) -> tuple[Verdict, int]:
    """The verdict of a run and its exit code. A run that did not finish never passes."""
    codes = [result.exit_code for result in results]
    codes += [UNTRUSTED] * unfinished + [INTERRUPTED] * interrupted
    verdict = worst_verdict(result.verdict for result in results)
    if (unfinished or interrupted) and verdict != "fail":
        verdict = "untrusted"
    return verdict, exit_code(codes)


def _compare(
    places: Sequence[tuple[Gate, str]], evidence: Sequence[Evidence], comparison: Comparison
) -> dict[int, tuple[GateDecision, BaselineResult | None]]:
    """The findings of the gates on a baseline by their place, those of one baseline decided together."""
    families: dict[str, dict[int, TestedGate]] = {}
    for at, (gate, target) in enumerate(places):
        name = gate.spec.baseline
        if name is not None:
            baseline = comparison.baselines.get(name)
            tested = evaluate_gate(gate, target, evidence[at], comparison.side, baseline)
            families.setdefault(name, {})[at] = tested
    found: dict[int, tuple[GateDecision, BaselineResult | None]] = {}
    for family in families.values():
        found.update(zip(family, decide(list(family.values()), comparison.side), strict=True))
    return found


def _interval(gate: Gate, evidence: Evidence) -> tuple[float | None, float | None]:
    """The 95 % interval of a gate's metric, as the metric itself has it."""
    values, clusters = evidence.values, evidence.reduced.clusters
    found = metric_interval(gate.estimand, values, clusters=clusters, level=LEVEL, seed=evidence.seed)
    return found.low, found.high


def _result(
    gate: Gate,
    target: str,
    evidence: Evidence,
    interval: tuple[float | None, float | None],
    finding: GateDecision,
    standing: BaselineResult | None,
) -> GateResult:
    spec, rows = gate.spec, finding.rows
    decides = (rows.even, rows.strong) if rows and rows.even is not None and rows.strong is not None else None
    return GateResult(
        gate=spec.text,
        target=target,
        metric=gate.metric,
        value=value_of(gate, evidence),
        low=interval[0],
        high=interval[1],
        bound=spec.bound,
        verdict=finding.verdict,
        reason=finding.reason,
        line=spec.line,
        kind=spec.kind,
        confidence=spec.confidence,
        gate_low=finding.low,
        gate_high=finding.high,
        rows_to_decide=decides,
        baseline=standing,
        blocks=_blocks(gate, finding),
        slice=spec.slice,
    )


def _blocks(gate: Gate, finding: GateDecision) -> bool:
    """Whether a verdict that is neither good nor bad changes the exit code."""
    if finding.verdict == "inconclusive":
        policy = gate.spec.inconclusive
        return policy == "block" or (policy == "block_if_worse" and finding.worse)
    return gate.spec.baseline_required if finding.verdict == "no_baseline" else True
