"""Sections of a suite are checked, and described in the JSON Schema, by the keys of their dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalrunner.plugins import RESERVED_OPTIONS
from evalrunner.suite.json_schema import section_schema
from evalrunner.suite.key import key
from evalrunner.suite.schema import ScorerSpec
from evalrunner.suite.validate import SectionReader, keys_of
from evalrunner.suite.yaml import parse_document


@dataclass(frozen=True)
class Pace:
    rpm: float | None = key("Requests per minute", above=0)


@dataclass(frozen=True)
class Section:
    name: str = key("Name", pattern="[a-z]+", pattern_hint="lower-case letters")
    share: float = key("Share", default=0.5, minimum=0, maximum=1)
    labels: tuple[str, ...] = key("Labels", default=(), unique=True)
    ttl_s: float | None = key("Time to live", alias="ttl", above=0)
    file: str | None = key("File", path=True)
    size: int = key("Size", default=1, needed=", such as size: 3")
    pace: Pace = key("", default=Pace(), flat=True)
    resolved: str = ""


def read(text: str) -> tuple[dict[str, Any] | None, list[str]]:
    document = parse_document(text, file="s.yaml")
    fields = SectionReader(document, Path(), {"DATA": "d.csv"}).section(Section, document.data, ())
    return fields, [str(problem) for problem in document.problems]


def test_keys_are_read_by_name_and_alias_with_variables_filled_in() -> None:
    assert read("{name: a, share: 1, labels: [x, y], ttl: 3, rpm: 9, file: '${DATA}', size: 2}") == (
        {"name": "a", "share": 1.0, "labels": ("x", "y"), "ttl_s": 3.0, "file": "d.csv", "size": 2, "pace": Pace(9.0)},
        [],
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{size: 1, nam: a}", "s.yaml:1:11: nam: unknown key; did you mean 'name'?"),
        ("{size: 1, resolved: a}", "s.yaml:1:11: resolved: unknown key; valid keys: "),
        ("{name: a}", "s.yaml:1:1: needs 'size', such as size: 3"),
        ("{size: 1, name: A}", "s.yaml:1:17: name: 'A' should be lower-case letters"),
        ("{size: 1, share: 2}", "s.yaml:1:18: share: is 2; it should be at least 0 and at most 1; write a percentage"),
        ("{size: 1, ttl: 0}", "s.yaml:1:16: ttl: is 0; it should be above 0"),
        ("{size: 1, rpm: 0}", "s.yaml:1:16: rpm: is 0; it should be above 0"),
        ("{size: 1, labels: [x, x]}", "s.yaml:1:23: labels[1]: duplicate 'x'; remove one"),
        ("{size: big}", "s.yaml:1:8: size: is 'big'; it should be a whole number"),
        ("[size]", "s.yaml:1:1: is a list; it should be a mapping"),
    ],
)
def test_problems_of_a_section_are_reported(text: str, problem: str) -> None:
    (message,) = read(text)[1]
    assert message.startswith(problem)


def test_section_schema_follows_from_the_keys() -> None:
    schema = section_schema(Section)
    properties = schema["properties"]
    assert (schema["required"], schema["additionalProperties"]) == (["size"], False)
    assert properties["name"] == {"type": "string", "pattern": "^[a-z]+$", "description": "Name"}
    assert properties["share"] == {
        "type": "number", "minimum": 0, "maximum": 1, "default": 0.5, "description": "Share",
    }  # fmt: skip
    assert properties["labels"]["uniqueItems"] is True
    assert properties["ttl"]["exclusiveMinimum"] == 0 and "ttl_s" not in properties
    assert properties["rpm"]["exclusiveMinimum"] == 0 and "pace" not in properties and "resolved" not in properties


def test_factories_may_not_have_options_named_like_keys_of_a_scorer() -> None:
    assert set(keys_of(ScorerSpec)) == RESERVED_OPTIONS
