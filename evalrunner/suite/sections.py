"""The sections `dataset`, `prompt`, `run`, `cache`, `prices` and `tracking` of a suite, from data to their typed form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from evalrunner.domain import EMPTY
from evalrunner.errors import SuiteError
from evalrunner.redact import LOGIN, register_secret
from evalrunner.suite.schema import (
    CacheMode,
    CacheSpec,
    ColumnSpec,
    ColumnsSpec,
    DatasetSpec,
    FailOnError,
    KeyPath,
    MlflowSpec,
    PriceSpec,
    PromptPart,
    PromptSpec,
    RunSpec,
)
from evalrunner.suite.validate import SectionReader, shown
from evalrunner.suite.yaml import has_variable, load_document

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


PATH: KeyPath = ("tracking", "mlflow")
MLFLOW_KEYS = ("uri", "experiment", "run_name", "tags", "log")


def read_tracking(reader: SectionReader, data: Any) -> MlflowSpec | None:
    """The `tracking:` of a suite's data, or None where it names no tracker."""
    mapping = reader.mapping(data, ("tracking",)) or {}
    reader.check_keys(mapping, ("tracking",), ("mlflow",))
    if "mlflow" not in mapping:
        return None
    given = {} if mapping["mlflow"] is None else reader.mapping(mapping["mlflow"], PATH) or {}
    reader.check_keys(given, PATH, MLFLOW_KEYS)
    plain = {name: item for name, item in given.items() if name != "tags" and item is not None}
    fields = reader.typed(MlflowSpec, plain, PATH)
    register_login(fields.get("uri"))
    return MlflowSpec(**fields, tags=_tags(reader, given.get("tags")))


def read_address(reader: SectionReader, data: Any) -> str | None:
    """The address alone that a `tracking:` names, its variables filled in; nothing else of it needs to be right."""
    given = data.get("mlflow") if isinstance(data, Mapping) else None
    if not isinstance(given, Mapping) or given.get("uri") is None:
        return None
    found = reader.text(given["uri"], (*PATH, "uri"), fill=True)
    register_login(found)
    return found


def _tags(reader: SectionReader, data: Any) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, item in (reader.mapping(data, (*PATH, "tags")) or {}).items() if data is not None else ():
        place = (*PATH, "tags", name)
        if isinstance(item, list | Mapping):
            reader.report(place, f"is {shown(item)}; it should be a plain value")
        elif (text := reader.text(item, place, fill=True) if isinstance(item, str) else shown(item)) is not None:
            found[str(name)] = text
    return found


def register_login(uri: str | None) -> None:
    """Keep the password in an address secret."""
    login = LOGIN.search(uri or "")
    if login is not None:
        register_secret(login.group(0)[len("://") : -1].partition(":")[2])


def shown_tracking(data: Any) -> Any:
    """The section as it may be written down."""
    given = data.get("mlflow") if isinstance(data, Mapping) else None
    return {**data, "mlflow": shown_address(given)} if isinstance(given, Mapping) else data


