"""What the gates of a plan can decide, as lines of text: by enumeration, or from the scores of earlier runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evalrunner.baselines.file import Baseline
from evalrunner.domain import Metric, Row
from evalrunner.engine.plan import Plan
from evalrunner.errors import EvalrunError
from evalrunner.formatting import counted, number, numbers, one_line
from evalrunner.gates.evidence import amount
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.planning import (
    EarlierPairs,
    GatePower,
    count_tested,
    earlier_pairs,
    regression_power,
    threshold_power,
)
from evalrunner.prompts import find_value
from evalrunner.reports.epochs import epoch_lines
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.record import MetricsRecord, RunRecord, TargetMetrics
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.aggregates import PASS_SCORE
from evalrunner.stats.summary import Groups, value_text


@dataclass(frozen=True)
class EarlierRun:
    """The newest finished run of a suite: its record, its metrics by target, and its rows, read when they are needed."""

    folder: RunFolder
    record: RunRecord
    targets: Mapping[str, TargetMetrics]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        return tuple(read_rows(self.folder.path))

    def metric(self, gate: Gate, target: str) -> Metric | None:
        """The metric of a gate on a target."""
        if gate.reducer.counts and gate.reducer.pass_score != PASS_SCORE:
            return None  # at_least_2 of another bound is another metric
        metrics = self.targets[target].metrics if target in self.targets else ()
        wanted = dict(gate.spec.slice) if gate.spec.slice else None
        return next((metric for metric in metrics if metric.name == gate.metric and metric.slice == wanted), None)


def last_run(suite: str, runs: Path) -> EarlierRun | None:
    """The newest finished run of a suite that can be read."""
    for folder in list_runs(runs):
        if folder.suite == suite:
            try:
                record = RunRecord.load(folder.path)
                if record.status == "finished":
                    return EarlierRun(folder, record, MetricsRecord.load(folder.path).targets)
            except EvalrunError:
                continue
    return None


def count_slices(plan: Plan) -> Mapping[tuple[str, str], int]:
    """How many samples of the dataset each value of a slice column has; empty without gates on slices."""
    columns = {column for gate in plan.gates for column in gate.spec.slice or ()}
    if not columns:
        return {}
    every = [Groups(column) for column in sorted(columns)]
    for sample in plan.dataset:
        for groups in every:
            groups.add(sample)
    return {
        (groups.column, groups.texts[code]): count for groups in every for code, count in Counter(groups.codes).items()
    }


def gate_lines(plan: Plan, gate: Gate, last: EarlierRun | None, sizes: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """The power of one gate, a few lines for each target."""
    tests = max(1, count_tested(plan.gates, [target.name for target in plan.targets]))
    n = sizes.get(next(iter(gate.spec.slice.items())), 0) if gate.spec.slice else plan.scan.count
    for target in plan.targets:
        if gate.spec.target not in (None, target.name) or not n:
            continue
        if len(plan.targets) > 1:
            yield f"{one_line(target.name, 40)}:"
        if gate.spec.baseline is not None:
            earlier = _earlier_pairs(plan, gate, target.name, last)
            power = regression_power(gate, target.name, n, tests=tests, earlier=earlier)
            yield from regression_lines(power, plan.baselines.get(gate.spec.baseline))
        else:
            metric = last.metric(gate, target.name) if last is not None else None
            clustered = plan.design.cluster is not None
            power = threshold_power(gate, target.name, n, tests=tests, last=metric, clustered=clustered)
            yield from threshold_lines(power, metric, last.folder.id if last is not None else "")


def _earlier_pairs(plan: Plan, gate: Gate, target: str, last: EarlierRun | None) -> EarlierPairs | None:
    """The pairs of the last run and the baseline, if they are two runs; those of the gate's slice."""
    baseline = plan.baselines.get(gate.spec.baseline or "")
    if baseline is None or last is None or last.folder.id == baseline.head.run_id:
        return None
    partner = baseline.target_for(target, [one.name for one in plan.targets])
    if partner is None:
        return None
    wanted = tuple((gate.spec.slice or {}).items())
    rows = [
        row
        for row in last.rows
        if row.target == target
        and all(value_text(find_value(row.sample.metadata, column)) == text for column, text in wanted)
    ]
    return earlier_pairs(gate, baseline, partner, rows, epochs=last.record.epochs, cluster=plan.design.cluster)


