"""Metrics to verdicts: every gate on each of its targets, and the verdict of the run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalrunner.domain import BaselineResult, GateResult
from evalrunner.gates.evidence import CandidateRun, Evidence, gather_evidence, value_of
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.threshold import GateDecision, check_threshold
from evalrunner.runs.provenance import EMPTY_PROVENANCE
from evalrunner.stats.aggregates import metric_interval
from evalrunner.stats.intervals import LEVEL
from evalrunner.stats.summary import Summary
from evalrunner.verdicts import INTERRUPTED, UNTRUSTED, Verdict, exit_code, worst_verdict

if TYPE_CHECKING:
    from evalrunner.baselines.file import Baseline
    from evalrunner.gates.regression import TestedGate

NO_CANDIDATE = CandidateRun(EMPTY_PROVENANCE, {})


@dataclass(frozen=True, slots=True)
class BaselineContext:
    """What gates on a baseline need besides the numbers: the candidate run, and the baselines that exist, by name."""

    candidate: CandidateRun = NO_CANDIDATE
    baselines: Mapping[str, Baseline] = field(default_factory=dict)


def check_gates(
    gates: Sequence[Gate], summary: Summary, context: BaselineContext = BaselineContext()
) -> tuple[GateResult, ...]:
    """The verdict of every gate for each of its targets, in the order of the suite."""
    pairs = [
        (gate, target) for gate in gates for target in summary.targets if gate.spec.target in (None, target)
    ]  # fmt: skip
    evidence = [gather_evidence(gate, summary, target) for gate, target in pairs]
    intervals = [_interval(gate, each) for (gate, _), each in zip(pairs, evidence, strict=True)]
    compared = _check_regressions(pairs, evidence, context)
    results: list[GateResult] = []
    for at, (gate, target) in enumerate(pairs):
        if at in compared:
            decision, comparison = compared[at]
        else:
            decision, comparison = check_threshold(gate, evidence[at], interval=intervals[at]), None
        results.append(_result(gate, target, evidence[at], intervals[at], decision, comparison))
    return tuple(results)


def run_verdict(results: Sequence[GateResult], *, unfinished: bool, interrupted: bool = False) -> tuple[Verdict, int]:
    """The verdict of a run and its exit code. A run that did not finish never passes."""
    codes = [result.exit_code for result in results]
    codes += [UNTRUSTED] * unfinished + [INTERRUPTED] * interrupted
    verdict = worst_verdict(result.verdict for result in results)
    if (unfinished or interrupted) and verdict != "fail":
        verdict = "untrusted"
    return verdict, exit_code(codes)


def _check_regressions(
    pairs: Sequence[tuple[Gate, str]], evidence: Sequence[Evidence], context: BaselineContext
) -> dict[int, tuple[GateDecision, BaselineResult | None]]:
    """The decisions of the gates on a baseline by their position; those of one baseline are decided together."""
    if all(gate.spec.baseline is None for gate, _ in pairs):
        return {}
    from evalrunner.gates.regression import decide_gates, evaluate_gate

    families: dict[str, dict[int, TestedGate]] = {}
    for at, (gate, target) in enumerate(pairs):
        name = gate.spec.baseline
        if name is not None:
            baseline = context.baselines.get(name)
            tested = evaluate_gate(gate, target, evidence[at], context.candidate, baseline)
            families.setdefault(name, {})[at] = tested
    decisions: dict[int, tuple[GateDecision, BaselineResult | None]] = {}
    for family in families.values():
        decisions.update(zip(family, decide_gates(list(family.values()), context.candidate), strict=True))
    return decisions


def _interval(gate: Gate, evidence: Evidence) -> tuple[float | None, float | None]:
    """The 95% interval of a gate's metric, the same as in the metric itself."""
    values, clusters = evidence.values, evidence.reduced.clusters
    result = metric_interval(gate.estimand, values, clusters=clusters, level=LEVEL, seed=evidence.seed)
    return result.low, result.high


def _result(
    gate: Gate,
    target: str,
    evidence: Evidence,
    interval: tuple[float | None, float | None],
    decision: GateDecision,
    comparison: BaselineResult | None,
) -> GateResult:
    spec, rows = gate.spec, decision.rows
    return GateResult(
        gate=spec.text,
        target=target,
        metric=gate.metric,
        value=value_of(gate, evidence),
        low=interval[0],
        high=interval[1],
        bound=spec.bound,
        verdict=decision.verdict,
        reason=decision.reason,
        line=spec.line,
        kind=spec.kind,
        confidence=spec.confidence,
        gate_low=decision.low,
        gate_high=decision.high,
        samples_to_decide=(rows.even, rows.strong)
        if rows and rows.even is not None and rows.strong is not None
        else None,
        baseline=comparison,
        blocks=_blocks(gate, decision),
        slice=spec.slice,
        details=decision.details,
    )


def _blocks(gate: Gate, decision: GateDecision) -> bool:
    """Whether the verdict changes the exit code: for some verdicts the suite decides."""
    if decision.verdict == "inconclusive":
        policy = gate.spec.inconclusive
        return policy == "block" or (policy == "block_if_worse" and decision.worse)
    return gate.spec.baseline_required if decision.verdict == "no_baseline" else True
