"""The scorer `choice`: hand-labeled answers to multiple-choice questions, forms of choices, and data that cannot be right."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from evalrunner.domain import Cell, Completion, Sample
from evalrunner.scorers.call import BoundScorer, call_sync, cell_without_call, offer
from evalrunner.scorers.choice import choice, read_choices
from evalrunner.scorers.choice_reading import read_choice
from tests.scorers.scorer_calls import HOSTILE

CITIES = ["Paris", "London", "Rome", "New York"]
TEXTS = dict(zip("ABCD", CITIES, strict=True))


def cell(output: str, *expected: str, row: Any = None, on_no_answer: Any = "unscored", **options: Any) -> Cell:
    scorer = choice(**options)
    sample = Sample("1", "Which?", expected, {"choices": CITIES} if row is None else row)
    assert scorer.function.check(sample) is None
    completion = Completion(output)
    bound = BoundScorer.bind("c", scorer, on_no_answer=on_no_answer)
    return cell_without_call(bound, sample, completion) or call_sync(bound, offer(sample, completion))


def problem(*expected: str, row: Any = None, **options: Any) -> str:
    return str(
        choice(**options).function.check(Sample("1", "Which?", expected, {"choices": CITIES} if row is None else row))
    )


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("**B**", "B"), ("B) London", "B"), ("B: London", "B"), ("B. London", "B"),
        ("(B) London, because it is in England.", "B"), ("The answer is B", "B"), ("The answer is (B).", "B"), ("Answer: B", "B"),
        ("answer: b", "B"), ("**Answer:** B", "B"), ("Final answer: B, because it rains.", "B"), ("The correct answer is: B) London", "B"),
        ("The correct option is B", "B"), ("The correct choice is: (B) London", "B"), ("\\boxed{B}", "B"), ("$\\boxed{\\text{B}}$", "B"),
        ("So it is \\boxed{\\textbf{(B)}}.", "B"), ("I think it's B.", "B"), ("Option B", "B"), ("Option B is correct.", "B"), ("B is the correct answer", "B"),
        ("Therefore, B is right.", "B"), ("I would choose B because Rome is too far.", "B"), ("I'd go with B", "B"), ("So B", "B"), ("My pick: B", "B"),
        ("London", "B"), ("london!", "B"), ("It is London.", "B"), ("The answer is London, not Paris.", "B"), ("New York", "D"),
        ("The answer is New York", "D"), ("A) Paris B) London C) Rome. The answer is B", "B"), ("First I thought the answer is A. But no, the answer is B.", "B"),
        ("Not A. It must be London.", "B"), ("We can rule out option A. Hence option B.", "B"), ("Let me think.\n\nB", "B"), ("Reasoning about A) and C).\nAnswer: B", "B"),
        ("Die Antwort ist B.", "B"), ("答案：B", "B"), ("I'd go with A", "A"), ("A", "A"), ("The answer is A because it is in France.", "A"), ("Answer: A. Paris", "A"),
        # none or several
        ("", None), ("I do not know.", None), ("A or B", None), ("The answer is A or B", None), ("A and B are both right", None), ("Either (A) or (C).", None),
        ("The answer is a matter of taste", None), ("Vitamin C is an antioxidant that I take every day with my breakfast", None), ("A good question. I am not sure", None),
        ("Paris and London are both nice.", None), ("None of them.", None), ("It is not A and it is not B.", None), ("A) Paris B) London C) Rome D) New York", None),
    ],
)  # fmt: skip
def test_the_choice_that_an_answer_names(output: str, label: str | None) -> None:
    assert read_choice(output, "ABCD", TEXTS).label == label


@pytest.mark.parametrize("right", ["B", "b", "(B)", "1", "London", "london"])
def test_the_right_choice_is_a_letter_an_index_or_a_text(right: str) -> None:
    assert cell("The answer is (B).", right).value == 1
    assert cell("The answer is (C).", right).value == 0
    assert cell("London", value=right).value == 1


def test_the_detail_has_the_choice_and_where_it_was_read() -> None:
    detail = {"choice": "C", "explanation": "chose C (Rome) in 'answer is (C)'; right: B"}
    assert cell("The answer is (C).", "B") == Cell("scored", 0.0, detail=detail)


def test_no_choice_and_two_choices_are_no_answer() -> None:
    assert cell("I do not know.", "B") == Cell(
        "unscored", reason="choice: the answer names no choice", cause="no_answer"
    )
    assert cell("A or C", "B") == Cell("unscored", reason="choice: the answer names A and C", cause="no_answer")
    zero = Cell("scored", 0.0, reason="choice: the answer names A and C", cause="no_answer")
    assert cell("A or C", "B", on_no_answer="zero") == zero
    assert cell("B") == Cell("skipped", reason="no expected answer")


@pytest.mark.parametrize(
    "choices",
    [
        CITIES,
        json.dumps(CITIES),
        {"A": "Paris", "B": "London"},
        {"text": CITIES, "label": ["A", "B", "C", "D"]},
        json.dumps({"a": "Paris", "b": "London"}),
    ],
)
def test_choices_come_from_a_column_in_several_forms(choices: Any) -> None:
    assert cell("It is London.", "B", row={"choices": choices}).value == 1
    assert cell("It is London.", "B", row={"options": choices}, column="options").value == 1


def test_numbers_as_labels() -> None:
    row = {"choices": {"text": ["cold", "hot"], "label": ["1", "2"]}}
    assert cell("The answer is 2.", "2", row=row).value == 1
    assert cell("hot", "2", row=row).value == 1
    assert cell("1", "2", row=row).value == 0


def test_letters_alone_and_fixed_choices() -> None:
    assert cell("E", "E", row={}, letters="ABCDE").value == 1
    assert cell("It is true.", "true", row={}, choices=["true", "false"]).value == 1
    assert cell("B", "2", first_index=1).value == 1
    assert cell("B", "1", row={"choices": ["3", "1", "2"]}).value == 1  # a text goes before an index


@pytest.mark.parametrize(
    ("expected", "row", "options", "said"),
    [
        ("E", None, {}, "the right choice 'E' is none of the 4 choices; give its letter, its index or its text"),
        ("4", None, {}, "is none of the 4 choices"),
        ("0", None, {"first_index": 1}, "is none of the 4 choices"),
        ("E", {}, {}, "is none of the letters ABCD"),
        ("B", {}, {"column": "options"}, "the sample has no choices in the column 'options'"),
        ("B", {"choices": "Paris or London"}, {}, "the column 'choices' has no list of 2 to 26 choices"),
        ("B", {"choices": ["one"]}, {}, "has no list of 2 to 26 choices"),
    ],
)
def test_data_that_no_answer_can_fit_is_found_before_the_first_call(
    expected: str, row: Any, options: Any, said: str
) -> None:
    assert said in problem(expected, row=row, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choices": ["one"]}, "'choices' has 1 texts"),
        ({"choices": CITIES, "column": "x"}, "has both 'choices' and 'column'"),
        ({"letters": "AA"}, "'letters' is 'AA'"),
        ({"first_index": 2}, "'first_index' is 2"),
        ({"value": " "}, "blank"),
    ],
)
def test_wrong_options_are_errors(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choice(**options)


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_are_read(output: str) -> None:
    assert cell(output, "B").state in ("scored", "unscored")


def test_any_text_is_read_without_an_exception() -> None:
    draw = random.Random(3)
    pieces = [
        "A",
        "B",
        "(",
        ")",
        ".",
        ":",
        " ",
        "answer",
        "is",
        "not",
        "option",
        "London",
        "Paris",
        "\n",
        "or",
        "and",
        "**",
        "\\boxed{",
        "}",
        "é",
        "\ud800",
        "I",
        "correct",
        ",",
    ]
    for _ in range(3_000):
        text = "".join(draw.choices(pieces, k=draw.randrange(20)))
        reading = read_choice(text, "ABCD", TEXTS)
        assert reading.label in (None, *TEXTS) and reading.reason


@pytest.mark.parametrize("value", [None, 3, "x", [], {"A": "x"}, {"AB": "x", "C": "y"}, ["x"] * 27, "[" * 100_000])
def test_what_is_no_list_of_choices(value: Any) -> None:
    assert read_choices(value) is None