def regression_lines(power: GatePower, baseline: Baseline | None) -> Iterator[str]:
    """The drops that pass, are called worse and fail, and the samples that let an equal model pass.

    Without earlier pairs the share of samples that change is assumed.
    """
    if power.unknown is not None:
        yield f"power: unknown: {power.unknown}"
        return
    shares = [f"{100 * case.discordance:.2g}" for case in power.cases if case.discordance is not None]
    changes = f", if {_range(shares)}% of the {power.n:,} samples change" if shares else ""
    known = power.pairs is not None and baseline is not None
    yield f"80% power{changes}{f' (as from {one_line(baseline.label, 24)} to the last run)' if known and baseline else ''}:"
    gate = power.gate
    passes, worse, fails = (
        [getattr(case, name) for case in power.cases] for name in ("passes", "worse", "fails")
    )  # fmt: skip
    if gate.spec.kind == "improved":
        yield f"  {_passes(gate, passes)} · fails from {_drops(gate, fails)} worse"
    else:
        yield f"  {_passes(gate, passes)} · called worse from {_drops(gate, worse)} · fails from {_drops(gate, fails)}"
    if power.samples is not None:
        yield f"  an equal model passes with 80% power from about {_range([_rounded(count) for count in power.samples])} samples"


def _passes(gate: Gate, drops: Sequence[float | None]) -> str:
    """`passes up to 1.2 points worse`, `passes from 0.6 points better`."""
    if all(drop is None for drop in drops):
        return "never passes"
    unit = "points" if gate.estimand.bounds == (0.0, 1.0) else gate.measure.declaration.unit or ""
    if all(drop is not None and drop < 0 for drop in drops):
        return f"passes from {_drops(gate, [-(drop or 0.0) for drop in drops])} {unit} better".replace("  ", " ")
    return f"passes up to {_drops(gate, drops)} {unit} worse".replace("  ", " ")


def _drops(gate: Gate, drops: Sequence[float | None]) -> str:
    known = sorted(drop for drop in drops if drop is not None)
    ends = [amount(gate, drop, unit=False) for drop in (known[0], known[-1])] if known else []
    return " or ".join([_range(ends)] * bool(ends) + ["never"] * (len(known) < len(drops)))


def _range(ends: Sequence[str]) -> str:
    """`5–30`, or one text where both ends are the same."""
    first, last = ends[0], ends[-1]
    return first if first == last else f"{first} to {last}" if "-" in first + last else f"{first}–{last}"


def _rounded(count: int) -> str:
    digits = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // digits) * digits:,}"


def threshold_lines(power: GatePower, last: Metric | None, run: str) -> Iterator[str]:
    """The true values that pass and fail, and how often the last value fails by chance."""
    gate, point = power.gate, power.gate.spec.kind == "point"
    for case in power.cases:
        higher = gate.spec.operator in (">=", ">")
        words = ("passes from", "fails up to") if higher else ("passes up to", "fails from")
        texts = numbers((case.passes, case.fails, gate.spec.bound), gate.measure.declaration.unit)
        ends = [
            f"{word} {text}" if value is not None else f"never {word.split()[0]}"
            for word, text, value in zip(words, texts, (case.passes, case.fails), strict=False)
        ]
        yield f"{' · '.join(ends)} ({'in 95% of runs' if point else '80% power'}, {counted(power.n, 'sample')})"
    if power.unknown is not None:
        yield f"power: unknown: {power.unknown}"
    chance = power.false_failures
    if chance is not None and last is not None:
        share = "under 0.1%" if chance < 0.001 else f"{100 * chance:.2g}%" if chance < 0.995 else f"{100 * chance:.0f}%"
        yield f"fails by chance in {share} of runs, if the true value is {number(last.value)} (run {run})"


def run_lines(plan: Plan, last: EarlierRun | None) -> Iterator[str]:
    """What the last run tells of epochs, for each target that is planned."""
    for target in plan.targets:
        if last is not None and target.name in last.targets:
            yield from epoch_lines(last.targets[target.name].epochs)
