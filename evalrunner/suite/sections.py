"""The sections `dataset`, `run`, `cache`, `prices` and `tracking` of a suite, from data to their typed form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, get_args

from evalrunner.domain import EMPTY
from evalrunner.egress import ENTRY_FORMS, EgressPolicy, HostPattern
from evalrunner.plugins import factory_options, known_names, load
from evalrunner.redact import register_secret
from evalrunner.secret_names import LOGIN
from evalrunner.suite.columns import ColumnSpec, is_template
from evalrunner.suite.conditions import condition_problems
from evalrunner.suite.environment import has_variable
from evalrunner.suite.schema import (
    CacheMode,
    CacheSpec,
    DatasetSpec,
    FailOnError,
    KeyPath,
    LongPriceSpec,
    PriceSpec,
    RunSpec,
    TrackingSpec,
)
from evalrunner.suite.validate import SectionReader, describe_value, keys_of, reads, top_keys
from evalrunner.suite.yaml import dotted
from evalrunner.templates import PromptError
from evalrunner.value_templates import compile_value

SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
DECIMAL = re.compile(r"\d*\.\d+")
AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*")
AGE_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@reads(DatasetSpec)
def read_dataset(reader: SectionReader, data: Any, path: KeyPath) -> DatasetSpec | None:
    """The dataset of a suite: a path, or a mapping whose other keys are options of its reader."""
    if isinstance(data, str):
        text = reader.text(data, path, fill=True)
        if text is not None and not text.strip():
            reader.report(path, "is empty; name a file, a glob, or - for standard input")
        return DatasetSpec(path=text) if text and text.strip() else None
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    sources = [name for name in known_names("dataset_sources") if name in mapping]
    given = [name for name in ("path", "rows", *sources) if name in mapping]
    if len(given) != 1 and ("type" not in mapping or sources):
        others = "".join(f", {name!r} (a dataset of {name})" for name in known_names("dataset_sources"))
        reader.report(path, f"needs one of 'path' (a file), 'rows' (inline rows){others}")
    external = _external_source(reader, mapping, sources[0], path) if sources else {}
    listed = _listed_files(reader, mapping["path"], (*path, "path")) if isinstance(mapping.get("path"), list) else {}
    single = {name: item for name, item in mapping.items() if name != "path"} if listed else mapping
    fields = {**reader.fields(keys_of(DatasetSpec), single, path), **external, **listed}
    keys = {*keys_of(DatasetSpec), *sources[:1], *external.get("source_options", ())}
    problems = list(condition_problems(fields.get("where", {})))
    for place, problem in problems:
        reader.report((*path, "where", *place), problem)
    if problems:
        del fields["where"]  # nothing can select by it
    if fields.get("by") is not None and fields.get("sample") is None:
        reader.report((*path, "by"), "needs 'sample', the size of the sample")
    return DatasetSpec(**fields, options={name: item for name, item in mapping.items() if name not in keys})


def _listed_files(reader: SectionReader, data: list[Any], path: KeyPath) -> dict[str, Any]:
    """The files and globs of a list, variables filled in."""
    if not data:
        reader.report(path, "is an empty list; name the files")
    files = tuple(reader.text(item, (*path, place), fill=True) or "" for place, item in enumerate(data))
    for place, file in enumerate(files):
        if file == "-" or "://" in file:
            what = "standard input" if file == "-" else "an address"
            reader.report((*path, place), f"is {what}, which cannot be in a list; a list has files and globs")
        elif not file.strip():
            reader.report((*path, place), "is empty; name a file or a glob")
    return {"path": ", ".join(files), "files": files}


def _external_source(reader: SectionReader, data: Mapping[str, Any], name: str, path: KeyPath) -> dict[str, Any]:
    """Name, reference and options of a dataset of another system, variables filled in."""
    options = {
        key: reader.text(data[key], (*path, key), fill=True) if isinstance(data[key], str) else data[key]
        for key in factory_options(load("dataset_sources", name))
        if key in data
    }
    register_login(options.get("uri"))
    return {
        "source": name,
        "reference": reader.text(data[name], (*path, name), fill=True) or "",
        "source_options": options,
    }


@reads(ColumnSpec)
def read_column(reader: SectionReader, item: Any, path: KeyPath) -> ColumnSpec | None:
    """Where a field comes from: a column, a template, a list of them, or a mapping with `column` or `value`."""
    if isinstance(item, Mapping):
        fields = reader.section(ColumnSpec, item, path)
        if "column" in item and "value" in item:
            reader.report((*path, "value"), "cannot be combined with 'column'; keep one of them")
        elif item.get("column") is None and item.get("value") is None:
            reader.report(path, "needs 'column', or 'value' for the same value in every row")
        source = ColumnSpec(**fields or {})
    else:
        column = reader.value(item, str | tuple[str, ...], path)
        if not column:
            return ColumnSpec("") if column == "" and path[-1] == "checks" else None  # the column `checks` is data
        source = ColumnSpec(column)
    if path[-1] not in ("expected", "choices") and not isinstance(source.column, str):
        reader.report(path, "is a list; only 'expected' and 'choices' may come from several columns")
    return source if _compiles(reader, source, item, path) else None


def _compiles(reader: SectionReader, source: ColumnSpec, item: Any, path: KeyPath) -> bool:
    """Whether the templates of a field can be compiled; a problem for each that cannot."""
    before = len(reader.document.problems)
    at = (*path, "column") if isinstance(item, Mapping) else path
    names = (source.column,) if isinstance(source.column, str) else source.column
    for place, name in enumerate(names):
        if is_template(name):
            try:
                compile_value("the template", name)
            except PromptError as wrong:
                reader.report(at if isinstance(source.column, str) else (*at, place), str(wrong))
    return len(reader.document.problems) == before


@reads(TrackingSpec)
def read_tracking(reader: SectionReader, data: Any, path: KeyPath) -> TrackingSpec:
    """`tracking:`, the options of each tracker typed as its exporter declares; an empty section has no options."""
    mapping = reader.mapping(data, path) or {}
    trackers = known_names("exporters")
    reader.check_keys(mapping, path, trackers)
    options: dict[str, Any] = {}
    for name in trackers:
        if name not in mapping:
            continue
        kind = load("exporters", name).options
        fields = reader.section(kind, mapping[name] if mapping[name] is not None else {}, (*path, name), nulls=True)
        register_login((fields or {}).get("uri"))
        if fields is not None:
            options[name] = kind(**fields)
    return TrackingSpec(options)


def read_address(reader: SectionReader, data: Any, name: str) -> str | None:
    """The address of a tracker in `tracking:`, its variables filled in; the rest of the section is not read."""
    given = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(given, Mapping) or given.get("uri") is None:
        return None
    address = reader.text(given["uri"], ("tracking", name, "uri"), fill=True)
    register_login(address)
    return address


@reads(Mapping[str, str])
def read_texts(reader: SectionReader, data: Any, path: KeyPath) -> Mapping[str, str]:
    """A mapping of plain values, each as text with its variables filled in."""
    texts: dict[str, str] = {}
    for name, item in (reader.mapping(data, path) or {}).items():
        place = (*path, name)
        if isinstance(item, list | Mapping):
            reader.report(place, f"is {describe_value(item)}; it should be a plain value")
        elif (
            text := reader.text(item, place, fill=True) if isinstance(item, str) else describe_value(item)
        ) is not None:
            texts[str(name)] = text
    return texts


def register_login(uri: str | None) -> None:
    """Register the password in an address as a secret."""
    login = LOGIN.search(uri or "")
    if login is not None and not has_variable(login.group(0)):  # one without a value stands by its name
        register_secret(login.group(0)[len("://") : -1].partition(":")[2])


def public_tracking(data: Any) -> Any:
    """The section as it may be written to disk."""
    if not isinstance(data, Mapping):
        return data
    return {name: public_address(given) if isinstance(given, Mapping) else given for name, given in data.items()}


def public_address(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Data with a public `uri`: a login is removed unless its password is a variable."""
    uri = data.get("uri")
    if not isinstance(uri, str):
        return data
    return {**data, "uri": LOGIN.sub(lambda match: match.group(0) if has_variable(match.group(0)) else "://", uri)}


