"""Sample ids: given ids are unique, the others depend on content alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from evalrunner.suite.columns import ColumnSpec
from tests.datasets.reading import columns, problems, samples, scan, write


def jsonl(*rows: Any) -> str:
    return write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def ids(*rows: Any, **spec: Any) -> list[str]:
    return [sample.id for sample in samples(jsonl(*rows), **spec)]


def test_an_id_is_a_hash_of_input_and_expected_not_of_the_position() -> None:
    a, b = {"input": "a", "expected": "1"}, {"input": "b", "expected": "1"}
    first, second = ids(a, b)
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    assert ids({"input": "new"}, b, a)[1:] == [second, first]
    assert ids({**a, "note": "another column"}) == [first]
    assert ids({"input": "a", "expected": "2"}) != [first]


def test_the_same_text_has_the_same_id_in_every_format() -> None:
    write("qa.csv", "input,expected\na,1\n")
    assert [sample.id for sample in samples("qa.csv")] == ids({"expected": "1", "input": "a"})


def test_conversations_with_the_same_last_message_have_different_ids() -> None:
    end = {"role": "user", "content": "and now?"}
    talks = [[{"role": "user", "content": text}, end] for text in ("a", "b")]
    first, second = ids(*({"messages": talk} for talk in talks))
    assert first != second


def test_exact_duplicates_are_numbered_and_reported_in_a_notice() -> None:
    a, b = {"input": "a"}, {"input": "b"}
    plain = ids(a)[0]
    assert [name for name in ids(a, b, a, a) if name.startswith(plain)] == [plain, f"{plain}-2", f"{plain}-3"]
    assert scan(jsonl(a, b, a, a)).notices == (
        "2 samples are exact duplicates of others (same input and expected); their ids end in -2, -3 …",
    )
    assert scan(jsonl(a, b, a)).notices == (
        "1 sample is an exact duplicate of another one (same input and expected); its id ends in -2",
    )
    assert scan(jsonl(a, b)).notices == ()


def test_duplicate_given_ids_are_errors_that_name_both_lines() -> None:
    path = jsonl({"qid": "a", "input": 1}, {"qid": "b", "input": 1}, {"qid": "a", "input": 2}, {"qid": "a", "input": 3})
    assert problems(path, columns=columns(id="qid")) == [
        "qa.jsonl:3: has the id 'a' of qa.jsonl:1; ids must be unique",
        "qa.jsonl:4: has the id 'a' of qa.jsonl:1; ids must be unique",
    ]


def test_duplicates_are_found_across_the_files_of_a_glob() -> None:
    write("a.csv", "id,input\n1,x\n2,y\n")
    write("b.csv", "id,input\n3,x\n2,z\n")
    assert problems("*.csv") == [
        (
            "b.csv:3: has the id '2' of a.csv:3; ids must be unique; "
            "if 'id' does not identify samples, map columns: {id: …}"
        )
    ]


def test_the_first_twenty_duplicates_are_named_and_the_others_counted() -> None:
    path = jsonl(*({"id": "same", "input": n} for n in range(50)))
    message = problems(path)
    assert len(message) == 21
    assert message[-1] == "… and 29 more"


def test_rows_excluded_by_where_can_repeat_an_id() -> None:
    rows = [{"id": "a", "input": 1, "split": "train"}, {"id": "a", "input": 2, "split": "test"}]
    assert ids(*rows, where={"split": "test"}) == ["a"]


def test_ids_are_converted_to_text() -> None:
    assert ids({"id": 3, "input": 1}, {"id": "x/1", "input": 1}, {"id": 1.5, "input": 1}, {"id": True, "input": 1}) == [
        "3", "x/1", "1.5", "true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "has an empty id"),
        ("  ", "has an empty id"),
        (None, "has an id that is null; it must be text or a number"),
        ([1], "has an id that is a list; it must be text or a number"),
        ({"a": 1}, "has an id that is a mapping; it must be text or a number"),
        ("a\nb", "has an id with a control character in it: 'a\\nb'"),
        ("a\x1b[31m", "has an id with a control character in it: 'a\\x1b[31m'"),
        ("a\x85b", "has an id with a control character in it: 'a\\x85b'"),
        ("a\u2028b", "has an id with a control character in it: 'a\\u2028b'"),
    ],
)
def test_an_invalid_id_is_a_problem_of_its_row(given: Any, message: str) -> None:
    assert problems(jsonl({"id": given, "input": 1})) == [f"qa.jsonl:1: {message}"]


def test_an_id_can_contain_any_letter() -> None:
    assert ids({"id": "à\xa0日本\u200d👩", "input": 1}) == ["à\xa0日本\u200d👩"]


def test_an_empty_id_column_name_disables_given_ids() -> None:
    rows = [{"id": 1, "input": "a"}, {"id": 1, "input": "b"}]
    assert ids(*rows, columns=columns(id=ColumnSpec(""))) == ids({"input": "a"}, {"input": "b"})
