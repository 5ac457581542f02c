"""The sentences of verdicts: who is to blame for rows without a score, amounts as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from evalrunner.domain import FailureKind
from evalrunner.gates.evidence import Evidence
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.hypothesis_tests import RowsToDecide
from evalrunner.stats.summary import JUDGE, NO_ANSWER, TOO_FEW_EPOCHS, Reason

REPORTED = ("cost_usd", "token_count", "ttft", "output_rate")  # what nobody may tell, which is no judge's doing


def why_missing(evidence: Evidence, scorer: str) -> str:
    """The sentences for samples without a score: provider, judge and model are three different things."""
    said = _of_errors(evidence)
    if judged := evidence.count(JUDGE):
        said.append(_of_judge(judged, evidence.reasons, scorer))
    if silent := evidence.count(NO_ANSWER):
        kinds = [reason or "" for cause, reason in evidence.reasons if cause == "no_answer"]
        said.append(f"the model did not answer {silent}{_listed(kinds)}")
    if few := evidence.count(TOO_FEW_EPOCHS):
        said.append(f"too few epochs were scored of {few}")
    return "; ".join(said)


def _of_errors(evidence: Evidence) -> list[str]:
    """Whose failure it was: that of the target's provider, of its judge's, or of code that the suite names."""
    of_target, of_scorer = evidence.errors()
    calls, said = evidence.calls.reasons, list[str]()
    if of_target:
        kinds = _failure_kinds(calls)
        whose = "the target's function" if kinds == ["function"] else "the provider"
        said.append(f"{whose} failed on {of_target}{_listed(kinds)}")
    if of_scorer:
        kinds = _failure_kinds({one: count for one, count in evidence.reasons.items() if count > calls.get(one, 0)})
        whose = "the scorer" if kinds == ["function"] else "the judge's provider"
        said.append(f"{whose} failed on {of_scorer}{_listed(kinds)}")
    return said


def _failure_kinds(reasons: Iterable[Reason]) -> list[str]:
    """The kinds of failure among causes."""
    return [str(cause) for cause, _ in reasons if cause in get_args(FailureKind)]


def _of_judge(count: int, reasons: Mapping[Reason, int], scorer: str) -> str:
    checks = [reason for cause, reason in reasons if cause == "judge_check"]
    if checks:
        return f"the judge is not to be believed ({checks[0]})"
    if scorer in REPORTED:
        return f"nobody reported it for {count}"
    return f"the judge could not be read on {count}"


def _listed(kinds: Sequence[str]) -> str:
    return f" ({', '.join(kinds)})" if kinds else ""


def percent(confidence: float) -> str:
    """`95 %`"""
    return f"{100 * confidence:.4g} %"


def amount(gate: Gate, value: float) -> str:
    """A difference of a metric: in points where it is a share, else as it is, with its unit."""
    if gate.estimand.bounds == (0.0, 1.0):
        return f"{100 * value:.2f} points"
    unit = gate.measure.declaration.unit
    return f"{value:.4g} {unit}" if unit else f"{value:.4g}"


def what_decides(rows: RowsToDecide | None, *, epochs: bool) -> str:
    """How many rows would decide, and whether more epochs would."""
    if rows is None:
        return ""
    if rows.even is None or rows.strong is None:
        return "; no practical number of rows would decide"
    more = ", as would more epochs" if epochs else ""
    if rows.even == rows.strong:
        return f"; about {rows.even:,} rows would decide{more}"
    return f"; about {rows.even:,} rows would decide with even odds, {rows.strong:,} with 80 %{more}"
