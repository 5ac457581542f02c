"""Fields by templates, constants and defaults, and choices with their letters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.suite.columns import ColumnSpec
from tests.datasets.reading import columns, problems, samples, write


def rows(*items: dict[str, Any]) -> str:
    return write("qa.jsonl", "".join(json.dumps(item) + "\n" for item in items))


QUESTION = {"input": "q", "choices": ["red", "blue", "green"], "answer": 1}


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{{ choices[answer] }}", {}, ("blue",)),
        ("{{ choices }}", {}, ("red", "blue", "green")),
        ("{{ text | fromjson }}", {"text": '["a", 1.10]'}, ("a", "1.10")),
        ("{{ text | split('|') }}", {"text": " a | b "}, ("a", "b")),
        ("{{ text | trim }}", {"text": "  a b "}, ("a b",)),
        ("{{ text }} and {{ answer }}", {"text": "x"}, ("x and 1",)),
        ("{{ choices | map('upper') }}", {}, ("RED", "BLUE", "GREEN")),
        ("{{ more.deep[0] }}", {"more": {"deep": ["d"]}}, ("d",)),
        ("{{ answer + 1 }}", {}, ("2",)),
    ],
)
def test_a_template_has_the_value_of_its_expression(
    template: str, row: dict[str, Any], expected: tuple[str, ...]
) -> None:
    (sample,) = samples(rows({**QUESTION, **row}), columns=columns(expected=template))
    assert sample.expected == expected


def test_templates_read_cells_of_text_formats() -> None:
    write("qa.csv", 'q,options,answer\nWhich?,"[""red"", ""blue""]",1\n')
    (sample,) = samples(
        "qa.csv", columns=columns(input="{{ q }} ({{ answer }})", expected="{{ (options | fromjson)[answer | int] }}")
    )
    assert (sample.input, sample.expected) == ("Which? (1)", ("blue",))


def test_what_a_template_lacks_is_said_before_the_first_call_with_the_nearest_name() -> None:
    (problem,) = problems(rows(QUESTION), columns=columns(expected="{{ choises[answer] }}"))
    assert "dataset.columns.expected: " in problem and "did you mean 'choices'?" in problem


def test_a_name_that_is_missing_in_an_index_is_said_too() -> None:
    (problem,) = problems(rows(QUESTION), columns=columns(expected="{{ choices[anwser] }}"))
    assert "dataset.columns.expected: " in problem and "did you mean 'answer'?" in problem


def test_a_template_that_fails_in_a_row_is_a_problem_of_the_row() -> None:
    found = problems(rows(QUESTION, {**QUESTION, "answer": 7}), columns=columns(expected="{{ choices[answer] }}"))
    assert found and all(problem.startswith("qa.jsonl:2: ") for problem in found)


def test_data_is_never_a_template() -> None:
    (sample,) = samples(rows({"input": "{{ 6 * 7 }}", "expected": "{{ input }}"}), columns=columns(expected="expected"))
    assert (sample.input, sample.expected) == ("{{ 6 * 7 }}", ("{{ input }}",))


def test_a_constant_is_the_same_in_every_row() -> None:
    first, second = samples(rows({"input": "a"}, {"input": "b"}), columns=columns(expected=ColumnSpec(value="yes")))
    assert first.expected == second.expected == ("yes",)


def test_defaults_stand_for_empty_and_missing_cells() -> None:
    write("qa.csv", "input,answer\na,x\nb,\nc,  \n")
    found = samples("qa.csv", columns=columns(expected=ColumnSpec("answer", default="none")))
    assert [sample.expected for sample in found] == [("x",), ("none",), ("none",)]
    found = samples(rows({"input": "a", "answer": None}, {"input": "b", "answer": 0}, {"input": "c"}),
                    columns=columns(expected=ColumnSpec("answer", default="none")))  # fmt: skip
    assert [sample.expected for sample in found] == [("none",), ("0",), ("none",)]


def lettered(right: Any, **spec: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    row = {**QUESTION, "answer": right}
    (sample,) = samples(rows(row), columns=columns(expected="answer", choices=ColumnSpec("choices", **spec)))
    return sample.metadata["choices"], sample.expected


@pytest.mark.parametrize("right", [1, "1", "B", "b", "blue", " Blue "])
def test_the_right_choice_is_an_index_a_letter_or_a_text(right: Any) -> None:
    assert lettered(right) == ({"A": "red", "B": "blue", "C": "green"}, ("B",))


def test_indexes_may_begin_with_one() -> None:
    assert lettered(3, first_index=1)[1] == ("C",)


@pytest.mark.parametrize(("right", "words"), [(3, "none of the 3 choices"), ("yellow", "none of the 3 choices")])
def test_a_right_choice_that_is_none_of_them_is_a_problem_of_the_row(right: Any, words: str) -> None:
    (problem,) = problems(
        rows({**QUESTION, "answer": right}), columns=columns(expected="answer", choices=ColumnSpec("choices"))
    )
    assert problem.startswith("qa.jsonl:1: ") and words in problem


def test_choices_are_shuffled_by_seed_and_id_and_keep_the_right_one() -> None:
    items = [
        {"id": str(n), "input": "q", "choices": ["red", "blue", "green", "grey"], "answer": n % 4} for n in range(60)
    ]
    spec = columns(expected="answer", choices=ColumnSpec("choices", shuffle=3))
    first = {sample.id: sample for sample in samples(rows(*items), columns=spec)}
    again = {sample.id: sample for sample in samples(rows(*reversed(items)), columns=spec)}
    assert {id: sample.metadata["choices"] for id, sample in first.items()} == {
        id: sample.metadata["choices"] for id, sample in again.items()
    }
    orders = {tuple(sample.metadata["choices"].values()) for sample in first.values()}
    assert len(orders) > 10
    for item in items:
        sample = first[item["id"]]
        assert sample.metadata["choices"][sample.expected[0]] == item["choices"][item["answer"]]
    other = samples(rows(*items), columns=columns(expected="answer", choices=ColumnSpec("choices", shuffle=4)))
    assert any(sample.metadata["choices"] != first[sample.id].metadata["choices"] for sample in other)


def test_choices_come_from_several_columns_of_which_the_last_may_be_empty() -> None:
    write("qa.csv", "input,A,B,C,answer\n2+2?,3,4,5,B\nSky?,blue,red,,A\n")
    first, second = samples("qa.csv", columns=columns(expected="answer", choices=("A", "B", "C")))
    assert (first.metadata["choices"], first.expected) == ({"A": "3", "B": "4", "C": "5"}, ("B",))
    assert (second.metadata["choices"], second.expected) == ({"A": "blue", "B": "red"}, ("A",))


def test_choices_with_labels_of_their_own_keep_the_right_one() -> None:
    row = {"input": "q", "choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "2"}
    (sample,) = samples(rows(row), columns=columns(expected="answerKey", choices="choices"))
    assert (sample.metadata["choices"], sample.expected) == ({"A": "red", "B": "blue"}, ("B",))