@reads(RunSpec)
def read_run(reader: SectionReader, data: Any, path: KeyPath) -> RunSpec:
    """The `run:` section; its `cache` and `reducer` may also be written at the top of the suite."""
    section = reader.section(RunSpec, data, path) if data is not None else {}
    inside = data if isinstance(data, Mapping) else EMPTY
    keys = top_keys(RunSpec)
    top = {name: item for name, item in reader.document.data.items() if name in keys and item is not None}
    for name in top:
        if inside.get(name) is not None:
            reader.report((name,), f"cannot be combined with 'run.{name}'; keep one of them")
    return RunSpec(**{**(section or {}), **reader.fields(keys, top, ())})


@reads(FailOnError)
def read_fail_on_error(reader: SectionReader, item: Any, path: KeyPath) -> FailOnError | None:
    """The failed rows that abort a run: `5%` or 0.05 is a share of its rows, 20 is a count, and so is 1."""
    if isinstance(item, int) and not isinstance(item, bool) and item >= 1:
        return FailOnError(count=item)
    share = SHARE.fullmatch(item) if isinstance(item, str) else None
    if share is not None and 0 < float(share[1]) <= 100:
        return FailOnError(share=float(share[1]) / 100)
    if isinstance(item, str) and DECIMAL.fullmatch(item.strip()):  # as the command line passes it
        item = float(item)
    if isinstance(item, float) and 0 < item < 1:
        return FailOnError(share=item)
    if isinstance(item, str) and item.strip().isdigit() and int(item) >= 1:
        return FailOnError(count=int(item))
    reader.report(
        path, f"is {describe_value(item)}; it should be a share of the rows such as 5%, or a count of at least 1"
    )
    return None


