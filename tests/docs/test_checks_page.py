"""The recipes of the page "Checks": each passes a good answer and fails a bad one, run as a suite with recorded answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.docs.examples import read_examples
from tests.fakes.command import ROOT, evalrun

PAGE = ROOT / "docs" / "how-to" / "checks.md"
ANSWERS = {
    "A text, whatever its case": ("Your REFUND is on its way.", "Your money is on its way."),
    "One of several texts": ("Within a month.", "Within two weeks."),
    "All of several texts": ("A refund takes 30 days.", "A refund takes a while."),
    "A text that must not occur": ("Yes, you can.", "As an AI, I cannot say."),
    "The start and the end": ("Dear Ann, yes. Kind regards", "Dear Ann, yes. Bye"),
    "A pattern": ("Your number is AB-1234.", "Your number is AB-12345."),
    "The exact answer": ("Negative", "Negative, I think"),
    "A number with a tolerance": ("It is 41.6 in total.", "It is 41.4 in total."),
    "A length": ("Yes, that is fine.", "Yes."),
    "Close to a text": ("You can return it within 31 days.", "No."),
    "An expression": ("Within 30 days.", "Within 31 days."),
    "Valid JSON": ('{"refund": false}', "refund: false"),
    "JSON with a schema": ('{"refund": false}', '{"refund": "no"}'),
    "A value in JSON": ('{"refund": false}', '{"refund": true}'),
    "JSON inside a code fence": (
        'Here:\n```json\n{"refund": false}\n```\nBye.',
        'Here:\n```json\n{"refund": true}\n```\nBye.',
    ),
    "The last line only": ("3 + 4\n7", "7 apples\nthat is all"),
    "The letter of a multiple choice": ("The answer is B.", "The answer is C."),
    "A refusal, or none": ("I'm sorry, but I can't help with that.", "The capital of France is Paris."),
    "One of several checks": ("A refund.", "No."),
    "Some of the points, with weights": ("A refund, sorry, in 30 days.", "In 30 days."),
    "Only some rows": ("A refund.", "No."),
}
"""A good and a bad answer for each recipe that needs neither a judge nor a call."""
WITH_CALLS = {"A rubric for a judge", "A tool call", "Fast and cheap answers"}


def recipes() -> dict[str, str]:
    """The YAML of each recipe by its title."""
    lines = PAGE.read_text().splitlines()
    found = {}
    for example in read_examples(PAGE):
        heading = next((line for line in reversed(lines[: example.line]) if line.startswith("#")), "")
        if (title := re.fullmatch(r"### (.+)", heading)) is not None:
            found[title[1]] = example.text
    return found


def test_the_page_has_at_least_twenty_recipes_and_each_has_a_test() -> None:
    assert len(recipes()) >= 20
    assert set(recipes()) == {*ANSWERS, *WITH_CALLS}


@pytest.mark.parametrize("title", ANSWERS)
def test_a_recipe_passes_the_good_answer_and_fails_the_bad_one(title: str) -> None:
    good, bad = ANSWERS[title]
    rows = [
        {"id": name, "input": "?", "topic": "returns", "output": output}
        for name, output in (("good", good), ("bad", bad))
    ]
    suite = {
        "name": "recipe",
        "dataset": {"rows": rows},
        "target": {"type": "recorded", "column": "output"},
    } | yaml.safe_load(recipes()[title])
    Path("recipe.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    done = evalrun("recipe.yaml", "-o", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    records = map(json.loads, Path("rows.jsonl").read_text().splitlines())
    values = {record["id"]: record["cells"]["checks"]["value"] for record in records}
    assert values == {"good": 1, "bad": 0}