def shown_address(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Data as it may be written down, where its `uri` is an address: a login stays where its password is a variable."""
    uri = data.get("uri")
    if not isinstance(uri, str):
        return data
    return {**data, "uri": LOGIN.sub(lambda found: found.group(0) if has_variable(found.group(0)) else "://", uri)}


RUN_KEYS = (
    "concurrency", "epochs", "seed", "timeout", "row_timeout", "run_timeout", "retries", "max_cost", "fail_on_error",
    "cache", "stream", "reducer",
)  # fmt: skip
OWN_READING = ("cache", "fail_on_error")  # in more forms than an annotation can say
PRICE_KEYS = ("input", "output", "cached_input", "max_output_tokens")
SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
DECIMAL = re.compile(r"\d*\.\d+")
AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*")
AGE_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def read_run(reader: SectionReader, data: Mapping[str, Any]) -> RunSpec:
    """The `run:` section of a suite's data; `cache` and `reducer` may also stand at the top."""
    mapping = reader.mapping(data["run"], ("run",)) if data.get("run") is not None else {}
    mapping = mapping or {}
    reader.check_keys(mapping, ("run",), RUN_KEYS)
    plain = {name: item for name, item in mapping.items() if name not in OWN_READING}
    spec = RunSpec(**reader.typed(RunSpec, plain, ("run",)))
    if mapping.get("fail_on_error") is not None:
        spec = replace(spec, fail_on_error=read_fail_on_error(reader, mapping["fail_on_error"]))
    if data.get("reducer") is not None:
        if spec.reducer is not None:
            reader.report(("reducer",), "stands beside 'run.reducer'; keep one of them")
        spec = replace(spec, reducer=reader.value(data["reducer"], str | tuple[str, ...], ("reducer",)))
    if "cache" in data and "cache" in mapping:
        reader.report(("cache",), "stands beside 'run.cache'; keep one of them")
    path: KeyPath = ("run", "cache") if "cache" in mapping else ("cache",)
    given = mapping.get("cache", data.get("cache"))
    return spec if given is None else replace(spec, cache=read_cache(reader, given, path))


def read_fail_on_error(reader: SectionReader, item: Any) -> FailOnError | None:
    """After how many rows with errors a run ends: `5%` or 0.05 is a share of its rows, 20 a count, and so is 1."""
    path: KeyPath = ("run", "fail_on_error")
    if isinstance(item, int) and not isinstance(item, bool) and item >= 1:
        return FailOnError(count=item)
    share = SHARE.fullmatch(item) if isinstance(item, str) else None
    if share is not None and 0 < float(share[1]) <= 100:
        return FailOnError(share=float(share[1]) / 100)
    if isinstance(item, str) and DECIMAL.fullmatch(item.strip()):  # as the command line hands it on
        item = float(item)
    if isinstance(item, float) and 0 < item < 1:
        return FailOnError(share=item)
    if isinstance(item, str) and item.strip().isdigit() and int(item) >= 1:
        return FailOnError(count=int(item))
    reader.report(path, f"is {shown(item)}; it should be a share of the rows such as 5%, or a count of at least 1")
    return None


def read_cache(reader: SectionReader, item: Any, path: KeyPath) -> CacheSpec:
    """What is kept and for how long: `judges`, `all` or `off`, or `{mode, ttl}` with a time such as 12h or 7d."""
    if not isinstance(item, Mapping):
        mode = reader.value(item, CacheMode, path)
        return CacheSpec(mode) if mode in get_args(CacheMode) else CacheSpec()
    reader.check_keys(item, path, ("mode", "ttl"))
    mode = reader.value(item["mode"], CacheMode, (*path, "mode")) if "mode" in item else CacheSpec().mode
    ttl_s = _age_s(reader, item["ttl"], (*path, "ttl")) if item.get("ttl") is not None else None
    return CacheSpec(mode or CacheSpec().mode, ttl_s)


def _age_s(reader: SectionReader, item: Any, path: KeyPath) -> float | None:
    seconds = age_s(item)
    if seconds is None:
        reader.report(path, f"is {shown(item)}; it should be a time such as 90s, 12h or 7d")
    return seconds


def age_s(item: Any) -> float | None:
    """Seconds that a text such as `90s`, `12h` or `7d` means, or a bare number; None where it is no time."""
    found = AGE.fullmatch(item) if isinstance(item, str) else None
    seconds = float(found[1]) * AGE_S[found[2]] if found is not None else item
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf:
        return float(seconds)
    return None


def read_prices(reader: SectionReader, data: Any) -> Mapping[str, PriceSpec]:
    """Model to price, for models whose price nobody else tells: `prices: {my-model: {input: 0.15, output: 0.6}}`."""
    mapping = reader.mapping(data, ("prices",)) or {}
    found: dict[str, PriceSpec] = {}
    for model, item in mapping.items():
        price = read_price(reader, item, ("prices", model))
        if price is not None:
            found[model] = price
    return found


def read_price(reader: SectionReader, data: Any, path: KeyPath) -> PriceSpec | None:
    """One price, in US dollars for a million tokens."""
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    reader.check_keys(mapping, path, PRICE_KEYS)
    for needed in ("input", "output"):
        if needed not in mapping:
            reader.report(path, f"needs {needed!r}, in US dollars for a million tokens")
    fields = reader.typed(PriceSpec, mapping, path)
    return PriceSpec(**fields) if "input" in fields and "output" in fields else None
