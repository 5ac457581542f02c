"""The gates of a suite, from data to their typed form: `metric operator number`, or one of the long forms.

Whether the suite can have the metric, the reducer or the slice is found when it is assembled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, get_args

from evalrunner.suite.gate_forms import LongGate
from evalrunner.suite.gate_parts import bounded, line_of, metric_text, read_rules
from evalrunner.suite.reading import SectionReader
from evalrunner.suite.schema import GateRules, GateSpec, KeyPath, Operator
from evalrunner.suite.values import shown

GATE = re.compile(
    r"\s*(?P<metric>[^<>=\s\[\]]+)(?:\[(?P<slice>[^\[\]]*)\])?\s*(?P<operator>>=|<=|==|>|<)\s*(?P<bound>[^\s<>=]+)\s*"
)


def read_gates(reader: SectionReader, data: Mapping[str, Any]) -> tuple[GateSpec, ...]:
    """The gates of a suite's data, each with what `gate_defaults` and the keys at the top say of all of them."""
    rules = read_rules(reader, data)
    items = data.get("gates")
    if items is None:
        return ()
    if not isinstance(items, list):
        reader.report(("gates",), f"is {shown(items)}; it should be a list")
        return ()
    found: list[GateSpec] = []
    for place, item in enumerate(items):
        path: KeyPath = ("gates", place)
        if isinstance(item, Mapping):
            found.extend(LongGate(reader, item, path, rules).read())
        else:
            found.extend(_gate_text(reader, item, path, rules))
    return tuple(found)


def _gate_text(reader: SectionReader, item: Any, path: KeyPath, rules: GateRules) -> list[GateSpec]:
    found = GATE.fullmatch(item) if isinstance(item, str) else None
    if found is None:
        reader.report(path, f"is {shown(item)}; it should read like 'exact_match >= 0.8' (one of >= > <= < ==)")
        return []
    metric = metric_text(reader, found["metric"], found["slice"], path)
    bound = _number(found["bound"])
    if bound is None:
        percent = found["bound"].endswith("%")
        hint = f"; write it as a share, {found['bound'].rstrip('%')}/100" if percent else ""
        reader.report(path, f"compares with {found['bound']!r}, which is not a finite number{hint}")
    if bound is None or metric is None:
        return []
    operator: Operator = next(sign for sign in get_args(Operator) if sign == found["operator"])
    text = f"{metric.text} {operator} {found['bound']}"
    return [bounded(GateSpec(text, metric.metric, operator, bound, None, line_of(reader, path), path), metric, rules)]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
