"""The power of a plan's gates: the smallest detectable drop, and how often a point gate fails by chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalrunner.baselines.file import Baseline, collect_rows
from evalrunner.domain import Metric
from evalrunner.engine.plan import Plan
from evalrunner.errors import EvalrunError
from evalrunner.formatting import number, one_line
from evalrunner.gates.evidence import amount, reduce_scores
from evalrunner.gates.metric_lookup import Gate
from evalrunner.prompts import find_value
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.record import MetricsRecord, RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.aggregates import PASS_SCORE
from evalrunner.stats.distributions import normal_quantile, variance
from evalrunner.stats.intervals import mean_error
from evalrunner.stats.power import (
    false_failure_rate_of_mean,
    false_failure_rate_of_share,
    smallest_drop,
    smallest_drops_by_discordance,
    variance_at_epochs,
)
from evalrunner.stats.summary import value_text

MIN_PAIRS = 20  # to estimate a variance from
CI_WIDTH = 2 * normal_quantile(0.975)  # of a 95% CI, in standard errors


@dataclass(frozen=True, slots=True)
class Spread:
    """What paired differences of an earlier run and the baseline say: ω² (with what clusters add), and from where."""

    variance: float
    df: float | None
    source: str


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
    alpha = 1 - (gate.spec.confidence or 0.95)
    if spread is not None:
        least = smallest_drop(n=n, variance=spread.variance, df=spread.df, span=_span(gate), alpha=alpha)
        yield f"smallest detectable drop{whose} (80% power): {amount(gate, least)} ({spread.source})"
    elif gate.estimand.is_share:
        found = smallest_drops_by_discordance(n)
        least = found[0][1]
        drops = ", ".join(f"{100 * drop:.1f}" for _, drop in found)
        shares = ", ".join(f"{100 * share:.0f}" for share, _ in found)
        of = " of the whole dataset" if gate.spec.slice else ""
        related = "; more with clustered samples" if plan.design.cluster is not None else ""
        yield (
            f"smallest detectable drop{whose} (80% power): {drops} points, if {shares}% of the {n:,} samples{of} change"
            f"{related}"
        )
    else:
        yield f"smallest detectable drop{whose}: unknown until there is a baseline and one more run"
        return
    if gate.spec.kind == "max_drop" and 0 < gate.spec.bound < least:
        needed = math.ceil(n * (least / gate.spec.bound) ** 2)
        yield (
            f"warning: max_drop {amount(gate, gate.spec.bound)} is below that{whose}, so the gate will often be "
            f"inconclusive; about {needed:,} samples are needed"
        )


def _span(gate: Gate) -> float:
    """The range of graded scores, whose test adds a pair at each end of it; 0 for 0/1 scores and open ranges."""
    return 0.0 if gate.estimand.is_share else gate.estimand.sample_width or 0.0


def _spread(plan: Plan, gate: Gate, target: str, last: RunFolder | None) -> Spread | None:
    """The variance of the paired differences between the last run and the baseline, if they are two runs."""
    baseline = plan.baselines.get(gate.spec.baseline or "")
    if baseline is None or last is None or last.id == baseline.head.run_id:
        return None
    partner = baseline.target_for(target, [one.name for one in plan.targets])
    if partner is None:
        return None
    epochs = RunRecord.load(last.path).epochs
    pairs = list(_paired(plan, gate, (last, epochs, target), (baseline, partner)))
    drops = [drop for drop, _, _ in pairs]
    if len(pairs) < MIN_PAIRS or min(drops) == max(drops):
        return None
    source = f"from {len(pairs):,} samples of run {last.id} and {one_line(baseline.label, 40)}"
    n = len(drops)
    if plan.design.cluster is not None:
        codes = {text: code for code, text in enumerate(dict.fromkeys(cluster for _, cluster, _ in pairs))}
        if len(codes) < 2:
            return None
        found = mean_error(drops, [codes[cluster] for _, cluster, _ in pairs])
        return Spread(found.error**2 * n, found.df, source)
    if epochs > 1 and epochs != gate.epochs and gate.reducer.kind == "mean":
        within = [inside for _, _, inside in pairs]
        return Spread(variance_at_epochs(drops, within=within, epochs=epochs, planned=gate.epochs)[0], None, source)
    return Spread(variance(drops) * n / (n - 1), None, source)


def _paired(
    plan: Plan, gate: Gate, ours: tuple[RunFolder, int, str], theirs: tuple[Baseline, str]
) -> Iterator[tuple[float, str, float]]:
    """Of each pair the difference, the cluster, and the variances of both over their epochs."""
    folder, epochs, target = ours
    rows = [row for row in read_rows(folder.path) if row.target == target]
    column = plan.design.cluster
    clusters = {row.sample.id: value_text(find_value(row.sample.metadata, column)) for row in rows} if column else {}
    for (_, id_), row in collect_rows(rows, epochs=epochs).items():
        other = theirs[0].rows.get((theirs[1], id_))
        if other is None or other.key != row.key:
            continue
        name = gate.measure.name
        scores = [[value for value in side.scores.get(name, ()) if value is not None] for side in (other, row)]
        before, now = (reduce_scores(gate, values) for values in scores)
        if before is not None and now is not None:
            yield _difference(gate, before, now), clusters.get(id_, id_) or id_, _within(scores)


def _difference(gate: Gate, before: float, now: float) -> float:
    return gate.estimand.of_sample(before) - gate.estimand.of_sample(now)


def _within(scores: Sequence[Sequence[float]]) -> float:
    return math.fsum(
        variance(values) * len(values) / (len(values) - 1) for values in scores if len(values) > 1
    )  # fmt: skip


def _false_failure_rate(plan: Plan, gate: Gate, target: str, last: RunFolder, whose: str) -> Iterator[str]:
    metric = _last_metric(gate, target, last)
    if metric is None or metric.value is None or gate.spec.operator == "==":
        return
    value, n = metric.value, _samples(plan, gate, metric)
    lower, strict = gate.spec.operator in (">=", ">"), gate.spec.operator in (">", "<")
    if gate.estimand.is_share and plan.design.cluster is None:
        chance = false_failure_rate_of_share(value, n, gate.spec.bound, lower=lower, strict=strict)
    elif gate.estimand.aggregate.paired and metric.low is not None and metric.high is not None and metric.n > 1:
        error = (metric.high - metric.low) / CI_WIDTH * math.sqrt(metric.n / n)
        chance = false_failure_rate_of_mean(value, error, gate.spec.bound, df=max(1, n - 1), lower=lower)
    else:
        return
    share = "under 0.1%" if chance < 0.001 else f"{100 * chance:.2g}%"
    yield f"fails by chance{whose} in {share} of runs, if the true value is {number(value)} (run {last.id})"


def _samples(plan: Plan, gate: Gate, metric: Metric) -> int:
    """How many samples the metric will be of: those of the last run for a slice, else all."""
    return max(1, metric.n) if gate.spec.slice else plan.scan.count


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
