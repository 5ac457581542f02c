"""The JSON Schema of a suite, made from the same fields and signatures that the check uses."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from evalrunner.domain import NoAnswer
from evalrunner.plugins import Group, factory_options, known_names, resolve
from evalrunner.suite.gates import RULE_KEYS
from evalrunner.suite.loader import NAME
from evalrunner.suite.models import SERVICE
from evalrunner.suite.schema import (
    CacheMode,
    DatasetSpec,
    GateRules,
    JudgeCheck,
    MlflowSpec,
    PaceSpec,
    PriceSpec,
    RunSpec,
)
from evalrunner.suite.sections import COLUMN_KEYS, ROLES
from evalrunner.suite.validate import schema_of, schema_of_options

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


Schema = dict[str, Any]
NUMBER: Schema = {"type": "number"}
CONFIDENCE: Schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0.5, "exclusiveMaximum": 1}, {"type": "null"}]}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
COUNT: Schema = {"type": "integer", "minimum": 1}
METRIC: Schema = {
    "type": "string",
    "description": "A scorer, or a metric such as toxicity/p90, with [topic=law] of a slice",
}


def rule_schemas() -> dict[str, Schema]:
    """What holds for every gate that does not say it itself: each key with its schema."""
    hints = typing.get_type_hints(GateRules)
    found: dict[str, Schema] = {}
    for item in dataclasses.fields(GateRules):
        said = {"confidence": CONFIDENCE, "min_coverage": SHARE}.get(item.name, schema_of(hints[item.name]))
        found[item.name] = {**said, "description": item.metadata["doc"]}
    return found


def top_rules() -> dict[str, Schema]:
    """Those of them that stand at the top of a suite."""
    return {name: said for name, said in rule_schemas().items() if name in RULE_KEYS}


def defaults_schema() -> Schema:
    """`gate_defaults`."""
    return {
        "type": "object",
        "properties": rule_schemas(),
        "additionalProperties": False,
        "description": "What holds for every gate that does not say it itself",
    }


def gate_schema() -> Schema:
    """One gate, in any of its forms."""
    shared = {**rule_schemas(), "target": {"type": "string", "description": "Only for this target"}}
    bounded = ("confidence", "min_coverage", "inconclusive", "target")
    sliced: Schema = {"type": "object", "minProperties": 1, "maxProperties": 1, "description": "A column and its value"}
    plain = {name: shared[name] for name in bounded}
    limits: Schema = {
        "min": {**NUMBER, "description": "The least that it may be"},
        "max": {**NUMBER, "description": "The most that it may be"},
    }
    drop: Schema = {"type": "number", "minimum": 0, "description": "How much worse than the baseline it may be"}
    gain: Schema = {"const": True, "description": "It has to be better than the baseline"}
    return {
        "anyOf": [
            {"type": "string", "description": "metric operator number, such as exact_match >= 0.8"},
            _form({"metric": METRIC, "slice": sliced, **limits, **plain}, ["metric"], [["min"], ["max"]]),
            _form(
                {"metric": METRIC, "slice": sliced, "max_drop": drop, "improved": gain, **shared},
                ["metric"],
                [["max_drop"], ["improved"]],
                alone=True,
            ),
            _form({"per_sample": _per_sample(limits), **plain}, ["per_sample"], []),
        ]
    }


def _form(properties: Schema, required: list[str], choices: list[list[str]], *, alone: bool = False) -> Schema:
    form: Schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if choices:
        form["oneOf" if alone else "anyOf"] = [{"required": choice} for choice in choices]
    return form


def _per_sample(limits: Schema) -> Schema:
    passes: Schema = {**COUNT, "description": "In how many of its epochs"}
    share: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "Of the samples"}
    of: Schema = {**COUNT, "description": "The epochs of the run"}
    properties = {"metric": METRIC, **limits, "passes": passes, "of": of, "share": share}
    return _form(properties, ["metric", "passes"], [["min"], ["max"]], alone=True)


OPTION = re.compile(r"^    (?P<name>\w+)(?: \([^)]*\))?: (?P<text>.*)$")


def first_line(factory: Callable[..., Any]) -> str:
    """The first line of the docstring, or nothing."""
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def option_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """What the `Args:` section of the docstring says of each option, on one line."""
    _, args, rest = (inspect.getdoc(factory) or "").partition("Args:\n")
    found: dict[str, str] = {}
    name = ""
    for line in rest.splitlines() if args else ():
        if line and not line.startswith("    "):
            break
        option = OPTION.match(line)
        if option is not None:
            name = option["name"]
            found[name] = option["text"].strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found
