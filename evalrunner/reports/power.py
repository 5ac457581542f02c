"""What the gates of a plan can decide, as lines of text: by enumeration, or from the scores of earlier runs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from evalrunner.baselines.file import Baseline
from evalrunner.domain import Metric, Row
from evalrunner.engine.plan import Plan
from evalrunner.errors import EvalrunError
from evalrunner.formatting import counted, number, numbers, one_line
from evalrunner.gates.accepted_run import AcceptedRun, Rows, planned_gates, rows_of_run
from evalrunner.gates.decision import in_family
from evalrunner.gates.evidence import amount
from evalrunner.gates.false_alarms import red_rate
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.planning import (
    EarlierPairs,
    Family,
    GatePower,
    earlier_pairs,
    family_of,
    regression_power,
    threshold_power,
)
from evalrunner.prompts import find_value
from evalrunner.reports.epochs import epoch_lines
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.record import MetricsRecord, RunRecord, TargetMetrics
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.aggregates import PASS_SCORE
from evalrunner.stats.distributions import normal_quantile
from evalrunner.stats.hypothesis_tests import POWER_80_FACTOR, samples_to_decide
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, Population, value_text

MAX_LINES: Final = 6  # targets and values of a slice of one gate


@dataclass(frozen=True)
class EarlierRun:
    """The newest finished run of a suite: its record, its metrics by target, and its rows, read when they are needed."""

    folder: RunFolder
    record: RunRecord
    targets: Mapping[str, TargetMetrics]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        return tuple(read_rows(self.folder.path))

    @cached_property
    def scores(self) -> Rows:
        """Its rows in the form of a baseline."""
        return rows_of_run(self.rows, epochs=self.record.epochs, streaming=self.record.streaming)

    def column(self, name: str) -> Mapping[str, str]:
        """The value of a column by sample id."""
        return {row.sample.id: value_text(find_value(row.sample.metadata, name)) for row in self.rows}

    def metric(self, gate: Gate, target: str) -> Metric | None:
        """The metric of a gate on a target."""
        if gate.reducer.counts and gate.reducer.pass_score != PASS_SCORE:
            return None  # at_least_2 of another bound is another metric
        metrics = self.targets[target].metrics if target in self.targets else ()
        wanted = dict(gate.spec.slice) if gate.spec.slice else None
        return next((metric for metric in metrics if metric.name == gate.metric and metric.slice == wanted), None)


def _labels_line(gate: Gate, metric: Metric | None) -> str:
    """How many labels decide a gate on labels if the last value is the true one."""
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return "known after a run with at least 20 labels"
    labels = int((metric.detail or {}).get("labels", metric.n))
    half = (metric.high - metric.low) / 2 * normal_quantile(gate.spec.confidence or 0.95) / normal_quantile(0.975)
    rows = samples_to_decide(labels, half=half, estimate=metric.value, bound=gate.spec.bound)
    if rows.strong is None:
        return f"no practical number of labels decides if the true value is {number(metric.value)}"
    enough = max(20, math.ceil(labels * (half / abs(metric.value - gate.spec.bound)) ** 2 * POWER_80_FACTOR))
    return f"about {_rounded(enough)} labels decide with 80% power if the true value is {number(metric.value)} (last run: {labels:,})"


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


class PowerReport:
    """The power of the gates of a plan. Earlier runs are in `runs`."""

    def __init__(self, plan: Plan, runs: Path) -> None:
        self.plan = plan
        self.population = plan.population or Population.of(plan.design)
        self.targets = tuple(target.name for target in plan.targets)
        self.last = last_run(plan.suite.name, runs) if plan.gates or plan.suite.run.epochs > 1 else None
        baselines = plan.baselines.values()
        known: list[Rows] = [baseline.rows for baseline in baselines]
        if self.last is not None and any(gate.measure.declaration.infer_binary for gate in plan.gates):
            known.append(self.last.scores)
        self._pairs: dict[Hashable, EarlierPairs | None] = {}
        self.gates = planned_gates(plan.gates, self.targets, self.population, known)
        self.resampled = [(gate, target) for gate, target in self.gates if not gate.judged]  # of these scores are known

    def gate_lines(self, gate: Gate) -> Iterator[str]:
        """The power of one gate of the suite: for each target and value of a slice, where there are several."""
        own = [(one, target) for one, target in self.gates if one.spec.key_path == gate.spec.key_path]
        for one, target in own[:MAX_LINES]:
            n = self._samples(one)
            label = [one_line(target, 40)] * (len(self.targets) > 1)
            label += [
                one_line(text, 40) for text in (one.spec.slice or {}).values() if one.spec.slice != gate.spec.slice
            ]
            lines = self._lines(one, target, n) if n else iter(("no sample is in this slice",))
            yield f"{', '.join(label)}: {next(lines)}" if label else next(lines)
            for line in lines:
                yield f"  {line}" if label else line
        if len(own) > MAX_LINES:
            yield f"… and {len(own) - MAX_LINES} more"

    def _samples(self, gate: Gate) -> int:
        """How many samples of the dataset a gate is about."""
        if gate.spec.slice is None:
            return self.plan.scan.count
        ((column, text),) = gate.spec.slice.items()
        code = self.population.slices[column].code_of(text)
        return 0 if code is None else self.population.slices[column].codes.count(code)

    def _lines(self, gate: Gate, target: str, n: int) -> Iterator[str]:
        family = family_of(gate, [one for one, _ in self.gates])
        if gate.judged:
            yield _labels_line(gate, self.last.metric(gate, target) if self.last is not None else None)
            return
        if gate.spec.baseline is not None:
            power = regression_power(gate, target, n, family=family, earlier=self._earlier_pairs(gate, target))
            yield from regression_lines(power, self.plan.baselines.get(gate.spec.baseline))
        else:
            metric = self.last.metric(gate, target) if self.last is not None else None
            clustered = self.plan.design.cluster is not None
            power = threshold_power(gate, target, n, family=family, last=metric, clustered=clustered)
            run = self.last.folder.id if self.last is not None else ""
            yield from threshold_lines(power, metric, run)
            if gate.spec.sequential:
                yield from _samples_used(gate, n, family, metric, run, clustered=clustered)

    def _earlier_pairs(self, gate: Gate, target: str) -> EarlierPairs | None:
        """The pairs of the last run and the baseline, if they are two runs; those of the gate's slice."""
        key = gate.metric, gate.spec.baseline, gate.reducer, tuple((gate.spec.slice or {}).items()), target
        if key not in self._pairs:
            self._pairs[key] = self._read_pairs(gate, target)
        return self._pairs[key]

    def _read_pairs(self, gate: Gate, target: str) -> EarlierPairs | None:
        baseline, last = self.plan.baselines.get(gate.spec.baseline or ""), self.last
        if baseline is None or last is None or last.folder.id == baseline.head.run_id:
            return None
        partner = baseline.target_for(target, self.targets)
        if partner is None:
            return None
        wanted = [(last.column(column), text) for column, text in (gate.spec.slice or {}).items()]
        rows = (
            row
            for (at, id_), row in last.scores.items()
            if at == target and all(texts.get(id_) == text for texts, text in wanted)
        )
        cluster = self.plan.design.cluster
        clusters = None if cluster is None else last.column(cluster)
        return earlier_pairs(gate, baseline, partner, rows, epochs=last.record.epochs, clusters=clusters)

    def run_lines(self) -> Iterator[str]:
        """How often the gates together stop an equal model, and what the last run tells of epochs."""
        yield from self._red_lines()
        for name in self.targets:
            if self.last is not None and name in self.last.targets:
                yield from epoch_lines(self.last.targets[name].epochs)

    def _red_lines(self) -> Iterator[str]:
        accepted = next(iter(self.plan.baselines.values()), None)
        if not self.resampled or (accepted is None and self.last is None):
            return
        ids = [sample.id for sample in self.plan.dataset]
        unstored = accepted is None or any(gate.measure in ALL_BUILTIN_MEASURES for gate, _ in self.resampled)
        last = self.last.scores if self.last is not None and unstored else {}
        run = AcceptedRun(ids, self.plan.baselines, last, self.targets, self.population)

        def discordance(gate: Gate, target: str) -> float | None:
            earlier = self._earlier_pairs(gate, target)
            return None if earlier is None else earlier.discordance

        resampling = run.resampling(self.resampled, discordance, seed=self.plan.design.seed)
        if resampling is None:
            return
        rate = red_rate(resampling)
        name = f"baseline {one_line(accepted.label, 30)}" if accepted else "the last run"
        without = (
            f" ({_share(rate.uncorrected)} without Holm)" if sum(in_family(one) for one, _ in self.gates) > 1 else ""
        )
        yield f"a model as good as {name} exits nonzero in {_share(rate.corrected)} of runs{without}"
        most = max(range(len(rate.by_gate)), key=rate.by_gate.__getitem__)
        often = f"most often by {one_line(resampling.scores[most].gate.spec.text, 60)}; " if rate.corrected else ""
        known = (
            ""
            if len(resampling.scores) == len(self.gates)
            else f", {len(resampling.scores)} of {len(self.gates)} gates"
        )
        yield f"  {often}{rate.draws:,} draws from its samples{known}"


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
    changes = f" of a sequential test{changes}" if power.gate.spec.sequential else changes
    yield f"80% power{changes}{f' (as from {one_line(baseline.label, 24)} to the last run)' if known and baseline else ''}:"
    gate = power.gate
    passes, worse, fails = (
        [getattr(case, name) for case in power.cases] for name in ("passes", "worse", "fails")
    )  # fmt: skip
    if gate.spec.kind == "improved":
        yield f"  {_passes(gate, passes)} · fails from {_drops(gate, fails)} worse"
    elif gate.spec.sequential:
        yield f"  {_passes(gate, passes)} · fails from {_drops(gate, fails)}"
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
    return " or ".join(([_range(ends)] if ends else []) + ["never"] * (len(known) < len(drops)))


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
        power_text = (
            "in 95% of runs" if point else "80% power of a sequential test" if gate.spec.sequential else "80% power"
        )
        yield f"{' · '.join(ends)} ({power_text}, {counted(power.n, 'sample')})"
    if power.unknown is not None:
        yield f"power: unknown: {power.unknown}"
    if power.samples is not None and last is not None:
        yield f"about {_rounded(power.samples[0])} samples decide with 80% power if the true value is {number(last.value)}"
    chance = power.false_failures
    if chance is not None and last is not None:
        yield f"fails by chance in {_share(chance)} of runs, if the true value is {number(last.value)} (run {run})"


def _samples_used(
    gate: Gate, n: int, family: Family, last: Metric | None, run: str, *, clustered: bool
) -> Iterator[str]:
    """How much of its samples a sequential gate looks at, and how often one without confidence differs from a full run."""
    if gate.spec.kind == "point":
        yield "sequential: differs from the full run in at most 5% of runs"
    elif gate.estimand.is_share and not clustered and last is not None and last.value is not None:
        from evalrunner.stats.sequential import ShareTest

        alpha, higher = 1 - (gate.spec.confidence or 0.0), gate.spec.operator in (">=", ">")
        bound, value = (gate.spec.bound, last.value) if higher else (1 - gate.spec.bound, 1 - last.value)
        test = ShareTest(bound, n, alpha_pass=alpha, alpha_fail=alpha / family.fails)
        used = _share(test.decisions(value).used)
        yield f"uses about {used} of the samples, if the true value is {number(last.value)} (run {run})"


def _share(chance: float) -> str:
    """`2.5%`, `44%`, `under 0.1%`."""
    if chance < 0.001:
        return "under 0.1%"
    return f"{100 * chance:.2g}%" if chance < 0.995 else f"{100 * chance:.0f}%"
