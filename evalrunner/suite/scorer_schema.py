"""The JSON Schema of scorers and checks: a name, `{TYPE: VALUE}` and `{type: TYPE, …}`, each with the options of its factory.

The options of a factory stand once in the definitions; every form refers to them. An option is a value of its type or a
template over the columns of a row.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from evalrunner.plugin_table import OPTION_OF_NAME
from evalrunner.plugins import factory_options, known_names, main_option_of, resolve
from evalrunner.suite.presets import PRESETS
from evalrunner.suite.validate import schema_of_options

Schema = dict[str, Any]
OPTION: Final = re.compile(r"^    (?P<name>\w+)(?: \([^)]*\))?: (?P<text>.*)$")  # in the docstring of a factory
TEMPLATE: Final[Schema] = {"type": "string", "pattern": r"\{\{|\{%"}
REFERENCE: Final[Schema] = {"type": "string", "pattern": ":", "description": "package.module:name or path/file.py:name"}
NEGATION: Final = "not_"
CHECK: Final[Schema] = {"$ref": "#/$defs/check"}
CHECKS: Final[Schema] = {"type": "array", "items": CHECK}
NAME: Final[Schema] = {
    "type": "string",
    "pattern": r"^[^/\[\]<>=\s]{1,100}$",
    "description": "Metric of its own over the rows that have it",
}
WEIGHT: Final[Schema] = {"type": "number", "minimum": 0, "default": 1, "description": "Weight in the share of the row"}
WHERE: Final[Schema] = {
    "type": "object",
    "description": "In the suite's checks: only rows whose column meets the condition, as in dataset.where",
}
SHARE: Final[Schema] = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "description": "Weighted share at which it passes; default: all",
}
EXTRACT: Final[Schema] = {
    "$ref": "#/$defs/extract",
    "description": "Part of the output to score: a step or a list of steps",
}
STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "json": (), "fence": ("find",), "regex": ("group", "find", "ignore_case", "multiline", "dotall"),
    "after": ("find", "ignore_case"), "before": ("find", "ignore_case"), "last_line": (), "lower": (), "trim": (),
    "number": ("find",), "choice": (),
}  # fmt: skip
"""The steps of an extraction and their options, as `scorers/extraction.py` has them."""
STEPS_WITH_VALUE: Final = ("regex", "after", "before")
CHECK_KEYS: Final[Mapping[str, Schema]] = {
    "name": NAME,
    "weight": WEIGHT,
    "threshold": {"type": "number", "description": "Score from which it passes, or up to which if lower is better"},
    "extract": EXTRACT,
    "judge": {"$ref": "#/$defs/judge"},
    "model": {"$ref": "#/$defs/judge"},
    "on_no_answer": {"enum": ["unscored", "zero"], "description": "How a missing answer counts"},
    "args": {"type": "object", "description": "Arguments of a user-defined function"},
    "where": WHERE,
    "turn": {"type": "integer", "minimum": 1, "description": "Turn of a conversation; default: the last"},
}


def extract_definition() -> Schema:
    """The steps of an extraction: a name, `{STEP: VALUE, …options}`, or a list of them."""
    names = [name for name in STEPS if name not in STEPS_WITH_VALUE]
    steps: list[Schema] = [{"enum": names}]
    for name, options in STEPS.items():
        properties: Schema = {name: {}, **{key: {"type": ["string", "integer", "boolean"]} for key in options}}
        steps.append({"type": "object", "properties": properties, "required": [name], "additionalProperties": False})
    return {
        "step": {"anyOf": steps},
        "extract": {
            "anyOf": [{"$ref": "#/$defs/step"}, {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}}]
        },
    }


def option_definitions() -> Schema:
    """The options of each scorer, as definitions that the forms refer to."""
    definitions: Schema = {"template": {**TEMPLATE, "description": "A template over the columns of the row"}}
    for name, factory in _factories():
        properties = schema_of_options(factory_options(factory), option_docs(factory))
        if properties:
            every = {option: _or_template(schema) for option, schema in properties.items()}
            definitions[_place(name)] = {"type": "object", "properties": every, "additionalProperties": False}
    return definitions


def scorer_definitions(keys: Mapping[str, Schema]) -> Schema:
    """One of the suite's scorers; `keys` are those beside the type and its options."""
    shared: Schema = {"type": "object", "properties": dict(keys)}
    forms = _forms({name: {"$ref": f"#/$defs/scorer_keys/properties/{name}"} for name in keys})
    return {"scorer_keys": shared, "scorer": {"anyOf": [_names(), REFERENCE, preset_form(), *forms]}}


