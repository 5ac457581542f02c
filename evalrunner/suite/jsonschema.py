"""The JSON Schema of a suite, made from the same fields and signatures that the check uses."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any, get_args

from evalrunner.domain import NoAnswer
from evalrunner.registry import Group, factory_options, known_names, resolve
from evalrunner.suite.docs import first_line, option_docs
from evalrunner.suite.gate_schema import defaults_schema, gate_schema, top_rules
from evalrunner.suite.load import NAME
from evalrunner.suite.models import SERVICE
from evalrunner.suite.schema import CacheMode, DatasetSpec, JudgeCheck, MlflowSpec, PaceSpec, PriceSpec, RunSpec
from evalrunner.suite.sections import COLUMN_KEYS, ROLES
from evalrunner.suite.values import schema_of, schema_of_options

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COLUMN: Schema = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": TEXT},
        {
            "type": "object",
            "properties": {"column": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}, "split": TEXT},
            "required": ["column"],
            "additionalProperties": False,
        },
    ]
}
FILE: Schema = {"type": "object", "properties": {"file": TEXT}, "required": ["file"], "additionalProperties": False}


def suite_schema() -> Schema:
    """JSON Schema (2020-12) of a suite file, with every built-in and installed part and its options."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evalrun suite",
        "type": "object",
        "additionalProperties": False,
        "required": ["dataset", "scorers"],
        "oneOf": [{"required": ["target"]}, {"required": ["targets"]}],
        "properties": _top(),
        "$defs": {
            "dataset": _dataset(),
            "prompt": _prompt(),
            "model": _model(),
            "judge": {"anyOf": [TEXT, {"$ref": "#/$defs/model"}]},
            "target": _target(),
            "scorer": _scorer(),
            "gate": gate_schema(),
            "cache": _cache(),
            "price": {**_fields(PriceSpec), "required": ["input", "output"]},
        },
    }


def _top() -> Schema:
    """What stands at the top of a suite."""
    return {
        "name": {
            "type": "string",
            "pattern": f"^{NAME.pattern}$",
            "description": "Name of the suite and its run folders",
        },
        "description": {"type": "string", "description": "What the suite measures"},
        "dataset": {"$ref": "#/$defs/dataset"},
        "prompt": {"$ref": "#/$defs/prompt"},
        "target": {"$ref": "#/$defs/target"},
        "targets": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/target"}},
        "params": {"type": "object", "description": "Sampling parameters of every target; never of judges"},
        "judge": {"$ref": "#/$defs/judge"},
        "judge_check": {**schema_of(JudgeCheck), "description": "What a judge's failed self-check does"},
        "scorers": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/scorer"}},
        "on_no_answer": {**schema_of(NoAnswer), "description": "What an answer that was not given counts as"},
        "gates": {"type": "array", "items": {"$ref": "#/$defs/gate"}},
        "gate_defaults": defaults_schema(),
        **top_rules(),
        "run": _run(),
        "cache": {"$ref": "#/$defs/cache"},
        "prices": {
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/price"},
            "description": "Price of each model that nobody else tells, US dollars for a million tokens",
        },
        "slices": _slices(),
        "reducer": _fields(RunSpec)["properties"]["reducer"],
        "tracking": {"type": "object", "properties": {"mlflow": _mlflow()}, "additionalProperties": False},
    }


def _fields(kind: type[Any]) -> Schema:
    hints = typing.get_type_hints(kind)
    properties: Schema = {}
    for item in dataclasses.fields(kind):
        if "doc" not in item.metadata:
            continue
        properties[item.name] = {**schema_of(hints[item.name]), "description": item.metadata["doc"]}
        if "minimum" in item.metadata:
            properties[item.name]["minimum"] = item.metadata["minimum"]
        if "above" in item.metadata:
            properties[item.name]["exclusiveMinimum"] = item.metadata["above"]
        if item.default is not dataclasses.MISSING and isinstance(item.default, int | float | str):
            properties[item.name]["default"] = item.default
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _mlflow() -> Schema:
    fields = _fields(MlflowSpec)
    fields["properties"]["tags"]["additionalProperties"] = {"type": ["string", "number", "boolean"]}
    return {"anyOf": [{"type": "null"}, fields], "description": "Send runs to MLflow"}


def _slices() -> Schema:
    said = "Columns: every metric is given for each of their values too"
    return {"type": "array", "items": TEXT, "description": said}


