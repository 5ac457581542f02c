"""Rows under a key, through lists, and under ids, in JSON, JSON Lines and YAML."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.reading import columns, inputs, problems, samples, source, write

ROWS = [{"input": "a", "n": 1}, {"input": "b", "n": 2}]


def rows(name: str, data: Any, records: str | None) -> list[dict[str, Any]]:
    write(name, json.dumps(data))
    return [dict(sample.metadata) for sample in samples(name, options={} if records is None else {"records": records})]


@pytest.mark.parametrize("name", ["d.json", "d.yaml"])
@pytest.mark.parametrize("records", ["data.items", "$.data.items", "data.items[]", "data.items[*]"])
def test_rows_are_read_under_a_key(name: str, records: str) -> None:
    data = {"skip": ["}", {"a": '"]'}], "data": {"more": 1.5, "items": ROWS, "end": None}, "text": '\\"'}
    assert rows(name, data, records) == ROWS


@pytest.mark.parametrize("name", ["d.json", "d.yaml"])
def test_rows_under_ids_have_them_as_ids(name: str) -> None:
    by_id = {"q1": {"input": "a"}, "q2": {"id": "own", "input": "b"}}
    assert rows(name, by_id, "$") == [{"id": "q1", "input": "a"}, {"id": "own", "input": "b"}]
    assert rows(name, {"x": {"y": by_id}}, "x.y")[0] == {"id": "q1", "input": "a"}


@pytest.mark.parametrize("name", ["d.json", "d.yaml"])
def test_a_path_goes_through_lists_and_takes_the_keys_around_along(name: str) -> None:
    pages = [
        {
            "id": 7,
            "title": "T",
            "paragraphs": [{"context": "C1", "qas": [{"input": "a"}, {"input": "b", "title": "own"}]}],
        },
        {"title": "U", "paragraphs": [{"context": "C2", "qas": []}, {"context": "C3", "qas": [{"input": "c"}]}]},
    ]
    expected = [
        {"title": "T", "context": "C1", "input": "a"},
        {"title": "own", "context": "C1", "input": "b"},
        {"title": "U", "context": "C3", "input": "c"},
    ]
    assert rows(name, {"data": pages}, "data.paragraphs.qas") == rows(name, pages, "paragraphs.qas") == expected
    write("d.jsonl", "".join(json.dumps(page) + "\n" for page in pages))
    assert [dict(sample.metadata) for sample in samples("d.jsonl", options={"records": "paragraphs.qas"})] == expected


def test_keys_may_have_dots_themselves() -> None:
    assert rows("d.json", {"v1.0": {"items": ROWS}}, "v1.0.items") == ROWS


@pytest.mark.parametrize(
    ("data", "records", "message"),
    [
        ({"data": ROWS}, "dat", "has no 'dat' for records; it has: data; did you mean 'data'?"),
        ({"data": {"x": 1}}, "data.items", "has no 'items' for records; it has: x"),
        ({"data": 3}, "data", "has a number in place of a list of objects"),
        ({"data": "x"}, "data.items", "has text in place of an object with 'items'"),
        ({"data": [1]}, "data", 'is a number, but each element must be an object, such as {"input": …}'),
        ({"q1": [1]}, "$", "has a list under 'q1', but rows under ids must be objects"),
        ([{"input": "a", "qas": 3}], "qas", "has a number in place of a list of objects"),
        ([{"input": "a"}], "qas", "has no 'qas' for records; it has: input"),
    ],
)
@pytest.mark.parametrize("name", ["d.json", "d.yaml"])
def test_what_is_not_there_is_named(name: str, data: Any, records: str, message: str) -> None:
    write(name, json.dumps(data))
    (problem,) = problems(name, options={"records": records})
    assert problem.startswith(f"{name}:1: {message}")


@pytest.mark.parametrize("records", ["", ".", "a..b", "a.", "x" * 1001, ".".join("abcdefghijklmnopqrstuvwxyz")])
def test_a_path_that_is_none_is_an_error(records: str) -> None:
    write("d.json", "[]")
    assert "it should be the key of the rows" in problems("d.json", options={"records": records})[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [{"input": 1}], "x": [1, 2', "d.json:1: ends before all brackets are closed"),
        ('{"data": [{"input": 1}]', "d.json:1: ends before the closing } of an object"),
        ('{"data": [{"input": 1}', "d.json:1: ends before the closing ]"),
        ('{"data": [{"input": 1}]}\n{', "d.json:2: has text after the closing } of the object"),
        ('{"x": "a', 'd.json:1: has text that is not closed with "'),
        ('{"x": }', "d.json:1: is not JSON: Expecting value at line 1"),
        ("{x: 1}", "d.json:1: is not JSON: Expecting a key and a colon at line 1"),
    ],
)
def test_broken_json_around_the_rows_is_an_error(text: str, message: str) -> None:
    write("d.json", text)
    assert message in problems("d.json", options={"records": "data"})


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        ({"meta": 1, "examples": ROWS}, "set records: examples"),
        ({"a": {"b": {"rows": ROWS}}}, "set records: a.b.rows"),
        ({"q1": {"input": "a"}, "q2": {"input": "b"}}, "set records: $"),
        ({"data": {"q1": {"input": "a"}, "q2": {"input": "b"}}}, "set records: data"),
        ({"input": "a"}, "set type: jsonl"),
    ],
)
def test_the_message_proposes_the_key_which_then_works(data: Any, advice: str) -> None:
    write("d.json", json.dumps(data))
    assert problems("d.json")[0].endswith(advice)
    if "records" in advice:
        assert inputs("d.json", options={"records": advice.rpartition(" ")[2]}) == ["a", "b"]


def test_random_json_is_passed_over_at_every_border_of_a_chunk() -> None:
    make = random.Random(17)

    def value(depth: int) -> Any:
        kind = make.randrange(7 if depth else 4)
        if kind < 2:
            return make.choice(["", 'q"uo\\te', "[{", "}]", "é\n", "x" * make.randrange(3000)])
        if kind < 4:
            return make.choice([None, True, -0.5, 1e300, 12345678901234567890])
        inner = [value(depth - 1) for _ in range(make.randrange(6))]
        return inner if kind < 6 else {str(place): item for place, item in enumerate(inner)}

    for _ in range(60):
        before = {f"k{number}": value(5) for number in range(make.randrange(60))}
        data = {**before, "data": {**before, "items": ROWS}, "after": value(5)}
        write("d.json", json.dumps(data, indent=make.choice([None, 1]), ensure_ascii=make.random() < 0.5))
        assert [dict(sample.metadata) for sample in samples("d.json", options={"records": "data.items"})] == ROWS


def test_yaml_rows_keep_the_spelling_of_numbers_and_name_their_lines() -> None:
    write("d.yaml", "- input: 1.10\n  expected: [007, yes]\n\n- {expected: 1}\n- 5\n- input: {a: ~}\n")
    assert problems("d.yaml") == [
        "d.yaml:4: no column 'input'; it has: expected. Map the input: columns: {input: expected}",
        'd.yaml:5: is a number, but each element must be an object, such as {"input": …}',
    ]
    write("d.yaml", "- input: 1.10\n  expected: [007, yes]\n")
    (sample,) = samples("d.yaml")
    assert (str(sample.input), sample.expected) == ("1.10", ("007", "yes"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- input: a\n  input: b\n", "d.yaml:2:3: [0].input: duplicate key; remove one"),
        (
            "data:\n- input: a\n",
            "d.yaml:1: must be a list of mappings, such as - input: …; the rows are under a key: set records: data",
        ),
        (
            "a: {input: x}\nb: {input: y}\n",
            "d.yaml:1: must be a list of mappings, such as - input: …; for rows under ids, set records: $",
        ),
        ("text\n", "d.yaml:1: must be a list of mappings, such as - input: …"),
        ("- input: !!python/object:os.system x\n", "is not known here"),
        ("- &a [*a]\n", "an anchor that contains its own alias"),
        ("", "dataset: d.yaml has no rows"),
    ],
)
def test_yaml_that_is_no_list_of_rows_is_an_error(text: str, message: str) -> None:
    write("d.yaml", text)
    assert message in problems("d.yaml")[0]


def test_yaml_aliases_cannot_fill_the_memory() -> None:
    lines = ["- &a0 {input: x, l: [1,2,3,4,5,6,7,8,9]}"]
    lines += [f"- &a{n} {{input: x, l: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    write("d.yaml", "\n".join(lines))
    assert "more than 250,000 values" in problems("d.yaml")[0]


def test_rows_under_a_key_are_streamed_and_what_is_around_them_is_not_kept() -> None:
    with Path("big.json").open("w") as file:
        file.write('{"around": [' + ",".join(['{"text": "' + "x" * 1000 + '"}'] * 20_000) + '], "data": {"items": [')
        file.write(",".join(f'{{"input": "{"y" * 1000}", "n": {n}}}' for n in range(20_000)) + "]}}")
    tracemalloc.start()
    count = sum(1 for _ in source("big.json", options={"records": "data.items"}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000 and Path("big.json").stat().st_size > 40_000_000
    assert peak < 8_000_000


def test_a_value_of_every_item_is_an_accepted_answer() -> None:
    deep = [{"x": [{"text": "a"}, {"text": ["b", "c"]}]}, {"x": []}, {"y": 1}]
    write(
        "d.json",
        json.dumps(
            [{"input": "q", "answers": [{"text": "1"}, {"no": 0}, {"text": 2.50}], "deep": deep, "a[].b": "own"}]
        ),
    )
    for column, expected in {
        "answers[].text": ("1", "2.5"),
        "deep[].x[].text": ("a", "b", "c"),
        "a[].b": ("own",),
    }.items():
        (sample,) = samples("d.json", columns=columns(expected=column))
        assert sample.expected == expected
    assert "no column 'input[].x'" in problems("d.json", columns=columns(expected="input[].x"))[0]


def test_squad_and_triviaqa_as_they_are() -> None:
    trivia = {
        "Data": [{"Answer": {"Aliases": ["A", "The A"], "Value": "A"}, "Question": "q", "QuestionId": "t1"}],
        "Version": 1.0,
    }
    write("t.json", json.dumps(trivia))
    mapped = columns(id="QuestionId", input="Question", expected="Answer.Aliases")
    (sample,) = samples("t.json", columns=mapped, options={"records": "Data"})
    assert (sample.id, sample.input, sample.expected) == ("t1", "q", ("A", "The A"))
