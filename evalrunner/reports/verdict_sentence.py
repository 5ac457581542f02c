"""The verdict of a run and the reason for it in one or two sentences: the same on the terminal, in the report and in CI."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from evalrunner.domain import BaselineResult, Failure, GateResult, Metric
from evalrunner.errors import RunError
from evalrunner.formatting import counted, interval, number, one_line, significant
from evalrunner.reports.missing import ALWAYS
from evalrunner.reports.view import DONE, NOT_FINISHED, RunView
from evalrunner.runs.folder import ROWS_FILE
from evalrunner.runs.row_log import decode_row, is_event

# `contains` of `contains >= 0.8 at 0.95 confidence`, of `contains at most 0.05 worse than main`, of `contains better than main`
THRESHOLD: Final = re.compile(r"(?P<metric>.+?) (?P<operator>>=|<=|==|>|<) \S+(?: at \S+ confidence)?")
CHANGE: Final = re.compile(r"(?P<metric>.+?) (?:at most \S+ worse|better) than .+")
NEEDS: Final = {
    ">=": "needs at least", ">": "needs more than", "<=": "allows at most", "<": "needs less than", "==": "needs exactly",
}  # fmt: skip
MAX_NAME: Final = 80
MAX_MESSAGE: Final = 200
ROWS_READ: Final = 2_000  # to find the failure of a run: where it is untrusted, its failures are many
TARGETS_NAMED: Final = 3


def sentence(run: RunView) -> str:
    """The result of a run and the reason for it: `contains fell 8.1 points below main (allowed 5). 31 samples got worse.`"""
    if run.word == NOT_FINISHED:
        return "The run did not finish; the numbers cover the rows on disk."
    if run.word == "INTERRUPTED":
        return f"Interrupted after {run.rows:,} of {counted(run.rows_planned, 'row')}."
    if run.word == DONE:
        return _without_gates(run)
    first = run.gates_worst_first[0] if run.gates else None
    if first is None or (run.verdict == "untrusted" and (run.stopped or _failures_decide(first, run))):
        return _untrusted(run)
    if run.verdict == "pass":
        return _passed(run)
    others = sum(gate.verdict == first.verdict for gate in run.gates) - 1
    more = f" {counted(others, 'more gate')} {_state(first, others)}." if others else ""
    early = f" {_ended(f'The run stopped early: {run.stopped}')}" if run.stopped else ""
    return f"{gate_outcome(first, run)}{more}{early}"


def _ended(text: str) -> str:
    """A sentence with its mark; the reason of a stop may end with a question, such as `is the server running?`."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _state(gate: GateResult, count: int) -> str:
    """What is said of further gates with the same verdict."""
    be = "is" if count == 1 else "are"
    return {"fail": "failed", "no_baseline": f"{'has' if count == 1 else 'have'} no baseline"}.get(
        gate.verdict, f"{be} {gate.verdict}"
    )


def _why_no_gates(run: RunView) -> str:
    record = run.record
    if record is not None and record.dataset.shard is not None and record.resolved.get("gates"):
        return "Gates are checked when the shards are merged."
    return "The suite has no gates."


def _without_gates(run: RunView) -> str:
    """`contains is 0.906 (95% CI 0.868–0.934). The suite has no gates.`"""
    values = [(name, metric) for name, metric in _headlines(run) if metric.value is not None]
    if not values:
        return _why_no_gates(run)
    if len(run.targets) == 1:
        metric = values[0][1]
        between = (
            f" (95% CI {interval(metric.low, metric.high, beside=(metric.value,))})" if _has_interval(metric) else ""
        )
        return f"{metric.scorer} is {number(metric.value, metric.unit)}{between}. {_why_no_gates(run)}"
    named = ", ".join(
        f"{one_line(name, 40)} {number(metric.value, metric.unit)}" for name, metric in values[:TARGETS_NAMED]
    )
    more = f", and {counted(len(values) - TARGETS_NAMED, 'more target')}" if len(values) > TARGETS_NAMED else ""
    return f"{values[0][1].scorer}: {named}{more}. {_why_no_gates(run)}"


def _headlines(run: RunView) -> Iterator[tuple[str, Metric]]:
    """The headline metric of each target."""
    for name, target in run.targets.items():
        own = [metric for metric in target.metrics if metric.scorer == run.headline and metric.slice is None]
        yield from ((name, metric) for metric in own[:1])


