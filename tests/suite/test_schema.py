"""The JSON Schema agrees with the check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from evalrunner.suite.json_schema import suite_schema

SUITES = Path(__file__).parents[2] / "suites"
SMALL: dict[str, Any] = {"dataset": "d.csv", "target": "m", "scorers": ["exact_match"]}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = suite_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.name)
def test_example_suites_match_the_schema(path: Path, validator: Any) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "dataset" in data:
        assert list(validator.iter_errors(data)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"scorers": ["exact_mach"]},
        {"scorers": [{"type": "exact_match", "ignore_cas": True}]},
        {"scorers": [{"type": "exact_match", "ignore_case": "yes"}]},
        {"scorers": ["toxicity"]},
        {"scorers": [{"type": "toxicity", "backend": "magic"}]},
        {"run": {"concurrency": 0}},
        {"run": {"timeoutt": 3}},
        {"judge_check": "maybe"},
        {"targets": ["x"]},
        {"colour": "red"},
        {"prompt": [{"role": "usr", "content": "x"}]},
        {"prompt": [{"role": "user"}]},
        {"prompts": ["x"]},
        {"prompt": [{"shots": {"path": "t.csv", "limit": 3}}, {"user": "x"}]},
        {"prompt": [{"shots": {"path": "t.csv", "never": "same"}}, {"user": "x"}]},
        {"prompts": {"a/b": "x"}},
    ],
)
def test_schema_rejects_what_the_check_rejects(change: dict[str, Any], validator: Any) -> None:
    assert list(validator.iter_errors({**SMALL, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"scorers": [{"type": "exact_match", "normalize": "squad", "name": "em", "on_no_answer": "zero"}]},
        {"scorers": [{"type": "my/scorers.py:polite", "strict": True}, "package.module:scorer"]},
        {"scorers": [{"type": "toxicity", "backend": "lexical"}]},
        {"prompt": [{"system": "x"}, {"user": {"file": "p.txt"}}]},
        {"prompt": [{"role": "system", "content": "x"}, {"role": "user", "content": {"file": "p.txt"}}, {"user": "y"}]},
        {"prompt": {"messages": [{"role": "user", "content": "x"}]}},
        {
            "prompt": [
                {"shots": {"path": "t.csv", "n": 3, "seed": 1, "never": "same id", "delimiter": ";"}},
                {"user": "x"},
            ]
        },
        {"prompt": [{"shots": "t.csv"}, {"user": "x"}]},
        {"prompts": {"short": "x", "long-2": [{"user": "y"}], "f": {"file": "p.json"}}},
        {"gates": ["exact_match >= 0.5", {"metric": "latency/p90", "max": 2}]},
        {"dataset": {"path": "d.csv", "delimiter": ";", "columns": {"expected": {"column": "a", "split": "|"}}}},
    ],
)
def test_schema_accepts_what_the_check_accepts(change: dict[str, Any], validator: Any) -> None:
    assert list(validator.iter_errors({**SMALL, **change})) == []


def test_schema_describes_scorer_options() -> None:
    definitions = suite_schema()["$defs"]
    scorers = definitions["scorer"]["anyOf"]
    exact = next(item for item in scorers if item.get("properties", {}).get("type", {}).get("enum") == ["exact_match"])
    assert exact["properties"]["ignore_case"] == {"$ref": "#/$defs/options_of_exact_match/properties/ignore_case"}
    option = definitions["options_of_exact_match"]["properties"]["ignore_case"]
    assert option["anyOf"][0] == {"type": "boolean"}
    assert option["description"]
