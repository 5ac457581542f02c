"""where → shuffle → limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrunner.errors import SuiteError
from tests.datasets.reading import columns, inputs, problems, samples, source, write

ROWS = [
    {"input": "a", "split": "train", "n": 1, "ok": True, "meta": {"lang": "en"}},
    {"input": "b", "split": "test", "n": 1.0, "ok": 1, "meta": {"lang": "de"}},
    {"input": "c", "split": "dev", "n": 2, "ok": False, "meta": {"lang": None}},
]


def jsonl(rows: list[Any]) -> str:
    return write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ({"split": "test"}, ["b"]),
        ({"split": ["test", "dev"]}, ["b", "c"]),
        ({"n": 1}, ["a", "b"]),
        ({"n": 1.0}, ["a", "b"]),
        ({"ok": True}, ["a"]),
        ({"ok": 1}, ["b"]),
        ({"ok": [False, 1]}, ["b", "c"]),
        ({"meta.lang": "en"}, ["a"]),
        ({"meta.lang": None}, ["c"]),
        ({"split": ["test", "train"], "n": 1, "meta.lang": "de"}, ["b"]),
    ],
)
def test_where_selects_rows_with_the_value_or_one_of_a_list(where: dict[str, Any], selected: list[str]) -> None:
    assert inputs(jsonl(ROWS), where=where) == selected


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ({"year": 2020}, ["a"]),
        ({"year": "2020"}, ["a"]),
        ({"year": [2020, 2021]}, ["a", "b"]),
        ({"good": True}, ["a", "b"]),
        ({"good": False}, ["c"]),
        ({"year": None}, ["c"]),
        ({"rate": 0.5}, ["b"]),
    ],
)
def test_where_compares_text_formats_as_text(where: dict[str, Any], selected: list[str]) -> None:
    write("qa.csv", "input,year,good,rate\na,2020,true,1\nb,2021,True,0.5\nc,,false,0.50\n")
    assert inputs("qa.csv", where=where) == selected


def test_where_compares_each_file_of_a_glob_by_its_format() -> None:
    write("a.csv", "input,n\na,1\n")
    write("b.jsonl", '{"input": "b", "n": 1}\n{"input": "c", "n": "1"}\n')
    assert inputs("[ab].*", where={"n": 1}) == ["a", "b"]


def test_an_unknown_where_column_is_an_error_with_the_nearest_name() -> None:
    assert problems(jsonl(ROWS), where={"splt": "test", "meta.lng": "en"}) == [
        "dataset.where.splt: no column 'splt' in qa.jsonl; it has: input, split, n, ok, meta; did you mean 'split'?",
        "dataset.where.meta.lng: no column 'meta.lng' in qa.jsonl; it has: input, split, n, ok, meta; did you mean 'meta'?",
    ]


def test_a_where_without_a_match_lists_the_existing_values() -> None:
    assert problems(jsonl(ROWS), where={"split": "tset"}) == [
        (
            "dataset.where: {split: 'tset'} matches none of the 3 rows of qa.jsonl; "
            "'split' has 'train', 'test', 'dev'; did you mean 'test'?"
        )
    ]
    many = [{"input": n, "n": n} for n in range(10)]
    assert problems(jsonl(many), where={"n": [True, 77]}) == [
        "dataset.where: {n: [true, 77]} matches none of the 10 rows of qa.jsonl; 'n' has 0, 1, 2, 3, 4, …"
    ]


def test_rows_excluded_by_where_can_lack_columns() -> None:
    rows = [{"q": "a", "kind": "qa"}, {"kind": "other"}]
    assert inputs(jsonl(rows), where={"kind": "qa"}, columns=columns(input="q")) == ["a"]


def test_limit_takes_the_first_selected_rows_and_stops_reading() -> None:
    path = write("qa.jsonl", '{"input": 1, "k": 0}\n{"input": 2, "k": 1}\n{"input": 3, "k": 1}\n{broken\n')
    assert inputs(path, where={"k": 1}, limit=2) == [2, 3]


def test_a_limit_beyond_the_end_takes_every_row() -> None:
    assert inputs(jsonl(ROWS), limit=100) == ["a", "b", "c"]
    assert len(inputs(jsonl(ROWS), limit=100, shuffle=1)) == 3


def numbered(count: int) -> str:
    return jsonl([{"id": f"q{n}", "input": n, "expected": [str(n)], "note": None} for n in range(count)])


def test_a_shuffle_is_determined_by_its_seed() -> None:
    path = numbered(200)
    first = samples(path, shuffle=7)
    assert first == samples(path, shuffle=7)
    assert [s.id for s in first] != [s.id for s in samples(path, shuffle=8)]
    plain = {sample.id: sample for sample in samples(path)}
    assert {s.id: (s.input, s.expected, s.metadata) for s in first} == {
        s.id: (s.input, s.expected, s.metadata) for s in plain.values()
    }
    assert [list(s.metadata) for s in first] == [["id", "input", "expected", "note"]] * 200


def test_adding_rows_keeps_the_shuffle_order_of_the_others() -> None:
    few = [sample.id for sample in samples(numbered(100), shuffle=7)]
    many = [sample.id for sample in samples(numbered(150), shuffle=7)]
    assert [name for name in many if int(name[1:]) < 100] == few


@pytest.mark.parametrize("limit", [1, 2, 17, 199, 200])
def test_limit_applies_after_shuffle(limit: int) -> None:
    path = numbered(200)
    assert inputs(path, shuffle=7, limit=limit) == inputs(path, shuffle=7)[:limit]


def test_shuffled_conversations_and_duplicates_round_trip() -> None:
    talk = [{"role": "user", "content": "hé\u2028"}]
    rows = [{"messages": talk, "expected": ["a", "b"]}] * 3 + [{"messages": [*talk, *talk]}]
    result = samples(jsonl(rows), shuffle=0)
    plain = {sample.id: sample for sample in samples(jsonl(rows))}
    assert len(plain) == 4
    assert {s.id: (s.input, s.expected, s.messages) for s in result} == {
        s.id: (s.input, s.expected, s.messages) for s in plain.values()
    }


def test_a_problem_of_a_shuffled_sample_names_its_line() -> None:
    opened = source(numbered(30), shuffle=7)
    with pytest.raises(SuiteError, match=r"^qa\.jsonl:13: is unlucky$"):
        opened.scan(lambda sample: ["is unlucky"] if sample.input == 12 else [])


def test_the_shuffle_file_is_removed_with_its_source() -> None:
    opened = source(numbered(10), shuffle=7)
    opened.scan(lambda sample: ())
    assert len(list(Path("spool").iterdir())) == 1
    del opened
    assert list(Path("spool").iterdir()) == []
