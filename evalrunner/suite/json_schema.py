"""The JSON Schema of a suite, made from the same fields and signatures that the check uses."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalrunner.egress import EgressPolicy
from evalrunner.plugin_table import ADDRESS_SOURCES, Group
from evalrunner.plugins import factory_options, known_names, load, load_attribute, resolve
from evalrunner.suite.columns import ColumnSpec
from evalrunner.suite.content import DETAILS, KINDS
from evalrunner.suite.models import SERVICE
from evalrunner.suite.prompts import MESSAGE_KEYS, PROMPT_NAME, ROLES, SPEAKERS
from evalrunner.suite.schema import (
    CacheSpec,
    ChecksSpec,
    DatasetSpec,
    FailOnError,
    GateKeys,
    GateSpec,
    ModelSpec,
    PaceSpec,
    PriceSpec,
    PromptSpec,
    ScorerSpec,
    ShotsSpec,
    StopSpec,
    Suite,
    TargetSpec,
    ToolsSpec,
    TrackingSpec,
    TransportSpec,
    UserSpec,
)
from evalrunner.suite.scorer_schema import (
    EXTRACT,
    check_definitions,
    extract_definition,
    first_line,
    option_definitions,
    option_docs,
    scorer_definitions,
)
from evalrunner.suite.shots import DATA_KEYS, SHOTS
from evalrunner.suite.validate import Key, is_section, keys_of, schema_of, schema_of_options, without_none

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
PLAIN: Schema = {"type": ["string", "number", "boolean"]}
FILE: Schema = {"type": "object", "properties": {"file": TEXT}, "required": ["file"], "additionalProperties": False}
DEFINITIONS: Mapping[Any, str] = {
    DatasetSpec: "dataset",
    ColumnSpec: "column",
    PromptSpec: "prompt",
    ModelSpec: "judge",
    TargetSpec: "target",
    ScorerSpec: "scorer",
    ChecksSpec: "checks",
    GateSpec: "gate",
    CacheSpec: "cache",
    FailOnError: "fail_on_error",
    PriceSpec: "price",
    ToolsSpec: "tools",
    UserSpec: "user",
    StopSpec: "stop_when",
    TransportSpec: "transport",
    EgressPolicy: "allow_hosts",
}
"""Types that a file writes in more than one form, or in several places, with their names in the schema."""
RULES = {"minimum": "minimum", "maximum": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def suite_schema() -> Schema:
    """JSON Schema (2020-12) of a suite file, with every built-in and installed part and its options."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evalrun suite",
        **section_schema(Suite),
        "oneOf": [{"required": ["target"]}, {"required": ["targets"]}],
        "$defs": {
            "dataset": _dataset(),
            "column": {"anyOf": [TEXT, {"type": "array", "items": TEXT}, _column()]},
            "prompt": _prompt(),
            "content": {"anyOf": [TEXT, FILE, _content()]},
            "model": _model(keys_of(ModelSpec)),
            "judge": {
                "anyOf": [
                    *(one := [TEXT, {"$ref": "#/$defs/model"}]),
                    {"type": "array", "items": {"anyOf": one}, "minItems": 1},
                ]
            },
            "target": _target(),
            **scorer_definitions({name: _key(key) for name, key in keys_of(ScorerSpec).items() if name != "type"}),
            **option_definitions(),
            **extract_definition(),
            **check_definitions(),
            "gate": _gate(),
            "cache": _cache(),
            "fail_on_error": _fail_on_error(),
            "allow_hosts": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
            "price": section_schema(PriceSpec),
            "tools": {"anyOf": [TEXT, {"type": "array", "items": {"anyOf": [TEXT, {"type": "object"}]}}]},
            "user": _user(),
            "stop_when": {"anyOf": [TEXT, {**section_schema(StopSpec), "required": ["phrase"]}]},
            "transport": {
                "anyOf": [section_schema(TransportSpec)["properties"]["type"], section_schema(TransportSpec)]
            },
        },
    }


def _user() -> Schema:
    """A simulated user, which has one model and no panel."""
    user = section_schema(UserSpec)
    described = {"description": user["properties"]["model"]["description"]}
    user["properties"]["model"] = {"anyOf": [TEXT, {"$ref": "#/$defs/model"}], **described}
    return user


def section_schema(kind: Any, form: str | None = None) -> Schema:
    """The schema of a mapping whose keys are the fields of a dataclass."""
    return _section(keys_of(kind, form))


def _section(keys: Mapping[str, Key]) -> Schema:
    needed = [name for name, key in keys.items() if "needed" in key.rules and "single" not in key.rules]
    section: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _key(key) for name, key in keys.items()},
    }
    return {**section, "required": needed} if needed else section


