"""The dataset, the prompt and the gates of a suite, from data to their typed form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from evalrun.domain import EMPTY
from evalrun.errors import SuiteError
from evalrun.suite.document import load_document
from evalrun.suite.reading import SectionReader
from evalrun.suite.schema import (
    ColumnSpec,
    ColumnsSpec,
    DatasetSpec,
    GateSpec,
    KeyPath,
    Operator,
    PromptPart,
    PromptSpec,
)
from evalrun.suite.values import shown

ROLES = ("system", "developer", "user", "assistant", "messages")
DATASET_KEYS = ("path", "rows", "type", "columns", "where", "shuffle", "limit", "cluster")
COLUMN_KEYS = ("id", "input", "expected", "messages")
GATE_KEYS = ("metric", "min", "max", "target")
LATER_GATE_KEYS = ("baseline", "max_drop", "improved", "confidence", "per_sample", "min_coverage", "inconclusive")
GATE = re.compile(r"\s*(?P<metric>[^<>=\s\[]+(?:\[[^\]]*\])?)\s*(?P<operator>>=|<=|==|>|<)\s*(?P<bound>[^\s<>=]+)\s*")


def read_dataset(reader: SectionReader, data: Any) -> DatasetSpec | None:
    """The dataset of a suite: a path, or a mapping whose other keys are options of its reader."""
    path: KeyPath = ("dataset",)
    if isinstance(data, str):
        text = reader.text(data, path, fill=True)
        return DatasetSpec(path=text) if text else None
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    if "mlflow" in mapping:
        reader.check_keys({"mlflow": None}, path, (), later=("mlflow",))
    if ("path" in mapping) == ("rows" in mapping) and "type" not in mapping:
        reader.report(path, "needs either 'path' (a file) or 'rows' (the rows themselves)")
    simple = {name: item for name, item in mapping.items() if name not in ("columns", "where")}
    fields = reader.typed(DatasetSpec, simple, path)
    if "where" in mapping:
        fields["where"] = read_where(reader, mapping["where"], (*path, "where"))
    if mapping.get("columns") is not None:
        fields["columns"] = read_columns(reader, mapping["columns"], (*path, "columns"))
    fields["options"] = {name: item for name, item in mapping.items() if name not in (*DATASET_KEYS, "mlflow")}
    return DatasetSpec(**fields)


def read_where(reader: SectionReader, data: Any, path: KeyPath) -> Mapping[str, Any]:
    """Conditions: column to a plain value or a list of plain values."""
    conditions = reader.mapping(data, path) or EMPTY
    for name, wanted in conditions.items():
        for item in wanted if isinstance(wanted, list) else [wanted]:
            if isinstance(item, list | Mapping):
                reader.report((*path, name), f"is {shown(item)}; it should be a plain value or a list of them")
    return conditions


def read_columns(reader: SectionReader, data: Any, path: KeyPath) -> ColumnsSpec:
    """Which source column is what; each one a name, a list of names, or `{column, split}`."""
    mapping = reader.mapping(data, path) or {}
    reader.check_keys(mapping, path, COLUMN_KEYS)
    found: dict[str, ColumnSpec] = {}
    for name in COLUMN_KEYS:
        if name not in mapping:
            continue
        item, place = mapping[name], (*path, name)
        if isinstance(item, Mapping):
            reader.check_keys(item, place, ("column", "split"))
            fields = reader.typed(ColumnSpec, item, place)
            if "column" not in item:
                reader.report(place, "needs 'column'")
            found[name] = ColumnSpec(**fields)
        else:
            column = reader.value(item, str | tuple[str, ...], place)
            if column:
                found[name] = ColumnSpec(column)
        if name != "expected" and name in found and not isinstance(found[name].column, str):
            reader.report(place, "is a list; only 'expected' may come from several columns")
    return ColumnsSpec(**found)


def read_prompt(reader: SectionReader, data: Any, path: KeyPath) -> PromptSpec | None:
    """A prompt: one user message, a list of roles, or `{file: …}` with either inside."""
    if isinstance(data, str):
        return PromptSpec((PromptPart("user", data, key_path=path),), path)
    if isinstance(data, Mapping):
        return _prompt_file(reader, data, path)
    if not isinstance(data, list) or not data:
        reader.report(path, f"is {shown(data)}; it should be text, a list of {{role: text}}, or {{file: path}}")
        return None
    parts: list[PromptPart] = []
    for place, item in enumerate(data):
        here = (*path, place)
        if not isinstance(item, Mapping) or len(item) != 1:
            reader.report(here, f"is {shown(item)}; it should be one role and its text, such as {{user: …}}")
            continue
        role, template = next(iter(item.items()))
        if role not in ROLES:
            reader.check_keys({role: None}, here, ROLES)
            continue
        part = _part(reader, role, template, (*here, role))
        if part is not None:
            parts.append(part)
    return PromptSpec(tuple(parts), path)


def _part(reader: SectionReader, role: str, template: Any, path: KeyPath) -> PromptPart | None:
    if isinstance(template, Mapping):
        found = _prompt_file(reader, template, path)
        if found is None or len(found.parts) != 1:
            return None
        return PromptPart(role, found.parts[0].template, found.parts[0].file, path)
    text = reader.text(template, path)
    return None if text is None else PromptPart(role, text, key_path=path)


def _prompt_file(reader: SectionReader, data: Mapping[str, Any], path: KeyPath) -> PromptSpec | None:
    reader.check_keys(data, path, ("file",))
    name = reader.text(data.get("file"), (*path, "file"), fill=True)
    if name is None:
        return None
    file = reader.folder / name
    try:
        if file.suffix in (".yaml", ".yml", ".json"):
            inner = load_document(file, shown=str(file))
            nested = SectionReader(inner, file.parent, reader.environ)
            found = read_prompt(nested, inner.data, ())
            reader.document.problems.extend(inner.problems)
            return found
        text = file.read_text(encoding="utf-8-sig")
    except SuiteError as broken:
        reader.document.problems.extend(broken.problems)
        return None
    except (OSError, UnicodeDecodeError) as broken:
        reader.report((*path, "file"), f"{str(file)!r} cannot be read: {getattr(broken, 'strerror', None) or broken}")
        return None
    return PromptSpec((PromptPart("user", text.rstrip("\n"), Path(name), path),), path)


def read_gates(reader: SectionReader, data: Any) -> tuple[GateSpec, ...]:
    """The gates of a suite: `metric operator number`, or `{metric, min | max, target}`."""
    if not isinstance(data, list):
        reader.report(("gates",), f"is {shown(data)}; it should be a list")
        return ()
    gates: list[GateSpec] = []
    for place, item in enumerate(data):
        path: KeyPath = ("gates", place)
        found = _gate_mapping(reader, item, path) if isinstance(item, Mapping) else _gate_text(reader, item, path)
        gates.extend(found)
    return tuple(gates)


def _line(reader: SectionReader, path: KeyPath) -> int | None:
    if any(path[:length] in reader.document.overridden for length in range(1, len(path) + 1)):
        return None  # the command line set it, so it stands on no line
    mark = reader.document.mark(path)
    return mark.line if mark else None


def _gate_text(reader: SectionReader, item: Any, path: KeyPath) -> list[GateSpec]:
    found = GATE.fullmatch(item) if isinstance(item, str) else None
    if found is None:
        reader.report(path, f"is {shown(item)}; it should read like 'exact_match >= 0.8' (one of >= > <= < ==)")
        return []
    if "[" in found["metric"]:
        reader.report(path, "not yet: this version of evalrun has no slices; gate on the whole metric")
        return []
    bound = _number(found["bound"])
    if bound is None:
        percent = found["bound"].endswith("%")
        hint = f"; write it as a share, {found['bound'].rstrip('%')}/100" if percent else ""
        reader.report(path, f"compares with {found['bound']!r}, which is not a finite number{hint}")
        return []
    operator: Operator = next(sign for sign in get_args(Operator) if sign == found["operator"])
    text = f"{found['metric']} {operator} {found['bound']}"
    return [GateSpec(text, found["metric"], operator, bound, line=_line(reader, path), key_path=path)]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _gate_mapping(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> list[GateSpec]:
    reader.check_keys(item, path, GATE_KEYS, later=LATER_GATE_KEYS)
    metric = reader.text(item["metric"], (*path, "metric")) if "metric" in item else None
    if "metric" not in item:
        if not any(name in item for name in LATER_GATE_KEYS):
            reader.report(path, "needs 'metric'")
        return []
    target = reader.text(item["target"], (*path, "target")) if "target" in item else None
    bounds: list[tuple[Operator, str]] = [(">=", "min"), ("<=", "max")]
    given = [(operator, name) for operator, name in bounds if name in item]
    if not given and not any(name in item for name in LATER_GATE_KEYS):
        reader.report(path, "needs 'min' or 'max'")
    gates: list[GateSpec] = []
    for operator, name in given:
        bound = reader.value(item[name], float, (*path, name))
        if bound is not None and metric is not None:
            text = f"{metric} {operator} {item[name]}"
            gates.append(GateSpec(text, metric, operator, bound, target, _line(reader, path), path))
    return gates
