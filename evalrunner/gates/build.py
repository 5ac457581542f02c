"""The gates of a suite: matched to its metrics and checked before the first call. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from evalrunner.baselines.file import Baseline, SampleKey, sample_key
from evalrunner.domain import Sample
from evalrunner.errors import nearest
from evalrunner.formatting import one_line
from evalrunner.gates.judged import DEFAULT_CONFIDENCE
from evalrunner.gates.metric_lookup import Gate, UnknownMetric, find_metric
from evalrunner.runs.provenance import Provenance
from evalrunner.stats.aggregates import MEAN, Reducer
from evalrunner.stats.corrected import CORRECTED, JUDGE_STATISTICS
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, Design, Measure
from evalrunner.suite.schema import GateSpec
from evalrunner.suite.yaml import Document


class GateBuilder:
    """Builds the gates of a suite and reports in its document those that the suite cannot have.

    `measures` are the scorers and the built-in measures. `stop_early` makes every gate sequential that can be. With
    `broken` a scorer was already reported, so that unknown metrics may be its own and are not reported again.
    """

    def __init__(
        self,
        document: Document,
        measures: Sequence[Measure],
        *,
        targets: Collection[str],
        design: Design,
        epochs: int = 1,
        broken: bool = False,
        stop_early: bool = False,
    ) -> None:
        self.document = document
        self.measures = list(measures)
        self.targets, self.design, self.epochs = targets, design, epochs
        self.broken, self.stop_early = broken, stop_early

    def build(self, specs: Sequence[GateSpec]) -> tuple[Gate, ...]:
        """The gates, without those on targets that were not selected."""
        gates = [self._build(spec) for spec in specs if spec.target not in self.document.excluded_targets]
        return tuple(gate for gate in gates if gate is not None)

    def _build(self, spec: GateSpec) -> Gate | None:
        report = self.document.problem
        if spec.target is not None and spec.target not in self.targets:
            known = ", ".join(one_line(name, 60) for name in self.targets)
            combined = [name for name in self.targets if name.startswith(f"{spec.target}/")]
            hint = (
                f"; with its prompts it is {' and '.join(combined)}" if combined else nearest(spec.target, self.targets)
            )
            hint = hint or f"; it has {known}"
            report((*spec.key_path, "target"), f"no target {spec.target!r} in this suite{hint}")
        if spec.slice is not None and (column := next(iter(spec.slice))) not in self.design.slices:
            known = nearest(column, self.design.slices) or (
                f"; it has {', '.join(self.design.slices)}" if self.design.slices else ""
            )
            report(spec.key_path, f"no slice {column!r} in this suite{known or f'; add it: slices: [{column}]'}")
        try:
            measure, aggregate, reducer = find_metric(
                spec.metric, self.measures, (self.design.primary_reducer, *self.design.other_reducers)
            )
        except UnknownMetric as unknown:
            if not self.broken or spec.metric.split("/")[0] in {measure.name for measure in self.measures}:
                report(spec.key_path, str(unknown))
            return None
        if aggregate in JUDGE_STATISTICS:
            return self._judged(spec, measure, aggregate)
        if spec.per_sample is not None:
            reducer = self._per_sample_reducer(spec, measure, aggregate)
        plain = reducer == self.design.primary_reducer or measure in ALL_BUILTIN_MEASURES
        metric = measure.metric_name(aggregate) if plain else measure.reducer_name(reducer)
        gate = Gate(spec, measure, aggregate, metric, reducer, self.epochs)
        if (beyond := _beyond_range(gate)) is not None:
            report((*spec.key_path, "max_drop") if spec.kind == "max_drop" else spec.key_path, beyond)
        if spec.baseline is not None:
            self._check_baseline_gate(gate)
        elif spec.confidence is not None and not gate.estimand.aggregate.has_interval:
            report(spec.key_path, f"{metric!r} is a total, which has no interval; set confidence: null for this gate")
        return self._sequential(gate) if spec.sequential or (spec.sequential is None and self.stop_early) else gate

    def _judged(self, spec: GateSpec, measure: Measure, statistic: str) -> Gate | None:
        """A gate on what labels say of a judge. It has a confidence in any case: its interval decides."""
        report, path = self.document.problem, (*spec.key_path, "metric")
        if spec.per_sample is not None:
            report((*spec.key_path, "per_sample", "metric"), f"{spec.metric!r} is not a score of a sample")
        elif spec.operator == "==":
            report(spec.key_path, f"{spec.metric!r} is an estimate, so no equality is ever proven; use >= or <=")
        elif spec.baseline is not None:
            report(path, f"{spec.metric!r} has no gate on a baseline, which has no labels; use {measure.name!r}")
        elif spec.sequential:
            report(spec.key_path, "cannot be sequential: it is decided on labels; set sequential: false for this gate")
        if spec.confidence is None:
            text = f"{spec.text} at {DEFAULT_CONFIDENCE:g} confidence"
            spec = replace(spec, confidence=DEFAULT_CONFIDENCE, kind="confidence", text=text)
        gate = Gate(
            replace(spec, sequential=False), measure, statistic, measure.metric_name(statistic), epochs=self.epochs
        )
        bounds = (-1.0, 1.0) if statistic == "kappa" else (0.0, 1.0) if statistic != CORRECTED else gate.estimand.bounds
        low, high = bounds
        if low is not None and high is not None and not low <= spec.bound <= high and spec.baseline is None:
            hint = f"; {spec.bound:g}% is {spec.bound / 100:g}" if 1 < spec.bound <= 100 and high == 1 else ""
            report(
                spec.key_path, f"compares with {spec.bound:g}, but {spec.metric!r} is always {low:g}..{high:g}{hint}"
            )
        return gate

    def _sequential(self, gate: Gate) -> Gate:
        """The gate as a sequential one, if it can be; a gate that asks for it and cannot be is a problem."""
        from evalrunner.gates.sequential import why_not_sequential

        reason = why_not_sequential(gate)
        if reason is not None and gate.spec.sequential:
            message = f"cannot be sequential: {reason}; set sequential: false for this gate"
            self.document.problem(gate.spec.key_path, message)
        return replace(gate, spec=replace(gate.spec, sequential=reason is None))

    def _per_sample_reducer(self, spec: GateSpec, measure: Measure, aggregate: str) -> Reducer:
        rule = spec.per_sample
        assert rule is not None  # the caller has checked
        path = (*spec.key_path, "per_sample")
        most = rule.of if rule.of is not None else self.epochs
        if most != self.epochs:
            wrong = f"is {most}, but the run has {self.epochs} epoch{'s' if self.epochs > 1 else ''}"
            self.document.problem((*path, "of"), f"{wrong}; set run.epochs to {most}, or remove 'of'")
        elif rule.passes > most:
            wrong = f"is {rule.passes}, but the run has {most} epoch{'s' if most > 1 else ''} (run.epochs)"
            self.document.problem((*path, "passes"), wrong)
        if aggregate != MEAN.name or measure in ALL_BUILTIN_MEASURES:
            self.document.problem(
                (*path, "metric"), f"{spec.metric!r} is not a score of a sample; name the scorer alone"
            )
        return Reducer("at_least", rule.passes, -rule.bound if rule.operator == "<=" else rule.bound)

    def _check_baseline_gate(self, gate: Gate) -> None:
        path = (*gate.spec.key_path, "metric")
        if gate.measure.name in {measure.name for measure in ALL_BUILTIN_MEASURES}:
            self.document.problem(path, f"baselines do not hold {gate.metric!r}; use 'max' instead")
        elif not gate.estimand.aggregate.paired:
            pairs = f"{gate.metric!r} cannot be paired sample by sample; use a mean or a ratio"
            self.document.problem(path, f"{pairs}, such as {gate.measure.name!r}")


def _beyond_range(gate: Gate) -> str | None:
    """What is wrong with a bound outside the range of the metric: the gate could only pass, or only fail."""
    (low, high), bound = gate.estimand.bounds, gate.spec.bound
    hint = f"; {bound:g}% is {bound / 100:g}" if (low, high) == (0.0, 1.0) and 1 < bound <= 100 else ""
    if gate.spec.kind == "max_drop":
        most = None if low is None or high is None else high - low
        if most is None or bound <= most:
            return None
        return f"is {bound:g}, but {gate.metric!r} cannot drop by more than {most:g}{hint}"
    if (low is None or bound >= low) and (high is None or bound <= high):
        return None
    ends = f"{low:g} or more" if high is None else f"{high:g} or less" if low is None else f"{low:g}..{high:g}"
    return f"compares with {bound:g}, but {gate.metric!r} is always {ends}{hint}"


def reject_incompatible(
    document: Document, gates: Sequence[Gate], baselines: Mapping[str, Baseline], provenance: Provenance
) -> None:
    """Report every gate whose scorer or judge differs from its baseline's: the numbers do not mean the same."""
    if not baselines:
        return
    from evalrunner.gates.regression import incompatibilities

    for gate in gates:
        baseline = baselines.get(gate.spec.baseline or "")
        wrong = incompatibilities(gate, provenance, baseline) if baseline is not None else []
        if baseline is not None and wrong:
            renew = _how_to_renew(baseline, document.file)
            document.problem(
                (*gate.spec.key_path, "baseline"),
                f"cannot compare {gate.measure.name!r} with {baseline.label!r}: it has changed ({'; '.join(wrong)}); {renew}",
            )


def _how_to_renew(baseline: Baseline, suite_file: str) -> str:
    """What to do about a baseline with other scorers."""
    accept = "evalrun baseline accept" + (f" --name {baseline.head.name}" if baseline.head.name != "main" else "")
    if baseline.path is None:
        return "compare with a newer run"
    if baseline.head.outputs:
        return f"update it: evalrun score {baseline.path} --suite {suite_file}, then {accept} --with-outputs"
    return f"create a new one: evalrun {suite_file} --no-gates, then {accept}"


class SampleKeyIndex:
    """The keys of samples by their position, collected while a dataset is scanned."""

    def __init__(self) -> None:
        self.keys: dict[int, SampleKey] = {}

    def add(self, sample: Sample) -> None:
        self.keys[sample.index] = sample_key(sample)

    def then(self, check: Callable[[Sample], Sequence[str]]) -> Callable[[Sample], Sequence[str]]:
        """A check of samples that adds each one first."""

        def add_and_check(sample: Sample) -> Sequence[str]:
            self.add(sample)
            return check(sample)

        return add_and_check
