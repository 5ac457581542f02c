"""Metrics to verdicts: every gate on each of its targets, and the verdict of the run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evalrunner.domain import EMPTY, BaselineResult, GateResult
from evalrunner.gates.decision import UNTESTED, GateDecision, TestedGate, decide, has_test, join
from evalrunner.gates.evidence import (
    Evidence,
    changed_samples,
    gather_evidence,
    positions_in_slice,
    skipped_note,
    value_of,
)
from evalrunner.gates.judged import evaluate_judged
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.threshold import evaluate_threshold
from evalrunner.stats.summary import Groups, Summary
from evalrunner.verdicts import INTERRUPTED, UNTRUSTED, Verdict, exit_code, worst_verdict

if TYPE_CHECKING:
    from evalrunner.baselines.file import Baseline
    from evalrunner.gates.pairing import CandidateRun
    from evalrunner.gates.sequential import SequentialContext

EVERY_VALUE = "*"


@dataclass(frozen=True, slots=True)
class BaselineContext:
    """What gates need besides the numbers: the candidate run, the baselines that exist, by name, and what was seen before.

    Without a `random_order` of the samples, sequential gates are ordinary ones: their first samples say nothing of the
    others.
    """

    candidate: CandidateRun | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    sequential: SequentialContext | None = None
    random_order: bool = True


def check_gates(
    gates: Sequence[Gate], summary: Summary, context: BaselineContext = BaselineContext()
) -> tuple[GateResult, ...]:
    """The verdict of every gate for each of its targets, in the order of the suite."""
    tested: list[TestedGate] = []
    intervals: list[tuple[float | None, float | None]] = []
    pairs = gates_by_target(gates, summary, context.baselines)
    later = context.sequential is not None and context.sequential.first_look is not None
    for gate, target in pairs:
        evidence = gather_evidence(gate, summary, target)
        if gate.judged:
            one, shown = evaluate_judged(gate, target, evidence, summary)
            tested.append(one)
            intervals.append((shown.low, shown.high))
            continue
        interval = summary.interval(gate.estimand, evidence.values, evidence.reduced)
        intervals.append((interval.low, interval.high))
        if gate.spec.baseline is None:
            tested.append(evaluate_threshold(gate, target, evidence, interval=intervals[-1]))
        else:
            tested.append(_evaluate_regression(gate, target, evidence, summary, context))
        if (gate.spec.sequential and context.random_order) or (later and has_test(gate)):
            tested[-1] = _sequentially(tested[-1], pairs, summary, context)
    decisions = decide(tested)
    return tuple(
        _result(one.gate, one.target, one.evidence, interval, decision, one.comparison)
        for one, interval, decision in zip(tested, intervals, decisions, strict=True)
    )


def _sequentially(
    one: TestedGate, pairs: Sequence[tuple[Gate, str]], summary: Summary, context: BaselineContext
) -> TestedGate:
    """The gate with its sequential verdict, where there is one."""
    from evalrunner.gates.sequential import decide_sequentially, family_size

    later = not (one.gate.spec.sequential and context.random_order)
    decision = decide_sequentially(one.gate, one.target, summary, context, family=family_size(pairs), later=later)
    if decision is None:
        return one
    skipped = skipped_note(one.evidence, one.gate.measure.name)
    if skipped and skipped not in decision.reason:
        decision = replace(decision, reason=join([decision.reason, skipped]))
    if one.comparison is not None and (changed := changed_samples(one.comparison)):
        decision = replace(decision, details=(changed, *decision.details))
    return replace(one, settled=decision, observed=UNTESTED, filled=())


def gates_by_target(
    gates: Sequence[Gate], summary: Summary, baselines: Mapping[str, Baseline] = EMPTY
) -> list[tuple[Gate, str]]:
    """Each gate with each of its targets; a gate on `[column=*]` once for each value of the column."""
    return [
        (replace(single, binary=summary.observed_binary(single.measure)), target)
        for gate in gates
        for single in expand_slices(gate, summary.slices, baselines.get(gate.spec.baseline or ""))
        for target in summary.targets
        if single.spec.target in (None, target)
    ]


def expand_slices(gate: Gate, slices: Mapping[str, Groups], baseline: Baseline | None = None) -> Iterator[Gate]:
    """The gate for each value of its slice column where it is about every value (`[topic=*]`), else the gate.

    Values that only the baseline has are among them, so that a whole slice cannot be removed unseen.
    """
    spec = gate.spec
    if spec.slice is None or EVERY_VALUE not in spec.slice.values():
        yield gate
        return
    ((column, _),) = spec.slice.items()
    texts = set(slices[column].texts)
    if baseline is not None and spec.changed_data != "ignore":
        texts |= {row.slices.get(column, "") for row in baseline.rows.values() if row.slices is not None}
    for text in sorted(filter(None, texts)):
        label = spec.text.replace(f"[{column}={EVERY_VALUE}]", f"[{column}={text}]")
        yield replace(gate, spec=replace(spec, slice={column: text}, text=label))


def run_verdict(results: Sequence[GateResult], *, unfinished: bool, interrupted: bool = False) -> tuple[Verdict, int]:
    """The verdict of a run and its exit code. A run that did not finish never passes."""
    codes = [result.exit_code for result in results]
    codes += [UNTRUSTED] * unfinished + [INTERRUPTED] * interrupted
    verdict = worst_verdict(result.verdict for result in results)
    if (unfinished or interrupted) and verdict != "fail":
        verdict = "untrusted"
    return verdict, exit_code(codes)


def _evaluate_regression(
    gate: Gate, target: str, evidence: Evidence, summary: Summary, context: BaselineContext
) -> TestedGate:
    from evalrunner.gates.pairing import NO_CANDIDATE
    from evalrunner.gates.regression import evaluate_regression

    candidate, baseline = context.candidate or NO_CANDIDATE, context.baselines.get(gate.spec.baseline or "")
    if summary.decided:  # samples that did not run are beyond its end, not missing
        run = set(evidence.tally.samples)
        keys = {place: key for place, key in candidate.keys.items() if place in run}
        candidate = replace(candidate, keys=keys, limited=True)
    return evaluate_regression(gate, target, evidence, candidate, baseline, positions_in_slice(gate, summary))


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
        value=decision.value if gate.judged else value_of(gate, evidence),
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
        blocks=blocks(gate, decision.verdict, worse=decision.worse),
        slice=spec.slice,
        details=decision.details,
    )


def blocks(gate: Gate, verdict: Verdict, *, worse: bool) -> bool:
    """Whether a verdict other than pass changes the exit code: for some verdicts the suite decides."""
    if verdict == "inconclusive":
        policy = gate.spec.inconclusive
        return policy == "block" or (policy == "block_if_worse" and worse)
    return gate.spec.baseline_required if verdict == "no_baseline" else True
