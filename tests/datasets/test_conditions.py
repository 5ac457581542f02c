"""The conditions of `where:` beyond values: `not`, `contains`, `matches`, comparisons, `any` and `all`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.reading import inputs, problems, write
from tests.fakes.command import evalrun

ROWS = [
    {"input": "a", "topic": "law", "tags": ["x", "y"], "n": 1, "day": "2024-05-01", "text": "10% off"},
    {"input": "b", "topic": "art", "tags": ["y"], "n": 2.5, "day": "2024-06-01", "text": "n/a"},
    {"input": "c", "topic": None, "tags": [], "n": "3", "day": "2025-01-01", "text": ""},
    {"input": "d", "tags": "xyz", "n": None, "ok": True, "text": "20% off"},
]
CSV = 'input,topic,tags,n,text\na,law,"[""x"", ""y""]",1,10% off\nb,art,"x,y",2.5,n/a\nc,,[y],3,\nd,law,,,20% off\n'

CONDITIONS: list[tuple[dict[str, Any], str, str]] = [  # with the rows of JSON Lines and those of CSV
    ({"topic": {"not": "law"}}, "bcd", "bc"),
    ({"topic": {"not": ["law", "art"]}}, "cd", "c"),
    ({"topic": {"not": None}}, "ab", "abd"),
    ({"tags": {"contains": "x"}}, "ad", "ab"),
    ({"tags": {"contains": ["x", "y"]}}, "abd", "abc"),
    ({"tags": {"not": {"contains": "x"}}}, "bc", "cd"),
    ({"tags": {"all": [{"contains": "x"}, {"contains": "y"}]}}, "ad", "ab"),
    ({"text": {"matches": r"^\d+%"}}, "ad", "ad"),
    ({"text": {"not": {"matches": r"\d"}}}, "bc", "bc"),
    ({"n": {">": 1}}, "bc", "bc"),
    ({"n": {">=": 1, "<": 3}}, "ab", "ab"),
    ({"n": {"<=": 2.5}}, "ab", "ab"),
    ({"n": {"not": {">": 1}}}, "ad", "ad"),
    ({"n": {"any": [1, {">": 2.6}]}}, "ac", "ac"),
    ({"any": [{"topic": "art"}, {"n": {">": 2.9}}]}, "bc", "bc"),
    ({"all": [{"topic": "law"}, {"n": 1}]}, "a", "a"),
    ({"not": {"topic": "law", "n": 1}}, "bcd", "bcd"),
    ({"any": [{"topic": "art"}, {"all": [{"topic": "law"}, {"text": {"contains": "10"}}]}]}, "ab", "ab"),
]


@pytest.mark.parametrize(("where", "of_json", "of_csv"), CONDITIONS)
def test_conditions_select_rows_of_json_and_csv(where: dict[str, Any], of_json: str, of_csv: str) -> None:
    write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    write("qa.csv", CSV)
    assert inputs("qa.jsonl", where=where) == list(of_json)
    assert inputs("qa.csv", where=where) == list(of_csv)


def test_texts_such_as_dates_are_compared_in_their_order() -> None:
    write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    assert inputs("qa.jsonl", where={"day": {">=": "2024-06-01"}}) == ["b", "c"]


def test_numbers_are_compared_exactly() -> None:
    write("qa.jsonl", '{"input": "a", "n": 12345678901234567.89}\n{"input": "b", "n": 12345678901234567.90}\n')
    assert inputs("qa.jsonl", where={"n": {">": 12345678901234567}}) == ["a", "b"]
    write("s.yaml", "name: s\ndataset: {path: qa.jsonl, where: {n: {'>': 12345678901234567.89}}}\n"
          "target: {type: recorded, column: input}\nscorers: [contains]\n")  # fmt: skip
    plan = evalrun("plan", "s.yaml", "--set", "dataset.columns.expected=input")
    assert "1 sample" in plan.stdout, plan.stdout + plan.stderr


def test_conditions_hold_as_python_says_for_random_rows() -> None:
    chance = random.Random(7)
    rows = [
        {"input": str(place), "k": chance.choice(["a", "b", None]), "n": chance.randint(-9, 9)} for place in range(300)
    ]
    write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(20):
        low, high, letter = chance.randint(-9, 9), chance.randint(-9, 9), chance.choice("ab")
        where = {"any": [{"k": letter, "n": {">": low}}, {"not": {"k": {"not": letter}, "n": {"<=": high}}}]}
        wanted = [
            row["input"] for row in rows
            if (row["k"] == letter and row["n"] > low) or not (row["k"] != letter and row["n"] <= high)
        ]  # fmt: skip
        assert inputs("qa.jsonl", where=where) == wanted


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{topic: {has: b}}", "has the unknown operator 'has'"),
        ("{topic: {}}", "is an empty mapping"),
        ("{topic: {matches: '('}}", "is no regular expression"),
        ("{topic: {'>': [1]}}", "should be a number"),
        ("{topic: {any: law}}", "should be a list of conditions"),
        ("{any: [{topic: {contains: {a: b}}}]}", "should be a plain value"),
        ("{any: [{topik: law}]}", "no column 'topik'"),
        ("{topic: {not: {matches: 5}}}", "should be a regular expression"),
    ],
)
def test_wrong_conditions_are_reported_with_their_line(where: str, message: str) -> None:
    write("qa.jsonl", "".join(json.dumps({**row, "expected": "x"}) + "\n" for row in ROWS))
    write("s.yaml", "name: s\ntarget: {type: recorded, column: input}\nscorers: [exact_match]\ndataset:\n  path: qa.jsonl\n"
          f"  where: {where}\n")  # fmt: skip
    refused = evalrun("validate", "s.yaml")
    assert refused.returncode == 2
    assert message in refused.stderr and "s.yaml:6:" in refused.stderr, refused.stderr


def test_a_pattern_that_takes_too_long_on_a_row_is_a_problem_of_that_row() -> None:
    write("qa.jsonl", json.dumps({"input": "a" * 40 + "!"}) + "\n")
    [problem] = problems("qa.jsonl", where={"input": {"matches": "^(a+)+$"}})
    assert problem.startswith("qa.jsonl:1: ") and "CPU time" in problem


def test_conditions_of_the_command_line_add_up() -> None:
    write("qa.jsonl", "".join(json.dumps({**row, "expected": row["input"]}) + "\n" for row in ROWS))
    write("s.yaml", "name: s\ndataset: qa.jsonl\ntarget: {type: recorded, column: input}\nscorers: [exact_match]\n")

    def selected(*conditions: str) -> list[str]:
        flags = [part for condition in conditions for part in ("--where", condition)]
        done = evalrun("s.yaml", "-q", *flags, "-o", "out.csv")
        assert done.returncode == 0, done.stderr
        return [line.split(",")[3] for line in Path("out.csv").read_text().splitlines()[1:]]

    assert selected("topic!=law") == ["b", "c", "d"]
    assert selected("n>1") == ["b", "c"]
    assert selected("n>=1", "n<3") == ["a", "b"]
    assert selected("topic!=law", "topic!=art") == ["c", "d"]
    assert selected("tags={contains: x}") == ["a", "d"]
    assert selected("any=[{topic: art}, {ok: true}]") == ["b", "d"]
    assert selected("topic=law") == ["a"]
    refused = evalrun("s.yaml", "--where", "topic")
    assert refused.returncode == 2 and "should read column=value" in refused.stderr


def test_conditions_of_checks_have_the_same_forms() -> None:
    write("s.yaml", """\
name: s
dataset:
  rows:
    - {id: a, input: q, n: 1, tags: [x], output: "yes"}
    - {id: b, input: q, n: 7, tags: [y], output: "no"}
target: {type: recorded, column: output}
checks:
  - {contains: "yes", where: {n: {"<": 5}}}
  - {contains: "no", where: {tags: {not: {contains: x}}}}
  - {contains: "no", where: {any: [{n: {">": 5}}]}}
""")  # fmt: skip
    done = evalrun("s.yaml", "-q", "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    [rows] = Path("runs").glob("s/*/rows.jsonl")
    cells = [json.loads(line) for line in rows.read_text().splitlines()]
    shown = {row["id"]: len(row["cells"]["checks"]["detail"]["checks"]) for row in cells if "id" in row}
    assert shown == {"a": 1, "b": 2}
