"""The power of a plan's gates, as text: the smallest detectable drop, and how often a point gate fails by chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evalrunner.domain import Metric
from evalrunner.engine.plan import Plan
from evalrunner.errors import EvalrunError
from evalrunner.formatting import number, one_line
from evalrunner.gates.evidence import amount
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.regression import detectable_drop, spread_between
from evalrunner.gates.threshold import false_failure_rate
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.record import MetricsRecord, RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.aggregates import PASS_SCORE
from evalrunner.stats.power import PairedSpread


def gate_lines(plan: Plan, gate: Gate, runs: Path) -> Iterator[str]:
    """The power of one gate, a line for each target."""
    last = last_run(plan.suite.name, runs)
    for target in plan.targets:
        if gate.spec.target in (None, target.name):
            whose = f" for {one_line(target.name, 40)}" if len(plan.targets) > 1 else ""
            if gate.spec.baseline is not None:
                yield from _detectable_drop(plan, gate, target.name, last, whose)
            elif gate.spec.kind == "point" and last is not None:
                yield from _false_failure_rate(plan, gate, target.name, last, whose)


def last_run(suite: str, runs: Path) -> RunFolder | None:
    """The newest finished run of a suite."""
    for folder in list_runs(runs):
        if folder.suite == suite:
            try:
                if RunRecord.load(folder.path).status == "finished":
                    return folder
            except EvalrunError:
                continue
    return None


def _detectable_drop(plan: Plan, gate: Gate, target: str, last: RunFolder | None, whose: str) -> Iterator[str]:
    n = plan.scan.count
    spread = _spread(plan, gate, target, last) if gate.spec.slice is None else None
    found = detectable_drop(gate, n, spread)
    if found is None:
        yield f"smallest detectable drop{whose}: unknown until there is a baseline and one more run"
        return
    if found.pairs is not None and last is not None:
        label = one_line(plan.baselines[gate.spec.baseline or ""].label, 40)
        source = f"from {found.pairs:,} samples of run {last.id} and {label}"
        yield f"smallest detectable drop{whose} (80% power): {amount(gate, found.drop)} ({source})"
    else:
        drops = ", ".join(f"{100 * drop:.1f}" for _, drop in found.by_discordance)
        shares = ", ".join(f"{100 * share:.0f}" for share, _ in found.by_discordance)
        of = " of the whole dataset" if gate.spec.slice else ""
        related = "; more with clustered samples" if plan.design.cluster is not None else ""
        yield (
            f"smallest detectable drop{whose} (80% power): {drops} points, if {shares}% of the {n:,} samples{of} change"
            f"{related}"
        )
    if found.samples_needed is not None:
        yield (
            f"warning: max_drop {amount(gate, gate.spec.bound)} is below that{whose}, so the gate will often be "
            f"inconclusive; about {found.samples_needed:,} samples are needed"
        )


def _spread(plan: Plan, gate: Gate, target: str, last: RunFolder | None) -> PairedSpread | None:
    """The spread between the last run and the baseline, if they are two runs."""
    baseline = plan.baselines.get(gate.spec.baseline or "")
    if baseline is None or last is None or last.id == baseline.head.run_id:
        return None
    partner = baseline.target_for(target, [one.name for one in plan.targets])
    if partner is None:
        return None
    rows = [row for row in read_rows(last.path) if row.target == target]
    epochs = RunRecord.load(last.path).epochs
    return spread_between(gate, baseline, partner, rows, epochs=epochs, cluster=plan.design.cluster)


def _false_failure_rate(plan: Plan, gate: Gate, target: str, last: RunFolder, whose: str) -> Iterator[str]:
    metric = _last_metric(gate, target, last)
    if metric is None:
        return
    n = max(1, metric.n) if gate.spec.slice else plan.scan.count  # samples that the metric will be of
    chance = false_failure_rate(gate, metric, n, clustered=plan.design.cluster is not None)
    if chance is not None:
        share = "under 0.1%" if chance < 0.001 else f"{100 * chance:.2g}%"
        yield f"fails by chance{whose} in {share} of runs, if the true value is {number(metric.value)} (run {last.id})"


def _last_metric(gate: Gate, target: str, last: RunFolder) -> Metric | None:
    if gate.reducer.counts and gate.reducer.pass_score != PASS_SCORE:  # at_least_2 of another bound is another metric
        return None
    try:
        targets = MetricsRecord.load(last.path).targets
    except EvalrunError:
        return None
    metrics = targets[target].metrics if target in targets else ()
    wanted = dict(gate.spec.slice) if gate.spec.slice else None
    return next((metric for metric in metrics if metric.name == gate.metric and metric.slice == wanted), None)
