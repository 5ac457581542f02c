"""The last number of an output against the last number of an accepted answer."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.scorers.text import last_number, numeric_match
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of


def test_numeric_match_declares_binary_scores() -> None:
    assert numeric_match().declaration == Declaration(binary=True, needs_expected=True, inline=True)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16 - 3 - 4 = <<16-3-4=9>>9 eggs, so $18.", "18"),
        ("A: 1,234.50", "1234.50"),
        ("it fell to -3", "-3"),
        ("it fell by 5-3", "3"),
        ("5 - 3", "3"),
        ("a loss of -$1,000.", "-1000"),
        ("- 3 apples", "3"),
        ("of 10 % now", "10"),
        ("−7 °C", "-7"),
        ("1e3 grams", "1e3"),
        ("#### 70000", "70000"),
        ("no number at all", None),
        ("", None),
    ],
)
def test_the_last_number_is_parsed_in_common_notations(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("options", "output", "expected", "value"),
    [
        ({}, "so it is 18.0", ["A: 18"], 1),
        ({}, "first 18, then 19", ["18"], 0),
        ({}, "nobody knows", ["18"], 0),
        ({}, "19", ["18", "19"], 1),
        ({"tolerance": 0.5}, "17.5", ["18"], 1),
        ({"tolerance": 0.5}, "17.4", ["18"], 0),
        ({"relative": 0.01}, "1009", ["1000"], 1),
        ({"relative": 0.01}, "1011", ["1000"], 0),
        ({"tolerance": 20, "relative": 0.01}, "1011", ["1000"], 1),
    ],
)
def test_numbers_are_compared_by_value(options, output, expected, value) -> None:
    assert score_of(numeric_match(**options), output, *expected) == value


def test_the_explanation_has_both_numbers() -> None:
    assert cell_of(numeric_match(), "17", "18", "20") == Cell("scored", 0.0, detail={"explanation": "17 for 18 or 20"})


def test_an_accepted_answer_without_a_number_is_skipped() -> None:
    assert cell_of(numeric_match(), "17", "many") == Cell("skipped", reason="the expected answer has no number")


@pytest.mark.parametrize("options", [{"tolerance": -1}, {"relative": -0.1}, {"tolerance": float("inf")}])
def test_invalid_options_are_refused(options) -> None:
    with pytest.raises(ValueError, match="should be 0 or more"):
        numeric_match(**options)


@pytest.mark.parametrize("output", [*HOSTILE, "1" * 1_000_000, "1,111" * 200_000, "9e999"])
def test_hostile_outputs_are_scored(output: str) -> None:
    assert cell_of(numeric_match(), output, "18").state in ("scored", "unscored")


def test_an_option_replaces_the_accepted_answers() -> None:
    assert numeric_match(value=18).declaration == Declaration(binary=True, inline=True)
    assert score_of(numeric_match(value=18), "so 18.0") == 1
    assert score_of(numeric_match(value=["$19", 20.5]), "20.5", "18") == 1
    assert score_of(numeric_match(value=18), "18 or 20", "20") == 0
    exact = 12345678901234567890123
    assert score_of(numeric_match(value=exact), f"{exact + 1}") == 0  # no floating point
    with pytest.raises(ValueError, match="a text without a number: 'many'"):
        numeric_match(value=[1, "many"])
    with pytest.raises(ValueError, match="at least one text"):
        numeric_match(value=[])


def test_verdicts_equal_those_published_with_gsm8k(shared_data: Path) -> None:
    """5,276 recorded solutions of four models with `is_correct`: all agree, so there is no list of exceptions."""
    lines = (shared_data / "gsm8k" / "example_model_solutions.jsonl").read_text("utf-8").splitlines()
    scorer, compared, different = numeric_match(), 0, []
    for number, line in enumerate(lines, start=1):
        row = json.loads(line)
        for model, solution in row.items():
            if isinstance(solution, dict):
                compared += 1
                if score_of(scorer, solution["solution"] or " x", row["ground_truth"]) != solution["is_correct"]:
                    different.append((number, model))
    assert (compared, different) == (5276, [])
