"""The dataset and the prompt of a suite, from data to their typed form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalrunner.domain import EMPTY
from evalrunner.errors import SuiteError
from evalrunner.suite.document import load_document
from evalrunner.suite.reading import SectionReader
from evalrunner.suite.schema import (
    ColumnSpec,
    ColumnsSpec,
    DatasetSpec,
    KeyPath,
    PromptPart,
    PromptSpec,
)
from evalrunner.suite.tracking import register_login
from evalrunner.suite.values import shown

ROLES = ("system", "developer", "user", "assistant", "messages")
DATASET_KEYS = ("path", "rows", "mlflow", "uri", "type", "columns", "where", "shuffle", "limit", "cluster")
COLUMN_KEYS = ("id", "input", "expected", "messages")


def read_dataset(reader: SectionReader, data: Any) -> DatasetSpec | None:
    """The dataset of a suite: a path, or a mapping whose other keys are options of its reader."""
    path: KeyPath = ("dataset",)
    if isinstance(data, str):
        text = reader.text(data, path, fill=True)
        return DatasetSpec(path=text) if text else None
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    given = [name for name in ("path", "rows", "mlflow") if name in mapping]
    if len(given) != 1 and ("type" not in mapping or "mlflow" in given):
        reader.report(
            path, "needs one of 'path' (a file), 'rows' (the rows themselves) and 'mlflow' (a run or dataset of MLflow)"
        )
    known = DATASET_KEYS if "mlflow" in mapping else tuple(name for name in DATASET_KEYS if name != "uri")
    simple = {name: item for name, item in mapping.items() if name in known and name not in ("columns", "where")}
    fields = reader.typed(DatasetSpec, simple, path)
    register_login(fields.get("uri"))
    if "where" in mapping:
        fields["where"] = read_where(reader, mapping["where"], (*path, "where"))
    if mapping.get("columns") is not None:
        fields["columns"] = read_columns(reader, mapping["columns"], (*path, "columns"))
    fields["options"] = {name: item for name, item in mapping.items() if name not in known}
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
