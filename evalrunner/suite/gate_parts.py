"""What all forms of a gate share: the rules that hold for it, its metric with a slice, its line in the suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from evalrunner.suite.reading import SectionReader
from evalrunner.suite.schema import GateRules, GateSpec, KeyPath

RULE_KEYS = ("min_coverage", "inconclusive", "baseline_required")
"""Keys that stand at the top of a suite too."""
OWN_KEYS = ("confidence", "min_coverage", "inconclusive", "baseline", "baseline_required")


class MetricText(NamedTuple):
    """A metric as it is written, its slice taken out."""

    text: str
    metric: str
    slice: Mapping[str, str] | None


def read_rules(reader: SectionReader, data: Mapping[str, Any]) -> GateRules:
    """What every gate of a suite has that does not say otherwise."""
    top = {name: data[name] for name in RULE_KEYS if data.get(name) is not None}
    rules = apply_rules(reader, top, (), GateRules())
    given = data.get("gate_defaults")
    if given is None:
        return rules
    path: KeyPath = ("gate_defaults",)
    mapping = reader.mapping(given, path)
    if mapping is None:
        return rules
    reader.check_keys(mapping, path, OWN_KEYS)
    return apply_rules(reader, mapping, path, rules)


def apply_rules(reader: SectionReader, data: Mapping[str, Any], path: KeyPath, base: GateRules) -> GateRules:
    """`base` with what `data` says over it; `confidence: null` takes that of the defaults out."""
    found = reader.typed(GateRules, {name: value for name, value in data.items() if value is not None}, path)
    if "confidence" in data and data["confidence"] is None:
        found["confidence"] = None
    if found.get("confidence") is not None and not 0.5 < found["confidence"] < 1:
        percent = f"; write it as a share, {found['confidence'] / 100:g}" if 50 < found["confidence"] < 100 else ""
        said = f"is {found['confidence']:g}; it should be above 0.5 and below 1, such as 0.95{percent}"
        reader.report((*path, "confidence"), said)
        del found["confidence"]
    if "min_coverage" in found and not 0 <= found["min_coverage"] <= 1:
        reader.report((*path, "min_coverage"), f"is {found['min_coverage']:g}; it should be a share in 0..1")
        del found["min_coverage"]
    return dataclasses.replace(base, **found)


def line_of(reader: SectionReader, path: KeyPath) -> int | None:
    if any(path[:length] in reader.document.overridden for length in range(1, len(path) + 1)):
        return None  # the command line set it, so it stands on no line
    mark = reader.document.mark(path)
    return mark.line if mark else None


def metric_text(reader: SectionReader, name: str, slice_: str | None, path: KeyPath) -> MetricText | None:
    """`exact_match` with the slice of `[topic=law]` beside it; None and a problem where that cannot be read."""
    if slice_ is None:
        return MetricText(name, name, None)
    column, equals, value = (part.strip() for part in slice_.partition("="))
    if not equals or not column or not value or "=" in value:
        reader.report(path, f"has the slice [{slice_}]; it should read like {name}[topic=law]")
        return None
    return MetricText(f"{name}[{column}={value}]", name, {column: value})


def bounded(spec: GateSpec, metric: MetricText, rules: GateRules) -> GateSpec:
    """A gate on a bound with the rules that hold for it: with a confidence, unless it asks for one exact value."""
    confidence = rules.confidence if spec.operator != "==" else None
    said = f" at {confidence:.4g} confidence" if confidence is not None else ""
    return dataclasses.replace(
        spec,
        text=spec.text + said,
        kind="point" if confidence is None else "confidence",
        slice=metric.slice,
        confidence=confidence,
        min_coverage=rules.min_coverage,
        inconclusive=rules.inconclusive,
    )