@reads(EgressPolicy)
def read_allow_hosts(reader: SectionReader, data: Any, path: KeyPath) -> EgressPolicy | None:
    """The hosts that may be contacted: one, or a list; an empty list allows none."""
    items = [data] if isinstance(data, str) else data
    if not isinstance(items, list):
        reader.report(path, f"is {describe_value(data)}; it should be a list of hosts such as {ENTRY_FORMS}")
        return None
    patterns: list[HostPattern] = []
    for place, item in enumerate(items):
        here = path if isinstance(data, str) else (*path, place)
        if (text := reader.text(item, here, fill=True)) is not None:
            try:
                patterns.append(HostPattern.parse(text))
            except ValueError as wrong:
                reader.report(here, str(wrong))
    return EgressPolicy(tuple(patterns), reader.document.overridden.get(path, dotted(path)))


@reads(CacheSpec)
def read_cache(reader: SectionReader, item: Any, path: KeyPath) -> CacheSpec:
    """The cache mode and TTL: `judges`, `all` or `off`, or `{mode, ttl}` with a time such as 12h or 7d."""
    if not isinstance(item, Mapping):
        mode = reader.value(item, CacheMode, path)
        return CacheSpec(mode) if mode in get_args(CacheMode) else CacheSpec()
    keys = keys_of(CacheSpec)
    reader.check_keys(item, path, keys)
    fields = reader.fields({"mode": keys["mode"]}, item, path)
    ttl_s = _age_s(reader, item["ttl"], (*path, "ttl")) if item.get("ttl") is not None else None
    return CacheSpec(**fields, ttl_s=ttl_s)


def _age_s(reader: SectionReader, item: Any, path: KeyPath) -> float | None:
    seconds = age_s(item)
    if seconds is None:
        reader.report(path, f"is {describe_value(item)}; it should be a time such as 90s, 12h or 7d")
    return seconds


def age_s(item: Any) -> float | None:
    """Seconds of a time such as `90s`, `12h` or `7d`, or of a plain number; None if it is neither."""
    match = AGE.fullmatch(item) if isinstance(item, str) else None
    seconds = float(match[1]) * AGE_S[match[2]] if match is not None else item
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf:
        return float(seconds)
    return None


@reads(Mapping[str, PriceSpec])
def read_prices(reader: SectionReader, data: Any, path: KeyPath) -> Mapping[str, PriceSpec]:
    """Model to price, for models that no price table has: `prices: {my-model: {input: 0.15, output: 0.6}}`."""
    mapping = reader.mapping(data, path) or {}
    read = {model: read_price(reader, item, (*path, model)) for model, item in mapping.items()}
    return {model: price for model, price in read.items() if price is not None}


@reads(LongPriceSpec)
def read_long_price(reader: SectionReader, data: Any, path: KeyPath) -> LongPriceSpec | None:
    """The price of calls with a long prompt: `above: {tokens: 200000, input: 4, output: 18}`."""
    fields = reader.section(LongPriceSpec, data, path)
    return LongPriceSpec(**fields) if fields is not None and fields.keys() >= {"tokens", "input", "output"} else None


@reads(PriceSpec)
def read_price(reader: SectionReader, data: Any, path: KeyPath) -> PriceSpec | None:
    """One price, in US dollars per million tokens."""
    fields = reader.section(PriceSpec, data, path)
    return PriceSpec(**fields) if fields is not None and fields.keys() >= {"input", "output"} else None