def preset_form() -> Schema:
    """`{preset: NAME}`, which stands for several scorers."""
    return {
        "type": "object",
        "description": "The scorers of a task",
        "properties": {
            "preset": {"enum": list(PRESETS), "description": "Task whose scorers are added"},
            "without": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Scorers of the preset to leave out",
            },
        },
        "required": ["preset"],
        "additionalProperties": False,
    }


def check_definitions() -> Schema:
    """`check` is one check or a group of them, `checks` those of a row or of the suite."""
    group = {"name": NAME, "weight": WEIGHT, "where": WHERE}
    groups = [
        {
            "type": "object",
            "description": text,
            "properties": {rule: {**CHECKS, "minItems": 1}, **more, **group},
            "required": [rule],
            "additionalProperties": False,
        }
        for rule, text, more in (
            ("all", "Checks that all have to pass", {"threshold": SHARE}),
            ("any", "One of the checks has to pass", {}),
        )
    ]
    keys = {name: {"$ref": f"#/$defs/check_keys/properties/{name}"} for name in CHECK_KEYS}
    return {
        "check_keys": {"type": "object", "properties": dict(CHECK_KEYS)},
        "check": {"anyOf": [_names(negated=True), REFERENCE, *groups, *_forms(keys, negated=True)]},
        "checks": {"description": "Checks of a row", "anyOf": [{"type": "null"}, CHECKS, CHECK]},
    }


def _names(*, negated: bool = False) -> Schema:
    """The names that need no option."""
    names = [name for name, factory in _factories() if not _required(factory)]
    return {"enum": [*names, *([f"{NEGATION}{name}" for name in names] if negated else [])]}


def _forms(keys: Mapping[str, Schema], *, negated: bool = False) -> Iterator[Schema]:
    """A mapping for each scorer, in its short and its long form, and one for references."""
    for name, factory in _factories():
        kinds = [name, f"{NEGATION}{name}"] if negated else [name]
        options = {
            option: {"$ref": f"#/$defs/{_place(name)}/properties/{option}"} for option in factory_options(factory)
        }
        required, value = _required(factory), _value(name, factory)
        forms = [
            {"required": ["type", *(option for option in required if option not in (*keys, OPTION_OF_NAME.get(name)))]},
            *({"required": [kind]} for kind in kinds),
        ]
        yield {
            "type": "object",
            "description": first_line(factory),
            "properties": {"type": {"enum": kinds}, **dict.fromkeys(kinds, value), **keys, **options},
            "oneOf": forms,
            "additionalProperties": False,
        }
    yield {"type": "object", "properties": {"type": REFERENCE}, "required": ["type"]}


def _value(name: str, factory: Any) -> Schema:
    """The value of the short form: that of the main option, or a mapping of options."""
    forms: list[Schema] = [{"type": "null"}]
    if factory_options(factory):
        forms.append({"$ref": f"#/$defs/{_place(name)}"})
    if main := main_option_of(factory):
        forms.append({"$ref": f"#/$defs/{_place(name)}/properties/{main}"})
    return {"anyOf": forms, "description": first_line(factory)}


def _or_template(schema: Schema) -> Schema:
    """The schema of an option, which may be a template as well; text is one anyway."""
    kinds = schema.get("type")
    if (
        kinds == "string"
        or (isinstance(kinds, list) and "string" in kinds)
        or not set(schema) - {"description", "default"}
    ):
        return schema
    about: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: inner for key, inner in schema.items() if key not in about}
    return {"anyOf": [rest, {"$ref": "#/$defs/template"}], **about}


def _place(name: str) -> str:
    return f"options of {name}".replace(" ", "_")


@cache
def _factories() -> list[tuple[str, Any]]:
    return [(name, resolve("scorers", name, folder=Path())) for name in sorted(known_names("scorers"))]


def _required(factory: Any) -> list[str]:
    return [option.name for option in factory_options(factory).values() if option.default is inspect.Parameter.empty]


def first_line(factory: Callable[..., Any]) -> str:
    """The first line of the docstring, or nothing."""
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def option_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """What the `Args:` section of the docstring says of each option, on one line."""
    _, args, rest = (inspect.getdoc(factory) or "").partition("Args:\n")
    docs: dict[str, str] = {}
    name = ""
    for line in rest.splitlines() if args else ():
        if line and not line.startswith("    "):
            break
        option = OPTION.match(line)
        if option is not None:
            name = option["name"]
            docs[name] = option["text"].strip()
        elif name and line.strip():
            docs[name] += " " + line.strip()
    return docs
