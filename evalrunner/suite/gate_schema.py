"""The JSON Schema of gates and of what holds for all of them."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from evalrunner.suite.gate_parts import RULE_KEYS
from evalrunner.suite.schema import GateRules
from evalrunner.suite.values import schema_of

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
