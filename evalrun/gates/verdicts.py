"""Metrics to verdicts, and verdicts to an exit code: pure.

A point gate passes or fails by its value. It is untrusted where rows apply but too few were scored, or where
it passes only because cells without a value are left out: a broken provider is not a bad model, nor a good one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from evalrun.gates.naming import Gate
from evalrun.metrics import GateResult, Metric, Verdict
from evalrun.stats.aggregates import QUANTILE, aggregate
from evalrun.stats.summary import MIN_COVERAGE, Summary, coverage
from evalrun.stats.tally import Reduced

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq,
}  # fmt: skip

PASSED, FAILED, USAGE, UNTRUSTED, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 4, 130
ORDER = (INTERRUPTED, USAGE, FAILED, UNTRUSTED, INCONCLUSIVE, PASSED)
EXIT_CODES: dict[Verdict, int] = {
    "pass": PASSED, "fail": FAILED, "untrusted": UNTRUSTED, "inconclusive": INCONCLUSIVE,
}  # fmt: skip


def check_gates(gates: Sequence[Gate], summary: Summary) -> tuple[GateResult, ...]:
    """The verdict of every gate for each target it is about, in the order of the suite."""
    results: list[GateResult] = []
    metrics = {target: {metric.name: metric for metric in summary.metrics(target)} for target in summary.targets}
    for gate in gates:
        for target in summary.targets:
            if gate.spec.target in (None, target):
                reduced = summary.reduced(target, gate.measure.name)
                results.append(_check(gate, target, metrics[target][gate.metric], reduced))
    return tuple(results)


def exit_code(codes: Iterable[int]) -> int:
    """Of several exit codes the one that goes first: 130, 2, 1, 3, 4, 0."""
    return min(codes, key=ORDER.index, default=PASSED)


def overall(results: Sequence[GateResult]) -> Verdict:
    """The verdict of a run: the worst of its gates in the order of the exit codes; pass where there are none."""
    return min(
        (result.verdict for result in results), key=lambda verdict: ORDER.index(EXIT_CODES[verdict]), default="pass"
    )


def _check(gate: Gate, target: str, metric: Metric, reduced: Reduced) -> GateResult:
    verdict, reason = _verdict(gate, metric, reduced)
    return GateResult(
        gate=gate.spec.text,
        target=target,
        metric=metric.name,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        bound=gate.spec.bound,
        verdict=verdict,
        reason=reason,
        line=gate.spec.line,
    )


def _verdict(gate: Gate, metric: Metric, reduced: Reduced) -> tuple[Verdict, str]:
    if reduced.applicable == 0:
        if reduced.skipped:
            return "fail", f"no row applies: all {reduced.skipped} were skipped"
        return "untrusted", "no row was run"
    scored = len(reduced.values)
    if coverage(reduced) < MIN_COVERAGE:
        return "untrusted", f"scored {scored} of {reduced.applicable} rows: {why_missing(metric, reduced)}"
    assert metric.value is not None  # something was scored
    if not COMPARE[gate.spec.operator](metric.value, gate.spec.bound):
        return "fail", _misses(metric, gate)
    flipped = _at_worst(gate, reduced)
    if flipped is not None:
        return "untrusted", (
            f"passes without the {reduced.missing} of {reduced.applicable} rows that have no score, but would be "
            f"{flipped:.4g} with them at the worst end: {why_missing(metric, reduced)}"
        )
    return "pass", "within noise: its 95 % interval spans the bound" if _spans(metric, gate) else "clears the bound"


def _misses(metric: Metric, gate: Gate) -> str:
    noise = "; within noise: its 95 % interval spans the bound" if _spans(metric, gate) else ""
    return f"misses the bound{noise}"


def _spans(metric: Metric, gate: Gate) -> bool:
    return metric.low is not None and metric.high is not None and metric.low < gate.spec.bound < metric.high


def _at_worst(gate: Gate, reduced: Reduced) -> float | None:
    """The value that makes a passing gate miss once the missing cells are at an end of the range, or None.

    An open end of the range has no worst value: there only a quantile can be told (the missing ones lie beyond
    all others), and for the rest the coverage has to do.
    """
    if reduced.missing == 0:
        return None
    declaration = gate.measure.declaration
    quantile = QUANTILE.fullmatch(gate.aggregate) is not None
    ends = [declaration.low, declaration.high]
    if quantile:
        ends = [-float("inf") if ends[0] is None else ends[0], float("inf") if ends[1] is None else ends[1]]
    for end in ends:
        if end is None:
            continue
        filled = [*reduced.values, *([end] * reduced.missing)]
        value = aggregate(gate.aggregate, filled, threshold=declaration.threshold)
        if value is not None and not COMPARE[gate.spec.operator](value, gate.spec.bound):
            return value
    return None


def why_missing(metric: Metric, reduced: Reduced) -> str:
    """The sentences for rows without a score: provider, judge and model are three different things."""
    reasons = (metric.detail or {}).get("reasons", {})
    said: list[str] = []
    if reduced.errors:
        kinds = [name for name in reasons if not name.startswith(("no_answer", "judge", "not reported"))]
        said.append(f"the provider failed on {reduced.errors}{_listed(kinds)}")
    if reduced.judge:
        kinds = [name for name in reasons if name.startswith("judge")]
        checks = [name for name in kinds if "self-check" in name]
        if checks:
            said.append(f"the judge is not to be believed ({checks[0].removeprefix('judge: ')})")
        elif metric.scorer in ("cost_usd", "token_count", "ttft", "output_rate"):
            said.append(f"nobody reported it for {reduced.judge}")
        else:
            said.append(f"the judge could not be read on {reduced.judge}")
    if reduced.no_answer:
        kinds = [name.removeprefix("no_answer: ") for name in reasons if name.startswith("no_answer")]
        said.append(f"the model did not answer {reduced.no_answer}{_listed(kinds)}")
    return "; ".join(said)


def _listed(kinds: Sequence[str]) -> str:
    return f" ({', '.join(kinds)})" if kinds else ""