def _has_interval(part: Metric | GateResult) -> bool:
    return part.low is not None or part.high is not None


def _passed(run: RunView) -> str:
    """`All 3 gates passed, 1 of them not conclusively.`; of a single gate its value."""
    if len(run.gates) == 1 and run.gates[0].verdict == "pass":
        return gate_outcome(run.gates[0], run)
    passed = [gate for gate in run.gates if gate.verdict == "pass"]
    every = len(passed) == len(run.gates)
    count = "Both gates" if every and len(passed) == 2 else counted(len(run.gates), "gate")
    text = f"{'All ' if every and len(passed) > 2 else '' if every else f'{len(passed)} of '}{count} passed"
    if close := sum(gate.is_close for gate in passed):
        none = "neither" if len(passed) == 2 else "none"
        text += f", {none} conclusively" if close == len(passed) > 1 else f", {close:,} of them not conclusively"
    others = [gate for gate in run.gates_worst_first if gate.verdict != "pass"]
    return f"{text}." + (f" {gate_outcome(others[0], run)}" if others else "")


def _untrusted(run: RunView) -> str:
    """`134 of 300 answers failed: the server failed (HTTP 503): upstream down.`, after why the run stopped early."""
    missing = [text for name in run.targets if (text := _failed_answers(run, name))]
    if run.stopped:
        return " ".join([_ended(f"{run.stopped[:1].upper()}{run.stopped[1:]}"), *(f"{text}." for text in missing)])
    message = _most_common_failure(run.folder)
    if not missing:
        return "The result is untrusted."
    return f"{'; '.join(missing)}{f': {message}' if message else ''}".removesuffix(".") + "."


def _failures_decide(gate: GateResult, run: RunView) -> bool:
    """Whether at least half of the scores that a gate lacks are those of answers that failed."""
    metric, calls = _metric_of(gate, run), _calls(run, gate.target)
    if metric is None or calls is None:
        return run.rows_in_error > 0
    return 0 < metric.errors + metric.unscored <= 2 * calls.errors


def _calls(run: RunView, target: str) -> Metric | None:
    """A metric that every answer of a target has, unless its call failed."""
    metrics = run.targets[target].metrics if target in run.targets else ()
    return next((metric for metric in metrics if metric.scorer in ALWAYS and not metric.slice), None)


def _failed_answers(run: RunView, target: str) -> str:
    """`134 of 300 answers failed, 12 did not run`; empty where every answer arrived."""
    calls = _calls(run, target)
    if calls is None:
        return ""
    ended = calls.scored + calls.skipped + calls.unscored + calls.errors
    total = max(run.answers_planned, ended)
    counts = [f"{calls.errors:,} of {counted(total, 'answer')} failed"] if calls.errors else []
    if rest := total - ended:
        counts.append(f"{rest:,} did not run" if counts else f"{rest:,} of {counted(total, 'answer')} did not run")
    of = f"{one_line(target, 40)}: " if len(run.targets) > 1 and counts else ""
    return of + ", ".join(counts)


def _most_common_failure(folder: Path) -> str:
    """The message that most failed calls have, of the first rows of a run; empty where it cannot be read."""
    messages: Counter[str] = Counter()
    with contextlib.suppress(OSError, ValueError, KeyError, RunError), (folder / ROWS_FILE).open("rb") as log:
        for line in islice(log, ROWS_READ):
            if not is_event(line) and isinstance(answer := decode_row(line).answer, Failure):
                messages[one_line(answer.message, MAX_MESSAGE)] += 1
    return messages.most_common(1)[0][0] if messages else ""


def gate_outcome(gate: GateResult, run: RunView) -> str:
    """What a gate found, in one or two sentences, with the target where there are several."""
    found = _metric_of(gate, run)
    threshold, change = THRESHOLD.fullmatch(gate.gate), CHANGE.fullmatch(gate.gate)
    of = f" of {one_line(gate.target, 40)}" if len(run.targets) > 1 else ""
    match = threshold or change
    name = one_line(match["metric"] if match else gate.gate, MAX_NAME) + of
    before = gate.baseline
    if gate.verdict in ("untrusted", "no_baseline") or match is None or gate.value is None:
        return f"{name}: {gate.reason}."
    if threshold is not None:
        return _against_threshold(gate, name, threshold["operator"], found)
    if before is None or before.drop is None:
        return f"{name}: {gate.reason}."
    return _against_baseline(gate, name, run, found)


