"""Gates on what people's labels say of a judge: `factuality.corrected`, `.kappa`, `.sensitivity` … by one-sided bounds. Pure.

They always have a confidence: the interval of few labels is wide, and a gate that it cannot decide is inconclusive.
Without enough labels the gate is untrusted, as nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from evalrunner.formatting import counted, significant
from evalrunner.gates.decision import GateDecision, Outcome, TestedGate, join
from evalrunner.gates.evidence import Evidence, missing_note, percent
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.threshold import meets
from evalrunner.stats.corrected import CORRECTED, JudgedTarget
from evalrunner.stats.hypothesis_tests import SamplesToDecide, samples_to_decide
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.stats.summary import Summary

BISECTIONS: Final = 14  # of a p-value: to a ten-thousandth
DEFAULT_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class JudgeBounds:
    """A statistic with both of its ends at one level, and the number of labels behind it; `note` says what is missing."""

    value: float | None
    low: float | None
    high: float | None
    labels: int
    note: str | None = None


def evaluate_judged(gate: Gate, target: str, evidence: Evidence, summary: Summary) -> tuple[TestedGate, JudgeBounds]:
    """The test of a gate on a statistic of labels, and the statistic with its 95% interval."""
    judged = judged_rows(gate, target, summary)
    if judged is None:
        nothing = JudgeBounds(None, None, None, 0, "no labels")
        settled = GateDecision("untrusted", "no labels: nothing is known of the judge")
        return TestedGate(gate, target, evidence, settled=settled), nothing
    shown = statistic_bounds(gate, judged, level=0.95)
    if (undecided := _without_evidence(gate, evidence, shown)) is not None:
        return TestedGate(gate, target, evidence, settled=undecided), shown
    confidence = gate.spec.confidence
    assert confidence is not None  # set by the builder
    bounds = statistic_bounds(gate, judged, level=2 * confidence - 1)
    bad, good = _sides(gate, bounds)
    passed = bad is not None and meets(gate, bad)
    outcome = Outcome(passed, p_fail=_p_fail(gate, judged, confidence, good))
    describe = partial(_describe, gate, evidence, bounds)
    return TestedGate(gate, target, evidence, outcome, describe=describe, describe_missing=_impossible), shown


def judged_rows(gate: Gate, target: str, summary: Summary) -> JudgedTarget | None:
    """The rows of a gate's target and slice with their labels."""
    judged = summary.judged(target, gate.measure)
    if judged is None or gate.spec.slice is None:
        return judged
    ((column, text),) = gate.spec.slice.items()
    groups = summary.slices[column]
    return judged.in_group(groups.codes, groups.code_of(text))


def statistic_bounds(gate: Gate, judged: JudgedTarget, *, level: float) -> JudgeBounds:
    """The statistic of a gate with its interval at a level."""
    if gate.aggregate == CORRECTED:
        result = judged.corrected(level=level)
        return JudgeBounds(result.value, result.low, result.high, result.labels, result.detail.get("interval"))
    rate = getattr(judged.pairs(), gate.aggregate)(level=level)
    note = rate.note or (
        f"no labels of {'good' if gate.aggregate == 'sensitivity' else 'bad'} answers" if not rate.n else None
    )
    return JudgeBounds(rate.value, rate.low, rate.high, rate.n, note)


def _without_evidence(gate: Gate, evidence: Evidence, shown: JudgeBounds) -> GateDecision | None:
    """The verdict where too few answers have a score, or too few labels are there; else None."""
    if evidence.total and evidence.coverage < gate.spec.min_coverage:
        return GateDecision("untrusted", missing_note(evidence, gate.measure.name), shown.value)
    if shown.value is None or shown.low is None or shown.high is None:
        return GateDecision("untrusted", f"no value to decide on: {shown.note or 'no labels'}", shown.value)
    return None


def _sides(gate: Gate, bounds: JudgeBounds) -> tuple[float | None, float | None]:
    """The bound on the bad side of the value, and the one on the good side."""
    ends = (bounds.low, bounds.high)
    return ends if gate.spec.operator in (">=", ">") else ends[::-1]


def _p_fail(gate: Gate, judged: JudgedTarget, confidence: float, good: float | None) -> float:
    """The p-value of "the gate's condition holds", searched below the gate's own level."""
    if good is None or meets(gate, good):
        return 1.0
    fails, holds = 1 - confidence, 0.0
    for _ in range(BISECTIONS):
        middle = (fails + holds) / 2
        end = _sides(gate, statistic_bounds(gate, judged, level=1 - 2 * middle))[1]
        fails, holds = (fails, middle) if end is None or meets(gate, end) else (middle, holds)
    return fails


def _describe(gate: Gate, evidence: Evidence, bounds: JudgeBounds, verdict: Verdict, family: int) -> GateDecision:
    bad, good = _sides(gate, bounds)
    assert bounds.value is not None and bad is not None and good is not None and gate.spec.confidence is not None
    at = f"at {percent(gate.spec.confidence)} confidence ({counted(bounds.labels, 'label')})"
    side = ("at least", "at most") if gate.spec.operator in (">=", ">") else ("at most", "at least")
    missing = missing_note(evidence, gate.measure.name) if evidence.missing else None
    if verdict != "inconclusive":
        word, end, what = (side[0], bad, "meets") if verdict == "pass" else (side[1], good, "misses")
        reason = f"{word} {significant(end, gate.spec.bound)[0]} {at}: {what} the threshold"
        return GateDecision(verdict, join([reason, missing]), bounds.value, bounds.low, bounds.high)
    right = meets(gate, bounds.value)
    rows = samples_to_decide(
        bounds.labels, half=abs(bounds.value - (bad if right else good)), estimate=bounds.value, bound=gate.spec.bound
    )
    low, high = significant(bounds.low or 0.0, bounds.high or 0.0, gate.spec.bound)[:2]
    reason = f"between {low} and {high} {at}: not conclusive.{labels_needed(rows)}".removesuffix(".")
    if not meets(gate, good):
        reason = f"{side[1]} {significant(good, gate.spec.bound)[0]} {at}, but not after Holm's correction for {family} gates"
    return GateDecision(verdict, join([reason, missing]), bounds.value, bounds.low, bounds.high, None, not right)


def labels_needed(rows: SamplesToDecide) -> str:
    """` About 420 labels are needed to decide.`, rounded up to two digits."""
    if rows.strong is None:
        return " No practical number of labels would decide."
    digits = 10 ** max(0, len(str(rows.strong)) - 2)
    return f" About {-(-rows.strong // digits) * digits:,} labels are needed to decide."


def _impossible() -> GateDecision:
    raise AssertionError("a gate on labels has no fillings, so none can change its verdict")
