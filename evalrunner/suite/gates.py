"""The gates of a suite, from data to their typed form: `metric operator number`, or a mapping.

Whether the suite has the metric, the reducer and the slice is checked when it is assembled.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, get_args

from evalrunner.suite.schema import GateKeys, GateRules, GateSpec, KeyPath, Operator, PerSample, PerSampleKeys
from evalrunner.suite.validate import SectionReader, describe_value, keys_of, reads, top_keys

GATE = re.compile(
    r"\s*(?P<metric>[^<>=\s\[\]]+)(?:\[(?P<slice>[^\[\]]*)\])?\s*(?P<operator>>=|<=|==|>|<)\s*(?P<bound>[^\s<>=]+)\s*"
)

BASELINE_CONFIDENCE = 0.95  # of gates on a baseline that set none
METRIC = re.compile(r"\s*(?P<metric>[^<>=\s\[\]]+)(?:\[(?P<slice>[^\[\]]*)\])?\s*")
Form: TypeAlias = Callable[[GateRules], Iterable[GateSpec]]


def read_gates(reader: SectionReader, data: Mapping[str, Any]) -> tuple[GateSpec, ...]:
    """The gates in the data of a suite, each with the rules of `gate_defaults` and of the keys at the top."""
    items = data.get("gates")
    return () if items is None else read_gate_list(reader, items, ("gates",))


@reads(tuple[GateSpec, ...])
def read_gate_list(reader: SectionReader, items: Any, path: KeyPath) -> tuple[GateSpec, ...]:
    """The gates of a list; the rules of all gates are read from the top of the document."""
    if not isinstance(items, list):
        reader.report(path, f"is {describe_value(items)}; it should be a list")
        return ()
    rules = read_rules(reader, reader.document.data.get("gate_defaults"), ("gate_defaults",))
    specs: list[GateSpec] = []
    for place, item in enumerate(items):
        here = (*path, place)
        if isinstance(item, Mapping):
            specs.extend(GateMappingParser(reader, item, here, rules).read())
        else:
            specs.extend(_gate_text(reader, item, here, rules))
    return tuple(specs)


def _gate_text(reader: SectionReader, item: Any, path: KeyPath, rules: GateRules) -> list[GateSpec]:
    match = GATE.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        reader.report(
            path, f"is {describe_value(item)}; it should read like 'exact_match >= 0.8' (one of >= > <= < ==)"
        )
        return []
    metric = metric_text(reader, match["metric"], match["slice"], path)
    bound = _number(match["bound"])
    if bound is None:
        percent = match["bound"].endswith("%")
        hint = f"; write it as a share, {match['bound'].rstrip('%')}/100" if percent else ""
        reader.report(path, f"compares with {match['bound']!r}, which is not a finite number{hint}")
    if bound is None or metric is None:
        return []
    operator: Operator = next(sign for sign in get_args(Operator) if sign == match["operator"])
    text = f"{metric.text} {operator} {match['bound']}"
    return [bounded(GateSpec(text, metric.metric, operator, bound, None, line_of(reader, path), path), metric, rules)]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


class MetricText(NamedTuple):
    """A metric as written in the suite, and its parts: name and slice."""

    text: str
    metric: str
    slice: Mapping[str, str] | None


@reads(GateRules)
def read_rules(reader: SectionReader, data: Any, path: KeyPath) -> GateRules:
    """The rules of every gate that does not set them: `gate_defaults` over the keys at the top of the suite."""
    top = {name: item for name, item in reader.document.data.items() if item is not None}
    rules = GateRules(**reader.fields(top_keys(GateRules), top, ()))
    mapping = reader.mapping(data, path) if data is not None else None
    if mapping is None:
        return rules
    reader.check_keys(mapping, path, keys_of(GateRules))
    return apply_rules(reader, mapping, path, rules)


def apply_rules(reader: SectionReader, data: Mapping[str, Any], path: KeyPath, base: GateRules) -> GateRules:
    """`base` with the rules in `data` over it; `confidence: null` removes the default one."""
    given = {name: item for name, item in data.items() if item is not None}
    rules = reader.fields(keys_of(GateRules), given, path)
    if "confidence" in data and data["confidence"] is None:
        rules["confidence"] = None
    return dataclasses.replace(base, **rules)


def line_of(reader: SectionReader, path: KeyPath) -> int | None:
    if any(path[:length] in reader.document.overridden for length in range(1, len(path) + 1)):
        return None  # set by the command line
    mark = reader.document.mark(path)
    return mark.line if mark else None


def metric_text(reader: SectionReader, name: str, slice_: str | None, path: KeyPath) -> MetricText | None:
    """The metric with the slice `[topic=law]` parsed; None and a problem if it is invalid."""
    if slice_ is None:
        return MetricText(name, name, None)
    column, equals, value = (part.strip() for part in slice_.partition("="))
    if not equals or not column or not value or "=" in value:
        reader.report(path, f"has the slice [{slice_}]; it should read like {name}[topic=law]")
        return None
    return MetricText(f"{name}[{column}={value}]", name, {column: value})


def bounded(spec: GateSpec, metric: MetricText, rules: GateRules) -> GateSpec:
    """A gate on a bound with its rules: with a confidence, unless it compares with `==`."""
    confidence = rules.confidence if spec.operator != "==" else None
    level = f" at {confidence:.4g} confidence" if confidence is not None else ""
    return dataclasses.replace(
        spec,
        text=spec.text + level,
        kind="point" if confidence is None else "confidence",
        slice=metric.slice,
        confidence=confidence,
        min_coverage=rules.min_coverage,
        inconclusive=rules.inconclusive,
        missing=rules.missing,
        family=rules.family,
        sequential=rules.sequential,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class GateMappingParser:
    """One gate written as a mapping, with the rules of the suite."""

    reader: SectionReader
    item: Mapping[str, Any]
    path: KeyPath
    rules: GateRules

    def read(self) -> list[GateSpec]:
        """The gate, or two if it has both `min` and `max`; none and its problems if it is invalid."""
        reader, item = self.reader, self.item
        before = len(reader.document.problems)
        reader.check_keys(item, self.path, keys_of(GateKeys))
        rules = apply_rules(reader, item, self.path, self.rules)
        target = reader.text(item["target"], (*self.path, "target")) if item.get("target") is not None else None
        form = self._form()
        if form is None:
            return []
        specs = list(form(rules))
        if len(reader.document.problems) > before:
            return []
        return [dataclasses.replace(spec, target=target) for spec in specs]

    def _form(self) -> Form | None:
        """The reader of this form of a gate, by its keys."""
        given = [name for name in ("per_sample", "max_drop", "improved") if name in self.item]
        if len(given) > 1:
            self._report(given[1], f"cannot be combined with {given[0]!r}; write two gates")
            return None
        if given and (bound := next((name for name in ("min", "max") if name in self.item), None)):
            hint = "; move it into per_sample" if given == ["per_sample"] else "; write two gates"
            self._report(bound, f"cannot be combined with {given[0]!r}{hint}")
            return None
        if given == ["per_sample"]:
            return self._per_sample
        return self._against_baseline if given else self._bounds

    def _report(self, name: str, message: str) -> None:
        self.reader.report((*self.path, name), message, at_key=True)

    def metric_of(self) -> MetricText | None:
        """The metric with its slice, from either key; None and its problems if it is invalid."""
        reader, path = self.reader, (*self.path, "metric")
        if "metric" not in self.item:
            reader.report(self.path, "needs 'metric'")
            return None
        text = reader.text(self.item["metric"], path)
        match = METRIC.fullmatch(text) if text is not None else None
        if match is None:
            if text is not None:
                reader.report(
                    path, f"is {describe_value(text)}; it should be a metric such as exact_match or toxicity/p90"
                )
            return None
        metric = metric_text(reader, match["metric"], match["slice"], path)
        return self._with_slice(metric) if metric is not None else None

    def _with_slice(self, metric: MetricText) -> MetricText | None:
        given = self.item.get("slice")
        if given is None:
            return metric
        path: KeyPath = (*self.path, "slice")
        mapping = self.reader.mapping(given, path)
        if mapping is None:
            return None
        if metric.slice is not None:
            self._report("slice", "the metric already has a slice; keep one of them")
            return None
        if len(mapping) != 1 or isinstance(next(iter(mapping.values())), list | Mapping | None):
            self.reader.report(path, "should be one column and its value, such as {topic: law}")
            return None
        column, value = next(iter(mapping.items()))
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return MetricText(f"{metric.metric}[{column}={text}]", metric.metric, {column: text})

    def _refuse_baseline_keys(self, *, other: str) -> None:
        """Report keys of baseline gates, which have no effect in this one."""
        for name in ("baseline", "baseline_required"):
            if name in self.item:
                self._report(name, f"has no effect {other}; it needs max_drop or improved")

    def _bounds(self, rules: GateRules) -> Iterable[GateSpec]:
        bounds: list[tuple[Operator, str]] = [(">=", "min"), ("<=", "max")]
        given = [(operator, name) for operator, name in bounds if name in self.item]
        metric = self.metric_of()
        if not given:
            if "baseline" in self.item:
                self._report("baseline", "needs 'max_drop' (the allowed drop) or 'improved: true' in the same gate")
            elif "metric" in self.item:
                self.reader.report(self.path, "needs 'min' or 'max'; or 'baseline' with 'max_drop' or 'improved: true'")
            return
        self._refuse_baseline_keys(other=f"with {given[0][1]!r}")
        for operator, name in given:
            bound = self.reader.value(self.item[name], float, (*self.path, name))
            if bound is not None and metric is not None:
                text = f"{metric.text} {operator} {self.item[name]}"
                spec = GateSpec(
                    text, metric.metric, operator, bound, None, line_of(self.reader, self.path), self.path
                )  # fmt: skip
                yield bounded(spec, metric, rules)

    def _against_baseline(self, rules: GateRules) -> Iterable[GateSpec]:
        improved = "improved" in self.item
        metric = self.metric_of()
        if rules.baseline is None:
            name = "improved" if improved else "max_drop"
            self._report(name, "needs 'baseline' in the same gate, such as baseline: main")
            return
        bound: float | None = 0.0
        if not improved:
            path: KeyPath = (*self.path, "max_drop")
            bound = self.reader.value(self.item["max_drop"], float, path)
            if bound is not None and bound < 0:
                self.reader.report(path, f"is {bound:g}; it should be at least 0 (the allowed drop)")
        elif self.reader.value(self.item["improved"], bool, (*self.path, "improved")) is False:
            self.reader.report((*self.path, "improved"), "is false, which has no effect; remove the gate")
        if metric is None or bound is None:
            return
        wording = (
            f"better than {rules.baseline}"
            if improved
            else f"at most {self.item['max_drop']} worse than {rules.baseline}"
        )
        yield GateSpec(
            f"{metric.text} {wording}",
            metric.metric,
            "<=",
            bound,
            line=line_of(self.reader, self.path),
            key_path=self.path,
            kind="improved" if improved else "max_drop",
            slice=metric.slice,
            confidence=rules.confidence or BASELINE_CONFIDENCE,
            baseline=rules.baseline,
            min_coverage=rules.min_coverage,
            inconclusive=rules.inconclusive,
            baseline_required=rules.baseline_required,
            missing=rules.missing,
            family=rules.family,
            changed_data=rules.changed_data,
            sequential=rules.sequential,
        )

    def _per_sample(self, rules: GateRules) -> Iterable[GateSpec]:
        path: KeyPath = (*self.path, "per_sample")
        for name in ("metric", "slice"):
            if name in self.item:
                self._report(
                    name, "cannot be combined with 'per_sample'" + ("; move it inside" if name == "metric" else "")
                )
        self._refuse_baseline_keys(other="with 'per_sample'")
        data = self.item["per_sample"]
        fields = self.reader.section(PerSampleKeys, data, path)
        if fields is None:
            return
        metric = GateMappingParser(
            self.reader, {"metric": data.get("metric")} if "metric" in data else {}, path, rules
        ).metric_of()
        rule, share = self._rule(data, fields, path), fields.get("share", 1.0)
        if metric is None or rule is None:
            return
        most = f" of {rule.of}" if rule.of is not None else ""
        text = (
            f"{metric.text} {rule.operator} {rule.bound:g} in {rule.passes}{most} epochs, for {share:g} of the samples"
        )
        spec = GateSpec(text, metric.metric, ">=", share, line=line_of(self.reader, self.path), key_path=self.path)
        yield bounded(dataclasses.replace(spec, per_sample=rule), metric, rules)

    def _rule(self, data: Mapping[str, Any], fields: Mapping[str, Any], path: KeyPath) -> PerSample | None:
        given = [name for name in ("min", "max") if name in data]
        if len(given) != 1:
            self.reader.report(path, f"needs 'min' or 'max'{', not both' if given else ''}: the bound for an epoch")
            return None
        passes, epochs = fields.get("passes"), fields.get("of")
        if passes is not None and epochs is not None and passes > epochs:
            self.reader.report((*path, "passes"), f"is {passes}, but there are only {epochs} epochs")
        if given[0] not in fields or passes is None:
            return None
        return PerSample(">=" if given == ["min"] else "<=", fields[given[0]], passes, epochs)