def _metric_of(gate: GateResult, run: RunView) -> Metric | None:
    """The metric that a gate is about."""
    target = run.targets.get(gate.target)
    metrics = () if target is None else target.metrics
    return next((each for each in metrics if each.name == gate.metric and (each.slice or None) == gate.slice), None)


def _against_threshold(gate: GateResult, name: str, operator: str, metric: Metric | None) -> str:
    """`contains is 0.825 (95% CI 0.778–0.864); the gate needs at least 0.9.`"""
    unit = metric.unit if metric is not None else None
    value = number(gate.value, unit, beside=(gate.low, gate.high, gate.bound))
    bound = number(gate.bound, unit, beside=(gate.value,)) if unit else significant(gate.bound)[0]
    needs = f"the gate {NEEDS[operator]} {bound}"
    if gate.kind == "confidence":
        return f"{name} is {value}{_at_confidence(gate, operator)}; {needs}{_too_close(gate)}"
    between = (
        f" (95% CI {interval(gate.low, gate.high, beside=(gate.value, gate.bound))})" if _has_interval(gate) else ""
    )
    return f"{name} is {value}{between}; {needs}{', which is inside the CI' if gate.is_close else ''}."


def _at_confidence(gate: GateResult, operator: str) -> str:
    """`, at most 0.87 at 95% confidence`: the bound that decided; both where none did."""
    at = f"at {100 * (gate.confidence or 0.95):.4g}% confidence"
    if gate.verdict == "inconclusive":
        return f" ({interval(gate.gate_low, gate.gate_high, beside=(gate.value, gate.bound))} {at})"
    lower = (operator in (">=", ">")) == (gate.verdict == "pass")
    end = gate.gate_low if lower else gate.gate_high
    if end is None:
        return ""
    return f", {'at least' if lower else 'at most'} {number(end, beside=(gate.value, gate.bound))} {at}"


def _against_baseline(gate: GateResult, name: str, run: RunView, metric: Metric | None) -> str:
    """`contains fell 8.1 points below main (allowed 5). 31 samples got worse.`"""
    before = gate.baseline
    assert before is not None and before.drop is not None  # the caller has checked
    improves = metric is None or metric.higher_is_better
    size, unit = _amount(gate, run, abs(before.drop), metric)
    if not before.drop:
        change = f"did not change from {before.name}"
    elif (before.drop > 0) == improves:
        change = f"fell {size}{unit} below {before.name}"
    else:
        change = f"rose {size}{unit} above {before.name}"
    if gate.kind == "improved":
        note = "" if gate.verdict == "pass" else "; the gate needs an improvement"
    else:
        allowed = "allowed" if before.drop > 0 else "allowed drop" if improves else "allowed rise"
        note = f" ({allowed} {_amount(gate, run, gate.bound, metric)[0]})"
    return f"{name} {change}{note}{_too_close(gate)}{_changed_samples(before) if gate.verdict == 'fail' else ''}"


def _changed_samples(before: BaselineResult) -> str:
    """` 31 samples got worse, 7 got better.`; empty where they were not counted."""
    if not before.worse:
        return ""
    return f" {counted(before.worse, 'sample')} got worse{f', {before.better:,} got better' if before.better else ''}."


def _too_close(gate: GateResult) -> str:
    """The end of the sentence; of an inconclusive gate with the number of samples that would decide, to two digits."""
    if gate.verdict != "inconclusive":
        return "."
    if gate.samples_to_decide is None:
        return ": too close to call."
    needed = gate.samples_to_decide[1]
    digits = 10 ** max(0, len(str(needed)) - 2)
    return f": too close to call. About {math.ceil(needed / digits) * digits:,} samples are needed to decide."


def _amount(gate: GateResult, run: RunView, value: float, metric: Metric | None) -> tuple[str, str]:
    """A difference and its unit: points for a metric in 0..1."""
    measure = next((one for one in run.measures if metric is not None and one.name == metric.scorer), None)
    if metric is not None and measure is not None and measure.estimand(metric.aggregate).bounds == (0.0, 1.0):
        points = 100 * value
        return (f"{points:.1f}" if points >= 0.05 or not points else f"{points:.1g}").removesuffix(".0"), " points"
    unit = metric.unit if metric is not None else None
    return significant(value)[0], f" {unit}" if unit else ""
