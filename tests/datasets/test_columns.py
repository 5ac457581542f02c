"""Columns to the fields of a sample: defaults, mapping, dotted paths, several answers, conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.suite.columns import ColumnSpec
from tests.datasets.reading import columns, problems, samples, scan, write


def jsonl(*rows: Any) -> str:
    return write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_id_input_and_expected_are_used_when_nothing_is_mapped() -> None:
    (sample,) = samples(jsonl({"id": 7, "input": {"q": 1}, "expected": 4, "note": None}))
    assert (sample.id, sample.input, sample.expected) == ("7", {"q": 1}, ("4",))
    assert sample.metadata == {"id": 7, "input": {"q": 1}, "expected": 4, "note": None}


def test_a_missing_input_column_lists_the_columns_and_suggests_a_mapping() -> None:
    write("data/qa.csv", "question,answer\nwho,me\nwhat,it\n")
    assert problems("data/qa.csv") == [
        (
            "dataset: no column 'input' in data/qa.csv; it has: question, answer. "
            "Map the input: columns: {input: question}"
        )
    ]


def test_a_suggested_column_is_quoted_if_yaml_needs_it() -> None:
    write("qa.csv", "Question: text,answer\nwho,me\n")
    assert problems("qa.csv")[0].endswith('columns: {input: "Question: text"}')


def test_a_mapped_column_missing_in_every_record_is_one_problem_with_the_nearest_name() -> None:
    write("qa.csv", "question,answer\nwho,me\nwhat,it\n")
    assert problems("qa.csv", columns=columns(input="questoin", expected="anwser")) == [
        "dataset.columns.input: no column 'questoin' in qa.csv; it has: question, answer; did you mean 'question'?",
        "dataset.columns.expected: no column 'anwser' in qa.csv; it has: question, answer; did you mean 'answer'?",
    ]


def test_a_mapped_column_missing_in_some_records_is_a_problem_of_each() -> None:
    path = jsonl({"q": 1, "a": 1}, {"q": 2}, {"q": 3, "a": 3}, {"a": 4})
    assert problems(path, columns=columns(input="q", expected="a")) == [
        "qa.jsonl:2: no column 'a'; it has: q",
        "qa.jsonl:4: no column 'q'; it has: a",
    ]


def test_dotted_paths_reach_into_mappings_and_lists() -> None:
    path = jsonl({"q": {"text": "who"}, "choices": [{"text": "me"}, {"text": "you"}]})
    (sample,) = samples(path, columns=columns(input="q.text", expected="choices.1.text", id="choices.0.text"))
    assert (sample.id, sample.input, sample.expected) == ("me", "who", ("you",))


def test_a_column_name_with_dots_takes_precedence_over_a_path() -> None:
    path = jsonl({"a.b": "name", "a": {"b": "path"}, "c.d": {"e": "half"}})
    (sample,) = samples(path, columns=columns(input="a.b", expected="c.d.e"))
    assert (sample.input, sample.expected) == ("name", ("half",))


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("Paris", ("Paris",)),
        (["Paris", "paris"], ("Paris", "paris")),
        (None, ()),
        ("", ()),
        ([], ()),
        (["", None, "x"], ("x",)),
        (4, ("4",)),
        (1.5, ("1.5",)),
        (True, ("true",)),
        ([1, False], ("1", "false")),
        ({"b": 1, "a": [2]}, ('{"a":[2],"b":1}',)),
        ([{"b": 1}], ('{"b":1}',)),
    ],
)
def test_expected_holds_every_accepted_answer_as_text(value: Any, accepted: tuple[str, ...]) -> None:
    (sample,) = samples(jsonl({"input": "q", "expected": value}))
    assert sample.expected == accepted


def test_split_separates_answers_and_strips_them() -> None:
    write("qa.csv", "input,answers\nq, a | b ||c|\n")
    (sample,) = samples("qa.csv", columns=columns(expected=ColumnSpec("answers", split="|")))
    assert sample.expected == ("a", "b", "c")


def test_several_expected_columns_are_all_accepted_answers() -> None:
    write("qa.csv", "input,short,long\nq,a,a b\nr,,c\n")
    first, second = samples("qa.csv", columns=columns(expected=("short", "long")))
    assert (first.expected, second.expected) == (("a", "a b"), ("c",))


def test_split_is_only_for_expected_and_not_empty() -> None:
    path = jsonl({"input": "q"})
    assert problems(
        path, columns=columns(input=ColumnSpec("input", split="|"), expected=ColumnSpec("input", split=""))
    ) == [
        "dataset.columns.input.split: splits 'input'; only 'expected' and 'choices' can have several values",
        "dataset.columns.expected.split: is empty; set the separator of the values, such as '|'",
    ]


def test_an_empty_input_is_a_problem_of_its_row() -> None:
    assert problems(jsonl({"input": None}, {"input": ""}, {"input": 0})) == [
        "qa.jsonl:1: has an empty input (column 'input')"
    ]
    write("qa.csv", "input,expected\n,1\nb,2\n")
    assert problems("qa.csv") == ["qa.csv:2: has an empty input (column 'input')"]


def test_a_scan_counts_samples_with_an_expected_answer() -> None:
    result = scan(jsonl({"input": 1, "expected": "x"}, {"input": 2}, {"input": 3, "expected": ""}))
    assert (result.count, result.expected) == (3, 1)


TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "bye"}]


def test_the_input_of_a_conversation_is_its_last_user_message() -> None:
    (sample,) = samples(jsonl({"talk": TALK}), columns=columns(messages="talk"))
    assert (sample.input, sample.messages) == ("bye", tuple(TALK))


def test_a_conversation_can_be_json_text_in_a_csv_cell() -> None:
    cell = json.dumps(TALK).replace('"', '""')
    write("qa.csv", f'talk,expected\n"{cell}",x\n')
    (sample,) = samples("qa.csv", columns=columns(messages="talk"))
    assert (sample.input, sample.messages) == ("bye", tuple(TALK))


def test_the_text_parts_of_a_message_are_the_input() -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "this"},
    ]
    (sample,) = samples(jsonl({"messages": [{"role": "user", "content": parts}]}))
    assert sample.input == "what is\nthis"


def test_an_input_column_takes_precedence_over_the_conversation() -> None:
    (sample,) = samples(jsonl({"input": "q", "messages": TALK}))
    assert (sample.input, sample.messages) == ("q", tuple(TALK))


def test_a_messages_column_without_roles_is_no_conversation() -> None:
    first, second = samples(jsonl({"input": "q", "messages": ["a", "b"]}, {"input": "r", "messages": 3}))
    assert (first.messages, second.messages) == (None, None)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([], "has neither an input nor messages; a conversation that begins needs its input"),
        (None, "has neither an input nor messages; a conversation that begins needs its input"),
        (3, "the column 'talk' must be a list of messages such as {role: user, content: …}"),
        (["hi"], "the column 'talk' has a message 1 that is not a mapping of role and content"),
        ([*TALK, {"content": "x"}], "the column 'talk' has a message 4 without a role"),
        ([{"role": 1, "content": "x"}], "the column 'talk' has a message 1 without a role"),
        (
            [{"role": "user", "content": 5}],
            "the column 'talk' has a message 1 whose content is neither text nor a list of parts",
        ),
        (
            [{"role": "system", "content": "x"}],
            "has a conversation without a user message; map the input: columns: {input: …}",
        ),
    ],
)
def test_an_invalid_conversation_is_a_problem_of_its_row(talk: Any, message: str) -> None:
    path = jsonl({"talk": TALK}, {"talk": talk})
    assert problems(path, columns=columns(messages="talk")) == [f"qa.jsonl:2: {message}"]


def test_an_assistant_message_can_have_only_tool_calls() -> None:
    talk = [*TALK, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    (sample,) = samples(jsonl({"talk": talk}), columns=columns(messages="talk"))
    assert sample.messages == tuple(talk)
