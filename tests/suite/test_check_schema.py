"""The JSON Schema of checks: an editor accepts every form of every scorer, marks what is wrong, and shows what options mean."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from evalrunner.plugin_table import CATALOGUE
from evalrunner.plugins import factory_options, known_names, main_option_of, resolve
from evalrunner.scorers import extraction
from evalrunner.suite.json_schema import suite_schema
from evalrunner.suite.scorer_schema import STEPS, STEPS_WITH_VALUE
from tests.fakes.command import ROOT

MAX_BYTES = 400_000  # of the printed schema: an editor reads it at once

BUILT_IN = sorted(known_names("scorers"))


@cache
def schema() -> dict[str, Any]:
    return suite_schema()


def accepts(definition: str, text: str) -> bool:
    rule = {**schema()["$defs"][definition], "$defs": schema()["$defs"]}
    return bool(Draft202012Validator(rule).is_valid(yaml.safe_load(text)))


GOOD = (
    "[]", "null", "exact_match", "[exact_match]", "[not_contains]",
    "[{contains: 30 days}]", "[{not_contains: As an AI, name: no_ai, weight: 2}]", "[{contains: x, ignore_case: true}]",
    "[{contains: {value: x, ignore_case: true}, name: a}]", "[{type: not_contains, value: x}]",
    "[{numeric_match: 42, tolerance: '{{ allowed }}'}]", "[{contains: '{{ period }} days', threshold: 1}]",
    "[{exact_match: '7', extract: last_line}]", "[{json: {path: $.a}, extract: [{fence: json}, trim]}]",
    "[{exact_match: a, extract: {regex: 'A: (.+)', group: 1, ignore_case: true}}]",
    "{all: [{contains: a}, {any: [{contains: b}, exact_match]}], threshold: 0.5}",
    "[{contains: a, where: {topic: [returns, refunds]}}]", "[{type: 'checks.py:polite', strict: true}]", "[{exact_match: a, judge: openai/gpt-5}]",
)  # fmt: skip
WRONG = (
    "[{contians: x}]", "[nope]", "[30 days]", "3", "[{contains: x, ignorecase: true}]", "[{contains: x, weight: heavy}]",
    "[{contains: x, weight: -1}]", "[{contains: x, name: two words}]", "[{contains: x, ignore_case: 3}]", "[{contains: {valeu: x}}]",
    "[{all: []}]", "[{all: [{contains: x}], threshold: 2}]", "[{contains: x, exact_match: y}]", "[{regex: x, match_timeout: soon}]",
    "[{exact_match: a, extract: last}]", "[{exact_match: a, extract: {regexp: a}}]", "[{exact_match: a, extract: []}]",
    "[{type: regex}]", "[{weight: 2}]", "[{contains: x, on_no_answer: maybe}]",
)  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_right_check_is_accepted(text: str) -> None:
    assert accepts("checks", text)


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_check_is_marked(text: str) -> None:
    assert not accepts("checks", text)


@pytest.mark.parametrize(
    "example", [scorers[name] for scorers in CATALOGUE.values() for name in scorers if name in BUILT_IN]
)
def test_the_examples_of_the_list_are_accepted_as_scorers_and_as_checks(example: str) -> None:
    assert accepts("scorer", example)
    assert accepts("checks", f"[{example}]")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_scorer_has_its_options_with_what_they_mean_in_both_forms(name: str) -> None:
    definitions = schema()["$defs"]
    kinds = {"enum": [name, f"not_{name}"]}
    form = next(each for each in definitions["check"]["anyOf"] if each.get("properties", {}).get("type") == kinds)
    factory = resolve("scorers", name, folder=ROOT)
    for option in factory_options(factory):
        assert option in form["properties"]
        assert definitions[f"options_of_{name}"]["properties"][option]["description"]
    if main := main_option_of(factory):
        assert {"$ref": f"#/$defs/options_of_{name}/properties/{main}"} in form["properties"][f"not_{name}"]["anyOf"]


def test_the_steps_of_an_extraction_are_those_that_the_code_knows() -> None:
    assert {name: options for name, (_, options, _) in extraction.STEPS.items()} == STEPS
    assert {name for name, (_, _, example) in extraction.STEPS.items() if example} == set(STEPS_WITH_VALUE)


def test_the_schema_is_valid_and_small_enough_for_an_editor() -> None:
    Draft202012Validator.check_schema(schema())
    assert len(json.dumps(schema(), indent=2)) < MAX_BYTES


def test_rows_of_the_suite_have_checks() -> None:
    suite = """\
name: s
dataset:
  rows: [{input: a, period: 30, checks: [{contains: '{{ period }} days'}, {not_contains: As an AI}]}]
target: openai/gpt-5
scorers: [exact_match]
"""
    validator = Draft202012Validator(schema())
    assert validator.is_valid(yaml.safe_load(suite))
    assert not validator.is_valid(yaml.safe_load(suite.replace("not_contains", "not_contians")))
