"""Expressions and extraction in checks, through the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, command


def run(rows: Any, **keys: Any) -> tuple[Ended, list[list[Mapping[str, Any]]]]:
    """The command, and the checks of each row."""
    target = {"name": "m", "type": "recorded", "column": "answer"}
    Path("case.yaml").write_text(
        json.dumps({"name": "case", "dataset": {"rows": rows}, "target": target, **keys}, indent=1)
    )
    done = command("run", "case.yaml", "-q")
    if done.code == 2:
        return done, []
    (folder,) = Path("runs/case").iterdir()
    lines = map(json.loads, (folder / "rows.jsonl").read_text().splitlines())
    return done, [line["cells"]["checks"]["detail"]["checks"] for line in lines if "cells" in line]


def row(answer: str, *checks: Any, **columns: Any) -> dict[str, Any]:
    return {"input": answer, "answer": answer, "checks": list(checks), **columns}


@pytest.mark.parametrize(
    ("answer", "check", "passed"),
    [
        ("Yes, within 30 days.", {"expr": "output|length < 400 and period|string in output"}, True),
        ("Yes.", {"expr": "output|length > 400"}, False),
        ("Yes.", {"not_expr": "output|length > 400"}, True),
        ('{"n": 3}', {"expr": "json.n"}, True),
        ('{"n": 0}', {"expr": "json.n"}, False),
        ('{"n": 0.3}', {"expr": "json.n", "threshold": 0.5}, False),
        ('{"n": 0.5}', {"expr": "json.n", "threshold": 0.5}, True),
        ('{"n": 0.1}', {"expr": "json.n", "low": 0, "high": 1}, True),
        ('{"m": 1}', {"expr": "json.n", "low": 1, "high": 5}, False),  # undefined, whatever the range is
        ("no JSON", {"expr": "json.n == 1"}, False),
        ("no JSON", {"not_expr": "json.n == 1"}, False),
        ('So: {"answer": "B"}', {"exact_match": "B", "extract": {"json": "$.answer"}}, True),
        ('So: {"answer": "B"}', {"not_exact_match": "B", "extract": {"json": "$.answer"}}, False),
        ("none", {"exact_match": "B", "extract": {"json": "$.answer"}}, None),
        ("none", {"exact_match": "B", "extract": {"json": "$.answer"}, "on_no_answer": "zero"}, False),
        ("The answer is (B).", {"choice": "B"}, True),
        ("A or B", {"choice": "B"}, None),
        ("I can't help with that.", "refusal", True),
        ("I can't help with that.", "not_refusal", False),
    ],
)
def test_whether_a_check_passes(answer: str, check: Any, passed: bool | None) -> None:
    _, ((result,),) = run([row(answer, check, period=30)])
    assert result["passed"] is passed, result


def test_a_check_says_why_an_expression_is_undefined_and_what_was_extracted() -> None:
    _, ((undefined, extracted),) = run(
        [row('{"a": "x y"}', {"expr": "json.b == 1"}, {"contains": "x", "extract": [{"json": "a"}, {"before": "y"}]})]
    )
    assert undefined["explanation"] == "no 'b' in the object; it has a"
    assert extracted["extracted"] == "x"


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (
            {"expr": "outptu|length < 3"},
            "checks[0]: the expression uses 'outptu', which is no column of this sample; did you mean 'output'?",
        ),
        (
            {"expr": "{{ output }}"},
            "checks[0]: an expression is not a template, so it has no {{; write names without braces: output",
        ),
        ({"expr": "len(output) < 3"}, "unknown function 'len'; use the filter: output|length"),
        (
            {"contains": "x", "extract": {"jsn": "$.a"}},
            "checks[0]: extract.jsn: unknown step 'jsn'; did you mean 'json'?",
        ),
        ({"choice": "E"}, "the right choice 'E' is none of the letters ABCD"),
    ],
)
def test_a_mistake_in_the_check_of_a_row_is_found_before_the_first_call(check: Any, problem: str) -> None:
    done, _ = run([row("x"), row("y", check)])
    assert done.code == 2 and problem in done.err, done.err
    assert not Path("runs").exists()


def test_data_is_never_read_as_an_expression() -> None:
    _, ((first,), (second,)) = run(
        [
            row("{{ 1 }}", {"expr": "topic == output"}, topic="{{ 1 }}"),
            row("topic", {"expr": "topic == output"}, topic="1 == 1"),
        ]
    )
    assert (first["passed"], second["passed"]) == (True, False)