def _key(key: Key) -> Schema:
    """The schema of the value of one key."""
    if key.name == "extract":
        return dict(EXTRACT)
    schema = _type(key.annotation)
    if schema.get("type") == "array" and "needed" in key.rules:
        schema["minItems"] = 1
    if key.rules.get("unique"):
        schema["uniqueItems"] = True
    if "pattern" in key.rules:
        schema["pattern"] = f"^{key.rules['pattern']}$"
    schema.update((word, key.rules[rule]) for rule, word in RULES.items() if rule in key.rules)
    if isinstance(key.default, int | float | str) and key.default != "":
        schema["default"] = key.default
    return {**schema, "description": key.doc}


def _type(annotation: Any) -> Schema:
    """The schema of an annotation; types with a definition refer to it."""
    kind = without_none(annotation)
    optional = kind is not annotation
    if kind in DEFINITIONS:
        return {"$ref": f"#/$defs/{DEFINITIONS[kind]}"}
    if kind is TrackingSpec:
        return _tracking()
    if is_section(kind):
        schema = section_schema(kind)
        return {"anyOf": [{"type": "null"}, schema]} if optional else schema
    inside = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and inside[0] in DEFINITIONS:
        return {"type": "array", "items": _type(inside[0])}
    if kind == Mapping[str, str]:
        return {"type": "object", "additionalProperties": PLAIN}
    if typing.get_origin(kind) is Mapping and inside[1] in DEFINITIONS:
        names = {"propertyNames": {"pattern": f"^{PROMPT_NAME.pattern}$"}} if inside[1] is PromptSpec else {}
        return {"type": "object", "additionalProperties": _type(inside[1]), **names}
    return schema_of(annotation)


def _tracking() -> Schema:
    properties: Schema = {}
    for name in known_names("exporters"):
        exporter = load("exporters", name)
        properties[name] = {
            "anyOf": [{"type": "null"}, section_schema(exporter.options)],
            "description": first_line(exporter).rstrip("."),
        }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _column() -> Schema:
    return {**section_schema(ColumnSpec), "oneOf": [{"required": ["column"]}, {"required": ["value"]}]}


def _fail_on_error() -> Schema:
    share: Schema = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%?\s*$"}
    count: Schema = {"type": "integer", "minimum": 1}
    return {"anyOf": [share, count, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]}


def _cache() -> Schema:
    section = section_schema(CacheSpec)
    ttl = section["properties"]["ttl"]
    ttl.update({"anyOf": [TEXT, {"type": "number"}]})
    return {"anyOf": [section["properties"]["mode"], section]}


def _dataset() -> Schema:
    fields = section_schema(DatasetSpec)["properties"]
    for name in known_names("datasets"):  # options of the readers, whichever the file name picks
        factory = resolve("datasets", name, folder=Path())
        for option, schema in schema_of_options(factory_options(factory), option_docs(factory)).items():
            fields.setdefault(option, schema)
    for reference in ADDRESS_SOURCES.values():
        source = load_attribute(reference, folder=None)
        for option, schema in schema_of_options(factory_options(source), option_docs(source)).items():
            fields.setdefault(option, schema)
    for name in known_names("dataset_sources"):
        source = load("dataset_sources", name)
        fields[name] = {**TEXT, "description": first_line(source).rstrip(".")}
        fields.update(schema_of_options(factory_options(source), option_docs(source)))
    fields["path"] = {
        "anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}],
        "description": fields["path"]["description"],
    }
    fields["rows"]["items"] = {"type": "object", "properties": {"checks": {"$ref": "#/$defs/checks"}}}
    mapping = {"type": "object", "properties": fields, "additionalProperties": True}
    return {"anyOf": [{**TEXT, "description": "File, glob, or - for standard input"}, mapping]}


