"""The gates of a suite matched to its metrics, and the baselines that they name, read before the first call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from evalrunner.baselines.file import Baseline, SampleKey, sample_key
from evalrunner.baselines.resolve import BadBaselineReference, BaselineResolver
from evalrunner.domain import Sample
from evalrunner.errors import RunNotFoundError, SuiteError, nearest
from evalrunner.gates.metric_lookup import Gate, UnknownMetric, find_metric
from evalrunner.gates.pairing import refusals
from evalrunner.runs.provenance import Provenance
from evalrunner.stats.aggregates import MEAN, Reducer
from evalrunner.stats.measures import ALL_BUILTIN_MEASURES, Measure
from evalrunner.stats.summary import Design
from evalrunner.suite.schema import GateSpec
from evalrunner.suite.yaml import Document


class GateBuilder:
    """Makes gates of what a suite says, noting in its document what it cannot have.

    `measures` are all that the suite has, listed or not. `broken` says that a scorer is missing for a reason of its own, which says enough of a metric that is.
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
    ) -> None:
        self.document = document
        self.measures = list(measures)
        self.targets, self.design, self.epochs = targets, design, epochs
        self.broken = broken

    def make(self, specs: Sequence[GateSpec]) -> tuple[Gate, ...]:
        """The gates, without those that are about targets that were not chosen."""
        found = [self._make(spec) for spec in specs if spec.target not in self.document.left_out]
        return tuple(gate for gate in found if gate is not None)

    def _make(self, spec: GateSpec) -> Gate | None:
        report = self.document.problem
        if spec.target is not None and spec.target not in self.targets:
            hint = nearest(spec.target, self.targets) or f"; it has {', '.join(self.targets)}"
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
        if spec.per_sample is not None:
            reducer = self._of_samples(spec, measure, aggregate)
        plain = reducer == self.design.primary_reducer or measure in ALL_BUILTIN_MEASURES
        metric = measure.metric_name(aggregate) if plain else measure.reducer_name(reducer)
        gate = Gate(spec, measure, aggregate, metric, reducer, self.epochs)
        if (beyond := _beyond_range(gate)) is not None:
            report((*spec.key_path, "max_drop") if spec.kind == "max_drop" else spec.key_path, beyond)
        if spec.baseline is not None:
            self._on_baseline(gate)
        elif spec.confidence is not None and not gate.estimand.aggregate.has_interval:
            return self._without_interval(gate)
        return gate

    def _of_samples(self, spec: GateSpec, measure: Measure, aggregate: str) -> Reducer:
        rule = spec.per_sample
        assert rule is not None  # the caller has looked
        path = (*spec.key_path, "per_sample")
        most = rule.of if rule.of is not None else self.epochs
        if most != self.epochs:
            said = f"is {most}, but the run has {self.epochs} epoch{'s' if self.epochs > 1 else ''}"
            self.document.problem((*path, "of"), f"{said}; set run.epochs to {most}, or leave 'of' out")
        elif rule.passes > most:
            said = f"is {rule.passes}, but the run has {most} epoch{'s' if most > 1 else ''} (run.epochs)"
            self.document.problem((*path, "passes"), said)
        if aggregate != MEAN.name or measure in ALL_BUILTIN_MEASURES:
            self.document.problem((*path, "metric"), f"{spec.metric!r} is no score of a sample; name the scorer alone")
        return Reducer("at_least", rule.passes, -rule.bound if rule.operator == "<=" else rule.bound)

    def _on_baseline(self, gate: Gate) -> None:
        path = (*gate.spec.key_path, "metric")
        if gate.measure.name in {measure.name for measure in ALL_BUILTIN_MEASURES}:
            self.document.problem(path, f"{gate.metric!r} is kept in no baseline; give it a 'max'")
        elif not gate.estimand.aggregate.paired:
            said = f"{gate.metric!r} cannot be paired sample by sample; only a mean or a ratio has a drop"
            self.document.problem(path, f"{said}, such as {gate.measure.name!r}")

    def _without_interval(self, gate: Gate) -> Gate:
        self.document.problem(
            gate.spec.key_path,
            f"{gate.metric!r} is a total, which has no interval; give this gate confidence: null",
        )
        return gate


def _beyond_range(gate: Gate) -> str | None:
    """What is wrong with a bound that no value can be beyond, so that the gate could only pass, or only fail."""
    (low, high), bound = gate.estimand.bounds, gate.spec.bound
    hint = f"; {bound:g} % is {bound / 100:g}" if (low, high) == (0.0, 1.0) and 1 < bound <= 100 else ""
    if gate.spec.kind == "max_drop":
        most = None if low is None or high is None else high - low
        if most is None or bound <= most:
            return None
        return f"is {bound:g}, but {gate.metric!r} cannot drop by more than {most:g}{hint}"
    if (low is None or bound >= low) and (high is None or bound <= high):
        return None
    ends = f"{low:g} or more" if high is None else f"{high:g} or less" if low is None else f"{low:g}..{high:g}"
    return f"compares with {bound:g}, but {gate.metric!r} is always {ends}{hint}"


def resolve_baselines(document: Document, gates: Sequence[Gate], shelf: BaselineResolver) -> dict[str, Baseline]:
    """The baselines that gates name, by that name, as far as they are there; what cannot be one is noted."""
    found: dict[str, Baseline] = {}
    seen: set[str] = set()
    for gate in gates:
        name = gate.spec.baseline
        if name is None or name in seen:
            continue
        seen.add(name)
        path = (*gate.spec.key_path, "baseline")
        try:
            baseline = shelf.find(name)
        except (BadBaselineReference, RunNotFoundError) as wrong:
            document.problem(path, str(wrong))
        except SuiteError as broken:
            document.problems.extend(broken.problems)
        else:
            if baseline is not None:
                found[name] = baseline
    return found


def reject_incompatible(
    document: Document, gates: Sequence[Gate], baselines: Mapping[str, Baseline], provenance: Provenance
) -> None:
    """Note every gate whose scorer or judge is another than its baseline's: the numbers do not mean the same."""
    for gate in gates:
        baseline = baselines.get(gate.spec.baseline or "")
        said = refusals(gate, provenance, baseline) if baseline is not None else []
        if baseline is not None and said:
            renew = _how_to_renew(baseline, document.file)
            document.problem(
                (*gate.spec.key_path, "baseline"),
                f"{gate.measure.name!r} is not what it was in {baseline.label!r} ({'; '.join(said)}), so the two cannot "
                f"be compared; {renew}",
            )


def _how_to_renew(baseline: Baseline, suite_file: str) -> str:
    """What to do about a baseline of other scorers."""
    accept = "evalrun baseline accept" + (f" --name {baseline.head.name}" if baseline.head.name != "main" else "")
    if baseline.path is None:
        return "compare with a newer run"
    if baseline.head.outputs:
        return f"bring it up to date: evalrun score {baseline.path} --suite {suite_file}, then {accept} --with-outputs"
    return f"make a new one: evalrun {suite_file} --no-gates, then {accept}"


class SampleKeyIndex:
    """Keeps the keys of samples by their place while a dataset is scanned."""

    def __init__(self) -> None:
        self.keys: dict[int, SampleKey] = {}

    def note(self, sample: Sample) -> None:
        self.keys[sample.index] = sample_key(sample)

    def before(self, check: Callable[[Sample], Sequence[str]]) -> Callable[[Sample], Sequence[str]]:
        """A check of samples that notes each one first."""

        def note_and_check(sample: Sample) -> Sequence[str]:
            self.note(sample)
            return check(sample)

        return note_and_check