def _run() -> Schema:
    run = _fields(RunSpec)
    run["properties"]["cache"] = {"$ref": "#/$defs/cache"}
    share: Schema = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%?\s*$"}
    count: Schema = {"type": "integer", "minimum": 1}
    part: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    run["properties"]["fail_on_error"] = {
        "anyOf": [share, count, part],
        "description": run["properties"]["fail_on_error"]["description"],
    }
    return run


def _cache() -> Schema:
    mode: Schema = {**schema_of(CacheMode), "description": "Whose answers are kept for later runs"}
    age: Schema = {"anyOf": [TEXT, {"type": "number", "exclusiveMinimum": 0}], "description": "Such as 12h or 7d"}
    return {
        "anyOf": [mode, {"type": "object", "properties": {"mode": mode, "ttl": age}, "additionalProperties": False}]
    }


def _dataset() -> Schema:
    fields = _fields(DatasetSpec)["properties"]
    fields["columns"] = {
        "type": "object",
        "properties": dict.fromkeys(COLUMN_KEYS, COLUMN),
        "additionalProperties": False,
        "description": "Which source column is what",
    }
    for name in known_names("datasets"):  # options of the readers, whichever the file's name picks
        factory = resolve("datasets", name, folder=Path())
        for option, said in schema_of_options(factory_options(factory), option_docs(factory)).items():
            fields.setdefault(option, said)
    mapping = {"type": "object", "properties": fields, "additionalProperties": True}
    return {"anyOf": [{**TEXT, "description": "File, glob, or - for standard input"}, mapping]}


def _prompt() -> Schema:
    role = {"anyOf": [TEXT, FILE]}
    item = {
        "type": "object",
        "properties": dict.fromkeys(ROLES, role),
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return {
        "anyOf": [
            {**TEXT, "description": "One user message; a Jinja2 template"},
            {"type": "array", "minItems": 1, "items": item},
            FILE,
        ]
    }


def _model() -> Schema:
    said = {
        "model": "Model string; with base_url sent as it is",
        "name": "Name in tables and gates",
        "base_url": "Address of an OpenAI-compatible endpoint",
        "api_key": "Key, such as ${LITELLM_API_KEY}",
    }
    properties: Schema = {name: {**TEXT, "description": text} for name, text in said.items()}
    properties["headers"] = {"type": "object", "additionalProperties": TEXT}
    properties["params"] = {"type": "object", "description": "Sampling parameters; null takes one of the suite's out"}
    properties.update(_fields(PaceSpec)["properties"])
    properties["prices"] = {"$ref": "#/$defs/price"}
    return {"type": "object", "properties": properties, "required": ["model"], "additionalProperties": False}


def _target() -> Schema:
    model = _model()
    model["properties"]["prompt"] = {"$ref": "#/$defs/prompt"}
    return {"anyOf": [{**TEXT, "description": "A model string"}, model, *_typed("targets", ("name", "args"))]}


def _scorer() -> Schema:
    keys = ("name", "version", "judge", "on_no_answer", "args")
    names = [name for name, factory in _factories("scorers") if not _required(factory)]
    return {"anyOf": [{"enum": names}, {"type": "string", "pattern": ":"}, *_typed("scorers", keys)]}


def _factories(group: Group) -> list[tuple[str, Any]]:
    return [(name, resolve(group, name, folder=Path())) for name in sorted(known_names(group))]


def _required(factory: Any) -> list[str]:
    options = factory_options(factory).values()
    return [option.name for option in options if option.default is inspect.Parameter.empty]


def _typed(group: Group, keys: tuple[str, ...]) -> list[Schema]:
    """A mapping with `type` for each part, and one for references to people's own."""
    own: Schema = {
        "name": {**TEXT, "description": "Name in tables and gates"},
        "version": TEXT,
        "judge": {"$ref": "#/$defs/judge"},
        "on_no_answer": {"enum": list(get_args(NoAnswer))},
        "args": {"type": "object", "description": "What a function of yours is passed besides"},
    }
    found: list[Schema] = []
    for name, factory in _factories(group):
        options = schema_of_options(factory_options(factory), option_docs(factory))
        if group == "targets" and name == SERVICE:
            options.update({key: said for key, said in _fields(PaceSpec)["properties"].items() if key != "stream"})
        found.append(
            {
                "type": "object",
                "description": first_line(factory),
                "properties": {"type": {"const": name}, **{key: own[key] for key in keys}, **options},
                "required": ["type", *_required(factory)],
                "additionalProperties": False,
            }
        )
    reference = {"type": "string", "pattern": ":", "description": "package.module:name or path/file.py:name"}
    found.append({"type": "object", "properties": {"type": reference}, "required": ["type"]})
    return found