def _prompt() -> Schema:
    role = {"$ref": "#/$defs/content"}
    short: Schema = {
        "type": "object",
        "properties": {**dict.fromkeys(ROLES, role), "messages": {"anyOf": [TEXT, FILE]}, SHOTS: _shots()},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    as_sent: Schema = {
        "type": "object",
        "description": "A message as OpenAI's API has it",
        "properties": {"role": {"enum": list(SPEAKERS)}, "content": role},
        "required": list(MESSAGE_KEYS),
        "additionalProperties": False,
    }
    messages: Schema = {"type": "array", "minItems": 1, "items": {"anyOf": [short, as_sent]}}
    return {
        "anyOf": [
            {**TEXT, "description": "One user message; a Jinja2 template"},
            messages,
            {
                "type": "object",
                "properties": {"messages": messages},
                "required": ["messages"],
                "additionalProperties": False,
            },
            FILE,
        ]
    }


def _content() -> Schema:
    """The parts of a message."""
    named: list[Schema] = [{"type": "object", "properties": {kind: TEXT}, "required": [kind]} for kind in KINDS]
    image = next(item for item in named if "image" in item["properties"])
    image["properties"] = {"image": TEXT, "detail": {"enum": list(DETAILS)}}
    linked = {"url": TEXT, "detail": {"enum": list(DETAILS)}}
    url = {
        "anyOf": [TEXT, {"type": "object", "properties": linked, "required": ["url"], "additionalProperties": False}]
    }
    as_sent = [
        {"type": "object", "properties": {"type": {"const": "text"}, "text": TEXT}, "required": ["type", "text"]},
        {
            "type": "object",
            "properties": {"type": {"const": "image_url"}, "image_url": url},
            "required": ["type", "image_url"],
        },
    ]
    forms = [TEXT, *({**form, "additionalProperties": False} for form in (*named, *as_sent))]
    return {
        "type": "array", "minItems": 1, "description": "Parts of a message: text, images, audio and files",
        "items": {"anyOf": forms},
    }  # fmt: skip


def _shots() -> Schema:
    """A data file with examples: the keys of a dataset that shots may have, options of its reader, and their own."""
    data = _dataset()["anyOf"][1]["properties"]
    refused = keys_of(DatasetSpec).keys() - set(DATA_KEYS) | set(known_names("dataset_sources")) | {"uri"}
    properties = {name: schema for name, schema in data.items() if name not in refused}
    properties.update(section_schema(ShotsSpec)["properties"])
    mapping = {"type": "object", "properties": properties, "required": ["path"], "additionalProperties": False}
    return {"anyOf": [{**TEXT, "description": "Data file with examples"}, mapping]}


def _model(keys: Mapping[str, Key]) -> Schema:
    section = _section(keys)
    section["properties"]["headers"]["additionalProperties"] = TEXT
    return {**section, "required": ["model"]}


def _target() -> Schema:
    model = _model(keys_of(TargetSpec, "model"))
    return {
        "anyOf": [{**TEXT, "description": "A model string"}, model, *_typed("targets", keys_of(TargetSpec, "type"))]
    }


def _factories(group: Group) -> list[tuple[str, Any]]:
    return [(name, resolve(group, name, folder=Path())) for name in sorted(known_names(group))]


def _required(factory: Any) -> list[str]:
    options = factory_options(factory).values()
    return [option.name for option in options if option.default is inspect.Parameter.empty]


def _typed(group: Group, keys: Mapping[str, Key]) -> list[Schema]:
    """A mapping with `type` for each part, and one for references to custom parts."""
    own = {name: _key(key) for name, key in keys.items() if name != "type"}
    forms: list[Schema] = []
    for name, factory in _factories(group):
        options = schema_of_options(factory_options(factory), option_docs(factory))
        if group == "targets" and name == SERVICE:
            options.update({pace: _key(key) for pace, key in keys_of(PaceSpec, "http").items()})
        forms.append(
            {
                "type": "object",
                "description": first_line(factory),
                "properties": {"type": {"const": name}, **own, **options},
                "required": ["type", *_required(factory)],
                "additionalProperties": False,
            }
        )
    reference = {"type": "string", "pattern": ":", "description": "package.module:name or path/file.py:name"}
    forms.append({"type": "object", "properties": {"type": reference}, "required": ["type"]})
    return forms


def _gate() -> Schema:
    """One gate: text, or a mapping in one of its three forms."""
    bound, baseline, per_sample = (section_schema(GateKeys, form) for form in ("bound", "baseline", "per_sample"))
    for form in (bound, baseline):
        form["properties"]["slice"].update({"minProperties": 1, "maxProperties": 1})
    epochs = section_schema(without_none(keys_of(GateKeys)["per_sample"].annotation))
    per_sample["properties"]["per_sample"] = {**epochs, "oneOf": _one_of("min", "max")}
    return {
        "anyOf": [
            {**TEXT, "description": "metric operator number, such as exact_match >= 0.8"},
            {**bound, "anyOf": _one_of("min", "max")},
            {**baseline, "oneOf": _one_of("max_drop", "improved")},
            {**per_sample, "required": ["per_sample"]},
        ]
    }


def _one_of(*names: str) -> list[Schema]:
    return [{"required": [name]} for name in names]
